//! The audit: who changed what, when, by which credential, from where.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, List, page_request};
use super::wire::Moment;
use crate::catalog::AuditQuery;
use crate::catalog::access::ReadAudit;
use crate::catalog::model::AuditEntry;
use crate::names::{AppName, TokenId};
use crate::web::auth::Caller;
use crate::web::error::ApiResult;
use crate::web::extract::Query;
use crate::web::state::WebState;

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new().routes(routes!(list_audit))
}

/// One change.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"id": 812, "at": "2026-11-22T09:00:00.000Z", "actor": "ada@example.com", "via_token": null,
    "action": "topic.create", "resource": "topic/orders", "before": null, "after": {"partitions": 6},
    "request_id": "req_019a2f7e", "ip": "192.0.2.7"}))]
struct AuditView {
    id: i64,
    at: Moment,
    /// E-mail address, application name or `system`.
    actor: String,
    via_token: Option<TokenId>,
    action: String,
    resource: String,
    before: Option<Value>,
    after: Option<Value>,
    request_id: Option<String>,
    ip: Option<String>,
}

impl From<AuditEntry> for AuditView {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id,
            at: Moment(entry.at),
            actor: entry.actor,
            via_token: entry.via_token,
            action: entry.action,
            resource: entry.resource,
            before: entry.before,
            after: entry.after,
            request_id: entry.request_id,
            ip: entry.address,
        }
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AuditParams {
    /// E-mail address or application name.
    actor: Option<String>,
    /// Concerning this application or one of its topics.
    app: Option<AppName>,
    /// `topic/orders`, `app/checkout`, `team/payments`, …
    resource: Option<String>,
    /// `topic.create`, or `topic.*` for everything about topics.
    action: Option<String>,
    /// Not before.
    since: Option<Moment>,
    /// Before.
    until: Option<Moment>,
    /// Items on a page, 1 to 1000.
    #[param(default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Lists changes, newest first: all of them to administrators, to others what concerns them.
#[utoipa::path(get, path = "/v1/audit", operation_id = "listAudit", tag = "audit", params(AuditParams),
    security(("token" = ["audit:read"])),
    responses((status = 200, description = "A page of changes", body = List<AuditView>)))]
async fn list_audit(
    State(state): State<WebState>,
    Caller(actor): Caller,
    uri: Uri,
    Query(query): Query<AuditParams>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ReadAudit>(&actor, &())?;
    let page = page_request(query.limit, query.cursor.as_deref())?;
    let filter = AuditQuery {
        actor: query.actor,
        app: query.app,
        resource: query.resource,
        action: query.action,
        since: query.since.map(|at| at.0),
        until: query.until.map(|at| at.0),
    };
    Ok(answer::list::<_, AuditView>(state.catalog.audit(&grant, &filter, &page).await?, &uri))
}
