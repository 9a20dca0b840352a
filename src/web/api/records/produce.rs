//! `POST /v1/topics/{topic}/records`: all or nothing, unless the client says `on_error=continue`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cloud_event;
use super::ingest::{self, BODY_BYTES_MAX, BodyKind, FromHeaders, Ingested, InputShape, bad_header};
use super::receipts::{self, Intake};
use crate::catalog::access::{Grant, Produce};
use crate::catalog::model::Topic;
use crate::gateway::{Idempotency, ProduceOptions, Produced};
use crate::names::{Offset, TopicName};
use crate::web::api::wire::Moment;
use crate::web::auth::Caller;
use crate::web::error::ApiResult;
use crate::web::extract::{Path, Query, read_body};
use crate::web::problem::{Code, FieldError, Problem};
use crate::web::state::WebState;

/// Longest time a body may take to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(60);
/// Longest Idempotency-Key, in bytes.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 64;
/// Names a repeated request.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that the answer is an earlier one.
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What to do about records that are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum OnError {
    /// Write nothing.
    #[default]
    Reject,
    /// Write the others, and answer 207.
    Continue,
}

/// Whether receipts are wanted while the body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum Receipts {
    /// One line for each batch that is on disk.
    Batch,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ProduceQuery {
    /// Key of the records that bring none. `Weir-Key` says the same.
    key: Option<String>,
    /// Write to this partition, whatever the keys say.
    partition: Option<u32>,
    /// Whether JSON is the value, or describes the record.
    #[serde(rename = "as", default)]
    #[param(inline, default = "value")]
    shape: InputShape,
    /// What to do about records that are refused.
    #[serde(default)]
    #[param(inline, default = "reject")]
    on_error: OnError,
    /// Write only if the next offset of `partition` is this one.
    if_offset: Option<i64>,
    /// NDJSON: write lines as they arrive, however long the body, and answer with a line for each batch.
    #[param(inline)]
    receipts: Option<Receipts>,
}

/// Where one record went.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"partition": 3, "offset": 18234, "timestamp": "2026-11-22T09:15:03.123Z"}))]
pub(super) struct ProducedOne {
    partition: u32,
    #[schema(value_type = i64)]
    offset: Offset,
    timestamp: Moment,
}

/// Where several records went.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"accepted": 2, "rejected": 0,
    "appended": [{"partition": 0, "first_offset": 100, "count": 2}], "cursor": "orders@7f3a1b2c/0:102"}))]
pub(super) struct ProducedMany {
    /// Records written.
    accepted: u64,
    /// Records refused.
    rejected: usize,
    /// Runs of adjacent offsets.
    appended: Vec<Run>,
    /// Right after what was written.
    cursor: String,
    /// What was wrong with the refused ones, at most 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

/// Adjacent offsets in one partition.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Run {
    partition: u32,
    #[schema(value_type = i64)]
    first_offset: Offset,
    count: u32,
}

/// Writes records, durably: what is acknowledged is on disk.
///
/// The Content-Type says what the body is: one JSON value, one JSON text a line, CloudEvents, or bytes. With `as=record`
/// the JSON has `key`, `value`, `headers` and `timestamp`, as readers get it. All or nothing, unless `on_error=continue`.
#[utoipa::path(post, path = "/v1/topics/{topic}/records", operation_id = "produceRecords", tag = "records",
    params(("topic" = String, Path, description = "Name of the topic", example = "orders"), ProduceQuery,
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated request harmless for 24 hours"),
        ("Weir-Key" = Option<String>, Header, description = "Key of the records that bring none"),
        ("Weir-Timestamp" = Option<String>, Header, description = "Time of the records that bring none")),
    request_body(content(
        (serde_json::Value = "application/json", example = json!({"order_id": "o-1", "total": 12.5})),
        (String = "application/x-ndjson"), (serde_json::Value = "application/cloudevents+json"),
        (Vec<serde_json::Value> = "application/cloudevents-batch+json"), (Vec<u8> = "application/octet-stream"))),
    security(("token" = ["records:produce"])),
    extensions(("x-problems" = json!(["malformed-json", "malformed-query", "invalid-header", "topic-deleted",
        "offset-mismatch", "payload-too-large", "record-too-large", "unsupported-media-type", "validation-failed",
        "unknown-field", "idempotency-key-reused", "request-timeout", "engine-busy", "storage-readonly", "draining"]))),
    responses(
        (status = 201, description = "One record was written", body = ProducedOne),
        (status = 200, description = "All records were written", body = ProducedMany),
        (status = 207, description = "Some were written, some refused (`on_error=continue`)", body = ProducedMany)))]
pub(super) async fn produce_records(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(name): Path<TopicName>,
    Query(query): Query<ProduceQuery>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<Produce>(&actor, &name)?;
    let kind = BodyKind::of(&headers)?;
    if query.receipts == Some(Receipts::Batch) {
        return endless(&state, grant, kind, &query, &headers, body);
    }
    check_length(&headers)?;
    let body = read_body(body, BODY_BYTES_MAX, BODY_TIME_MAX).await.map_err(nothing_written)?;
    let ingested = ingest(&query, &headers, kind, &body)?;
    let refused_all = ingested.records.is_empty() || query.on_error == OnError::Reject;
    if let Some(problem) = ingested.refusal().filter(|_| refused_all) {
        return Err(problem);
    }
    let options = ProduceOptions {
        partition: query.partition,
        if_offset: if_offset(&query)?,
        idempotency: idempotency(&headers, &uri, &body)?,
    };
    write(&state, &grant, ingested, options).await
}

/// An endless body: what is about one bounded request does not go with it.
fn endless(
    state: &WebState,
    grant: Grant<Produce>,
    kind: BodyKind,
    query: &ProduceQuery,
    headers: &HeaderMap,
    body: Body,
) -> ApiResult<Response> {
    if kind != BodyKind::JsonLines || query.if_offset.is_some() || headers.contains_key(&IDEMPOTENCY_KEY) {
        let detail = "`receipts` goes with NDJSON, and with neither `if_offset` nor an Idempotency-Key.";
        return Err(Problem::new(Code::MalformedQuery, detail));
    }
    let mut from_headers = FromHeaders::of(headers)?;
    if let Some(key) = &query.key {
        from_headers.key = Some(Bytes::from(key.clone()));
    }
    let permit = state.gateway.stream_permit(grant.actor()).map_err(crate::gateway::SubscribeError::from)?;
    let lenient = query.on_error == OnError::Continue;
    let intake = Intake { shape: query.shape, partition: query.partition, lenient, from_headers };
    Ok(receipts::respond(state, grant, permit, intake, body))
}

/// A body that says it is too large is refused before it is sent.
fn check_length(headers: &HeaderMap) -> Result<(), Problem> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    match length.and_then(|text| text.parse::<u64>().ok()) {
        Some(length) if length > BODY_BYTES_MAX as u64 => {
            let detail = format!("A body has at most {BODY_BYTES_MAX} bytes here.");
            Err(Problem::new(Code::PayloadTooLarge, detail).with("limit", BODY_BYTES_MAX))
        }
        _ => Ok(()),
    }
}

/// Whatever kept the body from arriving, nothing was written.
fn nothing_written(mut problem: Problem) -> Problem {
    problem.applied = Some(crate::web::problem::Applied::None);
    problem
}

fn ingest(query: &ProduceQuery, headers: &HeaderMap, kind: BodyKind, body: &Bytes) -> Result<Ingested, Problem> {
    if query.shape == InputShape::Record && !matches!(kind, BodyKind::Json | BodyKind::JsonLines) {
        let detail = "`as=record` is about JSON and NDJSON; bytes and CloudEvents are values.";
        return Err(Problem::new(Code::MalformedQuery, detail));
    }
    let mut from_headers = FromHeaders::of(headers)?;
    if let Some(key) = &query.key {
        from_headers.key = Some(Bytes::from(key.clone()));
    }
    let mut ingested = ingest::read(kind, query.shape, body)?;
    if matches!(kind, BodyKind::CloudEventJson | BodyKind::CloudEventBytes) {
        for (record, _) in &mut ingested.records {
            cloud_event::add_binary_attributes(headers, record)?;
        }
    }
    from_headers.complete(&mut ingested, body.len())?;
    Ok(ingested)
}

fn if_offset(query: &ProduceQuery) -> Result<Option<Offset>, Problem> {
    match query.if_offset {
        Some(offset) if offset < 0 => Err(Problem::new(Code::MalformedQuery, "`if_offset` is an offset, 0 or more.")),
        offset => Ok(offset.map(Offset)),
    }
}

/// The key, and a digest of everything that decides what the request does.
fn idempotency(headers: &HeaderMap, uri: &Uri, body: &Bytes) -> Result<Option<Idempotency>, Problem> {
    let Some(value) = headers.get(&IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.to_str().unwrap_or_default().trim().trim_matches('"');
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
        let takes = format!("takes 1 to {IDEMPOTENCY_KEY_BYTES_MAX} printable characters");
        return Err(bad_header(&IDEMPOTENCY_KEY, takes));
    }
    let mut digest = Sha256::new();
    let mut part = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    };
    part(uri.query().unwrap_or_default().as_bytes());
    for (name, value) in headers {
        if name == header::CONTENT_TYPE || name.as_str().starts_with("weir-") || name.as_str().starts_with("ce-") {
            part(name.as_str().as_bytes());
            part(value.as_bytes());
        }
    }
    part(body);
    Ok(Some(Idempotency { key: key.to_owned(), request: digest.finalize().into() }))
}

async fn write(
    state: &WebState,
    grant: &Grant<Produce>,
    mut ingested: Ingested,
    options: ProduceOptions,
) -> ApiResult<Response> {
    let records = std::mem::take(&mut ingested.records);
    let produced = state.gateway.produce_each(grant, records, options).await?;
    let mut response = if ingested.single {
        answer_one(grant.resource(), &produced)
    } else {
        answer_many(state, grant.resource(), &produced, &ingested)?
    };
    if produced.replayed {
        response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn answer_one(topic: &Topic, produced: &Produced) -> Response {
    let Some(run) = produced.appended.first() else {
        return crate::web::error::internal(&"a commit without an answer").into_response();
    };
    let partition = run.to.partition;
    let one = ProducedOne { partition, offset: run.first, timestamp: Moment(run.timestamp.to_datetime()) };
    let mut response = (StatusCode::CREATED, crate::web::extract::Json(one)).into_response();
    let location = format!("/v1/topics/{}/partitions/{partition}/records/{}", topic.name, run.first);
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn answer_many(state: &WebState, topic: &Arc<Topic>, produced: &Produced, refused: &Ingested) -> ApiResult<Response> {
    let runs = produced.appended.iter();
    let many = ProducedMany {
        accepted: produced.records(),
        rejected: refused.refused.len(),
        appended: runs
            .map(|run| Run { partition: run.to.partition, first_offset: run.first, count: run.count })
            .collect(),
        cursor: state.gateway.after(topic, produced)?.cursor().to_string(),
        errors: refused.errors(),
    };
    let status = if refused.refused.is_empty() { StatusCode::OK } else { StatusCode::MULTI_STATUS };
    Ok((status, crate::web::extract::Json(many)).into_response())
}
