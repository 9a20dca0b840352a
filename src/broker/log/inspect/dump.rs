//! Batches of one partition, and frames of the log, one after the other.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::super::loss::Loss;
use super::super::partition::Partition;
use super::super::segment::files::Files;
use super::super::segment::{Segment, reader};
use super::super::wal::frame::{Entry, Frame};
use super::{InspectError, Store, segments};
use crate::broker::engine::Bounds;
use crate::broker::record::RecordBatch;
use crate::clock::Timestamp;
use crate::names::{Offset, TopicPartition};

/// How much of a partition is read at once, in bytes.
const STEP_BYTES: usize = 1 << 20;

/// A frame of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpedFrame {
    /// Its number.
    pub lsn: u64,
    /// The log file that it is in.
    pub segment: u64,
    /// Every frame up to this one was durable when it was written.
    pub durable_lsn: u64,
    /// Time of acceptance.
    pub time: Timestamp,
    /// Bytes, without padding.
    pub bytes: u64,
    /// What it says.
    pub entries: Vec<DumpedEntry>,
}

/// An entry of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DumpedEntry {
    /// Records.
    Append {
        /// The partition's number in the store.
        partition: u32,
        /// Offset of the first record.
        base: Offset,
        /// How many; `None` if the batch is damaged.
        records: Option<u32>,
        /// Bytes of the batch.
        bytes: usize,
    },
    /// A new partition.
    CreatePartition {
        /// The partition's number in the store.
        partition: u32,
        /// Which one it is.
        at: TopicPartition,
    },
    /// A partition keeps nothing below this offset.
    LogStart {
        /// The partition's number in the store.
        partition: u32,
        /// The new start.
        start: Offset,
    },
    /// A topic is gone.
    DeleteTopic {
        /// Which one.
        topic: crate::names::TopicId,
    },
    /// Something else, by its name in the code.
    Other(String),
}

impl DumpedEntry {
    fn of(entry: Entry<'_>) -> Self {
        match entry {
            Entry::Append { partition, base, batch } => {
                let records = RecordBatch::stored(Bytes::copy_from_slice(batch)).ok().map(|batch| batch.count());
                Self::Append { partition, base, records, bytes: batch.len() }
            }
            Entry::CreatePartition { partition, at } => Self::CreatePartition { partition, at },
            Entry::LogStart { partition, start } => Self::LogStart { partition, start },
            Entry::DeleteTopic { topic } => Self::DeleteTopic { topic },
            other => Self::Other(format!("{other:?}").split(['(', ' ']).next().unwrap_or_default().to_owned()),
        }
    }
}

impl Store {
    /// Hands out the batches of a partition from the one that holds `from` on, until `each` breaks off. At most `count`
    /// batches of those that are not in segments yet.
    pub fn batches(
        &self,
        at: TopicPartition,
        from: Offset,
        count: usize,
        mut each: impl FnMut(RecordBatch) -> ControlFlow<()>,
    ) -> Result<(), InspectError> {
        let (mut next, recent) = self.recent_batches(at, from, count)?;
        let manifest = self.manifest()?;
        let Some(known) = manifest.partitions.into_iter().find(|known| known.at == at) else {
            let _ = recent.into_iter().try_for_each(each);
            return Ok(());
        };
        let stored = segments(&known).map(|(key, extent)| Arc::new(Segment::known(key, extent))).collect();
        let partition = Partition::new(known.id, at, Bounds { start: known.start, end: known.next }, stored);
        let files = Files::new(Arc::clone(&self.disk), 1);
        while next < known.next {
            let found = reader::read(&partition, &files, next, STEP_BYTES).map_err(|_| InspectError::Damaged(next))?;
            let Some(last) = found.last() else { break };
            next = last.next_offset();
            if found.into_iter().try_for_each(&mut each).is_break() {
                return Ok(());
            }
        }
        let _ = recent.into_iter().filter(|batch| batch.base_offset() >= next).try_for_each(each);
        Ok(())
    }

    /// The batches of a partition from `from` on that the log holds. Where to begin reading, `from` or the start.
    fn recent_batches(
        &self,
        at: TopicPartition,
        from: Offset,
        count: usize,
    ) -> Result<(Offset, Vec<RecordBatch>), InspectError> {
        type Seen = (Option<u32>, Vec<RecordBatch>);
        let mut start = from;
        let make = |manifest: &super::Manifest| {
            let known = manifest.partitions.iter().find(|known| known.at == at);
            start = from.max(known.map_or(Offset(0), |known| known.start));
            Ok((known.map(|known| known.id), Vec::new()))
        };
        let each = |(id, found): &mut Seen, frame: Frame<'_>, _| {
            for entry in frame.entries() {
                match entry {
                    Entry::CreatePartition { partition, at: new } if new == at => *id = Some(partition),
                    Entry::DeleteTopic { topic } if topic == at.topic => (*id, *found) = (None, Vec::new()),
                    Entry::Append { partition, batch, .. } if Some(partition) == *id && found.len() < count => {
                        let batch = RecordBatch::stored(Bytes::copy_from_slice(batch));
                        found.extend(batch.ok().filter(|batch| batch.last_offset() >= from));
                    }
                    _ => {}
                }
            }
            Ok(())
        };
        let (id, found) = self.tail(make, each)?.seen;
        id.ok_or(InspectError::UnknownPartition)?;
        Ok((start, found))
    }

    /// Frames of the log since the checkpoint, from number `from` on, at most `count`.
    /// With it the groups that cannot be read.
    pub fn frames(&self, from: u64, count: usize) -> Result<(Vec<DumpedFrame>, Loss), InspectError> {
        let each = |seen: &mut Vec<DumpedFrame>, frame: Frame<'_>, position: super::super::wal::Position| {
            let header = frame.header;
            if header.lsn >= from && seen.len() < count {
                seen.push(DumpedFrame {
                    lsn: header.lsn,
                    segment: position.segment,
                    durable_lsn: header.durable_lsn,
                    time: header.time,
                    bytes: frame.bytes(),
                    entries: frame.entries().map(DumpedEntry::of).collect(),
                });
            }
            Ok(())
        };
        let tail = self.tail(|_| Ok(Vec::new()), each)?;
        let lost = tail.damages.iter().map(|damage| damage.groups).collect();
        Ok((tail.seen, Loss(lost)))
    }
}
