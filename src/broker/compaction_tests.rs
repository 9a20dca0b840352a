//! Passes over batches against the simplest model of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::broker::record::{Record, ValueKind};

const DAY: Duration = Duration::from_hours(24);

type Kv = (Option<u8>, Option<u8>);

fn record((key, value): Kv) -> Record {
    let bytes = |b: u8| Bytes::from(format!("{b}"));
    Record { key: key.map(bytes), value: value.map(bytes), ..Record::default() }
}

fn log(batches: &[Vec<Kv>]) -> Vec<RecordBatch> {
    let mut next = Offset(0);
    let build = |records: &Vec<Kv>| {
        let records: Vec<_> = records.iter().copied().map(record).collect();
        let batch = RecordBatch::build(&records, ValueKind::Bytes, Timestamp(0)).unwrap().with_base_offset(next);
        next = batch.next_offset();
        batch
    };
    batches.iter().map(build).collect()
}

fn contents(log: &[RecordBatch]) -> Vec<(i64, Kv)> {
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().parse().unwrap();
    let records = log.iter().flat_map(RecordBatch::records);
    records.map(|r| (r.offset.0, (r.key.map(number), r.value.map(number)))).collect()
}

/// One pass over everything, the keys from `clean_to` on in the map. How far it reached.
fn pass(log: &mut Vec<RecordBatch>, clean_to: Offset, now: i64, map_bytes: usize) -> Offset {
    let mut map = OffsetMap::new(1000, map_bytes);
    let mut reach = clean_to;
    for batch in log.iter().filter(|batch| batch.next_offset() > clean_to) {
        reach = note(&mut map, batch, clean_to);
        if reach < batch.next_offset() {
            break;
        }
    }
    let pass = Pass { map: &map, reach, now: Timestamp(now), delete_retention: DAY };
    let clean = |batch: &RecordBatch| match pass.clean(batch) {
        Left::Whole => Some(batch.clone()),
        Left::Changed(changed) => Some(changed),
        Left::Nothing => None,
    };
    *log = log.iter().filter_map(clean).collect();
    reach
}

const ROOM: usize = 1 << 20;

#[test]
fn the_last_record_of_every_key_stays_where_it_was() {
    let mut log = log(&[vec![(Some(1), Some(1)), (Some(2), Some(2))], vec![(Some(1), Some(3)), (Some(3), Some(4))]]);
    assert_eq!(pass(&mut log, Offset(0), 0, ROOM), Offset(4));
    assert_eq!(contents(&log), [(1, (Some(2), Some(2))), (2, (Some(1), Some(3))), (3, (Some(3), Some(4)))]);
    assert_eq!((log[0].base_offset(), log[0].last_offset()), (Offset(0), Offset(1)));
}

#[test]
fn records_without_a_key_stay() {
    let mut log = log(&[vec![(None, Some(1)), (None, None)], vec![(None, Some(1))]]);
    let before = log.clone();
    pass(&mut log, Offset(0), 0, ROOM);
    assert_eq!(log, before);
}

#[test]
fn a_batch_of_which_nothing_goes_keeps_its_bytes() {
    let mut log = log(&[vec![(Some(1), Some(1)), (Some(2), Some(2))]]);
    let before = log.clone();
    pass(&mut log, Offset(0), 0, ROOM);
    assert_eq!(log, before);
}

#[test]
fn a_tombstone_stays_for_the_delete_retention_after_the_first_pass_that_saw_it() {
    let day = i64::try_from(DAY.as_millis()).unwrap();
    let mut log = log(&[vec![(Some(1), Some(1)), (Some(1), None), (Some(2), Some(2))]]);
    let seen_at = 50 * day; // long after it was written
    let clean_to = pass(&mut log, Offset(0), seen_at, ROOM);
    assert_eq!(contents(&log), [(1, (Some(1), None)), (2, (Some(2), Some(2)))]);
    assert_eq!(due(&log[0]), Some(Timestamp(seen_at + day)));
    pass(&mut log, clean_to, seen_at + day - 1, ROOM);
    assert_eq!(contents(&log).len(), 2, "not yet");
    pass(&mut log, clean_to, seen_at + day, ROOM);
    assert_eq!(contents(&log), [(2, (Some(2), Some(2)))]);
    assert_eq!(due(&log[0]), None);
}

#[test]
fn a_later_value_takes_a_tombstone_away_at_once() {
    let mut log = log(&[vec![(Some(1), None)], vec![(Some(1), Some(5))]]);
    pass(&mut log, Offset(0), 0, ROOM);
    assert_eq!(contents(&log), [(1, (Some(1), Some(5)))]);
}

#[test]
fn a_map_that_is_too_small_cleans_up_to_where_it_is_full_and_goes_on_from_there() {
    let mut log = log(&[(0..200).map(|key| (Some(key % 100), Some(1))).collect()]);
    let all = contents(&log);
    let mut clean_to = Offset(0);
    let mut passes = 0;
    while clean_to < Offset(200) {
        let reach = pass(&mut log, clean_to, 0, 32 * SLOT_BYTES);
        assert!(reach > clean_to, "a pass gets somewhere");
        clean_to = reach;
        passes += 1;
    }
    assert!(passes > 4);
    assert_eq!(contents(&log), all[100..]);
}

#[test]
fn the_map_keeps_to_its_budget() {
    let map = OffsetMap::new(u64::MAX, 100_000);
    assert!(map.slots.capacity() * SLOT_BYTES <= 100_000);
    assert!(OffsetMap::new(10, 64 << 20).slots.capacity() < 100, "few keys take little");
}

fn batches() -> impl Strategy<Value = Vec<Vec<Kv>>> {
    let key = prop_oneof![1 => Just(None), 9 => (0..6_u8).prop_map(Some)];
    let value = prop_oneof![1 => Just(None), 3 => any::<u8>().prop_map(Some)];
    prop::collection::vec(prop::collection::vec((key, value), 1..6), 1..12)
}

/// What is left of records after a pass: per record also when its horizon is, if a pass has seen it.
fn model(records: &mut BTreeMap<i64, (Kv, Option<i64>)>, reach: i64, now: i64, whole: impl Fn(i64) -> bool) {
    let day = i64::try_from(DAY.as_millis()).unwrap();
    let mut last = BTreeMap::new();
    for (offset, ((key, _), _)) in records.range(..reach) {
        last.extend(key.map(|key| (key, *offset)));
    }
    records.retain(|offset, ((key, value), horizon)| match key {
        Some(key) if *offset < reach => {
            let is_last = last[key] == *offset;
            let expired = value.is_none() && horizon.is_some_and(|horizon| horizon <= now);
            is_last && !expired
        }
        _ => true,
    });
    for (offset, ((key, value), horizon)) in records.iter_mut() {
        if *offset < reach && key.is_some() && value.is_none() && horizon.is_none() && whole(*offset) {
            *horizon = Some(now + day);
        }
    }
}

proptest! {
    #[test]
    fn passes_do_what_the_simplest_model_does(
        batches in batches(),
        steps in prop::collection::vec((1..60_usize, 0..30_i64), 1..6),
    ) {
        let hour = 3_600_000;
        let mut log = log(&batches);
        let bounds: Vec<_> = log.iter().map(|b| (b.base_offset().0, b.last_offset().0)).collect();
        let mut expected: BTreeMap<i64, (Kv, Option<i64>)> =
            contents(&log).into_iter().map(|(offset, kv)| (offset, (kv, None))).collect();
        let (mut clean_to, mut now) = (Offset(0), 0);
        for (slots, hours) in steps {
            now += hours * hour;
            clean_to = pass(&mut log, clean_to, now, slots * SLOT_BYTES);
            // A horizon is a batch's: it is set when the batch was seen whole, with the first tombstone that stays.
            let batch_of = |offset: i64| *bounds.iter().find(|(first, last)| (*first..=*last).contains(&offset)).unwrap();
            let known: BTreeMap<_, _> =
                expected.iter().filter_map(|(o, (_, horizon))| Some((batch_of(*o), (*horizon)?))).collect();
            for (offset, ((key, value), horizon)) in &mut expected {
                if key.is_some() && value.is_none() {
                    *horizon = known.get(&batch_of(*offset)).copied().or(*horizon);
                }
            }
            model(&mut expected, clean_to.0, now, |offset| batch_of(offset).1 < clean_to.0);
            let left: Vec<_> = expected.iter().map(|(offset, (kv, _))| (*offset, *kv)).collect();
            prop_assert_eq!(contents(&log), left);
            for batch in &log {
                prop_assert!(bounds.contains(&(batch.base_offset().0, batch.last_offset().0)));
            }
        }
    }
}
