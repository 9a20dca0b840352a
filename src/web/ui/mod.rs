//! The portal. One screen a file: page struct and handlers; each file has its `router`. Files do not call each other, they
//! call the catalog and the gateway, as the API does.

use axum::{Router, middleware};

use super::page::forget_flash;
use super::state::WebState;

mod account;
mod app;
mod app_tokens;
mod apps;
mod audit;
mod first_event;
mod home;
mod invitations;
mod own_tokens;
mod preferences;
mod problems;
mod records;
pub mod reference;
mod setup;
mod sign_in;
mod tail;
mod team;
mod teams;
mod topic;
mod users;

/// Every page.
pub fn router() -> Router<WebState> {
    Router::new()
        .merge(account::router())
        .merge(app::router())
        .merge(app_tokens::router())
        .merge(apps::router())
        .merge(audit::router())
        .merge(first_event::router())
        .merge(home::router())
        .merge(invitations::router())
        .merge(own_tokens::router())
        .merge(preferences::router())
        .merge(problems::router())
        .merge(setup::router())
        .merge(sign_in::router())
        .merge(tail::router())
        .merge(team::router())
        .merge(teams::router())
        .merge(topic::router())
        .merge(users::router())
        .layer(middleware::from_fn(forget_flash))
}
