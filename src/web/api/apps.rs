//! Applications: the identities that own topics and hold tokens.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, ChangeQuery, List, label_filter, page_request, precondition};
use super::wire::Moment;
use crate::catalog::AppQuery;
use crate::catalog::access::{AppTarget, ManageApp, PutApp, ReadCatalog};
use crate::catalog::model::{AppSpec, AppState, Application};
use crate::names::{AppName, Email, TeamName};
use crate::web::auth::Caller;
use crate::web::error::ApiResult;
use crate::web::extract::{Conditions, Json, Path, Query};
use crate::web::state::WebState;

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new()
        .routes(routes!(list_apps))
        .routes(routes!(get_app, put_app, patch_app, delete_app))
        .routes(routes!(suspend_app))
        .routes(routes!(resume_app))
}

/// An application as it is shown.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"name": "checkout", "team": "payments", "description": "Checkout service",
    "owners": ["ada@example.com", "bob@example.com"], "contacts": {"slack": "#checkout"},
    "repository": "https://git.example.com/checkout", "runbook": null, "labels": {"lang": "rust"}, "status": "active",
    "quality": [], "created_at": "2026-11-22T09:00:00.000Z", "updated_at": "2026-11-22T09:00:00.000Z", "revision": 12}))]
pub(super) struct AppView {
    name: AppName,
    team: TeamName,
    description: String,
    owners: Vec<Email>,
    contacts: BTreeMap<String, String>,
    repository: Option<String>,
    runbook: Option<String>,
    labels: BTreeMap<String, String>,
    status: AppState,
    /// What is missing for others to rely on it.
    quality: Vec<&'static str>,
    created_at: Moment,
    updated_at: Moment,
    revision: i64,
}

impl From<&Application> for AppView {
    fn from(app: &Application) -> Self {
        Self {
            name: app.name.clone(),
            team: app.team.clone(),
            description: app.description.clone(),
            owners: app.owners.clone(),
            contacts: app.contacts.clone(),
            repository: app.repository.clone(),
            runbook: app.runbook.clone(),
            labels: app.labels.clone(),
            status: app.state,
            quality: quality(app),
            created_at: Moment(app.created_at),
            updated_at: Moment(app.updated_at),
            revision: app.revision,
        }
    }
}

impl From<Arc<Application>> for AppView {
    fn from(app: Arc<Application>) -> Self {
        Self::from(app.as_ref())
    }
}

fn quality(app: &Application) -> Vec<&'static str> {
    let mut issues = Vec::new();
    if app.owners.len() < 2 {
        issues.push("fewer than two human owners");
    }
    if app.description.is_empty() {
        issues.push("no description");
    }
    if app.contacts.is_empty() {
        issues.push("no contact");
    }
    issues
}

/// An application as it is wanted. What is left out is reset.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"team": "payments", "description": "Checkout service", "owners": ["ada@example.com", "bob@example.com"],
    "contacts": {"slack": "#checkout"}, "repository": "https://git.example.com/checkout", "labels": {"lang": "rust"}}))]
struct AppBody {
    team: TeamName,
    #[serde(default)]
    description: String,
    /// People who answer for it; two or more are wanted.
    #[serde(default)]
    owners: Vec<Email>,
    /// Contact points such as `slack` or `pager`.
    #[serde(default)]
    contacts: BTreeMap<String, String>,
    #[serde(default)]
    repository: Option<String>,
    #[serde(default)]
    runbook: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl From<AppBody> for AppSpec {
    fn from(body: AppBody) -> Self {
        Self {
            team: body.team,
            description: body.description,
            owners: body.owners,
            contacts: body.contacts,
            repository: body.repository,
            runbook: body.runbook,
            labels: body.labels,
        }
    }
}

impl From<&Application> for AppBody {
    fn from(app: &Application) -> Self {
        Self {
            team: app.team.clone(),
            description: app.description.clone(),
            owners: app.owners.clone(),
            contacts: app.contacts.clone(),
            repository: app.repository.clone(),
            runbook: app.runbook.clone(),
            labels: app.labels.clone(),
        }
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AppsQuery {
    /// Words that must occur in name, team, description or labels.
    q: Option<String>,
    /// Only those of this team.
    team: Option<TeamName>,
    /// Only those with this label, KEY=VALUE.
    #[param(example = "lang=rust")]
    label: Option<String>,
    /// `active` or `suspended`.
    status: Option<AppState>,
    /// Only those of my teams.
    #[serde(default)]
    mine: bool,
    /// Items on a page, 1 to 1000.
    #[param(default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Lists applications by name.
#[utoipa::path(get, path = "/v1/apps", operation_id = "listApps", tag = "apps", params(AppsQuery),
    security(("token" = ["catalog:read"])),
    responses((status = 200, description = "A page of applications", body = List<AppView>)))]
async fn list_apps(
    State(state): State<WebState>,
    Caller(actor): Caller,
    uri: Uri,
    Query(query): Query<AppsQuery>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ReadCatalog>(&actor, &())?;
    let page = page_request(query.limit, query.cursor.as_deref())?;
    let filter = AppQuery {
        q: query.q,
        team: query.team,
        label: label_filter(query.label.as_deref())?,
        state: query.status,
        mine: query.mine,
    };
    Ok(answer::list::<_, AppView>(state.catalog.apps(&grant, &filter, &page), &uri))
}

/// Shows an application.
#[utoipa::path(get, path = "/v1/apps/{app}", operation_id = "getApp", tag = "apps",
    params(("app" = String, Path, description = "Name of the application", example = "checkout")),
    security(("token" = ["catalog:read"])), responses((status = 200, description = "The application", body = AppView)))]
async fn get_app(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(name): Path<AppName>,
    conditions: Conditions,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ReadCatalog>(&actor, &())?;
    let app = state.catalog.app(&grant, &name)?;
    Ok(answer::resource(AppView::from(app.as_ref()), app.revision, &conditions))
}

/// Makes the application so. Naming another team moves it there.
#[utoipa::path(put, path = "/v1/apps/{app}", operation_id = "putApp", tag = "apps",
    params(("app" = String, Path, description = "Name of the application", example = "checkout"), ChangeQuery),
    request_body = AppBody, security(("token" = ["apps:write"])),
    extensions(("x-problems" = json!(["precondition-failed", "validation-failed"]))),
    responses((status = 200, description = "Changed, or as it was", body = AppView),
              (status = 201, description = "Registered", body = AppView)))]
async fn put_app(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(name): Path<AppName>,
    Query(query): Query<ChangeQuery>,
    conditions: Conditions,
    Json(body): Json<AppBody>,
) -> ApiResult<Response> {
    let target = AppTarget { name: name.clone(), team: body.team.clone() };
    let grant = state.catalog.authorize::<PutApp>(&actor, &target)?;
    let mut tx = state.catalog.begin(&actor).await?;
    let put = tx.put_app(&grant, &body.into(), precondition(&conditions)?).await?;
    answer::finish(tx, put, query, |app| app.revision, |app| AppView::from(&app), format!("/v1/apps/{name}")).await
}

/// Changes parts of an application, by JSON merge patch.
#[utoipa::path(patch, path = "/v1/apps/{app}", operation_id = "patchApp", tag = "apps",
    params(("app" = String, Path, description = "Name of the application", example = "checkout"), ChangeQuery),
    request_body(content = AppBody, content_type = "application/merge-patch+json"), security(("token" = ["apps:write"])),
    extensions(("x-problems" = json!(["precondition-failed", "validation-failed"]))),
    responses((status = 200, description = "The application", body = AppView)))]
async fn patch_app(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(name): Path<AppName>,
    Query(query): Query<ChangeQuery>,
    conditions: Conditions,
    Json(patch): Json<Value>,
) -> ApiResult<Response> {
    let read = state.catalog.authorize::<ReadCatalog>(&actor, &())?;
    answer::caught_up(&state.catalog, &conditions).await?;
    let current = state.catalog.app(&read, &name)?;
    let body: AppBody = answer::merge_patch(&AppBody::from(current.as_ref()), &patch)?;
    let target = AppTarget { name, team: body.team.clone() };
    let grant = state.catalog.authorize::<PutApp>(&actor, &target)?;
    let mut tx = state.catalog.begin(&actor).await?;
    let put = tx.put_app(&grant, &body.into(), answer::on_read(&conditions, current.revision)?).await?;
    answer::finish(tx, put, query, |app| app.revision, |app| AppView::from(&app), String::new()).await
}

/// Removes an application that owns nothing, with its tokens and grants.
#[utoipa::path(delete, path = "/v1/apps/{app}", operation_id = "deleteApp", tag = "apps",
    params(("app" = String, Path, description = "Name of the application", example = "checkout"), ChangeQuery),
    security(("token" = ["apps:write"])), extensions(("x-problems" = json!(["not-empty", "precondition-failed"]))),
    responses((status = 204, description = "Removed")))]
async fn delete_app(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(name): Path<AppName>,
    Query(query): Query<ChangeQuery>,
    conditions: Conditions,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ManageApp>(&actor, &name)?;
    let mut tx = state.catalog.begin(&actor).await?;
    tx.delete_app(&grant, precondition(&conditions)?).await?;
    answer::finish_removal(tx, query).await
}

#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "floods the orders topic"}))]
struct SuspendBody {
    /// For the audit.
    #[serde(default)]
    reason: String,
}

/// Switches an application off: its tokens are refused, its streams end within a second.
#[utoipa::path(post, path = "/v1/apps/{app}/suspend", operation_id = "suspendApp", tag = "apps",
    params(("app" = String, Path, description = "Name of the application", example = "checkout")),
    request_body = SuspendBody, security(("token" = ["apps:write"])), extensions(("x-problems" = json!(["conflict"]))),
    responses((status = 200, description = "Suspended", body = AppView)))]
async fn suspend_app(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(name): Path<AppName>,
    body: Option<Json<SuspendBody>>,
) -> ApiResult<Json<AppView>> {
    let grant = state.catalog.authorize::<ManageApp>(&actor, &name)?;
    let reason = body.map(|Json(body)| body.reason).unwrap_or_default();
    let mut tx = state.catalog.begin(&actor).await?;
    let app = tx.suspend_app(&grant, &reason).await?;
    tx.commit().await?;
    Ok(Json(AppView::from(&app)))
}

/// Switches a suspended application on again.
#[utoipa::path(post, path = "/v1/apps/{app}/resume", operation_id = "resumeApp", tag = "apps",
    params(("app" = String, Path, description = "Name of the application", example = "checkout")),
    security(("token" = ["apps:write"])), extensions(("x-problems" = json!(["conflict"]))),
    responses((status = 200, description = "Active", body = AppView)))]
async fn resume_app(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(name): Path<AppName>,
) -> ApiResult<Json<AppView>> {
    let grant = state.catalog.authorize::<ManageApp>(&actor, &name)?;
    let mut tx = state.catalog.begin(&actor).await?;
    let app = tx.resume_app(&grant).await?;
    tx.commit().await?;
    Ok(Json(AppView::from(&app)))
}
