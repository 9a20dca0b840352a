//! One record as the portal shows it. Everything in it was written by somebody else: it stays text, and the templates
//! escape it.

use std::fmt::Write as _;

use base64::Engine as _;
use time::OffsetDateTime;

use super::{json, units};
use crate::broker::record::RecordView;
use crate::clock::Timestamp;
use crate::gateway::ReadRecord;
use crate::names::Offset;

/// The one-line value has at most this many characters.
const LINE_CHARS_MAX: usize = 240;
/// On its own page a value is shown up to this many bytes; the API has all of it.
pub const PAGE_VALUE_BYTES_MAX: usize = 256 * 1024;
/// In a list a value is shown up to this many bytes.
pub const LIST_VALUE_BYTES_MAX: usize = 8 * 1024;
/// A key is shown up to this many characters.
const KEY_CHARS_MAX: usize = 200;
/// Bytes that are not text are shown as hexadecimal, this many of them.
const HEX_BYTES_MAX: usize = 1024;

/// A record, ready for a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub partition: u32,
    pub offset: i64,
    pub timestamp: Timestamp,
    /// `None`: the record has no key.
    pub key: Option<String>,
    /// The value on one line.
    pub line: String,
    /// The value laid out.
    pub value: String,
    /// "JSON", "text", "bytes" or "tombstone".
    pub kind: &'static str,
    /// The value's size for people.
    pub size: String,
    /// More of the value exists than is shown.
    pub cut: bool,
    pub headers: Vec<Header>,
}

/// A header of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub name: String,
    pub value: String,
}

impl Event {
    /// Makes a record that was read presentable; of its value at most so many bytes.
    #[must_use]
    pub fn of_read(record: &ReadRecord, value_bytes_max: usize) -> Self {
        let headers = record.headers.iter().map(|(name, value)| header(name, value.as_deref())).collect();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        Self::new(record.partition, record.offset, record.timestamp, key, value, headers, value_bytes_max)
    }

    /// Makes a record of a stream presentable.
    #[must_use]
    pub fn of_view(partition: u32, record: &RecordView<'_>, value_bytes_max: usize) -> Self {
        let headers = record.headers.map(|(name, value)| header(name, value)).collect();
        Self::new(partition, record.offset, record.timestamp, record.key, record.value, headers, value_bytes_max)
    }

    fn new(
        partition: u32,
        offset: Offset,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Vec<Header>,
        value_bytes_max: usize,
    ) -> Self {
        let shown = Value::of(value, value_bytes_max);
        Self {
            partition,
            offset: offset.0,
            timestamp,
            key: key.map(|key| cut(&text_or_hex(key), KEY_CHARS_MAX).0),
            line: shown.line,
            value: shown.full,
            kind: shown.kind,
            size: value.map_or_else(String::new, |value| units::bytes(value.len() as u64)),
            cut: shown.cut,
            headers,
        }
    }

    /// When it was stored.
    #[must_use]
    pub fn at(&self) -> OffsetDateTime {
        self.timestamp.to_datetime()
    }

    /// `3:18234`, as cursors write it.
    #[must_use]
    pub fn position(&self) -> String {
        format!("{}:{}", self.partition, self.offset)
    }
}

fn header(name: &str, value: Option<&[u8]>) -> Header {
    let value = value.map_or_else(|| "(none)".to_owned(), text_or_hex);
    Header { name: name.to_owned(), value: cut(&value, LINE_CHARS_MAX).0 }
}

/// A value in its three forms.
struct Value {
    line: String,
    full: String,
    kind: &'static str,
    cut: bool,
}

impl Value {
    fn of(bytes: Option<&[u8]>, bytes_max: usize) -> Self {
        let Some(bytes) = bytes else {
            let line = "no value: this record deletes its key".to_owned();
            return Self { full: line.clone(), line, kind: "tombstone", cut: false };
        };
        let Ok(text) = std::str::from_utf8(bytes) else { return Self::opaque(bytes) };
        if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
            let (full, cut_off) = cut_bytes(&json::pretty(text), bytes_max);
            return Self { line: one_line(text), full, kind: "JSON", cut: cut_off };
        }
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            return Self::opaque(bytes);
        }
        let (full, cut_off) = cut_bytes(text, bytes_max);
        Self { line: one_line(text), full, kind: "text", cut: cut_off }
    }

    fn opaque(bytes: &[u8]) -> Self {
        let start = &bytes[..bytes.len().min(60)];
        let line = cut(&base64::engine::general_purpose::STANDARD.encode(start), LINE_CHARS_MAX).0;
        Self { line, full: hex_dump(bytes), kind: "bytes", cut: bytes.len() > HEX_BYTES_MAX }
    }
}

/// White space becomes one space, so that a row is a row.
fn one_line(text: &str) -> String {
    let start: String = text.chars().take(LINE_CHARS_MAX * 4).collect();
    let flat = start.split_whitespace().collect::<Vec<_>>().join(" ");
    let (line, cut_here) = cut(&flat, LINE_CHARS_MAX);
    if start.len() < text.len() && !cut_here { line + "…" } else { line }
}

fn cut(text: &str, chars_max: usize) -> (String, bool) {
    match text.char_indices().nth(chars_max) {
        Some((at, _)) => (format!("{}…", &text[..at]), true),
        None => (text.to_owned(), false),
    }
}

fn cut_bytes(text: &str, bytes_max: usize) -> (String, bool) {
    if text.len() <= bytes_max {
        return (text.to_owned(), false);
    }
    let at = text.floor_char_boundary(bytes_max);
    (text[..at].to_owned(), true)
}

fn text_or_hex(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => {
            let mut out = String::from("0x");
            for byte in bytes.iter().take(HEX_BYTES_MAX) {
                let _ = write!(out, "{byte:02x}");
            }
            out
        }
    }
}

/// Sixteen bytes a line: offset, hexadecimal, what is printable.
fn hex_dump(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (row, chunk) in bytes[..bytes.len().min(HEX_BYTES_MAX)].chunks(16).enumerate() {
        let _ = write!(out, "{:04x}  ", row * 16);
        for at in 0..16 {
            match chunk.get(at) {
                Some(byte) => _ = write!(out, "{byte:02x} "),
                None => out.push_str("   "),
            }
        }
        out.push(' ');
        out.extend(chunk.iter().map(|b| if (0x20..0x7f).contains(b) { char::from(*b) } else { '.' }));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::broker::record::ValueKind;

    fn event(key: Option<&[u8]>, value: Option<&[u8]>) -> Event {
        let record = ReadRecord {
            topic: crate::web::ui::records::testing::topic("orders"),
            partition: 3,
            offset: Offset(18_234),
            timestamp: Timestamp(0),
            key: key.map(Bytes::copy_from_slice),
            value: value.map(Bytes::copy_from_slice),
            kind: ValueKind::Bytes,
            headers: vec![("trace".to_owned(), Some(Bytes::from_static(b"a<b"))), ("empty".to_owned(), None)],
        };
        Event::of_read(&record, LIST_VALUE_BYTES_MAX)
    }

    #[test]
    fn json_is_one_line_in_the_list_and_laid_out_when_opened() {
        let event = event(Some(b"o-1"), Some(b"{\"a\":  1}"));
        assert_eq!((event.kind, event.line.as_str(), event.value.as_str()), ("JSON", "{\"a\": 1}", "{\n  \"a\": 1\n}"));
        assert_eq!((event.key.as_deref(), event.position().as_str()), (Some("o-1"), "3:18234"));
        assert_eq!(event.headers[1].value, "(none)");
    }

    #[test]
    fn bytes_are_shown_as_a_hex_dump() {
        let event = event(Some(&[0, 255]), Some(&[0, 1, b'A', 255]));
        assert_eq!(event.kind, "bytes");
        assert!(event.value.starts_with("0000  00 01 41 ff "), "{}", event.value);
        assert!(event.value.trim_end().ends_with("..A."), "{}", event.value);
        assert_eq!(event.key.as_deref(), Some("0x00ff"));
    }

    #[test]
    fn text_stays_text_and_a_missing_value_says_what_it_means() {
        assert_eq!(event(None, Some(b"hello\nworld")).line, "hello world");
        assert_eq!(event(None, Some(b"")).kind, "text");
        assert_eq!(event(None, None).kind, "tombstone");
    }

    #[test]
    fn a_huge_value_costs_a_bounded_page() {
        let huge = format!("\"{}\"", "é".repeat(1 << 20));
        let event = event(None, Some(huge.as_bytes()));
        assert!(event.cut && event.value.len() <= LIST_VALUE_BYTES_MAX);
        assert!(event.line.chars().count() <= LINE_CHARS_MAX + 1);
    }
}
