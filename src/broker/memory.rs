//! The engine's contract in the simplest form that keeps it: everything in memory, under one lock. For tests.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::compaction::{Left, OffsetMap, Pass, note};
use super::engine::{
    Ack, AdminError, Appended, Bounds, Capabilities, Commit, CommitError, Engine, EngineStats, FetchError, Fetched,
    TopicSettings, TopicSpec, Watch,
};
use super::idempotency::{Idempotency, IdempotencyLimits, Lookup, Remembered};
use super::log::is_older;
use super::producers::{self, Draft, ProducerLimits, Producers};
use super::record::RecordBatch;
use crate::clock::{Clock, Timestamp};
use crate::names::{Offset, TopicId, TopicPartition};

/// Memory for the keys of one compaction, in bytes.
const COMPACTION_MAP_BYTES: usize = 64 << 20;

/// Largest commit, in bytes.
const COMMIT_BYTES_MAX: usize = 16 << 20;

/// See the module's text. Cheap to clone; clones share the records.
#[derive(Clone)]
pub struct MemoryEngine {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Moves with every change; watchers of anything wake, which the contract allows.
    changes: watch::Sender<Change>,
}

#[derive(Clone, Copy)]
struct Change {
    closed: bool,
}

struct State {
    topics: BTreeMap<TopicId, Held>,
    idempotency: Idempotency,
    producers: Producers,
    stats: EngineStats,
    closed: bool,
}

/// What becomes of a write.
struct Placed {
    answer: Appended,
    /// A producer's batch that came before.
    there: bool,
}

/// One topic.
#[derive(Default)]
struct Held {
    settings: TopicSettings,
    partitions: Vec<Kept>,
}

/// What is kept of one partition.
#[derive(Default)]
struct Kept {
    bounds: Bounds,
    /// With their times of acceptance.
    batches: VecDeque<(Timestamp, RecordBatch)>,
}

impl Kept {
    fn bytes(&self) -> u64 {
        self.batches.iter().map(|(_, batch)| bytes(batch.len())).sum()
    }

    /// Removes what the settings no longer want kept.
    fn trim(&mut self, settings: &TopicSettings, now: Timestamp) {
        let mut left = self.bytes();
        while let Some((accepted, oldest)) = self.batches.front() {
            left -= bytes(oldest.len());
            let old = settings.retention.is_some_and(|kept| is_older(*accepted, kept, now));
            let many = settings.retention_bytes.is_some_and(|kept| left >= kept);
            if !(old || many) {
                return;
            }
            self.bounds.start = oldest.next_offset();
            self.batches.pop_front();
        }
    }

    /// Compacts everything but the newest batch.
    fn compact(&mut self, settings: &TopicSettings, now: Timestamp) {
        let Some((_, newest)) = self.batches.back() else { return };
        let mut reach = newest.base_offset();
        let keys = self.bounds.end.0.saturating_sub(self.bounds.start.0).unsigned_abs();
        let mut map = OffsetMap::new(keys, COMPACTION_MAP_BYTES);
        for (_, batch) in self.batches.iter().filter(|(_, batch)| batch.base_offset() < newest.base_offset()) {
            let noted = note(&mut map, batch, batch.base_offset());
            if noted < batch.next_offset() {
                reach = noted;
                break;
            }
        }
        let pass = Pass { map: &map, reach, now, delete_retention: settings.delete_retention };
        let left = |(accepted, batch): (Timestamp, RecordBatch)| match pass.clean(&batch) {
            Left::Whole => Some((accepted, batch)),
            Left::Changed(changed) => Some((accepted, changed)),
            Left::Nothing => None,
        };
        self.batches = std::mem::take(&mut self.batches).into_iter().filter_map(left).collect();
    }
}

impl MemoryEngine {
    /// An empty engine.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let state = State {
            topics: BTreeMap::new(),
            idempotency: Idempotency::new(IdempotencyLimits::default()),
            producers: Producers::new(ProducerLimits::default()),
            stats: EngineStats::default(),
            closed: false,
        };
        let changes = watch::Sender::new(Change { closed: false });
        Self { shared: Arc::new(Shared { clock, state: Mutex::new(state), changes }) }
    }
}

impl State {
    fn partition(&self, at: TopicPartition) -> Result<&Kept, FetchError> {
        if self.closed {
            return Err(FetchError::Stopped);
        }
        let index = usize::try_from(at.partition).unwrap_or(usize::MAX);
        self.topics.get(&at.topic).and_then(|held| held.partitions.get(index)).ok_or(FetchError::UnknownPartition(at))
    }

    fn bounds(&self, at: TopicPartition) -> Result<Bounds, FetchError> {
        Ok(self.partition(at)?.bounds)
    }

    fn commit(&mut self, commit: Commit, now: Timestamp) -> Result<Ack, CommitError> {
        if self.closed {
            return Err(CommitError::Stopped);
        }
        if commit.writes.iter().map(|w| w.batch.len()).sum::<usize>() > COMMIT_BYTES_MAX {
            return Err(CommitError::TooLarge { limit: COMMIT_BYTES_MAX });
        }
        if let Some(key) = &commit.idempotency {
            match self.idempotency.lookup(key, now) {
                Lookup::New => {}
                Lookup::Same(appended) => return Ok(Ack { appended: appended.to_vec(), replayed: true }),
                Lookup::Other => return Err(CommitError::KeyReused),
            }
        }
        let (placed, draft) = self.place(&commit, now)?;
        self.append(&commit, &placed, now);
        draft.into_iter().for_each(|(key, known)| self.producers.insert(key, known));
        let replayed = !placed.is_empty() && placed.iter().all(|placed| placed.there);
        let appended: Vec<_> = placed.into_iter().map(|placed| placed.answer).collect();
        if let Some(key) = commit.idempotency {
            let (tenant, digest) = (commit.tenant, key.digest);
            let seen = Remembered { tenant, digest, at: now, appended: appended.clone().into() };
            self.idempotency.insert(key.key, seen);
        }
        Ok(Ack { appended, replayed })
    }

    /// Decides where every write goes, changing nothing.
    fn place(&self, commit: &Commit, now: Timestamp) -> Result<(Vec<Placed>, Draft), CommitError> {
        let mut ends = HashMap::new();
        let mut draft = Draft::new();
        let mut placed = Vec::with_capacity(commit.writes.len());
        if commit.idempotency.is_some() && commit.writes.iter().any(|write| write.batch.producer().is_some()) {
            return Err(CommitError::KeyAndProducer);
        }
        for write in &commit.writes {
            let known = self.partition(write.to).map_err(|_| CommitError::UnknownPartition(write.to))?;
            let next = ends.entry(write.to).or_insert(known.bounds.end);
            let producer = |key| self.producers.get(key, now).cloned();
            if let Some(answer) = producers::decide(&mut draft, producer, write, *next, now)? {
                placed.push(Placed { answer, there: true });
                continue;
            }
            if write.expect.is_some_and(|expected| expected != *next) {
                return Err(CommitError::OffsetMismatch { at: write.to, next: *next });
            }
            let timestamp = write.batch.max_timestamp();
            let answer = Appended { to: write.to, first: *next, count: write.batch.count(), timestamp };
            placed.push(Placed { answer, there: false });
            *next = write.batch.clone().with_base_offset(*next).next_offset();
        }
        Ok((placed, draft))
    }

    fn append(&mut self, commit: &Commit, placed: &[Placed], now: Timestamp) {
        let new = commit.writes.iter().zip(placed).filter(|(_, placed)| !placed.there);
        for (write, Placed { answer: placed, .. }) in new {
            let index = usize::try_from(placed.to.partition).unwrap_or(usize::MAX);
            let log = self.topics.get_mut(&placed.to.topic).and_then(|held| held.partitions.get_mut(index));
            let log = log.expect("place() found the partition");
            let batch = write.batch.clone().with_base_offset(placed.first);
            log.bounds.end = batch.next_offset();
            log.batches.push_back((now, batch));
            self.stats.records_committed += u64::from(placed.count);
            self.stats.bytes_committed += bytes(write.batch.len());
        }
        self.stats.groups += 1;
    }
}

fn bytes(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[async_trait]
impl Engine for MemoryEngine {
    fn capabilities(&self) -> Capabilities {
        Capabilities { name: "memory", durable: false, conditional_append: true, commit_bytes_max: COMMIT_BYTES_MAX }
    }

    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), AdminError> {
        let mut state = self.shared.state.lock();
        if state.closed {
            return Err(AdminError::Stopped);
        }
        let held = state.topics.entry(spec.id).or_default();
        let partitions = &mut held.partitions;
        let from = u32::try_from(partitions.len()).unwrap_or(u32::MAX);
        if from > spec.partitions {
            return Err(AdminError::FewerPartitions { from, to: spec.partitions });
        }
        partitions.resize_with(usize::try_from(spec.partitions).unwrap_or(usize::MAX), Kept::default);
        held.settings = spec.settings;
        Ok(())
    }

    async fn delete_topic(&self, topic: TopicId) -> Result<(), AdminError> {
        {
            let mut state = self.shared.state.lock();
            if state.closed {
                return Err(AdminError::Stopped);
            }
            state.topics.remove(&topic);
        }
        self.shared.changes.send_modify(|_| {});
        Ok(())
    }

    async fn maintain(&self) -> Result<(), AdminError> {
        let mut state = self.shared.state.lock();
        if state.closed {
            return Err(AdminError::Stopped);
        }
        let now = self.shared.clock.now();
        for held in state.topics.values_mut() {
            held.partitions.iter_mut().for_each(|kept| kept.trim(&held.settings, now));
            if held.settings.compact {
                held.partitions.iter_mut().for_each(|kept| kept.compact(&held.settings, now));
            }
        }
        Ok(())
    }

    async fn commit(&self, commit: Commit) -> Result<Ack, CommitError> {
        let ack = self.shared.state.lock().commit(commit, self.shared.clock.now())?;
        self.shared.changes.send_modify(|_| {});
        Ok(ack)
    }

    async fn fetch(&self, at: TopicPartition, from: Offset, bytes_max: usize) -> Result<Fetched, FetchError> {
        let state = self.shared.state.lock();
        let bounds = state.bounds(at)?;
        if from < bounds.start || from > bounds.end {
            return Err(FetchError::OutOfRange(bounds));
        }
        let mut left = bytes_max;
        let mut batches = Vec::new();
        for batch in state.partition(at)?.batches.iter().map(|(_, batch)| batch).filter(|b| b.reaches(from)) {
            if !batches.is_empty() && batch.len() > left {
                break;
            }
            left = left.saturating_sub(batch.len());
            batches.push(batch.clone());
        }
        Ok(Fetched { batches, bounds })
    }

    fn bounds(&self, at: TopicPartition) -> Result<Bounds, FetchError> {
        self.shared.state.lock().bounds(at)
    }

    async fn offset_for_timestamp(&self, at: TopicPartition, at_or_after: Timestamp) -> Result<Offset, FetchError> {
        let state = self.shared.state.lock();
        let log = state.partition(at)?;
        let batches = log.batches.iter().map(|(_, batch)| batch);
        let found = batches.flat_map(RecordBatch::records).find(|r| r.timestamp >= at_or_after).map(|r| r.offset);
        Ok(found.unwrap_or(log.bounds.end))
    }

    fn watch(&self, _partitions: &[TopicPartition]) -> Box<dyn Watch> {
        Box::new(MemoryWatch(self.shared.changes.subscribe()))
    }

    fn stored_bytes(&self, topic: TopicId) -> u64 {
        let state = self.shared.state.lock();
        state.topics.get(&topic).into_iter().flat_map(|held| &held.partitions).map(Kept::bytes).sum()
    }

    fn stats(&self) -> EngineStats {
        let state = self.shared.state.lock();
        EngineStats {
            partitions: state.topics.values().map(|held| bytes(held.partitions.len())).sum(),
            stored_bytes: state.topics.values().flat_map(|held| &held.partitions).map(Kept::bytes).sum(),
            ..state.stats.clone()
        }
    }

    fn fault(&self) -> Option<String> {
        self.shared.state.lock().closed.then(|| "the engine was closed".to_owned())
    }

    async fn close(&self) {
        self.shared.state.lock().closed = true;
        self.shared.changes.send_modify(|change| change.closed = true);
    }
}

struct MemoryWatch(watch::Receiver<Change>);

#[async_trait]
impl Watch for MemoryWatch {
    async fn changed(&mut self) {
        if !self.0.borrow().closed {
            // An error means that the engine is gone, which is a change.
            drop(self.0.changed().await);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::conformance::{Fixture, conformance};
    use crate::clock::ManualClock;

    async fn fixture() -> Fixture {
        let clock = ManualClock::at(Timestamp(1_000));
        Fixture::new(MemoryEngine::new(Arc::new(clock.clone())), clock)
    }

    conformance!(fixture);
}
