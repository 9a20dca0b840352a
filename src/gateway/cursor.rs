//! The cursor: one text for every position, `orders@7f3a1b2c/0:543,1:923,payments@b2c4d5e6/0:12`.
//!
//! It names, for each partition, the next offset to read, and the incarnation of the topic, so that a cursor of a deleted
//! topic never reads from its successor. It is the `id` of a server-sent event, the `next` of a page and the value of
//! `from`. It holds no character that a shell or a URL would change, and parsing accepts any text without panicking.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use crate::names::{Offset, TopicName};

/// Longest cursor text that is looked at, in bytes.
const CURSOR_BYTES_MAX: usize = 16 * 1024;

/// Longest cursor that is given out, in bytes: with everything else that a client sends, it must fit into the head of a
/// request, where a reader that comes back puts it.
pub const CURSOR_GIVEN_BYTES_MAX: usize = 8 * 1024;

/// The most bytes that a topic takes in a cursor, wherever its readers get to: the name, `@7f3a1b2c/`, and for each
/// partition as much as `1023:9223372036854775807,` and a little more.
#[must_use]
pub fn cursor_bytes(topic: &TopicName, partitions: usize) -> usize {
    partitions.saturating_mul(27).saturating_add(topic.as_str().len() + 10)
}

/// Most partitions one cursor lists.
pub const CURSOR_PARTITIONS_MAX: usize = 1024;

/// Why a text is not a cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CursorError(pub String);

/// Next offset to read, for every partition of every topic it names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor {
    /// In the order of the text, each topic once.
    pub topics: Vec<TopicCursor>,
}

/// A cursor's part for one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicCursor {
    /// `None` only in the short form that a URL with one topic takes: `0:543,1:923`.
    pub topic: Option<Incarnation>,
    /// Next offset to read by partition; never empty.
    pub next: BTreeMap<u32, Offset>,
}

/// Which topic, and which of its lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incarnation {
    /// The topic's name.
    pub name: TopicName,
    /// Four to eight hex digits.
    pub generation: String,
}

impl Incarnation {
    /// Whether a topic with this generation is the one meant. A shorter text is a prefix-free match on its digits.
    #[must_use]
    pub fn is(&self, generation: &str) -> bool {
        generation.starts_with(&self.generation)
    }
}

impl Cursor {
    /// The part for a topic: by name, or the only part when it names none.
    #[must_use]
    pub fn of(&self, topic: &TopicName) -> Option<&TopicCursor> {
        self.topics.iter().find(|part| part.topic.as_ref().is_none_or(|incarnation| incarnation.name == *topic))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.topics.iter().enumerate() {
            if index > 0 {
                f.write_char(',')?;
            }
            if let Some(topic) = &part.topic {
                write!(f, "{}@{}/", topic.name, topic.generation)?;
            }
            for (index, (partition, next)) in part.next.iter().enumerate() {
                let comma = if index > 0 { "," } else { "" };
                write!(f, "{comma}{partition}:{next}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        if text.len() > CURSOR_BYTES_MAX {
            return Err(CursorError(format!("a cursor has at most {CURSOR_BYTES_MAX} bytes")));
        }
        let mut topics: Vec<TopicCursor> = Vec::new();
        let mut partitions = 0;
        for part in text.split(',') {
            let (topic, entry) = match part.rsplit_once('/') {
                Some((topic, entry)) => (Some(parse_incarnation(topic)?), entry),
                None => (None, part),
            };
            if topic.is_some() || topics.is_empty() {
                check_new_topic(&topics, topic.as_ref())?;
                topics.push(TopicCursor { topic, next: BTreeMap::new() });
            }
            partitions += 1;
            if partitions > CURSOR_PARTITIONS_MAX {
                return Err(CursorError(format!("a cursor lists at most {CURSOR_PARTITIONS_MAX} partitions")));
            }
            let (partition, next) = parse_entry(entry)?;
            let last = topics.last_mut().ok_or_else(|| CursorError("a cursor names a partition".to_owned()))?;
            if last.next.insert(partition, next).is_some() {
                return Err(CursorError(format!("partition {partition} is listed twice")));
            }
        }
        Ok(Self { topics })
    }
}

fn check_new_topic(topics: &[TopicCursor], topic: Option<&Incarnation>) -> Result<(), CursorError> {
    let Some(topic) = topic else { return Ok(()) };
    let same = |part: &TopicCursor| part.topic.as_ref().is_none_or(|known| known.name == topic.name);
    if topics.iter().any(same) {
        return Err(CursorError(format!(
            "topic {} is listed twice, or follows partitions without a topic",
            topic.name
        )));
    }
    Ok(())
}

fn parse_incarnation(text: &str) -> Result<Incarnation, CursorError> {
    let (name, generation) = text
        .split_once('@')
        .ok_or_else(|| CursorError("a topic in a cursor looks like orders@7f3a1b2c/".to_owned()))?;
    let name = name.parse().map_err(|error: crate::names::NameError| CursorError(error.to_string()))?;
    let hex = generation.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if !hex || !(4..=8).contains(&generation.len()) {
        return Err(CursorError("the generation after '@' has four to eight hex digits".to_owned()));
    }
    Ok(Incarnation { name, generation: generation.to_owned() })
}

fn parse_entry(text: &str) -> Result<(u32, Offset), CursorError> {
    let bad = || CursorError("a part of a cursor is PARTITION:OFFSET, such as 0:543".to_owned());
    let (partition, next) = text.split_once(':').ok_or_else(bad)?;
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(partition) || !digits(next) {
        return Err(bad());
    }
    let partition = partition.parse().map_err(|_| bad())?;
    let next = next.parse().map_err(|_| bad())?;
    Ok((partition, Offset(next)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};

    use super::*;

    fn partitions() -> impl Strategy<Value = BTreeMap<u32, Offset>> {
        prop::collection::btree_map(any::<u32>(), (0..=i64::MAX).prop_map(Offset), 1..8)
    }

    fn cursors() -> impl Strategy<Value = Cursor> {
        let topic = ("[a-z0-9][a-z0-9._-]{0,20}", "[0-9a-f]{4,8}", partitions());
        let named = prop::collection::vec(topic, 1..4).prop_map(|topics| {
            let mut seen = std::collections::BTreeSet::new();
            let topics = topics.into_iter().filter(|(name, ..)| seen.insert(name.clone()));
            let part = |(name, generation, next): (String, String, _)| TopicCursor {
                topic: name.parse().ok().map(|name| Incarnation { name, generation }),
                next,
            };
            Cursor { topics: topics.map(part).collect() }
        });
        let short = partitions().prop_map(|next| Cursor { topics: vec![TopicCursor { topic: None, next }] });
        prop_oneof![named, short, Just(()).prop_map(|()| "0:0".parse().unwrap())]
    }

    proptest! {
        #[test]
        fn a_printed_cursor_parses_to_itself(cursor in cursors()) {
            prop_assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor));
        }

        #[test]
        fn any_text_is_parsed_or_refused_without_a_panic(text in any::<String>()) {
            let _ = text.parse::<Cursor>();
        }

        #[test]
        fn a_text_that_nearly_is_a_cursor_never_panics(text in "[a-z0-9@/:,.-]{0,60}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor));
            }
        }
    }

    #[test]
    fn a_part_without_a_topic_belongs_to_the_topic_before() {
        let cursor: Cursor = "orders@7f3a/0:543,1:923,payments@b2c4/0:12".parse().unwrap();
        assert_eq!(cursor.topics.len(), 2);
        assert_eq!(cursor.of(&"orders".parse().unwrap()).unwrap().next.len(), 2);
        assert_eq!(cursor.of(&"payments".parse().unwrap()).unwrap().next[&0], Offset(12));
        assert!(cursor.of(&"refunds".parse().unwrap()).is_none());
    }

    #[test]
    fn a_cursor_without_a_topic_belongs_to_the_topic_of_the_url() {
        let cursor: Cursor = "3:18000".parse().unwrap();
        assert_eq!(cursor.of(&"anything".parse().unwrap()).unwrap().next[&3], Offset(18000));
    }

    #[test]
    fn what_is_not_a_cursor_is_refused_with_a_sentence() {
        let twice = "0:1,0:2";
        let mixed = "0:1,orders@7f3a/0:1";
        let repeated = "orders@7f3a/0:1,orders@7f3a/1:1";
        let huge = format!("0:{}", "9".repeat(40));
        for bad in ["", ",", "0", "0:", ":1", "0:-1", "0:+1", "a:1", "orders/0:1", "orders@xyz!/0:1", "Orders@7f3a/0:1"]
            .into_iter()
            .chain([twice, mixed, repeated, huge.as_str(), "orders@7f3a1b2c9/0:1", "orders@7f/0:1"])
        {
            let refused = bad.parse::<Cursor>();
            assert!(refused.is_err_and(|error| !error.to_string().is_empty()), "{bad:?}");
        }
    }
}
