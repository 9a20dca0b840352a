//! The audit: who changed what, when, by which token, from where. Written in the transaction of the change (I11).

use serde_json::json;
use time::OffsetDateTime;

use super::access::{AuditSight, Consume, Grant, ReadAudit};
use super::error::CatalogError;
use super::model::AuditEntry;
use super::page::{Page, PageRequest};
use super::search::Words;
use super::tx::{Line, write_line};
use super::{Catalog, load};
use crate::names::{AppName, TokenId};

/// Which lines of the audit. Everything given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditQuery {
    /// As [`AuditEntry::actor`].
    pub actor: Option<String>,
    /// Concerning this application or one of its topics.
    pub app: Option<AppName>,
    /// As [`AuditEntry::resource`].
    pub resource: Option<String>,
    /// As [`AuditEntry::action`]; `topic.*` means every action on topics.
    pub action: Option<String>,
    pub since: Option<OffsetDateTime>,
    pub until: Option<OffsetDateTime>,
}

impl Catalog {
    /// Notes that records were looked at: of which topic, from where on, how many. Whoever shows them to a person waits for
    /// it, so that nothing is shown without a line in the audit.
    ///
    /// The catalog stays as it is, so the line stands under the present revision: no writer waits, no view is replaced, no
    /// stream authorises again because somebody reads.
    pub async fn record_view(&self, grant: &Grant<Consume>, from: &str, count: usize) -> Result<(), CatalogError> {
        let topic = grant.resource();
        let line = Line {
            action: "records.viewed",
            resource: format!("topic/{}", topic.name),
            team: Some(topic.team_id),
            app: Some((topic.app_id, &topic.app)),
            before: None,
            after: Some(json!({"from": from, "count": count})),
        };
        let mut conn = self.pool().acquire().await?;
        let revision = load::revision(&mut conn).await?;
        write_line(&mut conn, grant.actor(), self.now(), revision, line).await
    }

    /// Lines of the audit that the actor may read, newest first.
    pub async fn audit(
        &self,
        grant: &Grant<ReadAudit>,
        query: &AuditQuery,
        page: &PageRequest,
    ) -> Result<Page<AuditEntry>, CatalogError> {
        let (everything, user, teams, app) = match grant.resource() {
            AuditSight::Everything => (true, None, Vec::new(), None),
            AuditSight::Person { user, teams } => {
                (false, Some(user.0), teams.iter().map(|team| team.0).collect(), None)
            }
            AuditSight::App(app) => (false, None, Vec::new(), Some(app.0)),
        };
        let before = page.after().map(|id| id.parse::<i64>().unwrap_or(0));
        let action = query.action.as_ref().map(|action| match action.strip_suffix('*') {
            Some(beginning) => format!("{}%", Words::literal(beginning)),
            None => Words::literal(action),
        });
        let rows = sqlx::query_as!(
            AuditEntry,
            r#"SELECT id, at, actor, via_token AS "via_token: TokenId", action, resource, before, after, request_id, address FROM audit
               WHERE ($1 OR team_id = ANY ($2) OR actor_user = $3 OR app_id = $4 OR actor_app = $4)
                 AND ($5::bigint IS NULL OR id < $5) AND ($6::text IS NULL OR actor = $6) AND ($7::text IS NULL OR app = $7)
                 AND ($8::text IS NULL OR resource = $8) AND ($9::text IS NULL OR action LIKE $9)
                 AND ($10::timestamptz IS NULL OR at >= $10) AND ($11::timestamptz IS NULL OR at < $11)
               ORDER BY id DESC LIMIT $12"#,
            everything,
            &teams,
            user,
            app,
            before,
            query.actor,
            query.app.as_ref().map(AppName::as_str),
            query.resource,
            action,
            query.since,
            query.until,
            i64::try_from(page.limit() + 1).unwrap_or(i64::MAX)
        );
        let rows = rows.fetch_all(self.pool()).await?;
        Ok(page.collect(rows.into_iter(), |entry| entry.id.to_string()))
    }
}
