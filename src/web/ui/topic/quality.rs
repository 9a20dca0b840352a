//! What could be better about a topic, in words, each with the place where it is put right.

use crate::catalog::model::{Classification, Cleanup, Operation, Topic, Visibility};

/// How much a hint matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Something may go wrong.
    Warning,
    /// Somebody will have to ask.
    Advice,
}

impl Hint {
    /// Something may go wrong.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        self.weight == Weight::Warning
    }

    /// Its sign.
    #[must_use]
    pub fn icon(&self) -> &'static str {
        if self.is_warning() { "warn" } else { "info" }
    }
}

/// One sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    pub weight: Weight,
    pub text: String,
    /// Where to put it right, and what the link says.
    pub fix: Option<(String, &'static str)>,
}

/// What is known about a topic beside its own row.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Human owners of the owning application.
    pub owners: usize,
    /// Applications that may read, without those whose access has ended.
    pub consumers: usize,
    /// Bytes kept.
    pub stored_bytes: u64,
}

/// Without a bound, a topic beyond this many bytes is worth a warning.
const UNBOUNDED_BYTES: u64 = 1 << 30;

/// The hints about a topic, the weightier first.
#[must_use]
pub fn hints(topic: &Topic, facts: Facts) -> Vec<Hint> {
    let edit = |field: &str| format!("/topics/{}/edit#{field}", topic.name);
    let app = format!("/apps/{}", topic.app);
    let mut found = Vec::new();
    let mut hint = |weight, text: String, fix: Option<(String, &'static str)>| found.push(Hint { weight, text, fix });

    if topic.description.trim().is_empty() {
        let text = "Nobody can tell what the events mean: there is no description.".to_owned();
        hint(Weight::Advice, text, Some((edit("description"), "Write one")));
    }
    if facts.owners < 2 {
        let who = if facts.owners == 0 { "no human owner" } else { "one human owner only" };
        let text = format!("The application {} has {who}. If that person is away, nobody answers.", topic.app);
        hint(Weight::Advice, text, Some((app, "Add an owner")));
    }
    if topic.classification >= Classification::Confidential && topic.visibility == Visibility::Company {
        let text = format!(
            "The records are {} while everybody in the company sees that the topic exists. Reading still needs a grant.",
            classification(topic.classification)
        );
        hint(Weight::Advice, text, Some((edit("visibility"), "Hide it")));
    }
    if topic.cleanup == Cleanup::Delete && topic.retention_ms.is_none() && topic.retention_bytes.is_none() {
        let weight = if facts.stored_bytes > UNBOUNDED_BYTES { Weight::Warning } else { Weight::Advice };
        let text = "Records are kept for ever, so the topic only grows.".to_owned();
        hint(weight, text, Some((edit("retention"), "Set a retention")));
    }
    if topic.partitions == 1 && facts.consumers > 3 {
        let text =
            "One partition serves all readers of a group one after the other. More partitions let them share the work."
                .to_owned();
        hint(Weight::Advice, text, Some((edit("partitions"), "Add partitions")));
    }
    if looks_versioned(topic.name.as_str()) {
        let text =
            "The name carries a version. Readers have to move when it changes; a field in the event ages better."
                .to_owned();
        hint(Weight::Advice, text, None);
    }
    found.sort_by_key(|hint| hint.weight);
    found
}

fn looks_versioned(name: &str) -> bool {
    name.split(['.', '-', '_']).any(|part| {
        part.strip_prefix('v').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// The classification as a word in a sentence.
#[must_use]
pub const fn classification(class: Classification) -> &'static str {
    match class {
        Classification::Public => "public",
        Classification::Internal => "internal",
        Classification::Confidential => "confidential",
        Classification::Restricted => "restricted",
    }
}

/// What a right lets an application do, as a verb.
#[must_use]
pub const fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Produce => "produce",
        Operation::Consume => "consume",
        Operation::Manage => "manage",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::ui::records::testing;

    fn topic(name: &str) -> Topic {
        Topic { description: "One event an order".to_owned(), ..Topic::clone(&testing::topic(name)) }
    }

    const FINE: Facts = Facts { owners: 2, consumers: 1, stored_bytes: 0 };

    #[test]
    fn a_well_kept_topic_has_no_hints() {
        assert_eq!(hints(&topic("orders"), FINE), []);
    }

    #[test]
    fn each_neglect_is_named_with_the_place_to_put_it_right() {
        let mut bad = topic("orders.v2");
        bad.description = " ".to_owned();
        bad.classification = Classification::Restricted;
        bad.retention_ms = None;
        bad.partitions = 1;
        let found = hints(&bad, Facts { owners: 1, consumers: 4, stored_bytes: 2 << 30 });
        assert_eq!(found.len(), 6);
        assert_eq!(found[0].weight, Weight::Warning, "{found:?}");
        assert!(found.iter().filter(|hint| hint.fix.is_some()).count() == 5);
    }

    #[test]
    fn only_a_part_of_its_own_counts_as_a_version() {
        assert!(looks_versioned("a.v1") && looks_versioned("v2-x"));
        assert!(!looks_versioned("vienna.v") && !looks_versioned("tv1"));
    }
}
