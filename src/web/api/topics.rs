//! Topics: lists, registration, and the changes of their life.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, ChangeQuery, List, RESULT, label_filter, page_request, precondition};
use super::topic_view::{Include, RetentionTime, TopicView};
use crate::catalog::TopicQuery;
use crate::catalog::access::{ManageTopic, PutTopic, ReadCatalog, TopicTarget};
use crate::catalog::model::{Classification, Cleanup, Topic, TopicSpec, TopicState, Visibility};
use crate::names::{AppName, TeamName, TopicName};
use crate::web::auth::Caller;
use crate::web::error::ApiResult;
use crate::web::extract::{Conditions, Json, Path, Query, etag};
use crate::web::problem::{Code, Problem};
use crate::web::state::WebState;

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new()
        .routes(routes!(list_topics))
        .routes(routes!(get_topic, put_topic, patch_topic, delete_topic))
        .routes(routes!(restore_topic))
        .routes(routes!(purge_topic))
}

/// A topic as it is wanted. What is left out gets its default; the number of partitions stays as it is.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"app": "checkout", "description": "One event per accepted order", "partitions": 6,
    "retention": {"time": "7d", "bytes_per_partition": 10737418240_i64}, "cleanup": "delete", "visibility": "company",
    "classification": "internal", "labels": {"domain": "sales"}}))]
struct TopicBody {
    /// The owner.
    app: AppName,
    /// Markdown.
    #[serde(default)]
    description: String,
    /// Can grow, never shrink. 3 for a new topic that does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partitions: Option<u32>,
    #[serde(default)]
    retention: RetentionBody,
    #[serde(default = "delete")]
    cleanup: Cleanup,
    #[serde(default = "company")]
    visibility: Visibility,
    #[serde(default = "internal")]
    classification: Classification,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// How long records are kept.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct RetentionBody {
    /// `7d`, `36h`, … or `forever`.
    #[serde(default)]
    time: RetentionTime,
    /// `null`: no bound.
    #[serde(default)]
    bytes_per_partition: Option<i64>,
}

fn delete() -> Cleanup {
    Cleanup::Delete
}

fn company() -> Visibility {
    Visibility::Company
}

fn internal() -> Classification {
    Classification::Internal
}

impl TopicBody {
    /// The whole wish; `existing` says what stays when nothing is said.
    fn into_spec(self, existing: Option<&Topic>) -> TopicSpec {
        let partitions = self.partitions.or(existing.map(|topic| topic.partitions));
        TopicSpec {
            app: self.app,
            description: self.description,
            classification: self.classification,
            visibility: self.visibility,
            partitions: partitions.unwrap_or(TopicSpec::PARTITIONS_DEFAULT),
            retention_ms: self.retention.time.ms(),
            retention_bytes: self.retention.bytes_per_partition,
            cleanup: self.cleanup,
            labels: self.labels,
        }
    }
}

impl From<&Topic> for TopicBody {
    fn from(topic: &Topic) -> Self {
        Self {
            app: topic.app.clone(),
            description: topic.description.clone(),
            partitions: Some(topic.partitions),
            retention: RetentionBody {
                time: RetentionTime::from_ms(topic.retention_ms),
                bytes_per_partition: topic.retention_bytes,
            },
            cleanup: topic.cleanup,
            visibility: topic.visibility,
            classification: topic.classification,
            labels: topic.labels.clone(),
        }
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TopicsQuery {
    /// Words that must occur in name, owner, team, description or labels.
    q: Option<String>,
    /// Only those of this application.
    owner: Option<AppName>,
    /// Only those of this team.
    team: Option<TeamName>,
    /// Only those with this label, KEY=VALUE.
    #[param(example = "domain=sales")]
    label: Option<String>,
    /// Only those of this classification.
    classification: Option<Classification>,
    /// `active`, which is the default, or `deleted`.
    state: Option<TopicState>,
    /// Only those that this application may read now.
    readable_by: Option<AppName>,
    /// Items on a page, 1 to 1000.
    #[param(default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Lists topics by name, as far as you may know of them.
#[utoipa::path(get, path = "/v1/topics", operation_id = "listTopics", tag = "topics", params(TopicsQuery),
    security(("token" = ["catalog:read"])),
    responses((status = 200, description = "A page of topics", body = List<TopicView>)))]
async fn list_topics(
    State(state): State<WebState>,
    Caller(actor): Caller,
    uri: Uri,
    Query(query): Query<TopicsQuery>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ReadCatalog>(&actor, &())?;
    let page = page_request(query.limit, query.cursor.as_deref())?;
    let filter = TopicQuery {
        q: query.q,
        app: query.owner,
        team: query.team,
        label: label_filter(query.label.as_deref())?,
        classification: query.classification,
        state: query.state,
        readable_by: query.readable_by,
        mine: false,
    };
    Ok(answer::list::<_, TopicView>(state.catalog.topics(&grant, &filter, &page), &uri))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TopicQueryParams {
    /// `offsets` adds each partition's range, `stats` what is stored; separated by a comma.
    #[param(value_type = Option<String>, example = "offsets,stats")]
    #[serde(default)]
    include: Include,
}

/// Shows a topic.
#[utoipa::path(get, path = "/v1/topics/{topic}", operation_id = "getTopic", tag = "topics",
    params(("topic" = String, Path, description = "Name of the topic", example = "orders"), TopicQueryParams),
    security(("token" = ["catalog:read"])), extensions(("x-problems" = json!(["topic-deleted"]))),
    responses((status = 200, description = "The topic", body = TopicView)))]
async fn get_topic(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(name): Path<TopicName>,
    Query(query): Query<TopicQueryParams>,
    conditions: Conditions,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ReadCatalog>(&actor, &())?;
    let topic = state.catalog.topic(&grant, &name)?;
    let view = TopicView::from(topic.as_ref()).including(query.include, &topic, &state.gateway);
    if query.include.any() {
        // The figures change without the revision, so nothing may be answered from a cache.
        return Ok(([(axum::http::header::ETAG, etag(topic.revision))], Json(view)).into_response());
    }
    Ok(answer::resource(view, topic.revision, &conditions))
}

/// Makes the topic so. When it answers 201 the topic takes records.
#[utoipa::path(put, path = "/v1/topics/{topic}", operation_id = "putTopic", tag = "topics",
    params(("topic" = String, Path, description = "Name of the topic", example = "orders"), ChangeQuery),
    request_body = TopicBody, security(("token" = ["topics:write"])),
    extensions(("x-problems" = json!(["conflict", "incompatible-change", "precondition-failed", "topic-deleted", "validation-failed"]))),
    responses((status = 200, description = "Changed, or as it was; with `dry_run` what would change", body = TopicView),
              (status = 201, description = "Made", body = TopicView)))]
async fn put_topic(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(name): Path<TopicName>,
    Query(query): Query<ChangeQuery>,
    conditions: Conditions,
    Json(body): Json<TopicBody>,
) -> ApiResult<Response> {
    let target = TopicTarget { name: name.clone(), app: body.app.clone() };
    let grant = state.catalog.authorize::<PutTopic>(&actor, &target)?;
    let spec = body.into_spec(grant.resource().existing.as_deref());
    let mut tx = state.catalog.begin(&actor).await?;
    let put = tx.put_topic(&grant, &spec, precondition(&conditions)?).await?;
    if query.dry_run {
        return Ok(answer::dry_run(put.result.as_str(), put.changes));
    }
    tx.commit().await?;
    state.provision.ensure(&put.value).await?;
    let location = format!("/v1/topics/{name}");
    Ok(answer::ensured(TopicView::from(&put.value), put.result, put.value.revision, &location))
}

/// Changes parts of a topic, by JSON merge patch.
#[utoipa::path(patch, path = "/v1/topics/{topic}", operation_id = "patchTopic", tag = "topics",
    params(("topic" = String, Path, description = "Name of the topic", example = "orders"), ChangeQuery),
    request_body(content = TopicBody, content_type = "application/merge-patch+json"), security(("token" = ["topics:write"])),
    extensions(("x-problems" = json!(["incompatible-change", "precondition-failed", "topic-deleted", "validation-failed"]))),
    responses((status = 200, description = "The topic", body = TopicView)))]
async fn patch_topic(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(name): Path<TopicName>,
    Query(query): Query<ChangeQuery>,
    conditions: Conditions,
    Json(patch): Json<Value>,
) -> ApiResult<Response> {
    let read = state.catalog.authorize::<ReadCatalog>(&actor, &())?;
    answer::caught_up(&state.catalog, &conditions).await?;
    let current = state.catalog.topic(&read, &name)?;
    let body: TopicBody = answer::merge_patch(&TopicBody::from(current.as_ref()), &patch)?;
    let grant = state.catalog.authorize::<PutTopic>(&actor, &TopicTarget { name, app: body.app.clone() })?;
    let mut tx = state.catalog.begin(&actor).await?;
    let spec = body.into_spec(Some(&current));
    let put = tx.put_topic(&grant, &spec, answer::on_read(&conditions, current.revision)?).await?;
    if query.dry_run {
        return Ok(answer::dry_run(put.result.as_str(), put.changes));
    }
    tx.commit().await?;
    state.provision.ensure(&put.value).await?;
    Ok(answer::ensured(TopicView::from(&put.value), put.result, put.value.revision, ""))
}

/// Deletes a topic. It can be restored for 30 days; a topic that holds records must be named with its entity tag.
#[utoipa::path(delete, path = "/v1/topics/{topic}", operation_id = "deleteTopic", tag = "topics",
    params(("topic" = String, Path, description = "Name of the topic", example = "orders"), ChangeQuery,
           ("If-Match" = Option<String>, Header, description = "Entity tag; needed when the topic holds records", example = "\"r42\"")),
    security(("token" = ["topics:write"])),
    extensions(("x-problems" = json!(["precondition-failed", "precondition-required", "topic-deleted"]))),
    responses((status = 202, description = "Unreadable and unwritable from now on", body = TopicView)))]
async fn delete_topic(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(name): Path<TopicName>,
    Query(query): Query<ChangeQuery>,
    conditions: Conditions,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ManageTopic>(&actor, &name)?;
    let topic = grant.resource();
    if !conditions.has_if_match() && super::topic_view::holds_records(topic, &state.gateway) {
        let tag = format!("\"r{}\"", topic.revision);
        let hint =
            format!("curl -X DELETE $WEIR/v1/topics/{name} -H 'If-Match: {tag}' -H \"Authorization: Bearer $T\"");
        return Err(Problem::new(Code::PreconditionRequired, format!("The topic `{name}` holds records."))
            .with("current", tag)
            .hint(hint));
    }
    let mut tx = state.catalog.begin(&actor).await?;
    let deleted = tx.delete_topic(&grant, precondition(&conditions)?).await?;
    if query.dry_run {
        return Ok(answer::dry_run("deleted", Vec::new()));
    }
    tx.commit().await?;
    let headers = [(RESULT, HeaderValue::from_static("deleted"))];
    Ok((StatusCode::ACCEPTED, headers, Json(TopicView::from(&deleted))).into_response())
}

/// Restores a deleted topic.
#[utoipa::path(post, path = "/v1/topics/{topic}/restore", operation_id = "restoreTopic", tag = "topics",
    params(("topic" = String, Path, description = "Name of the topic", example = "orders")),
    security(("token" = ["topics:write"])), extensions(("x-problems" = json!(["conflict"]))),
    responses((status = 200, description = "The topic, readable and writable again", body = TopicView)))]
async fn restore_topic(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(name): Path<TopicName>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ManageTopic>(&actor, &name)?;
    let mut tx = state.catalog.begin(&actor).await?;
    let topic = tx.restore_topic(&grant).await?;
    tx.commit().await?;
    state.provision.ensure(&topic).await?;
    Ok(([(axum::http::header::ETAG, etag(topic.revision))], Json(TopicView::from(&topic))).into_response())
}

/// Removes a deleted topic at once and for good, and frees its name.
#[utoipa::path(post, path = "/v1/topics/{topic}/purge", operation_id = "purgeTopic", tag = "topics",
    params(("topic" = String, Path, description = "Name of the topic", example = "orders")),
    security(("token" = ["topics:write"])), extensions(("x-problems" = json!(["conflict"]))),
    responses((status = 204, description = "Gone")))]
async fn purge_topic(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(name): Path<TopicName>,
) -> ApiResult<StatusCode> {
    let grant = state.catalog.authorize::<ManageTopic>(&actor, &name)?;
    let mut tx = state.catalog.begin(&actor).await?;
    tx.purge_topic(&grant).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<Arc<Topic>> for TopicView {
    fn from(topic: Arc<Topic>) -> Self {
        Self::from(topic.as_ref())
    }
}
