//! Reads everything and says what is not as it was written.

use std::fmt;
use std::io;

use bytes::Bytes;

use super::super::loss::Groups;
use super::super::segment::files::Files;
use super::super::segment::index::{BatchFacts, Index};
use super::super::segment::scan::Scanner;
use super::super::segment::{Extent, SegmentKey};
use super::super::wal::frame::{Entry, Frame};
use super::super::wire::{len_usize, len64};
use super::{InspectError, Progress, Store, all_segments, tail};
use crate::broker::record::RecordBatch;
use crate::names::{Offset, TopicPartition};

/// How much of a segment is read at once, in bytes.
const STEP_BYTES: usize = 1 << 20;

/// Findings that are kept; more are counted.
const FINDINGS_MAX: usize = 1000;

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Records in a segment.
    Records {
        /// Whose.
        at: TopicPartition,
        /// The file, relative to the store.
        file: String,
        /// Where in it.
        byte: u64,
        /// The first offset that cannot be read.
        from: Offset,
        /// The first one after it that can, or is in another file.
        to: Offset,
    },
    /// A segment's batches and its index tell different things; the index was written with the batches.
    Index {
        /// Whose.
        at: TopicPartition,
        /// The segment's file, relative to the store.
        file: String,
        /// Where in it the extent begins that differs.
        byte: u64,
        /// Its first offset.
        from: Offset,
    },
    /// Frames of the log.
    Groups {
        /// The file, relative to the store.
        file: String,
        /// Where in it.
        byte: u64,
        /// Which ones.
        groups: Groups,
    },
    /// A frame whose checksums are right and whose contents are not, or a later version's.
    Entry {
        /// The frame.
        lsn: u64,
        /// What is wrong.
        problem: &'static str,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Records { at, file, byte, from, to } => write!(
                f,
                "topic {} partition {}: offsets {from} to {} cannot be read ({file}, byte {byte})",
                at.topic,
                at.partition,
                to.0.saturating_sub(1)
            ),
            Self::Index { at, file, byte, from } => write!(
                f,
                "topic {} partition {}: the batches from offset {from} on are not those of the index ({file}, byte {byte})",
                at.topic, at.partition
            ),
            Self::Groups { file, byte, groups } => {
                write!(f, "log: commit groups {groups} cannot be read ({file}, byte {byte})")
            }
            Self::Entry { lsn, problem } => write!(f, "log: commit group {lsn} holds {problem}"),
        }
    }
}

/// What a check has read, and found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Partitions of the manifest.
    pub partitions: u64,
    /// Segment files.
    pub segments: u64,
    /// Bytes of them, and of the log.
    pub bytes: u64,
    /// Batches in segments.
    pub batches: u64,
    /// Frames of the log since the checkpoint.
    pub groups: u64,
    /// Index files that were read and are right.
    pub indexes: u64,
    /// Index files that are not there or not whole. No damage: they are not synced, and made again.
    pub indexes_to_make: u64,
    /// The log ends with a frame that is there in part: it was never acknowledged.
    pub torn_tail: bool,
    /// Segments that were removed while the check ran.
    pub removed: u64,
    /// What is not as it was written, at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// How many there are in all.
    pub found: u64,
}

impl Verified {
    /// Whether everything is as it was written.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.found == 0
    }

    fn add(&mut self, finding: Finding) {
        self.found += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

impl Store {
    /// Reads everything. `progress` is called about once a mebibyte.
    pub fn verify(&self, mut progress: impl FnMut(Progress)) -> Result<Verified, InspectError> {
        let tail = self.tail(|_| Ok(Verified::default()), |seen, frame, _| check_frame(seen, &frame))?;
        let mut found = tail.seen;
        found.torn_tail = tail.torn;
        found.partitions = len64(tail.manifest.partitions.len());
        for damage in &tail.damages {
            let (file, byte) = (tail::path(damage.position.segment), damage.position.at);
            found.add(Finding::Groups { file, byte, groups: damage.groups });
        }
        let total = all_segments(&tail.manifest).map(|(_, _, extent)| extent.bytes).sum::<u64>() + tail.bytes;
        found.bytes = tail.bytes;
        progress(Progress { done: found.bytes, total });
        let files = Files::new(std::sync::Arc::clone(&self.disk), 1);
        for (at, key, extent) in all_segments(&tail.manifest) {
            let mut segment = SegmentCheck { files: &files, at, key, extent, found: Verified::default() };
            let before = found.bytes;
            segment.run(|bytes| progress(Progress { done: before + bytes, total }))?;
            let segment = segment.found;
            found.bytes += extent.bytes;
            if segment.found > 0 && !self.still_names(key)? {
                found.removed += 1;
                continue;
            }
            found.segments += 1;
            found.batches += segment.batches;
            found.indexes += segment.indexes;
            found.indexes_to_make += segment.indexes_to_make;
            segment.findings.into_iter().for_each(|finding| found.add(finding));
        }
        progress(Progress { done: total, total });
        Ok(found)
    }
}

fn check_frame(seen: &mut Verified, frame: &Frame<'_>) -> Result<(), InspectError> {
    seen.groups += 1;
    let lsn = frame.header.lsn;
    for entry in frame.entries() {
        match entry {
            Entry::Append { base, batch, .. } => {
                let whole = RecordBatch::stored(Bytes::copy_from_slice(batch));
                if whole.is_ok_and(|batch| batch.base_offset() == base) {
                    continue;
                }
                seen.add(Finding::Entry { lsn, problem: "a batch that is not one" });
            }
            Entry::Unsupported { .. } => {
                seen.add(Finding::Entry { lsn, problem: "an entry that this version does not understand" });
            }
            _ => {}
        }
    }
    Ok(())
}

/// The check of one segment.
struct SegmentCheck<'a> {
    files: &'a Files,
    at: TopicPartition,
    key: SegmentKey,
    extent: Extent,
    found: Verified,
}

impl SegmentCheck<'_> {
    /// An error of the file itself is damage; only the storage's refusal to answer ends the check.
    fn run(&mut self, mut progress: impl FnMut(u64)) -> Result<(), InspectError> {
        let open = match self.files.get(self.key) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.extent.bytes == 0 => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.damaged(0, self.key.base, self.extent.next);
                return Ok(());
            }
            other => other?,
        };
        self.files.forget(self.key);
        let stored = self.stored_index();
        let mut rebuilt = Index::default();
        let (mut position, mut expected, mut whole) = (0, self.key.base, true);
        loop {
            let mut scanner = Scanner::new(&*open.file, position, self.extent.bytes, STEP_BYTES);
            let stopped = self.batches(&mut scanner, &mut expected, &mut rebuilt, &mut progress)?;
            position = scanner.position();
            if !stopped {
                break;
            }
            whole = false;
            // What follows is found by the index only.
            let next = stored.as_ref().and_then(|index| index.extent_from(position + 1));
            self.damaged(position, expected, next.map_or(self.extent.next, |(_, first)| first));
            let Some((at, first)) = next else { break };
            (position, expected) = (at, first);
        }
        if let Some(stored) = stored.filter(|_| whole) {
            self.found.indexes += 1;
            if let Some((byte, from)) = stored.first_difference(&rebuilt) {
                let (at, file) = (self.at, self.key.log_path());
                self.found.add(Finding::Index { at, file, byte, from });
            }
        }
        Ok(())
    }

    /// Reads batches until the end, or until one is not as it was written. Whether the latter.
    fn batches(
        &mut self,
        scanner: &mut Scanner<'_>,
        expected: &mut Offset,
        rebuilt: &mut Index,
        progress: &mut impl FnMut(u64),
    ) -> Result<bool, InspectError> {
        let (mut bytes, mut told) = (Vec::new(), scanner.position());
        loop {
            let batch = match scanner.next() {
                Ok(Some(batch)) => batch,
                Ok(None) => return Ok(false),
                Err(e) if matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                    return Ok(true);
                }
                Err(e) => return Err(e.into()),
            };
            if batch.base_offset() < *expected || batch.next_offset() > self.extent.next {
                return Ok(true);
            }
            *expected = batch.next_offset();
            self.found.batches += 1;
            bytes.clear();
            batch.write_to(&mut bytes);
            rebuilt.add(BatchFacts::of(&batch), &bytes);
            if scanner.position() - told >= len64(STEP_BYTES) {
                told = scanner.position();
                progress(told);
            }
        }
    }

    /// The index of a sealed segment, if it is there and whole.
    fn stored_index(&mut self) -> Option<Index> {
        if !self.extent.sealed {
            return None;
        }
        let bytes = self.files.read_index(self.key, len_usize(Index::encoded_max(self.extent.bytes))).ok();
        let index = bytes.and_then(|bytes| Index::decode(&bytes, self.key.base, &self.extent));
        self.found.indexes_to_make += u64::from(index.is_none());
        index
    }

    fn damaged(&mut self, byte: u64, from: Offset, to: Offset) {
        let (at, file) = (self.at, self.key.log_path());
        self.found.add(Finding::Records { at, file, byte, from, to });
    }
}
