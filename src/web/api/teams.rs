//! Teams.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, ChangeQuery, List, page_request, precondition};
use super::wire::Moment;
use crate::catalog::access::{ManageTeam, PutTeam, ReadCatalog};
use crate::catalog::model::{Team, TeamSpec};
use crate::names::TeamName;
use crate::web::auth::Caller;
use crate::web::error::ApiResult;
use crate::web::extract::{Conditions, Json, Path, Query};
use crate::web::state::WebState;

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new().routes(routes!(list_teams)).routes(routes!(get_team, put_team, patch_team, delete_team))
}

/// A team as it is shown.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"name": "payments", "description": "Takes the money", "members": 4, "applications": 2,
    "created_at": "2026-11-22T09:00:00.000Z", "revision": 7}))]
pub(super) struct TeamView {
    name: TeamName,
    description: String,
    members: i64,
    applications: i64,
    created_at: Moment,
    revision: i64,
}

impl From<&Team> for TeamView {
    fn from(team: &Team) -> Self {
        Self {
            name: team.name.clone(),
            description: team.description.clone(),
            members: team.members,
            applications: team.applications,
            created_at: Moment(team.created_at),
            revision: team.revision,
        }
    }
}

impl From<Arc<Team>> for TeamView {
    fn from(team: Arc<Team>) -> Self {
        Self::from(team.as_ref())
    }
}

/// A team as it is wanted. What is left out is reset.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"description": "Takes the money"}))]
struct TeamBody {
    #[serde(default)]
    description: String,
}

impl From<TeamBody> for TeamSpec {
    fn from(body: TeamBody) -> Self {
        Self { description: body.description }
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TeamsQuery {
    /// Words that must occur in name or description.
    q: Option<String>,
    /// Items on a page, 1 to 1000.
    #[param(default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Lists teams by name.
#[utoipa::path(get, path = "/v1/teams", operation_id = "listTeams", tag = "teams", params(TeamsQuery),
    security(("token" = ["catalog:read"])), responses((status = 200, description = "A page of teams", body = List<TeamView>)))]
async fn list_teams(
    State(state): State<WebState>,
    Caller(actor): Caller,
    uri: Uri,
    Query(query): Query<TeamsQuery>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ReadCatalog>(&actor, &())?;
    let page = page_request(query.limit, query.cursor.as_deref())?;
    Ok(answer::list::<_, TeamView>(state.catalog.teams(&grant, query.q.as_deref(), &page), &uri))
}

/// Shows a team.
#[utoipa::path(get, path = "/v1/teams/{team}", operation_id = "getTeam", tag = "teams",
    params(("team" = String, Path, description = "Name of the team", example = "payments")),
    security(("token" = ["catalog:read"])), responses((status = 200, description = "The team", body = TeamView)))]
async fn get_team(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(name): Path<TeamName>,
    conditions: Conditions,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ReadCatalog>(&actor, &())?;
    let team = state.catalog.team(&grant, &name)?;
    Ok(answer::resource(TeamView::from(team.as_ref()), team.revision, &conditions))
}

/// Makes the team so. Who makes a team becomes its maintainer.
#[utoipa::path(put, path = "/v1/teams/{team}", operation_id = "putTeam", tag = "teams",
    params(("team" = String, Path, description = "Name of the team", example = "payments"), ChangeQuery),
    request_body = TeamBody, security(("token" = ["apps:write"])),
    extensions(("x-problems" = json!(["precondition-failed", "validation-failed"]))),
    responses((status = 200, description = "Changed, or as it was", body = TeamView),
              (status = 201, description = "Made", body = TeamView)))]
async fn put_team(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(name): Path<TeamName>,
    Query(query): Query<ChangeQuery>,
    conditions: Conditions,
    Json(body): Json<TeamBody>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<PutTeam>(&actor, &name)?;
    let mut tx = state.catalog.begin(&actor).await?;
    let put = tx.put_team(&grant, &body.into(), precondition(&conditions)?).await?;
    answer::finish(tx, put, query, |team| team.revision, |team| TeamView::from(&team), format!("/v1/teams/{name}"))
        .await
}

/// Changes parts of a team, by JSON merge patch.
#[utoipa::path(patch, path = "/v1/teams/{team}", operation_id = "patchTeam", tag = "teams",
    params(("team" = String, Path, description = "Name of the team", example = "payments"), ChangeQuery),
    request_body(content = TeamBody, content_type = "application/merge-patch+json"), security(("token" = ["apps:write"])),
    extensions(("x-problems" = json!(["precondition-failed", "validation-failed"]))),
    responses((status = 200, description = "The team", body = TeamView)))]
async fn patch_team(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(name): Path<TeamName>,
    Query(query): Query<ChangeQuery>,
    conditions: Conditions,
    Json(patch): Json<Value>,
) -> ApiResult<Response> {
    let read = state.catalog.authorize::<ReadCatalog>(&actor, &())?;
    answer::caught_up(&state.catalog, &conditions).await?;
    let current = state.catalog.team(&read, &name)?;
    let grant = state.catalog.authorize::<PutTeam>(&actor, &name)?;
    let body: TeamBody = answer::merge_patch(&TeamBody { description: current.description.clone() }, &patch)?;
    let mut tx = state.catalog.begin(&actor).await?;
    let put = tx.put_team(&grant, &body.into(), answer::on_read(&conditions, current.revision)?).await?;
    answer::finish(tx, put, query, |team| team.revision, |team| TeamView::from(&team), String::new()).await
}

/// Removes a team without applications.
#[utoipa::path(delete, path = "/v1/teams/{team}", operation_id = "deleteTeam", tag = "teams",
    params(("team" = String, Path, description = "Name of the team", example = "payments"), ChangeQuery),
    security(("token" = ["apps:write"])), extensions(("x-problems" = json!(["not-empty", "precondition-failed"]))),
    responses((status = 204, description = "Removed")))]
async fn delete_team(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(name): Path<TeamName>,
    Query(query): Query<ChangeQuery>,
    conditions: Conditions,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ManageTeam>(&actor, &name)?;
    let mut tx = state.catalog.begin(&actor).await?;
    tx.delete_team(&grant, precondition(&conditions)?).await?;
    answer::finish_removal(tx, query).await
}
