//! One topic: its pages, the forms that make and change it, and what they are made of.

pub mod access;
mod config;
mod coverage;
mod delete;
pub mod draft;
mod edit;
pub mod event;
mod events;
pub mod explain;
pub mod figures;
pub mod head;
mod history;
mod json;
mod live;
mod overview;
mod quality;
pub mod reading;
pub mod snippets;
pub mod units;
mod use_it;

use axum::Router;
use axum::routing::{get, post};

use crate::web::state::WebState;

/// The routes of a topic's pages.
pub fn router() -> Router<WebState> {
    Router::new()
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

#[cfg(test)]
mod testing {
    //! A topic for unit tests.

    use std::sync::Arc;

    use crate::catalog::model::{Classification, Cleanup, Topic, TopicState, Visibility};
    use crate::names::{AppId, TeamId, TopicId};

    /// A well-configured topic of the application `checkout`.
    pub fn topic(name: &str) -> Arc<Topic> {
        let now = crate::clock::Timestamp(0).to_datetime();
        Arc::new(Topic {
            id: TopicId::new(),
            name: name.parse().expect("a topic name"),
            app: "checkout".parse().expect("an application name"),
            app_id: AppId::new(),
            team: "payments".parse().expect("a team name"),
            team_id: TeamId::new(),
            description: String::new(),
            classification: Classification::Internal,
            visibility: Visibility::Company,
            partitions: 3,
            retention_ms: Some(604_800_000),
            retention_bytes: None,
            cleanup: Cleanup::Delete,
            labels: std::collections::BTreeMap::new(),
            state: TopicState::Active,
            deleted_at: None,
            purge_after: None,
            created_at: now,
            updated_at: now,
            revision: 1,
        })
    }
}
