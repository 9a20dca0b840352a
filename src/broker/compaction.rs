//! Compaction by key: which records of a compacted topic stay. Pure; both engines go by it.
//!
//! As in Kafka's log cleaner: of the records below a pass's reach, the last one of every key stays, and those without a
//! key. A tombstone stays until readers had time to see it: the first pass that meets it writes a horizon into its
//! batch, and the first pass after that horizon takes it out. No record moves and no offset is given again.
//!
//! Kafka refuses records without a key when they are sent to a compacted topic and removes those that it finds. Weir's
//! contract says neither, so they stay.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use super::record::{RecordBatch, RecordView};
use crate::clock::Timestamp;
use crate::names::Offset;

/// Bytes that a key takes in the map, whatever its length.
const SLOT_BYTES: usize = size_of::<Slot>();

/// Of a hundred slots of the map so many are used at most: beyond, looking up walks far.
const LOAD_PERCENT_MAX: usize = 75;

/// The last offset of every key, by a 128-bit hash of the key: keys of any length take the same fixed memory. The hash is
/// seeded at random, so nobody can look for two keys that share one.
pub(super) struct OffsetMap {
    seeds: [RandomState; 2],
    slots: Vec<Slot>,
    used: usize,
    used_max: usize,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    hash: [u64; 2],
    /// The offset plus 1; 0 in a free slot.
    after: i64,
}

impl OffsetMap {
    /// A map for up to `keys` keys, in at most `bytes_max` bytes.
    pub(super) fn new(keys: u64, bytes_max: usize) -> Self {
        let affordable = (bytes_max / SLOT_BYTES).max(2);
        let wanted = usize::try_from(keys).unwrap_or(usize::MAX).saturating_mul(100) / LOAD_PERCENT_MAX;
        let slots = wanted.saturating_add(2).min(affordable);
        Self {
            seeds: [RandomState::new(), RandomState::new()],
            slots: vec![Slot::default(); slots],
            used: 0,
            used_max: (slots * LOAD_PERCENT_MAX / 100).max(1),
        }
    }

    /// Notes that the key's last record is this one. False if there is no room for another key.
    #[must_use]
    pub(super) fn note(&mut self, key: &[u8], offset: Offset) -> bool {
        let hash = self.hash(key);
        let index = self.find(hash);
        let slot = &mut self.slots[index];
        if slot.after == 0 {
            if self.used == self.used_max {
                return false;
            }
            self.used += 1;
        }
        *slot = Slot { hash, after: offset.0.saturating_add(1) };
        true
    }

    /// Offset of the key's last record that was noted.
    pub(super) fn last(&self, key: &[u8]) -> Option<Offset> {
        let after = self.slots[self.find(self.hash(key))].after;
        (after > 0).then(|| Offset(after - 1))
    }

    /// Where the key is, or the free place where it belongs; there always is one, as the map is never full.
    fn find(&self, hash: [u64; 2]) -> usize {
        let slots = self.slots.len();
        let mut index = usize::try_from(hash[0] % (slots as u64)).unwrap_or(0);
        while self.slots[index].after != 0 && self.slots[index].hash != hash {
            index = (index + 1) % slots;
        }
        index
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        [self.seeds[0].hash_one(key), self.seeds[1].hash_one(key)]
    }
}

/// What one pass does to a partition.
pub(super) struct Pass<'a> {
    /// The last offsets of the keys between what is clean already and `reach`.
    pub(super) map: &'a OffsetMap,
    /// Records from here on are left alone.
    pub(super) reach: Offset,
    pub(super) now: Timestamp,
    /// How long a tombstone stays after the first pass that met it.
    pub(super) delete_retention: Duration,
}

/// What is left of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Left {
    Whole,
    Changed(RecordBatch),
    Nothing,
}

impl Pass<'_> {
    /// What is left of a batch. Every batch of the partition before it must have gone through the same pass: a tombstone
    /// may only go when no older record of its key is left.
    pub(super) fn clean(&self, batch: &RecordBatch) -> Left {
        let tombstones_go = batch.delete_horizon().is_some_and(|horizon| horizon <= self.now);
        let stays = |record: &RecordView<'_>| self.stays(record, tombstones_go);
        let (mut kept, mut tombstones) = (0, false);
        for record in batch.records().filter(stays) {
            kept += 1;
            tombstones |= is_tombstone(&record);
        }
        // Those of a batch that is not seen whole get theirs with the rest of it.
        let seen = batch.last_offset() < self.reach;
        let horizon = (tombstones && seen && batch.delete_horizon().is_none()).then(|| self.horizon());
        if kept == batch.count() && horizon.is_none() {
            return Left::Whole;
        }
        batch.retain(stays, horizon).map_or(Left::Nothing, Left::Changed)
    }

    fn stays(&self, record: &RecordView<'_>, tombstones_go: bool) -> bool {
        let Some(key) = record.key.filter(|_| record.offset < self.reach) else { return true };
        let is_last = self.map.last(key).is_none_or(|last| last <= record.offset);
        is_last && !(tombstones_go && is_tombstone(record))
    }

    fn horizon(&self) -> Timestamp {
        let retention = i64::try_from(self.delete_retention.as_millis()).unwrap_or(i64::MAX);
        Timestamp(self.now.0.saturating_add(retention))
    }
}

/// Whether the record says that its key is gone.
fn is_tombstone(record: &RecordView<'_>) -> bool {
    record.key.is_some() && record.value.is_none()
}

/// From when on the next pass has tombstones of this batch to remove; `None` if there are none that a pass has seen.
pub(super) fn due(batch: &RecordBatch) -> Option<Timestamp> {
    batch.delete_horizon().filter(|_| batch.records().any(|record| is_tombstone(&record)))
}

/// Notes the keys of a batch's records from `from` on. The offset up to which that worked: the batch's next one, or that
/// of the first record whose key did not fit.
pub(super) fn note(map: &mut OffsetMap, batch: &RecordBatch, from: Offset) -> Offset {
    let mut wanted = batch.records().filter(|record| record.offset >= from);
    let unfit = wanted.find(|record| record.key.is_some_and(|key| !map.note(key, record.offset)));
    unfit.map_or(batch.next_offset(), |record| record.offset)
}

#[cfg(test)]
#[path = "compaction_tests.rs"]
mod tests;
