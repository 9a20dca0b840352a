//! One's own open portal sessions. Reached by session only, never by token: a token must not end its maker's sessions.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::List;
use super::wire::Moment;
use crate::catalog::access::OwnAccount;
use crate::catalog::model::Session;
use crate::names::SessionId;
use crate::web::auth::Caller;
use crate::web::error::ApiResult;
use crate::web::extract::{Json, Path};
use crate::web::state::WebState;

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new().routes(routes!(list_sessions)).routes(routes!(end_session))
}

/// A signed-in browser.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"id": "019a2f7e-0000-7000-8000-000000000000", "created_at": "2026-11-22T09:00:00.000Z",
    "last_seen_at": "2026-11-22T09:15:00.000Z", "expires_at": "2026-11-23T09:00:00.000Z", "ip": "192.0.2.7",
    "user_agent": "Mozilla/5.0"}))]
struct SessionView {
    id: SessionId,
    created_at: Moment,
    last_seen_at: Moment,
    expires_at: Moment,
    ip: Option<String>,
    user_agent: Option<String>,
}

impl From<Session> for SessionView {
    fn from(session: Session) -> Self {
        Self {
            id: session.id,
            created_at: Moment(session.created_at),
            last_seen_at: Moment(session.last_seen_at),
            expires_at: Moment(session.expires_at),
            ip: session.address,
            user_agent: session.user_agent,
        }
    }
}

/// Lists your open sessions, last seen first.
#[utoipa::path(get, path = "/v1/me/sessions", operation_id = "listSessions", tag = "identity", security(("session" = [])),
    responses((status = 200, description = "All open sessions", body = List<SessionView>)))]
async fn list_sessions(State(state): State<WebState>, Caller(actor): Caller) -> ApiResult<Json<List<SessionView>>> {
    let grant = state.catalog.authorize::<OwnAccount>(&actor, &())?;
    let sessions = state.catalog.sessions(&grant).await?;
    Ok(Json(List { items: sessions.into_iter().map(SessionView::from).collect(), next: None }))
}

/// Signs one of your browsers out.
#[utoipa::path(delete, path = "/v1/me/sessions/{id}", operation_id = "endSession", tag = "identity",
    params(("id" = String, Path, description = "The session", example = "019a2f7e-0000-7000-8000-000000000000")),
    security(("session" = [])), responses((status = 204, description = "Signed out")))]
async fn end_session(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(id): Path<SessionId>,
) -> ApiResult<StatusCode> {
    let grant = state.catalog.authorize::<OwnAccount>(&actor, &())?;
    state.catalog.end_session(&grant, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
