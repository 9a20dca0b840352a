//! The scrubber: reads sealed segments again, slowly, and compares them with the checksums in their indexes, so that rot is
//! found while there still is a backup and not when somebody needs the records.
//!
//! It changes nothing. What it finds is in the engine's figures until the segment is gone or found whole again. Damage of one
//! segment stops nothing but reads of its offsets, and compaction of its partition: that would write what is left of it under
//! fresh checksums.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::Shared;
use super::partition::Partition;
use super::segment::index::Index;
use super::segment::scan::Scanner;
use super::segment::{Extent, Segment, SegmentKey};
use super::wire::{len_usize, len64};
use crate::broker::disk::{self, File, Open};
use crate::broker::engine::{DamagedRange, FetchError};
use crate::broker::record::RecordBatch;
use crate::names::{Offset, TopicPartition};

/// From the end of one round to the beginning of the next.
const ROUND_EVERY: Duration = Duration::from_hours(24);

/// A pause follows this many bytes.
const STEP_BYTES: u64 = 1 << 20;

/// Damaged segments that are remembered; of more, only the log tells.
const DAMAGED_SEGMENTS_MAX: usize = 1000;

/// Offsets that cannot be read as they were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    from: Offset,
    to: Offset,
    /// The batches' own checksums are right: they do not cover a batch's place and length. Only the index knows.
    hidden: bool,
}

/// What was found and is still there.
#[derive(Default)]
pub(super) struct Damage {
    segments: Mutex<BTreeMap<SegmentKey, (TopicPartition, Vec<Found>)>>,
    /// So that reads need not look.
    any: AtomicBool,
    scrubbed_bytes: AtomicU64,
}

impl Damage {
    fn set(&self, partition: &Partition, key: SegmentKey, found: Vec<Found>) {
        let mut segments = self.segments.lock();
        if found.is_empty() {
            segments.remove(&key);
        } else if segments.len() < DAMAGED_SEGMENTS_MAX || segments.contains_key(&key) {
            segments.insert(key, (partition.at, found));
        }
        self.any.store(!segments.is_empty(), Ordering::SeqCst);
    }

    /// What was found in segments that are still there.
    pub(super) fn ranges(&self, shared: &Shared) -> Vec<DamagedRange> {
        let segments = self.segments.lock();
        let is_there = |key: &SegmentKey, at: TopicPartition| {
            let partition = shared.topics.partition(at);
            partition.is_some_and(|partition| partition.segments.read().iter().any(|segment| segment.key() == *key))
        };
        let there = segments.iter().filter(|(key, (at, _))| is_there(key, *at));
        there.flat_map(|(_, (at, all))| all.iter().map(|f| DamagedRange { at: *at, from: f.from, to: f.to })).collect()
    }

    pub(super) fn scrubbed_bytes(&self) -> u64 {
        self.scrubbed_bytes.load(Ordering::Relaxed)
    }

    /// Whether a segment of the partition is damaged.
    pub(super) fn concerns(&self, partition: u32) -> bool {
        self.any.load(Ordering::SeqCst) && self.segments.lock().keys().any(|key| key.partition == partition)
    }

    /// Only those of the batches that are before damage which their own checksums do not show.
    pub(super) fn before_hidden(
        &self,
        at: &Partition,
        mut batches: Vec<RecordBatch>,
    ) -> Result<Vec<RecordBatch>, FetchError> {
        if !self.any.load(Ordering::SeqCst) {
            return Ok(batches);
        }
        let segments = self.segments.lock();
        let hidden: Vec<&Found> = segments
            .iter()
            .filter(|(key, _)| key.partition == at.id && at.segments.read().iter().any(|s| s.key() == **key))
            .flat_map(|(_, (_, found))| found.iter().filter(|found| found.hidden))
            .collect();
        let meets = |batch: &RecordBatch| {
            hidden.iter().find(|found| batch.next_offset() > found.from && batch.base_offset() < found.to)
        };
        let first = batches.iter().position(|batch| meets(batch).is_some());
        match first {
            None => Ok(batches),
            Some(0) => {
                let at = batches.first().and_then(meets).map_or(Offset(0), |found| found.from);
                Err(FetchError::Damaged { at })
            }
            Some(count) => {
                batches.truncate(count);
                Ok(batches)
            }
        }
    }
}

/// The loop of the scrub thread.
pub(super) fn run(shared: &Shared) {
    loop {
        round(shared, shared.config.scrub_bytes_per_second);
        if !shared.maintenance.wait(ROUND_EVERY) {
            return;
        }
    }
}

/// Checks every segment that is sealed now, at a rate in bytes a second; 0 is as fast as it goes. Blocks.
pub(in crate::broker) fn round(shared: &Shared, rate: u64) {
    let mut round = Round { shared, rate, since_pause: 0 };
    for partition in shared.topics.all().iter().flat_map(|topic| topic.iter()) {
        let segments = partition.segments.read().clone();
        for segment in segments.iter().filter(|segment| segment.extent().sealed) {
            let checked = round.check(segment);
            if shared.is_stopped() || shared.maintenance.is_stopped() {
                return;
            }
            // What is no longer needed goes while it is read.
            let gone = !partition.holds(segment) || partition.deleted.load(Ordering::SeqCst);
            let found = if gone { Vec::new() } else { checked.unwrap_or_else(|error| lost(segment, &error)) };
            for range in &found {
                let (topic, at) = (partition.at.topic, partition.at.partition);
                tracing::error!(%topic, partition = at, from = range.from.0, to = range.to.0, file = segment.key().log_path(), "stored records are damaged");
            }
            shared.damage.set(partition, segment.key(), found);
        }
    }
    // Those of segments that are gone.
    let mut known = shared.damage.segments.lock();
    known.retain(|key, (at, _)| {
        let partition = shared.topics.partition(*at);
        partition.is_some_and(|partition| partition.segments.read().iter().any(|segment| segment.key() == *key))
    });
    shared.damage.any.store(!known.is_empty(), Ordering::SeqCst);
}

/// A file that cannot be opened.
fn lost(segment: &Segment, error: &io::Error) -> Vec<Found> {
    tracing::error!(file = segment.key().log_path(), %error, "a segment cannot be opened");
    vec![Found { from: segment.base, to: segment.extent().next, hidden: false }]
}

struct Round<'a> {
    shared: &'a Shared,
    rate: u64,
    since_pause: u64,
}

impl Round<'_> {
    /// What is damaged of one segment.
    fn check(&mut self, segment: &Arc<Segment>) -> io::Result<Vec<Found>> {
        let (key, extent) = (segment.key(), segment.extent());
        let file = self.shared.disk.open(&key.log_path(), Open::Existing)?;
        let stored = self.shared.files.read_index(key, len_usize(Index::encoded_max(extent.bytes)));
        match stored.ok().and_then(|bytes| Index::decode(&bytes, key.base, &extent)) {
            Some(index) => Ok(self.compare(&*file, &index, &extent)),
            None => Ok(self.scan(&*file, segment.base, &extent)),
        }
    }

    /// By the checksums of the index.
    fn compare(&mut self, file: &dyn File, index: &Index, extent: &Extent) -> Vec<Found> {
        let mut all = Vec::new();
        for part in index.parts(extent.next) {
            if !self.pause(part.bytes) {
                return all;
            }
            let found = match disk::read_exact(file, part.position, len_usize(part.bytes)) {
                Ok(bytes) if crc32c::crc32c(&bytes) == part.crc => continue,
                Ok(bytes) => Found { from: part.first, to: part.next, hidden: is_readable(&bytes) },
                Err(_) => Found { from: part.first, to: part.next, hidden: false },
            };
            all.push(found);
        }
        all
    }

    /// By the checksums of the batches: the index was lost, which is no damage.
    fn scan(&mut self, file: &dyn File, base: Offset, extent: &Extent) -> Vec<Found> {
        let mut scanner = Scanner::new(file, 0, extent.bytes, len_usize(STEP_BYTES));
        let mut next = base;
        loop {
            match scanner.next() {
                Ok(Some(batch)) if batch.base_offset() >= next && batch.next_offset() <= extent.next => {
                    next = batch.next_offset();
                    if !self.pause(len64(batch.len())) {
                        return Vec::new();
                    }
                }
                Ok(None) => return Vec::new(),
                Ok(Some(_)) | Err(_) => return vec![Found { from: next, to: extent.next, hidden: false }],
            }
        }
    }

    /// Waits as the rate wants it. Whether to go on.
    fn pause(&mut self, bytes: u64) -> bool {
        self.shared.damage.scrubbed_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.since_pause += bytes;
        if self.rate == 0 || self.since_pause < STEP_BYTES {
            return true;
        }
        let pause = Duration::from_millis(self.since_pause.saturating_mul(1000) / self.rate);
        self.since_pause = 0;
        self.shared.maintenance.wait(pause)
    }
}

/// Whether these bytes are batches by their own checksums.
fn is_readable(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some((batch, after)) = RecordBatch::length_of(rest).and_then(|len| rest.split_at_checked(len)) else {
            return false;
        };
        if RecordBatch::stored(bytes::Bytes::copy_from_slice(batch)).is_err() {
            return false;
        }
        rest = after;
    }
    true
}
