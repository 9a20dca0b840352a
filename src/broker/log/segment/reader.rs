//! Reading what is no longer in memory. Blocks on the disk: never call it from an async task.

use std::io;
use std::sync::atomic::Ordering;

use super::super::partition::Partition;
use super::super::wire::len_usize;
use super::files::{Files, OpenSegment};
use super::index::{BatchFacts, Index};
use super::scan::Scanner;
use super::{Extent, Segment};
use crate::broker::engine::FetchError;
use crate::broker::record::RecordBatch;
use crate::clock::Timestamp;
use crate::names::Offset;

/// Bounds of one read, in bytes.
const STEP_BYTES_MIN: usize = 64 << 10;
const STEP_BYTES_MAX: usize = 1 << 20;

/// Batches of one segment, the first one with a record at `from` or later; none if the segments hold no such record.
/// `from` is below the partition's end and not in memory.
pub(in crate::broker::log) fn read(
    partition: &Partition,
    files: &Files,
    from: Offset,
    bytes_max: usize,
) -> Result<Vec<RecordBatch>, FetchError> {
    let mut next = from;
    loop {
        let segment = partition.segment_for(next);
        // The start moves before segments go: whoever finds one missing finds the start moved.
        is_kept(partition, from)?;
        let Some(segment) = segment else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        let extent = segment.extent();
        match read_segment(&segment, files, next, bytes_max, &mut found) {
            Err(Unreadable { at, source }) if found.is_empty() => {
                // Files of what is no longer kept go while somebody reads them.
                is_kept(partition, from)?;
                if partition.holds(&segment) {
                    tracing::error!(partition = partition.id, segment = segment.base.0, at = at.0, %source, "stored records are damaged");
                    return Err(FetchError::Damaged { at });
                }
                // Compacted meanwhile: the same records are in another file.
            }
            // Compaction has left nothing from here to the segment's end.
            Ok(()) if found.is_empty() && extent.sealed => next = extent.next,
            _ => return Ok(found),
        }
    }
}

fn is_kept(partition: &Partition, from: Offset) -> Result<(), FetchError> {
    let bounds = partition.bounds();
    if partition.deleted.load(Ordering::SeqCst) {
        return Err(FetchError::UnknownPartition(partition.at));
    }
    if from < bounds.start { Err(FetchError::OutOfRange(bounds)) } else { Ok(()) }
}

/// Where reading failed.
struct Unreadable {
    at: Offset,
    source: io::Error,
}

fn read_segment(
    segment: &Segment,
    files: &Files,
    from: Offset,
    bytes_max: usize,
    found: &mut Vec<RecordBatch>,
) -> Result<(), Unreadable> {
    let mut expected = from.max(segment.base);
    let unreadable = |at: Offset| move |source: io::Error| Unreadable { at, source };
    let extent = segment.extent();
    let open = files.get(segment.key()).map_err(unreadable(expected))?;
    let position = with_index(segment, files, &open, &extent, |index| index.position_of(from));
    let position = position.map_err(unreadable(expected))?;
    let step = bytes_max.saturating_add(STEP_BYTES_MIN).clamp(STEP_BYTES_MIN, STEP_BYTES_MAX);
    let mut scanner = Scanner::new(&*open.file, position, extent.bytes, step);
    let mut left = bytes_max;
    while let Some(batch) = scanner.next().map_err(unreadable(expected))? {
        if found.is_empty() && !batch.reaches(from) {
            continue;
        }
        let in_order = found.is_empty() || batch.base_offset() >= expected;
        if !in_order || batch.next_offset() > extent.next {
            return Err(Unreadable { at: expected, source: io::ErrorKind::InvalidData.into() });
        }
        if !found.is_empty() && batch.len() > left {
            break;
        }
        left = left.saturating_sub(batch.len());
        expected = batch.next_offset();
        found.push(batch);
    }
    Ok(())
}

/// Offset of the first record in the segments at `timestamp` or later.
pub(in crate::broker::log) fn find_time(
    partition: &Partition,
    files: &Files,
    timestamp: Timestamp,
) -> Result<Option<Offset>, FetchError> {
    loop {
        let start = partition.start();
        let holds_it = |extent: Extent| extent.next > start && extent.bytes > 0 && extent.max_timestamp >= timestamp;
        let segment = partition.segments.read().iter().find(|s| holds_it(s.extent())).cloned();
        let Some(segment) = segment else { return Ok(None) };
        match find_time_in(&segment, files, timestamp) {
            Ok(found) => return Ok(found),
            Err(_) if partition.deleted.load(Ordering::SeqCst) => {
                return Err(FetchError::UnknownPartition(partition.at));
            }
            // Gone meanwhile. The start has moved beyond it, so this comes to an end.
            Err(_) if segment.extent().next <= partition.start() => {}
            // Compacted meanwhile: the same records are in another file.
            Err(_) if !partition.holds(&segment) => {}
            Err(source) => {
                tracing::error!(partition = partition.id, segment = segment.base.0, %source, "stored records are damaged");
                return Err(FetchError::Damaged { at: segment.base });
            }
        }
    }
}

fn find_time_in(segment: &Segment, files: &Files, timestamp: Timestamp) -> io::Result<Option<Offset>> {
    let extent = segment.extent();
    let open = files.get(segment.key())?;
    let position = with_index(segment, files, &open, &extent, |index| index.position_at(timestamp))?;
    let mut scanner = Scanner::new(&*open.file, position, extent.bytes, STEP_BYTES_MIN);
    while let Some(batch) = scanner.next()? {
        if batch.max_timestamp() >= timestamp {
            return Ok(first_at(&batch, timestamp));
        }
    }
    Ok(None)
}

/// Offset of the batch's first record at `timestamp` or later.
pub(in crate::broker::log) fn first_at(batch: &RecordBatch, timestamp: Timestamp) -> Option<Offset> {
    batch.records().find(|record| record.timestamp >= timestamp).map(|record| record.offset)
}

/// Asks the segment's index, wherever it is: in memory, in its file, or rebuilt from the batches.
fn with_index<T>(
    segment: &Segment,
    files: &Files,
    open: &OpenSegment,
    extent: &Extent,
    ask: impl Fn(&Index) -> T,
) -> io::Result<T> {
    if let Some(answer) = segment.growing_index(&ask) {
        return Ok(answer);
    }
    if let Some(index) = open.index.get() {
        return Ok(ask(index));
    }
    if extent.sealed {
        let stored = files.read_index(segment.key(), len_usize(Index::encoded_max(extent.bytes)));
        let index = stored.ok().and_then(|bytes| Index::decode(&bytes, segment.base, extent));
        let index = index.map_or_else(|| rebuild(open, extent), Ok)?;
        return Ok(ask(open.index.get_or_init(|| index)));
    }
    let index = rebuild(open, extent)?;
    let answer = ask(&index);
    segment.keep_index(index, extent.bytes);
    Ok(answer)
}

/// The index of the first `extent.bytes` of the file.
pub(in crate::broker::log) fn rebuild(open: &OpenSegment, extent: &Extent) -> io::Result<Index> {
    let mut index = Index::default();
    let mut scanner = Scanner::new(&*open.file, 0, extent.bytes, STEP_BYTES_MAX);
    let mut bytes = Vec::new();
    while let Some(batch) = scanner.next()? {
        bytes.clear();
        batch.write_to(&mut bytes);
        index.add(BatchFacts::of(&batch), &bytes);
    }
    Ok(index)
}

#[cfg(test)]
mod tests {
    use std::any::Any;
    use std::sync::{Arc, OnceLock};

    use super::super::SegmentKey;
    use super::*;
    use crate::broker::conformance;
    use crate::broker::disk::sim::SimDisk;
    use crate::broker::disk::{Disk, File, Open};
    use crate::broker::engine::Bounds;
    use crate::names::{TopicId, TopicPartition};

    /// A disk on which a compaction is over just when somebody opens the old file.
    struct Switching {
        disk: SimDisk,
        switch: OnceLock<(Arc<Partition>, Arc<Segment>, Arc<Segment>)>,
    }

    impl Disk for Switching {
        fn open(&self, path: &str, how: Open) -> io::Result<Arc<dyn File>> {
            if let Some((partition, old, new)) = self.switch.get()
                && path == old.key().log_path()
            {
                assert!(partition.replace(&[Arc::clone(old)], new));
                self.disk.remove(path)?;
            }
            self.disk.open(path, how)
        }
        fn create_dir(&self, path: &str) -> io::Result<()> {
            self.disk.create_dir(path)
        }
        fn list(&self, dir: &str) -> io::Result<Vec<String>> {
            self.disk.list(dir)
        }
        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.disk.rename(from, to)
        }
        fn remove(&self, path: &str) -> io::Result<()> {
            self.disk.remove(path)
        }
        fn sync_dir(&self, path: &str) -> io::Result<()> {
            self.disk.sync_dir(path)
        }
        fn free_bytes(&self) -> io::Result<u64> {
            self.disk.free_bytes()
        }
        fn total_bytes(&self) -> io::Result<u64> {
            self.disk.total_bytes()
        }
        fn lock(&self, path: &str) -> io::Result<Box<dyn Any + Send + Sync>> {
            self.disk.lock(path)
        }
    }

    /// A sealed segment of one batch of two records.
    fn sealed(disk: &SimDisk, generation: u32) -> Arc<Segment> {
        let key = SegmentKey { partition: 0, base: Offset(0), generation };
        let batch = conformance::batch(&["a", "b"]);
        let mut bytes = Vec::new();
        batch.write_to(&mut bytes);
        disk.open(&key.log_path(), Open::Empty).unwrap().write_at(&bytes, 0).unwrap();
        let segment = Segment::new(key);
        segment.grew([(BatchFacts::of(&batch), &bytes[..])], Timestamp(0));
        drop(segment.seal());
        Arc::new(segment)
    }

    #[test]
    fn a_reader_whose_segment_is_compacted_before_it_opens_the_file_finds_the_records_in_the_new_one() {
        for by_time in [false, true] {
            let disk = SimDisk::new();
            let (old, new) = (sealed(&disk, 0), sealed(&disk, 1));
            let at = TopicPartition { topic: TopicId(uuid::Uuid::nil()), partition: 0 };
            let bounds = Bounds { start: Offset(0), end: Offset(2) };
            let partition = Arc::new(Partition::new(0, at, bounds, vec![Arc::clone(&old)]));
            let switching = Switching { disk, switch: OnceLock::new() };
            assert!(switching.switch.set((Arc::clone(&partition), old, new)).is_ok());
            let files = Files::new(Arc::new(switching), 4);
            if by_time {
                assert_eq!(find_time(&partition, &files, Timestamp(0)), Ok(Some(Offset(0))));
            } else {
                assert_eq!(read(&partition, &files, Offset(1), 100), Ok(vec![conformance::batch(&["a", "b"])]));
            }
        }
    }
}
