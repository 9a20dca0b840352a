//! From rows to [`Entity`]s: everything at once when a process starts, afterwards what a revision touched.

use std::collections::{BTreeMap, HashSet};

use serde::de::DeserializeOwned;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error as WordError, StrDeserializer};
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::entity::{Delta, Entity, EntityKind, GrantAbout, GrantRow, Member, TokenHash, TokenRow};
use super::error::CatalogError;
use super::model::{AccessGrant, Application, GrantTarget, Membership, Team, Token, TokenHolder, Topic, User};
use crate::names::{
    AppId, AppName, Email, GrantId, TeamId, TeamName, TokenId, TopicId, TopicName, TopicPrefix, UserId,
};

/// Tokens that ended longer ago are not loaded: they are unknown rather than expired or revoked.
pub(super) const ENDED_TOKENS_KEPT: Duration = Duration::days(30);

/// A lower-case word of a closed set, as the schema keeps it.
pub(super) fn word<T: DeserializeOwned>(text: &str) -> Result<T, CatalogError> {
    let deserializer: StrDeserializer<'_, WordError> = text.into_deserializer();
    T::deserialize(deserializer).map_err(|_| CatalogError::Damaged(format!("unknown word {text:?}")))
}

fn words<T: DeserializeOwned>(texts: &[String]) -> Result<Vec<T>, CatalogError> {
    texts.iter().map(|text| word(text)).collect()
}

fn map(json: serde_json::Value) -> Result<BTreeMap<String, String>, CatalogError> {
    serde_json::from_value(json).map_err(|error| CatalogError::Damaged(error.to_string()))
}

/// The present revision.
pub(super) async fn revision(conn: &mut PgConnection) -> Result<i64, CatalogError> {
    Ok(sqlx::query_scalar!("SELECT value FROM catalog_revision").fetch_one(conn).await?)
}

/// Everything. The connection must be in a `REPEATABLE READ` transaction.
pub(super) async fn whole(conn: &mut PgConnection, now: OffsetDateTime) -> Result<Delta, CatalogError> {
    let revision = revision(conn).await?;
    let mut rows = Vec::new();
    for kind in EntityKind::ALL {
        rows.extend(entities(conn, *kind, None, now).await?);
    }
    Ok(Delta { revision, whole: true, rows, gone: Vec::new() })
}

/// What changed after a revision. The connection must be in a `REPEATABLE READ` transaction.
pub(super) async fn since(conn: &mut PgConnection, seen: i64, now: OffsetDateTime) -> Result<Delta, CatalogError> {
    let revision = revision(conn).await?;
    let touched = sqlx::query!(
        "SELECT kind, array_agg(DISTINCT id) AS \"ids!\" FROM catalog_change WHERE revision > $1 GROUP BY kind",
        seen
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut delta = Delta { revision, ..Delta::default() };
    for touched in touched {
        let kind = EntityKind::from_word(&touched.kind)?;
        let rows = entities(conn, kind, Some(&touched.ids), now).await?;
        let found: HashSet<Uuid> = rows.iter().map(|row| row.key().1).collect();
        delta.gone.extend(touched.ids.into_iter().filter(|id| !found.contains(id)).map(|id| (kind, id)));
        delta.rows.extend(rows);
    }
    Ok(delta)
}

async fn entities(
    conn: &mut PgConnection,
    kind: EntityKind,
    only: Option<&[Uuid]>,
    now: OffsetDateTime,
) -> Result<Vec<Entity>, CatalogError> {
    Ok(match kind {
        EntityKind::User => users(conn, only).await?.into_iter().map(Entity::User).collect(),
        EntityKind::Team => teams(conn, only).await?.into_iter().map(Entity::Team).collect(),
        EntityKind::Member => members(conn, only).await?.into_iter().map(Entity::Member).collect(),
        EntityKind::App => apps(conn, only).await?.into_iter().map(Entity::App).collect(),
        EntityKind::Topic => topics(conn, only).await?.into_iter().map(Entity::Topic).collect(),
        EntityKind::Grant => grants(conn, only).await?.into_iter().map(Entity::Grant).collect(),
        EntityKind::Token => {
            let ended_after = now - ENDED_TOKENS_KEPT;
            tokens(conn, only, ended_after).await?.into_iter().map(Entity::Token).collect()
        }
    })
}

/// Exactly one row of several that were asked for by identifier.
pub(super) fn the_only<T>(rows: Vec<T>) -> Result<T, CatalogError> {
    rows.into_iter().next().ok_or(CatalogError::Database(sqlx::Error::RowNotFound))
}

pub(super) async fn users(conn: &mut PgConnection, only: Option<&[Uuid]>) -> Result<Vec<User>, CatalogError> {
    let users = sqlx::query_as!(
        User,
        r#"SELECT id AS "id!: UserId", email AS "email!: Email", name AS "name!", admin AS "admin!", disabled AS "disabled!",
                  created_at AS "created_at!", user_logins.at AS "last_login_at?"
           FROM users LEFT JOIN user_logins ON user_id = id WHERE $1::uuid[] IS NULL OR id = ANY ($1)"#,
        only
    );
    Ok(users.fetch_all(conn).await?)
}

pub(super) async fn teams(conn: &mut PgConnection, only: Option<&[Uuid]>) -> Result<Vec<Team>, CatalogError> {
    let teams = sqlx::query_as!(
        Team,
        r#"SELECT id AS "id: TeamId", name AS "name: TeamName", description, created_at, revision,
                  (SELECT count(*) FROM team_members WHERE team_id = teams.id) AS "members!",
                  (SELECT count(*) FROM applications WHERE team_id = teams.id) AS "applications!"
           FROM teams WHERE $1::uuid[] IS NULL OR id = ANY ($1)"#,
        only
    );
    Ok(teams.fetch_all(conn).await?)
}

pub(super) async fn members(conn: &mut PgConnection, only: Option<&[Uuid]>) -> Result<Vec<Member>, CatalogError> {
    let rows = sqlx::query!(
        r#"SELECT m.id AS "id!", m.team_id AS "team!: TeamId", m.user_id AS "user!: UserId", u.email AS "email!: Email",
                  u.name AS "name!", m.role AS "role!", m.since AS "since!"
           FROM team_members m JOIN users u ON u.id = m.user_id WHERE $1::uuid[] IS NULL OR m.id = ANY ($1)"#,
        only
    );
    let rows = rows.fetch_all(conn).await?.into_iter().map(|row| {
        let membership =
            Membership { user: row.user, email: row.email, name: row.name, role: word(&row.role)?, since: row.since };
        Ok(Member { id: row.id, team: row.team, membership })
    });
    rows.collect()
}

pub(super) async fn apps(conn: &mut PgConnection, only: Option<&[Uuid]>) -> Result<Vec<Application>, CatalogError> {
    let rows = sqlx::query!(
        r#"SELECT a.id AS "id: AppId", a.name AS "name: AppName", t.name AS "team: TeamName", a.team_id AS "team_id: TeamId",
                  a.description, a.owners AS "owners: Vec<Email>", a.contacts, a.repository, a.runbook, a.labels, a.state,
                  a.created_at, a.updated_at, a.revision
           FROM applications a JOIN teams t ON t.id = a.team_id WHERE $1::uuid[] IS NULL OR a.id = ANY ($1)"#,
        only
    );
    let rows = rows.fetch_all(conn).await?.into_iter().map(|row| {
        Ok(Application {
            id: row.id,
            name: row.name,
            team: row.team,
            team_id: row.team_id,
            description: row.description,
            owners: row.owners,
            contacts: map(row.contacts)?,
            repository: row.repository,
            runbook: row.runbook,
            labels: map(row.labels)?,
            state: word(&row.state)?,
            created_at: row.created_at,
            updated_at: row.updated_at,
            revision: row.revision,
        })
    });
    rows.collect()
}

pub(super) async fn topics(conn: &mut PgConnection, only: Option<&[Uuid]>) -> Result<Vec<Topic>, CatalogError> {
    let rows = sqlx::query!(
        r#"SELECT p.id AS "id: TopicId", p.name AS "name: TopicName", a.name AS "app: AppName", p.app_id AS "app_id: AppId",
                  t.name AS "team: TeamName", a.team_id AS "team_id: TeamId", p.description, p.classification, p.visibility,
                  p.partitions, p.retention_ms, p.retention_bytes, p.cleanup, p.labels, p.state, p.deleted_at, p.purge_after,
                  p.created_at, p.updated_at, p.revision
           FROM topics p JOIN applications a ON a.id = p.app_id JOIN teams t ON t.id = a.team_id
           WHERE $1::uuid[] IS NULL OR p.id = ANY ($1)"#,
        only
    );
    let rows = rows.fetch_all(conn).await?.into_iter().map(|row| {
        Ok(Topic {
            id: row.id,
            name: row.name,
            app: row.app,
            app_id: row.app_id,
            team: row.team,
            team_id: row.team_id,
            description: row.description,
            classification: word(&row.classification)?,
            visibility: word(&row.visibility)?,
            partitions: u32::try_from(row.partitions)
                .map_err(|_| CatalogError::Damaged(format!("{} partitions", row.partitions)))?,
            retention_ms: row.retention_ms,
            retention_bytes: row.retention_bytes,
            cleanup: word(&row.cleanup)?,
            labels: map(row.labels)?,
            state: word(&row.state)?,
            deleted_at: row.deleted_at,
            purge_after: row.purge_after,
            created_at: row.created_at,
            updated_at: row.updated_at,
            revision: row.revision,
        })
    });
    rows.collect()
}

pub(super) async fn grants(conn: &mut PgConnection, only: Option<&[Uuid]>) -> Result<Vec<GrantRow>, CatalogError> {
    let rows = sqlx::query!(
        r#"SELECT g.id AS "id!: GrantId", g.app_id AS "app_id!: AppId", a.name AS "app!: AppName", g.topic_id AS "topic_id?: TopicId",
                  p.name AS "topic?: TopicName", g.owner_id AS "owner_id?: AppId", o.name AS "owner?: AppName",
                  g.prefix AS "prefix?: TopicPrefix", g.operations AS "operations!", g.expires_at AS "expires_at?",
                  g.granted_by AS "granted_by!", g.since AS "since!", g.revision AS "revision!"
           FROM access_grants g JOIN applications a ON a.id = g.app_id
           LEFT JOIN topics p ON p.id = g.topic_id LEFT JOIN applications o ON o.id = g.owner_id
           WHERE $1::uuid[] IS NULL OR g.id = ANY ($1)"#,
        only
    );
    let rows = rows.fetch_all(conn).await?.into_iter().map(|row| {
        let (about, target) = match (row.topic_id, row.topic, row.owner_id, row.owner, row.prefix) {
            (Some(id), Some(topic), ..) => (GrantAbout::Topic(id), GrantTarget::Topic(topic)),
            (_, _, Some(id), Some(owner), Some(prefix)) => {
                (GrantAbout::Owner(id), GrantTarget::Prefix { owner, prefix })
            }
            _ => return Err(CatalogError::Damaged(format!("grant {} is about nothing", row.id))),
        };
        let grant = AccessGrant {
            id: row.id,
            app: row.app,
            app_id: row.app_id,
            target,
            operations: words(&row.operations)?,
            expires_at: row.expires_at,
            granted_by: row.granted_by,
            since: row.since,
            revision: row.revision,
        };
        Ok(GrantRow { about, grant })
    });
    rows.collect()
}

/// Tokens with their last use, except those that ended before a time.
pub(super) async fn tokens(
    conn: &mut PgConnection,
    only: Option<&[Uuid]>,
    ended_after: OffsetDateTime,
) -> Result<Vec<TokenRow>, CatalogError> {
    let rows = sqlx::query!(
        r#"SELECT k.id AS "id!: TokenId", k.hash AS "hash!", k.app_id AS "app_id?: AppId", a.name AS "app?: AppName",
                  k.user_id AS "user_id?: UserId", u.email AS "email?: Email", k.name AS "name!", k.prefix AS "prefix!",
                  k.scopes AS "scopes!", k.topics AS "topics!", k.created_by AS "created_by!", k.created_at AS "created_at!",
                  k.expires_at AS "expires_at?", k.revoked_at AS "revoked_at?", use.at AS "last_used_at?",
                  use.address AS "last_used_address?"
           FROM tokens k LEFT JOIN applications a ON a.id = k.app_id LEFT JOIN users u ON u.id = k.user_id
           LEFT JOIN token_uses use ON use.token_id = k.id
           WHERE ($1::uuid[] IS NULL OR k.id = ANY ($1))
             AND (k.expires_at IS NULL OR k.expires_at > $2) AND (k.revoked_at IS NULL OR k.revoked_at > $2)"#,
        only,
        ended_after
    );
    let rows = rows.fetch_all(conn).await?.into_iter().map(|row| {
        let holder = match (row.app_id, row.app, row.user_id, row.email) {
            (Some(id), Some(name), ..) => TokenHolder::App { id, name },
            (_, _, Some(id), Some(email)) => TokenHolder::User { id, email },
            _ => return Err(CatalogError::Damaged(format!("token {} has no holder", row.id))),
        };
        let hash = TokenHash::try_from(row.hash.as_slice())
            .map_err(|_| CatalogError::Damaged(format!("token {} has no hash", row.id)))?;
        let token = Token {
            id: row.id,
            holder,
            name: row.name,
            prefix: row.prefix,
            scopes: words(&row.scopes)?,
            topics: row.topics,
            created_by: row.created_by,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
            last_used_at: row.last_used_at,
            last_used_address: row.last_used_address,
        };
        Ok(TokenRow { hash, token })
    });
    rows.collect()
}
