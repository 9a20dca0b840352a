//! One change of the catalog: rows, audit and revision together, or nothing.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sqlx::{PgConnection, Postgres, Transaction};
use time::OffsetDateTime;

use super::Catalog;
use super::access::{Actor, Principal};
use super::error::{CatalogError, ChangeError, Kind};
use crate::names::{AppId, AppName, TeamId};

/// The channel on which commits are announced.
pub(super) const CHANNEL: &str = "weir_catalog";
/// How long a commit waits for this process's own view before it answers anyway.
const VIEW_WAIT: Duration = Duration::from_secs(1);

/// An open transaction. Dropping it undoes everything, which is what a dry run does.
///
/// It holds the revision row, so changes of all instances come one after the other: open it late, finish it soon.
pub struct Tx {
    catalog: Catalog,
    conn: Transaction<'static, Postgres>,
    pub(super) actor: Arc<Actor>,
    pub(super) now: OffsetDateTime,
    /// The revision that this transaction makes.
    pub(super) revision: i64,
    changed: bool,
}

/// One line for the audit.
pub(super) struct Line<'a> {
    pub action: &'static str,
    /// `topic/orders`
    pub resource: String,
    pub team: Option<TeamId>,
    pub app: Option<(AppId, &'a AppName)>,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

impl Tx {
    pub(super) async fn begin(catalog: &Catalog, actor: &Arc<Actor>) -> Result<Self, CatalogError> {
        let mut conn = catalog.pool().begin().await?;
        let revision = sqlx::query_scalar!("UPDATE catalog_revision SET value = value + 1 RETURNING value")
            .fetch_one(&mut *conn)
            .await?;
        // Taken after the lock: times in the audit are in the order of revisions.
        let now = catalog.now();
        Ok(Self { catalog: catalog.clone(), conn, actor: Arc::clone(actor), now, revision, changed: false })
    }

    pub(super) fn conn(&mut self) -> &mut PgConnection {
        &mut self.conn
    }

    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Makes the changes lasting and waits (at most a second) until this process's view shows them. Returns the catalog's
    /// revision.
    pub async fn commit(mut self) -> Result<i64, CatalogError> {
        if !self.changed {
            self.conn.rollback().await?;
            return Ok(self.revision - 1);
        }
        sqlx::query!("SELECT pg_notify($1, $2)", CHANNEL, self.revision.to_string()).execute(&mut *self.conn).await?;
        self.conn.commit().await?;
        self.catalog.inner.wake.notify_one();
        if tokio::time::timeout(VIEW_WAIT, self.catalog.refreshed(self.revision)).await.is_err() {
            tracing::warn!(revision = self.revision, "the view did not show a committed change within a second");
        }
        Ok(self.revision)
    }

    /// Writes a line of the audit. Every change does, else it cannot be committed (I11).
    pub(super) async fn audit(&mut self, line: Line<'_>) -> Result<(), CatalogError> {
        write_line(&mut self.conn, &self.actor, self.now, self.revision, line).await?;
        self.changed = true;
        Ok(())
    }
}

/// Writes a line under the revision.
pub(super) async fn write_line(
    conn: &mut PgConnection,
    actor: &Actor,
    now: OffsetDateTime,
    revision: i64,
    line: Line<'_>,
) -> Result<(), CatalogError> {
    let (actor_user, actor_app) = match &actor.principal {
        Principal::User { id, .. } => (Some(id.0), None),
        Principal::App { id, .. } => (None, Some(id.0)),
        Principal::System => (None, None),
    };
    let (app_id, app) = line.app.map(|(id, name)| (id.0, name.as_str())).unzip();
    let address = actor.address.map(|address| address.to_string());
    sqlx::query!(
        "INSERT INTO audit (revision, at, actor, actor_user, actor_app, via_token, action, resource, team_id, app_id, app,
                                before, after, request_id, address)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        revision,
        now,
        actor.label(),
        actor_user,
        actor_app,
        actor.token.as_ref().map(|token| token.id.0),
        line.action,
        line.resource,
        line.team.map(|team| team.0),
        app_id,
        app,
        line.before,
        line.after,
        actor.request_id,
        address
    )
    .execute(&mut *conn)
    .await?;
    Ok(())
}

/// Turns "this name exists" into the answer for it.
pub(super) fn name_taken(error: sqlx::Error, constraint: &str, kind: Kind, name: &str) -> ChangeError {
    match &error {
        sqlx::Error::Database(refusal) if refusal.constraint() == Some(constraint) => {
            ChangeError::NameTaken { kind, name: name.to_owned() }
        }
        _ => error.into(),
    }
}

/// A resource for the audit.
pub(super) fn json(value: &impl serde::Serialize) -> Option<Value> {
    serde_json::to_value(value).ok()
}
