//! The rows of a view as they travel: from the database, to and from the local copy.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::CatalogError;
use super::model::{AccessGrant, Application, Membership, Team, Token, Topic, User};
use crate::names::{AppId, TeamId, TopicId};

/// SHA-256 of a token's secret.
pub(super) type TokenHash = [u8; 32];

/// One row of the snapshot, as it travels from the database or the local copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Entity {
    User(User),
    Team(Team),
    Member(Member),
    App(Application),
    Topic(Topic),
    Grant(GrantRow),
    Token(TokenRow),
}

/// Which table a row belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum EntityKind {
    User,
    Team,
    Member,
    App,
    Topic,
    Grant,
    Token,
}

impl EntityKind {
    pub const ALL: &'static [Self] =
        &[Self::User, Self::Team, Self::Member, Self::App, Self::Topic, Self::Grant, Self::Token];

    /// The first byte of a row's key in the local copy.
    pub const fn byte(self) -> u8 {
        match self {
            Self::User => b'u',
            Self::Team => b't',
            Self::Member => b'm',
            Self::App => b'a',
            Self::Topic => b'p',
            Self::Grant => b'g',
            Self::Token => b'k',
        }
    }

    /// The word of `catalog_change.kind`.
    pub fn from_word(word: &str) -> Result<Self, CatalogError> {
        Ok(match word {
            "user" => Self::User,
            "team" => Self::Team,
            "member" => Self::Member,
            "app" => Self::App,
            "topic" => Self::Topic,
            "grant" => Self::Grant,
            "token" => Self::Token,
            _ => return Err(CatalogError::Damaged(format!("unknown kind of row {word:?}"))),
        })
    }
}

/// A membership with the team it is of. The identifier is the row's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    pub id: Uuid,
    pub team: TeamId,
    pub membership: Membership,
}

/// A grant with the identifiers behind its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GrantRow {
    pub about: GrantAbout,
    pub grant: AccessGrant,
}

/// What a grant is about, by identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum GrantAbout {
    Topic(TopicId),
    /// A prefix among the topics of this owner.
    Owner(AppId),
}

/// A token with its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TokenRow {
    pub hash: TokenHash,
    pub token: Token,
}

impl Entity {
    pub fn key(&self) -> (EntityKind, Uuid) {
        match self {
            Self::User(user) => (EntityKind::User, user.id.0),
            Self::Team(team) => (EntityKind::Team, team.id.0),
            Self::Member(member) => (EntityKind::Member, member.id),
            Self::App(app) => (EntityKind::App, app.id.0),
            Self::Topic(topic) => (EntityKind::Topic, topic.id.0),
            Self::Grant(row) => (EntityKind::Grant, row.grant.id.0),
            Self::Token(row) => (EntityKind::Token, row.token.id.0),
        }
    }
}

/// What leads from one snapshot to the next.
#[derive(Debug, Clone, Default)]
pub(super) struct Delta {
    /// The revision reached.
    pub revision: i64,
    /// Whether the rows are everything there is, instead of what changed.
    pub whole: bool,
    pub rows: Vec<Entity>,
    pub gone: Vec<(EntityKind, Uuid)>,
}
