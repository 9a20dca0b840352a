//! The catalog's nouns, as everything above it sees them.
//!
//! `Serialize` on a noun is for the local view's copy on disk. Faces have their own shapes and do not expose it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub use super::spec::{AppSpec, TeamSpec, TokenSpec, TopicSpec};
use crate::names::{
    AppId, AppName, Email, GrantId, InvitationId, SessionId, TeamId, TeamName, TokenId, TopicId, TopicName,
    TopicPrefix, UserId,
};

/// A person with an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

impl TeamRole {
    /// The word the API and the schema use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Maintainer => "maintainer",
        }
    }
}

/// A team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

impl AppState {
    /// The word the API and the schema use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }
}

/// An application: the identity that owns topics, holds tokens and is billed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

impl Classification {
    /// The word the API and the schema use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Confidential => "confidential",
            Self::Restricted => "restricted",
        }
    }
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

impl Visibility {
    /// The word the API and the schema use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Company => "company",
            Self::Team => "team",
        }
    }
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

impl Cleanup {
    /// The word the API and the schema use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
        }
    }
}

/// Where a topic is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TopicState {
    Active,
    /// Unreadable and unwritable, restorable until `Topic::purge_after`; the name stays reserved.
    Deleted,
}

impl TopicState {
    /// The word the API and the schema use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deleted => "deleted",
        }
    }
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

impl Operation {
    /// Every operation, in ascending order.
    pub const ALL: &'static [Self] = &[Self::Produce, Self::Consume, Self::Manage];

    /// The word the API uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Consume => "consume",
            Self::Manage => "manage",
        }
    }
}

/// What a grant is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GrantTarget {
    /// One topic.
    Topic(TopicName),
    /// Every topic of the owner whose name begins so, also future ones.
    Prefix { owner: AppName, prefix: TopicPrefix },
}

/// One application's rights on a topic or prefix of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessGrant {
    pub id: GrantId,
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

impl Scope {
    /// Every scope, in the order of the documentation.
    pub const ALL: &'static [Self] = &[
        Self::CatalogRead,
        Self::AppsWrite,
        Self::TopicsWrite,
        Self::RecordsProduce,
        Self::RecordsConsume,
        Self::AccessWrite,
        Self::TokensWrite,
        Self::AuditRead,
        Self::MetricsRead,
        Self::Admin,
    ];

    /// The scope as the API writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CatalogRead => "catalog:read",
            Self::AppsWrite => "apps:write",
            Self::TopicsWrite => "topics:write",
            Self::RecordsProduce => "records:produce",
            Self::RecordsConsume => "records:consume",
            Self::AccessWrite => "access:write",
            Self::TokensWrite => "tokens:write",
            Self::AuditRead => "audit:read",
            Self::MetricsRead => "metrics:read",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|scope| scope.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|scope| scope.as_str()).collect();
            format!("{text:?} is not a scope; there are {}", known.join(", "))
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenHolder {
    App { id: AppId, name: AppName },
    User { id: UserId, email: Email },
}

/// A token, without its secret, which nobody has but its holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// A text that opens something: a token, a session cookie, an invitation. Shown to its holder once, stored as a hash only,
/// never printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one answer that shows it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A signed-in browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub user: UserId,
    pub created_at: OffsetDateTime,
    pub last_seen_at: OffsetDateTime,
    /// The earlier of the idle and the absolute end.
    pub expires_at: OffsetDateTime,
    pub address: Option<String>,
    pub user_agent: Option<String>,
}

/// What a sign-in gives: the cookie's secret is here and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    pub secret: Secret,
    pub session: Session,
    pub user: User,
}

/// Somebody who wants to be a member of a team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    pub team: TeamName,
    pub user: UserId,
    pub email: Email,
    pub name: String,
    /// Why, in the person's words.
    pub message: String,
    pub since: OffsetDateTime,
}

/// An open invitation to a team. Its link works once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    pub id: InvitationId,
    pub team: TeamName,
    pub email: Email,
    pub role: TeamRole,
    pub invited_by: String,
    pub created_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
    /// Whether somebody with this address has an account already.
    pub has_account: bool,
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
