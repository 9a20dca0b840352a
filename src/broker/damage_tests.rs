//! Bytes that change behind the engine's back: what was torn is dropped, what has rotted is refused and named.

use std::sync::Arc;

use super::conformance::{commit, write};
use super::crash_tests::{at, clock, read_all, tiny, topic};
use super::disk::sim::{Loss as Lost, SimDisk};
use super::embedded::{DamageReport, EmbeddedEngine, EngineConfig, Groups, Loss, OpenError, RecoveryReport};
use super::engine::{AdminError, Engine, FetchError, TopicSpec};
use crate::names::Offset;

const BLOCK: usize = 4096;

fn try_open(disk: &SimDisk, config: EngineConfig) -> Result<(EmbeddedEngine, RecoveryReport), OpenError> {
    EmbeddedEngine::open_on(Arc::new(disk.clone()), config, clock())
}

fn open(disk: &SimDisk) -> EmbeddedEngine {
    try_open(disk, tiny()).unwrap().0
}

/// A disk whose log holds `frames` commits of one record each, not yet in segments; the power was cut after the last.
async fn log_of(frames: usize) -> (SimDisk, String) {
    let disk = SimDisk::new();
    let engine = open(&disk);
    engine.ensure_topic(&TopicSpec::new(topic(1), 1)).await.unwrap();
    for n in 0..frames {
        engine.commit(commit([write(at(1, 0), &[&format!("{n}")])])).await.unwrap();
    }
    let survived = disk.power_cycled(Lost::Everything);
    let path = survived.paths("wal/").remove(0);
    (survived, path)
}

/// Where frame `n` of [`log_of`] lies: after the header and the frame that made the topic. Marks are not synced, so they
/// are not there unless a later frame is.
fn frames(bytes: &[u8]) -> Vec<usize> {
    (BLOCK..bytes.len()).step_by(BLOCK).filter(|&at| bytes[at..].starts_with(b"WGRP")).collect()
}

/// Those that are not marks.
fn full_frames(bytes: &[u8]) -> Vec<usize> {
    frames(bytes).into_iter().filter(|at| bytes[at + 36..at + 40] != [0; 4]).collect()
}

#[tokio::test]
async fn a_last_frame_that_is_there_in_part_is_dropped() {
    let (disk, path) = log_of(5).await;
    let last = *frames(&disk.read(&path)).last().unwrap();
    disk.edit(&path, |bytes| bytes[last + 70..last + BLOCK].fill(0));
    let (engine, report) = try_open(&disk, tiny()).unwrap();
    assert!(report.torn_tail);
    assert_eq!(read_all(&engine, at(1, 0)).await.unwrap(), ["0", "1", "2", "3"]);
    let ack = engine.commit(commit([write(at(1, 0), &["again"])])).await.unwrap();
    assert_eq!(ack.appended[0].first, Offset(4));
}

#[tokio::test]
async fn a_flipped_bit_in_an_acknowledged_frame_refuses_the_start_and_names_what_is_missing() {
    let (clean, path) = log_of(6).await;
    let bytes = clean.read(&path);
    let places = full_frames(&bytes);
    // A frame in the middle that holds a record.
    let damaged = places[3];
    let lsn = u64::from_le_bytes(bytes[damaged + 16..damaged + 24].try_into().unwrap());
    for offset_in_frame in [0, 9, 17, 33, 53, 61, 70, 100] {
        let disk = clean.power_cycled(Lost::Everything);
        disk.edit(&path, |bytes| bytes[damaged + offset_in_frame] ^= 4);
        let error = try_open(&disk, tiny()).err().expect("damage is not silently cut off");
        let OpenError::Damaged(report) = &error else { panic!("{error}") };
        let [place] = &report.places[..] else { panic!("{error}") };
        assert_eq!((&place.file, place.at), (&path, damaged as u64));
        assert_eq!(place.groups, Groups { first: lsn, last: Some(lsn) });
        let [missing] = &report.missing[..] else { panic!("{error}") };
        assert_eq!((missing.at, missing.to), (at(1, 0), Offset(missing.from.0 + 1)), "{error}");
        assert_eq!(disk.read(&place.quarantined), disk.read(&path)[damaged..damaged + BLOCK]);
        assert!(error.to_string().contains(&format!("--accept-loss {lsn}")), "{error}");
        assert!(error.to_string().contains(&format!("topic {} partition 0", topic(1))), "{error}");
    }
}

/// What a start of this disk is refused for.
fn refusal(disk: &SimDisk, config: EngineConfig) -> DamageReport {
    match try_open(disk, config).err() {
        Some(OpenError::Damaged(report)) => *report,
        other => panic!("{other:?}"),
    }
}

fn accepting(loss: Loss) -> EngineConfig {
    EngineConfig { accept_loss: Some(loss), ..tiny() }
}

/// Offsets and values from the start on, over gaps.
async fn with_offsets(engine: &EmbeddedEngine) -> Vec<(i64, String)> {
    let (mut found, mut next) = (Vec::new(), Offset(0));
    loop {
        let fetched = engine.fetch(at(1, 0), next, 10_000).await.unwrap();
        let Some(last) = fetched.batches.last() else { return found };
        next = last.next_offset();
        for record in fetched.batches.iter().flat_map(super::record::RecordBatch::records) {
            found.push((record.offset.0, String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
        }
    }
}

#[tokio::test]
async fn a_start_without_what_is_lost_needs_its_exact_name_and_keeps_everything_else() {
    let (clean, path) = log_of(6).await;
    let places = full_frames(&clean.read(&path));
    assert_eq!(places.len(), 7, "the topic's creation and six records");
    // Of the last frame nobody knows that it was acknowledged; it has a test of its own.
    for lost in [vec![0], vec![2], vec![4], vec![0, 2, 4], vec![1, 2, 3]] {
        let disk = clean.power_cycled(Lost::Everything);
        let damage = |disk: &SimDisk, frame: usize| disk.edit(&path, |bytes| bytes[places[frame + 1] + 70] ^= 1);
        lost.iter().for_each(|frame| damage(&disk, *frame));
        let report = refusal(&disk, tiny());
        let missing: i64 = report.missing.iter().map(|missing| missing.to.0 - missing.from.0).sum();
        assert_eq!(missing, i64::try_from(lost.len()).unwrap(), "{report}");

        let other = Loss(vec![Groups { first: 999, last: Some(999) }]);
        assert_eq!(refusal(&disk, accepting(other)), report, "another loss does not start it");
        let mut more = report.loss();
        more.0[0].first -= 1;
        assert_eq!(refusal(&disk, accepting(more)), report, "nor does a larger one");
        let grown = clean.power_cycled(Lost::Everything);
        lost.iter().for_each(|frame| damage(&grown, *frame));
        damage(&grown, if lost.contains(&3) { 4 } else { 3 });
        assert_ne!(refusal(&grown, accepting(report.loss())), report, "nor the old one when the damage has grown");

        let (engine, opened) = try_open(&disk, accepting(report.loss())).unwrap();
        assert_eq!(opened.accepted.as_deref(), Some(&report));
        let kept = |n: &i64| !lost.contains(&usize::try_from(*n).unwrap());
        let expected: Vec<_> = (0..6).filter(kept).map(|n| (n, n.to_string())).collect();
        assert_eq!(with_offsets(&engine).await, expected);
        let ack = engine.commit(commit([write(at(1, 0), &["new"])])).await.unwrap();
        assert_eq!(ack.appended[0].first, Offset(6), "no offset is given twice");
        engine.close().await;
        drop(engine);
        let (engine, opened) = try_open(&disk, tiny()).unwrap();
        assert_eq!(opened.accepted, None, "the loss is accepted once");
        assert_eq!(with_offsets(&engine).await.len(), expected.len() + 1);
        for place in &report.places {
            assert!(!disk.read(&place.quarantined).is_empty(), "the bytes stay");
        }
    }
}

#[tokio::test]
async fn a_lost_creation_takes_its_records_along_and_says_so() {
    let (disk, path) = log_of(3).await;
    let creation = full_frames(&disk.read(&path))[0];
    disk.edit(&path, |bytes| bytes[creation + 70] ^= 1);
    let report = refusal(&disk, tiny());
    assert_eq!((report.missing.len(), report.unplaced), (0, 3), "{report}");
    let (engine, _) = try_open(&disk, accepting(report.loss())).unwrap();
    assert!(matches!(engine.bounds(at(1, 0)), Err(FetchError::UnknownPartition(_))));
    engine.ensure_topic(&TopicSpec::new(topic(1), 1)).await.unwrap();
    engine.commit(commit([write(at(1, 0), &["anew"])])).await.unwrap();
    assert_eq!(read_all(&engine, at(1, 0)).await.unwrap(), ["anew"]);
}

#[tokio::test]
async fn a_loss_that_is_not_there_is_no_reason_not_to_start() {
    let (disk, _) = log_of(3).await;
    let (engine, report) = try_open(&disk, accepting("17-19".parse().unwrap())).unwrap();
    assert_eq!(report.accepted, None);
    assert_eq!(read_all(&engine, at(1, 0)).await.unwrap(), ["0", "1", "2"]);
}

#[tokio::test]
async fn a_last_frame_that_rotted_after_an_idle_log_said_it_was_durable_is_damage() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    engine.ensure_topic(&TopicSpec::new(topic(1), 1)).await.unwrap();
    engine.commit(commit([write(at(1, 0), &["a"])])).await.unwrap();
    let path = disk.paths("wal/").remove(0);
    let written = frames(&disk.read(&path)).len();
    while frames(&disk.read(&path)).len() == written {
        tokio::task::yield_now().await; // the mark comes when the log has been idle for a while
    }
    let marked = *frames(&disk.read(&path)).last().unwrap();
    // Power off with the mark written out, as the kernel does within seconds.
    let image = disk.read(&path);
    let survived = disk.power_cycled(Lost::Everything);
    survived.edit(&path, |bytes| {
        *bytes = image;
        bytes[marked - BLOCK + 70] ^= 1;
    });
    let error = try_open(&survived, tiny()).err().expect("the last commit was acknowledged");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_mark_that_ends_a_segment_is_durable_before_the_log_goes_on_in_the_next_one() {
    for later in [1, 2] {
        let disk = SimDisk::new();
        let config = EngineConfig { checkpoint_bytes: 1 << 20, ..tiny() };
        let (engine, _) = try_open(&disk, config.clone()).unwrap();
        engine.ensure_topic(&TopicSpec::new(topic(1), 1)).await.unwrap();
        let path = disk.paths("wal/").remove(0);
        let marked = async |count| {
            while frames(&disk.read(&path)).len() < count {
                tokio::task::yield_now().await;
            }
        };
        // One block, two, and one, each with its mark: all that the segment has room for.
        marked(2).await;
        let mut expected = vec!["x".repeat(4500), "b".to_owned()];
        for (n, value) in expected.iter().enumerate() {
            engine.commit(commit([write(at(1, 0), &[value])])).await.unwrap();
            marked(4 + 2 * n).await;
        }
        assert_eq!(frames(&disk.read(&path)).last(), Some(&(disk.read(&path).len() - BLOCK)));
        for n in 0..later {
            expected.push(format!("later {n}"));
            engine.commit(commit([write(at(1, 0), &[&expected[2 + n]])])).await.unwrap();
        }
        let survived = disk.power_cycled(Lost::Everything);
        let (engine, _) = try_open(&survived, config).unwrap();
        assert_eq!(read_all(&engine, at(1, 0)).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_lost_segment_of_the_log_is_damage() {
    let (disk, path) = log_of(3).await;
    super::disk::Disk::remove(&disk, &path).unwrap();
    let error = try_open(&disk, tiny()).err().expect("the log is gone");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_damaged_or_missing_manifest_refuses_the_start() {
    let (first, _) = log_of(1).await;
    let (disk, other) = (first.power_cycled(Lost::Everything), first.power_cycled(Lost::Everything));
    disk.edit("meta/manifest", |bytes| bytes[30] ^= 1);
    assert!(matches!(try_open(&disk, tiny()).err(), Some(OpenError::ManifestDamaged)));
    super::disk::Disk::remove(&other, "meta/manifest").unwrap();
    assert!(matches!(try_open(&other, tiny()).err(), Some(OpenError::ManifestMissing)));
}

/// More data than memory keeps, in segments, cleanly closed.
async fn in_segments(records: usize) -> SimDisk {
    let disk = SimDisk::new();
    let engine = open(&disk);
    engine.ensure_topic(&TopicSpec::new(topic(1), 2)).await.unwrap();
    for n in 0..records {
        let value = format!("{n} {}", "x".repeat(300));
        let writes = [0, 1].map(|partition| write(at(1, partition), &[&value]));
        engine.commit(commit(writes)).await.unwrap();
    }
    engine.close().await;
    drop(engine);
    disk
}

#[tokio::test]
async fn damage_in_a_segment_is_an_error_of_its_offsets_only() {
    let disk = in_segments(40).await;
    let path = disk.paths("seg/00/").into_iter().find(|path| path.ends_with(".log")).unwrap();
    // The second batch of the first segment.
    let batch = super::conformance::batch(&[&format!("0 {}", "x".repeat(300))]).len();
    disk.edit(&path, |bytes| bytes[batch + 200] ^= 1);
    let engine = open(&disk);
    assert_eq!(engine.fetch(at(1, 0), Offset(0), 10_000).await.unwrap().batches.len(), 1, "what is before is served");
    let refused = engine.fetch(at(1, 0), Offset(1), 10_000).await.unwrap_err();
    assert_eq!(refused, FetchError::Damaged { at: Offset(1) });
    assert_eq!(read_all(&engine, at(1, 1)).await.unwrap().len(), 40, "other partitions go on");
    let ack = engine.commit(commit([write(at(1, 0), &["new"])])).await.unwrap();
    assert_eq!(engine.fetch(at(1, 0), ack.appended[0].first, 100).await.unwrap().batches.len(), 1);
}

#[tokio::test]
async fn damaged_and_missing_indexes_are_made_again() {
    let disk = in_segments(60).await;
    let indexes: Vec<_> = disk.paths("seg/").into_iter().filter(|path| path.ends_with(".idx")).collect();
    assert!(indexes.len() > 4);
    for (n, path) in indexes.iter().enumerate() {
        match n % 3 {
            0 => super::disk::Disk::remove(&disk, path).unwrap(),
            1 => disk.edit(path, |bytes| bytes[5] ^= 1),
            _ => disk.edit(path, |bytes| bytes.truncate(7)),
        }
    }
    let engine = open(&disk);
    assert_eq!(read_all(&engine, at(1, 0)).await.unwrap().len(), 60);
    assert_eq!(engine.fetch(at(1, 1), Offset(37), 1).await.unwrap().batches[0].base_offset(), Offset(37));
}

#[tokio::test]
async fn frames_left_over_in_recycled_segments_are_never_replayed() {
    let disk = in_segments(300).await;
    assert!(disk.paths("wal/").len() < 8, "segments are used again: {:?}", disk.paths("wal/"));
    // No checkpoint, so that there is something to replay.
    let (engine, _) = try_open(&disk, EngineConfig { checkpoint_bytes: 100 << 20, ..tiny() }).unwrap();
    for n in 0..20 {
        engine.commit(commit([write(at(1, 0), &[&format!("later {n}")])])).await.unwrap();
    }
    let survived = disk.power_cycled(Lost::Everything);
    let (engine, report) = try_open(&survived, tiny()).unwrap();
    assert_eq!(report.records_replayed, 20, "{report:?}");
    assert_eq!(read_all(&engine, at(1, 0)).await.unwrap().len(), 320);
    assert_eq!(read_all(&engine, at(1, 1)).await.unwrap().len(), 300);
}

#[tokio::test]
async fn segments_that_were_replayed_are_used_again_once() {
    let disk = SimDisk::new();
    // No checkpoint but those of the starts.
    let config = EngineConfig { checkpoint_bytes: 100 << 20, ..tiny() };
    let (engine, _) = try_open(&disk, config.clone()).unwrap();
    engine.ensure_topic(&TopicSpec::new(topic(1), 1)).await.unwrap();
    let value = "x".repeat(5000);
    let append = async |engine: &EmbeddedEngine, count| {
        for _ in 0..count {
            engine.commit(commit([write(at(1, 0), &[&value])])).await.unwrap();
        }
    };
    append(&engine, 15).await;
    let disk = disk.power_cycled(Lost::Everything);
    assert!(disk.paths("wal/").len() > 4);
    let (engine, _) = try_open(&disk, config.clone()).unwrap();
    append(&engine, 60).await;
    assert_eq!(engine.fault(), None);
    let (engine, _) = try_open(&disk.power_cycled(Lost::Everything), config).unwrap();
    assert_eq!(read_all(&engine, at(1, 0)).await.unwrap().len(), 75);
}

#[tokio::test]
async fn another_size_of_log_segments_may_be_configured_later() {
    let disk = in_segments(30).await;
    let larger = EngineConfig { wal_segment_bytes: 64 << 10, ..tiny() };
    let (engine, _) = try_open(&disk, larger).unwrap();
    for _ in 0..30 {
        engine.commit(commit([write(at(1, 0), &["x"])])).await.unwrap();
    }
    assert_eq!(read_all(&engine, at(1, 0)).await.unwrap().len(), 60);
}

#[tokio::test]
async fn many_partitions_are_replayed_and_too_many_for_a_frame_are_refused() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    let ensure =
        async |engine: &EmbeddedEngine, partitions| engine.ensure_topic(&TopicSpec::new(topic(1), partitions)).await;
    let Err(AdminError::TooManyPartitions { max }) = ensure(&engine, 1_000_000).await else { panic!("too many") };
    ensure(&engine, max).await.unwrap();
    engine.commit(commit([write(at(1, max - 1), &["last"])])).await.unwrap();
    let survived = disk.power_cycled(Lost::Everything);
    assert_eq!(read_all(&open(&survived), at(1, max - 1)).await.unwrap(), ["last"]);
}
