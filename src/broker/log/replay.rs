//! Replaying frames of the log: the same changes that the commit thread made, taken from what it wrote.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::Shared;
use super::apply::{Applier, Change, Group};
use super::loss::Missing;
use super::partition::Partition;
use super::queue::Trim;
use super::recovery::{OpenError, RecoveryReport};
use super::wal::Position;
use super::wal::frame::{Entry, Frame, KeyEntry};
use super::wire::len64;
use crate::broker::engine::{Appended, Bounds, IdempotencyKey};
use crate::broker::idempotency::{Lookup, Remembered};
use crate::broker::record::RecordBatch;
use crate::clock::Timestamp;
use crate::names::{Offset, TopicId, TopicPartition};

/// Replayed groups are applied when they reach this many bytes.
const ROUND_BYTES: usize = 8 << 20;

/// See the module's text.
pub(super) struct Replay<'a> {
    shared: Arc<Shared>,
    applier: &'a mut Applier,
    next_partition: u32,
    groups: Vec<Group>,
    bytes: usize,
    /// Of the frame at hand: the partitions it has created, and where its batches went.
    created: Vec<Arc<Partition>>,
    appended: Vec<Appended>,
    frames: u64,
    records: u64,
    /// Frames before the one at hand could not be read: what depends on them is passed over as well, and counted.
    passes_over: bool,
    missing: Vec<Missing>,
    unplaced: u64,
}

/// How the store numbers on, and what was passed over.
pub(super) struct Replayed {
    pub(super) next_partition: u32,
    pub(super) missing: Vec<Missing>,
    pub(super) unplaced: u64,
}

impl<'a> Replay<'a> {
    pub(super) fn new(shared: Arc<Shared>, applier: &'a mut Applier, next_partition: u32) -> Self {
        Self {
            shared,
            applier,
            next_partition,
            groups: Vec::new(),
            bytes: 0,
            created: Vec::new(),
            appended: Vec::new(),
            frames: 0,
            records: 0,
            passes_over: false,
            missing: Vec::new(),
            unplaced: 0,
        }
    }

    /// Frames before the next one could not be read.
    pub(super) fn pass_over(&mut self) {
        self.passes_over = true;
    }

    /// Replays one frame; the log goes on at `position` after it.
    pub(super) fn frame(&mut self, frame: &Frame<'_>, position: Position) -> Result<(), OpenError> {
        let mut group = Group {
            position,
            next_partition: self.next_partition,
            accepted: frame.header.time,
            appends: Vec::new(),
            changes: Vec::new(),
            frame_bytes: 0,
        };
        self.appended.clear();
        let unplaced = self.unplaced;
        for entry in frame.entries() {
            // A key answers with the appends before it; not all of them may have a place any more.
            if self.unplaced > unplaced && matches!(entry, Entry::IdempotencyKey(_)) {
                self.unplaced += 1;
                continue;
            }
            let unknown = matches!(entry, Entry::Unsupported { .. });
            match self.entry(entry, &mut group) {
                Err(_) if self.passes_over && !unknown => self.unplaced += 1,
                other => other.map_err(|problem| OpenError::Unsupported { lsn: frame.header.lsn, problem })?,
            }
        }
        self.settle_created(&mut group);
        group.next_partition = self.next_partition;
        let changes = !group.changes.is_empty();
        if changes {
            // What goes may have got files before, for what was not applied again yet; they must be known to be removed.
            self.apply()?;
        }
        self.groups.push(group);
        self.frames += 1;
        // Later frames look up what this one created.
        if changes || self.bytes >= ROUND_BYTES {
            self.apply()?;
        }
        Ok(())
    }

    /// Applies the rest, and tells what was replayed.
    pub(super) fn finish(mut self, report: &mut RecoveryReport) -> io::Result<Replayed> {
        self.apply()?;
        report.groups_replayed = self.frames;
        report.records_replayed = self.records;
        let Self { next_partition, missing, unplaced, .. } = self;
        Ok(Replayed { next_partition, missing, unplaced })
    }

    fn apply(&mut self) -> io::Result<()> {
        self.bytes = 0;
        self.applier.apply(std::mem::take(&mut self.groups))
    }

    /// Changes of partitions are frames of their own, so a group's changes and appends do not depend on each other.
    fn entry(&mut self, entry: Entry<'_>, group: &mut Group) -> Result<(), String> {
        match entry {
            Entry::Append { partition, base, batch } => self.append(partition, base, batch, group),
            Entry::CreatePartition { partition, at } => self.create(partition, at),
            Entry::DeleteTopic { topic } => self.delete(topic, group),
            Entry::LogStart { partition, start } => self.start(partition, start, group),
            Entry::SealSegment { partition, end } => self.seal(partition, end, group),
            Entry::IdempotencyKey(entry) => self.learn(&entry, group.accepted),
            Entry::Unsupported { kind } => Err(format!("an entry of kind {kind}")),
        }
    }

    fn append(&mut self, partition: u32, base: Offset, batch: &[u8], group: &mut Group) -> Result<(), String> {
        let Some(known) = self.applier.partition(partition) else {
            if self.passes_over {
                // Made by a frame that is missing. Its number is never given again.
                self.next_partition = self.next_partition.max(partition.saturating_add(1));
            }
            return Err("an unknown partition".to_owned());
        };
        let partition = Arc::clone(known);
        // A copy: the batch must not keep the whole segment in memory.
        let batch = RecordBatch::stored(Bytes::copy_from_slice(batch)).map_err(|problem| problem.to_string())?;
        let end = partition.end();
        let follows = end == base || (end < base && self.passes_over);
        if batch.base_offset() != base || !follows {
            return Err("a batch that does not follow the one before it".to_owned());
        }
        if end < base {
            self.missing.push(Missing { at: partition.at, from: end, to: base });
        }
        self.shared.producers.lock().learn(partition.at, &batch, group.accepted);
        self.records += u64::from(batch.count());
        self.bytes += batch.len();
        let (to, count, timestamp) = (partition.at, batch.count(), batch.max_timestamp());
        self.appended.push(Appended { to, first: base, count, timestamp });
        partition.push(batch.clone());
        partition.next.store(batch.next_offset().0, Ordering::Relaxed);
        partition.publish(batch.next_offset());
        group.appends.push((partition, batch));
        Ok(())
    }

    fn create(&mut self, partition: u32, at: TopicPartition) -> Result<(), String> {
        let known = self.shared.topics.topic(at.topic).map_or(0, |partitions| partitions.len());
        let follows = len64(known + self.created.len()) == u64::from(at.partition);
        let same_topic = self.created.first().is_none_or(|first| first.at.topic == at.topic);
        let in_order = partition == self.next_partition || (partition > self.next_partition && self.passes_over);
        if !follows || !same_topic || !in_order {
            return Err("a partition out of order".to_owned());
        }
        self.next_partition = partition + 1;
        self.created.push(Arc::new(Partition::new(partition, at, Bounds::default(), Vec::new())));
        Ok(())
    }

    fn settle_created(&mut self, group: &mut Group) {
        if !self.created.is_empty() {
            let created = std::mem::take(&mut self.created);
            self.change(Change::Created(created), group);
        }
    }

    fn delete(&mut self, topic: TopicId, group: &mut Group) -> Result<(), String> {
        let partitions = self.shared.topics.topic(topic).ok_or("an unknown topic")?;
        self.change(Change::Deleted(topic, partitions), group);
        Ok(())
    }

    fn start(&mut self, partition: u32, start: Offset, group: &mut Group) -> Result<(), String> {
        let partition = self.applier.partition(partition).map(Arc::clone).ok_or("an unknown partition")?;
        if start > partition.end() {
            return Err("a start beyond the end".to_owned());
        }
        let starts = vec![(partition, start)];
        self.change(Change::Trimmed(Trim { seals: Vec::new(), starts, carried_out: None }), group);
        Ok(())
    }

    fn seal(&mut self, partition: u32, end: Offset, group: &mut Group) -> Result<(), String> {
        let partition = self.applier.partition(partition).map(Arc::clone).ok_or("an unknown partition")?;
        if end != partition.end() {
            return Err("a segment's end that is not the partition's".to_owned());
        }
        self.change(Change::Trimmed(Trim { seals: vec![partition], starts: Vec::new(), carried_out: None }), group);
        Ok(())
    }

    fn change(&self, change: Change, group: &mut Group) {
        change.publish(&self.shared);
        group.changes.push(change);
    }

    fn learn(&self, entry: &KeyEntry, at: Timestamp) -> Result<(), String> {
        let first = usize::try_from(entry.appends).ok().and_then(|count| self.appended.len().checked_sub(count));
        let appended = self.appended[first.ok_or("a key without its appends")?..].into();
        let (tenant, digest) = (entry.tenant, entry.digest);
        let mut keys = self.shared.keys.lock();
        // A key of the manifest may be of this very frame.
        if keys.lookup(&IdempotencyKey { key: entry.key, digest }, at) == Lookup::New {
            keys.insert(entry.key, Remembered { tenant, digest, at, appended });
        }
        Ok(())
    }
}
