//! Relaxed topics: acknowledged when written, readable when durable, and what a power cut may take.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::conformance::{commit, keyed, write};
use super::crash_tests::{at, clock, read_all, tiny, topic};
use super::disk::sim::{Loss, SimDisk};
use super::embedded::{EmbeddedEngine, EngineConfig};
use super::engine::{CommitError, Durability, Engine, TopicSettings, TopicSpec, Write};
use super::group_tests::{Setup, Waiting, open_with, poll_once};
use crate::names::{Offset, TopicPartition};

/// On topic 1 commits are relaxed, on topic 2 durable.
const RELAXED: u128 = 1;
const DURABLE: u128 = 2;

/// Nothing becomes durable unless something asks for it.
fn patient() -> EngineConfig {
    EngineConfig { relaxed_lag: Duration::from_hours(1), ..tiny() }
}

async fn make_topics(engine: &EmbeddedEngine) -> Result<(), ()> {
    for (n, durability) in [(RELAXED, Durability::Relaxed), (DURABLE, Durability::Durable)] {
        let settings = TopicSettings { durability, ..TopicSettings::default() };
        let spec = TopicSpec { settings, ..TopicSpec::new(topic(n), 2) };
        engine.ensure_topic(&spec).await.map_err(drop)?;
    }
    Ok(())
}

async fn setup(config: EngineConfig) -> Setup {
    let s = open_with(&SimDisk::new(), config).unwrap();
    make_topics(&s.engine).await.unwrap();
    s
}

impl Setup {
    async fn put(&self, n: u128, value: &str) {
        self.engine.commit(commit([write(at(n, 0), &[value])])).await.unwrap();
    }

    fn end(&self, n: u128) -> i64 {
        self.engine.bounds(at(n, 0)).unwrap().end.0
    }

    async fn until_readable(&self, end: i64) {
        let mut watch = self.engine.watch(&[at(RELAXED, 0)]);
        let waiting = async {
            while self.end(RELAXED) < end {
                watch.changed().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it becomes readable");
    }
}

#[tokio::test]
async fn a_relaxed_commit_is_acknowledged_before_its_sync_and_readable_after_it() {
    let s = setup(patient()).await;
    s.disk.hold_commits();
    s.put(RELAXED, "a").await;
    s.put(RELAXED, "b").await;
    assert_eq!(s.end(RELAXED), 0, "what is not durable is not read");
    s.disk.release_commits();
    s.put(DURABLE, "c").await;
    assert_eq!(read_all(&s.engine, at(RELAXED, 0)).await.unwrap(), ["a", "b"], "one sync for everything");
}

#[tokio::test]
async fn a_durable_commit_of_the_same_group_waits_for_the_sync() {
    let s = setup(patient()).await;
    s.disk.hold_commits();
    let mut opener: Waiting<'_> = s.engine.commit(commit([write(at(DURABLE, 1), &["opener"])]));
    assert!(poll_once(&mut opener).is_pending());
    s.disk.until_held(|| false);
    // The next group is written when this sync is over, and then held in its own.
    let mut relaxed: Waiting<'_> = s.engine.commit(commit([write(at(RELAXED, 0), &["a"])]));
    let mut durable: Waiting<'_> = s.engine.commit(commit([write(at(DURABLE, 0), &["b"])]));
    let mixed_writes = [write(at(RELAXED, 0), &["c"]), write(at(DURABLE, 0), &["d"])];
    let mut mixed: Waiting<'_> = s.engine.commit(commit(mixed_writes));
    for waiting in [&mut relaxed, &mut durable, &mut mixed] {
        assert!(poll_once(waiting).is_pending());
    }
    s.disk.pass_one_commit();
    opener.await.unwrap();
    relaxed.await.unwrap();
    s.disk.until_held(|| false);
    assert_eq!(poll_once(&mut durable), Poll::Pending);
    assert_eq!(poll_once(&mut mixed), Poll::Pending, "one durable topic makes the whole commit durable");
    assert_eq!((s.end(RELAXED), s.end(DURABLE)), (0, 0));
    s.disk.release_commits();
    durable.await.unwrap();
    mixed.await.unwrap();
    assert_eq!((s.end(RELAXED), s.end(DURABLE)), (2, 2));
}

#[tokio::test]
async fn the_lag_is_bounded_by_time() {
    let s = setup(tiny()).await;
    s.put(RELAXED, "a").await;
    s.until_readable(1).await;
}

#[tokio::test]
async fn the_lag_is_bounded_by_bytes() {
    let s = setup(EngineConfig { relaxed_bytes_max: 12 << 10, ..patient() }).await;
    for (value, end) in [("a", 0), ("b", 0)] {
        s.put(RELAXED, value).await;
        assert_eq!(s.end(RELAXED), end);
    }
    s.put(RELAXED, "c").await; // the third block of 4 KiB
    s.until_readable(3).await;
}

#[tokio::test]
async fn relaxed_writers_that_never_stop_do_not_keep_readers_waiting() {
    let s = setup(EngineConfig { relaxed_lag: Duration::from_millis(5), ..tiny() }).await;
    let writing = async {
        loop {
            s.put(RELAXED, "more").await;
        }
    };
    tokio::select! {
        () = writing => {}
        () = s.until_readable(20) => {}
    }
}

#[tokio::test]
async fn answers_that_tell_of_relaxed_records_wait_until_these_are_durable() {
    let s = setup(patient()).await;
    s.put(RELAXED, "a").await;
    let misplaced = Write { expect: Some(Offset(7)), ..write(at(RELAXED, 0), &["never"]) };
    let refused = s.engine.commit(commit([misplaced])).await;
    assert_eq!(refused, Err(CommitError::OffsetMismatch { at: at(RELAXED, 0), next: Offset(1) }));
    assert_eq!(s.end(RELAXED), 1, "the refusal names an offset that no power cut takes back");

    let first = s.engine.commit(keyed(1, 1, [write(at(RELAXED, 0), &["b"])])).await.unwrap();
    assert_eq!((first.replayed, s.end(RELAXED)), (false, 1));
    let again = s.engine.commit(keyed(1, 1, [write(at(RELAXED, 0), &["b"])])).await.unwrap();
    assert_eq!((again.replayed, again.appended), (true, first.appended));
    assert_eq!(s.end(RELAXED), 2, "the repeated answer promises what the first did not");
}

#[tokio::test]
async fn a_power_cut_takes_what_was_not_synced_and_the_end_of_the_process_does_not() {
    for cut in [true, false] {
        let s = setup(patient()).await;
        s.put(RELAXED, "durable by the next").await;
        s.put(DURABLE, "next").await;
        s.put(RELAXED, "not synced").await;
        let Setup { sim, engine, .. } = s;
        let sim = if cut { sim.power_cycled(Loss::Everything) } else { sim };
        drop(engine);
        let (engine, _) = EmbeddedEngine::open_on(Arc::new(sim), patient(), clock()).unwrap();
        let expected: &[_] = if cut { &["durable by the next"] } else { &["durable by the next", "not synced"] };
        assert_eq!(read_all(&engine, at(RELAXED, 0)).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn closing_makes_relaxed_records_durable() {
    let s = setup(patient()).await;
    s.put(RELAXED, "a").await;
    s.engine.close().await;
    let (engine, report) =
        EmbeddedEngine::open_on(Arc::new(s.sim.power_cycled(Loss::Everything)), tiny(), clock()).unwrap();
    assert_eq!(report.groups_replayed, 0);
    assert_eq!(read_all(&engine, at(RELAXED, 0)).await.unwrap(), ["a"]);
}

#[tokio::test]
async fn a_group_that_is_torn_before_later_ones_of_the_same_sync_ends_the_log_there() {
    let s = setup(patient()).await;
    for value in ["first", "second", "third"] {
        s.put(RELAXED, value).await;
    }
    let Setup { sim, engine, .. } = s;
    drop(engine);
    let path = sim.paths("wal/").remove(0);
    sim.edit(&path, |bytes| {
        let at = bytes.windows(6).position(|window| window == b"second").expect("the value lies in its frame");
        bytes[at] ^= 1;
    });
    let (engine, report) = EmbeddedEngine::open_on(Arc::new(sim), patient(), clock()).unwrap();
    assert!(report.torn_tail);
    assert_eq!(read_all(&engine, at(RELAXED, 0)).await.unwrap(), ["first"]);
}

/// What the world knows of one life: every value is sent to one partition after the other.
#[derive(Default)]
struct Witness {
    sent: Vec<(TopicPartition, String)>,
    /// So many of `sent` must be there: a durable acknowledgement covers everything before it.
    durable: usize,
    /// So many a reader of the relaxed partition saw.
    seen: usize,
}

impl Witness {
    async fn work(&mut self, sim: &SimDisk) -> Result<(), ()> {
        let s = open_with(sim, EngineConfig { relaxed_bytes_max: 24 << 10, ..patient() }).map_err(drop)?;
        make_topics(&s.engine).await?;
        for n in 0..48_usize {
            let to = if n % 7 == 5 { at(DURABLE, 0) } else { at(RELAXED, usize::from(n % 3 == 0).try_into().unwrap()) };
            let value = format!("{n} {}", "x".repeat(n * 23 % 700));
            self.sent.push((to, value.clone()));
            s.engine.commit(commit([write(to, &[&value])])).await.map_err(drop)?;
            if to.topic == topic(DURABLE) {
                self.durable = self.sent.len();
            }
            if let Ok(values) = read_all(&s.engine, at(RELAXED, 0)).await {
                self.seen = values.len();
            }
        }
        Ok(())
    }

    /// What is there must be what was sent first, and enough of it.
    async fn check(&self, sim: &SimDisk) -> Result<(), String> {
        let s = open_with(sim, patient())?;
        let mut found = std::collections::BTreeMap::new();
        for partition in [at(RELAXED, 0), at(RELAXED, 1), at(DURABLE, 0)] {
            let values = read_all(&s.engine, partition)
                .await
                .or_else(|e| if self.durable == 0 { Ok(Vec::new()) } else { Err(e) })?;
            found.insert(partition, values);
        }
        if found[&at(RELAXED, 0)].len() < self.seen {
            return Err("a reader saw what is gone".to_owned());
        }
        let mut next =
            found.iter().map(|(&to, values)| (to, values.iter())).collect::<std::collections::BTreeMap<_, _>>();
        let there = self.sent.iter().take_while(|(to, value)| next.get_mut(to).unwrap().next() == Some(value)).count();
        if there < self.durable {
            return Err(format!("{there} records are there, {} are promised", self.durable));
        }
        let all: usize = found.values().map(Vec::len).sum();
        if all != there { Err(format!("{all} records are there, the first {there} without a gap")) } else { Ok(()) }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn a_power_cut_at_any_operation_takes_relaxed_records_from_the_end_only_and_no_durable_one() {
    let operations = block_on(async {
        let sim = SimDisk::new();
        let mut witness = Witness::default();
        witness.work(&sim).await.unwrap();
        assert!(witness.durable > 40 && witness.seen > 10, "the script runs to its end");
        assert!(sim.paths("wal/").len() > 1, "the log rolls");
        sim.operations()
    });
    let mut taken = 0;
    for operation in 1..=operations + 2 {
        for loss in [Loss::Everything, Loss::Random(operation.wrapping_mul(0x9e37_79b9))] {
            let outcome = block_on(async {
                let sim = SimDisk::new();
                sim.crash_at(operation);
                let mut witness = Witness::default();
                let _: Result<(), ()> = witness.work(&sim).await;
                taken += usize::from(witness.sent.len() > witness.durable + 1);
                witness.check(&sim.power_cycled(loss)).await
            });
            outcome.unwrap_or_else(|problem| panic!("cut at operation {operation}, {loss:?}: {problem}"));
        }
    }
    assert!(taken > 20, "the cuts meet acknowledged records that are not durable");
}
