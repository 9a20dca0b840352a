//! A record as JSON describes it: the same members that a reader gets.

use std::fmt;

use bytes::Bytes;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::ingest::{Refusal, decode_base64, malformed, parse_timestamp, stored_json};
use crate::broker::record::{Record, ValueKind};
use crate::clock::Timestamp;
use crate::web::extract::{nearest, printable};
use crate::web::problem::Code;

/// Members that a producer decides.
const MEMBERS: [&str; 6] = ["key", "value", "headers", "timestamp", "encoding", "key_encoding"];
/// Members that Weir decides: taken, so that what is read can be written, and not looked at.
const IGNORED: [&str; 4] = ["topic", "partition", "offset", "schema_id"];

/// The members of one record, not yet understood.
#[derive(Debug, Default)]
pub struct Envelope<'a> {
    members: [Option<&'a RawValue>; MEMBERS.len()],
    unknown: Option<String>,
    repeated: Option<&'static str>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Envelope<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with key, value, headers and timestamp")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope<'de>, A::Error> {
        let mut envelope = Envelope::default();
        while let Some(member) = map.next_key::<Member>()? {
            let value = map.next_value::<&RawValue>()?;
            match member {
                Member::Known(index) => {
                    if envelope.members[index].replace(value).is_some() {
                        envelope.repeated = Some(MEMBERS[index]);
                    }
                }
                Member::Ignored => {}
                Member::Unknown(name) => envelope.unknown = envelope.unknown.or(Some(name)),
            }
        }
        Ok(envelope)
    }
}

enum Member {
    Known(usize),
    Ignored,
    Unknown(String),
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl Visitor<'_> for NameVisitor {
            type Value = Member;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Member, E> {
                Ok(match MEMBERS.iter().position(|known| *known == name) {
                    Some(index) => Member::Known(index),
                    None if IGNORED.contains(&name) => Member::Ignored,
                    None => Member::Unknown(printable(name)),
                })
            }
        }
        deserializer.deserialize_identifier(NameVisitor)
    }
}

impl<'a> Envelope<'a> {
    /// Reads the members.
    pub fn read(json: &'a RawValue) -> Result<Self, Refusal> {
        let envelope: Self = serde_json::from_str(json.get()).map_err(|error| malformed(&error, "a record"))?;
        if let Some(unknown) = &envelope.unknown {
            return Err(unknown_member(unknown));
        }
        if let Some(repeated) = envelope.repeated {
            let detail = format!("`{repeated}` is given more than once");
            return Err(Refusal::new(Code::ValidationFailed, &format!("/{repeated}"), detail));
        }
        Ok(envelope)
    }

    /// The record. `body` is what the envelope was found in.
    pub fn into_record(self, body: &Bytes) -> Result<(Record, ValueKind), Refusal> {
        let [key, value, headers, timestamp, encoding, key_encoding] = self.members;
        let Some(value) = value else {
            let detail = "`value` is missing; a tombstone says \"value\": null";
            return Err(Refusal::new(Code::ValidationFailed, "/value", detail));
        };
        let (value, kind) = match is_base64("/encoding", encoding)? {
            false => (stored_json("/value", body, value)?, ValueKind::Json),
            true => {
                (optional_text("/value", value)?.map(|v| decode_base64("/value", &v)).transpose()?, ValueKind::Bytes)
            }
        };
        let key = match key {
            None => None,
            Some(key) => optional_text("/key", key)?,
        };
        let key = match (key, is_base64("/key_encoding", key_encoding)?) {
            (None, _) => None,
            (Some(key), true) => Some(decode_base64("/key", &key)?),
            (Some(key), false) => Some(Bytes::from(key)),
        };
        let headers = headers.map(read_headers).transpose()?.unwrap_or_default();
        let timestamp = timestamp.map(read_timestamp).transpose()?.flatten();
        Ok((Record { key, value, headers, timestamp }, kind))
    }
}

fn unknown_member(name: &str) -> Refusal {
    let detail = match nearest(name, MEMBERS.into_iter()) {
        Some(meant) => format!("there is no member `{name}`; did you mean `{meant}`?"),
        None => format!("there is no member `{name}`; known are {}", MEMBERS.join(", ")),
    };
    let pointer = name.replace('~', "~0").replace('/', "~1");
    Refusal::new(Code::UnknownField, &format!("/{pointer}"), detail)
}

fn is_base64(pointer: &str, encoding: Option<&RawValue>) -> Result<bool, Refusal> {
    match encoding.map(RawValue::get) {
        None | Some("null") => Ok(false),
        Some("\"base64\"") => Ok(true),
        Some(_) => Err(Refusal::new(Code::ValidationFailed, pointer, "the only encoding is \"base64\"")),
    }
}

fn optional_text(pointer: &str, json: &RawValue) -> Result<Option<String>, Refusal> {
    serde_json::from_str(json.get())
        .map_err(|_| Refusal::new(Code::ValidationFailed, pointer, "a string or null is expected"))
}

fn read_timestamp(json: &RawValue) -> Result<Option<Timestamp>, Refusal> {
    let bad = || {
        let detail = "a date such as 2026-11-22T09:15:03Z, or milliseconds since 1970, is expected";
        Refusal::new(Code::ValidationFailed, "/timestamp", detail)
    };
    match serde_json::from_str::<Value>(json.get()).map_err(|_| bad())? {
        Value::Null => Ok(None),
        Value::String(text) => parse_timestamp(&text).map(Some).ok_or_else(bad),
        Value::Number(ms) => parse_timestamp(&ms.to_string()).map(Some).ok_or_else(bad),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(bad()),
    }
}

/// Names and values in order; a name with a list has several values.
fn read_headers(json: &RawValue) -> Result<Vec<(String, Option<Bytes>)>, Refusal> {
    let members: HeaderMembers = serde_json::from_str(json.get())
        .map_err(|_| Refusal::new(Code::ValidationFailed, "/headers", "an object of names and values is expected"))?;
    let mut headers = Vec::with_capacity(members.0.len());
    for (name, value) in members.0 {
        match value {
            Value::Array(values) => {
                for value in values {
                    let value = header_value(&name, value)?;
                    headers.push((name.clone(), value));
                }
            }
            value => {
                let value = header_value(&name, value)?;
                headers.push((name, value));
            }
        }
    }
    Ok(headers)
}

fn header_value(name: &str, value: Value) -> Result<Option<Bytes>, Refusal> {
    let pointer = format!("/headers/{}", printable(name).replace('~', "~0").replace('/', "~1"));
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(Bytes::from(text))),
        Value::Object(members) if members.len() == 1 && members.get("base64").is_some_and(Value::is_string) => {
            let text = members.get("base64").and_then(Value::as_str).unwrap_or_default();
            decode_base64(&pointer, text).map(Some)
        }
        Value::Object(_) | Value::Bool(_) | Value::Number(_) | Value::Array(_) => Err(Refusal::new(
            Code::ValidationFailed,
            &pointer,
            "a string, null, {\"base64\":…} or a list of them is expected",
        )),
    }
}

/// An object's members in their order, repetitions included.
struct HeaderMembers(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for HeaderMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = HeaderMembers;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeaderMembers, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(HeaderMembers(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}
