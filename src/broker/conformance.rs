//! The text of `engine.rs` as tests: every engine passes the same suite.
//!
//! An engine's test module has one line: `conformance!(fixture);` where `fixture` is an async function that answers a
//! [`Fixture`].

pub(crate) mod compaction;

use std::any::Any;
use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::engine::{
    Ack, AdminError, Bounds, Commit, CommitError, Durability, Engine, FetchError, IdempotencyKey, Tenant,
    TopicSettings, TopicSpec, Watch, Write,
};
use super::record::{Record, RecordBatch, ValueKind};
use crate::clock::{ManualClock, Timestamp};
use crate::names::{Offset, TopicId, TopicPartition};

pub(crate) use self::compaction::{
    a_fetch_from_a_compacted_offset_begins_with_the_next_record, a_tombstone_stays_readable_for_the_delete_retention,
    the_last_record_of_every_key_stays_where_it_was,
};

/// An engine to test, and the clock it runs by.
pub(crate) struct Fixture {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) clock: ManualClock,
    keep: Vec<Box<dyn Any + Send + Sync>>,
}

impl Fixture {
    pub(crate) fn new(engine: impl Engine, clock: ManualClock) -> Self {
        Self { engine: Arc::new(engine), clock, keep: Vec::new() }
    }

    /// Keeps something, say a temporary directory, for as long as the engine.
    pub(crate) fn keeping(mut self, thing: impl Any + Send + Sync) -> Self {
        self.keep.push(Box::new(thing));
        self
    }

    /// A new topic.
    pub(crate) async fn topic(&self, partitions: u32) -> TopicId {
        let id = TopicId::new();
        self.engine.ensure_topic(&TopicSpec::new(id, partitions)).await.unwrap();
        id
    }

    /// The only partition of a new topic.
    pub(crate) async fn partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic(1).await, partition: 0 }
    }

    pub(crate) async fn append(&self, to: TopicPartition, values: &[&str]) -> Ack {
        self.engine.commit(commit([write(to, values)])).await.unwrap()
    }

    pub(crate) async fn values(&self, at: TopicPartition) -> Vec<String> {
        values(&*self.engine, at).await
    }
}

/// Every value of a partition, in order, read in small steps, each checked against its offset.
pub(crate) async fn values(engine: &dyn Engine, at: TopicPartition) -> Vec<String> {
    let mut next = engine.bounds(at).unwrap().start;
    let mut found = Vec::new();
    loop {
        let fetched = engine.fetch(at, next, 100).await.unwrap();
        if fetched.batches.is_empty() {
            assert_eq!(next, fetched.bounds.end);
            return found;
        }
        for record in fetched.batches.iter().flat_map(RecordBatch::records).filter(|r| r.offset >= next) {
            assert_eq!(record.offset.0, i64::try_from(found.len()).unwrap(), "offsets are dense from 0");
            found.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
        }
        next = fetched.batches.last().unwrap().next_offset();
    }
}

/// One batch of these values.
pub(crate) fn batch(values: &[&str]) -> RecordBatch {
    batch_at(values, Timestamp(0))
}

fn batch_at(values: &[&str], timestamp: Timestamp) -> RecordBatch {
    let records: Vec<_> = values
        .iter()
        .map(|v| Record { value: Some(Bytes::copy_from_slice(v.as_bytes())), ..Record::default() })
        .collect();
    RecordBatch::build(&records, ValueKind::Bytes, timestamp).unwrap()
}

pub(crate) fn write(to: TopicPartition, values: &[&str]) -> Write {
    Write { to, batch: batch(values), expect: None }
}

pub(crate) fn commit(writes: impl IntoIterator<Item = Write>) -> Commit {
    Commit { tenant: Tenant(Uuid::nil()), writes: writes.into_iter().collect(), idempotency: None }
}

pub(crate) fn keyed(key: u8, digest: u8, writes: impl IntoIterator<Item = Write>) -> Commit {
    Commit { idempotency: Some(IdempotencyKey { key: [key; 16], digest: [digest; 16] }), ..commit(writes) }
}

fn unknown() -> TopicPartition {
    TopicPartition { topic: TopicId::new(), partition: 0 }
}

/// Fails the test instead of hanging it.
async fn soon(watch: &mut Box<dyn Watch>) {
    tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.expect("the watch did not wake");
}

pub(crate) async fn appends_are_read_back_with_their_offsets(f: Fixture) {
    let at = f.partition().await;
    let first = f.append(at, &["a", "b"]).await;
    let second = f.append(at, &["c"]).await;
    assert_eq!((first.appended[0].first, first.appended[0].count), (Offset(0), 2));
    assert_eq!((second.appended[0].first, second.appended[0].count, second.replayed), (Offset(2), 1, false));
    assert_eq!(f.values(at).await, ["a", "b", "c"]);
    assert_eq!(f.engine.bounds(at), Ok(Bounds { start: Offset(0), end: Offset(3) }));
}

pub(crate) async fn the_acknowledgement_carries_the_time_of_its_records(f: Fixture) {
    let at = f.partition().await;
    let write = Write { to: at, batch: batch_at(&["a"], Timestamp(77)), expect: None };
    let commit = keyed(1, 1, [write]);
    assert_eq!(f.engine.commit(commit.clone()).await.unwrap().appended[0].timestamp, Timestamp(77));
    f.clock.advance(Duration::from_mins(1));
    assert_eq!(f.engine.commit(commit).await.unwrap().appended[0].timestamp, Timestamp(77));
}

pub(crate) async fn several_writes_to_one_partition_keep_their_order(f: Fixture) {
    let at = f.partition().await;
    let ack = f.engine.commit(commit([write(at, &["a", "b"]), write(at, &["c"])])).await.unwrap();
    assert_eq!(ack.appended.iter().map(|a| a.first).collect::<Vec<_>>(), [Offset(0), Offset(2)]);
    assert_eq!(f.values(at).await, ["a", "b", "c"]);
}

pub(crate) async fn a_commit_appends_all_or_nothing(f: Fixture) {
    let at = f.partition().await;
    let nowhere = unknown();
    let refused = f.engine.commit(commit([write(at, &["a"]), write(nowhere, &["b"])])).await;
    assert_eq!(refused, Err(CommitError::UnknownPartition(nowhere)));
    assert_eq!(f.engine.bounds(at).unwrap().end, Offset(0));
}

pub(crate) async fn a_commit_without_writes_is_acknowledged(f: Fixture) {
    assert_eq!(f.engine.commit(commit([])).await.unwrap().appended, []);
}

pub(crate) async fn a_conditional_append_happens_only_at_the_expected_offset(f: Fixture) {
    let at = f.partition().await;
    let expecting = |offset| Write { expect: Some(Offset(offset)), ..write(at, &["x"]) };
    let wrong = f.engine.commit(commit([expecting(1)])).await;
    assert_eq!(wrong, Err(CommitError::OffsetMismatch { at, next: Offset(0) }));
    f.engine.commit(commit([expecting(0)])).await.unwrap();
    let late = f.engine.commit(commit([expecting(0)])).await;
    assert_eq!(late, Err(CommitError::OffsetMismatch { at, next: Offset(1) }));
    // Within one commit, each expectation sees the writes before it.
    f.engine.commit(commit([expecting(1), expecting(2)])).await.unwrap();
    let torn = f.engine.commit(commit([expecting(3), expecting(9)])).await;
    assert_eq!(torn, Err(CommitError::OffsetMismatch { at, next: Offset(4) }));
    assert_eq!(f.values(at).await, ["x", "x", "x"]);
}

pub(crate) async fn a_repeated_key_gets_the_first_answer(f: Fixture) {
    let at = f.partition().await;
    let first = f.engine.commit(keyed(1, 1, [write(at, &["a"])])).await.unwrap();
    f.append(at, &["b"]).await;
    f.clock.advance(Duration::from_hours(23));
    let again = f.engine.commit(keyed(1, 1, [write(at, &["a"])])).await.unwrap();
    assert_eq!(again, Ack { replayed: true, ..first });
    assert_eq!(f.values(at).await, ["a", "b"]);
}

pub(crate) async fn a_key_with_another_body_is_refused(f: Fixture) {
    let at = f.partition().await;
    f.engine.commit(keyed(1, 1, [write(at, &["a"])])).await.unwrap();
    let other = f.engine.commit(keyed(1, 2, [write(at, &["b"])])).await;
    assert_eq!(other, Err(CommitError::KeyReused));
    assert_eq!(f.values(at).await, ["a"]);
}

pub(crate) async fn a_key_is_free_again_after_a_day(f: Fixture) {
    let at = f.partition().await;
    f.engine.commit(keyed(1, 1, [write(at, &["a"])])).await.unwrap();
    f.clock.advance(Duration::from_hours(24));
    let later = f.engine.commit(keyed(1, 2, [write(at, &["b"])])).await.unwrap();
    assert!(!later.replayed);
    assert_eq!(f.values(at).await, ["a", "b"]);
}

pub(crate) async fn a_refused_commit_does_not_use_up_its_key(f: Fixture) {
    let at = f.partition().await;
    let misplaced = Write { expect: Some(Offset(5)), ..write(at, &["a"]) };
    f.engine.commit(keyed(1, 1, [misplaced])).await.unwrap_err();
    assert!(!f.engine.commit(keyed(1, 1, [write(at, &["a"])])).await.unwrap().replayed);
}

pub(crate) async fn racing_commits_with_one_key_append_once(f: Fixture) {
    let at = f.partition().await;
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let engine = Arc::clone(&f.engine);
            tokio::spawn(async move { engine.commit(keyed(7, 7, [write(at, &["once"])])).await.unwrap() })
        })
        .collect();
    let mut first_answers = 0;
    for task in tasks {
        let ack = task.await.unwrap();
        assert_eq!(ack.appended[0].first, Offset(0));
        first_answers += u32::from(!ack.replayed);
    }
    assert_eq!(first_answers, 1);
    assert_eq!(f.values(at).await, ["once"]);
}

pub(crate) async fn racing_commits_get_offsets_of_their_own(f: Fixture) {
    let at = f.partition().await;
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let engine = Arc::clone(&f.engine);
            tokio::spawn(async move {
                let ack = engine.commit(commit([write(at, &[&format!("{n}")])])).await.unwrap();
                (ack.appended[0].first, format!("{n}"))
            })
        })
        .collect();
    let mut placed = Vec::new();
    for task in tasks {
        placed.push(task.await.unwrap());
    }
    placed.sort();
    assert_eq!(f.values(at).await, placed.into_iter().map(|(_, value)| value).collect::<Vec<_>>());
}

pub(crate) async fn dropping_the_future_does_not_cancel_the_write(f: Fixture) {
    let at = f.partition().await;
    {
        let mut started = pin!(f.engine.commit(commit([write(at, &["a"])])));
        let _: Poll<_> = started.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
    f.append(at, &["b"]).await;
    assert_eq!(f.values(at).await, ["a", "b"]);
}

pub(crate) async fn a_commit_beyond_the_limit_is_refused(f: Fixture) {
    let at = f.partition().await;
    let half = "x".repeat(f.engine.capabilities().commit_bytes_max / 2);
    let refused = f.engine.commit(commit([write(at, &[&half]), write(at, &[&half])])).await;
    assert!(matches!(refused, Err(CommitError::TooLarge { .. })), "{refused:?}");
    f.append(at, &[&half]).await;
    assert_eq!(f.engine.bounds(at).unwrap().end, Offset(1));
}

pub(crate) async fn a_relaxed_topic_keeps_what_it_acknowledged_and_shows_it_soon(f: Fixture) {
    let settings = TopicSettings { durability: Durability::Relaxed, ..TopicSettings::default() };
    let spec = TopicSpec { settings, ..TopicSpec::new(TopicId::new(), 1) };
    f.engine.ensure_topic(&spec).await.unwrap();
    let at = TopicPartition { topic: spec.id, partition: 0 };
    let mut watch = f.engine.watch(&[at]);
    for (value, offset) in [("a", 0), ("b", 1), ("c", 2)] {
        assert_eq!(f.append(at, &[value]).await.appended[0].first, Offset(offset));
    }
    while f.engine.bounds(at).unwrap().end < Offset(3) {
        soon(&mut watch).await;
    }
    assert_eq!(f.values(at).await, ["a", "b", "c"]);
}

/// A batch that a producer has numbered.
pub(crate) fn numbered(to: TopicPartition, (id, epoch, sequence): (i64, i16, i32), values: &[&str]) -> Write {
    Write { batch: batch(values).with_producer(id, epoch, sequence), ..write(to, values) }
}

pub(crate) async fn a_numbered_batch_is_appended_once_and_in_order(f: Fixture) {
    let at = f.partition().await;
    let send = async |numbers, values: &[&str]| f.engine.commit(commit([numbered(at, numbers, values)])).await;
    let first = send((7, 0, 40), &["a", "b"]).await.unwrap();
    f.append(at, &["other"]).await;
    assert_eq!(send((7, 0, 40), &["a", "b"]).await.unwrap(), Ack { replayed: true, ..first });
    let refused = Err(CommitError::OutOfSequence { at, expected: 42 });
    for (sequence, values) in [(43, &["x"][..]), (40, &["a"]), (41, &["b"]), (39, &["x"])] {
        assert_eq!(send((7, 0, sequence), values).await, refused, "{sequence}");
    }
    assert_eq!(send((7, 0, 42), &["c"]).await.unwrap().appended[0].first, Offset(3));
    assert_eq!(send((8, 0, 0), &["of another"]).await.unwrap().appended[0].first, Offset(4));
    assert_eq!(f.values(at).await, ["a", "b", "other", "c", "of another"]);
}

pub(crate) async fn the_last_five_batches_of_a_producer_are_known(f: Fixture) {
    let at = f.partition().await;
    let send = async |sequence| f.engine.commit(commit([numbered(at, (7, 0, sequence), &["x"])])).await;
    for sequence in 0..6 {
        send(sequence).await.unwrap();
    }
    for sequence in 1..6 {
        let again = send(sequence).await.unwrap();
        assert_eq!((again.replayed, again.appended[0].first), (true, Offset(sequence.into())));
    }
    assert_eq!(send(0).await, Err(CommitError::OutOfSequence { at, expected: 6 }));
}

pub(crate) async fn a_later_epoch_fences_off_an_earlier_one(f: Fixture) {
    let at = f.partition().await;
    let send = async |epoch, sequence| f.engine.commit(commit([numbered(at, (7, epoch, sequence), &["x"])])).await;
    send(3, 9).await.unwrap();
    assert_eq!(send(4, 10).await, Err(CommitError::OutOfSequence { at, expected: 0 }));
    send(4, 0).await.unwrap();
    assert_eq!(send(3, 10).await, Err(CommitError::ProducerFenced { at, epoch: 4 }));
    assert!(send(4, 0).await.unwrap().replayed);
    assert_eq!(f.engine.bounds(at).unwrap().end, Offset(2));
}

pub(crate) async fn a_producer_that_was_quiet_for_a_day_may_go_on_with_any_number(f: Fixture) {
    let at = f.partition().await;
    let send = async |sequence| f.engine.commit(commit([numbered(at, (7, 0, sequence), &["x"])])).await;
    send(0).await.unwrap();
    f.clock.advance(Duration::from_hours(23));
    assert_eq!(send(5).await, Err(CommitError::OutOfSequence { at, expected: 1 }));
    f.clock.advance(Duration::from_hours(1));
    assert!(!send(5).await.unwrap().replayed);
}

pub(crate) async fn numbered_batches_of_a_commit_are_decided_together(f: Fixture) {
    let (one, two) = (f.partition().await, f.partition().await);
    let numbers = |sequence| (7, 0, sequence);
    let write = |to, sequence| numbered(to, numbers(sequence), &["x"]);
    let torn = f.engine.commit(commit([write(one, 0), write(two, 0), write(one, 2)])).await;
    assert_eq!(torn, Err(CommitError::OutOfSequence { at: one, expected: 1 }));
    let whole = f.engine.commit(commit([write(one, 0), write(two, 0), write(one, 1)])).await.unwrap();
    // One is there, one is new; an expectation is about what is new.
    let known = Write { expect: Some(Offset(99)), ..write(one, 1) };
    let mixed = f.engine.commit(commit([known, write(two, 1)])).await.unwrap();
    assert_eq!((mixed.replayed, mixed.appended[0]), (false, whole.appended[2]));
    assert_eq!([one, two].map(|at| f.engine.bounds(at).unwrap().end), [Offset(2), Offset(2)]);
    let both = f.engine.commit(keyed(1, 1, [write(one, 2)])).await;
    assert_eq!(both, Err(CommitError::KeyAndProducer));
}

pub(crate) async fn a_fetch_begins_with_the_batch_that_holds_the_offset(f: Fixture) {
    let at = f.partition().await;
    f.append(at, &["a", "b"]).await;
    f.append(at, &["c", "d"]).await;
    let fetched = f.engine.fetch(at, Offset(3), usize::MAX).await.unwrap();
    assert_eq!(fetched.batches.iter().map(|b| b.base_offset().0).collect::<Vec<_>>(), [2]);
    assert_eq!(fetched.bounds, Bounds { start: Offset(0), end: Offset(4) });
}

pub(crate) async fn a_fetch_respects_its_size_but_gives_at_least_one_batch(f: Fixture) {
    let at = f.partition().await;
    for value in ["a", "b", "c"] {
        f.append(at, &[value]).await;
    }
    let size = batch(&["a"]).len();
    for (bytes_max, batches) in [(0, 1), (size, 1), (2 * size, 2), (usize::MAX, 3)] {
        let fetched = f.engine.fetch(at, Offset(0), bytes_max).await.unwrap();
        assert_eq!(fetched.batches.len(), batches, "{bytes_max} bytes");
    }
}

pub(crate) async fn a_fetch_at_the_end_is_empty_and_beyond_it_out_of_range(f: Fixture) {
    let at = f.partition().await;
    f.append(at, &["a"]).await;
    let bounds = Bounds { start: Offset(0), end: Offset(1) };
    assert!(f.engine.fetch(at, Offset(1), 1).await.unwrap().batches.is_empty());
    for outside in [-1, 2, i64::MAX] {
        assert_eq!(f.engine.fetch(at, Offset(outside), 1).await.unwrap_err(), FetchError::OutOfRange(bounds));
    }
}

pub(crate) async fn unknown_partitions_are_named(f: Fixture) {
    let known = f.partition().await;
    for at in [unknown(), TopicPartition { partition: 1, ..known }, TopicPartition { partition: u32::MAX, ..known }] {
        assert_eq!(f.engine.bounds(at), Err(FetchError::UnknownPartition(at)));
        assert_eq!(f.engine.fetch(at, Offset(0), 1).await.unwrap_err(), FetchError::UnknownPartition(at));
        assert_eq!(
            f.engine.offset_for_timestamp(at, Timestamp(0)).await.unwrap_err(),
            FetchError::UnknownPartition(at)
        );
        let refused = f.engine.commit(commit([write(at, &["a"])])).await;
        assert_eq!(refused, Err(CommitError::UnknownPartition(at)));
    }
}

pub(crate) async fn an_offset_is_found_by_time(f: Fixture) {
    let at = f.partition().await;
    let times = [10, 20, 20, 15, 30];
    for time in times {
        let write = Write { to: at, batch: batch_at(&["x", "y"], Timestamp(time)), expect: None };
        f.engine.commit(commit([write])).await.unwrap();
    }
    for (time, offset) in [(i64::MIN, 0), (10, 0), (11, 2), (20, 2), (21, 8), (30, 8), (31, 10), (i64::MAX, 10)] {
        let found = f.engine.offset_for_timestamp(at, Timestamp(time)).await.unwrap();
        assert_eq!(found, Offset(offset), "at or after {time}");
    }
}

pub(crate) async fn a_topic_may_be_ensured_again_and_grow_but_not_shrink(f: Fixture) {
    let id = f.topic(2).await;
    let at = |partition| TopicPartition { topic: id, partition };
    f.append(at(1), &["kept"]).await;
    let ensure = async |partitions| f.engine.ensure_topic(&TopicSpec::new(id, partitions)).await;
    assert_eq!(ensure(2).await, Ok(()));
    assert_eq!(ensure(3).await, Ok(()));
    assert_eq!(ensure(1).await, Err(AdminError::FewerPartitions { from: 3, to: 1 }));
    f.append(at(2), &["new"]).await;
    assert_eq!(f.values(at(1)).await, ["kept"]);
}

pub(crate) async fn a_deleted_topic_is_unknown_and_its_space_is_not_counted(f: Fixture) {
    let (gone, kept) = (f.partition().await, f.partition().await);
    f.append(gone, &["a"]).await;
    f.append(kept, &["b"]).await;
    assert!(f.engine.stored_bytes(gone.topic) > 0);
    for _ in 0..2 {
        assert_eq!(f.engine.delete_topic(gone.topic).await, Ok(()));
    }
    assert_eq!(f.engine.bounds(gone), Err(FetchError::UnknownPartition(gone)));
    assert_eq!(f.engine.commit(commit([write(gone, &["a"])])).await, Err(CommitError::UnknownPartition(gone)));
    assert_eq!(f.engine.stored_bytes(gone.topic), 0);
    assert_eq!(f.values(kept).await, ["b"]);
}

/// Has the engine do its maintenance until the partition begins at `start`: it may take its time.
pub(crate) async fn maintain_until(engine: &dyn Engine, at: TopicPartition, start: Offset) {
    let begins = async {
        while engine.bounds(at).unwrap().start < start {
            engine.maintain().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), begins).await.expect("what is too old is removed");
    assert_eq!(engine.bounds(at).unwrap().start, start);
}

impl Fixture {
    /// The only partition of a new topic that is kept like this.
    async fn partition_kept(&self, settings: TopicSettings) -> TopicPartition {
        let at = unknown();
        self.engine.ensure_topic(&TopicSpec { settings, ..TopicSpec::new(at.topic, 1) }).await.unwrap();
        at
    }
}

pub(crate) async fn records_older_than_the_retention_go_and_offsets_go_on(f: Fixture) {
    let minute = TopicSettings { retention: Some(Duration::from_mins(1)), ..TopicSettings::default() };
    let (at, forever) = (f.partition_kept(minute).await, f.partition().await);
    // Their own timestamps say that they are from 1970.
    f.append(at, &["a", "b"]).await;
    f.append(forever, &["kept"]).await;
    f.clock.advance(Duration::from_mins(1));
    f.engine.maintain().await.unwrap();
    assert_eq!(f.engine.bounds(at), Ok(Bounds { start: Offset(0), end: Offset(2) }), "not a moment too early");
    f.clock.advance(Duration::from_millis(1));
    maintain_until(&*f.engine, at, Offset(2)).await;
    assert_eq!(f.append(at, &["c"]).await.appended[0].first, Offset(2));
    let bounds = Bounds { start: Offset(2), end: Offset(3) };
    for gone in [0, 1] {
        assert_eq!(f.engine.fetch(at, Offset(gone), 1).await.unwrap_err(), FetchError::OutOfRange(bounds));
    }
    assert_eq!(f.engine.fetch(at, Offset(2), 1).await.unwrap().bounds, bounds);
    assert_eq!(f.engine.offset_for_timestamp(at, Timestamp(i64::MIN)).await, Ok(Offset(2)));
    f.engine.maintain().await.unwrap();
    assert_eq!(f.engine.bounds(at), Ok(bounds), "what came since is young");
    assert_eq!(f.values(forever).await, ["kept"]);
}

pub(crate) async fn the_oldest_records_go_when_there_are_too_many_bytes(f: Fixture) {
    let kept = 2 << 20;
    let at = f.partition_kept(TopicSettings { retention_bytes: Some(kept), ..TopicSettings::default() }).await;
    let value = "x".repeat(200 << 10);
    for _ in 0..30 {
        f.append(at, &[&value]).await;
    }
    let most = kept + (1 << 20) + (201 << 10);
    let removed = async {
        while f.engine.stored_bytes(at.topic) > most {
            f.engine.maintain().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), removed).await.expect("what is too much is removed");
    assert!(f.engine.stored_bytes(at.topic) >= kept, "but not more than that");
    let Bounds { start, end } = f.engine.bounds(at).unwrap();
    assert!(start > Offset(0) && end == Offset(30), "{start}..{end}");
    let mut next = start;
    while next < end {
        let fetched = f.engine.fetch(at, next, 1).await.unwrap();
        assert_eq!(fetched.batches[0].base_offset(), next, "nothing is skipped");
        next = fetched.batches[0].next_offset();
    }
}

pub(crate) async fn a_topic_keeps_its_records_as_it_was_told_last(f: Fixture) {
    let minute = TopicSettings { retention: Some(Duration::from_mins(1)), ..TopicSettings::default() };
    let at = f.partition_kept(minute).await;
    f.append(at, &["a"]).await;
    f.engine.ensure_topic(&TopicSpec::new(at.topic, 1)).await.unwrap();
    f.clock.advance(Duration::from_hours(1));
    f.engine.maintain().await.unwrap();
    assert_eq!(f.values(at).await, ["a"]);
    f.engine.ensure_topic(&TopicSpec { settings: minute, ..TopicSpec::new(at.topic, 1) }).await.unwrap();
    maintain_until(&*f.engine, at, Offset(1)).await;
}

pub(crate) async fn a_watch_wakes_for_each_of_its_partitions(f: Fixture) {
    let id = f.topic(3).await;
    let all: Vec<_> = (0..3).map(|partition| TopicPartition { topic: id, partition }).collect();
    let mut watch = f.engine.watch(&all);
    for &at in &all {
        f.append(at, &["a"]).await;
        soon(&mut watch).await;
    }
}

pub(crate) async fn a_watch_misses_nothing_between_its_making_and_its_waiting(f: Fixture) {
    let at = f.partition().await;
    let mut watch = f.engine.watch(&[at]);
    f.append(at, &["a"]).await;
    soon(&mut watch).await;
    let late = tokio::spawn(async move { soon(&mut watch).await });
    tokio::task::yield_now().await;
    f.append(at, &["b"]).await;
    late.await.unwrap();
}

pub(crate) async fn a_watch_is_quiet_while_nothing_happens(f: Fixture) {
    let at = f.partition().await;
    f.append(at, &["before"]).await;
    let mut watch = f.engine.watch(&[at, unknown()]);
    // Spurious wake-ups are allowed; a stream of them would be a busy loop.
    for _ in 0..3 {
        if tokio::time::timeout(Duration::from_millis(20), watch.changed()).await.is_err() {
            return;
        }
    }
    panic!("the watch keeps waking");
}

pub(crate) async fn waiting_can_be_cancelled_without_losing_a_change(f: Fixture) {
    let at = f.partition().await;
    let mut watch = f.engine.watch(&[at]);
    for _ in 0..3 {
        let mut waiting = pin!(watch.changed());
        let _: Poll<_> = waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
    f.append(at, &["a"]).await;
    soon(&mut watch).await;
}

pub(crate) async fn a_thousand_watches_wake_together(f: Fixture) {
    let at = f.partition().await;
    let waiting: Vec<_> = (0..1000)
        .map(|_| {
            let mut watch = f.engine.watch(&[at]);
            tokio::spawn(async move { soon(&mut watch).await })
        })
        .collect();
    f.append(at, &["a"]).await;
    for task in waiting {
        task.await.unwrap();
    }
}

pub(crate) async fn a_watch_wakes_when_its_topic_is_deleted(f: Fixture) {
    let at = f.partition().await;
    let mut watch = f.engine.watch(&[at]);
    f.engine.delete_topic(at.topic).await.unwrap();
    soon(&mut watch).await;
}

pub(crate) async fn figures_count_what_was_acknowledged(f: Fixture) {
    let at = f.partition().await;
    f.append(at, &["a", "b"]).await;
    let stats = f.engine.stats();
    assert_eq!((stats.partitions, stats.records_committed), (1, 2));
    assert_eq!(stats.bytes_committed, u64::try_from(batch(&["a", "b"]).len()).unwrap());
    assert_eq!((stats.groups, f.engine.stored_bytes(at.topic)), (1, stats.bytes_committed));
    assert_eq!(stats.stored_bytes, stats.bytes_committed);
}

pub(crate) async fn a_closed_engine_answers_stopped_to_everything(f: Fixture) {
    let at = f.partition().await;
    let mut watch = f.engine.watch(&[at]);
    assert_eq!(f.engine.fault(), None);
    f.engine.close().await;
    f.engine.close().await;
    for _ in 0..2 {
        soon(&mut watch).await;
    }
    assert_eq!(f.engine.commit(commit([write(at, &["a"])])).await, Err(CommitError::Stopped));
    assert_eq!(f.engine.bounds(at), Err(FetchError::Stopped));
    assert_eq!(f.engine.fetch(at, Offset(0), 1).await.unwrap_err(), FetchError::Stopped);
    let spec = TopicSpec::new(TopicId::new(), 1);
    assert_eq!(f.engine.ensure_topic(&spec).await, Err(AdminError::Stopped));
    assert_eq!(f.engine.delete_topic(at.topic).await, Err(AdminError::Stopped));
    assert_eq!(f.engine.maintain().await, Err(AdminError::Stopped));
    assert!(f.engine.fault().is_some());
}

/// One `#[tokio::test]` for each behaviour, for the engine that `$fixture` makes.
macro_rules! conformance {
    ($fixture:path) => {
        $crate::broker::conformance::conformance!($fixture:
            appends_are_read_back_with_their_offsets,
            the_acknowledgement_carries_the_time_of_its_records,
            several_writes_to_one_partition_keep_their_order,
            a_commit_appends_all_or_nothing,
            a_commit_without_writes_is_acknowledged,
            a_conditional_append_happens_only_at_the_expected_offset,
            a_repeated_key_gets_the_first_answer,
            a_key_with_another_body_is_refused,
            a_key_is_free_again_after_a_day,
            a_refused_commit_does_not_use_up_its_key,
            racing_commits_with_one_key_append_once,
            racing_commits_get_offsets_of_their_own,
            dropping_the_future_does_not_cancel_the_write,
            a_commit_beyond_the_limit_is_refused,
            a_relaxed_topic_keeps_what_it_acknowledged_and_shows_it_soon,
            a_numbered_batch_is_appended_once_and_in_order,
            the_last_five_batches_of_a_producer_are_known,
            a_later_epoch_fences_off_an_earlier_one,
            a_producer_that_was_quiet_for_a_day_may_go_on_with_any_number,
            numbered_batches_of_a_commit_are_decided_together,
            a_fetch_begins_with_the_batch_that_holds_the_offset,
            a_fetch_respects_its_size_but_gives_at_least_one_batch,
            a_fetch_at_the_end_is_empty_and_beyond_it_out_of_range,
            unknown_partitions_are_named,
            an_offset_is_found_by_time,
            a_topic_may_be_ensured_again_and_grow_but_not_shrink,
            a_deleted_topic_is_unknown_and_its_space_is_not_counted,
            records_older_than_the_retention_go_and_offsets_go_on,
            the_oldest_records_go_when_there_are_too_many_bytes,
            a_topic_keeps_its_records_as_it_was_told_last,
            the_last_record_of_every_key_stays_where_it_was,
            a_fetch_from_a_compacted_offset_begins_with_the_next_record,
            a_tombstone_stays_readable_for_the_delete_retention,
            a_watch_wakes_for_each_of_its_partitions,
            a_watch_misses_nothing_between_its_making_and_its_waiting,
            a_watch_is_quiet_while_nothing_happens,
            waiting_can_be_cancelled_without_losing_a_change,
            a_thousand_watches_wake_together,
            a_watch_wakes_when_its_topic_is_deleted,
            figures_count_what_was_acknowledged,
            a_closed_engine_answers_stopped_to_everything,
        );
    };
    ($fixture:path: $($test:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::broker::conformance::$test($fixture().await).await;
            }
        )*
    };
}
pub(crate) use conformance;
