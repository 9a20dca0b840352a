//! Stores on a simulated disk, looked at while an engine works on them, and with bytes that were changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::{Finding, InspectError, Store};
use crate::broker::conformance::{commit, write};
use crate::broker::crash_tests::{at, clock, read_all, tiny, topic};
use crate::broker::disk::sim::{Loss, SimDisk};
use crate::broker::embedded::EmbeddedEngine;
use crate::broker::engine::{Engine, TopicSpec};
use crate::names::Offset;

/// A simulated disk would take a gigabyte a minute.
const PACE: std::time::Duration = std::time::Duration::from_millis(1);

fn open(disk: &SimDisk) -> EmbeddedEngine {
    EmbeddedEngine::open_on(Arc::new(disk.clone()), tiny(), clock()).unwrap().0
}

fn store(disk: &SimDisk) -> Store {
    Store::on(Arc::new(disk.clone()), false).unwrap()
}

/// Sealed and growing segments of two partitions, and records that are in the log only.
async fn example() -> SimDisk {
    let disk = SimDisk::new();
    let engine = open(&disk);
    engine.ensure_topic(&TopicSpec::new(topic(1), 2)).await.unwrap();
    for n in 0..40 {
        let value = format!("{n} {}", "x".repeat(300));
        engine.commit(commit([0, 1].map(|partition| write(at(1, partition), &[&value])))).await.unwrap();
    }
    engine.close().await;
    drop(engine);
    let engine = open(&disk);
    for n in 0..5 {
        engine.commit(commit([write(at(1, 0), &[&format!("late {n}")])])).await.unwrap();
    }
    drop(engine);
    disk
}

#[tokio::test]
async fn a_store_that_nobody_harmed_is_sound_and_listed_with_what_is_in_the_log() {
    let disk = example().await;
    let verified = store(&disk).verify(|_| {}).unwrap();
    assert!(verified.is_sound(), "{:?}", verified.findings);
    assert!(verified.segments > 4 && verified.indexes > 2 && verified.groups > 0, "{verified:?}");
    assert_eq!(verified.batches, 80);
    let partitions = store(&disk).partitions().unwrap();
    let ends: Vec<_> = partitions.iter().map(|p| (p.at, p.start, p.end, p.log_bytes > 0)).collect();
    assert_eq!(ends, [(at(1, 0), Offset(0), Offset(45), true), (at(1, 1), Offset(0), Offset(40), false)]);
}

#[tokio::test]
async fn batches_come_out_of_segments_and_log_in_order() {
    let disk = example().await;
    let mut found = Vec::new();
    let each = |batch: crate::broker::record::RecordBatch| {
        found.push(batch.base_offset().0);
        std::ops::ControlFlow::Continue(())
    };
    store(&disk).batches(at(1, 0), Offset(37), 100, each).unwrap();
    assert_eq!(found, (37..45).collect::<Vec<_>>());
    let missing = store(&disk).batches(at(9, 0), Offset(0), 1, |_| std::ops::ControlFlow::Break(()));
    assert!(matches!(missing, Err(InspectError::UnknownPartition)));
    let (frames, lost) = store(&disk).frames(0, 3).unwrap();
    assert_eq!((frames.len(), lost.0.len()), (3, 0));
    assert!(frames.windows(2).all(|pair| pair[1].lsn == pair[0].lsn + 1));
}

#[tokio::test]
async fn every_kind_of_changed_byte_is_found_and_named() {
    let clean = example().await;
    let logs: Vec<_> = clean.paths("seg/00/").into_iter().filter(|path| path.ends_with(".log")).collect();
    let (sealed, growing) = (logs[1].clone(), logs.last().unwrap().clone());
    // What to change; whether the finding is one of records.
    for (path, byte) in [(&sealed, 100), (&sealed, 16), (&growing, 70), (&growing, 9)] {
        let disk = clean.power_cycled(Loss::Nothing);
        disk.edit(path, |bytes| bytes[byte] ^= 1);
        let found = store(&disk).verify(|_| {}).unwrap().findings;
        let [Finding::Records { at: partition, file, byte: 0, .. }] = &found[..] else { panic!("{found:?}") };
        assert_eq!((partition, file), (&at(1, 0), path));
    }
    // The first bytes of a batch are not under its checksum; the index has one that they are under.
    let disk = clean.power_cycled(Loss::Nothing);
    disk.edit(&sealed, |bytes| bytes[13] ^= 1);
    let found = store(&disk).verify(|_| {}).unwrap().findings;
    assert!(matches!(&found[..], [Finding::Index { byte: 0, .. }]), "{found:?}");

    let disk = clean.power_cycled(Loss::Nothing);
    crate::broker::disk::Disk::remove(&disk, &growing).unwrap();
    let found = store(&disk).verify(|_| {}).unwrap().findings;
    assert!(matches!(&found[..], [Finding::Records { to: Offset(40), .. }]), "{found:?}");

    let disk = clean.power_cycled(Loss::Nothing);
    disk.edit("meta/manifest", |bytes| bytes[40] ^= 1);
    assert!(matches!(Store::on(Arc::new(disk), false).err(), Some(InspectError::ManifestDamaged)));
}

#[tokio::test]
async fn damage_in_the_log_is_found_behind_other_damage_and_an_index_is_no_loss() {
    let disk = example().await;
    let (frames, _) = store(&disk).frames(0, 100).unwrap();
    let full: Vec<_> = frames.iter().filter(|frame| !frame.entries.is_empty()).map(|frame| frame.lsn).collect();
    let path =
        disk.paths("wal/").into_iter().find(|path| path.contains(&format!("{:016}", frames[0].segment))).unwrap();
    let places: Vec<_> = (4096..disk.read(&path).len()).step_by(4096).collect();
    for lsn in [full[0], full[2]] {
        disk.edit(&path, |bytes| {
            let is_it =
                |at: &&usize| bytes[**at..].starts_with(b"WGRP") && bytes[**at + 16..**at + 24] == lsn.to_le_bytes();
            let at = *places.iter().find(is_it).unwrap();
            bytes[at + 70] ^= 1;
        });
    }
    for index in disk.paths("seg/").into_iter().filter(|path| path.ends_with(".idx")) {
        disk.edit(&index, |bytes| bytes.truncate(9));
    }
    let verified = store(&disk).verify(|_| {}).unwrap();
    let lost: Vec<_> = verified.findings.iter().map(ToString::to_string).collect();
    assert_eq!(lost.len(), 2, "{lost:?}");
    assert!(
        lost[0].contains(&format!("groups {} cannot", full[0])) && lost[1].contains(&full[2].to_string()),
        "{lost:?}"
    );
    assert!(verified.indexes_to_make > 2);
    let refused = store(&disk).copy_to(&SimDisk::new(), |_| {});
    assert!(matches!(refused, Err(InspectError::LogDamaged(lsn)) if lsn == full[0]), "{refused:?}");
}

/// Writers, and a topic that comes and goes, so that files of the log are used again and segments vanish.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_busy_store_is_sound_and_its_copy_holds_everything_acknowledged_before_it_began() {
    let disk = SimDisk::new();
    let engine = Arc::new(open(&disk));
    engine.ensure_topic(&TopicSpec::new(topic(1), 2)).await.unwrap();
    let (acknowledged, stop) = (Arc::new([AtomicI64::new(0), AtomicI64::new(0)]), Arc::new(AtomicBool::new(false)));
    let mut writers = Vec::new();
    for partition in [0, 1] {
        let (engine, acknowledged, stop) = (Arc::clone(&engine), Arc::clone(&acknowledged), Arc::clone(&stop));
        writers.push(tokio::spawn(async move {
            let (value, mut pace) = ("x".repeat(200), tokio::time::interval(PACE));
            while !stop.load(Ordering::SeqCst) {
                pace.tick().await;
                let ack = engine.commit(commit([write(at(1, partition), &[&value, "b"])])).await.unwrap();
                let done = &acknowledged[usize::try_from(partition).unwrap()];
                done.store(ack.appended[0].first.0 + 2, Ordering::SeqCst);
            }
        }));
    }
    let (other, done) = (Arc::clone(&engine), Arc::clone(&stop));
    writers.push(tokio::spawn(async move {
        let mut pace = tokio::time::interval(PACE);
        for n in 2.. {
            if done.load(Ordering::SeqCst) {
                break;
            }
            other.ensure_topic(&TopicSpec::new(topic(n), 1)).await.unwrap();
            for _ in 0..20 {
                pace.tick().await;
                other.commit(commit([write(at(n, 0), &[&"y".repeat(500)])])).await.unwrap();
            }
            other.delete_topic(topic(n)).await.unwrap();
        }
    }));
    while acknowledged.iter().any(|a| a.load(Ordering::SeqCst) < 200) {
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        let before = [0, 1].map(|n: usize| acknowledged[n].load(Ordering::SeqCst));
        let seen = disk.clone();
        let (verified, copied, copy) = tokio::task::spawn_blocking(move || {
            let copy = SimDisk::new();
            let copied = store(&seen).copy_to(&copy, |_| {});
            (store(&seen).verify(|_| {}), copied, copy)
        })
        .await
        .unwrap();
        let verified = verified.unwrap();
        assert!(verified.is_sound(), "{:?}", verified.findings);
        copied.unwrap();
        let verified = store(&copy).verify(|_| {}).unwrap();
        assert!(verified.is_sound() && !verified.torn_tail, "{verified:?}");
        let restored = open(&copy);
        for partition in [0, 1] {
            let found = read_all(&restored, at(1, partition)).await.unwrap().len();
            let least = before[usize::try_from(partition).unwrap()];
            assert!(i64::try_from(found).unwrap() >= least, "{found} of {least}");
        }
        drop(restored);
    }
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(disk.paths("wal/").len() < 12, "the log was used again");
}
