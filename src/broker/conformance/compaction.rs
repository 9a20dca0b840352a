//! The part of the contract that is about compacted topics.

use std::time::Duration;

use bytes::Bytes;

use super::{Fixture, commit};
use crate::broker::engine::{Engine, TopicSettings, TopicSpec, Write};
use crate::broker::record::{Record, RecordBatch, ValueKind};
use crate::clock::Timestamp;
use crate::names::{Offset, TopicId, TopicPartition};

const DELETE_RETENTION: Duration = Duration::from_hours(24);

/// A record's key and value.
pub(crate) type Kv<'a> = (Option<&'a str>, Option<&'a str>);

/// Offset, key and value.
pub(crate) type Found = (i64, Option<String>, Option<String>);

/// Engines may keep the newest records as they are, whatever their keys; this many bytes behind them are enough.
const FILLER_BYTES: usize = 200 << 10;
const FILLERS: i64 = 8;

pub(crate) fn compacted(id: TopicId, partitions: u32) -> TopicSpec {
    let settings = TopicSettings { compact: true, delete_retention: DELETE_RETENTION, ..TopicSettings::default() };
    TopicSpec { settings, ..TopicSpec::new(id, partitions) }
}

pub(crate) fn write_keyed(to: TopicPartition, records: &[Kv<'_>]) -> Write {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let record = |&(key, value): &Kv<'_>| Record { key: key.map(bytes), value: value.map(bytes), ..Record::default() };
    let records: Vec<_> = records.iter().map(record).collect();
    Write { to, batch: RecordBatch::build(&records, ValueKind::Bytes, Timestamp(0)).unwrap(), expect: None }
}

/// Every record that is left, read as a client reads: on from the last offset that was given.
pub(crate) async fn left(engine: &dyn Engine, at: TopicPartition) -> Result<Vec<Found>, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut found = Vec::new();
    let mut next = engine.bounds(at).map_err(|e| e.to_string())?.start;
    loop {
        let fetched = engine.fetch(at, next, 500).await.map_err(|e| format!("at {next}: {e}"))?;
        let records = fetched.batches.iter().flat_map(RecordBatch::records).filter(|r| r.offset >= next);
        let before = found.len();
        found.extend(records.map(|r| (r.offset.0, r.key.map(text), r.value.map(text))));
        let Some(last) = fetched.batches.last() else {
            let whole = next == fetched.bounds.end;
            return if whole { Ok(found) } else { Err(format!("nothing from {next} on, short of the end")) };
        };
        if found.len() == before {
            return Err(format!("a fetch from {next} gave batches but no record"));
        }
        next = last.next_offset();
    }
}

fn short(found: &[Found]) -> Vec<(i64, &str, Option<&str>)> {
    let small = found.iter().filter(|(_, key, _)| key.as_deref() != Some("filler"));
    small.map(|(offset, key, value)| (*offset, key.as_deref().unwrap_or("-"), value.as_deref())).collect()
}

impl Fixture {
    async fn compacted(&self) -> TopicPartition {
        let topic = TopicId::new();
        self.engine.ensure_topic(&compacted(topic, 1)).await.unwrap();
        TopicPartition { topic, partition: 0 }
    }

    async fn append_keyed(&self, to: TopicPartition, records: &[Kv<'_>]) {
        self.engine.commit(commit([write_keyed(to, records)])).await.unwrap();
    }

    /// Moves what is there away from the end, where an engine may leave it alone.
    async fn fill(&self, to: TopicPartition) {
        let value = "x".repeat(FILLER_BYTES);
        for _ in 0..FILLERS {
            self.append_keyed(to, &[(Some("filler"), Some(&value))]).await;
        }
    }

    /// Has the engine do its maintenance until this is what is left beside fillers.
    async fn comes_to(&self, at: TopicPartition, expected: &[(i64, &str, Option<&str>)]) {
        let mut last = Vec::new();
        let compacted = async {
            loop {
                self.engine.maintain().await.unwrap();
                last = left(&*self.engine, at).await.unwrap();
                if short(&last) == expected {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), compacted).await.is_err() {
            panic!("left {:?} instead of {expected:?}", short(&last));
        }
    }
}

pub(crate) async fn the_last_record_of_every_key_stays_where_it_was(f: Fixture) {
    let (at, other) = (f.compacted().await, f.partition().await);
    for to in [at, other] {
        f.append_keyed(to, &[(Some("a"), Some("1")), (Some("b"), Some("1")), (None, Some("no key"))]).await;
        f.append_keyed(to, &[(Some("a"), Some("2")), (Some("c"), Some("1"))]).await;
        f.append_keyed(to, &[(Some("b"), Some("2")), (Some("a"), Some("3"))]).await;
        f.fill(to).await;
    }
    let before = f.engine.stored_bytes(at.topic);
    let kept = [(2, "-", Some("no key")), (4, "c", Some("1")), (5, "b", Some("2")), (6, "a", Some("3"))];
    f.comes_to(at, &kept).await;
    assert!(f.engine.stored_bytes(at.topic) < before);
    assert_eq!(f.engine.bounds(at).unwrap().start, Offset(0), "the range is as it was");
    assert_eq!(f.engine.bounds(at).unwrap().end, Offset(7 + FILLERS));
    assert_eq!(left(&*f.engine, other).await.unwrap().len(), 7 + usize::try_from(FILLERS).unwrap());
    let ack = f.append(at, &["next"]).await;
    assert_eq!(ack.appended[0].first, Offset(7 + FILLERS));
}

pub(crate) async fn a_fetch_from_a_compacted_offset_begins_with_the_next_record(f: Fixture) {
    let at = f.compacted().await;
    for n in 0..20 {
        f.append_keyed(at, &[(Some("a"), Some("1")), (Some("b"), Some("1")), (Some(&format!("k{n}")), Some("1"))])
            .await;
    }
    f.fill(at).await;
    let one_each = (0..20).map(|n| (n * 3 + 2, format!("k{n}")));
    let mut kept: Vec<_> = one_each.collect();
    kept.insert(19, (57, "a".to_owned()));
    kept.insert(20, (58, "b".to_owned()));
    let kept: Vec<_> = kept.iter().map(|(offset, key)| (*offset, key.as_str(), Some("1"))).collect();
    f.comes_to(at, &kept).await;
    let all = left(&*f.engine, at).await.unwrap();
    for from in 0..f.engine.bounds(at).unwrap().end.0 {
        let fetched = f.engine.fetch(at, Offset(from), 1).await.unwrap();
        let first = fetched.batches.iter().flat_map(RecordBatch::records).find(|record| record.offset.0 >= from);
        let expected = all.iter().map(|(offset, ..)| *offset).find(|offset| *offset >= from);
        assert_eq!(first.map(|record| record.offset.0), expected, "from {from}");
    }
    assert_eq!(f.engine.offset_for_timestamp(at, Timestamp(i64::MIN)).await, Ok(Offset(2)));
}

pub(crate) async fn a_tombstone_stays_readable_for_the_delete_retention(f: Fixture) {
    let at = f.compacted().await;
    f.append_keyed(at, &[(Some("a"), Some("1")), (Some("b"), Some("1"))]).await;
    f.append_keyed(at, &[(Some("a"), None)]).await;
    f.fill(at).await;
    f.clock.advance(Duration::from_hours(100));
    f.comes_to(at, &[(1, "b", Some("1")), (2, "a", None)]).await;
    f.clock.advance(DELETE_RETENTION - Duration::from_millis(1));
    f.engine.maintain().await.unwrap();
    f.comes_to(at, &[(1, "b", Some("1")), (2, "a", None)]).await;
    f.clock.advance(Duration::from_millis(1));
    f.comes_to(at, &[(1, "b", Some("1"))]).await;
    f.append_keyed(at, &[(Some("a"), Some("back"))]).await;
    f.comes_to(at, &[(1, "b", Some("1")), (3 + FILLERS, "a", Some("back"))]).await;
}
