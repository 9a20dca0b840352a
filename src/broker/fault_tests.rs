//! Storage that fails: no acknowledgement after a failed sync, ever; a full disk only stops writing.

use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::conformance::{commit, write};
use super::crash_tests::{at, clock, read_all, tiny, topic};
use super::disk::Disk as _;
use super::disk::fault::{Fault, FaultyDisk, Operation};
use super::disk::sim::{Loss, SimDisk};
use super::embedded::{EmbeddedEngine, EngineConfig};
use super::engine::{AdminError, CommitError, Engine, FetchError, Room, TopicSpec};

struct Setup {
    sim: SimDisk,
    disk: FaultyDisk,
    engine: EmbeddedEngine,
}

async fn setup() -> Setup {
    let sim = SimDisk::new();
    let disk = FaultyDisk::new(sim.clone());
    let config = EngineConfig { free_bytes_min: 1000, ..tiny() };
    let (engine, _) = EmbeddedEngine::open_on(Arc::new(disk.clone()), config, clock()).unwrap();
    engine.ensure_topic(&TopicSpec::new(topic(1), 1)).await.unwrap();
    Setup { sim, disk, engine }
}

fn fault(operation: Operation, path: &'static str, error: Errno) -> Option<Fault> {
    Some(Fault { operation, path, error, skip: 0 })
}

impl Setup {
    async fn append(&self, value: &str) -> Result<(), CommitError> {
        self.engine.commit(commit([write(at(1, 0), &[value])])).await.map(drop)
    }

    /// Appends until it fails; how many were acknowledged.
    async fn append_until_refused(&self) -> (usize, CommitError) {
        for n in 0..10_000 {
            if let Err(refused) = self.append(&format!("{n} {}", "x".repeat(1000))).await {
                return (n, refused);
            }
        }
        panic!("the fault was never met");
    }

    /// What the next start finds after a power cut.
    async fn after_power_cut(&self) -> Vec<String> {
        let survived = self.sim.power_cycled(Loss::Everything);
        let (engine, _) = EmbeddedEngine::open_on(Arc::new(survived), tiny(), clock()).unwrap();
        read_all(&engine, at(1, 0)).await.unwrap()
    }

    async fn eventually_accepts(&self) {
        tokio::time::timeout(Duration::from_secs(20), async {
            while self.append("again").await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("space is back, so the engine takes records again");
    }
}

#[tokio::test]
async fn a_failed_write_or_sync_of_the_log_stops_the_engine_without_an_acknowledgement() {
    for operation in [Operation::Write, Operation::Sync] {
        let s = setup().await;
        s.append("kept").await.unwrap();
        s.disk.plan(fault(operation, "wal/", Errno::IO));
        assert_eq!(s.append("lost").await, Err(CommitError::Stopped), "{operation:?}");
        s.disk.plan(None);
        assert_eq!(s.append("after").await, Err(CommitError::Stopped), "never tried again");
        assert_eq!(s.engine.fetch(at(1, 0), crate::names::Offset(0), 1).await.unwrap_err(), FetchError::Stopped);
        assert!(s.engine.fault().unwrap().contains("weir-commit"), "{:?}", s.engine.fault());
        assert_eq!(s.after_power_cut().await, ["kept"]);
    }
}

#[tokio::test]
async fn writers_that_wait_when_the_storage_fails_are_told() {
    let s = setup().await;
    s.disk.plan(fault(Operation::Sync, "wal/", Errno::IO));
    let engine = Arc::new(s.engine);
    let waiting: Vec<_> = (0..50)
        .map(|n| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move { engine.commit(commit([write(at(1, 0), &[&format!("{n}")])])).await })
        })
        .collect();
    for task in waiting {
        let answer = tokio::time::timeout(Duration::from_secs(10), task).await.expect("nobody waits for ever");
        assert_eq!(answer.unwrap(), Err(CommitError::Stopped));
    }
}

#[tokio::test]
async fn a_failed_checkpoint_stops_the_engine_and_loses_nothing() {
    for (operation, path) in [
        (Operation::Sync, "seg/"),
        (Operation::SyncDir, "seg/"),
        (Operation::Write, "meta/"),
        (Operation::Sync, "meta/"),
        (Operation::Rename, "meta/"),
        (Operation::SyncDir, "meta"),
        (Operation::Write, "seg/"),
    ] {
        let s = setup().await;
        s.disk.plan(fault(operation, path, Errno::IO));
        let (acked, refused) = s.append_until_refused().await;
        assert_eq!(refused, CommitError::Stopped, "{operation:?} {path}");
        assert_eq!(s.disk.failed(), 1, "{operation:?} {path} is not tried again");
        let found = s.after_power_cut().await;
        assert!(found.len() >= acked && found.len() <= acked + 1, "{operation:?} {path}: {acked}, {}", found.len());
    }
}

#[tokio::test]
async fn segments_that_find_the_disk_full_make_the_engine_read_only_until_there_is_space() {
    let s = setup().await;
    s.disk.plan(fault(Operation::Write, "seg/", Errno::NOSPC));
    let (acked, refused) = s.append_until_refused().await;
    assert_eq!(refused, CommitError::ReadOnly);
    assert_eq!(s.engine.fault(), None);
    assert_eq!(read_all(&s.engine, at(1, 0)).await.unwrap().len(), acked, "reading goes on");
    s.disk.plan(None);
    s.eventually_accepts().await;
    s.engine.close().await;
    assert!(s.after_power_cut().await.len() > acked);
}

#[tokio::test]
async fn a_log_that_cannot_grow_makes_the_engine_read_only_until_there_is_space() {
    let s = setup().await;
    s.disk.plan(fault(Operation::Create, "wal/", Errno::NOSPC));
    s.append("kept").await.unwrap();
    let (acked, refused) = s.append_until_refused().await;
    assert_eq!(refused, CommitError::ReadOnly);
    s.disk.plan(None);
    s.eventually_accepts().await;
    assert_eq!(s.after_power_cut().await.len(), acked + 2);
}

#[tokio::test]
async fn too_little_free_space_makes_the_engine_read_only_but_topics_can_be_deleted() {
    let s = setup().await;
    s.append("kept").await.unwrap();
    s.disk.pretend_free_bytes(Some(999));
    let (_, refused) = s.append_until_refused().await;
    assert_eq!(refused, CommitError::ReadOnly);
    s.engine.delete_topic(topic(1)).await.unwrap();
    s.disk.pretend_free_bytes(None);
    tokio::time::timeout(Duration::from_secs(20), async {
        while s.append("x").await == Err(CommitError::ReadOnly) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("space is back");
    assert_eq!(s.append("x").await, Err(CommitError::UnknownPartition(at(1, 0))));
}

#[tokio::test]
async fn a_disk_that_gets_short_takes_records_but_no_new_topics() {
    let sim = SimDisk::new();
    let disk = FaultyDisk::new(sim);
    disk.pretend_free_bytes(Some(4999));
    let config = EngineConfig { free_bytes_min: 1000, free_bytes_short: 5000, ..tiny() };
    let (engine, _) = EmbeddedEngine::open_on(Arc::new(disk.clone()), config, clock()).unwrap();
    let becomes = async |room| {
        let change = async {
            while engine.stats().room != room {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), change).await.expect("somebody looks every second");
    };
    becomes(Room::Short).await;
    assert_eq!(engine.ensure_topic(&TopicSpec::new(topic(1), 1)).await, Err(AdminError::ReadOnly));
    disk.pretend_free_bytes(Some(7000));
    becomes(Room::Ample).await;
    engine.ensure_topic(&TopicSpec::new(topic(1), 1)).await.unwrap();
    disk.pretend_free_bytes(Some(4999));
    becomes(Room::Short).await;
    engine.ensure_topic(&TopicSpec::new(topic(1), 1)).await.expect("it is there already");
    engine.commit(commit([write(at(1, 0), &["taken"])])).await.unwrap();
    disk.pretend_free_bytes(Some(999));
    becomes(Room::Full).await;
    assert_eq!(engine.stats().free_bytes, Some(999));
    assert_eq!(engine.commit(commit([write(at(1, 0), &["refused"])])).await, Err(CommitError::ReadOnly));
}

#[tokio::test]
async fn the_ballast_is_made_while_there_is_room_and_again_after_it_was_needed() {
    let sim = SimDisk::new();
    let disk = FaultyDisk::new(sim.clone());
    let config = EngineConfig { free_bytes_short: 5000, ballast_bytes: 3000, ..tiny() };
    let (engine, _) = EmbeddedEngine::open_on(Arc::new(disk.clone()), config, clock()).unwrap();
    let ballast = || sim.paths("ballast").len();
    disk.pretend_free_bytes(Some(9000));
    engine.maintain().await.unwrap();
    assert_eq!(ballast(), 0, "it would cross the mark itself");
    disk.pretend_free_bytes(Some(10_000));
    engine.maintain().await.unwrap();
    assert_eq!((ballast(), sim.read("ballast").len()), (1, 3000));
    sim.remove("ballast").unwrap();
    disk.pretend_free_bytes(Some(7000));
    engine.maintain().await.unwrap();
    assert_eq!(ballast(), 0, "whoever removed it needs the room");
    disk.pretend_free_bytes(Some(20_000));
    engine.maintain().await.unwrap();
    assert_eq!(ballast(), 1);
}

#[tokio::test]
async fn an_engine_on_a_full_disk_can_be_closed_and_loses_nothing() {
    let s = setup().await;
    s.disk.plan(fault(Operation::Write, "seg/", Errno::NOSPC));
    let (acked, _) = s.append_until_refused().await;
    tokio::time::timeout(Duration::from_secs(10), s.engine.close()).await.expect("closing does not wait for space");
    assert_eq!(s.after_power_cut().await.len(), acked);
}

#[tokio::test]
async fn writers_are_refused_not_kept_waiting_when_copies_find_the_disk_full() {
    let s = setup().await;
    s.disk.plan(fault(Operation::Write, "seg/", Errno::NOSPC));
    let engine = Arc::new(s.engine);
    let value = "x".repeat(5000);
    let writers: Vec<_> = (0..100)
        .map(|_| {
            let (engine, value) = (Arc::clone(&engine), value.clone());
            tokio::spawn(async move { engine.commit(commit([write(at(1, 0), &[&value])])).await.map(drop) })
        })
        .collect();
    let mut refused = 0;
    for writer in writers {
        let answer =
            tokio::time::timeout(Duration::from_secs(10), writer).await.expect("nobody waits for ever").unwrap();
        refused += u32::from(answer == Err(CommitError::ReadOnly));
    }
    assert!(refused > 0);
}

#[tokio::test]
async fn a_start_on_a_full_disk_uses_old_files_of_the_log_again() {
    let sim = SimDisk::new();
    let config = EngineConfig { checkpoint_bytes: 1 << 20, ..tiny() };
    let open = |disk| EmbeddedEngine::open_on(Arc::new(disk), config.clone(), clock()).unwrap().0;
    let engine = open(FaultyDisk::new(sim.clone()));
    engine.ensure_topic(&TopicSpec::new(topic(1), 1)).await.unwrap();
    let value = "x".repeat(5000);
    for _ in 0..15 {
        engine.commit(commit([write(at(1, 0), &[&value])])).await.unwrap();
    }
    engine.close().await;
    drop(engine);
    let full = FaultyDisk::new(sim);
    full.plan(fault(Operation::Create, "wal/", Errno::NOSPC));
    let engine = open(full.clone());
    engine.commit(commit([write(at(1, 0), &["more"])])).await.unwrap();
    assert_eq!((read_all(&engine, at(1, 0)).await.unwrap().len(), full.failed()), (16, 0));
}

#[tokio::test]
async fn a_topic_can_be_deleted_while_copies_wait_for_space() {
    let sim = SimDisk::new();
    let disk = FaultyDisk::new(sim.clone());
    // Whatever waits to be copied fills the backlog.
    let config = EngineConfig { backlog_bytes_max: 0, ..tiny() };
    let (engine, _) = EmbeddedEngine::open_on(Arc::new(disk.clone()), config, clock()).unwrap();
    let s = Setup { sim, disk, engine };
    for n in [1, 2] {
        s.engine.ensure_topic(&TopicSpec::new(topic(n), 1)).await.unwrap();
    }
    s.disk.plan(fault(Operation::Write, "seg/", Errno::NOSPC));
    let (acked, refused) = s.append_until_refused().await;
    assert_eq!(refused, CommitError::ReadOnly);
    s.engine.delete_topic(topic(2)).await.unwrap();
    assert!(s.engine.bounds(at(2, 0)).is_err());
    assert_eq!(s.after_power_cut().await.len(), acked);
}
