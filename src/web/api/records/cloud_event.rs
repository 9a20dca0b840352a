//! CloudEvents 1.0: attributes become `ce_` headers as in the Kafka binding, data becomes the value.

use std::collections::BTreeMap;

use axum::http::header::{self, HeaderMap};
use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::ingest::{Refusal, decode_base64, malformed, parse_timestamp};
use crate::broker::record::{Record, ValueKind};
use crate::web::problem::{Code, Problem};

/// Attributes that every event has.
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// An event in structured form. `json` is a part of `body`.
pub fn structured(body: &Bytes, json: Result<&RawValue, Refusal>) -> Result<(Record, ValueKind), Refusal> {
    let mut members: BTreeMap<String, &RawValue> =
        serde_json::from_str(json?.get()).map_err(|error| malformed(&error, "a CloudEvent"))?;
    let data = members.remove("data");
    let data_base64 = members.remove("data_base64");
    let mut attributes = BTreeMap::new();
    for (name, value) in members {
        attributes.insert(name.clone(), attribute(&name, value)?);
    }
    let (value, kind) = match (data, data_base64) {
        (Some(_), Some(_)) => {
            return Err(refused("/data_base64", "an event has `data` or `data_base64`, not both"));
        }
        (Some(data), None) => (super::ingest::stored_json("/data", body, data)?, ValueKind::Json),
        (None, Some(text)) => {
            let text: String =
                serde_json::from_str(text.get()).map_err(|_| refused("/data_base64", "a string is expected"))?;
            (Some(decode_base64("/data_base64", &text)?), ValueKind::Bytes)
        }
        (None, None) => (None, ValueKind::Json),
    };
    let mut record = from_attributes(attributes)?;
    record.value = value;
    Ok((record, kind))
}

/// Adds the attributes of an event in binary form: `ce-id`, `ce-type`, …
pub fn add_binary_attributes(headers: &HeaderMap, record: &mut Record) -> Result<(), Problem> {
    let mut attributes = BTreeMap::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else { continue };
        let text = value.to_str().ok().and_then(percent_decoded);
        let text = text.ok_or_else(|| {
            Problem::new(Code::InvalidHeader, format!("The header ce-{name} is not percent-encoded UTF-8."))
        })?;
        attributes.insert(name.to_owned(), text);
    }
    if let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) {
        attributes.insert("datacontenttype".to_owned(), kind.to_owned());
    }
    let from = from_attributes(attributes).map_err(|refusal| Problem::new(refusal.code, refusal.detail))?;
    let value = record.value.take();
    *record = Record { value, ..from };
    Ok(())
}

fn refused(pointer: &str, detail: &str) -> Refusal {
    Refusal::new(Code::ValidationFailed, pointer, detail)
}

fn attribute(name: &str, value: &RawValue) -> Result<String, Refusal> {
    let pointer = format!("/{}", crate::web::extract::printable(name));
    let legal = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !legal {
        return Err(refused(&pointer, "names of attributes are lower-case letters and digits"));
    }
    match serde_json::from_str(value.get()) {
        Ok(Value::String(text)) => Ok(text),
        Ok(Value::Number(number)) => Ok(number.to_string()),
        Ok(Value::Bool(value)) => Ok(value.to_string()),
        _ => Err(refused(&pointer, "an attribute is a string, a number or a boolean")),
    }
}

fn from_attributes(attributes: BTreeMap<String, String>) -> Result<Record, Refusal> {
    for name in REQUIRED {
        if attributes.get(name).is_none_or(String::is_empty) {
            return Err(refused(&format!("/{name}"), &format!("a CloudEvent has the attribute `{name}`")));
        }
    }
    if attributes.get("specversion").is_none_or(|version| version != "1.0") {
        return Err(refused("/specversion", "CloudEvents have version 1.0 here"));
    }
    let mut record = Record::default();
    for (name, text) in attributes {
        match name.as_str() {
            "partitionkey" => record.key = Some(Bytes::from(text)),
            "datacontenttype" => record.headers.push(("content-type".to_owned(), Some(Bytes::from(text)))),
            "time" => {
                let moment = parse_timestamp(&text)
                    .ok_or_else(|| refused("/time", "a date such as 2026-11-22T09:15:03Z is expected"))?;
                record.timestamp = Some(moment);
                record.headers.push(("ce_time".to_owned(), Some(Bytes::from(text))));
            }
            _ => record.headers.push((format!("ce_{name}"), Some(Bytes::from(text)))),
        }
    }
    Ok(record)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            decoded.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}
