//! A segment that compaction writes, with its index.

use std::io;
use std::sync::Arc;

use super::super::segment::index::{BatchFacts, Index};
use super::super::segment::{Extent, Segment, SegmentKey};
use super::super::wire::len64;
use crate::broker::compaction;
use crate::broker::disk::{Disk, File, Open};
use crate::broker::record::RecordBatch;
use crate::names::Offset;

/// Batches are gathered up to this many bytes for one write.
const WRITE_BYTES: usize = 1 << 20;

/// See the module's text.
pub(super) struct Output {
    key: SegmentKey,
    file: Arc<dyn File>,
    index: Index,
    extent: Extent,
    /// Not written yet.
    buffer: Vec<u8>,
    written: u64,
}

impl Output {
    pub(super) fn create(disk: &dyn Disk, key: SegmentKey) -> io::Result<Self> {
        let extent = Extent { sealed: true, ..Extent::empty(key.base) };
        let file = disk.open(&key.log_path(), Open::Empty)?;
        Ok(Self { key, file, index: Index::default(), extent, buffer: Vec::new(), written: 0 })
    }

    /// Appends a batch.
    pub(super) fn push(&mut self, batch: &RecordBatch) -> io::Result<()> {
        let from = self.buffer.len();
        batch.write_to(&mut self.buffer);
        self.index.add(BatchFacts::of(batch), &self.buffer[from..]);
        self.extent.bytes += len64(batch.len());
        self.extent.max_timestamp = self.extent.max_timestamp.max(batch.max_timestamp());
        if let Some(due) = compaction::due(batch) {
            self.extent.delete_horizon = self.extent.delete_horizon.min(due);
        }
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    /// Everything of a segment that is kept has been pushed.
    pub(super) fn took(&mut self, old: &Extent) {
        self.extent.first_accepted = self.extent.first_accepted.min(old.first_accepted);
        self.extent.max_accepted = self.extent.max_accepted.max(old.max_accepted);
    }

    /// The segment, which ends before `next`. Its contents are durable; the name is not yet.
    pub(super) fn finish(mut self, disk: &dyn Disk, next: Offset) -> io::Result<Segment> {
        self.extent.next = next;
        self.flush()?;
        self.file.sync()?;
        // Never synced: an index that a power cut takes or tears is found out by its checksum and made again.
        let bytes = self.index.encode(self.key.base, &self.extent);
        disk.open(&self.key.index_path(), Open::Empty)?.write_at(&bytes, 0)?;
        Ok(Segment::known(self.key, self.extent))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.written)?;
        self.written += len64(self.buffer.len());
        self.buffer.clear();
        Ok(())
    }
}
