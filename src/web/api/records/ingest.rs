//! From a request body to records. JSON is checked, never re-encoded: a value is a slice of the body.

use std::fmt;

use axum::http::header::{HeaderMap, HeaderName};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::value::RawValue;

use super::cloud_event;
use super::envelope::Envelope;
use crate::broker::record::{Record, ValueKind};
use crate::clock::Timestamp;
use crate::gateway::position::parse_moment;
use crate::web::extract::{nests_deeper_than, printable};
use crate::web::problem::{Code, FieldError, Problem};

/// Most bytes of one record: key, value and headers.
pub const RECORD_BYTES_MAX: usize = 1 << 20;
/// Most bytes of one body, after decompression.
pub const BODY_BYTES_MAX: usize = 8 << 20;
/// Most records of one body.
pub const RECORDS_MAX: usize = 10_000;
/// Most headers of one record.
pub const HEADERS_MAX: usize = 128;
/// Most levels of a JSON value: what readers' parsers take, with the levels around it.
pub const VALUE_DEPTH_MAX: usize = 100;

/// What the Content-Type says the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// One JSON text.
    Json,
    /// One JSON text a line.
    JsonLines,
    /// One CloudEvent in structured form.
    CloudEvent,
    /// A JSON array of CloudEvents.
    CloudEvents,
    /// A CloudEvent whose attributes are `ce-` headers; the body is its data, which is JSON.
    CloudEventJson,
    /// The same with data that is not JSON.
    CloudEventBytes,
    /// Bytes.
    Bytes,
}

const ACCEPTED: [&str; 6] = [
    "application/json",
    "application/x-ndjson",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "application/octet-stream",
    "text/plain",
];

impl BodyKind {
    /// Reads the headers. A form is refused: that is what `curl -d` says when nobody said anything (decision 13).
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let encoding = headers.get(axum::http::header::CONTENT_ENCODING).and_then(|value| value.to_str().ok());
        if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
            return Err(Problem::new(Code::UnsupportedMediaType, "The body's Content-Encoding is not taken here.")
                .with("accepted_encodings", vec!["gzip", "zstd"]));
        }
        let kind = crate::web::extract::content_type(headers).unwrap_or_default();
        let binary_event = headers.contains_key("ce-specversion") && !kind.starts_with("application/cloudevents");
        let json = kind == "application/json" || kind == "text/json" || kind.ends_with("+json");
        Ok(match kind.as_str() {
            "application/cloudevents+json" => Self::CloudEvent,
            "application/cloudevents-batch+json" => Self::CloudEvents,
            _ if binary_event && json => Self::CloudEventJson,
            _ if binary_event => Self::CloudEventBytes,
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => {
                Self::JsonLines
            }
            _ if json => Self::Json,
            "" | "application/x-www-form-urlencoded" | "multipart/form-data" => return Err(not_taken(&kind)),
            _ => Self::Bytes,
        })
    }
}

fn not_taken(kind: &str) -> Problem {
    let detail = match kind {
        "" => "The request does not say what its body is.".to_owned(),
        _ => format!("`{kind}` is what curl says when nothing else is said; forms are not records."),
    };
    Problem::new(Code::UnsupportedMediaType, detail)
        .with("accepted", ACCEPTED.to_vec())
        .hint("curl -H 'Content-Type: application/json' -d '{\"order_id\":\"o-1\"}' …; for lines: -H 'Content-Type: application/x-ndjson' --data-binary @file")
}

/// Whether JSON is the value of a record, or describes the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum InputShape {
    /// The JSON text is the value.
    #[default]
    Value,
    /// The JSON text has `key`, `value`, `headers`, `timestamp`: what a reader gets.
    Record,
}

/// What was wrong with one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub pointer: String,
    pub detail: String,
}

impl Refusal {
    pub fn new(code: Code, pointer: &str, detail: impl Into<String>) -> Self {
        Self { code, pointer: pointer.to_owned(), detail: detail.into() }
    }
}

/// What a body holds.
#[derive(Debug, Default)]
pub struct Ingested {
    /// The records that are fine.
    pub records: Vec<(Record, ValueKind)>,
    /// Their zero-based numbers.
    items: Vec<usize>,
    /// The others, by their zero-based number: the line of NDJSON, the place in an array.
    pub refused: Vec<(usize, Refusal)>,
    /// The body has the form for exactly one record.
    pub single: bool,
}

impl Ingested {
    fn take(&mut self, item: usize, outcome: Result<(Record, ValueKind), Refusal>) {
        match outcome.and_then(check_size) {
            Ok(record) => {
                self.records.push(record);
                self.items.push(item);
            }
            Err(refusal) => self.refused.push((item, refusal)),
        }
    }

    /// The refusal of the whole, nothing of which was written.
    #[must_use]
    pub fn refusal(&self) -> Option<Problem> {
        let (first_item, first) = self.refused.first()?;
        let count = self.refused.len();
        let detail = match (self.single, count, self.records.len() + count) {
            (true, ..) => first.detail.clone(),
            (false, 1, _) => format!("Record {first_item} (counted from 0): {}. Nothing was written.", first.detail),
            (false, _, all) => format!(
                "{count} of {all} records were refused, the first is record {first_item} (counted from 0): {}. Nothing was written.",
                first.detail
            ),
        };
        let problem = Problem::new(first.code, detail);
        let problem =
            if first.code == Code::RecordTooLarge { problem.with("limit", RECORD_BYTES_MAX) } else { problem };
        Some(self.errors().into_iter().fold(problem, Problem::error))
    }

    /// What was wrong, record by record.
    #[must_use]
    pub fn errors(&self) -> Vec<FieldError> {
        let error = |(item, refusal): &(usize, Refusal)| FieldError {
            item: (!self.single).then_some(*item),
            pointer: refusal.pointer.clone(),
            detail: refusal.detail.clone(),
        };
        self.refused.iter().take(100).map(error).collect()
    }
}

fn check_size((record, kind): (Record, ValueKind)) -> Result<(Record, ValueKind), Refusal> {
    let of = |bytes: Option<&Bytes>| bytes.map_or(0, Bytes::len);
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + of(value.as_ref())).sum();
    let size = of(record.key.as_ref()) + of(record.value.as_ref()) + headers;
    if size > RECORD_BYTES_MAX {
        let detail = format!("the record has {size} bytes; {RECORD_BYTES_MAX} are the limit");
        return Err(Refusal::new(Code::RecordTooLarge, "", detail));
    }
    if record.headers.len() > HEADERS_MAX {
        let detail = format!("a record has at most {HEADERS_MAX} headers");
        return Err(Refusal::new(Code::ValidationFailed, "/headers", detail));
    }
    Ok((record, kind))
}

/// Reads the body as records.
pub fn read(kind: BodyKind, shape: InputShape, body: &Bytes) -> Result<Ingested, Problem> {
    match kind {
        BodyKind::JsonLines => lines(shape, body),
        BodyKind::Json if shape == InputShape::Record => envelopes(body),
        BodyKind::CloudEvents => cloud_events(body),
        BodyKind::Json => Ok(single(json_value(body))),
        BodyKind::CloudEvent => Ok(single(cloud_event::structured(body, whole(body)))),
        // The attributes of the event come from the headers, later.
        BodyKind::CloudEventJson => Ok(single(json_value(body))),
        BodyKind::CloudEventBytes | BodyKind::Bytes => {
            let record = Record { value: Some(body.clone()), ..Record::default() };
            Ok(single(Ok((record, ValueKind::Bytes))))
        }
    }
}

fn single(outcome: Result<(Record, ValueKind), Refusal>) -> Ingested {
    let mut ingested = Ingested { single: true, ..Ingested::default() };
    ingested.take(0, outcome);
    ingested
}

fn lines(shape: InputShape, body: &Bytes) -> Result<Ingested, Problem> {
    let mut ingested = Ingested::default();
    let mut start = 0;
    let ends = memchr::memchr_iter(b'\n', body).chain(std::iter::once(body.len()));
    for (number, end) in ends.enumerate() {
        let line = start..end;
        start = end + 1;
        // A blank line is the heartbeat of an NDJSON stream; copying one must not fail on it.
        if body[line.clone()].iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if ingested.records.len() + ingested.refused.len() == RECORDS_MAX {
            return Err(too_many());
        }
        let line = body.slice(line);
        let outcome = match shape {
            InputShape::Value => json_value(&line),
            InputShape::Record => whole(&line).and_then(|text| Envelope::read(text)?.into_record(&line)),
        };
        ingested.take(number, outcome);
    }
    if ingested.records.is_empty() && ingested.refused.is_empty() {
        return Err(Problem::new(Code::ValidationFailed, "The body holds no record."));
    }
    Ok(ingested)
}

fn too_many() -> Problem {
    Problem::new(Code::PayloadTooLarge, format!("One request takes at most {RECORDS_MAX} records."))
        .with("limit", RECORDS_MAX)
}

/// One envelope, or an array of them.
fn envelopes(body: &Bytes) -> Result<Ingested, Problem> {
    let is_array = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    if !is_array {
        return Ok(single(whole(body).and_then(|text| Envelope::read(text)?.into_record(body))));
    }
    each(body, |item| Envelope::read(item)?.into_record(body))
}

fn cloud_events(body: &Bytes) -> Result<Ingested, Problem> {
    each(body, |item| cloud_event::structured(body, Ok(item)))
}

/// Applies `read` to each element of a JSON array.
fn each(body: &Bytes, read: impl Fn(&RawValue) -> Result<(Record, ValueKind), Refusal>) -> Result<Ingested, Problem> {
    let items: Vec<&RawValue> = serde_json::from_slice(body).map_err(|error| {
        let refusal = malformed(&error, "a JSON array of records");
        Problem::new(refusal.code, refusal.detail)
    })?;
    if items.len() > RECORDS_MAX {
        return Err(too_many());
    }
    if items.is_empty() {
        return Err(Problem::new(Code::ValidationFailed, "The body holds no record."));
    }
    let mut ingested = Ingested::default();
    for (number, item) in items.into_iter().enumerate() {
        ingested.take(number, read(item));
    }
    Ok(ingested)
}

/// The one JSON text that the bytes are.
fn whole(text: &Bytes) -> Result<&RawValue, Refusal> {
    serde_json::from_slice(text).map_err(|error| malformed(&error, "one JSON text"))
}

/// The bytes as the value of a record.
fn json_value(text: &Bytes) -> Result<(Record, ValueKind), Refusal> {
    let record = Record { value: stored_json("", text, whole(text)?)?, ..Record::default() };
    Ok((record, ValueKind::Json))
}

/// The JSON text as it is stored: a slice of the body it was found in, unless line breaks must become blanks. Line
/// breaks stand outside strings, where JSON allows them; inside they are escaped. `null` is a tombstone. What no parser
/// of a reader would take for its depth is refused; `pointer` says where it stands.
pub fn stored_json(pointer: &str, body: &Bytes, json: &RawValue) -> Result<Option<Bytes>, Refusal> {
    if nests_deeper_than(VALUE_DEPTH_MAX, json.get()) {
        let detail = format!("the value is nested deeper than {VALUE_DEPTH_MAX} levels");
        return Err(Refusal::new(Code::ValidationFailed, pointer, detail));
    }
    let text = json.get().as_bytes();
    if text == b"null" {
        return Ok(None);
    }
    if memchr::memchr2(b'\n', b'\r', text).is_none() {
        return Ok(Some(body.slice_ref(text)));
    }
    let blank = |byte: &u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte };
    Ok(Some(text.iter().map(blank).collect()))
}

pub fn malformed(error: &serde_json::Error, wanted: &str) -> Refusal {
    let full = error.to_string();
    let what = full.rsplit_once(" at line ").map_or(full.as_str(), |(what, _)| what);
    let (line, column) = (error.line(), error.column());
    let detail = match error.classify() {
        serde_json::error::Category::Data => format!("{wanted} is expected: {}", printable(what)),
        _ if line <= 1 => format!("not {wanted}: {} at column {column}", printable(what)),
        _ => format!("not {wanted}: {} at line {line}, column {column}", printable(what)),
    };
    let code = if error.is_data() { Code::ValidationFailed } else { Code::MalformedJson };
    Refusal::new(code, "", detail)
}

/// A timestamp as clients write it: RFC 3339, or milliseconds since 1970.
pub fn parse_timestamp(text: &str) -> Option<Timestamp> {
    /// The end of the year 9999.
    const LAST: i64 = 253_402_300_799_999;
    let parsed = match text.parse() {
        Ok(ms) => Some(Timestamp(ms)),
        Err(_) => parse_moment(text),
    };
    parsed.filter(|timestamp| (0..=LAST).contains(&timestamp.0))
}

pub fn decode_base64(pointer: &str, text: &str) -> Result<Bytes, Refusal> {
    STANDARD
        .decode(text)
        .map(Bytes::from)
        .map_err(|error| Refusal::new(Code::ValidationFailed, pointer, format!("not base64: {error}")))
}

/// What a header costs beside its name and value when it is added to each record; what HTTP/2 reckons for one.
const HEADER_COST: usize = 32;

/// What `Weir-Key`, `Weir-Timestamp` and `Weir-Header-…` say about the records of a body.
#[derive(Debug, Default)]
pub struct FromHeaders {
    pub key: Option<Bytes>,
    pub timestamp: Option<Timestamp>,
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl FromHeaders {
    /// Reads the request's headers.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut read = Self::default();
        for (name, value) in headers {
            let bad = |takes: &str| bad_header(name, takes);
            match name.as_str() {
                "weir-key" if read.key.is_some() => return Err(bad("may be sent once only")),
                "weir-key" => read.key = Some(Bytes::copy_from_slice(value.as_bytes())),
                "weir-timestamp" => {
                    let text = value.to_str().ok().and_then(parse_timestamp);
                    read.timestamp = Some(text.ok_or_else(|| bad("takes a date such as 2026-11-22T09:15:03Z"))?);
                }
                other => {
                    if let Some(name) = other.strip_prefix("weir-header-").filter(|name| !name.is_empty()) {
                        let value = Bytes::copy_from_slice(value.as_bytes());
                        read.headers.push((name.to_owned(), Some(value)));
                    }
                }
            }
        }
        Ok(read)
    }

    /// Completes the records with what they do not say themselves, and refuses those that become too large. `body` is
    /// the length of what they were read from: together they stay below what a body may have.
    pub fn complete(&self, ingested: &mut Ingested, body: usize) -> Result<(), Problem> {
        let records = std::mem::take(&mut ingested.records);
        let without_key = records.iter().filter(|(record, _)| record.key.is_none()).count();
        let added = without_key * self.key_bytes() + records.len() * self.headers_bytes();
        if added > 0 && added + body > BODY_BYTES_MAX {
            let detail = format!(
                "The body and what the headers add to each of its {} records have more than {BODY_BYTES_MAX} bytes.",
                records.len()
            );
            return Err(Problem::new(Code::PayloadTooLarge, detail).with("limit", BODY_BYTES_MAX));
        }
        let items = std::mem::take(&mut ingested.items);
        for ((mut record, kind), item) in records.into_iter().zip(items) {
            if record.key.is_none() {
                record.key.clone_from(&self.key);
            }
            record.timestamp = record.timestamp.or(self.timestamp);
            record.headers.extend(self.headers.iter().cloned());
            ingested.take(item, Ok((record, kind)));
        }
        ingested.refused.sort_by_key(|(item, _)| *item);
        Ok(())
    }

    /// How many records can be completed at once if their lines leave half of a body's room.
    pub fn records_max(&self) -> usize {
        let each = (self.key_bytes() + self.headers_bytes()).max(1);
        (BODY_BYTES_MAX / 2 / each).clamp(1, RECORDS_MAX)
    }

    fn key_bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len)
    }

    /// What the headers add to each record.
    fn headers_bytes(&self) -> usize {
        let of =
            |(name, value): &(String, Option<Bytes>)| name.len() + value.as_ref().map_or(0, Bytes::len) + HEADER_COST;
        self.headers.iter().map(of).sum()
    }
}

/// A header that cannot be understood.
pub fn bad_header(name: &HeaderName, takes: impl fmt::Display) -> Problem {
    Problem::new(Code::InvalidHeader, format!("The header {name} {takes}.")).with("header", name.as_str())
}

#[cfg(test)]
mod tests {
    use axum::http::header::{CONTENT_TYPE, HeaderValue};
    use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::*;

    fn ingest(kind: BodyKind, shape: InputShape, body: &str) -> Result<Ingested, Problem> {
        read(kind, shape, &Bytes::copy_from_slice(body.as_bytes()))
    }

    fn values(ingested: &Ingested) -> Vec<&str> {
        let text = |(record, _): &'_ (Record, ValueKind)| record.value.clone();
        let stored: Vec<Option<Bytes>> = ingested.records.iter().map(text).collect();
        let leak = |bytes: Bytes| -> &str { Box::leak(String::from_utf8(bytes.to_vec()).unwrap().into_boxed_str()) };
        stored.into_iter().map(|value| value.map_or("tombstone", leak)).collect()
    }

    fn of(kind: &'static str) -> Result<BodyKind, Code> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
        BodyKind::of(&headers).map_err(|problem| problem.code)
    }

    #[test]
    fn the_content_type_says_what_the_body_is() {
        assert_eq!(of("application/json; charset=utf-8"), Ok(BodyKind::Json));
        assert_eq!(of("application/vnd.acme+json"), Ok(BodyKind::Json));
        assert_eq!(of("application/x-ndjson"), Ok(BodyKind::JsonLines));
        assert_eq!(of("application/jsonl"), Ok(BodyKind::JsonLines));
        assert_eq!(of("application/cloudevents+json"), Ok(BodyKind::CloudEvent));
        assert_eq!(of("application/cloudevents-batch+json"), Ok(BodyKind::CloudEvents));
        assert_eq!(of("text/plain"), Ok(BodyKind::Bytes));
        assert_eq!(of("application/x-www-form-urlencoded"), Err(Code::UnsupportedMediaType));
        assert_eq!(BodyKind::of(&HeaderMap::new()).unwrap_err().code, Code::UnsupportedMediaType);
        let mut event = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        event.insert("ce-specversion", HeaderValue::from_static("1.0"));
        assert_eq!(BodyKind::of(&event).unwrap(), BodyKind::CloudEventJson);
    }

    #[test]
    fn one_value_is_stored_as_it_was_written_but_for_line_breaks() {
        let ingested = ingest(BodyKind::Json, InputShape::Value, " {\"n\":1e400,\r\n \"s\":\"a\\nb\"} ").unwrap();
        assert!(ingested.single);
        assert_eq!(values(&ingested), ["{\"n\":1e400,   \"s\":\"a\\nb\"}"]);
    }

    #[test]
    fn lines_keep_their_numbers_and_blank_ones_are_no_records() {
        let ingested = ingest(BodyKind::JsonLines, InputShape::Value, "1\n\n{\"a\":\r2}\n  \nnull").unwrap();
        assert_eq!(values(&ingested), ["1", "{\"a\": 2}", "tombstone"]);
        let ingested = ingest(BodyKind::JsonLines, InputShape::Value, "1\n\n{oops}\n4\n\"\u{1}\"\n").unwrap();
        let items: Vec<usize> = ingested.refused.iter().map(|(item, _)| *item).collect();
        assert_eq!(items, [2, 4]);
        assert_eq!(ingested.refusal().unwrap().code, Code::MalformedJson);
        assert_eq!(ingested.refusal().unwrap().errors.len(), 2);
    }

    #[test]
    fn bad_utf_8_is_malformed_json() {
        let body = Bytes::from_static(b"{\"a\":\"\xff\"}");
        let ingested = read(BodyKind::Json, InputShape::Value, &body).unwrap();
        assert_eq!(ingested.refusal().unwrap().code, Code::MalformedJson);
    }

    #[test]
    fn an_empty_body_is_refused() {
        assert_eq!(ingest(BodyKind::Json, InputShape::Value, "").unwrap().refusal().unwrap().code, Code::MalformedJson);
        assert_eq!(ingest(BodyKind::JsonLines, InputShape::Value, "\n").unwrap_err().code, Code::ValidationFailed);
        assert_eq!(ingest(BodyKind::Json, InputShape::Record, "[]").unwrap_err().code, Code::ValidationFailed);
    }

    #[test]
    fn what_a_reader_gets_can_be_written() {
        let line = r#"{"topic":"a","partition":1,"offset":7,"timestamp":"2026-11-22T09:15:03.123Z","key":"o-1","headers":{"h":["1",null,{"base64":"/w=="}]},"value":{"a":1}}"#;
        let ingested = ingest(BodyKind::Json, InputShape::Record, line).unwrap();
        let (record, kind) = &ingested.records[0];
        assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some(&b"o-1"[..]), Some(&br#"{"a":1}"#[..])));
        assert_eq!(record.timestamp, Some(Timestamp(1_795_338_903_123)));
        let expected: Vec<(String, Option<Bytes>)> = vec![
            ("h".to_owned(), Some(Bytes::from_static(b"1"))),
            ("h".to_owned(), None),
            ("h".to_owned(), Some(Bytes::from_static(&[0xff]))),
        ];
        assert_eq!((&record.headers, *kind), (&expected, ValueKind::Json));
        let bytes = ingest(
            BodyKind::Json,
            InputShape::Record,
            r#"[{"value":"AAE=","encoding":"base64","key":"/w==","key_encoding":"base64"}]"#,
        )
        .unwrap();
        let (record, kind) = &bytes.records[0];
        assert_eq!((record.value.as_deref(), record.key.as_deref()), (Some(&[0, 1][..]), Some(&[0xff][..])));
        assert_eq!(*kind, ValueKind::Bytes);
    }

    #[test]
    fn envelopes_refuse_what_they_do_not_know() {
        for (body, code, pointer) in [
            (r#"{"kee":"a","value":1}"#, Code::UnknownField, "/kee"),
            (r#"{"key":1,"value":1}"#, Code::ValidationFailed, "/key"),
            (r#"{"key":"a"}"#, Code::ValidationFailed, "/value"),
            (r#"{"value":1,"value":2}"#, Code::ValidationFailed, "/value"),
            (r#"{"value":1,"headers":{"a":7}}"#, Code::ValidationFailed, "/headers/a"),
            (r#"{"value":1,"headers":[]}"#, Code::ValidationFailed, "/headers"),
            (r#"{"value":1,"timestamp":"yesterday"}"#, Code::ValidationFailed, "/timestamp"),
            (r#"{"value":1,"timestamp":-1}"#, Code::ValidationFailed, "/timestamp"),
            (r#"{"value":1,"encoding":"base64"}"#, Code::ValidationFailed, "/value"),
            (r#"{"value":"x","encoding":"hex"}"#, Code::ValidationFailed, "/encoding"),
            (r#""text""#, Code::ValidationFailed, ""),
            (r#"{"value":1"#, Code::MalformedJson, ""),
        ] {
            let ingested = ingest(BodyKind::Json, InputShape::Record, body).unwrap();
            let (_, refusal) = &ingested.refused[0];
            assert_eq!((refusal.code, refusal.pointer.as_str()), (code, pointer), "{body}: {}", refusal.detail);
        }
        let ingested = ingest(BodyKind::Json, InputShape::Record, r#"{"vlaue":1}"#).unwrap();
        assert!(ingested.refused[0].1.detail.contains("`value`"), "{}", ingested.refused[0].1.detail);
    }

    #[test]
    fn a_record_beyond_the_limit_is_refused_by_itself() {
        let body = format!("1\n\"{}\"\n", "x".repeat(RECORD_BYTES_MAX));
        let ingested = ingest(BodyKind::JsonLines, InputShape::Value, &body).unwrap();
        assert_eq!((ingested.records.len(), ingested.refused[0].0), (1, 1));
        assert_eq!(ingested.refusal().unwrap().code, Code::RecordTooLarge);
        let body = "1\n".repeat(RECORDS_MAX + 1);
        assert_eq!(ingest(BodyKind::JsonLines, InputShape::Value, &body).unwrap_err().code, Code::PayloadTooLarge);
    }

    #[test]
    fn what_headers_add_to_records_counts_as_theirs() {
        let header = |name: &str, bytes: usize| (name.to_owned(), Some(Bytes::from(vec![b'x'; bytes])));
        let large = FromHeaders { headers: vec![header("a", 14_000)], ..FromHeaders::default() };
        let mut many = ingest(BodyKind::JsonLines, InputShape::Value, &"1\n".repeat(RECORDS_MAX)).unwrap();
        assert_eq!(large.complete(&mut many, 2 * RECORDS_MAX).unwrap_err().code, Code::PayloadTooLarge);
        let key = FromHeaders { key: Some(Bytes::from(vec![b'k'; 14_000])), ..FromHeaders::default() };
        let mut many = ingest(BodyKind::JsonLines, InputShape::Value, &"1\n".repeat(RECORDS_MAX)).unwrap();
        assert_eq!(key.complete(&mut many, 2 * RECORDS_MAX).unwrap_err().code, Code::PayloadTooLarge);

        let body = format!("1\n{{oops\n\"{}\"\n\n{{\n4\n", "x".repeat(RECORD_BYTES_MAX - 10_000));
        let mut ingested = ingest(BodyKind::JsonLines, InputShape::Value, &body).unwrap();
        large.complete(&mut ingested, body.len()).unwrap();
        let refused: Vec<(usize, Code)> =
            ingested.refused.iter().map(|(item, refusal)| (*item, refusal.code)).collect();
        assert_eq!(refused, [(1, Code::MalformedJson), (2, Code::RecordTooLarge), (4, Code::MalformedJson)]);
        assert_eq!(values(&ingested), ["1", "4"]);
        assert_eq!(ingested.records[0].0.headers.len(), 1);

        let names = (0..=HEADERS_MAX).map(|number| header(&format!("h{number}"), 1)).collect();
        let many_headers = FromHeaders { headers: names, ..FromHeaders::default() };
        let mut ingested = ingest(BodyKind::Json, InputShape::Value, "1").unwrap();
        many_headers.complete(&mut ingested, 1).unwrap();
        assert_eq!(ingested.refusal().unwrap().code, Code::ValidationFailed);
    }

    #[test]
    fn lines_of_an_endless_body_are_taken_as_many_at_a_time_as_their_headers_allow() {
        let header = ("a".to_owned(), Some(Bytes::from(vec![b'x'; 14_000])));
        let large = FromHeaders { headers: vec![header], ..FromHeaders::default() };
        assert_eq!(FromHeaders::default().records_max(), RECORDS_MAX);
        let most = large.records_max();
        let mut ingested = ingest(BodyKind::JsonLines, InputShape::Value, &"1\n".repeat(most)).unwrap();
        large.complete(&mut ingested, BODY_BYTES_MAX / 2).unwrap();
        assert_eq!(ingested.records.len(), most);
    }

    #[test]
    fn a_value_too_deep_for_its_readers_is_refused_by_itself() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let (most, more) = (nested(VALUE_DEPTH_MAX), nested(VALUE_DEPTH_MAX + 1));
        let ingested = ingest(BodyKind::JsonLines, InputShape::Value, &format!("{most}\n{more}\n1\n")).unwrap();
        assert_eq!((ingested.records.len(), ingested.refused[0].0), (2, 1));
        assert_eq!(ingested.errors()[0].item, Some(1));
        assert_eq!(ingested.refusal().unwrap().code, Code::ValidationFailed);
        let record = format!("[{{\"value\":{most}}},{{\"value\":{more}}}]");
        let ingested = ingest(BodyKind::Json, InputShape::Record, &record).unwrap();
        assert_eq!((ingested.refused[0].0, ingested.refused[0].1.pointer.as_str()), (1, "/value"));
        let event = format!(r#"{{"specversion":"1.0","id":"1","source":"a","type":"b","data":{more}}}"#);
        let ingested = ingest(BodyKind::CloudEvent, InputShape::Value, &event).unwrap();
        assert_eq!(ingested.refused[0].1.pointer, "/data");
        let text = format!("\"{}\"", "[{\\\"".repeat(1000));
        assert_eq!(ingest(BodyKind::Json, InputShape::Value, &text).unwrap().records.len(), 1);
    }

    fn depth(value: &serde_json::Value) -> usize {
        match value {
            serde_json::Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            serde_json::Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(serde_json::Value::from),
            "[\\[\\]{}\"\\\\a]{0,8}".prop_map(serde_json::Value::from)
        ];
        leaf.prop_recursive(8, 40, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::btree_map("[\\[{}\"\\\\]{0,4}", inner, 0..4)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn a_structured_cloud_event_becomes_a_record_with_headers() {
        let event = r#"{"specversion":"1.0","id":"1","source":"/checkout","type":"order.accepted","partitionkey":"o-1",
            "time":"2026-11-22T09:15:03Z","tenant":"x","data":{"a":1}}"#;
        let ingested = ingest(BodyKind::CloudEvent, InputShape::Value, event).unwrap();
        let (record, kind) = &ingested.records[0];
        assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some(&b"o-1"[..]), Some(&br#"{"a":1}"#[..])));
        assert_eq!((record.timestamp, *kind), (Some(Timestamp(1_795_338_903_000)), ValueKind::Json));
        let named = |name: &str| record.headers.iter().find(|(n, _)| n == name).and_then(|(_, v)| v.clone());
        assert_eq!(named("ce_id").as_deref(), Some(&b"1"[..]));
        assert_eq!(named("ce_tenant").as_deref(), Some(&b"x"[..]));
        for bad in [
            "{}",
            r#"{"specversion":"1.0","id":"","source":"a","type":"b"}"#,
            r#"{"specversion":"0.3","id":"1","source":"a","type":"b"}"#,
            "7",
        ] {
            let ingested = ingest(BodyKind::CloudEvent, InputShape::Value, bad).unwrap();
            assert_eq!(ingested.refusal().map(|problem| problem.code), Some(Code::ValidationFailed), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn the_depth_of_json_is_that_of_the_value_it_parses_to(value in json(), most in 0_usize..10) {
            prop_assert_eq!(nests_deeper_than(most, &value.to_string()), depth(&value) > most);
        }

        #[test]
        fn any_body_is_read_or_refused_and_what_is_stored_is_one_line_of_json(
            body in prop::collection::vec(any::<u8>(), 0..200),
            jsonish in "[\\[\\]{}\",:a-z0-9 \n\r]{0,80}",
        ) {
            for body in [Bytes::from(body), Bytes::from(jsonish)] {
                for kind in [BodyKind::Json, BodyKind::JsonLines, BodyKind::CloudEvent, BodyKind::CloudEvents] {
                    for shape in [InputShape::Value, InputShape::Record] {
                        for (record, kind) in read(kind, shape, &body).map(|i| i.records).unwrap_or_default() {
                            let json = record.value.unwrap_or_else(|| Bytes::from_static(b"null"));
                            if kind == ValueKind::Json {
                                prop_assert!(serde_json::from_slice::<&RawValue>(&json).is_ok());
                                prop_assert!(!json.iter().any(|byte| matches!(byte, b'\n' | b'\r')));
                            }
                        }
                    }
                }
            }
        }
    }
}
