//! Access: which application may do what on which topics, and why (not).

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, ChangeQuery, List, ListQuery, precondition};
use super::wire::Moment;
use crate::catalog::access::{ReadCatalog, SharePrefix, ShareTopic};
use crate::catalog::model::{AccessGrant, GrantTarget, Operation};
use crate::names::{AppName, TopicName, TopicPrefix};
use crate::web::auth::Caller;
use crate::web::error::ApiResult;
use crate::web::extract::{Conditions, Json, Path, Query};
use crate::web::problem::{Code, FieldError, Problem};
use crate::web::state::WebState;

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new()
        .routes(routes!(list_topic_access))
        .routes(routes!(put_access, delete_access))
        .routes(routes!(list_app_access))
        .routes(routes!(list_prefixes))
        .routes(routes!(put_prefix_access, delete_prefix_access))
}

/// An application's rights on a topic, or on a prefix.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"app": "shipping", "topic": "orders", "operations": ["consume"], "role": "consumer",
    "expires_at": null, "granted_by": "ada@example.com", "since": "2026-11-22T09:00:00.000Z", "revision": 43}))]
struct AccessView {
    app: AppName,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<TopicName>,
    /// Every topic of `owner` whose name begins so.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<TopicPrefix>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<AppName>,
    operations: Vec<Operation>,
    /// The shorthand for exactly these operations, if there is one.
    role: Option<Role>,
    expires_at: Option<Moment>,
    granted_by: String,
    since: Moment,
    revision: i64,
}

impl From<AccessGrant> for AccessView {
    fn from(grant: AccessGrant) -> Self {
        let (topic, prefix, owner) = match grant.target {
            GrantTarget::Topic(topic) => (Some(topic), None, None),
            GrantTarget::Prefix { owner, prefix } => (None, Some(prefix), Some(owner)),
        };
        let role = match grant.operations.as_slice() {
            [Operation::Consume] => Some(Role::Consumer),
            [Operation::Produce] => Some(Role::Producer),
            _ => None,
        };
        Self {
            app: grant.app,
            topic,
            prefix,
            owner,
            operations: grant.operations,
            role,
            expires_at: grant.expires_at.map(Moment),
            granted_by: grant.granted_by,
            since: Moment(grant.since),
            revision: grant.revision,
        }
    }
}

/// Shorthand for one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum Role {
    Consumer,
    Producer,
}

/// The rights as they are wanted: `operations`, or `role` as shorthand for one.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"operations": ["consume"], "expires_at": "2027-06-30T00:00:00Z"}))]
struct AccessBody {
    #[serde(default)]
    operations: Vec<Operation>,
    #[serde(default)]
    role: Option<Role>,
    #[serde(default)]
    expires_at: Option<Moment>,
}

impl AccessBody {
    fn operations(&self) -> ApiResult<Vec<Operation>> {
        let mut operations = self.operations.clone();
        match self.role {
            Some(_) if !operations.is_empty() => return Err(wrong("/role", "goes without `operations`")),
            Some(Role::Consumer) => operations.push(Operation::Consume),
            Some(Role::Producer) => operations.push(Operation::Produce),
            None if operations.is_empty() => {
                return Err(wrong("/operations", "names at least one of produce, consume and manage"));
            }
            None => {}
        }
        operations.sort_unstable();
        operations.dedup();
        Ok(operations)
    }
}

fn wrong(pointer: &str, detail: &str) -> Problem {
    let error = FieldError { item: None, pointer: pointer.to_owned(), detail: detail.to_owned() };
    Problem::new(Code::ValidationFailed, format!("{pointer} {detail}.")).error(error)
}

/// Lists who may do what on a topic, grants by prefix included.
#[utoipa::path(get, path = "/v1/topics/{topic}/access", operation_id = "listTopicAccess", tag = "access",
    params(("topic" = String, Path, description = "Name of the topic", example = "orders"), ListQuery),
    security(("token" = ["catalog:read"])), extensions(("x-problems" = json!(["topic-deleted"]))),
    responses((status = 200, description = "A page of grants", body = List<AccessView>)))]
async fn list_topic_access(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(topic): Path<TopicName>,
    uri: Uri,
    Query(query): Query<ListQuery>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ReadCatalog>(&actor, &())?;
    let page = state.catalog.access_of_topic(&grant, &topic, &query.page()?)?;
    Ok(answer::list::<_, AccessView>(page, &uri))
}

/// Makes an application's rights on the topic exactly these.
#[utoipa::path(put, path = "/v1/topics/{topic}/access/{app}", operation_id = "putAccess", tag = "access",
    params(("topic" = String, Path, description = "Name of the topic", example = "orders"),
           ("app" = String, Path, description = "Who gets the rights", example = "shipping"), ChangeQuery),
    request_body = AccessBody, security(("token" = ["access:write"])),
    extensions(("x-problems" = json!(["precondition-failed", "topic-deleted", "validation-failed"]))),
    responses((status = 200, description = "Changed, or as it was", body = AccessView),
              (status = 201, description = "Granted", body = AccessView)))]
async fn put_access(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path((topic, app)): Path<(TopicName, AppName)>,
    Query(query): Query<ChangeQuery>,
    conditions: Conditions,
    Json(body): Json<AccessBody>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ShareTopic>(&actor, &topic)?;
    let mut tx = state.catalog.begin(&actor).await?;
    let expires = body.expires_at.map(|at| at.0);
    let put = tx.put_access(&grant, &app, &body.operations()?, expires, precondition(&conditions)?).await?;
    let location = format!("/v1/topics/{topic}/access/{app}");
    answer::finish(tx, put, query, |grant| grant.revision, AccessView::from, location).await
}

/// Takes an application's rights on the topic away; its open streams end within a second.
#[utoipa::path(delete, path = "/v1/topics/{topic}/access/{app}", operation_id = "deleteAccess", tag = "access",
    params(("topic" = String, Path, description = "Name of the topic", example = "orders"),
           ("app" = String, Path, description = "Who loses the rights", example = "shipping"), ChangeQuery),
    security(("token" = ["access:write"])), extensions(("x-problems" = json!(["precondition-failed", "topic-deleted"]))),
    responses((status = 204, description = "Taken away")))]
async fn delete_access(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path((topic, app)): Path<(TopicName, AppName)>,
    Query(query): Query<ChangeQuery>,
    conditions: Conditions,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ShareTopic>(&actor, &topic)?;
    let mut tx = state.catalog.begin(&actor).await?;
    tx.revoke_access(&grant, &app, precondition(&conditions)?).await?;
    answer::finish_removal(tx, query).await
}

/// Lists the rights that an application holds on topics of others.
#[utoipa::path(get, path = "/v1/apps/{app}/access", operation_id = "listAppAccess", tag = "access",
    params(("app" = String, Path, description = "Name of the application", example = "shipping"), ListQuery),
    security(("token" = ["catalog:read"])),
    responses((status = 200, description = "A page of grants", body = List<AccessView>)))]
async fn list_app_access(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(app): Path<AppName>,
    uri: Uri,
    Query(query): Query<ListQuery>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ReadCatalog>(&actor, &())?;
    let page = state.catalog.access_of_app(&grant, &app, &query.page()?)?;
    Ok(answer::list::<_, AccessView>(page, &uri))
}

/// Lists the rights that an application has given on prefixes of its topics.
#[utoipa::path(get, path = "/v1/apps/{app}/prefixes", operation_id = "listPrefixes", tag = "access",
    params(("app" = String, Path, description = "The owner of the topics", example = "checkout"), ListQuery),
    security(("token" = ["catalog:read"])),
    responses((status = 200, description = "A page of grants", body = List<AccessView>)))]
async fn list_prefixes(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(app): Path<AppName>,
    uri: Uri,
    Query(query): Query<ListQuery>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ReadCatalog>(&actor, &())?;
    let page = state.catalog.prefixes_of_app(&grant, &app, &query.page()?)?;
    Ok(answer::list::<_, AccessView>(page, &uri))
}

/// Makes an application's rights on every topic of the owner whose name begins so exactly these, also on future ones.
#[utoipa::path(put, path = "/v1/apps/{app}/prefixes/{prefix}/access/{grantee}", operation_id = "putPrefixAccess",
    tag = "access",
    params(("app" = String, Path, description = "The owner of the topics", example = "checkout"),
           ("prefix" = String, Path, description = "How the topics' names begin", example = "orders."),
           ("grantee" = String, Path, description = "Who gets the rights", example = "shipping"), ChangeQuery),
    request_body = AccessBody, security(("token" = ["access:write"])),
    extensions(("x-problems" = json!(["precondition-failed", "validation-failed"]))),
    responses((status = 200, description = "Changed, or as it was", body = AccessView),
              (status = 201, description = "Granted", body = AccessView)))]
async fn put_prefix_access(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path((owner, prefix, grantee)): Path<(AppName, TopicPrefix, AppName)>,
    Query(query): Query<ChangeQuery>,
    conditions: Conditions,
    Json(body): Json<AccessBody>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<SharePrefix>(&actor, &owner)?;
    let operations = body.operations()?;
    let expires = body.expires_at.map(|at| at.0);
    let mut tx = state.catalog.begin(&actor).await?;
    let condition = precondition(&conditions)?;
    let put = tx.put_prefix_access(&grant, &prefix, &grantee, &operations, expires, condition).await?;
    let location = format!("/v1/apps/{owner}/prefixes/{prefix}/access/{grantee}");
    answer::finish(tx, put, query, |grant| grant.revision, AccessView::from, location).await
}

/// Takes an application's rights on a prefix away.
#[utoipa::path(delete, path = "/v1/apps/{app}/prefixes/{prefix}/access/{grantee}", operation_id = "deletePrefixAccess",
    tag = "access",
    params(("app" = String, Path, description = "The owner of the topics", example = "checkout"),
           ("prefix" = String, Path, description = "How the topics' names begin", example = "orders."),
           ("grantee" = String, Path, description = "Who loses the rights", example = "shipping"), ChangeQuery),
    security(("token" = ["access:write"])), extensions(("x-problems" = json!(["precondition-failed"]))),
    responses((status = 204, description = "Taken away")))]
async fn delete_prefix_access(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path((owner, prefix, grantee)): Path<(AppName, TopicPrefix, AppName)>,
    Query(query): Query<ChangeQuery>,
    conditions: Conditions,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<SharePrefix>(&actor, &owner)?;
    let mut tx = state.catalog.begin(&actor).await?;
    tx.revoke_prefix_access(&grant, &prefix, &grantee, precondition(&conditions)?).await?;
    answer::finish_removal(tx, query).await
}
