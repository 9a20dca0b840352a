//! A run of one partition's batches in one file: Kafka record batches from byte 0 and nothing else.
//!
//! `seg/3f/00012a3f-00000000000000421000-0000.log`: the directory is the low byte of the partition's number in the store,
//! the name that number in hex, the offset where the segment begins, and its generation: 0 as it was written, and one more
//! each time compaction has written it anew. A sealed segment has an index beside it, `.idx`.

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
    /// Offset where it begins; compaction may have removed the record there.
    pub(super) base: Offset,
    /// How often compaction has written it anew.
    pub(super) generation: u32,
}

impl SegmentKey {
    pub(super) fn log_path(self) -> String {
        format!("{}.log", self.path())
    }

    pub(super) fn index_path(self) -> String {
        format!("{}.idx", self.path())
    }

    fn path(self) -> String {
        let Self { partition, base, generation } = self;
        format!("{DIR}/{:02x}/{partition:08x}-{:020}-{generation:04}", partition & 0xff, base.0)
    }

    /// The segment that a file of this name in a directory of segments belongs to.
    pub(super) fn of_file(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".log").or_else(|| name.strip_suffix(".idx"))?;
        let mut parts = stem.split('-');
        let key = Self {
            partition: u32::from_str_radix(parts.next()?, 16).ok()?,
            base: Offset(parts.next()?.parse().ok()?),
            generation: parts.next()?.parse().ok()?,
        };
        key.log_path().ends_with(&format!("/{stem}.log")).then_some(key)
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
    /// From when on compaction has tombstones to remove; [`NO_HORIZON`] if there are none that it has seen.
    pub(super) delete_horizon: Timestamp,
    /// Nothing will be appended.
    pub(super) sealed: bool,
}

/// Later than any time.
pub(super) const NO_HORIZON: Timestamp = Timestamp(i64::MAX);

/// A segment as readers and the applier share it.
pub(super) struct Segment {
    pub(super) partition: u32,
    pub(super) base: Offset,
    pub(super) generation: u32,
    state: Mutex<State>,
}

struct State {
    extent: Extent,
    /// Of a growing segment; `None` after a restart until somebody reads or it is sealed.
    index: Option<Index>,
}

impl Extent {
    /// Of a segment that has nothing yet and grows.
    pub(in crate::broker::log) fn empty(base: Offset) -> Self {
        Self {
            bytes: 0,
            next: base,
            max_timestamp: Timestamp(i64::MIN),
            first_accepted: Timestamp(i64::MAX),
            max_accepted: Timestamp(i64::MIN),
            delete_horizon: NO_HORIZON,
            sealed: false,
        }
    }
}

impl Segment {
    /// A new and empty one.
    pub(super) fn new(key: SegmentKey) -> Self {
        let extent = Extent::empty(key.base);
        let state = State { extent, index: Some(Index::default()) };
        Self { partition: key.partition, base: key.base, generation: key.generation, state: Mutex::new(state) }
    }

    /// One that the manifest knows.
    pub(super) fn known(key: SegmentKey, extent: Extent) -> Self {
        let index = (extent.bytes == 0).then(Index::default);
        let state = Mutex::new(State { extent, index });
        Self { partition: key.partition, base: key.base, generation: key.generation, state }
    }

    pub(super) fn key(&self) -> SegmentKey {
        SegmentKey { partition: self.partition, base: self.base, generation: self.generation }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_says_which_segment_it_belongs_to() {
        let key = SegmentKey { partition: 0x1_2a3f, base: Offset(421_000), generation: 12 };
        assert_eq!(key.log_path(), "seg/3f/00012a3f-00000000000000421000-0012.log");
        for path in [key.log_path(), key.index_path()] {
            assert_eq!(SegmentKey::of_file(path.rsplit('/').next().unwrap()), Some(key));
        }
        for other in ["", "x.log", "00012a3f-00000000000000421000.log", "12a3f-421000-12.log", "00012a3f-0-0-0.idx"] {
            assert_eq!(SegmentKey::of_file(other), None, "{other}");
        }
    }
}
