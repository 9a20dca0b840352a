//! The embedded engine under retention: what goes and what stays, for readers that are under way and across power cuts.

use std::sync::Arc;
use std::time::Duration;

use super::conformance::{commit, maintain_until, write};
use super::crash_tests::{at, clock, tiny, topic};
use super::disk::sim::{Loss, SimDisk};
use super::disk::{Disk as _, Open};
use super::embedded::EmbeddedEngine;
use super::engine::{Bounds, Engine, FetchError, TopicSettings, TopicSpec};
use crate::clock::ManualClock;
use crate::names::Offset;

const KEPT: Duration = Duration::from_mins(1);
/// Between two commits.
const STEP: Duration = Duration::from_secs(5);

fn open(disk: &SimDisk, clock: &Arc<ManualClock>) -> Result<EmbeddedEngine, String> {
    let opened = EmbeddedEngine::open_on(Arc::new(disk.clone()), tiny(), Arc::clone(clock) as Arc<_>);
    opened.map(|(engine, _)| engine).map_err(|e| e.to_string())
}

async fn keep_a_minute(engine: &EmbeddedEngine) -> Result<(), ()> {
    let settings = TopicSettings { retention: Some(KEPT), ..TopicSettings::default() };
    engine.ensure_topic(&TopicSpec { settings, ..TopicSpec::new(topic(1), 1) }).await.map_err(drop)
}

fn value(n: i64) -> String {
    format!("{n} {}", "x".repeat(600))
}

/// Every record from the start on is what was written there.
async fn read_kept(engine: &EmbeddedEngine) -> Result<Bounds, String> {
    let bounds = engine.bounds(at(1, 0)).map_err(|e| e.to_string())?;
    let mut next = bounds.start;
    while next < bounds.end {
        let fetched = engine.fetch(at(1, 0), next, 700).await.map_err(|e| format!("at {next}: {e}"))?;
        let Some(first) = fetched.batches.first() else { return Err(format!("nothing at {next}")) };
        let record = first.records().next().unwrap();
        if record.offset != next || record.value.unwrap() != value(next.0).as_bytes() {
            return Err(format!("{next} is not what was written"));
        }
        next = first.next_offset();
    }
    Ok(bounds)
}

/// What the outside world knows of one life of the engine.
#[derive(Default)]
struct Witness {
    /// Acknowledged records.
    acked: i64,
    /// Where the partition began when somebody looked.
    start: i64,
}

impl Witness {
    /// A record every five seconds, kept for a minute; until it is done or the disk is gone.
    async fn work(&mut self, disk: &SimDisk, clock: &Arc<ManualClock>) -> Result<(), ()> {
        let engine = open(disk, clock).map_err(drop)?;
        keep_a_minute(&engine).await?;
        for n in 0..40 {
            engine.commit(commit([write(at(1, 0), &[&value(n)])])).await.map_err(drop)?;
            self.acked = n + 1;
            clock.advance(STEP);
            if n % 4 == 3 {
                engine.maintain().await.map_err(drop)?;
                self.start = engine.bounds(at(1, 0)).map_err(drop)?.start.0;
            }
        }
        Ok(())
    }

    async fn check(&self, disk: &SimDisk, clock: &Arc<ManualClock>) -> Result<(), String> {
        let engine = open(disk, clock)?;
        let Ok(bounds) = read_kept(&engine).await else {
            return if self.acked == 0 { Ok(()) } else { read_kept(&engine).await.map(drop) };
        };
        let in_doubt = 1;
        if bounds.end.0 < self.acked || bounds.end.0 > self.acked + in_doubt {
            return Err(format!("{} records were acknowledged, {} are there", self.acked, bounds.end));
        }
        if bounds.start.0 < self.start {
            return Err(format!("the start went back from {} to {}", self.start, bounds.start));
        }
        let old_enough = self.acked - i64::try_from(KEPT.as_secs() / STEP.as_secs()).unwrap();
        if bounds.start.0 > old_enough.max(0) {
            return Err(format!("{} of {} records went too early", bounds.start, self.acked));
        }
        self.go_on(engine, disk, clock, bounds).await
    }

    /// Retention works on after recovery, and no file stays behind that nobody knows of.
    async fn go_on(
        &self,
        engine: EmbeddedEngine,
        disk: &SimDisk,
        clock: &Arc<ManualClock>,
        bounds: Bounds,
    ) -> Result<(), String> {
        keep_a_minute(&engine).await.map_err(|()| "the engine stopped")?;
        clock.advance(KEPT + STEP);
        maintain_until(&engine, at(1, 0), bounds.end).await;
        let ack = engine.commit(commit([write(at(1, 0), &[&value(bounds.end.0)])])).await.map_err(|e| e.to_string())?;
        if ack.appended[0].first != bounds.end {
            return Err(format!("after {} came {}", bounds.end, ack.appended[0].first));
        }
        engine.close().await;
        drop(engine);
        // What the end of the last life left to remove, this start removes.
        let engine = open(disk, clock)?;
        let only_what_is_kept = async {
            while bytes_on_disk(disk) != engine.stored_bytes(topic(1)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), only_what_is_kept).await;
        waited.map_err(|_| format!("{:?} are on the disk", disk.paths("seg/")))
    }
}

fn bytes_on_disk(disk: &SimDisk) -> u64 {
    let logs = disk.paths("seg/").into_iter().filter(|path| path.ends_with(".log"));
    logs.filter_map(|path| disk.open(&path, Open::Existing).ok()).map(|file| file.size().unwrap()).sum()
}

fn live_and_check(operation: u64, loss: Loss) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (disk, clock) = (SimDisk::new(), clock());
        disk.crash_at(operation);
        let mut witness = Witness::default();
        // An error is the power cut.
        let _: Result<(), ()> = witness.work(&disk, &clock).await;
        let survived = disk.power_cycled(loss);
        let checked = witness.check(&survived, &clock).await;
        checked.map_err(|problem| format!("cut at operation {operation}, {loss:?}: {problem}"))
    })
}

fn operations() -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (disk, clock) = (SimDisk::new(), clock());
        let mut witness = Witness::default();
        witness.work(&disk, &clock).await.unwrap();
        assert!(witness.acked == 40 && witness.start > 10, "records go while others come: {}", witness.start);
        disk.operations()
    })
}

#[test]
fn a_power_cut_at_any_operation_neither_brings_back_what_went_nor_takes_what_is_kept() {
    for operation in (1..=operations() + 5).step_by(4) {
        live_and_check(operation, Loss::Everything).unwrap();
        live_and_check(operation + 1, Loss::Random(operation)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_race_with_retention_are_told_and_never_skip() {
    const ALL: i64 = 200;
    let (disk, clock) = (SimDisk::new(), clock());
    let engine = Arc::new(open(&disk, &clock).unwrap());
    keep_a_minute(&engine).await.unwrap();
    let reading = Arc::clone(&engine);
    let reader = tokio::spawn(async move {
        let (mut next, mut read, mut gaps) = (Offset(0), 0, 0);
        while next < Offset(ALL) {
            let end = reading.bounds(at(1, 0)).unwrap().end.0;
            // So far behind that retention is about to come, or has just been there.
            if end < ALL && end - next.0 < 13 + next.0 % 3 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
            match reading.fetch(at(1, 0), next, 1).await {
                Ok(fetched) => {
                    assert_eq!(fetched.batches[0].base_offset(), next, "skipped without a word");
                    next = fetched.batches[0].next_offset();
                    read += 1;
                }
                Err(FetchError::OutOfRange(bounds)) if bounds.start > next => {
                    next = bounds.start;
                    gaps += 1;
                }
                Err(other) => panic!("at {next}: {other}"),
            }
        }
        (read, gaps)
    });
    for n in 0..ALL {
        engine.commit(commit([write(at(1, 0), &[&value(n)])])).await.unwrap();
        clock.advance(STEP);
        engine.maintain().await.unwrap();
    }
    let (read, gaps) = reader.await.unwrap();
    assert!(read > 0 && gaps > 0, "retention and the reader race: {read} records were read, {gaps} gaps met");
}
