//! A stored batch with some of its records taken out, as Kafka's log cleaner does it: what stays keeps its offset, and
//! the batch its first and last one.

use bytes::Bytes;

use super::RecordView;
use super::batch::{self, RecordBatch};
use super::varint::{self, Reader};
use crate::clock::Timestamp;

impl RecordBatch {
    /// The batch without the records that `keep` refuses; `None` if it refuses all.
    ///
    /// With a `horizon` the batch says from when on its tombstones may go. As in Kafka that is its base timestamp then,
    /// and the records' timestamps count from there.
    pub(in crate::broker) fn retain(
        &self,
        mut keep: impl FnMut(&RecordView<'_>) -> bool,
        horizon: Option<Timestamp>,
    ) -> Option<Self> {
        let mut out = self.header().to_vec();
        let mut count = 0_u32;
        let mut max = Timestamp(i64::MIN);
        for (record, raw) in self.records_with_bytes() {
            if !keep(&record) {
                continue;
            }
            count += 1;
            max = max.max(record.timestamp);
            match horizon {
                None => out.extend_from_slice(raw),
                Some(horizon) => put_rebased(&mut out, raw, record.timestamp, horizon)?,
            }
        }
        (count > 0).then(|| {
            batch::reseal(&mut out, count, max, horizon);
            Self::sealed(Bytes::from(out)).with_base_offset(self.base_offset())
        })
    }

    /// Whether it holds a record at `from` or later: where some were taken out, its last offset does not tell.
    pub(in crate::broker) fn reaches(&self, from: crate::names::Offset) -> bool {
        let last = self.last_offset();
        let whole = i64::from(self.count()) == last.0 - self.base_offset().0 + 1;
        last >= from && (whole || self.base_offset() >= from || self.records().any(|record| record.offset >= from))
    }

    /// Each record with the bytes it is encoded in, its length included.
    fn records_with_bytes(&self) -> impl Iterator<Item = (RecordView<'_>, &[u8])> {
        let body = self.encoded_records();
        let mut at = 0;
        self.records().map_while(move |record| {
            let encoded = body.get(at..)?;
            let mut reader = Reader::new(encoded);
            let len = usize::try_from(reader.varint()?).ok()?;
            let whole = encoded.len() - reader.rest().len() + len;
            at += whole;
            Some((record, encoded.get(..whole)?))
        })
    }
}

/// The same record, its timestamp counted from another base. `None` if it cannot be read, which the checksum has ruled
/// out.
fn put_rebased(out: &mut Vec<u8>, raw: &[u8], timestamp: Timestamp, base: Timestamp) -> Option<()> {
    let mut reader = Reader::new(raw);
    reader.varint()?;
    let attributes = reader.byte()?;
    reader.varlong()?;
    let rest = reader.rest();
    let delta = timestamp.0.wrapping_sub(base.0);
    let len = 1 + varint::len(delta) + rest.len();
    varint::put(out, i64::try_from(len).unwrap_or(i64::MAX));
    out.push(attributes);
    varint::put(out, delta);
    out.extend_from_slice(rest);
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Record, ValueKind};
    use super::*;
    use crate::names::Offset;

    fn batch(timestamps: &[i64]) -> RecordBatch {
        let record = |(n, ms): (usize, &i64)| Record {
            key: (n % 3 != 0).then(|| Bytes::from(format!("k{n}"))),
            value: (n % 4 != 0).then(|| Bytes::from(format!("{n}"))),
            headers: vec![("h".to_owned(), Some(Bytes::from(vec![7; n * 30])))],
            timestamp: Some(Timestamp(*ms)),
        };
        let records: Vec<_> = timestamps.iter().enumerate().map(record).collect();
        RecordBatch::build(&records, ValueKind::Json, Timestamp(0)).unwrap().with_base_offset(Offset(100))
    }

    /// As it is read back from a file.
    fn stored(batch: &RecordBatch) -> RecordBatch {
        let mut bytes = Vec::new();
        batch.write_to(&mut bytes);
        RecordBatch::stored(Bytes::from(bytes)).unwrap()
    }

    #[test]
    fn what_stays_keeps_offset_time_and_contents_and_the_batch_its_ends() {
        let before = batch(&[10, 50, 20, 30]);
        let after = stored(&before.retain(|r| r.offset.0 % 2 == 0, None).unwrap());
        assert_eq!((after.base_offset(), after.last_offset(), after.count()), (Offset(100), Offset(103), 2));
        assert_eq!((after.max_timestamp(), after.value_kind()), (Timestamp(20), ValueKind::Json));
        assert_eq!(after.delete_horizon(), None);
        let kept: Vec<_> = before.records().filter(|r| r.offset.0 % 2 == 0).collect();
        assert_eq!(after.records().collect::<Vec<_>>(), kept);
    }

    #[test]
    fn it_says_how_far_its_records_reach_and_not_only_its_offsets() {
        let whole = batch(&[1, 2, 3, 4]);
        let first_two = whole.retain(|r| r.offset.0 < 102, None).unwrap();
        for (offset, of_whole, of_two) in [(0, true, true), (101, true, true), (102, true, false), (104, false, false)]
        {
            assert_eq!(
                (whole.reaches(Offset(offset)), first_two.reaches(Offset(offset))),
                (of_whole, of_two),
                "{offset}"
            );
        }
    }

    #[test]
    fn nothing_is_left_of_a_batch_whose_records_all_go() {
        assert_eq!(batch(&[1, 2]).retain(|_| false, None), None);
        assert_eq!(batch(&[1, 2]).retain(|_| false, Some(Timestamp(9))), None);
    }

    #[test]
    fn a_batch_remembers_from_when_on_its_tombstones_may_go() {
        let before = batch(&[10, 20]);
        let marked = stored(&before.retain(|_| true, Some(Timestamp(86_400_000))).unwrap());
        assert_eq!(marked.delete_horizon(), Some(Timestamp(86_400_000)));
        assert_eq!(marked.records().collect::<Vec<_>>(), before.records().collect::<Vec<_>>());
        let later = stored(&marked.retain(|r| r.offset == Offset(101), None).unwrap());
        assert_eq!(later.delete_horizon(), Some(Timestamp(86_400_000)), "a later clean does not move it");
        assert_eq!(later.max_timestamp(), Timestamp(20));
    }

    #[test]
    fn a_producer_cannot_set_the_mark() {
        let marked = batch(&[10]).retain(|_| true, Some(Timestamp(5))).unwrap();
        let mut bytes = Vec::new();
        marked.write_to(&mut bytes);
        assert!(RecordBatch::parse(Bytes::from(bytes), super::super::BatchLimits::default()).is_err());
    }

    proptest! {
        #[test]
        fn any_choice_of_any_records_reads_back(
            times in prop::collection::vec(any::<i64>(), 1..20),
            chosen: u32,
            horizon: Option<i64>,
        ) {
            let before = batch(&times);
            let keep = |r: &RecordView<'_>| chosen >> (r.offset.0 - 100) & 1 == 1;
            let kept: Vec<_> = before.records().filter(keep).collect();
            match before.retain(|r| keep(r), horizon.map(Timestamp)) {
                None => prop_assert!(kept.is_empty()),
                Some(after) => {
                    let after = stored(&after);
                    prop_assert_eq!(after.records().collect::<Vec<_>>(), kept);
                    prop_assert_eq!(after.delete_horizon(), horizon.map(Timestamp));
                    prop_assert_eq!(after.last_offset(), before.last_offset());
                    prop_assert_eq!(Some(after.max_timestamp()), after.records().map(|r| r.timestamp).max());
                }
            }
        }
    }
}
