//! Lines of the audit as a person reads them: what changed, and where the thing is.

use serde_json::Value;

use crate::catalog::model::AuditEntry;

/// Characters of one value that are shown.
const VALUE_CHARS_MAX: usize = 200;

/// One field of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldChange {
    pub field: String,
    pub from: Option<String>,
    pub to: Option<String>,
}

/// The page of a resource such as `app/checkout`; `None` where there is none.
#[must_use]
pub fn href(resource: &str) -> Option<String> {
    let (kind, name) = resource.split_once('/')?;
    let name = name.split('/').next().filter(|name| !name.is_empty())?;
    let safe = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    match kind {
        "app" | "topic" | "team" if safe => Some(format!("/{kind}s/{name}")),
        _ => None,
    }
}

/// The fields that differ between before and after.
#[must_use]
pub fn changes(entry: &AuditEntry) -> Vec<FieldChange> {
    let fields = |value: &Option<Value>| match value {
        Some(Value::Object(map)) => map.clone(),
        Some(Value::Null) | None => serde_json::Map::new(),
        Some(other) => serde_json::Map::from_iter([("value".to_owned(), other.clone())]),
    };
    let (before, after) = (fields(&entry.before), fields(&entry.after));
    let mut names: Vec<_> = before.keys().chain(after.keys()).cloned().collect();
    names.sort();
    names.dedup();
    let differ = names.into_iter().filter(|name| before.get(name) != after.get(name));
    differ
        .map(|field| FieldChange {
            from: before.get(&field).and_then(text),
            to: after.get(&field).and_then(text),
            field,
        })
        .collect()
}

fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= VALUE_CHARS_MAX {
        return Some(text);
    }
    Some(text.chars().take(VALUE_CHARS_MAX).chain(['…']).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(before: Option<Value>, after: Option<Value>) -> AuditEntry {
        AuditEntry {
            id: 1,
            at: time::macros::datetime!(2026-11-22 12:00 UTC),
            actor: "ada@example.com".into(),
            via_token: None,
            action: "topic.update".into(),
            resource: "topic/orders".into(),
            before,
            after,
            request_id: None,
            address: None,
        }
    }

    #[test]
    fn only_what_differs_is_shown() {
        let changes =
            changes(&entry(Some(json!({"a": 1, "b": "x", "c": null})), Some(json!({"a": 1, "b": "y", "d": [1]}))));
        let told: Vec<_> = changes.iter().map(|c| (c.field.as_str(), c.from.as_deref(), c.to.as_deref())).collect();
        assert_eq!(told, [("b", Some("x"), Some("y")), ("c", None, None), ("d", None, Some("[1]"))]);
    }

    #[test]
    fn a_line_without_values_has_no_changes() {
        assert_eq!(changes(&entry(None, None)), []);
    }

    #[test]
    fn things_with_a_page_are_linked() {
        assert_eq!(href("topic/orders.eu").as_deref(), Some("/topics/orders.eu"));
        assert_eq!(href("app/checkout/token/1").as_deref(), Some("/apps/checkout"));
        for none in ["user/ada@example.com", "app/", "x", "topic/<b>"] {
            assert_eq!(href(none), None, "{none}");
        }
    }
}
