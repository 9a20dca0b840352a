//! Bytes that rot in sealed segments are found before anybody reads them, named, and never given out.

use std::sync::Arc;

use super::conformance::commit;
use super::conformance::compaction::{compacted, write_keyed};
use super::crash_tests::{at, clock, read_all, tiny, topic};
use super::disk::sim::SimDisk;
use super::disk::{Disk as _, Open};
use super::embedded::{EmbeddedEngine, EngineConfig};
use super::engine::{DamagedRange, Engine, FetchError, TopicSpec};
use crate::names::Offset;

const RECORDS: i64 = 60;

fn open(disk: &SimDisk) -> EmbeddedEngine {
    EmbeddedEngine::open_on(Arc::new(disk.clone()), tiny(), clock()).unwrap().0
}

/// Two partitions with a dozen sealed segments each; nothing of them is in memory.
async fn stored() -> SimDisk {
    let disk = SimDisk::new();
    let engine = open(&disk);
    engine.ensure_topic(&TopicSpec::new(topic(1), 2)).await.unwrap();
    for n in 0..RECORDS {
        let value = format!("{n} {}", "x".repeat(600));
        engine
            .commit(commit([0, 1].map(|partition| write_keyed(at(1, partition), &[(Some("k"), Some(&value))]))))
            .await
            .unwrap();
    }
    engine.close().await;
    drop(engine);
    // Indexes are not synced; the kernel writes them out within seconds.
    for path in files(&disk, "seg/", ".idx") {
        disk.edit(&path, |_| {});
    }
    ["seg/00", "seg/01"].iter().for_each(|dir| disk.sync_dir(dir).unwrap());
    disk
}

fn files(disk: &SimDisk, dir: &str, ending: &str) -> Vec<String> {
    disk.paths(dir).into_iter().filter(|path| path.ends_with(ending)).collect()
}

/// The offsets of the partition's second segment, as the names of the files tell.
fn second(disk: &SimDisk) -> (String, Offset, Offset) {
    let names = files(disk, "seg/00/", ".log");
    let base = |path: &str| Offset(path.split('-').nth(1).unwrap().parse().unwrap());
    (names[1].clone(), base(&names[1]), base(&names[2]))
}

#[tokio::test]
async fn sound_segments_are_found_sound_with_and_without_their_indexes() {
    let disk = stored().await;
    let indexes = files(&disk, "seg/00/", ".idx");
    disk.remove(&indexes[0]).unwrap();
    disk.edit(&indexes[1], |bytes| bytes[3] ^= 1);
    let engine = open(&disk);
    engine.scrub();
    let stats = engine.stats();
    assert_eq!(stats.damaged, []);
    let all: usize = files(&disk, "seg/", ".log").iter().map(|path| disk.read(path).len()).sum();
    let scrubbed = usize::try_from(stats.scrubbed_bytes).unwrap();
    assert!(scrubbed > all * 8 / 10, "{scrubbed} of {all}");
}

#[tokio::test]
async fn a_flipped_bit_anywhere_in_a_sealed_segment_is_found_and_named_and_others_go_on() {
    let clean = stored().await;
    let (path, from, to) = second(&clean);
    let len = clean.read(&path).len();
    for byte in (0..70).chain((70..len).step_by(331)) {
        let disk = clean.power_cycled(super::disk::sim::Loss::Everything);
        disk.edit(&path, |bytes| bytes[byte] ^= 0x20);
        let engine = open(&disk);
        engine.scrub();
        assert_eq!(engine.stats().damaged, [DamagedRange { at: at(1, 0), from, to }], "byte {byte}");
        assert_eq!(engine.fault(), None);
        // Nothing is given out that is not what was written.
        let mut next = Offset(0);
        let refused = loop {
            match engine.fetch(at(1, 0), next, 700).await {
                Ok(fetched) => {
                    for batch in &fetched.batches {
                        assert_eq!(batch.base_offset(), next, "byte {byte}");
                        let value = batch.records().next().unwrap().value.unwrap();
                        assert!(value.starts_with(format!("{next} ").as_bytes()), "byte {byte}");
                        next = batch.next_offset();
                    }
                }
                Err(refused) => break refused,
            }
            assert!(next < to, "byte {byte}: damage was passed over");
        };
        assert!(matches!(refused, FetchError::Damaged { .. }) && next >= from, "byte {byte}: {refused:?} at {next}");
        assert!(engine.fetch(at(1, 0), to, 1).await.is_ok(), "what is behind is served");
        assert_eq!(read_all(&engine, at(1, 1)).await.unwrap().len(), usize::try_from(RECORDS).unwrap());
    }
}

#[tokio::test]
async fn a_lost_file_is_damage_and_bytes_that_are_restored_are_not() {
    let disk = stored().await;
    let (path, from, to) = second(&disk);
    let bytes = disk.read(&path);
    disk.remove(&path).unwrap();
    let engine = open(&disk);
    engine.scrub();
    assert_eq!(engine.stats().damaged, [DamagedRange { at: at(1, 0), from, to }]);
    disk.open(&path, Open::Empty).unwrap().write_at(&bytes, 0).unwrap();
    engine.scrub();
    assert_eq!(engine.stats().damaged, []);
    assert_eq!(read_all(&engine, at(1, 0)).await.unwrap().len(), usize::try_from(RECORDS).unwrap());
}

#[tokio::test]
async fn damage_goes_with_its_topic_and_damaged_records_are_not_compacted_into_sound_ones() {
    let disk = stored().await;
    let (path, ..) = second(&disk);
    disk.edit(&path, |bytes| bytes[7] ^= 1); // the base offset, which no batch checksum covers
    let engine = open(&disk);
    engine.scrub();
    assert_eq!(engine.stats().damaged.len(), 1);
    engine.ensure_topic(&compacted(topic(1), 2)).await.unwrap();
    engine.maintain().await.unwrap();
    assert!(disk.paths("seg/00/").contains(&path));
    assert!(files(&disk, "seg/01/", ".log").iter().any(|path| path.contains("-0001.log")), "the other one is");
    engine.delete_topic(topic(1)).await.unwrap();
    assert_eq!(engine.stats().damaged, []);
}

#[tokio::test]
async fn the_scrub_thread_finds_damage_by_itself_at_its_rate() {
    let disk = stored().await;
    let (path, ..) = second(&disk);
    disk.edit(&path, |bytes| bytes[100] ^= 1);
    let config = EngineConfig { scrub_bytes_per_second: 1 << 20, ..tiny() };
    let (engine, _) = EmbeddedEngine::open_on(Arc::new(disk.clone()), config, clock()).unwrap();
    let found = async {
        while engine.stats().damaged.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), found).await.expect("the damage is found");
    engine.close().await;
}
