//! The topic form: its fields filled from a topic, and the topic its fields describe.

use crate::catalog::model::{Topic, TopicSpec};
use crate::names::{AppName, TopicName};
use crate::web::form::Draft;

use crate::web::ui::records::units::{self, SIZE_UNITS, TIME_UNITS, Unit};

/// The form of a topic that does not exist yet.
#[must_use]
pub fn blank() -> Draft {
    Draft::new()
        .with("classification", "internal")
        .with("visibility", "company")
        .with("partitions", TopicSpec::PARTITIONS_DEFAULT.to_string())
        .with("cleanup", "delete")
        .with("keep", "for")
        .with("time", "7")
        .with("time_unit", "d")
        .with("size_unit", "gib")
        .focused("name")
}

/// The form of an existing topic.
#[must_use]
pub fn of(topic: &Topic) -> Draft {
    let time = topic.retention_ms.map(|ms| units::split(ms, &TIME_UNITS));
    let size = topic.retention_bytes.map(|bytes| units::split(bytes, &SIZE_UNITS));
    let (size, size_unit) = size.map_or((String::new(), "gib".to_owned()), |amount| (amount.number, amount.unit));
    let keep = if time.is_some() { "for" } else { "ever" };
    let (time, time_unit) = time.map_or(("7".to_owned(), "d".to_owned()), |amount| (amount.number, amount.unit));
    Draft::new()
        .with("app", topic.app.as_str())
        .with("name", topic.name.as_str())
        .with("description", topic.description.clone())
        .with("classification", word(&topic.classification))
        .with("visibility", word(&topic.visibility))
        .with("partitions", topic.partitions.to_string())
        .with("cleanup", word(&topic.cleanup))
        .with("keep", keep)
        .with("time", time)
        .with("time_unit", time_unit)
        .with("size", size)
        .with("size_unit", size_unit)
}

/// The topic the form describes; otherwise the fields that are wrong are marked. Labels are not in the form: they stay
/// as they are in `before`.
pub fn check(form: &mut Draft, before: Option<&Topic>) -> Option<(TopicName, TopicSpec)> {
    let app = form.parse::<AppName>("app");
    let name = form.parse::<TopicName>("name");
    let classification = choice(form, "classification");
    let visibility = choice(form, "visibility");
    let cleanup = choice(form, "cleanup");
    let partitions = partitions(form);
    let retention_ms = match form.value("keep") {
        "ever" => Some(None),
        _ => amount(form, "time", &TIME_UNITS).map(Some),
    };
    let retention_bytes = match form.text("size") {
        None => Some(None),
        Some(_) => amount(form, "size", &SIZE_UNITS).map(Some),
    };
    let spec = TopicSpec {
        app: app?,
        description: form.value("description").replace("\r\n", "\n").trim_end().to_owned(),
        classification: classification?,
        visibility: visibility?,
        partitions: partitions?,
        retention_ms: retention_ms?,
        retention_bytes: retention_bytes?,
        cleanup: cleanup?,
        labels: before.map(|topic| topic.labels.clone()).unwrap_or_default(),
    };
    Some((name?, spec))
}

fn choice<T: serde::de::DeserializeOwned>(form: &mut Draft, field: &str) -> Option<T> {
    let word = serde_json::Value::String(form.value(field).to_owned());
    let value = serde_json::from_value(word).ok();
    if value.is_none() {
        form.wrong(field, "Choose one of the list.");
    }
    value
}

fn partitions(form: &mut Draft) -> Option<u32> {
    let count = form.value("partitions").trim().parse().ok();
    let legal = count.filter(|count| (1..=TopicSpec::PARTITIONS_MAX).contains(count));
    if legal.is_none() {
        form.wrong("partitions", format!("A whole number from 1 to {}.", TopicSpec::PARTITIONS_MAX));
    }
    legal
}

fn amount(form: &mut Draft, field: &'static str, units: &[Unit]) -> Option<i64> {
    let unit = form.value(&format!("{field}_unit")).to_owned();
    match units::join(form.value(field), &unit, units) {
        Ok(total) => Some(total),
        Err(why) => {
            form.wrong(field, why);
            None
        }
    }
}

/// The word by which the API knows a variant.
#[must_use]
pub fn word(variant: &impl serde::Serialize) -> String {
    match serde_json::to_value(variant) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::model::Classification;

    fn filled() -> Draft {
        blank().with("app", "checkout").with("name", "orders")
    }

    /// The same form with other values.
    fn changed(changes: &[(&str, &str)]) -> Draft {
        let mut form = Draft::new();
        for field in [
            "app",
            "name",
            "classification",
            "visibility",
            "partitions",
            "cleanup",
            "keep",
            "time",
            "time_unit",
            "size_unit",
        ] {
            let value = changes
                .iter()
                .find(|(name, _)| *name == field)
                .map_or(filled().value(field).to_owned(), |c| c.1.to_owned());
            form = form.with(field, value);
        }
        for (field, value) in changes.iter().filter(|(name, _)| ["size", "description"].contains(name)) {
            form = form.with(field, *value);
        }
        form
    }

    #[test]
    fn the_defaults_with_an_application_and_a_name_are_a_topic() {
        let (name, spec) = check(&mut filled(), None).expect("the defaults are valid");
        assert_eq!(name.as_str(), "orders");
        assert_eq!((spec.partitions, spec.retention_ms, spec.retention_bytes), (3, Some(604_800_000), None));
        assert_eq!(spec.classification, Classification::Internal);
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let mut form = changed(&[
            ("app", ""),
            ("name", "Orders!"),
            ("partitions", "0"),
            ("time", "soon"),
            ("size", "-1"),
            ("cleanup", "burn"),
        ]);
        assert_eq!(check(&mut form, None), None);
        for field in ["app", "name", "partitions", "time", "size", "cleanup"] {
            assert!(form.error(field).is_some_and(|why| why.ends_with('.')), "{field}: {form:?}");
        }
    }

    #[test]
    fn for_ever_needs_no_time() {
        let mut form = changed(&[("keep", "ever"), ("time", "")]);
        assert_eq!(check(&mut form, None).map(|(_, spec)| spec.retention_ms), Some(None));
    }

    #[test]
    fn a_browsers_line_ends_are_stored_as_one_character() {
        let mut form = changed(&[("description", "a\r\nb\r\n")]);
        assert_eq!(check(&mut form, None).map(|(_, spec)| spec.description), Some("a\nb".to_owned()));
    }
}
