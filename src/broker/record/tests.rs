//! Batches against bytes that Kafka's own tools made, against themselves, and against nonsense.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::{CHUNK_BYTES_MAX, Record, ValueKind, split_into_batches};
use super::*;

/// Made by Apache Kafka 1.0 for kafka-python's test/record/test_records.py: one record, value "123".
const FROM_KAFKA: &[u8] = b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00;\x00\x00\x00\x01\x02\x03\x18\xa2p\x00\x00\x00\x00\x00\x00\x00\x00\x01]\xff{\x06<\x00\x00\x01]\xff{\x06<\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x01\x12\x00\x00\x00\x01\x06123\x00";

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn record(key: Option<&str>, value: Option<&str>) -> Record {
    Record {
        key: key.map(|k| Bytes::copy_from_slice(k.as_bytes())),
        value: value.map(|v| Bytes::copy_from_slice(v.as_bytes())),
        ..Record::default()
    }
}

fn bytes_of(batch: &RecordBatch) -> Vec<u8> {
    let mut out = Vec::new();
    batch.write_to(&mut out);
    out
}

fn back(batch: &RecordBatch) -> Vec<Record> {
    let own = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    batch
        .records()
        .map(|view| Record {
            key: view.key.map(own),
            value: view.value.map(own),
            headers: view.headers.map(|(name, value)| (name.to_owned(), value.map(own))).collect(),
            timestamp: Some(view.timestamp),
        })
        .collect()
}

fn reseal(mut bytes: Vec<u8>) -> Bytes {
    let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
    put(&mut bytes, CRC_AT, crc.to_be_bytes());
    Bytes::from(bytes)
}

#[test]
fn a_batch_made_by_kafka_is_read() {
    let batch = RecordBatch::parse(Bytes::from_static(FROM_KAFKA), BatchLimits::default()).unwrap();
    let records: Vec<_> = batch.records().collect();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].value, Some(&b"123"[..]));
    assert_eq!(records[0].key, None);
    assert_eq!(batch.max_timestamp(), records[0].timestamp);
}

#[test]
fn our_bytes_are_kafkas_but_for_the_leader_epoch() {
    let timestamp = RecordBatch::parse(Bytes::from_static(FROM_KAFKA), BatchLimits::default()).unwrap().max_timestamp();
    let mut ours = bytes_of(&RecordBatch::build(&[record(None, Some("123"))], ValueKind::Bytes, timestamp).unwrap());
    ours[15] = 1; // Kafka's broker had leader epoch 1
    assert_eq!(ours, FROM_KAFKA);
}

#[test]
fn the_value_kind_survives_and_is_refused_from_outside() {
    let batch = RecordBatch::build(&[record(None, Some("{}"))], ValueKind::Json, NOW).unwrap();
    assert_eq!(batch.value_kind(), ValueKind::Json);
    let bytes = Bytes::from(bytes_of(&batch));
    assert_eq!(RecordBatch::stored(bytes.clone()).unwrap().value_kind(), ValueKind::Json);
    assert_eq!(RecordBatch::parse(bytes, BatchLimits::default()), Err(BatchError::Attributes(0x80)));
}

#[test]
fn a_new_base_offset_moves_every_record_and_keeps_the_checksum() {
    let batch = RecordBatch::build(&[record(None, Some("a")), record(None, None)], ValueKind::Bytes, NOW).unwrap();
    let moved = batch.with_base_offset(Offset(40));
    assert_eq!(moved.records().map(|r| r.offset.0).collect::<Vec<_>>(), [40, 41]);
    assert_eq!((moved.last_offset(), moved.next_offset()), (Offset(41), Offset(42)));
    let read = RecordBatch::parse(Bytes::from(bytes_of(&moved)), BatchLimits::default()).unwrap();
    assert_eq!(read, moved);
}

#[test]
fn records_without_a_timestamp_get_the_time_of_acceptance() {
    let mut old = record(None, Some("old"));
    old.timestamp = Some(Timestamp(5));
    let batch = RecordBatch::build(&[old, record(None, Some("new"))], ValueKind::Bytes, NOW).unwrap();
    assert_eq!(batch.records().map(|r| r.timestamp).collect::<Vec<_>>(), [Timestamp(5), NOW]);
    assert_eq!(batch.max_timestamp(), NOW);
}

#[test]
fn every_flipped_bit_after_the_leader_epoch_is_noticed() {
    let batch = RecordBatch::build(&[record(Some("k"), Some("v")), record(None, None)], ValueKind::Bytes, NOW).unwrap();
    let good = bytes_of(&batch);
    for at in (LENGTH_AT..LENGTH_COUNTS_FROM).chain(MAGIC_AT..good.len()) {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert!(RecordBatch::stored(Bytes::from(bad)).is_err(), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn each_lie_in_a_well_checksummed_batch_has_its_error() {
    let batch = RecordBatch::build(&[record(Some("k"), Some("v")), record(None, None)], ValueKind::Bytes, NOW).unwrap();
    let lie = |at: usize, to: u8| {
        let mut bytes = bytes_of(&batch);
        bytes[at] = to;
        RecordBatch::parse(reseal(bytes), BatchLimits::default()).err()
    };
    assert_eq!(lie(COUNT_AT + 3, 3), Some(BatchError::Count));
    assert_eq!(lie(COUNT_AT + 3, 0), Some(BatchError::Count));
    assert_eq!(lie(LAST_OFFSET_DELTA_AT + 3, 7), Some(BatchError::Count));
    assert_eq!(lie(ATTRIBUTES_AT + 1, 1), Some(BatchError::Attributes(1)));
    assert_eq!(lie(MAX_TIMESTAMP_AT + 7, 0xff), Some(BatchError::MaxTimestamp));
    assert_eq!(lie(HEADER_BYTES, 0x7f), Some(BatchError::Record { index: 0 }));
    assert_eq!(lie(HEADER_BYTES + 3, 0x02), Some(BatchError::Record { index: 0 }), "offset delta 1 for record 0");
    assert_eq!(lie(MAGIC_AT, 1), Some(BatchError::Magic(1)));
}

#[test]
fn limits_hold_before_records_are_decoded() {
    let batch = RecordBatch::build(&[record(None, Some("a")), record(None, None)], ValueKind::Bytes, NOW).unwrap();
    let bytes = Bytes::from(bytes_of(&batch));
    let limit = |bytes_max, records_max| RecordBatch::parse(bytes.clone(), BatchLimits { bytes_max, records_max });
    assert_eq!(limit(10, 10), Err(BatchError::TooLarge));
    assert_eq!(limit(1000, 1), Err(BatchError::TooLarge));
    assert!(limit(1000, 2).is_ok());
}

#[test]
fn splitting_keeps_order_and_the_chunk_size() {
    let records: Vec<_> = (0..1000).map(|i| record(None, Some(&format!("{i:0>500}")))).collect();
    let batches = split_into_batches(&records, ValueKind::Bytes, NOW).unwrap();
    assert!(batches.len() > 5);
    assert!(batches.iter().all(|b| b.len() <= CHUNK_BYTES_MAX));
    assert!(batches[..batches.len() - 1].iter().all(|b| b.len() > CHUNK_BYTES_MAX - 600), "chunks are filled");
    let values: Vec<_> = batches.iter().flat_map(|b| back(b).into_iter().map(|r| r.value)).collect();
    assert_eq!(values, records.into_iter().map(|r| r.value).collect::<Vec<_>>());
}

#[test]
fn a_record_larger_than_a_chunk_travels_alone() {
    let big = "x".repeat(CHUNK_BYTES_MAX + 1);
    let records = [record(None, Some("a")), record(None, Some(&big)), record(None, Some("b"))];
    let batches = split_into_batches(&records, ValueKind::Bytes, NOW).unwrap();
    assert_eq!(batches.iter().map(RecordBatch::count).collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(split_into_batches(&[], ValueKind::Bytes, NOW).unwrap(), []);
}

#[test]
fn nothing_and_too_much_are_refused() {
    use super::super::{BATCH_BYTES_MAX, BuildError};
    assert_eq!(RecordBatch::build(&[], ValueKind::Bytes, NOW), Err(BuildError::Empty));
    let huge = Record { value: Some(Bytes::from(vec![0; BATCH_BYTES_MAX])), ..Record::default() };
    assert_eq!(
        RecordBatch::build(&[huge], ValueKind::Bytes, NOW),
        Err(BuildError::TooLarge { limit: BATCH_BYTES_MAX })
    );
}

fn any_bytes() -> impl Strategy<Value = Option<Bytes>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from))
}

fn any_record() -> impl Strategy<Value = Record> {
    let headers = proptest::collection::vec(("\\PC{0,12}", any_bytes()), 0..4);
    (any_bytes(), any_bytes(), headers, any::<i64>()).prop_map(|(key, value, headers, timestamp)| Record {
        key,
        value,
        headers,
        timestamp: Some(Timestamp(timestamp)),
    })
}

proptest! {
    #[test]
    fn what_is_built_is_read_back(records in proptest::collection::vec(any_record(), 1..20), base in 0..i64::MAX / 2) {
        let built = RecordBatch::build(&records, ValueKind::Bytes, NOW).unwrap().with_base_offset(Offset(base));
        let parsed = RecordBatch::parse(Bytes::from(bytes_of(&built)), BatchLimits::default()).unwrap();
        prop_assert_eq!(parsed.base_offset(), Offset(base));
        prop_assert_eq!(back(&parsed), records);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        drop(RecordBatch::parse(Bytes::from(bytes), BatchLimits::default()));
    }

    #[test]
    fn arbitrary_records_in_a_true_frame_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300), count in 0..40_usize) {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes.extend_from_slice(&body);
        seal(&mut bytes, ValueKind::Bytes, count.max(1), NOW, NOW);
        let stored = RecordBatch::stored(Bytes::from(bytes.clone())).unwrap();
        for view in stored.records() {
            prop_assert!(view.headers.count() <= body.len());
        }
        drop(RecordBatch::parse(Bytes::from(bytes), BatchLimits::default()));
    }
}
