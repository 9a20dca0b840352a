//! Records as JSON text, straight from the bytes of a batch into a buffer. The hottest code of reading.
//!
//! JSON values are copied as they were written: big integers and key order survive. Everything else is escaped here, so
//! that no record can break out of its line (checked by a property test).

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::broker::record::{RecordView, ValueKind};
use crate::clock::Timestamp;
use crate::gateway::ReadRecord;
use crate::gateway::places::write_decimal;
use crate::names::Offset;

/// What a record looks like to the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    /// Topic, partition, offset, timestamp, key, headers and value.
    #[default]
    Record,
    /// The value alone.
    Value,
    /// A CloudEvent in structured form.
    CloudEvent,
}

/// Members of a CloudEvent that no stored header adds: they are written from elsewhere.
const CLOUD_EVENT_OWN: [&str; 9] =
    ["specversion", "id", "source", "type", "time", "partitionkey", "datacontenttype", "data", "data_base64"];

/// One record, wherever it comes from. `H` yields its headers, as often as needed.
#[derive(Debug, Clone)]
pub struct Shown<'a, H> {
    /// Whether the value is known to be JSON.
    pub kind: ValueKind,
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Names and values.
    pub headers: H,
}

impl<'a> Shown<'a, crate::broker::record::Headers<'a>> {
    /// A record of a batch.
    #[inline]
    #[must_use]
    pub fn view(kind: ValueKind, record: &RecordView<'a>) -> Self {
        let RecordView { offset, timestamp, key, value, headers } = *record;
        Self { kind, offset, timestamp, key, value, headers }
    }
}

/// A record of a page.
pub fn shown(record: &ReadRecord) -> Shown<'_, impl Iterator<Item = (&str, Option<&[u8]>)> + Clone> {
    Shown {
        kind: record.kind,
        offset: record.offset,
        timestamp: record.timestamp,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())),
    }
}

/// Writes records of one shape. Remembers what rarely changes from record to record.
#[derive(Debug)]
pub struct Renderer {
    shape: Shape,
    topic: String,
    partition: u32,
    /// `{"topic":"orders","partition":0,"offset":`
    prefix: Vec<u8>,
    second: i64,
    /// `2026-11-22T09:15:03` of `second`.
    second_text: Vec<u8>,
}

impl Renderer {
    /// A renderer of this shape.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            topic: String::new(),
            partition: 0,
            prefix: Vec::new(),
            second: i64::MIN,
            second_text: Vec::new(),
        }
    }

    /// The records that follow are of this partition.
    pub fn partition(&mut self, topic: &str, partition: u32) {
        if self.prefix.is_empty() || partition != self.partition || topic != self.topic {
            topic.clone_into(&mut self.topic);
            self.partition = partition;
            self.prefix.clear();
            self.prefix.extend_from_slice(b"{\"topic\":");
            write_string(&mut self.prefix, topic);
            self.prefix.extend_from_slice(b",\"partition\":");
            write_decimal(&mut self.prefix, u64::from(partition));
            self.prefix.extend_from_slice(b",\"offset\":");
        }
    }

    /// Appends one record as one JSON text without line breaks.
    #[inline]
    pub fn record<'a, H>(&mut self, out: &mut Vec<u8>, record: Shown<'a, H>)
    where
        H: Iterator<Item = (&'a str, Option<&'a [u8]>)> + Clone,
    {
        match self.shape {
            Shape::Record => self.whole(out, record),
            Shape::Value => write_value(out, record.kind, record.value),
            Shape::CloudEvent => self.cloud_event(out, &record),
        }
    }

    #[inline]
    fn whole<'a, H>(&mut self, out: &mut Vec<u8>, record: Shown<'a, H>)
    where
        H: Iterator<Item = (&'a str, Option<&'a [u8]>)> + Clone,
    {
        out.extend_from_slice(&self.prefix);
        write_decimal(out, record.offset.0.max(0).unsigned_abs());
        out.extend_from_slice(b",\"timestamp\":\"");
        self.timestamp(out, record.timestamp);
        out.extend_from_slice(b"\",\"key\":");
        match record.key {
            None => out.extend_from_slice(b"null"),
            Some(key) => match std::str::from_utf8(key) {
                Ok(text) => write_string(out, text),
                Err(_) => {
                    write_base64(out, key);
                    out.extend_from_slice(b",\"key_encoding\":\"base64\"");
                }
            },
        }
        write_headers(out, record.headers);
        if record.kind == ValueKind::Bytes && record.value.is_some() {
            out.extend_from_slice(b",\"encoding\":\"base64\"");
        }
        out.extend_from_slice(b",\"value\":");
        write_value(out, record.kind, record.value);
        out.push(b'}');
    }

    /// From the `ce_` headers that the Kafka binding of CloudEvents uses; what is missing is made up from the place.
    fn cloud_event<'a, H>(&mut self, out: &mut Vec<u8>, record: &Shown<'a, H>)
    where
        H: Iterator<Item = (&'a str, Option<&'a [u8]>)> + Clone,
    {
        let text = |wanted: &str| {
            let found = record.headers.clone().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.and_then(|(_, value)| std::str::from_utf8(value?).ok())
        };
        out.extend_from_slice(b"{\"specversion\":\"1.0\",\"id\":");
        let made_up = format!("{}:{}:{}", self.topic, self.partition, record.offset);
        write_string(out, text("ce_id").unwrap_or(&made_up));
        out.extend_from_slice(b",\"source\":");
        let source = format!("/v1/topics/{}", self.topic);
        write_string(out, text("ce_source").unwrap_or(&source));
        out.extend_from_slice(b",\"type\":");
        write_string(out, text("ce_type").unwrap_or("weir.record"));
        out.extend_from_slice(b",\"time\":\"");
        self.timestamp(out, record.timestamp);
        out.push(b'"');
        if let Some(key) = record.key.and_then(|key| std::str::from_utf8(key).ok()) {
            out.extend_from_slice(b",\"partitionkey\":");
            write_string(out, key);
        }
        if let Some(kind) = text("content-type") {
            out.extend_from_slice(b",\"datacontenttype\":");
            write_string(out, kind);
        }
        for (name, value) in record.headers.clone() {
            let Some(name) = name.strip_prefix("ce_") else { continue };
            let Some(value) = value.and_then(|value| std::str::from_utf8(value).ok()) else { continue };
            if !CLOUD_EVENT_OWN.contains(&name) {
                out.push(b',');
                write_string(out, name);
                out.push(b':');
                write_string(out, value);
            }
        }
        match (record.kind, record.value) {
            (_, None) => {}
            (ValueKind::Json, value) => {
                out.extend_from_slice(b",\"data\":");
                write_value(out, ValueKind::Json, value);
            }
            (ValueKind::Bytes, value) => {
                out.extend_from_slice(b",\"data_base64\":");
                write_value(out, ValueKind::Bytes, value);
            }
        }
        out.push(b'}');
    }

    /// RFC 3339 with milliseconds, in UTC.
    #[inline]
    fn timestamp(&mut self, out: &mut Vec<u8>, timestamp: Timestamp) {
        let second = timestamp.0.div_euclid(1000);
        if second != self.second || self.second_text.is_empty() {
            self.second = second;
            self.second_text.clear();
            let moment = timestamp.to_datetime();
            // Writing into a vector cannot fail.
            let _ = write!(
                self.second_text,
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
                moment.year(),
                u8::from(moment.month()),
                moment.day(),
                moment.hour(),
                moment.minute(),
                moment.second()
            );
        }
        out.extend_from_slice(&self.second_text);
        let ms = timestamp.0.rem_euclid(1000).unsigned_abs();
        let digit = |n: u64| b'0' + u8::try_from(n % 10).unwrap_or_default();
        out.extend_from_slice(&[b'.', digit(ms / 100), digit(ms / 10), digit(ms), b'Z']);
    }
}

/// The value: JSON as it is, other bytes as base64, a tombstone as null.
#[inline]
fn write_value(out: &mut Vec<u8>, kind: ValueKind, value: Option<&[u8]>) {
    match (kind, value) {
        (_, None) => out.extend_from_slice(b"null"),
        (ValueKind::Json, Some(json)) => out.extend_from_slice(json),
        (ValueKind::Bytes, Some(bytes)) => write_base64(out, bytes),
    }
}

/// `,"headers":{…}`, or nothing if there are none. A name that comes again gets a list.
#[inline]
fn write_headers<'a>(out: &mut Vec<u8>, headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + Clone) {
    if headers.clone().next().is_none() {
        return;
    }
    out.extend_from_slice(b",\"headers\":{");
    let mut first = true;
    for (index, (name, value)) in headers.clone().enumerate() {
        if headers.clone().take(index).any(|(earlier, _)| earlier == name) {
            continue;
        }
        if !first {
            out.push(b',');
        }
        first = false;
        write_string(out, name);
        out.push(b':');
        let mut again = headers.clone().skip(index + 1).filter(|(later, _)| *later == name).peekable();
        if again.peek().is_none() {
            write_header_value(out, value);
            continue;
        }
        out.push(b'[');
        write_header_value(out, value);
        for (_, value) in again {
            out.push(b',');
            write_header_value(out, value);
        }
        out.push(b']');
    }
    out.push(b'}');
}

fn write_header_value(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value.map(|value| (value, std::str::from_utf8(value))) {
        None => out.extend_from_slice(b"null"),
        Some((_, Ok(text))) => write_string(out, text),
        Some((bytes, Err(_))) => {
            out.extend_from_slice(b"{\"base64\":");
            write_base64(out, bytes);
            out.push(b'}');
        }
    }
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // The buffer has exactly the room that the encoding takes.
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or_default();
    out.truncate(start + written);
    out.push(b'"');
}

/// A JSON string.
#[inline]
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\') {
        out.extend_from_slice(&rest[..at]);
        write_escape(out, rest[at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

#[cold]
fn write_escape(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        control => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(control >> 4)], HEX[usize::from(control & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};
    use serde_json::{Value, json};

    use super::*;

    type Headers = Vec<(&'static str, Option<&'static [u8]>)>;

    fn render(shape: Shape, kind: ValueKind, key: Option<&[u8]>, value: Option<&[u8]>, headers: &Headers) -> String {
        let mut renderer = Renderer::new(shape);
        renderer.partition("orders", 3);
        let mut out = Vec::new();
        let timestamp = Timestamp(1_795_338_903_123);
        let headers = headers.iter().copied();
        renderer.record(&mut out, Shown { kind, offset: Offset(543), timestamp, key, value, headers });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_json_value_is_copied_to_the_byte() {
        let value = br#"{"n":12345678901234567890.50,"a":[ 1 ]}"#;
        let text = render(Shape::Record, ValueKind::Json, Some(b"o-1"), Some(value), &Headers::new());
        assert_eq!(
            text,
            r#"{"topic":"orders","partition":3,"offset":543,"timestamp":"2026-11-22T09:15:03.123Z","key":"o-1","value":{"n":12345678901234567890.50,"a":[ 1 ]}}"#
        );
    }

    #[test]
    fn bytes_travel_as_base64_and_say_so() {
        let text = render(Shape::Record, ValueKind::Bytes, Some(&[0xff]), Some(&[0, 1, 2, 3]), &Headers::new());
        let record: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(record["encoding"], "base64");
        assert_eq!(record["value"], "AAECAw==");
        assert_eq!((&record["key"], &record["key_encoding"]), (&json!("/w=="), &json!("base64")));
        assert_eq!(render(Shape::Value, ValueKind::Bytes, None, Some(&[0, 1, 2, 3]), &Headers::new()), r#""AAECAw==""#);
    }

    #[test]
    fn a_tombstone_is_null() {
        let text = render(Shape::Record, ValueKind::Bytes, Some(b"k"), None, &Headers::new());
        let record: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(record["value"], Value::Null);
        assert!(record.get("encoding").is_none());
    }

    #[test]
    fn headers_keep_every_value() {
        let headers: Headers = vec![("a", Some(b"1")), ("b", None), ("a", Some(b"2")), ("c", Some(&[0xff]))];
        let text = render(Shape::Record, ValueKind::Json, None, Some(b"1"), &headers);
        let record: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(record["headers"], json!({"a": ["1", "2"], "b": null, "c": {"base64": "/w=="}}));
    }

    #[test]
    fn a_cloud_event_is_made_from_its_headers_or_from_the_place() {
        let headers: Headers =
            vec![("ce_id", Some(b"1")), ("ce_type", Some(b"order.accepted")), ("ce_tenant", Some(b"x"))];
        let text = render(Shape::CloudEvent, ValueKind::Json, Some(b"o-1"), Some(b"{}"), &headers);
        let event: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&event["id"], &event["type"], &event["tenant"]),
            (&json!("1"), &json!("order.accepted"), &json!("x"))
        );
        assert_eq!((&event["source"], &event["partitionkey"]), (&json!("/v1/topics/orders"), &json!("o-1")));
        assert_eq!(event["data"], json!({}));
        let bare = render(Shape::CloudEvent, ValueKind::Bytes, None, Some(b"x"), &Headers::new());
        let event: Value = serde_json::from_str(&bare).unwrap();
        assert_eq!((&event["id"], &event["data_base64"]), (&json!("orders:3:543"), &json!("eA==")));
    }

    #[test]
    fn no_stored_header_stands_beside_the_data_of_a_cloud_event() {
        let headers: Headers = vec![("ce_data", Some(b"forged")), ("ce_data_base64", Some(b"Zm9yZ2Vk"))];
        for (kind, member) in [(ValueKind::Json, "data"), (ValueKind::Bytes, "data_base64")] {
            let text = render(Shape::CloudEvent, kind, None, Some(b"{}"), &headers);
            assert_eq!(text.matches("\"data").count(), 1, "{text}");
            assert!(text.contains(&format!("\"{member}\":")), "{text}");
        }
        let text = render(Shape::CloudEvent, ValueKind::Json, None, None, &headers);
        assert!(!text.contains("\"data"), "{text}");
    }

    proptest! {
        #[test]
        fn whatever_the_record_holds_it_is_one_line_of_valid_json(
            key in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
            value in prop::option::of(prop::collection::vec(any::<u8>(), 0..50)),
            header in any::<String>(),
            header_value in prop::collection::vec(any::<u8>(), 0..20),
            timestamp in any::<i64>(),
        ) {
            for shape in [Shape::Record, Shape::Value, Shape::CloudEvent] {
                let mut renderer = Renderer::new(shape);
                renderer.partition("orders", 0);
                let mut out = Vec::new();
                let headers = [(header.as_str(), Some(header_value.as_slice()))];
                renderer.record(&mut out, Shown {
                    kind: ValueKind::Bytes,
                    offset: Offset(0),
                    timestamp: Timestamp(timestamp),
                    key: key.as_deref(),
                    value: value.as_deref(),
                    headers: headers.iter().copied(),
                });
                prop_assert!(!out.iter().any(|byte| matches!(byte, b'\r' | b'\n')));
                prop_assert!(serde_json::from_slice::<Value>(&out).is_ok());
            }
        }

        #[test]
        fn strings_are_escaped_so_that_they_parse_to_themselves(text in any::<String>()) {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
