//! The embedded engine under compaction: power cuts at every operation, readers that are under way, failing storage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rustix::io::Errno;

use super::conformance::commit;
use super::conformance::compaction::{Found, compacted, left, write_keyed};
use super::crash_tests::{at, clock, tiny, topic};
use super::disk::fault::{Fault, FaultyDisk, Operation};
use super::disk::sim::{Loss, SimDisk};
use super::disk::{Disk, Open};
use super::embedded::EmbeddedEngine;
use super::engine::{Engine, FetchError};
use crate::clock::ManualClock;
use crate::names::Offset;

const KEYS: usize = 5;

fn open_on(disk: impl Disk, clock: &Arc<ManualClock>) -> Result<EmbeddedEngine, String> {
    let opened = EmbeddedEngine::open_on(Arc::new(disk), tiny(), Arc::clone(clock) as Arc<_>);
    opened.map(|(engine, _)| engine).map_err(|e| e.to_string())
}

/// An engine that was told to compact its two partitions.
async fn start(disk: &SimDisk) -> Result<EmbeddedEngine, String> {
    let engine = open_on(disk.clone(), &clock())?;
    engine.ensure_topic(&compacted(topic(1), 2)).await.map_err(|e| e.to_string())?;
    Ok(engine)
}

fn key(n: usize) -> String {
    format!("k{}", n % KEYS)
}

/// Every seventh is a tombstone.
fn value(n: usize) -> Option<String> {
    (n % 7 != 6).then(|| format!("{n} {}", "x".repeat(n * 37 % 500)))
}

/// Records `from` to `to`, one commit each; how many were acknowledged.
async fn append(engine: &EmbeddedEngine, range: std::ops::Range<usize>) -> usize {
    for n in range.clone() {
        let (key, value) = (key(n), value(n));
        let write = write_keyed(at(1, 0), &[(Some(&key), value.as_deref())]);
        match engine.commit(commit([write])).await {
            Ok(ack) => assert_eq!(ack.appended[0].first.0, i64::try_from(n).unwrap()),
            Err(_) => return n - range.start,
        }
    }
    range.len()
}

fn logs(disk: &SimDisk) -> Vec<String> {
    disk.paths("seg/").into_iter().filter(|path| path.ends_with(".log")).collect()
}

fn file_bytes(disk: &SimDisk) -> u64 {
    logs(disk).iter().map(|path| disk.read(path).len() as u64).sum()
}

/// What is left is what was written there, in order, the last record of every key among it.
fn check(found: &[Found], acked: usize) -> Result<(), String> {
    let mut after = -1;
    for (offset, found_key, found_value) in found {
        let n = usize::try_from(*offset).unwrap();
        if *offset <= after || found_key.as_deref() != Some(&key(n)) || *found_value != value(n) {
            return Err(format!("{offset} is not what was written there"));
        }
        after = *offset;
    }
    let last: BTreeMap<_, _> = (0..acked).map(|n| (key(n), n)).collect();
    for (key, n) in last {
        // An unacknowledged one may have come after it.
        if !found.iter().any(|(offset, found, _)| *found == Some(key.clone()) && *offset >= i64::try_from(n).unwrap()) {
            return Err(format!("the last record of {key}, {n}, is gone"));
        }
    }
    Ok(())
}

/// Works, with a compaction in the second and the third life, until it is done or the disk is gone. How many records were
/// acknowledged, and whether all is done.
async fn work(disk: &SimDisk) -> (usize, bool) {
    let mut acked = 0;
    for upto in [40, 60, 75] {
        let Ok(engine) = start(disk).await else { return (acked, false) };
        if engine.maintain().await.is_err() {
            return (acked, false);
        }
        acked += append(&engine, acked..upto).await;
        // So that everything is in segments when the next life begins.
        engine.close().await;
        if acked < upto {
            return (acked, false);
        }
    }
    let Ok(engine) = start(disk).await else { return (acked, false) };
    let done = engine.maintain().await.is_ok();
    engine.close().await;
    (acked, done)
}

async fn live_and_check(operation: u64, loss: Loss, ignored_sync: Option<&str>) -> Result<(), String> {
    let disk = SimDisk::new();
    disk.crash_at(operation);
    if let Some(path) = ignored_sync {
        disk.ignore_sync(path);
    }
    let (acked, _) = work(&disk).await;
    let disk = disk.power_cycled(loss);
    let checked = async {
        if acked == 0 {
            return Ok(());
        }
        let engine = start(&disk).await?;
        check(&left(&engine, at(1, 0)).await?, acked)?;
        // And on with it: compaction goes on where it was, and leaves no file that nobody needs.
        engine.maintain().await.map_err(|e| e.to_string())?;
        let found = left(&engine, at(1, 0)).await?;
        check(&found, acked)?;
        let stored = engine.stored_bytes(topic(1));
        engine.close().await;
        drop(engine);
        if stored != file_bytes(&disk) {
            return Err(format!("{stored} bytes are held, but {} lie in {:?}", file_bytes(&disk), logs(&disk)));
        }
        let engine = start(&disk).await?;
        if left(&engine, at(1, 0)).await? == found { Ok(()) } else { Err("a restart changed what is left".to_owned()) }
    };
    checked.await.map_err(|problem| format!("cut at operation {operation}, {loss:?}: {problem}"))
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// How many operations a whole life takes, about.
fn operations() -> u64 {
    run(async {
        let disk = SimDisk::new();
        assert_eq!(work(&disk).await, (75, true));
        assert!(logs(&disk).iter().any(|path| path.contains("-0003.log")), "compacted in each life: {:?}", logs(&disk));
        disk.operations()
    })
}

#[test]
fn a_power_cut_at_any_operation_of_a_compaction_loses_no_key_and_leaves_no_file() {
    for operation in 1..=operations() + 5 {
        run(live_and_check(operation, Loss::Everything, None)).unwrap();
    }
}

#[test]
fn a_power_cut_at_any_operation_of_a_compaction_that_tears_what_is_unsynced_loses_no_key_and_leaves_no_file() {
    for operation in 1..=operations() + 5 {
        run(live_and_check(operation, Loss::Random(operation.wrapping_mul(0x9e37_79b9)), None)).unwrap();
    }
}

#[test]
fn compacted_files_and_their_names_must_be_synced() {
    let operations = operations();
    for ignored in ["seg/00/00000000-00000000000000000000-0001", "seg/00/."] {
        let mut cuts = (1..=operations).rev().step_by(3);
        let found = cuts.any(|operation| run(live_and_check(operation, Loss::Everything, Some(ignored))).is_err());
        assert!(found, "nobody notices that syncs of {ignored}… do nothing");
    }
}

/// Everything but the last few records is in sealed segments.
async fn filled(disk: &SimDisk, records: usize) {
    let engine = start(disk).await.unwrap();
    assert_eq!(append(&engine, 0..records).await, records);
    engine.close().await;
}

#[tokio::test]
async fn compaction_makes_the_store_smaller_and_few_segments_of_many_and_a_second_round_writes_nothing() {
    let disk = SimDisk::new();
    filled(&disk, 400).await;
    let (before, files) = (file_bytes(&disk), logs(&disk).len());
    let engine = start(&disk).await.unwrap();
    engine.maintain().await.unwrap();
    assert_eq!(engine.fault(), None);
    engine.close().await;
    drop(engine);
    assert!(files > 15 && logs(&disk).len() <= 3, "{files} files became {:?}", logs(&disk));
    assert!(file_bytes(&disk) < before / 10);
    let engine = start(&disk).await.unwrap();
    let names = disk.paths("seg/");
    for _ in 0..3 {
        engine.maintain().await.unwrap();
    }
    assert_eq!(disk.paths("seg/"), names);
    check(&left(&engine, at(1, 0)).await.unwrap(), 400).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_find_every_key_while_segments_are_switched_under_them() {
    let disk = SimDisk::new();
    filled(&disk, 300).await;
    let engine = Arc::new(start(&disk).await.unwrap());
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move {
                loop {
                    let bounds = engine.bounds(at(1, 0)).unwrap();
                    let known = usize::try_from(bounds.end.0).unwrap();
                    check(&left(&*engine, at(1, 0)).await.unwrap(), known.min(300)).unwrap();
                    if known >= 600 {
                        return;
                    }
                }
            })
        })
        .collect();
    for upto in 301..=600 {
        append(&engine, upto - 1..upto).await;
        engine.maintain().await.unwrap();
    }
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(logs(&disk).iter().any(|path| !path.contains("-0000.log")));
    assert_eq!(engine.fault(), None);
}

#[tokio::test]
async fn a_damaged_segment_keeps_its_partition_as_it_is_and_nobody_else() {
    let disk = SimDisk::new();
    filled(&disk, 100).await;
    {
        let engine = start(&disk).await.unwrap();
        for n in 0..100_usize {
            let (key, value) = (key(n), value(n));
            let write = write_keyed(at(1, 1), &[(Some(&key), value.as_deref())]);
            engine.commit(commit([write])).await.unwrap();
        }
        engine.close().await;
    }
    let of_first: Vec<_> = logs(&disk).into_iter().filter(|path| path.starts_with("seg/00/")).collect();
    disk.edit(&of_first[1], |bytes| bytes[100] ^= 1);
    let engine = start(&disk).await.unwrap();
    engine.maintain().await.unwrap();
    engine.maintain().await.unwrap();
    assert_eq!(engine.fault(), None);
    let names = logs(&disk);
    assert!(of_first.iter().all(|path| names.contains(path)), "{names:?}");
    assert!(names.iter().any(|path| path.starts_with("seg/01/") && path.contains("-0001.log")), "{names:?}");
    assert!(engine.fetch(at(1, 0), Offset(0), 100).await.is_ok());
    let mut next = Offset(0);
    let refused = loop {
        match engine.fetch(at(1, 0), next, 1).await {
            Ok(fetched) => next = fetched.batches.last().unwrap().next_offset(),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, FetchError::Damaged { at: next });
}

fn fault(operation: Operation, error: Errno) -> Option<Fault> {
    Some(Fault { operation, path: "seg/00/00000000-00000000000000000000-0001", error, skip: 0 })
}

#[tokio::test]
async fn without_space_for_a_new_segment_the_old_ones_stay_and_the_engine_goes_on() {
    for operation in [Operation::Create, Operation::Write] {
        let sim = SimDisk::new();
        filled(&sim, 100).await;
        let before = logs(&sim);
        let disk = FaultyDisk::new(sim.clone());
        let engine = open_on(disk.clone(), &clock()).unwrap();
        engine.ensure_topic(&compacted(topic(1), 2)).await.unwrap();
        disk.plan(fault(operation, Errno::NOSPC));
        engine.maintain().await.unwrap();
        assert!(disk.failed() > 0);
        assert_eq!((engine.fault(), logs(&sim)), (None, before));
        check(&left(&engine, at(1, 0)).await.unwrap(), 100).unwrap();
        assert_eq!(append(&engine, 100..101).await, 1);
        disk.plan(None);
        engine.maintain().await.unwrap();
        assert!(logs(&sim).iter().any(|path| path.contains("-0001.log")), "with space it is done: {:?}", logs(&sim));
    }
}

#[tokio::test]
async fn a_failed_write_or_sync_of_a_new_segment_stops_the_engine() {
    for operation in [Operation::Write, Operation::Sync] {
        let sim = SimDisk::new();
        filled(&sim, 100).await;
        let disk = FaultyDisk::new(sim.clone());
        let engine = open_on(disk.clone(), &clock()).unwrap();
        engine.ensure_topic(&compacted(topic(1), 2)).await.unwrap();
        disk.plan(fault(operation, Errno::IO));
        drop(engine.maintain().await);
        assert!(engine.fault().unwrap().starts_with("compaction: "), "{operation:?}: {:?}", engine.fault());
        drop(engine);
        let engine = start(&sim.power_cycled(Loss::Everything)).await.unwrap();
        check(&left(&engine, at(1, 0)).await.unwrap(), 100).unwrap();
    }
}

#[tokio::test]
async fn files_of_a_compaction_that_no_manifest_names_are_removed_and_no_others() {
    let disk = SimDisk::new();
    filled(&disk, 100).await;
    let engine = start(&disk).await.unwrap();
    engine.maintain().await.unwrap();
    engine.close().await;
    drop(engine);
    let named = disk.paths("seg/");
    let stray = ["seg/00/00000000-00000000000000000007-0003.log", "seg/00/00000000-00000000000000000007-0003.idx"];
    let foreign = "seg/00/notes.txt";
    for path in stray.iter().chain([&foreign]) {
        disk.open(path, Open::Empty).unwrap();
    }
    let engine = start(&disk).await.unwrap();
    engine.maintain().await.unwrap();
    let mut expected = named;
    expected.push(foreign.to_owned());
    expected.sort();
    assert_eq!(disk.paths("seg/"), expected);
}

#[derive(Debug, Clone)]
enum Step {
    Append(u8, Option<u16>),
    Maintain,
    Advance(u8),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => (0..8_u8, prop::option::weighted(0.85, 0..900_u16)).prop_map(|(key, len)| Step::Append(key, len)),
        4 => Just(Step::Maintain),
        2 => (1..30_u8).prop_map(Step::Advance),
        2 => Just(Step::Restart),
    ]
}

/// What must be left: the last value of every key. What may be left: anything that was written, where it was written.
async fn agrees(engine: &EmbeddedEngine, written: &[(u8, Option<u16>)]) -> Result<(), String> {
    let text = |n: usize, len: u16| format!("{n} {}", "y".repeat(usize::from(len)));
    let found = left(engine, at(1, 0)).await?;
    for (offset, key, value) in &found {
        let n = usize::try_from(*offset).unwrap();
        let (expected_key, len) = written[n];
        if *key != Some(expected_key.to_string()) || *value != len.map(|len| text(n, len)) {
            return Err(format!("{offset} is not what was written there"));
        }
    }
    if !found.is_sorted_by_key(|(offset, ..)| *offset) {
        return Err("out of order".to_owned());
    }
    let last: BTreeMap<_, _> = written.iter().enumerate().map(|(n, (key, len))| (key, (n, len))).collect();
    for (key, (n, len)) in last {
        let newest = found.iter().rfind(|(_, found, _)| *found == Some(key.to_string()));
        let is_last = newest.is_some_and(|(offset, ..)| usize::try_from(*offset) == Ok(n));
        // A tombstone may be gone, and then nothing of its key is there.
        let is_gone = len.is_none() && newest.is_none();
        if !is_last && !is_gone {
            return Err(format!("of key {key} the newest is {newest:?} instead of {n}"));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_newest_state_of_every_key_survives_any_sequence_of_work(steps in prop::collection::vec(step(), 20..160)) {
        run(async {
            let (disk, clock) = (SimDisk::new(), clock());
            let spec = compacted(topic(1), 1);
            let mut engine = open_on(disk.clone(), &clock).unwrap();
            engine.ensure_topic(&spec).await.unwrap();
            let mut written = Vec::new();
            for step in steps {
                match step {
                    Step::Append(key, len) => {
                        let value = len.map(|len| format!("{} {}", written.len(), "y".repeat(usize::from(len))));
                        let write = write_keyed(at(1, 0), &[(Some(&key.to_string()), value.as_deref())]);
                        engine.commit(commit([write])).await.unwrap();
                        written.push((key, len));
                    }
                    Step::Maintain => engine.maintain().await.unwrap(),
                    Step::Advance(hours) => clock.advance(Duration::from_hours(hours.into())),
                    Step::Restart => {
                        engine.close().await;
                        drop(engine);
                        engine = open_on(disk.clone(), &clock).unwrap();
                        engine.ensure_topic(&spec).await.unwrap();
                    }
                }
                if matches!(step, Step::Maintain | Step::Restart) {
                    agrees(&engine, &written).await.unwrap();
                }
            }
            engine.maintain().await.unwrap();
            agrees(&engine, &written).await.unwrap();
            prop_assert_eq!(engine.fault(), None);
            Ok(())
        })?;
    }
}
