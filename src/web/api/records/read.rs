//! `GET /v1/topics/{topic}/records`: one address, three shapes. A page, a stream of events, a stream of lines.

use std::time::Duration;

use axum::extract::State;
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{HeaderName, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;

use super::ingest::bad_header;
use super::stream;
use crate::catalog::access::{Actor, Consume, Grant};
use crate::gateway::position::parse_duration;
use crate::gateway::{OnGap, Page, Position, ReadRequest};
use crate::names::{Offset, TopicName};
use crate::web::auth::{Caller, Person};
use crate::web::error::ApiResult;
use crate::web::extract::{Path, Query, printable};
use crate::web::problem::{Code, Problem};
use crate::web::sse::render::{Renderer, Shape, shown, write_string};
use crate::web::state::WebState;

/// Most records of a page.
const PAGE_RECORDS_MAX: u64 = 1000;
/// Records of a page, unless the client says otherwise.
const PAGE_RECORDS: u64 = 100;
/// Most bytes of keys and values of a page.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// Bytes of a page, unless the client says otherwise.
const PAGE_BYTES: usize = 1 << 20;
/// Longest wait of a long poll.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Most beginnings of names in `topics`: each is compared with the name of every topic.
const PREFIXES_MAX: usize = 32;
/// What a client that reconnects has seen last.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The shape of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum OutputFormat {
    /// A bounded page.
    Json,
    /// Server-sent events.
    Sse,
    /// One JSON text a line.
    Ndjson,
}

/// What a record looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum OutputShape {
    /// Topic, partition, offset, timestamp, key, headers and value.
    #[default]
    Record,
    /// The value alone.
    Value,
    /// A CloudEvent.
    CloudEvent,
}

impl From<OutputShape> for Shape {
    fn from(shape: OutputShape) -> Self {
        match shape {
            OutputShape::Record => Self::Record,
            OutputShape::Value => Self::Value,
            OutputShape::CloudEvent => Self::CloudEvent,
        }
    }
}

/// What to do about records that retention removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum GapChoice {
    Fail,
    Skip,
}

/// Which events carry an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Ids {
    /// The last of each chunk that is sent; while live that is every one.
    #[default]
    Flush,
    /// Each.
    Each,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReadQuery {
    #[param(ignore)]
    topics: Option<String>,
    /// `earliest`, `latest`, `-100` (records), `-15m` (time), a date, or a cursor. Pages begin at `earliest`, streams at
    /// `latest`, unless this says otherwise.
    #[param(example = "-15m")]
    from: Option<String>,
    /// Where to stop: `latest` (the end as it is now), `-DURATION`, a date, or a cursor.
    to: Option<String>,
    /// The shape of the answer; the `Accept` header says the same.
    #[param(inline)]
    format: Option<OutputFormat>,
    /// Page: at most so many records, 1 to 1000, 100 unless given. Stream: stop after so many.
    limit: Option<u64>,
    /// Page: at most about so many bytes, up to 8 MiB.
    max_bytes: Option<usize>,
    /// Page: seconds to wait for the first record, 0 to 60. `Prefer: wait=30` says the same.
    wait: Option<u64>,
    /// Only these partitions: `0,3`.
    partition: Option<String>,
    /// What a record looks like.
    #[serde(rename = "as", default)]
    #[param(inline, default = "record")]
    shape: OutputShape,
    /// Only records with exactly this key.
    key: Option<String>,
    /// What to do about records that are no longer kept. Pages and NDJSON `fail`, event streams `skip`, unless given.
    #[param(inline)]
    on_gap: Option<GapChoice>,
    /// Which server-sent events carry an id.
    #[serde(default)]
    #[param(inline, default = "flush")]
    pub(super) ids: Ids,
    /// NDJSON: also write control lines such as `{"weir.end":{…}}`.
    #[serde(default)]
    pub(super) control: bool,
    /// Streams: silence after which a heartbeat is sent, `1s` to `60s`.
    #[param(default = "15s")]
    heartbeat: Option<String>,
    /// Where to go on; the `Last-Event-ID` header says the same.
    last_event_id: Option<String>,
    #[serde(rename = "lastEventId")]
    #[param(ignore)]
    last_event_id_of_polyfills: Option<String>,
}

/// A query, understood.
pub(super) struct Wanted {
    pub format: OutputFormat,
    pub shape: Shape,
    pub from: Position,
    pub to: Option<Position>,
    pub on_gap: OnGap,
    pub partitions: Option<Vec<u32>>,
    pub key: Option<Bytes>,
    pub limit: Option<u64>,
    pub heartbeat: Duration,
}

/// Reads records: a page, or a stream.
///
/// `Accept: text/event-stream` and `Accept: application/x-ndjson` stream: everything from `from` on, then live. Otherwise
/// the answer is one page; `next` is the `from` of the next one.
#[utoipa::path(get, path = "/v1/topics/{topic}/records", operation_id = "readRecords", tag = "records",
    params(("topic" = String, Path, description = "Name of the topic", example = "orders"), ReadQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "Where to go on; stronger than `from`")),
    security(("token" = ["records:consume"])),
    extensions(("x-problems" = json!(["malformed-query", "invalid-cursor", "not-acceptable", "topic-deleted",
        "cursor-expired", "cursor-ahead", "topic-recreated", "too-many-partitions", "too-many-streams", "draining"]))),
    responses((status = 200, description = "Records", content(
        (serde_json::Value = "application/json", example = json!({"records": [{"topic": "orders", "partition": 0,
            "offset": 543, "timestamp": "2026-11-22T09:15:03.123Z", "key": "o-1",
            "value": {"order_id": "o-1", "total": 12.5}}],
            "next": "orders@7f3a1b2c/0:544", "end": "orders@7f3a1b2c/0:544", "behind": 0})),
        (String = "text/event-stream"), (String = "application/x-ndjson")))))]
pub(super) async fn read_records(
    State(state): State<WebState>,
    caller: Result<Caller, Problem>,
    person: Result<Option<Person>, Problem>,
    name: Result<Path<TopicName>, Problem>,
    query: Result<Query<ReadQuery>, Problem>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let (Caller(actor), Path(name), Query(query)) = (caller?, name?, query?);
        let grants = vec![state.catalog.authorize::<Consume>(&actor, &name)?];
        answer(&state, grants, Vec::new(), &query, person?, &headers).await
    };
    finish(answer.await, &uri, &headers)
}

/// Reads records of several topics at once.
#[utoipa::path(get, path = "/v1/records", operation_id = "readTopics", tag = "records",
    params(("topics" = String, Query, description = "Names of topics, or beginnings with `*`; of these, the readable ones",
        example = "orders,flights.*"), ReadQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "Where to go on; stronger than `from`")),
    security(("token" = ["records:consume"])),
    extensions(("x-problems" = json!(["malformed-query", "invalid-cursor", "not-acceptable", "topic-deleted",
        "cursor-expired", "cursor-ahead", "topic-recreated", "too-many-partitions", "too-many-streams", "draining"]))),
    responses((status = 200, description = "Records, as of one topic", content(
        (serde_json::Value = "application/json"), (String = "text/event-stream"), (String = "application/x-ndjson")))))]
pub(super) async fn read_topics(
    State(state): State<WebState>,
    caller: Result<Caller, Problem>,
    person: Result<Option<Person>, Problem>,
    query: Result<Query<ReadQuery>, Problem>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let (Caller(actor), Query(query)) = (caller?, query?);
        let (grants, prefixes) = topics_of(&state, &actor, query.topics.as_deref())?;
        answer(&state, grants, prefixes, &query, person?, &headers).await
    };
    finish(answer.await, &uri, &headers)
}

/// Reads one record: what links in logs and incidents point to.
#[utoipa::path(get, path = "/v1/topics/{topic}/partitions/{partition}/records/{offset}", operation_id = "getRecord",
    tag = "records",
    params(("topic" = String, Path, description = "Name of the topic", example = "orders"),
        ("partition" = u32, Path, description = "Number of the partition", example = 0),
        ("offset" = i64, Path, description = "Offset of the record", example = 543)),
    security(("token" = ["records:consume"])),
    extensions(("x-problems" = json!(["topic-deleted", "cursor-expired", "cursor-ahead"]))),
    responses((status = 200, description = "The record", body = serde_json::Value)))]
pub(super) async fn get_record(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path((name, partition, offset)): Path<(TopicName, u32, i64)>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<Consume>(&actor, &name)?;
    if offset < 0 {
        return Err(Problem::new(Code::NotFound, "Offsets begin at 0.").with("kind", "record"));
    }
    let record = state.gateway.record(&grant, partition, Offset(offset)).await?;
    let mut renderer = Renderer::new(Shape::Record);
    let mut body = Vec::new();
    renderer.partition(record.topic.name.as_str(), record.partition);
    renderer.record(&mut body, shown(&record));
    Ok(json_body(body))
}

/// A browser's `EventSource` is closed for good by any status but 200, and would not learn why.
fn finish(answer: ApiResult<Response>, uri: &Uri, headers: &HeaderMap) -> Response {
    let by_cookie = !headers.contains_key(header::AUTHORIZATION) && headers.contains_key(header::COOKIE);
    let asked_for = |text: &str| {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        accept.contains("text/event-stream") || text.split('&').any(|pair| pair == "format=sse")
    };
    match answer {
        Err(problem) if by_cookie && asked_for(uri.query().unwrap_or_default()) => crate::web::sse::refuse(&problem),
        answer => answer.into_response(),
    }
}

async fn answer(
    state: &WebState,
    grants: Vec<Grant<Consume>>,
    prefixes: Vec<String>,
    query: &ReadQuery,
    person: Option<Person>,
    headers: &HeaderMap,
) -> ApiResult<Response> {
    let wanted = wanted(query, headers)?;
    if wanted.format == OutputFormat::Json {
        return page(state, &grants, query, wanted, headers).await;
    }
    stream::open(state, grants, prefixes, query, wanted, person).await
}

async fn page(
    state: &WebState,
    grants: &[Grant<Consume>],
    query: &ReadQuery,
    wanted: Wanted,
    headers: &HeaderMap,
) -> ApiResult<Response> {
    let records_max = in_range("limit", wanted.limit.unwrap_or(PAGE_RECORDS), 1, PAGE_RECORDS_MAX)?;
    let bytes_max = query.max_bytes.unwrap_or(PAGE_BYTES);
    if bytes_max == 0 || bytes_max > PAGE_BYTES_MAX {
        return Err(malformed(format!("`max_bytes` takes 1 to {PAGE_BYTES_MAX}.")));
    }
    let wait = match query.wait {
        Some(wait) => in_range("wait", wait, 0, WAIT_MAX.as_secs())?,
        None => preferred_wait(headers).unwrap_or_default().min(WAIT_MAX.as_secs()),
    };
    let request = ReadRequest {
        partitions: wanted.partitions,
        from: wanted.from,
        to: wanted.to,
        on_gap: wanted.on_gap,
        records_max: usize::try_from(records_max).unwrap_or(usize::MAX),
        bytes_max,
        key: wanted.key,
        wait: Duration::from_secs(wait),
    };
    // A long poll must not keep the process from stopping.
    let read = state.gateway.read(grants, request);
    let page = tokio::select! {
        page = read => page?,
        () = state.shutdown.token.cancelled() => {
            return Err(Problem::new(Code::Draining, "This instance is stopping.").retry_after(2));
        }
    };
    Ok(json_body(render_page(&page, wanted.shape)))
}

fn render_page(page: &Page, shape: Shape) -> Vec<u8> {
    let mut renderer = Renderer::new(shape);
    let mut body = b"{\"records\":[".to_vec();
    for (index, record) in page.records.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        renderer.partition(record.topic.name.as_str(), record.partition);
        renderer.record(&mut body, shown(record));
    }
    body.extend_from_slice(b"],\"next\":\"");
    // A cursor has no character that JSON escapes.
    page.next.write_cursor(&mut body, None);
    body.extend_from_slice(b"\",\"end\":\"");
    page.end.write_cursor(&mut body, None);
    body.extend_from_slice(format!("\",\"behind\":{}", page.behind()).as_bytes());
    if !page.gaps.is_empty() {
        body.extend_from_slice(b",\"gaps\":[");
        for (index, gap) in page.gaps.iter().enumerate() {
            body.extend_from_slice(if index > 0 { b",{\"topic\":" } else { b"{\"topic\":" });
            write_string(&mut body, gap.topic.as_str());
            let place = (gap.partition, gap.missing_from, gap.resumed_at);
            let rest = format!(",\"partition\":{},\"missing_from\":{},\"resumed_at\":{}}}", place.0, place.1, place.2);
            body.extend_from_slice(rest.as_bytes());
        }
        body.push(b']');
    }
    body.push(b'}');
    body
}

fn json_body(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

fn malformed(detail: String) -> Problem {
    Problem::new(Code::MalformedQuery, detail)
}

fn in_range(name: &str, value: u64, least: u64, most: u64) -> Result<u64, Problem> {
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        Err(malformed(format!("`{name}` takes {least} to {most}, not {value}.")))
    }
}

fn wanted(query: &ReadQuery, headers: &HeaderMap) -> Result<Wanted, Problem> {
    let format = match query.format {
        Some(format) => format,
        None => accepted_format(headers)?,
    };
    let (default_from, default_gap) = match format {
        OutputFormat::Json => (Position::Earliest, OnGap::Fail),
        OutputFormat::Ndjson if !query.control => (Position::Latest, OnGap::Fail),
        OutputFormat::Ndjson | OutputFormat::Sse => (Position::Latest, OnGap::Skip),
    };
    let on_gap = match query.on_gap {
        None => default_gap,
        Some(GapChoice::Fail) => OnGap::Fail,
        Some(GapChoice::Skip) => OnGap::Skip,
    };
    let heartbeat = query.heartbeat.as_deref().map(heartbeat).transpose()?;
    Ok(Wanted {
        format,
        shape: query.shape.into(),
        from: from(query, headers)?.unwrap_or(default_from),
        to: query.to.as_deref().map(str::parse).transpose()?,
        on_gap,
        partitions: query.partition.as_deref().map(partitions).transpose()?,
        key: query.key.clone().map(Bytes::from),
        limit: query.limit,
        heartbeat: heartbeat.unwrap_or(crate::web::sse::HEARTBEAT),
    })
}

/// What a client has seen last is stronger than where it wanted to begin: it repeats its first address when it reconnects.
fn from(query: &ReadQuery, headers: &HeaderMap) -> Result<Option<Position>, Problem> {
    let header = match headers.get(&LAST_EVENT_ID) {
        None => None,
        Some(value) => Some(value.to_str().map_err(|_| bad_header(&LAST_EVENT_ID, "takes the id of an event"))?),
    };
    let seen = header
        .or(query.last_event_id.as_deref())
        .or(query.last_event_id_of_polyfills.as_deref())
        .filter(|seen| !seen.is_empty());
    match seen {
        Some(seen) => {
            let cursor = seen.parse().map(Position::Cursor);
            cursor.map(Some).map_err(|error: crate::gateway::cursor::CursorError| {
                Problem::new(Code::InvalidCursor, format!("The last event id is not a cursor: {error}."))
            })
        }
        None => Ok(query.from.as_deref().map(str::parse).transpose()?),
    }
}

fn partitions(text: &str) -> Result<Vec<u32>, Problem> {
    let numbers: Result<Vec<u32>, _> = text.split(',').map(|number| number.trim().parse()).collect();
    numbers.map_err(|_| malformed(format!("`partition` takes numbers such as 0,3, not `{}`.", printable(text))))
}

fn heartbeat(text: &str) -> Result<Duration, Problem> {
    parse_duration(text)
        .filter(|span| (Duration::from_secs(1)..=Duration::from_secs(60)).contains(span))
        .ok_or_else(|| malformed("`heartbeat` takes 1s to 60s.".to_owned()))
}

/// `Prefer: wait=30` (RFC 7240).
fn preferred_wait(headers: &HeaderMap) -> Option<u64> {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split([',', ';']));
    preferences.find_map(|preference| preference.trim().strip_prefix("wait=")?.trim_matches('"').parse().ok())
}

/// The best format that the client accepts; JSON if it does not care.
fn accepted_format(headers: &HeaderMap) -> Result<OutputFormat, Problem> {
    let mut best: Option<(f32, OutputFormat)> = None;
    let mut any = false;
    for value in headers.get_all(header::ACCEPT) {
        for range in value.to_str().unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts.find_map(|p| p.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
            let format = match kind.as_str() {
                "" => continue,
                "text/event-stream" => Some(OutputFormat::Sse),
                "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => {
                    Some(OutputFormat::Ndjson)
                }
                "application/json" | "application/*" | "*/*" => Some(OutputFormat::Json),
                "text/*" => Some(OutputFormat::Sse),
                _ => None,
            };
            any = true;
            if let Some(format) = format.filter(|_| quality > 0.0 && best.is_none_or(|(q, _)| quality > q)) {
                best = Some((quality, format));
            }
        }
    }
    match best {
        Some((_, format)) => Ok(format),
        None if !any => Ok(OutputFormat::Json),
        None => Err(Problem::new(Code::NotAcceptable, "No shape of this answer fits the Accept header.")
            .with("available", vec!["application/json", "text/event-stream", "application/x-ndjson"])),
    }
}

type Topics = (Vec<Grant<Consume>>, Vec<String>);

/// The topics of `topics=a,b,flights.*`: named ones must be readable, matching ones are those that are.
fn topics_of(state: &WebState, actor: &std::sync::Arc<Actor>, text: Option<&str>) -> Result<Topics, Problem> {
    let text = text.ok_or_else(|| malformed("`topics` is needed: names, or beginnings with `*`.".to_owned()))?;
    let mut grants: Vec<Grant<Consume>> = Vec::new();
    let mut prefixes: Vec<String> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        if grants.len() > crate::gateway::locate::PARTITIONS_MAX {
            break;
        }
        if let Some(prefix) = part.strip_suffix('*') {
            if prefixes.iter().all(|known| known != prefix) {
                prefixes.push(prefix.to_owned());
            }
            if prefixes.len() > PREFIXES_MAX {
                return Err(malformed(format!("`topics` takes at most {PREFIXES_MAX} beginnings with `*`.")));
            }
            continue;
        }
        let name: TopicName = part.parse().map_err(|error| malformed(format!("`topics`: {error}.")))?;
        if grants.iter().all(|grant| grant.resource().name != name) {
            grants.push(state.catalog.authorize(actor, &name)?);
        }
    }
    let view = state.catalog.view();
    let matching = view.topics().filter(|topic| prefixes.iter().any(|p| topic.name.as_str().starts_with(p.as_str())));
    for topic in matching {
        if grants.len() > crate::gateway::locate::PARTITIONS_MAX {
            break;
        }
        if grants.iter().all(|grant| grant.resource().name != topic.name) {
            grants.extend(state.catalog.authorize(actor, &topic.name).ok());
        }
    }
    if grants.is_empty() {
        return Err(Problem::new(Code::NotFound, "There is no such topic that you may read.").with("kind", "topic"));
    }
    Ok((grants, prefixes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(accept: &'static str) -> Result<OutputFormat, Code> {
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
        accepted_format(&headers).map_err(|problem| problem.code)
    }

    #[test]
    fn the_accept_header_chooses_the_shape() {
        assert_eq!(accepted_format(&HeaderMap::new()).unwrap(), OutputFormat::Json);
        for (accept, format) in [
            ("*/*", OutputFormat::Json),
            ("text/html,application/xhtml+xml,*/*;q=0.8", OutputFormat::Json),
            ("text/event-stream", OutputFormat::Sse),
            ("application/json;q=0.5, text/event-stream", OutputFormat::Sse),
            ("application/x-ndjson", OutputFormat::Ndjson),
            ("application/jsonl, application/json", OutputFormat::Ndjson),
        ] {
            assert_eq!(accepted(accept), Ok(format), "{accept}");
        }
        assert_eq!(accepted("text/html"), Err(Code::NotAcceptable));
        assert_eq!(accepted("text/event-stream;q=0"), Err(Code::NotAcceptable));
    }

    #[test]
    fn a_preference_to_wait_is_understood() {
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static("prefer"),
            HeaderValue::from_static("respond-async, wait=30"),
        )]);
        assert_eq!(preferred_wait(&headers), Some(30));
        assert_eq!(preferred_wait(&HeaderMap::new()), None);
    }
}
