//! A run of one partition's batches in one file: Kafka record batches from byte 0 and nothing else.
//!
//! `seg/3f/00012a3f-00000000000000421000.log`: the directory is the low byte of the partition's number in the store, the
//! name that number in hex and the offset of the first record. A sealed segment has an index beside it, `.idx`.

pub(super) mod files;
pub(super) mod index;
pub(super) mod reader;
pub(super) mod scan;

use parking_lot::Mutex;

use self::index::Index;
use crate::clock::Timestamp;
use crate::names::Offset;

/// Where the directories are.
pub(super) const DIR: &str = "seg";

/// Names a segment within the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SegmentKey {
    /// The partition's number in the store.
    pub(super) partition: u32,
    /// Offset of the first record.
    pub(super) base: Offset,
}

impl SegmentKey {
    pub(super) fn log_path(self) -> String {
        format!("{DIR}/{:02x}/{:08x}-{:020}.log", self.partition & 0xff, self.partition, self.base.0)
    }

    pub(super) fn index_path(self) -> String {
        format!("{DIR}/{:02x}/{:08x}-{:020}.idx", self.partition & 0xff, self.partition, self.base.0)
    }
}

/// One of the 256 directories that segments are spread over.
pub(super) fn dir(low_byte: u8) -> String {
    format!("{DIR}/{low_byte:02x}")
}

/// How far a segment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Bytes of the file that hold batches.
    pub(super) bytes: u64,
    /// Offset after the last record.
    pub(super) next: Offset,
    /// Latest timestamp of a record.
    pub(super) max_timestamp: Timestamp,
    /// Earliest time of acceptance; how long a growing segment has grown.
    pub(super) first_accepted: Timestamp,
    /// Latest time of acceptance; what retention goes by, as producers' clocks lie.
    pub(super) max_accepted: Timestamp,
    /// Nothing will be appended.
    pub(super) sealed: bool,
}

/// A segment as readers and the applier share it.
pub(super) struct Segment {
    pub(super) partition: u32,
    pub(super) base: Offset,
    state: Mutex<State>,
}

struct State {
    extent: Extent,
    /// Of a growing segment; `None` after a restart until somebody reads or it is sealed.
    index: Option<Index>,
}

impl Segment {
    /// A new and empty one.
    pub(super) fn new(key: SegmentKey) -> Self {
        let extent = Extent {
            bytes: 0,
            next: key.base,
            max_timestamp: Timestamp(i64::MIN),
            first_accepted: Timestamp(i64::MAX),
            max_accepted: Timestamp(i64::MIN),
            sealed: false,
        };
        let state = State { extent, index: Some(Index::default()) };
        Self { partition: key.partition, base: key.base, state: Mutex::new(state) }
    }

    /// One that the manifest knows.
    pub(super) fn known(key: SegmentKey, extent: Extent) -> Self {
        let index = (extent.bytes == 0).then(Index::default);
        Self { partition: key.partition, base: key.base, state: Mutex::new(State { extent, index }) }
    }

    pub(super) fn key(&self) -> SegmentKey {
        SegmentKey { partition: self.partition, base: self.base }
    }

    pub(super) fn extent(&self) -> Extent {
        self.state.lock().extent
    }

    /// Notes batches that were written to the end of the file: each batch's bytes, in order.
    pub(super) fn grew<'a>(
        &self,
        batches: impl IntoIterator<Item = (index::BatchFacts, &'a [u8])>,
        accepted: Timestamp,
    ) {
        let state = &mut *self.state.lock();
        for (facts, bytes) in batches {
            if let Some(index) = &mut state.index {
                index.add(facts, bytes);
            }
            state.extent.bytes += super::wire::len64(bytes.len());
            state.extent.next = facts.next;
            state.extent.max_timestamp = state.extent.max_timestamp.max(facts.max_timestamp);
        }
        state.extent.first_accepted = state.extent.first_accepted.min(accepted);
        state.extent.max_accepted = state.extent.max_accepted.max(accepted);
    }

    /// The index, if it is in memory; with the extent it is good for.
    fn growing_index<T>(&self, use_it: impl FnOnce(&Index) -> T) -> Option<T> {
        self.state.lock().index.as_ref().map(use_it)
    }

    /// Keeps an index that was rebuilt from the first `covered` bytes, unless the segment has grown meanwhile.
    fn keep_index(&self, index: Index, covered: u64) {
        let mut state = self.state.lock();
        if state.index.is_none() && state.extent.bytes == covered && !state.extent.sealed {
            state.index = Some(index);
        }
    }

    /// No more will be appended: gives out the index, which lives in a file from now on.
    pub(super) fn seal(&self) -> Option<Index> {
        let mut state = self.state.lock();
        state.extent.sealed = true;
        state.index.take()
    }
}
