//! The embedded engine under power cuts: a scripted day of work, cut at every operation that touches the disk.
//!
//! Whatever survives, the next start must hold every acknowledged record at its offset (I1, I2) and everything a reader
//! saw (I3), hold a commit whole or not at all, and answer a repeated key with its first answer. And to show that the
//! test can fail: a disk that ignores any one kind of sync is found out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use uuid::Uuid;

use super::conformance::{commit, keyed, write};
use super::disk::sim::{Loss, SimDisk};
use super::embedded::{EmbeddedEngine, EngineConfig, RecoveryReport};
use super::engine::{Ack, Commit, CommitError, Engine, TopicSpec};
use super::record::RecordBatch;
use crate::clock::{ManualClock, Timestamp};
use crate::names::{Offset, TopicId, TopicPartition};

/// So small that a few dozen commits roll, seal, recycle and evict everything.
pub(super) fn tiny() -> EngineConfig {
    EngineConfig {
        wal_segment_bytes: 32 << 10,
        segment_bytes: 4 << 10,
        commit_bytes_max: 6 << 10,
        group_bytes_max: 6 << 10,
        backlog_bytes_max: 64 << 10,
        tail_bytes_max: 2 << 10,
        checkpoint_bytes: 40 << 10,
        checkpoint_every: Duration::from_hours(1),
        open_files_max: 4,
        ..EngineConfig::small()
    }
}

pub(super) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp(1_000)))
}

fn open(disk: &SimDisk) -> Result<(Arc<EmbeddedEngine>, RecoveryReport), String> {
    let opened = EmbeddedEngine::open_on(Arc::new(disk.clone()), tiny(), clock());
    opened.map(|(engine, report)| (Arc::new(engine), report)).map_err(|e| e.to_string())
}

pub(super) fn topic(n: u128) -> TopicId {
    TopicId(Uuid::from_u128(n))
}

pub(super) fn at(n: u128, partition: u32) -> TopicPartition {
    TopicPartition { topic: topic(n), partition }
}

type Values = BTreeMap<TopicPartition, Vec<String>>;

/// What the outside world knows of one life of the engine.
#[derive(Default)]
struct Witness {
    /// Acknowledged values by partition, in order, and the acknowledgements of keyed commits.
    acked: Values,
    keyed: Vec<(Commit, Ack)>,
    /// What was sent last and not answered.
    in_doubt: Option<Commit>,
    /// Answered or not: once asked for, a topic may be gone.
    deleted: Option<TopicId>,
    /// What a reader saw.
    seen: Arc<Mutex<Values>>,
}

fn value_of(batch: &RecordBatch) -> Vec<String> {
    batch.records().map(|r| String::from_utf8(r.value.unwrap().to_vec()).unwrap()).collect()
}

pub(super) async fn read_all(engine: &EmbeddedEngine, at: TopicPartition) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut next = Offset(0);
    loop {
        let fetched = engine.fetch(at, next, 700).await.map_err(|e| e.to_string())?;
        let Some(last) = fetched.batches.last() else { return Ok(found) };
        for batch in fetched.batches.iter().filter(|b| b.last_offset() >= next) {
            let expected = i64::try_from(found.len()).unwrap();
            if batch.base_offset().0 != expected {
                return Err(format!("{at:?}: a batch at {} instead of {expected}", batch.base_offset()));
            }
            found.extend(value_of(batch));
        }
        next = last.next_offset();
    }
}

impl Witness {
    /// Works until it is done or the disk is gone.
    async fn work(&mut self, disk: &SimDisk) -> Result<(), String> {
        let Ok((engine, _)) = open(disk) else { return Ok(()) };
        if self.first_half(&engine).await.is_err() {
            return Ok(());
        }
        engine.close().await;
        drop(engine);
        let Ok((engine, _)) = open(disk) else { return Ok(()) };
        let _: Result<(), ()> = self.second_half(&engine).await;
        Ok(())
    }

    async fn first_half(&mut self, engine: &Arc<EmbeddedEngine>) -> Result<(), ()> {
        for n in [1, 2] {
            engine.ensure_topic(&TopicSpec::new(topic(n), 2)).await.map_err(drop)?;
        }
        for n in 0..14 {
            self.commit(engine, n).await?;
        }
        self.deleted = Some(topic(2));
        engine.delete_topic(topic(2)).await.map_err(drop)?;
        engine.ensure_topic(&TopicSpec::new(topic(1), 3)).await.map_err(drop)
    }

    async fn second_half(&mut self, engine: &Arc<EmbeddedEngine>) -> Result<(), ()> {
        for n in 14..30 {
            self.commit(engine, n).await?;
        }
        Ok(())
    }

    /// Commit number `n`: one to three writes of a few hundred bytes; every third has a key.
    async fn commit(&mut self, engine: &Arc<EmbeddedEngine>, n: u8) -> Result<(), ()> {
        let other = if self.deleted.is_some() { at(1, 2) } else { at(2, 0) };
        let to = [at(1, 0), at(1, 1), other, at(1, 0)];
        let values: Vec<_> = (0..4).map(|w| format!("{n}.{w} {}", "x".repeat(usize::from(n) * 40 % 900))).collect();
        let used = 1 + usize::from(n) % 4;
        let writes = (0..used).map(|w| write(to[w], &[&values[w], "and one more"]));
        let commit = if n.is_multiple_of(3) { keyed(n, n, writes) } else { commit(writes) };
        self.in_doubt = Some(commit.clone());
        let ack = engine.commit(commit.clone()).await.map_err(drop)?;
        self.in_doubt = None;
        for (write, appended) in commit.writes.iter().zip(&ack.appended) {
            let known = self.acked.entry(write.to).or_default();
            assert_eq!(appended.first.0, i64::try_from(known.len()).unwrap());
            known.extend(value_of(&write.batch));
        }
        if commit.idempotency.is_some() {
            self.keyed.push((commit, ack));
        }
        // A reader, now and then.
        if n.is_multiple_of(2)
            && let Ok(values) = read_all(engine, at(1, 0)).await
        {
            self.seen.lock().insert(at(1, 0), values);
        }
        Ok(())
    }

    /// Compares what the world knows with what the disk still has.
    async fn check(&self, disk: &SimDisk) -> Result<(), String> {
        let (engine, _) = open(disk)?;
        let mut doubtful_seen = Vec::new();
        for (&partition, known) in &self.acked {
            let deleted = self.deleted == Some(partition.topic);
            let found = match read_all(&engine, partition).await {
                Err(_) if deleted => continue,
                other => other?,
            };
            let Some(beyond) = found.strip_prefix(known.as_slice()) else {
                return Err(format!("{partition:?}: acknowledged {known:?}, found {found:?}"));
            };
            let doubtful: Vec<String> = self.doubtful(partition);
            if !beyond.is_empty() && beyond != doubtful.as_slice() {
                return Err(format!("{partition:?}: {beyond:?} was never sent"));
            }
            if !doubtful.is_empty() {
                doubtful_seen.push(!beyond.is_empty());
            }
            if let Some(seen) = self.seen.lock().get(&partition)
                && !found.starts_with(seen)
            {
                return Err(format!("{partition:?}: a reader saw what is gone"));
            }
        }
        if doubtful_seen.iter().any(|&seen| seen != doubtful_seen[0]) {
            return Err("half of a commit".to_owned());
        }
        for (commit, ack) in &self.keyed {
            let again = engine.commit(commit.clone()).await.map_err(|e| e.to_string())?;
            if again != (Ack { replayed: true, ..ack.clone() }) {
                return Err(format!("a repeated key was answered {again:?} instead of {ack:?}"));
            }
        }
        self.go_on(engine, disk).await
    }

    fn doubtful(&self, partition: TopicPartition) -> Vec<String> {
        let writes = self.in_doubt.iter().flat_map(|commit| &commit.writes);
        writes.filter(|write| write.to == partition).flat_map(|write| value_of(&write.batch)).collect()
    }

    /// The engine works on after recovery, and one more clean restart changes nothing.
    async fn go_on(&self, engine: Arc<EmbeddedEngine>, disk: &SimDisk) -> Result<(), String> {
        let Some((&partition, _)) = self.acked.iter().next() else { return Ok(()) };
        let mut expected = read_all(&engine, partition).await?;
        let ack = engine.commit(commit([write(partition, &["after"])])).await.map_err(|e| e.to_string())?;
        if ack.appended[0].first.0 != i64::try_from(expected.len()).unwrap() {
            return Err("an offset was used again or skipped".to_owned());
        }
        expected.push("after".to_owned());
        engine.close().await;
        drop(engine);
        let (engine, report) = open(disk)?;
        if report.groups_replayed != 0 {
            return Err("a clean end left something to replay".to_owned());
        }
        if read_all(&engine, partition).await? == expected { Ok(()) } else { Err("a restart lost records".to_owned()) }
    }
}

/// One life up to the power cut at `operation`, and the next one.
fn live_and_check(operation: u64, loss: Loss, ignored_sync: Option<&str>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let disk = SimDisk::new();
        disk.crash_at(operation);
        if let Some(path) = ignored_sync {
            disk.ignore_sync(path);
        }
        let mut witness = Witness::default();
        witness.work(&disk).await?;
        let survived = disk.power_cycled(loss);
        witness.check(&survived).await.map_err(|problem| format!("cut at operation {operation}, {loss:?}: {problem}"))
    })
}

/// How many operations a whole life takes, about: threads interleave differently each time.
fn operations() -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let disk = SimDisk::new();
        let mut witness = Witness::default();
        witness.work(&disk).await.unwrap();
        assert!(witness.in_doubt.is_none() && witness.keyed.len() == 10, "the script runs to its end");
        assert!(disk.paths("seg/").len() > 8, "segments roll");
        disk.operations()
    })
}

fn cut_everywhere(loss: impl Fn(u64) -> Loss) {
    for operation in 1..=operations() + 5 {
        live_and_check(operation, loss(operation), None).unwrap();
    }
}

#[test]
fn a_power_cut_at_any_operation_that_loses_everything_unsynced_loses_nothing_acknowledged() {
    cut_everywhere(|_| Loss::Everything);
}

#[test]
fn a_power_cut_at_any_operation_that_tears_what_is_unsynced_loses_nothing_acknowledged() {
    cut_everywhere(Loss::Random);
}

#[test]
fn a_power_cut_at_any_operation_that_tears_it_otherwise_loses_nothing_acknowledged() {
    cut_everywhere(|operation| Loss::Random(operation.wrapping_mul(0x9e37_79b9)));
}

#[test]
fn every_kind_of_sync_is_needed() {
    let operations = operations();
    for ignored in ["wal/0", "wal/.", "seg/00/0", "seg/00/.", "meta/m", "meta/."] {
        let found =
            (1..=operations).rev().step_by(7).any(|at| live_and_check(at, Loss::Everything, Some(ignored)).is_err());
        assert!(found, "nobody notices that syncs of {ignored}… do nothing");
    }
}

#[tokio::test]
async fn a_stopped_disk_stops_the_engine_and_says_why() {
    let disk = SimDisk::new();
    let (engine, _) = open(&disk).unwrap();
    engine.ensure_topic(&TopicSpec::new(topic(1), 1)).await.unwrap();
    disk.crash_at(disk.operations() + 1);
    let refused = engine.commit(commit([write(at(1, 0), &["a"])])).await;
    assert_eq!(refused, Err(CommitError::Stopped));
    assert!(engine.fault().unwrap().contains("the power is gone"));
}

#[tokio::test]
async fn files_of_a_topic_whose_writes_and_deletion_are_replayed_are_removed() {
    let disk = SimDisk::new();
    let (engine, _) = open(&disk).unwrap();
    engine.ensure_topic(&TopicSpec::new(topic(1), 1)).await.unwrap();
    engine.commit(commit([write(at(1, 0), &["a"])])).await.unwrap();
    let eventually_files = async |disk: &SimDisk, there: bool| {
        let waiting = async {
            while disk.paths("seg/").is_empty() == there {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("files come and go");
    };
    eventually_files(&disk, true).await;
    // The name is on the disk when the power goes, as the kernel writes it out within seconds.
    super::disk::Disk::sync_dir(&disk, "seg/00").unwrap();
    engine.delete_topic(topic(1)).await.unwrap();
    let survived = disk.power_cycled(Loss::Everything);
    assert_eq!(survived.paths("seg/").len(), 1);
    let (_engine, report) = open(&survived).unwrap();
    assert_eq!(report.records_replayed, 1);
    eventually_files(&survived, false).await;
}
