//! Small batches that are written together as one: the same records in the same order, with one header and one checksum.

use bytes::Bytes;

use super::batch::{self, HEADER_BYTES, RecordBatch};
use super::varint::{self, Reader};
use crate::clock::Timestamp;

/// Batches that are going to be one. Nothing is copied before [`Merge::finish`], and then each byte once.
#[derive(Debug)]
pub struct Merge {
    first: RecordBatch,
    more: Vec<RecordBatch>,
    /// Size of the result in bytes.
    len: usize,
    count: u32,
    max: Timestamp,
}

impl Merge {
    /// Begins with `first`, whose base offset the result has.
    #[must_use]
    pub fn new(first: RecordBatch) -> Self {
        let (len, count, max) = (first.len(), first.count(), first.max_timestamp());
        Self { first, more: Vec::new(), len, count, max }
    }

    /// Adds the batch that follows, or gives it back: if the result would have more than `bytes_max`, if the two differ in
    /// what their header says of every record, or if their records take more bytes together than apart.
    pub fn add(&mut self, batch: RecordBatch, bytes_max: usize) -> Result<(), RecordBatch> {
        match self.added_len(&batch) {
            Some(added) if self.len + added <= bytes_max => {
                self.len += added;
                self.count += batch.count();
                self.max = self.max.max(batch.max_timestamp());
                self.more.push(batch);
                Ok(())
            }
            _ => Err(batch),
        }
    }

    /// Bytes that the records of `batch` take behind those that are here already.
    fn added_len(&self, batch: &RecordBatch) -> Option<usize> {
        let alike = self.first.attributes() == batch.attributes();
        if !alike || !self.first.is_plain() || !batch.is_plain() {
            return None;
        }
        let (mut added, mut count) = (0, 0);
        for record in self.moved(batch, self.count) {
            added += record.len();
            count += 1;
        }
        // Deltas grow with the distance from the first record. A frame has room for what the batches take apart.
        (count == batch.count() && added <= batch.len()).then_some(added)
    }

    /// The records of `batch` as they are encoded behind `before` records.
    fn moved<'a>(&self, batch: &'a RecordBatch, before: u32) -> impl Iterator<Item = Moved<'a>> {
        let shift = batch.base_timestamp().0.wrapping_sub(self.first.base_timestamp().0);
        let mut reader = Reader::new(batch.encoded_records());
        std::iter::from_fn(move || Moved::read(&mut reader, shift, before))
    }

    /// The batch. One that nothing was added to is the very same.
    #[must_use]
    pub fn finish(self) -> RecordBatch {
        if self.more.is_empty() {
            return self.first;
        }
        let mut out = Vec::with_capacity(self.len);
        out.resize(HEADER_BYTES, 0);
        out.extend_from_slice(self.first.encoded_records());
        let mut before = self.first.count();
        for batch in &self.more {
            self.moved(batch, before).for_each(|record| record.put(&mut out));
            before += batch.count();
        }
        debug_assert_eq!((out.len(), before), (self.len, self.count));
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        batch::seal(&mut out, self.first.value_kind(), count, self.first.base_timestamp(), self.max);
        RecordBatch::sealed(Bytes::from(out)).with_base_offset(self.first.base_offset())
    }
}

/// A record at another distance from the first one of its batch.
struct Moved<'a> {
    attributes: u8,
    timestamp_delta: i64,
    offset_delta: i64,
    /// Key, value and headers, as they are.
    rest: &'a [u8],
}

impl<'a> Moved<'a> {
    /// `None` at the end, and at a record that cannot be decoded.
    fn read(reader: &mut Reader<'a>, shift: i64, before: u32) -> Option<Self> {
        let len = usize::try_from(reader.varint()?).ok()?;
        let mut body = Reader::new(reader.take(len)?);
        Some(Self {
            attributes: body.byte()?,
            timestamp_delta: body.varlong()?.wrapping_add(shift),
            offset_delta: i64::from(body.varint()?) + i64::from(before),
            rest: body.rest(),
        })
    }

    fn body_len(&self) -> usize {
        1 + varint::len(self.timestamp_delta) + varint::len(self.offset_delta) + self.rest.len()
    }

    fn len(&self) -> usize {
        varint::len(signed(self.body_len())) + self.body_len()
    }

    fn put(&self, out: &mut Vec<u8>) {
        varint::put(out, signed(self.body_len()));
        out.push(self.attributes);
        varint::put(out, self.timestamp_delta);
        varint::put(out, self.offset_delta);
        out.extend_from_slice(self.rest);
    }
}

fn signed(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{BatchLimits, Record, ValueKind};
    use super::*;
    use crate::names::Offset;

    fn batch(records: &[Record], kind: ValueKind) -> RecordBatch {
        RecordBatch::build(records, kind, Timestamp(1_000)).unwrap()
    }

    fn record(value: &str, at: i64) -> Record {
        let value = Some(Bytes::copy_from_slice(value.as_bytes()));
        Record { value, timestamp: Some(Timestamp(at)), ..Record::default() }
    }

    fn one(value: &str, at: i64) -> RecordBatch {
        batch(&[record(value, at)], ValueKind::Bytes)
    }

    fn bytes_of(batch: &RecordBatch) -> Bytes {
        let mut out = Vec::new();
        batch.write_to(&mut out);
        out.into()
    }

    #[test]
    fn merged_batches_are_the_batch_that_their_records_make() {
        let records = [record("a", 50), record("b", 20), record("c", 70)];
        let mut merge = Merge::new(batch(&records[..1], ValueKind::Bytes));
        merge.add(batch(&records[1..], ValueKind::Bytes), 1 << 10).unwrap();
        assert_eq!(merge.finish(), batch(&records, ValueKind::Bytes));
    }

    #[test]
    fn a_single_batch_is_handed_through_with_its_offset() {
        let lonely = one("a", 1).with_base_offset(Offset(9));
        assert_eq!(Merge::new(lonely.clone()).finish(), lonely);
    }

    #[test]
    fn what_its_header_says_of_every_record_keeps_a_batch_apart() {
        let mut merge = Merge::new(batch(&[record("1", 0)], ValueKind::Json));
        merge.add(one("1", 0), 1 << 10).unwrap_err();
        merge.add(batch(&[record("2", 0)], ValueKind::Json), 1 << 10).unwrap();
        assert_eq!(merge.finish().value_kind(), ValueKind::Json);
        let from_a_producer = one("a", 0).with_producer(7, 0, 0);
        Merge::new(one("a", 0)).add(from_a_producer.clone(), 1 << 10).unwrap_err();
        Merge::new(from_a_producer).add(one("a", 0), 1 << 10).unwrap_err();
    }

    #[test]
    fn a_merge_ends_at_its_size() {
        let mut merge = Merge::new(one("a", 0));
        let len = one("a", 0).len();
        merge.add(one("b", 0), len).unwrap_err();
        let grown = len + len - HEADER_BYTES;
        merge.add(one("b", 0), grown - 1).unwrap_err();
        merge.add(one("b", 0), grown).unwrap();
        assert_eq!(merge.finish().len(), grown);
    }

    #[test]
    fn records_that_would_take_more_together_than_apart_stay_apart() {
        let many: Vec<_> = (0..30).map(|_| record("", i64::MAX)).collect();
        let far = batch(&many, ValueKind::Bytes);
        Merge::new(one("a", 0)).add(far, 1 << 20).unwrap_err();
    }

    proptest! {
        #[test]
        fn merging_changes_no_record_and_needs_no_more_room(
            parts in proptest::collection::vec(
                proptest::collection::vec((any::<Option<Vec<u8>>>(), any::<Option<Vec<u8>>>(), any::<i64>(), any::<bool>()), 1..4),
                1..8,
            )
        ) {
            let own = |bytes: &Option<Vec<u8>>| bytes.clone().map(Bytes::from);
            let batches: Vec<_> = parts.iter().map(|part| {
                let records: Vec<_> = part.iter().map(|(key, value, at, header)| Record {
                    key: own(key),
                    value: own(value),
                    headers: if *header { vec![("name".to_owned(), own(key))] } else { Vec::new() },
                    timestamp: Some(Timestamp(*at)),
                }).collect();
                batch(&records, ValueKind::Bytes)
            }).collect();
            let mut merge = Merge::new(batches[0].clone().with_base_offset(Offset(40)));
            let mut taken = vec![batches[0].clone()];
            for next in &batches[1..] {
                if merge.add(next.clone(), 1 << 20).is_ok() {
                    taken.push(next.clone());
                }
            }
            let merged = merge.finish();
            let apart: Vec<_> = taken.iter().flat_map(RecordBatch::records).map(|r| (r.timestamp, r.key, r.value)).collect();
            let together: Vec<_> = merged.records().map(|r| (r.timestamp, r.key, r.value)).collect();
            prop_assert_eq!(apart, together);
            prop_assert!(merged.records().zip(40..).all(|(r, offset)| r.offset == Offset(offset)));
            prop_assert!(merged.len() <= taken.iter().map(RecordBatch::len).sum());
            prop_assert!(RecordBatch::parse(bytes_of(&merged), BatchLimits::default()).is_ok());
        }
    }
}
