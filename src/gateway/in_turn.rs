//! Records without a key go to the partitions in turn.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::names::TopicId;

/// Counters for records without a key. Topics share them by their id, so the table never grows.
const COUNTERS: usize = 1024;

/// Hands out partitions in turn, topic by topic.
#[derive(Debug)]
pub struct InTurn {
    counters: Box<[AtomicU32]>,
}

impl Default for InTurn {
    fn default() -> Self {
        Self { counters: (0..COUNTERS).map(|_| AtomicU32::new(0)).collect() }
    }
}

impl InTurn {
    /// The next partition for records of this topic that have no key.
    pub fn next(&self, topic: TopicId, partitions: u32) -> u32 {
        let bytes = topic.0.as_bytes();
        let slot = usize::from(u16::from_be_bytes([bytes[14], bytes[15]])) % self.counters.len();
        self.counters[slot].fetch_add(1, Ordering::Relaxed) % partitions.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_without_a_key_take_every_partition_in_turn() {
        let turn = InTurn::default();
        let topic = TopicId::new();
        let seen: Vec<u32> = (0..6).map(|_| turn.next(topic, 3)).collect();
        assert_eq!(seen, [0, 1, 2, 0, 1, 2]);
    }
}
