//! The portal. One screen a file: page struct and handlers; each file has its `router`. Files do not call each other, they
//! call the catalog and the gateway, as the API does.

use axum::{Router, middleware};

use super::page::forget_flash;
use super::state::WebState;

mod preferences;
mod sign_in;

/// Every page.
pub fn router() -> Router<WebState> {
    Router::new().merge(preferences::router()).merge(sign_in::router()).layer(middleware::from_fn(forget_flash))
}
