//! The portal. One screen a file: page struct and handlers; each file has its `router`. Files do not call each other, they
//! call the catalog and the gateway, as the API does.

use axum::{Router, middleware};

use super::page::forget_flash;
use super::state::WebState;

mod app;
mod app_tokens;
mod apps;
mod preferences;
mod problems;
pub mod reference;
mod sign_in;
mod team;
mod teams;

/// Every page.
pub fn router() -> Router<WebState> {
    Router::new()
        .merge(app::router())
        .merge(app_tokens::router())
        .merge(apps::router())
        .merge(preferences::router())
        .merge(problems::router())
        .merge(sign_in::router())
        .merge(team::router())
        .merge(teams::router())
        .layer(middleware::from_fn(forget_flash))
}
