//! The catalog's nouns, as everything above it sees them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::names::{AppId, AppName, Email, TeamId, TeamName, TokenId, TopicId, TopicName, TopicPrefix, UserId};

/// A person with an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    pub email: Email,
    pub name: String,
    /// May do everything on this instance.
    pub admin: bool,
    pub disabled: bool,
    pub created_at: OffsetDateTime,
    pub last_login_at: Option<OffsetDateTime>,
}

/// What a member may do in a team.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TeamRole {
    /// Registers applications, makes topics and tokens, asks for and gives access.
    Member,
    /// Also invites, removes and promotes people.
    Maintainer,
}

/// A team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    pub id: TeamId,
    pub name: TeamName,
    pub description: String,
    pub created_at: OffsetDateTime,
    pub revision: i64,
    pub members: i64,
    pub applications: i64,
}

/// One person's place in a team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    pub user: UserId,
    pub email: Email,
    pub name: String,
    pub role: TeamRole,
    pub since: OffsetDateTime,
}

/// Whether an application may work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AppState {
    Active,
    /// Its tokens are refused and its streams end: the switch for a rogue.
    Suspended,
}

/// An application: the identity that owns topics, holds tokens and is billed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    pub id: AppId,
    pub name: AppName,
    pub team: TeamName,
    pub team_id: TeamId,
    pub description: String,
    /// Human owners; two or more are wanted.
    pub owners: Vec<Email>,
    /// Free contact points such as `slack` or `pager`.
    pub contacts: BTreeMap<String, String>,
    pub repository: Option<String>,
    pub runbook: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub state: AppState,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
    pub revision: i64,
}

/// How sensitive a topic's records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Classification {
    Public,
    Internal,
    Confidential,
    Restricted,
}

/// Who may know that a topic exists. Knowing is not reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Every signed-in person and every application.
    Company,
    /// The owning team, and applications with a grant. For others it is 404.
    Team,
}

/// What happens to old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cleanup {
    /// Removed by age and size.
    Delete,
    /// The last record of each key is kept.
    Compact,
}

/// Where a topic is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TopicState {
    Active,
    /// Unreadable and unwritable, restorable until `Topic::purge_after`; the name stays reserved.
    Deleted,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub id: TopicId,
    pub name: TopicName,
    pub app: AppName,
    pub app_id: AppId,
    pub team: TeamName,
    pub team_id: TeamId,
    /// Markdown.
    pub description: String,
    pub classification: Classification,
    pub visibility: Visibility,
    pub partitions: u32,
    /// `None`: kept for ever.
    pub retention_ms: Option<i64>,
    /// Per partition; `None`: no bound.
    pub retention_bytes: Option<i64>,
    pub cleanup: Cleanup,
    pub labels: BTreeMap<String, String>,
    pub state: TopicState,
    pub deleted_at: Option<OffsetDateTime>,
    pub purge_after: Option<OffsetDateTime>,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
    pub revision: i64,
}

/// What a grant allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    Produce,
    Consume,
    /// Change configuration and access.
    Manage,
}

/// What a grant is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantTarget {
    /// One topic.
    Topic(TopicName),
    /// Every topic of the owner whose name begins so, also future ones.
    Prefix { owner: AppName, prefix: TopicPrefix },
}

/// One application's rights on a topic or prefix of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessGrant {
    pub app: AppName,
    pub app_id: AppId,
    pub target: GrantTarget,
    /// In ascending order, without repetition, never empty.
    pub operations: Vec<Operation>,
    pub expires_at: Option<OffsetDateTime>,
    pub granted_by: String,
    pub since: OffsetDateTime,
    pub revision: i64,
}

/// What a token may be used for. The text is the one of the API: `records:produce`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub enum Scope {
    #[serde(rename = "catalog:read")]
    CatalogRead,
    #[serde(rename = "apps:write")]
    AppsWrite,
    #[serde(rename = "topics:write")]
    TopicsWrite,
    #[serde(rename = "records:produce")]
    RecordsProduce,
    #[serde(rename = "records:consume")]
    RecordsConsume,
    #[serde(rename = "access:write")]
    AccessWrite,
    #[serde(rename = "tokens:write")]
    TokensWrite,
    #[serde(rename = "audit:read")]
    AuditRead,
    #[serde(rename = "metrics:read")]
    MetricsRead,
    #[serde(rename = "admin")]
    Admin,
}

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenHolder {
    App { id: AppId, name: AppName },
    User { id: UserId, email: Email },
}

/// A token, without its secret, which nobody has but its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub id: TokenId,
    pub holder: TokenHolder,
    pub name: String,
    /// The first characters of the secret, to recognise it by: `weir_app_x7Gq`.
    pub prefix: String,
    pub scopes: Vec<Scope>,
    /// Patterns of topic names, `*` at the end only; empty means every topic.
    pub topics: Vec<String>,
    pub created_by: String,
    pub created_at: OffsetDateTime,
    pub expires_at: Option<OffsetDateTime>,
    pub revoked_at: Option<OffsetDateTime>,
    pub last_used_at: Option<OffsetDateTime>,
    pub last_used_address: Option<String>,
}

/// One line of the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    pub id: i64,
    pub at: OffsetDateTime,
    /// E-mail address, application name or `system`.
    pub actor: String,
    pub via_token: Option<TokenId>,
    /// `topic.create`, `access.grant`, …
    pub action: String,
    /// `topic/orders`, `app/checkout`, `team/payments`, `user/ada@example.com`.
    pub resource: String,
    pub before: Option<serde_json::Value>,
    pub after: Option<serde_json::Value>,
    pub request_id: Option<String>,
    pub address: Option<String>,
}
