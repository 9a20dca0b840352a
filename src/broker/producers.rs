//! What numbering producers have sent: Kafka's rules by which a batch that is sent again is not stored again.
//!
//! A producer has an id, an epoch and a number for each record of a partition. Of each partition and producer the last
//! five batches are remembered, for a day after the last one, in bounded memory: beyond the bound those that have been
//! quiet for longest are forgotten. A producer that is not known may go on with any number.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::engine::{Appended, CommitError, Write};
use super::record::{Producer, RecordBatch};
use crate::clock::Timestamp;
use crate::names::{Offset, TopicPartition};

/// How long a producer is remembered after its last batch.
const WINDOW: Duration = Duration::from_hours(24);

/// Batches that are remembered: Kafka's clients have at most this many on their way.
const BATCHES_MAX: usize = 5;

/// A producer's id, where it writes.
pub(super) type Key = (TopicPartition, i64);

/// Bounds of the memory for producers, about 400 bytes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerLimits {
    /// Of one partition.
    pub per_partition: usize,
    /// In all.
    pub all: usize,
}

impl Default for ProducerLimits {
    fn default() -> Self {
        Self { per_partition: 10_000, all: 200_000 }
    }
}

/// One batch that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbered {
    pub(super) sequence: i32,
    pub(super) first: Offset,
    pub(super) count: u32,
    /// The largest of the batch.
    pub(super) timestamp: Timestamp,
}

/// What is remembered of one producer in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) epoch: i16,
    /// When its last batch was accepted.
    pub(super) at: Timestamp,
    /// Of this epoch, the oldest first; never empty.
    pub(super) batches: Vec<Numbered>,
}

/// A sequence number `count` after `from`. After the largest comes 0.
fn after(from: i32, count: u32) -> i32 {
    let sum = (i64::from(from) + i64::from(count)).rem_euclid(1 << 31);
    i32::try_from(sum).unwrap_or(0)
}

/// Whether a batch may be appended: `Ok(None)` if so, and what it was stored as if it is there already.
fn judge(
    known: Option<&Known>,
    at: TopicPartition,
    producer: Producer,
    count: u32,
) -> Result<Option<Numbered>, CommitError> {
    let Some(known) = known else { return Ok(None) };
    if producer.epoch < known.epoch {
        return Err(CommitError::ProducerFenced { at, epoch: known.epoch });
    }
    let same_epoch = producer.epoch == known.epoch;
    let mut stored = known.batches.iter().filter(|_| same_epoch);
    if let Some(same) = stored.find(|batch| batch.sequence == producer.sequence && batch.count == count) {
        return Ok(Some(*same));
    }
    let last = known.batches.last().filter(|_| same_epoch);
    let expected = last.map_or(0, |last| after(last.sequence, last.count));
    if producer.sequence == expected { Ok(None) } else { Err(CommitError::OutOfSequence { at, expected }) }
}

/// Decides on a write that would be appended at `next`: the first answer if its batch is there already. Otherwise it is
/// noted in `draft`, for the writes after it. `known` is what is known beside the draft.
pub(super) fn decide(
    draft: &mut Draft,
    known: impl FnOnce(Key) -> Option<Known>,
    write: &Write,
    next: Offset,
    now: Timestamp,
) -> Result<Option<Appended>, CommitError> {
    let Some(producer) = write.batch.producer() else { return Ok(None) };
    let key = (write.to, producer.id);
    let known = draft.get(&key).cloned().or_else(|| known(key));
    if let Some(stored) = judge(known.as_ref(), write.to, producer, write.batch.count())? {
        let Numbered { first, count, timestamp, .. } = stored;
        return Ok(Some(Appended { to: write.to, first, count, timestamp }));
    }
    let placed = write.batch.clone().with_base_offset(next);
    draft.insert(key, advanced(known.as_ref(), producer, &placed, now));
    Ok(None)
}

/// What is known of a producer once a batch of it, which has its offset, is stored.
fn advanced(known: Option<&Known>, producer: Producer, batch: &RecordBatch, at: Timestamp) -> Known {
    let same_epoch = known.filter(|known| known.epoch == producer.epoch);
    let mut batches = same_epoch.map_or_else(|| Vec::with_capacity(BATCHES_MAX), |known| known.batches.clone());
    if batches.len() == BATCHES_MAX {
        batches.remove(0);
    }
    batches.push(Numbered {
        sequence: producer.sequence,
        first: batch.base_offset(),
        count: batch.count(),
        timestamp: batch.max_timestamp(),
    });
    Known { epoch: producer.epoch, at, batches }
}

/// What the table will know when records that are not durable yet are.
pub(super) type Draft = HashMap<Key, Known>;

/// The table.
#[derive(Debug)]
pub(super) struct Producers {
    limits: ProducerLimits,
    known: HashMap<Key, (u64, Known)>,
    /// The same in the order of their last batches, in all and by partition.
    by_use: BTreeMap<u64, Key>,
    by_partition: HashMap<TopicPartition, BTreeMap<u64, i64>>,
    uses: u64,
}

impl Producers {
    pub(super) fn new(limits: ProducerLimits) -> Self {
        Self { limits, known: HashMap::new(), by_use: BTreeMap::new(), by_partition: HashMap::new(), uses: 0 }
    }

    /// What is known of a producer, unless it was quiet for too long.
    pub(super) fn get(&self, key: Key, now: Timestamp) -> Option<&Known> {
        self.known.get(&key).map(|(_, known)| known).filter(|known| !expired(known, now))
    }

    pub(super) fn insert(&mut self, key: Key, known: Known) {
        self.remove(key);
        self.uses += 1;
        let (to, id) = key;
        self.by_use.insert(self.uses, key);
        let here = self.by_partition.entry(to).or_default();
        here.insert(self.uses, id);
        let quietest = here.first_key_value().map(|(_, &id)| (to, id));
        let crowded = here.len() > self.limits.per_partition;
        self.known.insert(key, (self.uses, known));
        if let Some(quietest) = quietest.filter(|_| crowded) {
            self.remove(quietest);
        }
        while self.known.len() > self.limits.all
            && let Some((_, &quietest)) = self.by_use.first_key_value()
        {
            self.remove(quietest);
        }
    }

    /// Learns a batch that the log holds, unless it is known already.
    pub(super) fn learn(&mut self, to: TopicPartition, batch: &RecordBatch, accepted: Timestamp) {
        let Some(producer) = batch.producer() else { return };
        let known = self.get((to, producer.id), accepted);
        let last = known.and_then(|known| known.batches.last());
        // The manifest may know of this very batch, and of later ones.
        if last.is_none_or(|last| last.first < batch.base_offset()) {
            let advanced = advanced(known, producer, batch, accepted);
            self.insert((to, producer.id), advanced);
        }
    }

    /// Forgets those of a partition that is gone.
    pub(super) fn forget(&mut self, to: TopicPartition) {
        for (_, id) in self.by_partition.remove(&to).into_iter().flatten() {
            self.remove((to, id));
        }
    }

    /// Forgets those that were quiet for too long.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        while let Some((_, &key)) = self.by_use.first_key_value()
            && self.get(key, now).is_none()
        {
            self.remove(key);
        }
    }

    /// At most `most` of them, in the order of their last batches, after `from`; and from where to go on, if there may be
    /// more. Who sends meanwhile comes again, later. So a large table is copied without keeping writers from it for long.
    pub(super) fn slice(&self, from: u64, most: usize) -> (Vec<(Key, Known)>, Option<u64>) {
        let slice: Vec<_> = self.by_use.range(from.saturating_add(1)..).take(most).collect();
        let next = slice.last().map(|(used, _)| **used);
        let known = slice.iter().filter_map(|(_, key)| Some((**key, self.known.get(key)?.1.clone())));
        (known.collect(), next)
    }

    fn remove(&mut self, key: Key) {
        let Some((used, _)) = self.known.remove(&key) else { return };
        self.by_use.remove(&used);
        if let Some(here) = self.by_partition.get_mut(&key.0) {
            here.remove(&used);
            if here.is_empty() {
                self.by_partition.remove(&key.0);
            }
        }
    }
}

fn expired(known: &Known, now: Timestamp) -> bool {
    now.0.saturating_sub(known.at.0) >= i64::try_from(WINDOW.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::names::TopicId;

    fn to(partition: u32) -> TopicPartition {
        TopicPartition { topic: TopicId(Uuid::from_u128(1)), partition }
    }

    fn known(at: i64) -> Known {
        let batch = Numbered { sequence: 0, first: Offset(0), count: 1, timestamp: Timestamp(0) };
        Known { epoch: 0, at: Timestamp(at), batches: vec![batch] }
    }

    fn ids(table: &Producers, keys: impl IntoIterator<Item = Key>) -> Vec<i64> {
        keys.into_iter().filter(|&key| table.get(key, Timestamp(0)).is_some()).map(|(_, id)| id).collect()
    }

    #[test]
    fn numbers_begin_again_after_the_largest() {
        assert_eq!(after(i32::MAX, 1), 0);
        assert_eq!(after(i32::MAX - 1, 5), 3);
        assert_eq!(after(7, 3), 10);
    }

    #[test]
    fn beyond_a_bound_the_quietest_are_forgotten() {
        let mut table = Producers::new(ProducerLimits { per_partition: 2, all: 3 });
        for id in [1, 2, 1, 3] {
            table.insert((to(0), id), known(0));
        }
        assert_eq!(ids(&table, [1, 2, 3].map(|id| (to(0), id))), [1, 3], "2 was quiet for longer than 1");
        for id in [4, 5] {
            table.insert((to(1), id), known(0));
        }
        assert_eq!(ids(&table, [(to(0), 1), (to(0), 3), (to(1), 4), (to(1), 5)]), [3, 4, 5]);
        table.forget(to(1));
        assert_eq!((table.known.len(), table.by_use.len(), table.by_partition.len()), (1, 1, 1));
    }

    #[test]
    fn a_table_is_copied_in_slices_and_forgets_what_is_old() {
        let mut table = Producers::new(ProducerLimits::default());
        for id in 1..=3 {
            table.insert((to(0), id), known(id));
        }
        let (first, next) = table.slice(0, 2);
        table.insert((to(0), 1), known(9));
        let (second, last) = table.slice(next.unwrap(), 2);
        assert_eq!(first.iter().chain(&second).map(|((_, id), _)| *id).collect::<Vec<_>>(), [1, 2, 3, 1]);
        assert_eq!(table.slice(last.unwrap(), 2), (Vec::new(), None));
        table.sweep(Timestamp(3 + 24 * 3_600_000));
        assert_eq!((table.known.len(), table.by_use.len()), (1, 1));
    }
}
