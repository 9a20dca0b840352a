//! What somebody wants a thing to be: all of it, so that a `PUT` says what is there afterwards. Made from what is
//! (`TopicSpec::from(&topic)`), a merge-patch has something to start from.

use std::collections::BTreeMap;

use serde::Serialize;
use time::OffsetDateTime;

use super::model::{Application, Classification, Cleanup, Scope, Team, Topic, Visibility};
use crate::names::{AppName, Email, TeamName};

/// What a team is wanted to be. All of it: what is left out is reset.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct TeamSpec {
    pub description: String,
}

impl From<&Team> for TeamSpec {
    fn from(team: &Team) -> Self {
        Self { description: team.description.clone() }
    }
}

/// What an application is wanted to be. All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AppSpec {
    pub team: TeamName,
    pub description: String,
    pub owners: Vec<Email>,
    pub contacts: BTreeMap<String, String>,
    pub repository: Option<String>,
    pub runbook: Option<String>,
    pub labels: BTreeMap<String, String>,
}

impl AppSpec {
    /// An application of which nothing is known but its team.
    #[must_use]
    pub fn new(team: TeamName) -> Self {
        Self {
            team,
            description: String::new(),
            owners: Vec::new(),
            contacts: BTreeMap::new(),
            repository: None,
            runbook: None,
            labels: BTreeMap::new(),
        }
    }
}

impl From<&Application> for AppSpec {
    fn from(app: &Application) -> Self {
        Self {
            team: app.team.clone(),
            description: app.description.clone(),
            owners: app.owners.clone(),
            contacts: app.contacts.clone(),
            repository: app.repository.clone(),
            runbook: app.runbook.clone(),
            labels: app.labels.clone(),
        }
    }
}

/// What a topic is wanted to be. All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicSpec {
    pub app: AppName,
    pub description: String,
    pub classification: Classification,
    pub visibility: Visibility,
    pub partitions: u32,
    pub retention_ms: Option<i64>,
    pub retention_bytes: Option<i64>,
    pub cleanup: Cleanup,
    pub labels: BTreeMap<String, String>,
}

impl TopicSpec {
    /// Partitions of a topic that does not say how many.
    pub const PARTITIONS_DEFAULT: u32 = 3;
    /// Most partitions a topic can have.
    pub const PARTITIONS_MAX: u32 = 1024;
    /// Retention of a topic that does not say how long: seven days, in milliseconds.
    pub const RETENTION_MS_DEFAULT: i64 = 7 * 24 * 60 * 60 * 1000;

    /// A topic with the defaults: company-wide, internal, three partitions, seven days.
    #[must_use]
    pub fn new(app: AppName) -> Self {
        Self {
            app,
            description: String::new(),
            classification: Classification::Internal,
            visibility: Visibility::Company,
            partitions: Self::PARTITIONS_DEFAULT,
            retention_ms: Some(Self::RETENTION_MS_DEFAULT),
            retention_bytes: None,
            cleanup: Cleanup::Delete,
            labels: BTreeMap::new(),
        }
    }
}

impl From<&Topic> for TopicSpec {
    fn from(topic: &Topic) -> Self {
        Self {
            app: topic.app.clone(),
            description: topic.description.clone(),
            classification: topic.classification,
            visibility: topic.visibility,
            partitions: topic.partitions,
            retention_ms: topic.retention_ms,
            retention_bytes: topic.retention_bytes,
            cleanup: topic.cleanup,
            labels: topic.labels.clone(),
        }
    }
}

/// A wish for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSpec {
    pub name: String,
    pub scopes: Vec<Scope>,
    /// Patterns as in [`super::model::Token::topics`].
    pub topics: Vec<String>,
    pub expires_at: Option<OffsetDateTime>,
}
