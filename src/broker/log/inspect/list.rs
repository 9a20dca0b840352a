//! The partitions that a store holds.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::manifest::Manifest;
use super::super::wal::frame::{Entry, Frame};
use super::super::wire::len64;
use super::{InspectError, Store, segments};
use crate::broker::record::RecordBatch;
use crate::names::{Offset, TopicPartition};

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Which one.
    pub at: TopicPartition,
    /// Its number in the store, which its files are named by.
    pub id: u32,
    /// Offset of the first record.
    pub start: Offset,
    /// Offset after the last record.
    pub end: Offset,
    /// Segment files, as of the last checkpoint.
    pub segments: u64,
    /// Bytes of batches in them.
    pub segment_bytes: u64,
    /// Bytes of batches that are in the log only.
    pub log_bytes: u64,
}

type Partitions = BTreeMap<u32, PartitionInfo>;

impl Store {
    /// All partitions, by topic.
    pub fn partitions(&self) -> Result<Vec<PartitionInfo>, InspectError> {
        let each = |seen: &mut Partitions, frame: Frame<'_>, _| {
            frame.entries().for_each(|entry| note(seen, entry));
            Ok(())
        };
        let mut found: Vec<_> = self.tail(|manifest| Ok(of_manifest(manifest)), each)?.seen.into_values().collect();
        found.sort_by_key(|info| (info.at.topic, info.at.partition));
        Ok(found)
    }
}

fn of_manifest(manifest: &Manifest) -> Partitions {
    let info = |known: &super::KnownPartition| PartitionInfo {
        at: known.at,
        id: known.id,
        start: known.start,
        end: known.next,
        segments: len64(known.segments.len()),
        segment_bytes: segments(known).map(|(_, extent)| extent.bytes).sum(),
        log_bytes: 0,
    };
    manifest.partitions.iter().map(|known| (known.id, info(known))).collect()
}

fn note(seen: &mut Partitions, entry: Entry<'_>) {
    match entry {
        Entry::Append { partition, batch, .. } => {
            if let Some(info) = seen.get_mut(&partition)
                && let Ok(batch) = RecordBatch::stored(Bytes::copy_from_slice(batch))
            {
                info.end = info.end.max(batch.next_offset());
                info.log_bytes += len64(batch.len());
            }
        }
        Entry::CreatePartition { partition, at } => {
            let (start, end) = (Offset(0), Offset(0));
            let new = PartitionInfo { at, id: partition, start, end, segments: 0, segment_bytes: 0, log_bytes: 0 };
            seen.insert(partition, new);
        }
        Entry::LogStart { partition, start } => {
            if let Some(info) = seen.get_mut(&partition) {
                info.start = info.start.max(start);
            }
        }
        Entry::DeleteTopic { topic } => seen.retain(|_, info| info.at.topic != topic),
        _ => {}
    }
}
