//! The commit thread: the only one that assigns offsets.
//!
//! It takes a group, decides every request in order, writes one frame, waits until that is durable, and only then lets
//! readers see it and answers, refusals included: a refusal tells what came before it.
//!
//! One thing is answered earlier: what was appended to relaxed topics only, once it is written. If a group holds nothing
//! else, its sync waits for the next group that needs one, or until the lag of relaxed topics is reached.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Shared;
use super::apply::{Change, Group};
use super::coalesce::{Append, Runs};
use super::partition::Partition;
use super::queue::{Request, Taken, Trim};
use super::wal::frame::{CREATE_BYTES, ENTRY_BYTES, FrameBuilder, KeyEntry, commit_bound, padded};
use super::wal::writer::Writer;
use super::wire::{len_usize, len64};
use crate::broker::engine::{
    Ack, AdminError, Appended, Bounds, Commit, CommitError, Durability, IdempotencyKey, TopicSpec, Write,
};
use crate::broker::idempotency::{Lookup, Remembered};
use crate::broker::producers::{self, Draft};
use crate::clock::Timestamp;
use crate::names::{Offset, TopicId, TopicPartition};

/// An idle log says after this time that its last frame was durable.
const MARK_AFTER: Duration = Duration::from_millis(10);

/// See the module's text.
pub(super) struct Committer {
    shared: Arc<Shared>,
    writer: Writer,
    next_partition: u32,
    frame: FrameBuilder,
    /// When the group was taken: the time of acceptance of everything in it.
    now: Timestamp,
    /// In the frame.
    appends: Vec<Append>,
    /// Small batches on their way there.
    runs: Runs,
    /// Keys in the frame; they become known with it.
    keys: HashMap<[u8; 16], Remembered>,
    /// Producers in the frame, likewise.
    numbered: Draft,
    changes: Vec<Change>,
    /// Answers that wait for a sync, and those that need not.
    replies: Vec<Reply>,
    early: Vec<Reply>,
    /// Frames that were written and wait for a sync. `appends`, `keys` and `changes` are theirs.
    unsynced: Option<Unsynced>,
}

/// See [`Committer::unsynced`].
struct Unsynced {
    since: Instant,
    bytes: usize,
}

/// What becomes of a write.
enum Place {
    Append(Arc<Partition>),
    /// A producer's batch that is there already.
    Known(Appended),
}

impl Place {
    fn partition(&self) -> Option<&Arc<Partition>> {
        match self {
            Self::Append(partition) => Some(partition),
            Self::Known(_) => None,
        }
    }
}

/// An answer on its way.
enum Reply {
    Commit(oneshot::Sender<Result<Ack, CommitError>>, Result<Ack, CommitError>),
    Admin(oneshot::Sender<Result<(), AdminError>>, Result<(), AdminError>),
}

impl Reply {
    /// Whoever asked may be gone; the write is not undone.
    fn send(self) {
        match self {
            Self::Commit(to, answer) => drop(to.send(answer)),
            Self::Admin(to, answer) => drop(to.send(answer)),
        }
    }
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, writer: Writer, frame: FrameBuilder, next_partition: u32) -> Self {
        Self {
            shared,
            writer,
            next_partition,
            frame,
            now: Timestamp(0),
            appends: Vec::new(),
            runs: Runs::default(),
            keys: HashMap::new(),
            numbered: Draft::new(),
            changes: Vec::new(),
            replies: Vec::new(),
            early: Vec::new(),
            unsynced: None,
        }
    }

    /// The loop; ends when the queue is closed and empty.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut group = Vec::new();
        let outcome = self.work(&mut group);
        if let Err(error) = &outcome {
            // Whoever waits hears of the end when the group and the answers are dropped, and may ask why.
            self.shared.fail(format!("weir-commit: {error}"));
        }
        outcome
    }

    fn work(&mut self, group: &mut Vec<Request>) -> io::Result<()> {
        loop {
            match self.shared.queue.take_group(group, self.shared.config.group_bytes_max, self.patience()) {
                Taken::Group => self.commit_group(group)?,
                Taken::Idle if self.unsynced.is_some() => self.settle()?,
                Taken::Idle => self.writer.mark(&mut self.frame, self.shared.clock.now())?,
                Taken::Closed => return self.finish(),
            }
        }
    }

    /// How long to wait for a group while nothing else needs to be done.
    fn patience(&self) -> Option<Duration> {
        match &self.unsynced {
            Some(unsynced) => Some(self.shared.config.relaxed_lag.saturating_sub(unsynced.since.elapsed())),
            None => self.writer.wants_mark().then_some(MARK_AFTER),
        }
    }

    /// The closing mark, and word to the applier that nothing follows.
    fn finish(&mut self) -> io::Result<()> {
        if self.shared.is_stopped() {
            return Ok(());
        }
        self.settle()?;
        if self.writer.wants_mark() {
            self.writer.mark(&mut self.frame, self.shared.clock.now())?;
        }
        // A mark that an idle log wrote before counts too: a clean end leaves nothing to replay.
        if self.writer.is_ahead() {
            self.writer.sync()?;
            self.hand_over(0);
        }
        self.shared.backlog.finish();
        Ok(())
    }

    fn commit_group(&mut self, group: &mut Vec<Request>) -> io::Result<()> {
        if !self.make_room(group)? {
            group.drain(..).for_each(refuse_full);
            return Ok(());
        }
        self.now = self.shared.clock.now();
        self.frame.start();
        for request in group.drain(..) {
            self.decide(request);
        }
        self.runs.close_all().for_each(|append| append_to(&mut self.frame, &mut self.appends, append));
        if !self.frame.is_empty() {
            let before = self.writer.position();
            self.writer.write(&mut self.frame, self.now)?;
            let unsynced = self.unsynced.get_or_insert_with(|| Unsynced { since: Instant::now(), bytes: 0 });
            unsynced.bytes += len_usize(self.writer.position().at - before.at);
        }
        self.early.drain(..).for_each(Reply::send);
        // Changes come after the appends of what they are handed over with.
        if !self.replies.is_empty() || !self.changes.is_empty() || self.lag_is_reached() {
            self.settle()?;
        }
        Ok(())
    }

    /// Sees to it that a frame for the group can be written. False if the storage is full.
    fn make_room(&mut self, group: &[Request]) -> io::Result<bool> {
        // The copies into segments cannot keep up, or there is no space for them. Deleting makes some, and adds little.
        let deletes = group.iter().all(|request| matches!(request, Request::Delete { .. } | Request::Trim(_)));
        if !deletes && !self.shared.backlog.has_room() {
            // Waiting may take longer than relaxed topics may lag.
            self.settle()?;
            let shared = &self.shared;
            if !shared.backlog.wait_for_room(|| shared.read_only.load(Ordering::SeqCst)) {
                return Ok(false);
            }
        }
        let most = self.shared.config.partitions_max();
        let bound = padded(group.iter().map(|request| frame_bound(request, most)).sum());
        if !self.writer.has_room(bound) {
            self.settle()?;
        }
        match self.writer.reserve(bound) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                self.shared.read_only.store(true, Ordering::SeqCst);
                Ok(false)
            }
            other => other.map(|()| true),
        }
    }

    fn lag_is_reached(&self) -> bool {
        let config = &self.shared.config;
        self.unsynced.as_ref().is_some_and(|unsynced| {
            unsynced.bytes >= config.relaxed_bytes_max || unsynced.since.elapsed() >= config.relaxed_lag
        })
    }

    /// Makes everything that was written durable, lets readers see it, and gives the answers that waited for it.
    fn settle(&mut self) -> io::Result<()> {
        let unsynced = self.unsynced.take();
        if unsynced.is_some() {
            let took = self.writer.sync()?;
            let syncs = &self.shared.counters.syncs;
            syncs.lock().saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
            self.publish();
        }
        self.replies.drain(..).for_each(Reply::send);
        if let Some(unsynced) = unsynced {
            self.hand_over(unsynced.bytes);
        }
        Ok(())
    }

    fn decide(&mut self, request: Request) {
        let reply = match request {
            Request::Commit { commit, reply, .. } => match self.decide_commit(commit) {
                Ok((ack, Durability::Relaxed)) => return self.early.push(Reply::Commit(reply, Ok(ack))),
                other => Reply::Commit(reply, other.map(|(ack, _)| ack)),
            },
            Request::Ensure { spec, reply } => Reply::Admin(reply, self.decide_ensure(&spec)),
            Request::Delete { topic, reply } => {
                self.decide_delete(topic);
                Reply::Admin(reply, Ok(()))
            }
            Request::Trim(trim) => return self.decide_trim(trim),
        };
        self.replies.push(reply);
    }

    /// The answer, and what it waits for.
    fn decide_commit(&mut self, commit: Commit) -> Result<(Ack, Durability), CommitError> {
        if let Some(answer) = commit.idempotency.as_ref().and_then(|key| self.remembered(key)) {
            // The first answer may have gone out before it was durable; this one says that it is.
            return answer.map(|ack| (ack, Durability::Durable));
        }
        let (places, draft) = self.resolve(&commit)?;
        let relaxed = |partition: &Arc<Partition>| partition.settings().durability == Durability::Relaxed;
        // A numbering producer goes on from what it was told is there; that must not go back.
        let relaxed =
            draft.is_empty() && !places.is_empty() && places.iter().all(|place| place.partition().is_some_and(relaxed));
        let replayed = !places.is_empty() && places.iter().all(|place| place.partition().is_none());
        let keyed = commit.idempotency.is_some();
        if keyed {
            // The key's entry counts appends back from itself, so all of them are this commit's.
            places.iter().filter_map(Place::partition).for_each(|partition| self.close_run(partition));
        }
        let placed = commit.writes.into_iter().zip(places);
        let appended: Vec<_> = placed.map(|(write, place)| self.place(write, place, keyed)).collect();
        self.numbered.extend(draft);
        if let Some(IdempotencyKey { key, digest }) = commit.idempotency {
            let appends = u32::try_from(appended.len()).expect("a commit's size bounds its writes");
            self.frame.idempotency_key(&KeyEntry { key, digest, tenant: commit.tenant, appends });
            let answer = appended.clone().into();
            self.keys.insert(key, Remembered { tenant: commit.tenant, digest, at: self.now, appended: answer });
        }
        let durability = if relaxed { Durability::Relaxed } else { Durability::Durable };
        Ok((Ack { appended, replayed }, durability))
    }

    fn place(&mut self, write: Write, place: Place, keyed: bool) -> Appended {
        let partition = match place {
            Place::Append(partition) => partition,
            Place::Known(answer) => return answer,
        };
        let first = Offset(partition.next.load(Ordering::Relaxed));
        let batch = write.batch.with_base_offset(first);
        partition.next.store(batch.next_offset().0, Ordering::Relaxed);
        let appended = Appended { to: write.to, first, count: batch.count(), timestamp: batch.max_timestamp() };
        if keyed || write.expect.is_some() {
            self.close_run(&partition);
            append_to(&mut self.frame, &mut self.appends, (partition, batch));
        } else {
            let ripe = self.runs.add(partition, batch).into_iter().flatten();
            ripe.for_each(|append| append_to(&mut self.frame, &mut self.appends, append));
        }
        appended
    }

    fn close_run(&mut self, partition: &Partition) {
        if let Some(append) = self.runs.close(partition) {
            append_to(&mut self.frame, &mut self.appends, append);
        }
    }

    /// The answer to a commit whose key is known.
    fn remembered(&self, key: &IdempotencyKey) -> Option<Result<Ack, CommitError>> {
        let answer = |appended: &[Appended]| Ok(Ack { appended: appended.to_vec(), replayed: true });
        if let Some(seen) = self.keys.get(&key.key) {
            return Some(if seen.digest == key.digest { answer(&seen.appended) } else { Err(CommitError::KeyReused) });
        }
        match self.shared.keys.lock().lookup(key, self.now) {
            Lookup::New => None,
            Lookup::Same(appended) => Some(answer(appended)),
            Lookup::Other => Some(Err(CommitError::KeyReused)),
        }
    }

    /// Where a commit's writes go, if none is refused, and what that says of producers. Changes nothing.
    fn resolve(&self, commit: &Commit) -> Result<(Vec<Place>, Draft), CommitError> {
        let find = |to| self.shared.topics.partition(to).ok_or(CommitError::UnknownPartition(to));
        let partitions = commit.writes.iter().map(|write| find(write.to)).collect::<Result<Vec<_>, _>>()?;
        let numbered = commit.writes.iter().any(|write| write.batch.producer().is_some());
        if numbered && commit.idempotency.is_some() {
            return Err(CommitError::KeyAndProducer);
        }
        let mut draft = Draft::new();
        if !numbered && commit.writes.iter().all(|write| write.expect.is_none()) {
            return Ok((partitions.into_iter().map(Place::Append).collect(), draft));
        }
        let mut next: HashMap<TopicPartition, Offset> = HashMap::new();
        let mut places = Vec::with_capacity(partitions.len());
        for (write, partition) in commit.writes.iter().zip(partitions) {
            let next = next.entry(write.to).or_insert_with(|| Offset(partition.next.load(Ordering::Relaxed)));
            if let Some(answer) = producers::decide(&mut draft, |key| self.producer(key), write, *next, self.now)? {
                places.push(Place::Known(answer));
                continue;
            }
            if write.expect.is_some_and(|expected| expected != *next) {
                return Err(CommitError::OffsetMismatch { at: write.to, next: *next });
            }
            *next = write.batch.clone().with_base_offset(*next).next_offset();
            places.push(Place::Append(partition));
        }
        Ok((places, draft))
    }

    /// What is known of a producer, durable or not.
    fn producer(&self, key: producers::Key) -> Option<producers::Known> {
        let known = self.numbered.get(&key).cloned();
        known.or_else(|| self.shared.producers.lock().get(key, self.now).cloned())
    }

    fn decide_ensure(&mut self, spec: &TopicSpec) -> Result<(), AdminError> {
        let known = self.shared.topics.topic(spec.id).map_or(0, |partitions| partitions.len());
        let from = u32::try_from(known).unwrap_or(u32::MAX);
        let max = self.shared.config.partitions_max();
        if spec.partitions > max {
            return Err(AdminError::TooManyPartitions { max });
        }
        if from > spec.partitions {
            return Err(AdminError::FewerPartitions { from, to: spec.partitions });
        }
        let mut new = Vec::new();
        for partition in from..spec.partitions {
            let at = TopicPartition { topic: spec.id, partition };
            self.frame.create_partition(self.next_partition, at);
            new.push(Arc::new(Partition::new(self.next_partition, at, Bounds::default(), Vec::new())));
            self.next_partition += 1;
        }
        if !new.is_empty() {
            self.changes.push(Change::Created(new));
        }
        Ok(())
    }

    fn decide_delete(&mut self, topic: TopicId) {
        if let Some(partitions) = self.shared.topics.topic(topic) {
            self.frame.delete_topic(topic);
            self.changes.push(Change::Deleted(topic, partitions));
        }
    }

    /// What was decided on may have gone meanwhile.
    fn decide_trim(&mut self, mut trim: Trim) {
        let is_there = |partition: &Partition| !partition.deleted.load(Ordering::SeqCst);
        let next = |partition: &Partition| Offset(partition.next.load(Ordering::Relaxed));
        trim.seals.retain(|partition| is_there(partition));
        trim.starts.retain(|(partition, to)| is_there(partition) && *to > partition.start() && *to <= next(partition));
        trim.seals.iter().for_each(|partition| self.frame.seal_segment(partition.id, next(partition)));
        trim.starts.iter().for_each(|(partition, to)| self.frame.log_start(partition.id, *to));
        if !(trim.seals.is_empty() && trim.starts.is_empty()) {
            self.changes.push(Change::Trimmed(trim));
        }
    }

    /// Lets everybody see what is durable now.
    fn publish(&mut self) {
        let shared = &self.shared;
        let mut records = 0;
        let mut bytes = 0;
        for (partition, batch) in &self.appends {
            partition.push(batch.clone());
            records += u64::from(batch.count());
            bytes += len64(batch.len());
        }
        // Only now, so that two writes of one commit to one partition appear together.
        for (partition, _) in &self.appends {
            partition.publish(Offset(partition.next.load(Ordering::Relaxed)));
        }
        if !self.keys.is_empty() {
            let mut known = shared.keys.lock();
            self.keys.drain().for_each(|(key, seen)| known.insert(key, seen));
        }
        if !self.numbered.is_empty() {
            let mut known = shared.producers.lock();
            self.numbered.drain().for_each(|(key, numbered)| known.insert(key, numbered));
        }
        for change in &self.changes {
            change.publish(shared);
        }
        if !self.appends.is_empty() {
            shared.counters.records.fetch_add(records, Ordering::Relaxed);
            shared.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
            shared.counters.groups.fetch_add(1, Ordering::Relaxed);
            shared.notifier.notify(self.appends.iter().map(|(partition, _)| partition));
        }
    }

    /// Gives the group to the applier.
    fn hand_over(&mut self, frame_bytes: usize) {
        self.shared.backlog.push(Group {
            position: self.writer.position(),
            next_partition: self.next_partition,
            accepted: self.now,
            appends: std::mem::take(&mut self.appends),
            changes: std::mem::take(&mut self.changes),
            frame_bytes,
        });
    }
}

fn append_to(frame: &mut FrameBuilder, appends: &mut Vec<Append>, append: Append) {
    frame.append(append.0.id, &append.1);
    appends.push(append);
}

/// What a request can add to a frame at most, in bytes. More than `partitions_max` are refused, not written.
fn frame_bound(request: &Request, partitions_max: u32) -> usize {
    match request {
        Request::Commit { commit, bytes, .. } => commit_bound(commit.writes.len(), *bytes),
        Request::Ensure { spec, .. } => len_usize(u64::from(spec.partitions.min(partitions_max))) * CREATE_BYTES,
        Request::Delete { .. } => 2 * ENTRY_BYTES,
        Request::Trim(trim) => (trim.seals.len() + trim.starts.len()) * ENTRY_BYTES,
    }
}

fn refuse_full(request: Request) {
    match request {
        Request::Commit { reply, .. } => Reply::Commit(reply, Err(CommitError::ReadOnly)).send(),
        Request::Ensure { reply, .. } | Request::Delete { reply, .. } => {
            Reply::Admin(reply, Err(AdminError::ReadOnly)).send();
        }
        Request::Trim(trim) => drop(trim),
    }
}
