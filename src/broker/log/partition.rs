//! One partition as everybody sees it: how far it goes, its latest batches, its segments, and who waits for more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::segment::reader::first_at;
use super::segment::{Extent, Segment};
use super::watch::Watchers;
use super::wire::len64;
use crate::broker::engine::{Bounds, TopicSettings};
use crate::broker::record::RecordBatch;
use crate::clock::Timestamp;
use crate::names::{Offset, TopicPartition};

/// See the module's text.
pub(in crate::broker) struct Partition {
    /// Number in this store; never used again.
    pub(in crate::broker) id: u32,
    pub(in crate::broker) at: TopicPartition,
    /// Nothing below is kept. Moves before segments go.
    start: AtomicI64,
    /// Of what lies below, compaction has kept the last record of every key. The maintenance thread's own.
    clean_to: AtomicI64,
    /// Below, readers take compacted segments although memory may still hold what was removed.
    compacted_below: AtomicI64,
    /// Everything below is durable and may be read.
    end: AtomicI64,
    /// Where the next record goes. The commit thread's own; ahead of `end` only while a group is written.
    pub(in crate::broker) next: AtomicI64,
    /// Bytes of batches, in segments or not yet.
    pub(in crate::broker) stored_bytes: AtomicU64,
    pub(in crate::broker) deleted: AtomicBool,
    settings: RwLock<TopicSettings>,
    tail: Mutex<Tail>,
    /// Oldest first; the last one grows. Changed by the applier only.
    pub(in crate::broker::log) segments: RwLock<Vec<Arc<Segment>>>,
    pub(in crate::broker) watchers: Watchers,
}

/// The latest batches, which readers take from memory. What is not in a segment yet is always here.
#[derive(Default)]
struct Tail {
    batches: VecDeque<RecordBatch>,
}

impl Partition {
    pub(in crate::broker::log) fn new(
        id: u32,
        at: TopicPartition,
        bounds: Bounds,
        segments: Vec<Arc<Segment>>,
    ) -> Self {
        let stored = segments.iter().map(|s| s.extent().bytes).sum();
        Self {
            id,
            at,
            start: AtomicI64::new(bounds.start.0),
            clean_to: AtomicI64::new(0),
            compacted_below: AtomicI64::new(0),
            end: AtomicI64::new(bounds.end.0),
            next: AtomicI64::new(bounds.end.0),
            stored_bytes: AtomicU64::new(stored),
            deleted: AtomicBool::new(false),
            settings: RwLock::default(),
            tail: Mutex::default(),
            segments: RwLock::new(segments),
            watchers: Watchers::default(),
        }
    }

    /// How its records are kept, as far as this process has been told.
    pub(in crate::broker) fn settings(&self) -> TopicSettings {
        *self.settings.read()
    }

    pub(in crate::broker) fn set_settings(&self, settings: TopicSettings) {
        *self.settings.write() = settings;
    }

    /// The readable range.
    pub(in crate::broker) fn bounds(&self) -> Bounds {
        // In this order, so that the start is never beyond the end.
        let start = self.start();
        Bounds { start, end: self.end() }
    }

    pub(in crate::broker) fn start(&self) -> Offset {
        Offset(self.start.load(Ordering::SeqCst))
    }

    /// Nothing below is read from now on. It only moves forward.
    pub(in crate::broker) fn move_start(&self, to: Offset) {
        self.start.fetch_max(to.0, Ordering::SeqCst);
    }

    /// Takes out the segments that lie below the start, for the applier.
    pub(in crate::broker::log) fn trim(&self) -> Vec<Arc<Segment>> {
        let start = self.start();
        // One that was just made has no bytes either, but is not sealed.
        let goes = |extent: &Extent| extent.next <= start && (extent.bytes > 0 || extent.sealed);
        let mut segments = self.segments.write();
        let gone = segments.iter().take_while(|segment| goes(&segment.extent()));
        let gone = gone.count();
        let gone: Vec<_> = segments.drain(..gone).collect();
        drop(segments);
        let bytes = gone.iter().map(|segment| segment.extent().bytes).sum();
        self.stored_bytes.fetch_sub(bytes, Ordering::Relaxed);
        gone
    }

    pub(in crate::broker) fn clean_to(&self) -> Offset {
        Offset(self.clean_to.load(Ordering::Relaxed))
    }

    pub(in crate::broker) fn set_clean_to(&self, to: Offset) {
        self.clean_to.store(to.0, Ordering::Relaxed);
    }

    /// Puts one segment where neighbours were, for the applier. False if they are no longer there.
    pub(in crate::broker::log) fn replace(&self, old: &[Arc<Segment>], new: &Arc<Segment>) -> bool {
        let mut segments = self.segments.write();
        let Some(first) = segments.iter().position(|s| old.first().is_some_and(|old| Arc::ptr_eq(s, old))) else {
            return false;
        };
        let known = segments.get(first..first + old.len());
        if !known.is_some_and(|known| known.iter().zip(old).all(|(known, old)| Arc::ptr_eq(known, old))) {
            return false;
        }
        self.compacted_below.fetch_max(new.extent().next.0, Ordering::SeqCst);
        segments.splice(first..first + old.len(), [Arc::clone(new)]);
        let before: u64 = old.iter().map(|segment| segment.extent().bytes).sum();
        self.stored_bytes.fetch_add(new.extent().bytes, Ordering::Relaxed);
        self.stored_bytes.fetch_sub(before, Ordering::Relaxed);
        true
    }

    fn compacted_below(&self) -> Offset {
        Offset(self.compacted_below.load(Ordering::SeqCst))
    }

    /// Whether readers still find this segment.
    pub(in crate::broker::log) fn holds(&self, segment: &Arc<Segment>) -> bool {
        self.segments.read().iter().any(|known| Arc::ptr_eq(known, segment))
    }

    pub(in crate::broker) fn end(&self) -> Offset {
        Offset(self.end.load(Ordering::SeqCst))
    }

    /// Keeps a durable batch for readers, who see it once [`Partition::publish`] says so.
    pub(in crate::broker) fn push(&self, batch: RecordBatch) {
        self.stored_bytes.fetch_add(len64(batch.len()), Ordering::Relaxed);
        self.tail.lock().batches.push_back(batch);
    }

    /// Lets readers see everything below `end`. Sequentially consistent with the registration of watchers: whoever
    /// registers and then finds the old end is woken.
    pub(in crate::broker) fn publish(&self, end: Offset) {
        self.end.store(end.0, Ordering::SeqCst);
    }

    /// Forgets the oldest batch of the tail; it is in a segment. The bytes freed.
    pub(in crate::broker) fn forget_oldest(&self) -> usize {
        self.tail.lock().batches.pop_front().map_or(0, |batch| batch.len())
    }

    /// Batches from `from` on out of memory, at least one; `None` if memory does not go back that far.
    pub(in crate::broker) fn recent(&self, from: Offset, end: Offset, bytes_max: usize) -> Option<Vec<RecordBatch>> {
        let tail = self.tail.lock();
        let first = tail.batches.front()?;
        if from < first.base_offset() || from < self.compacted_below() {
            return None;
        }
        let start = tail.batches.partition_point(|batch| batch.last_offset() < from);
        let mut left = bytes_max;
        let mut found = Vec::new();
        for batch in tail.batches.range(start..) {
            let fits = found.is_empty() || batch.len() <= left;
            if !fits || batch.base_offset() >= end {
                break;
            }
            left = left.saturating_sub(batch.len());
            found.push(batch.clone());
        }
        Some(found)
    }

    /// The first batch in memory that ends at `from` or later.
    pub(in crate::broker) fn first_recent(&self, from: Offset, end: Offset) -> Option<RecordBatch> {
        let from = from.max(self.compacted_below());
        let tail = self.tail.lock();
        let first = tail.batches.partition_point(|batch| batch.last_offset() < from);
        tail.batches.get(first).filter(|batch| batch.base_offset() < end).cloned()
    }

    /// Offset of the first record in memory, in a batch from `start` on and below `end`, at `timestamp` or later.
    pub(in crate::broker) fn recent_at(&self, timestamp: Timestamp, start: Offset, end: Offset) -> Option<Offset> {
        let start = start.max(self.compacted_below());
        let tail = self.tail.lock();
        let mut durable = tail.batches.iter().filter(|batch| batch.last_offset() >= start && batch.base_offset() < end);
        durable.find(|batch| batch.max_timestamp() >= timestamp).and_then(|batch| first_at(batch, timestamp))
    }

    /// The segment that holds `from`, or the first one after it.
    pub(in crate::broker::log) fn segment_for(&self, from: Offset) -> Option<Arc<Segment>> {
        let segments = self.segments.read();
        let index = segments.partition_point(|s| s.extent().next <= from);
        segments.get(index).map(Arc::clone)
    }
}
