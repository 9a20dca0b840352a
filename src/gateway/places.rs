//! Where a reader stands: for each partition of each topic, the next offset to read.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cursor::{Cursor, Incarnation, TopicCursor};
use crate::catalog::model::Topic;
use crate::names::{Offset, TopicPartition};

/// Next offsets, topic by topic. What a [`Cursor`] is in text, this is for work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// In the order of the request.
    pub topics: Vec<TopicPlaces>,
}

/// The places in one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPlaces {
    /// The topic, as it was when the reader was authorised last.
    pub topic: Arc<Topic>,
    /// Its generation, ready to be printed.
    pub generation: String,
    /// In ascending order of partitions.
    pub partitions: Vec<Place>,
}

/// The place in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The partition.
    pub partition: u32,
    /// Next offset to read.
    pub next: Offset,
}

/// A place's address inside [`Places`]: topic and partition by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Index into [`Places::topics`].
    pub topic: usize,
    /// Index into [`TopicPlaces::partitions`].
    pub partition: usize,
}

impl TopicPlaces {
    /// Places in a topic; the caller fills in the offsets.
    #[must_use]
    pub fn new(topic: Arc<Topic>, partitions: Vec<Place>) -> Self {
        Self { generation: topic.id.generation(), topic, partitions }
    }
}

impl Places {
    /// Number of partitions in all topics.
    #[must_use]
    pub fn len(&self) -> usize {
        self.topics.iter().map(|topic| topic.partitions.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every slot, in order.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        let of_topic = |(topic, places): (usize, &TopicPlaces)| {
            (0..places.partitions.len()).map(move |partition| Slot { topic, partition })
        };
        self.topics.iter().enumerate().flat_map(of_topic)
    }

    /// The place in a slot.
    #[must_use]
    pub fn place(&self, slot: Slot) -> Place {
        self.topics[slot.topic].partitions[slot.partition]
    }

    /// The engine's name for a slot.
    #[must_use]
    pub fn address(&self, slot: Slot) -> TopicPartition {
        let topic = &self.topics[slot.topic];
        TopicPartition { topic: topic.topic.id, partition: topic.partitions[slot.partition].partition }
    }

    /// The engine's names for all slots.
    #[must_use]
    pub fn addresses(&self) -> Vec<TopicPartition> {
        self.slots().map(|slot| self.address(slot)).collect()
    }

    /// Moves one place.
    pub fn set(&mut self, slot: Slot, next: Offset) {
        self.topics[slot.topic].partitions[slot.partition].next = next;
    }

    /// The same as a cursor.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        let part = |places: &TopicPlaces| TopicCursor {
            topic: Some(Incarnation { name: places.topic.name.clone(), generation: places.generation.clone() }),
            next: places.partitions.iter().map(|place| (place.partition, place.next)).collect::<BTreeMap<_, _>>(),
        };
        Cursor { topics: self.topics.iter().filter(|t| !t.partitions.is_empty()).map(part).collect() }
    }

    /// Appends the cursor's text. `instead` replaces the offset of one slot: the cursor right after one record.
    pub fn write_cursor(&self, out: &mut Vec<u8>, instead: Option<(Slot, Offset)>) {
        let mut first = true;
        for (topic_index, topic) in self.topics.iter().enumerate() {
            for (partition_index, place) in topic.partitions.iter().enumerate() {
                if !first {
                    out.push(b',');
                }
                first = false;
                if partition_index == 0 {
                    out.extend_from_slice(topic.topic.name.as_str().as_bytes());
                    out.push(b'@');
                    out.extend_from_slice(topic.generation.as_bytes());
                    out.push(b'/');
                }
                let here = Slot { topic: topic_index, partition: partition_index };
                let next = instead.filter(|(slot, _)| *slot == here).map_or(place.next, |(_, next)| next);
                write_decimal(out, u64::from(place.partition));
                out.push(b':');
                write_decimal(out, next.0.max(0).unsigned_abs());
            }
        }
    }
}

/// Appends a number in decimal.
pub fn write_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::super::testing::topic;
    use super::*;

    fn places() -> Places {
        let place = |partition, next| Place { partition, next: Offset(next) };
        Places {
            topics: vec![
                TopicPlaces::new(topic("orders", 2), vec![place(0, 543), place(1, 923)]),
                TopicPlaces::new(topic("payments", 1), vec![place(0, 12)]),
            ],
        }
    }

    #[test]
    fn the_written_cursor_is_the_canonical_text() {
        let places = places();
        let mut text = Vec::new();
        places.write_cursor(&mut text, None);
        assert_eq!(String::from_utf8(text).unwrap(), places.cursor().to_string());
    }

    #[test]
    fn the_cursor_after_one_record_differs_in_that_partition_only() {
        let places = places();
        let mut text = Vec::new();
        places.write_cursor(&mut text, Some((Slot { topic: 0, partition: 1 }, Offset(900))));
        let mut moved = places.clone();
        moved.set(Slot { topic: 0, partition: 1 }, Offset(900));
        assert_eq!(String::from_utf8(text).unwrap(), moved.cursor().to_string());
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_the_standard_library_does(number in any::<u64>()) {
            let mut out = Vec::new();
            write_decimal(&mut out, number);
            prop_assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
