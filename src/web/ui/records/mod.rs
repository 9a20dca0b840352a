//! What several screens need to show records: one record as text, amounts, commands that work when pasted, and fragments
//! of HTML over server-sent events.

pub mod event;
pub mod fragments;
pub mod json;
pub mod reading;
pub mod snippets;
pub mod units;

#[cfg(test)]
pub mod testing {
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
