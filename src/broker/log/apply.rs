//! The applier: copies durable batches from the backlog into the segments of their partitions.
//!
//! Nothing here is needed for durability, so nothing here is synced; the checkpoint does that for many groups at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Shared;
use super::checkpoint::Snapshot;
use super::manifest::KnownPartition;
use super::partition::Partition;
use super::queue::Trim;
use super::segment::index::{BatchFacts, Index};
use super::segment::{Segment, SegmentKey, reader};
use super::topics::Partitions;
use super::wal::Position;
use super::wal::writer::InUse;
use super::wire::len64;
use crate::broker::disk::Open;
use crate::broker::record::RecordBatch;
use crate::clock::Timestamp;
use crate::names::TopicId;

/// Groups are applied together up to this many bytes, so that a partition's batches are one write.
const ROUND_BYTES: usize = 8 << 20;

/// Fewer bytes are left to gather for this long. Nobody waits for them: readers take them from memory, recovery from the
/// log. Copying each group at once costs a write a record when many clients send single records.
const ROUND_TIME: Duration = Duration::from_millis(20);

/// Memory that a batch takes beside its bytes.
const BATCH_OVERHEAD_BYTES: usize = 112;

/// How long to wait before a write is tried again that found the disk full.
const FULL_DISK_PATIENCE: Duration = Duration::from_millis(500);

/// A durable commit group, or several that one sync made durable.
pub(super) struct Group {
    /// Where the log goes on after it.
    pub(super) position: Position,
    pub(super) next_partition: u32,
    pub(super) accepted: Timestamp,
    pub(super) appends: Vec<(Arc<Partition>, RecordBatch)>,
    pub(super) changes: Vec<Change>,
    pub(super) frame_bytes: usize,
}

/// A durable change of the partitions that exist.
pub(super) enum Change {
    /// Of one topic, in order.
    Created(Vec<Arc<Partition>>),
    Deleted(TopicId, Partitions),
    /// Segments end, or are no longer needed.
    Trimmed(Trim),
}

impl Change {
    /// Lets readers and writers see it.
    pub(super) fn publish(&self, shared: &Shared) {
        match self {
            Self::Created(partitions) => {
                if let Some(first) = partitions.first() {
                    shared.topics.add(first.at.topic, partitions);
                }
            }
            Self::Deleted(topic, partitions) => {
                shared.topics.remove(*topic);
                partitions.iter().for_each(|p| p.deleted.store(true, Ordering::SeqCst));
                let mut producers = shared.producers.lock();
                partitions.iter().for_each(|p| producers.forget(p.at));
                drop(producers);
                shared.notifier.notify(partitions.iter());
            }
            Self::Trimmed(trim) => trim.starts.iter().for_each(|(partition, to)| partition.move_start(*to)),
        }
    }
}

/// What compaction has made of some neighbouring segments.
pub(super) struct Switch {
    pub(super) partition: Arc<Partition>,
    pub(super) old: Vec<Arc<Segment>>,
    /// Synced; only its name is not.
    pub(super) new: Arc<Segment>,
    /// Told whether readers now find the new one.
    pub(super) reply: mpsc::SyncSender<bool>,
}

/// Groups between the commit thread and the applier, bounded by bytes.
pub(super) struct Backlog {
    bytes_max: usize,
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    groups: VecDeque<Group>,
    /// Of groups that are not applied yet.
    bytes: usize,
    switches: Vec<Switch>,
    finished: bool,
    aborted: bool,
}

impl Waiting {
    /// Whether gathering more would only fill the backlog.
    fn are_a_round(&self, bytes_max: usize) -> bool {
        self.bytes >= ROUND_BYTES.min(bytes_max / 2)
    }
}

impl Backlog {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Whether nobody has to wait.
    pub(super) fn has_room(&self) -> bool {
        self.state.lock().bytes <= self.bytes_max
    }

    /// Waits while too much is waiting, but not if that may take until somebody makes space. Whether there is room.
    pub(super) fn wait_for_room(&self, full_disk: impl Fn() -> bool) -> bool {
        let mut state = self.state.lock();
        while state.bytes > self.bytes_max && !state.aborted {
            if full_disk() {
                return false;
            }
            // The disk may turn out full without a word to this side.
            self.changed.wait_for(&mut state, FULL_DISK_PATIENCE);
        }
        true
    }

    /// Adds a group; the caller has waited for room.
    pub(super) fn push(&self, group: Group) {
        let mut state = self.state.lock();
        state.bytes += group.frame_bytes;
        state.groups.push_back(group);
        let ripe = state.groups.len() == 1 || state.are_a_round(self.bytes_max);
        drop(state);
        if ripe {
            self.changed.notify_all();
        }
    }

    /// Offers compacted segments. There is one at a time, as its maker waits.
    pub(super) fn switch(&self, switch: Switch) {
        self.state.lock().switches.push(switch);
        self.changed.notify_all();
    }

    fn switches(&self) -> Vec<Switch> {
        std::mem::take(&mut self.state.lock().switches)
    }

    /// Nothing follows.
    pub(super) fn finish(&self) {
        self.state.lock().finished = true;
        self.changed.notify_all();
    }

    pub(super) fn abort(&self) {
        self.state.lock().aborted = true;
        self.changed.notify_all();
    }

    /// The next round, about [`ROUND_BYTES`] or what comes in [`ROUND_TIME`]; nothing after `patience` or at the end.
    /// Whether the end is reached.
    fn take(&self, patience: Duration) -> (Vec<Group>, bool) {
        let mut state = self.state.lock();
        let deadline = Instant::now() + patience;
        while state.groups.is_empty() && state.switches.is_empty() && !state.finished && !state.aborted {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        let deadline = Instant::now() + ROUND_TIME;
        while !state.groups.is_empty() && !state.are_a_round(self.bytes_max) && !state.finished && !state.aborted {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        let mut groups = Vec::new();
        let mut bytes = 0;
        while bytes < ROUND_BYTES
            && let Some(group) = state.groups.pop_front()
        {
            bytes += group.frame_bytes;
            groups.push(group);
        }
        let end = state.aborted || (groups.is_empty() && state.finished);
        (groups, end)
    }

    fn applied(&self, bytes: usize) {
        self.state.lock().bytes -= bytes;
        self.changed.notify_all();
    }

    /// Waits a little, unless the engine stops. Whether to go on.
    fn pause(&self) -> bool {
        let mut state = self.state.lock();
        let deadline = Instant::now() + FULL_DISK_PATIENCE;
        while !state.aborted && !state.finished && !self.changed.wait_until(&mut state, deadline).timed_out() {}
        !state.aborted && !state.finished
    }
}

/// Batches of one partition that are written together.
#[derive(Default)]
struct Run {
    batches: Vec<RecordBatch>,
    /// When the last of them was.
    accepted: Timestamp,
}

/// See the module's text.
pub(super) struct Applier {
    shared: Arc<Shared>,
    /// As of `position`.
    partitions: BTreeMap<u32, Arc<Partition>>,
    position: Position,
    next_partition: u32,
    in_use: InUse,
    /// Written since the last checkpoint began.
    dirty: BTreeSet<SegmentKey>,
    /// Partitions whose directories have new names since then.
    dirty_dirs: BTreeSet<u8>,
    /// Segments that nobody needs any more, not yet with the checkpointer.
    garbage: Vec<SegmentKey>,
    log_bytes: u64,
    /// Whose batches in memory are the oldest that are in segments, one entry a batch.
    evictable: VecDeque<Arc<Partition>>,
    tail_bytes: usize,
    buffer: Vec<u8>,
    /// Segments may have bytes that the manifest does not know of.
    recovering: bool,
}

impl Applier {
    pub(super) fn new(shared: Arc<Shared>, position: Position, next_partition: u32) -> Self {
        Self {
            shared,
            partitions: BTreeMap::new(),
            position,
            next_partition,
            in_use: InUse::default(),
            dirty: BTreeSet::new(),
            dirty_dirs: BTreeSet::new(),
            garbage: Vec::new(),
            log_bytes: 0,
            evictable: VecDeque::new(),
            tail_bytes: 0,
            buffer: Vec::new(),
            recovering: true,
        }
    }

    /// A partition that the manifest knows.
    pub(super) fn add(&mut self, partition: Arc<Partition>) {
        self.partitions.insert(partition.id, partition);
    }

    pub(super) fn partition(&self, id: u32) -> Option<&Arc<Partition>> {
        self.partitions.get(&id)
    }

    /// Recovery is over; the log goes on here.
    pub(super) fn recovered(&mut self, position: Position) {
        self.recovering = false;
        self.position = position;
        // The segments that were replayed are given back with all others that the start has found.
        self.in_use = InUse::default();
        self.in_use.note(position.segment);
    }

    /// The loop; ends with a last checkpoint when nothing follows.
    pub(super) fn run(mut self) -> io::Result<()> {
        let every = self.shared.config.checkpoint_every;
        let mut last = Instant::now();
        loop {
            let patience = every.saturating_sub(last.elapsed()).max(Duration::from_millis(100));
            let (groups, end) = self.shared.backlog.take(patience);
            if self.shared.is_stopped() {
                return Ok(());
            }
            let bytes = groups.iter().map(|g| g.frame_bytes).sum();
            self.apply(groups)?;
            self.shared.backlog.applied(bytes);
            self.shared.backlog.switches().into_iter().for_each(|switch| self.switch(&switch));
            if end {
                break;
            }
            let due = self.log_bytes >= self.shared.config.checkpoint_bytes
                || !self.garbage.is_empty()
                || (self.log_bytes > 0 && last.elapsed() >= every);
            if due && self.shared.checkpoints.is_idle() {
                let snapshot = self.snapshot();
                self.shared.checkpoints.offer(snapshot);
                last = Instant::now();
            }
        }
        let snapshot = self.snapshot();
        self.shared.checkpoints.offer(snapshot);
        self.shared.checkpoints.finish();
        Ok(())
    }

    /// Copies groups into segments.
    pub(super) fn apply(&mut self, groups: Vec<Group>) -> io::Result<()> {
        let mut runs = BTreeMap::new();
        for group in groups {
            self.position = group.position;
            self.next_partition = group.next_partition;
            self.in_use.note(group.position.segment);
            self.log_bytes += len64(group.frame_bytes);
            for (partition, batch) in group.appends {
                self.tail_bytes += batch.len() + BATCH_OVERHEAD_BYTES;
                let run: &mut Run = runs.entry(partition.id).or_default();
                run.batches.push(batch);
                run.accepted = group.accepted;
                self.evictable.push_back(partition);
            }
            for change in group.changes {
                self.change(change, &mut runs)?;
            }
        }
        for (id, run) in runs {
            if let Some(partition) = self.partitions.get(&id) {
                let partition = Arc::clone(partition);
                self.append(&partition, &run)?;
            }
        }
        self.evict();
        Ok(())
    }

    fn change(&mut self, change: Change, runs: &mut BTreeMap<u32, Run>) -> io::Result<()> {
        match change {
            Change::Created(partitions) => partitions.into_iter().for_each(|p| self.add(p)),
            Change::Deleted(_, partitions) => {
                for partition in partitions.iter() {
                    runs.remove(&partition.id);
                    self.partitions.remove(&partition.id);
                    partition.segments.read().iter().for_each(|segment| self.discard(segment));
                }
            }
            Change::Trimmed(trim) => self.trim(trim, runs)?,
        }
        Ok(())
    }

    fn trim(&mut self, trim: Trim, runs: &mut BTreeMap<u32, Run>) -> io::Result<()> {
        for partition in &trim.seals {
            // What was committed before the seal belongs into the segment.
            if let Some(run) = runs.remove(&partition.id) {
                self.append(partition, &run)?;
            }
            let last = partition.segments.read().last().map(Arc::clone);
            if let Some(segment) = last.filter(|segment| segment.extent().bytes > 0) {
                self.seal(&segment)?;
            }
        }
        for (partition, _) in &trim.starts {
            partition.trim().iter().for_each(|segment| self.discard(segment));
        }
        // Whoever asked may have lost patience.
        trim.carried_out.map_or(Ok(()), |asked| asked.send(()).or(Ok(())))
    }

    /// Nobody needs the segment any more; its files go when the manifest says so.
    fn discard(&mut self, segment: &Segment) {
        self.dirty.remove(&segment.key());
        self.shared.files.forget(segment.key());
        self.garbage.push(segment.key());
    }

    /// Lets readers find compacted segments, unless the old ones have gone meanwhile.
    fn switch(&mut self, switch: &Switch) {
        let Switch { partition, old, new, reply } = switch;
        let is_ours = self.partitions.get(&partition.id).is_some_and(|known| Arc::ptr_eq(known, partition));
        let switched = is_ours && partition.replace(old, new);
        if switched {
            old.iter().for_each(|segment| self.discard(segment));
            self.dirty_dirs.insert(new.partition.to_le_bytes()[0]);
        }
        // Whoever asked may have lost patience.
        reply.send(switched).unwrap_or_default();
    }

    /// Forgets batches in memory that are in segments, the oldest first, down to the budget.
    fn evict(&mut self) {
        while self.tail_bytes > self.shared.config.tail_bytes_max
            && let Some(partition) = self.evictable.pop_front()
        {
            self.tail_bytes -= partition.forget_oldest() + BATCH_OVERHEAD_BYTES;
        }
    }

    fn append(&mut self, partition: &Partition, run: &Run) -> io::Result<()> {
        let mut left = &run.batches[..];
        while let Some(first) = left.first() {
            let segment = self.growing_segment(partition, first)?;
            let room = self.shared.config.segment_bytes.saturating_sub(segment.extent().bytes);
            let fitting = fitting(left, room);
            let (now, later) = left.split_at(fitting);
            self.write(&segment, now, run.accepted)?;
            left = later;
        }
        Ok(())
    }

    /// The segment to append to: the last one, or a new one when that is full.
    fn growing_segment(&mut self, partition: &Partition, first: &RecordBatch) -> io::Result<Arc<Segment>> {
        let last = partition.segments.read().last().map(Arc::clone);
        if let Some(segment) = last {
            let extent = segment.extent();
            let has_room = extent.bytes == 0
                || extent.bytes.saturating_add(len64(first.len())) <= self.shared.config.segment_bytes;
            if has_room && !extent.sealed {
                return Ok(segment);
            }
            self.seal(&segment)?;
        }
        let key = SegmentKey { partition: partition.id, base: first.base_offset(), generation: 0 };
        self.until_there_is_space(|shared| shared.files.create(key).map(drop))?;
        self.dirty_dirs.insert(key.partition.to_le_bytes()[0]);
        let segment = Arc::new(Segment::new(key));
        partition.segments.write().push(Arc::clone(&segment));
        Ok(segment)
    }

    fn seal(&mut self, segment: &Segment) -> io::Result<()> {
        if segment.extent().sealed {
            return Ok(());
        }
        let key = segment.key();
        let index = match segment.seal() {
            Some(index) => index,
            // Not in memory since the last start.
            None => reader::rebuild(&*self.shared.files.get(key)?, &segment.extent()).unwrap_or_default(),
        };
        if index == Index::default() {
            return Ok(()); // unreadable bytes have no index; readers find the damage
        }
        let bytes = index.encode(key.base, &segment.extent());
        // Never synced: an index that a power cut takes or tears is found out by its checksum and made again.
        self.until_there_is_space(|shared| shared.disk.open(&key.index_path(), Open::Empty)?.write_at(&bytes, 0))
    }

    /// Writes batches to the end of a segment in one go.
    fn write(&mut self, segment: &Segment, batches: &[RecordBatch], accepted: Timestamp) -> io::Result<()> {
        let (key, at) = (segment.key(), segment.extent().bytes);
        let file = Arc::clone(&self.shared.files.get(key)?.file);
        if self.recovering && !self.dirty.contains(&key) {
            file.set_len(at)?;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        batches.iter().for_each(|batch| batch.write_to(&mut buffer));
        self.until_there_is_space(|_| file.write_at(&buffer, at))?;
        let mut rest = &buffer[..];
        let pieces = batches.iter().map(|batch| {
            let (piece, after) = rest.split_at(batch.len());
            rest = after;
            (BatchFacts::of(batch), piece)
        });
        segment.grew(pieces, accepted);
        self.buffer = buffer;
        self.dirty.insert(key);
        Ok(())
    }

    /// Writes that find the disk full are tried again: unlike a sync, a write that failed for want of space has left
    /// nothing undecided. Meanwhile the engine takes no records, and what is not copied stays in memory and in the log,
    /// where the next start finds it if the engine is closed before there is space.
    fn until_there_is_space(&self, write: impl Fn(&Shared) -> io::Result<()>) -> io::Result<()> {
        loop {
            match write(&self.shared) {
                Err(e) if e.kind() == io::ErrorKind::StorageFull => {
                    self.shared.read_only.store(true, Ordering::SeqCst);
                    if self.recovering || !self.shared.backlog.pause() {
                        return Err(e);
                    }
                }
                other => return other,
            }
        }
    }

    /// Everything that a checkpoint must make durable, and what the store is then.
    pub(super) fn snapshot(&mut self) -> Snapshot {
        let known = |partition: &Arc<Partition>| {
            let segments: Vec<_> = partition.segments.read().iter().map(|s| (s.key(), s.extent())).collect();
            // What is in segments; the durable end may be ahead of that.
            let start = partition.start();
            let next = segments.last().map_or(start, |(_, extent)| extent.next);
            KnownPartition { id: partition.id, at: partition.at, start, clean_to: partition.clean_to(), next, segments }
        };
        self.log_bytes = 0;
        Snapshot {
            position: self.position,
            next_partition: self.next_partition,
            partitions: self.partitions.values().map(known).collect(),
            segments: std::mem::take(&mut self.dirty),
            dirs: std::mem::take(&mut self.dirty_dirs),
            garbage: std::mem::take(&mut self.garbage),
            released: self.in_use.release_before(self.position.segment),
        }
    }
}

/// How many of the first batches fit in `room` bytes; at least 1.
fn fitting(batches: &[RecordBatch], room: u64) -> usize {
    let mut bytes = 0;
    let fits = |batch: &&RecordBatch| {
        bytes += len64(batch.len());
        bytes <= room
    };
    batches.iter().take_while(fits).count().max(1)
}
