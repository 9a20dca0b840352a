//! What can go wrong in the catalog, as closed enums. Database text stays in `source`; faces never print it.

use std::fmt;
use std::time::Duration;

use time::OffsetDateTime;

use super::model::{Operation, Scope};
use crate::names::{AppName, TeamName, TopicName, TopicPrefix};

/// Kinds of things that have names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Team,
    User,
    Application,
    Topic,
    Access,
    Token,
    Invitation,
    JoinRequest,
    Session,
}

impl Kind {
    /// The word the API uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Team => "team",
            Self::User => "user",
            Self::Application => "app",
            Self::Topic => "topic",
            Self::Access => "access",
            Self::Token => "token",
            Self::Invitation => "invitation",
            Self::JoinRequest => "join-request",
            Self::Session => "session",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The database could not do it.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The database cannot be reached; nothing was changed. Trying again later can help.
    #[error("the catalog's database cannot be reached")]
    Unavailable(#[source] Option<sqlx::Error>),
    /// Anything else: a defect or a broken database.
    #[error("the catalog's database refused")]
    Database(#[source] sqlx::Error),
    /// A row holds what no version of this program writes.
    #[error("the catalog holds a damaged row: {0}")]
    Damaged(String),
}

/// The catalog could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("the database address cannot be understood")]
    Address(#[source] sqlx::Error),
    /// The database is not reachable and no local view can stand in for it.
    #[error("the database cannot be reached, and there is no local view to work from")]
    Unreachable(#[source] sqlx::Error),
    #[error("the database's schema could not be brought up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// What would have been needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Required {
    /// A grant of this operation on the topic, or being of the owning team.
    Operation { topic: TopicName, operation: Operation },
    /// To be a member of the team.
    Member { team: TeamName },
    /// To be a maintainer of the team.
    Maintainer { team: TeamName },
    /// To be an administrator of this instance.
    Admin,
    /// To be a person; applications cannot do this.
    Person,
}

/// What the token lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MissingScope {
    Scope(Scope),
    /// No pattern of the token covers the topic.
    Topic(TopicName),
    /// The token's patterns do not cover every topic whose name begins so.
    Prefix(TopicPrefix),
}

/// Why somebody may not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It does not exist, or the actor may not know of it: the same answer.
    #[error("there is no {kind} {name:?}")]
    NotFound { kind: Kind, name: String },
    /// The actor knows it exists but lacks a right. Where access to a topic is missing, `required` names topic and operation and
    /// `app` is the asking application: what a "request access" link needs.
    #[error("a right is missing")]
    Forbidden { required: Required, app: Option<AppName> },
    /// The principal could, the token cannot.
    #[error("the token does not cover this")]
    InsufficientScope { missing: MissingScope },
    /// The application is suspended.
    #[error("the application {app} is suspended")]
    AppSuspended { app: AppName },
    /// The topic is deleted and can be restored until then.
    #[error("the topic {topic} was deleted")]
    TopicDeleted { topic: TopicName, purge_after: OffsetDateTime },
    /// The credential itself has ended since it was presented (long streams see this).
    #[error(transparent)]
    Credential(#[from] AuthError),
}

/// Why a token does not authenticate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No such token, or not even the form of one.
    #[error("the token is unknown")]
    Unknown,
    #[error("the token has expired")]
    Expired { at: OffsetDateTime },
    #[error("the token was revoked")]
    Revoked,
    /// The application is suspended.
    #[error("the application {app} is suspended")]
    AppSuspended { app: AppName },
    /// The person's account is disabled.
    #[error("the account is disabled")]
    Disabled,
}

/// Why a sign-in failed.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// Unknown address or wrong password: the same answer in the same time.
    #[error("e-mail address or password is wrong")]
    Wrong,
    /// The password was right and the account is disabled.
    #[error("the account is disabled")]
    Disabled,
    #[error("too many attempts")]
    Throttled { retry_after: Duration },
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Why a change was refused. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// A right that only shows while the change is made is missing (a token may not mint a stronger one).
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("the {kind} name {name:?} is taken")]
    NameTaken { kind: Kind, name: String },
    /// What stands in the way, as `topic/orders`.
    #[error("something still depends on it")]
    NotEmpty { blocking: Vec<String> },
    #[error("{why}")]
    IncompatibleChange { why: String },
    /// `If-Match` or `If-None-Match` did not hold; `current` is the present revision, if the thing exists.
    #[error("it was changed in the meantime")]
    PreconditionFailed { current: Option<i64> },
    /// A JSON pointer into the spec, and a sentence.
    #[error("{pointer}: {detail}")]
    Invalid { pointer: String, detail: String },
    #[error("there is no {kind} {name:?}")]
    NotFound { kind: Kind, name: String },
    /// It contradicts the present state; the sentence says how.
    #[error("{detail}")]
    Conflict { detail: String },
    #[error("too many attempts")]
    Throttled { retry_after: Duration },
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl ChangeError {
    pub(super) fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Invalid { pointer: pointer.into(), detail: detail.into() }
    }

    pub(super) fn missing(kind: Kind, name: impl fmt::Display) -> Self {
        Self::NotFound { kind, name: name.to_string() }
    }
}

impl From<sqlx::Error> for ChangeError {
    fn from(error: sqlx::Error) -> Self {
        Self::Catalog(error.into())
    }
}

impl From<sqlx::Error> for SignInError {
    fn from(error: sqlx::Error) -> Self {
        Self::Catalog(error.into())
    }
}

impl From<sqlx::Error> for CatalogError {
    fn from(error: sqlx::Error) -> Self {
        if out_of_reach(&error) { Self::Unavailable(Some(error)) } else { Self::Database(error) }
    }
}

/// Whether the error says that the database, rather than the statement, is at fault.
fn out_of_reach(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => true,
        // Class 08: connection; 57P: shutdown and start-up; 53: out of connections, memory or disk; 55P03: the writer before us holds the lock.
        sqlx::Error::Database(refusal) => refusal.code().is_some_and(|code| {
            code.starts_with("08") || code.starts_with("57P") || code.starts_with("53") || code == "55P03"
        }),
        _ => false,
    }
}
