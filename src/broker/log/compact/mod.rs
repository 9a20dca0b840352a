//! Compaction: writes segments of compacted topics anew, without the records that [`compaction`]
//! takes out.
//!
//! It works on the maintenance thread and on sealed segments only, never on a partition's last one, so the newest record
//! is always there. Neighbours that became small are written as one. What it writes is a segment of the next generation,
//! under its own name and synced before anybody hears of it; the applier then puts it where the old ones were, the next
//! manifest says so, and only then the old files go. A reader that has found an old segment either still reads its file or
//! looks again.
//!
//! A crash in between leaves a file that no manifest names: the first round after a start looks for those.

mod output;
mod plan;

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use self::output::Output;
use self::plan::Survey;
use super::apply::Switch;
use super::partition::Partition;
use super::segment::scan::Scanner;
use super::segment::{self, Extent, Segment, SegmentKey};
use super::topics::Topics;
use super::{Shared, wire};
use crate::broker::compaction::{self, Left, OffsetMap, Pass};
use crate::broker::record::RecordBatch;
use crate::clock::Timestamp;
use crate::names::Offset;

/// A partition is compacted when this much of its sealed bytes is not compacted yet: what is written anew is then at most
/// about twice what came in.
const DIRTY_PERCENT_MIN: u64 = 50;

/// Or when something has waited for so long.
const DIRTY_AGE_MAX: Duration = Duration::from_hours(24);

/// A round begins no further partition when it has read this many bytes.
const ROUND_BYTES: u64 = 256 << 20;

/// How much is read at once, with a pause after it, in which others have the disk.
const STEP_BYTES: usize = 1 << 20;
const PAUSE_BETWEEN_STEPS: Duration = Duration::from_millis(5);

/// How often a wait for the applier looks whether the engine stops.
const PATIENCE: Duration = Duration::from_millis(100);

/// What compaction remembers between two rounds.
#[derive(Default)]
pub(super) struct Compactor {
    /// The compacted segments that the manifest named when the engine started, until the others were looked for.
    named_at_start: Option<HashSet<SegmentKey>>,
    /// Where segments could not be read. Their partitions are left as they are: a tombstone must not go before all older
    /// records of its key.
    unreadable: HashSet<(u32, Offset)>,
}

/// Why a partition was left before its end.
enum Halt {
    /// A segment cannot be read.
    Unreadable(Arc<Segment>, io::Error),
    /// There is no space for the new segment. Nothing is lost: the old ones are there.
    Full,
    /// The topic or the segments are gone, or the engine stops.
    Moot,
    /// The storage failed.
    Failed(io::Error),
}

/// Compacts what most needs it.
pub(super) fn run(shared: &Shared) {
    let mut compactor = shared.compactor.lock();
    compactor.remove_leftovers(shared);
    let mut left = ROUND_BYTES;
    for (_, partition) in compactor.candidates(shared) {
        let bytes = sealed(&partition).iter().map(|segment| segment.extent().bytes).sum();
        match Work::new(shared, &partition).run() {
            Ok(()) | Err(Halt::Moot) => {}
            Err(Halt::Full) => tracing::warn!(partition = partition.id, "no space to compact a partition"),
            Err(Halt::Unreadable(segment, error)) => {
                tracing::error!(partition = partition.id, segment = segment.base.0, %error, "stored records are damaged; the partition is not compacted");
                compactor.unreadable.insert((partition.id, segment.base));
            }
            Err(Halt::Failed(error)) => return shared.fail(format!("compaction: {error}")),
        }
        left = left.saturating_sub(bytes);
        if left == 0 || shared.is_stopped() || shared.maintenance.is_stopped() {
            return;
        }
    }
}

impl Compactor {
    /// The engine starts with these segments.
    pub(super) fn started_with(&mut self, topics: &Topics, garbage: &[SegmentKey]) {
        let all = topics.all();
        let partitions = all.iter().flat_map(|topic| topic.iter());
        let named = partitions.flat_map(|p| p.segments.read().iter().map(|s| s.key()).collect::<Vec<_>>());
        self.named_at_start = Some(named.chain(garbage.iter().copied()).filter(|key| key.generation > 0).collect());
    }

    /// Files that a compaction before the start has left without a manifest that names them. Nobody else makes files of
    /// later generations, so what was not named then is not needed.
    fn remove_leftovers(&mut self, shared: &Shared) {
        let Some(named) = self.named_at_start.take() else { return };
        for low_byte in 0..=u8::MAX {
            let dir = segment::dir(low_byte);
            let Ok(names) = shared.disk.list(&dir) else { continue };
            let made_by_compaction = |name: &String| SegmentKey::of_file(name).filter(|key| key.generation > 0);
            for name in names {
                if made_by_compaction(&name).is_some_and(|key| !named.contains(&key)) {
                    remove(shared, &format!("{dir}/{name}"));
                }
            }
        }
    }

    /// What needs compaction, most urgent first.
    fn candidates(&self, shared: &Shared) -> Vec<(u64, Arc<Partition>)> {
        let now = shared.clock.now();
        let all = shared.topics.all();
        let partitions = all.iter().flat_map(|topic| topic.iter());
        let mut candidates: Vec<_> = partitions
            .filter(|partition| partition.settings().compact && !self.is_unreadable(partition))
            .filter(|partition| !shared.damage.concerns(partition.id))
            .filter_map(|partition| Some((urgency(partition, now)?, Arc::clone(partition))))
            .collect();
        candidates.sort_by_key(|(urgency, _)| std::cmp::Reverse(*urgency));
        candidates
    }

    /// Whether a segment that could not be read is still there.
    fn is_unreadable(&self, partition: &Partition) -> bool {
        let segments = partition.segments.read();
        segments.iter().any(|segment| self.unreadable.contains(&(partition.id, segment.base)))
    }
}

/// The segments that may be compacted: all but the last.
fn sealed(partition: &Partition) -> Vec<Arc<Segment>> {
    let segments = partition.segments.read();
    segments.split_last().map_or_else(Vec::new, |(_, sealed)| sealed.to_vec())
}

/// The part of the sealed bytes that is not compacted yet, in percent, if that is enough.
fn urgency(partition: &Partition, now: Timestamp) -> Option<u64> {
    let clean_to = partition.clean_to();
    let extents: Vec<Extent> = sealed(partition).iter().map(|segment| segment.extent()).collect();
    let dirty: Vec<&Extent> = extents.iter().filter(|extent| extent.next > clean_to).collect();
    let bytes = |extent: &Extent| extent.bytes;
    let all: u64 = extents.iter().map(bytes).sum();
    let percent = dirty.iter().map(|extent| extent.bytes).sum::<u64>().saturating_mul(100) / all.max(1);
    let age_max = i64::try_from(DIRTY_AGE_MAX.as_millis()).unwrap_or(i64::MAX);
    let old = dirty.first().is_some_and(|extent| now.0.saturating_sub(extent.max_accepted.0) > age_max);
    let due = extents.iter().any(|extent| extent.delete_horizon <= now);
    (percent >= DIRTY_PERCENT_MIN || old || due).then_some(percent)
}

/// One pass over one partition.
struct Work<'a> {
    shared: &'a Shared,
    partition: &'a Arc<Partition>,
    segments: Vec<Arc<Segment>>,
    clean_to: Offset,
    /// Bytes read or written since the last pause.
    moved: usize,
}

impl<'a> Work<'a> {
    fn new(shared: &'a Shared, partition: &'a Arc<Partition>) -> Self {
        let segments = sealed(partition);
        Self { shared, partition, segments, clean_to: partition.clean_to(), moved: 0 }
    }

    fn run(mut self) -> Result<(), Halt> {
        let (map, reach) = self.map()?;
        let delete_retention = self.partition.settings().delete_retention;
        let pass = Pass { map: &map, reach, now: self.shared.clock.now(), delete_retention };
        self.segments.retain(|segment| segment.base < reach);
        let mut surveys = Vec::with_capacity(self.segments.len());
        for segment in self.segments.clone() {
            surveys.push(self.survey(&segment, &pass)?);
        }
        // In order: where this stops, everything before is clean and everything behind is as it was.
        for group in plan::groups(&surveys, self.shared.config.segment_bytes) {
            let group = self.segments[group].to_vec();
            self.rewrite(&group, &pass)?;
        }
        self.partition.set_clean_to(reach);
        Ok(())
    }

    /// The last offsets of the keys that are not compacted yet, as far as they fit, and how far that is.
    fn map(&mut self) -> Result<(OffsetMap, Offset), Halt> {
        let clean_to = self.clean_to;
        let dirty: Vec<_> = self.segments.iter().filter(|s| s.extent().next > clean_to).map(Arc::clone).collect();
        let first = dirty.first().map_or(clean_to, |segment| segment.base.max(clean_to));
        let next = dirty.last().map_or(first, |segment| segment.extent().next);
        let records = u64::try_from(next.0 - first.0).unwrap_or(0);
        let mut map = OffsetMap::new(records, self.shared.config.compaction_map_bytes);
        // With nothing new there are still tombstones whose time has come.
        let mut reach = self.segments.last().map_or(clean_to, |segment| segment.extent().next.min(clean_to));
        for segment in dirty {
            let mut full = false;
            self.scan(&segment, |_, batch| {
                if !full && batch.next_offset() > clean_to {
                    reach = compaction::note(&mut map, batch, clean_to);
                    full = reach < batch.next_offset();
                }
                Ok(())
            })?;
            if full {
                return Ok((map, reach));
            }
            reach = segment.extent().next;
        }
        Ok((map, reach))
    }

    /// What a pass would leave of a segment.
    fn survey(&mut self, segment: &Arc<Segment>, pass: &Pass<'_>) -> Result<Survey, Halt> {
        let extent = segment.extent();
        let mut survey = Survey { base: segment.base, next: extent.next, bytes: 0, changed: false };
        self.scan(segment, |_, batch| {
            let left = match pass.clean(batch) {
                Left::Whole => batch.len(),
                Left::Changed(changed) => {
                    survey.changed = true;
                    changed.len()
                }
                Left::Nothing => {
                    survey.changed = true;
                    0
                }
            };
            survey.bytes += wire::len64(left);
            Ok(())
        })?;
        Ok(survey)
    }

    /// Writes neighbours as one segment of the next generation.
    fn rewrite(&mut self, group: &[Arc<Segment>], pass: &Pass<'_>) -> Result<(), Halt> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(()) };
        let newest = group.iter().map(|segment| segment.generation).max().unwrap_or(0);
        let key = SegmentKey { generation: newest.saturating_add(1), ..first.key() };
        let switched = match self.write(key, group, pass, last.extent().next) {
            // Whether the applier has taken it may not be known; then the next start finds out.
            Ok(segment) => self.switch(group, segment)?,
            Err(halt) => {
                self.discard(key);
                return Err(halt);
            }
        };
        if switched {
            return Ok(());
        }
        self.discard(key);
        Err(Halt::Moot)
    }

    /// Removes files that nobody has heard of.
    fn discard(&self, key: SegmentKey) {
        remove(self.shared, &key.index_path());
        remove(self.shared, &key.log_path());
    }

    fn write(
        &mut self,
        key: SegmentKey,
        group: &[Arc<Segment>],
        pass: &Pass<'_>,
        next: Offset,
    ) -> Result<Segment, Halt> {
        let mut output = Output::create(&*self.shared.disk, key).map_err(full_or_failed)?;
        for segment in group {
            self.scan(segment, |work, batch| {
                let left = match pass.clean(batch) {
                    Left::Whole => batch.clone(),
                    Left::Changed(changed) => changed,
                    Left::Nothing => return Ok(()),
                };
                work.moved += left.len();
                output.push(&left).map_err(full_or_failed)
            })?;
            output.took(&segment.extent());
        }
        output.finish(&*self.shared.disk, next).map_err(full_or_failed)
    }

    /// Has the applier put the new segment where the old ones are. Whether it did.
    fn switch(&self, old: &[Arc<Segment>], new: Segment) -> Result<bool, Halt> {
        let (reply, answer) = mpsc::sync_channel(1);
        let (partition, old, new) = (Arc::clone(self.partition), old.to_vec(), Arc::new(new));
        self.shared.backlog.switch(Switch { partition, old, new, reply });
        loop {
            match answer.recv_timeout(PATIENCE) {
                Ok(switched) => return Ok(switched),
                // Whether it did is not known: what it has not switched is a leftover for the next start.
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Halt::Moot),
                Err(mpsc::RecvTimeoutError::Timeout) if self.stops() => return Err(Halt::Moot),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Every batch of a segment, with pauses. Batch offsets have no checksum of their own: what is out of order is damage,
    /// and must not decide which records stay.
    fn scan(
        &mut self,
        segment: &Arc<Segment>,
        mut each: impl FnMut(&mut Self, &RecordBatch) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        let open = self.shared.files.get(segment.key()).map_err(|error| self.unreadable(segment, error))?;
        let mut scanner = Scanner::new(&*open.file, 0, segment.extent().bytes, STEP_BYTES);
        let (mut expected, end) = (segment.base, segment.extent().next);
        while let Some(batch) = scanner.next().map_err(|error| self.unreadable(segment, error))? {
            if batch.base_offset() < expected || batch.next_offset() > end {
                let error = io::Error::new(io::ErrorKind::InvalidData, "a batch out of order");
                return Err(self.unreadable(segment, error));
            }
            expected = batch.next_offset();
            each(self, &batch)?;
            self.moved += batch.len();
            if self.moved >= STEP_BYTES {
                self.moved = 0;
                if !self.shared.maintenance.wait(PAUSE_BETWEEN_STEPS) || self.stops() {
                    return Err(Halt::Moot);
                }
            }
        }
        Ok(())
    }

    fn stops(&self) -> bool {
        self.shared.is_stopped() || self.shared.maintenance.is_stopped()
    }

    fn unreadable(&self, segment: &Arc<Segment>, error: io::Error) -> Halt {
        let is_there = self.partition.holds(segment) && !self.stops();
        let deleted = self.partition.deleted.load(std::sync::atomic::Ordering::SeqCst);
        if is_there && !deleted { Halt::Unreadable(Arc::clone(segment), error) } else { Halt::Moot }
    }
}

/// A write that found no space has left nothing undecided; any other error has.
fn full_or_failed(error: io::Error) -> Halt {
    if error.kind() == io::ErrorKind::StorageFull { Halt::Full } else { Halt::Failed(error) }
}

fn remove(shared: &Shared, path: &str) {
    match shared.disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path, %error, "a file that no manifest names could not be removed");
        }
        _ => {}
    }
}
