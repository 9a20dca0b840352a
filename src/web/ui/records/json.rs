//! JSON as people read it, without changing it: numbers keep every digit, members keep their order, nothing is parsed
//! into another type.

/// Lays valid JSON out over several lines. Text that is not JSON comes back as a layout of itself, never as an error.
#[must_use]
pub fn pretty(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut chars = json.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => copy_string(&mut chars, &mut out),
            '{' | '[' => {
                out.push(c);
                skip_space(&mut chars);
                let close = if c == '{' { '}' } else { ']' };
                if chars.next_if_eq(&close).is_some() {
                    out.push(close);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

/// Deeper nesting than this is laid out flat, so that a hostile value cannot make a page of spaces.
const INDENT_DEPTH_MAX: usize = 32;

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    for _ in 0..depth.min(INDENT_DEPTH_MAX) {
        out.push_str("  ");
    }
}

fn skip_space(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while chars.next_if(char::is_ascii_whitespace).is_some() {}
}

fn copy_string(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    out.push('"');
    while let Some(c) = chars.next() {
        out.push(c);
        match c {
            '\\' => out.extend(chars.next()),
            '"' => return,
            _ => {}
        }
    }
}

/// One difference between two documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Dotted path of the member: `retention.time`.
    pub path: String,
    /// `None`: it was not there.
    pub before: Option<String>,
    /// `None`: it is gone.
    pub after: Option<String>,
}

/// What a member is called in a sentence about a value nobody may see.
type Json = serde_json::Value;

/// Every member that differs, by path; objects are compared member by member, everything else as a whole.
#[must_use]
pub fn differences(before: Option<&Json>, after: Option<&Json>) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", before, after, &mut found);
    found
}

fn compare(path: &str, before: Option<&Json>, after: Option<&Json>, found: &mut Vec<Difference>) {
    let empty = serde_json::Map::new();
    let members = |side: Option<&'_ Json>| side.is_none_or(|json| json.is_null() || json.is_object());
    let object = |side: Option<&Json>| side.and_then(Json::as_object).cloned();
    if members(before) && members(after) && (object(before).is_some() || object(after).is_some()) {
        let (old, new) = (object(before).unwrap_or(empty.clone()), object(after).unwrap_or(empty));
        let mut names: Vec<_> = old.keys().chain(new.keys()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            compare(&path, old.get(name), new.get(name), found);
        }
        return;
    }
    let (before, after) = (before.and_then(shown), after.and_then(shown));
    if before != after {
        found.push(Difference { path: path.to_owned(), before, after });
    }
}

/// A value as a history shows it; nothing for null and for empty text, lists and objects.
fn shown(json: &Json) -> Option<String> {
    match json {
        Json::Null => None,
        Json::String(text) => (!text.is_empty()).then(|| text.clone()),
        Json::Array(items) if items.is_empty() => None,
        Json::Object(members) if members.is_empty() => None,
        Json::Array(items) => Some(items.iter().filter_map(shown).collect::<Vec<_>>().join(", ")),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_document_is_laid_out_without_being_changed() {
        let text = r#"{"b":1,"a":[1.10,123456789012345678901234567890,{}],"s":"{\"x\":[1,2]}","e":[ ]}"#;
        let out = pretty(text);
        assert_eq!(
            out,
            "{\n  \"b\": 1,\n  \"a\": [\n    1.10,\n    123456789012345678901234567890,\n    {}\n  ],\n  \"s\": \"{\\\"x\\\":[1,2]}\",\n  \"e\": []\n}"
        );
    }

    #[test]
    fn scalars_and_broken_text_are_survived() {
        for text in ["1", "null", "\"a\\\"b\"", "\"unterminated", "]]]}", ""] {
            let _ = pretty(text);
        }
        assert_eq!(pretty("\"a\\\\\""), "\"a\\\\\"");
    }

    #[test]
    fn deep_nesting_does_not_grow_the_output_quadratically() {
        let deep = "[".repeat(20_000);
        assert!(pretty(&deep).len() < 20_000 * (2 * INDENT_DEPTH_MAX + 2));
    }

    #[test]
    fn differences_name_the_members_that_changed() {
        let before = json!({"partitions": 3, "retention": {"time": "7d", "bytes": null}, "labels": {}, "same": true});
        let after =
            json!({"partitions": 6, "retention": {"time": "7d", "bytes": 10}, "labels": {"a": "b"}, "same": true});
        let found = differences(Some(&before), Some(&after));
        let lines: Vec<_> = found.iter().map(|d| (d.path.as_str(), d.before.as_deref(), d.after.as_deref())).collect();
        assert_eq!(
            lines,
            [
                ("labels.a", None, Some("b")),
                ("partitions", Some("3"), Some("6")),
                ("retention.bytes", None, Some("10"))
            ]
        );
    }

    #[test]
    fn a_creation_lists_what_was_set() {
        let found = differences(None, Some(&json!({"name": "orders", "owners": ["a", "b"], "labels": {}})));
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].after.as_deref(), Some("a, b"));
    }
}
