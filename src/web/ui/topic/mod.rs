//! One topic: its pages, the forms that make and change it, and what they are made of.

pub mod access;
mod config;
mod coverage;
mod delete;
pub mod draft;
mod edit;
mod events;
pub mod explain;
pub mod figures;
pub mod head;
mod history;
pub mod list;
mod live;
mod markdown;
mod overview;
mod quality;
mod use_it;

use axum::Router;
use axum::routing::{get, post};

use crate::web::state::WebState;

/// The routes of a topic's pages.
pub fn router() -> Router<WebState> {
    Router::new()
        .route("/topics", get(list::page))
        .route("/topics/new", get(edit::blank).post(edit::create))
        .route("/ui/topics/check-name", get(edit::check_name))
        .route("/ui/topics/preview", post(edit::preview))
        .route("/topics/{topic}", get(overview::page))
        .route("/topics/{topic}/events", get(events::page).post(events::send))
        .route("/topics/{topic}/live", get(live::page))
        .route("/topics/{topic}/p/{partition}/o/{offset}", get(events::one))
        .route("/topics/{topic}/access", get(access::page).post(access::give))
        .route("/topics/{topic}/access/{app}/revoke", get(access::confirm).post(access::revoke))
        .route("/topics/{topic}/access/{app}/restore", post(access::give_back))
        .route("/topics/{topic}/config", get(config::page))
        .route("/topics/{topic}/history", get(history::page))
        .route("/topics/{topic}/use", get(use_it::page))
        .route("/topics/{topic}/edit", get(edit::form).post(edit::change))
        .route("/topics/{topic}/edit/again", post(edit::again))
        .route("/topics/{topic}/delete", get(delete::confirm).post(delete::delete))
        .route("/topics/{topic}/restore", post(delete::restore))
        .route("/topics/{topic}/purge", post(delete::purge))
}
