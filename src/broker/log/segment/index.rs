//! A sparse index: one entry for every 32 KiB of batches.
//!
//! The file beside a sealed segment, little endian: entries, then a footer.
//!
//! | at | bytes | field of an entry |
//! |---|---|---|
//! | 0 | 4 | offset of the extent's first record, relative to the segment's base |
//! | 4 | 4 | position of the extent in the `.log` |
//! | 8 | 8 | latest timestamp in the segment up to the extent's end |
//! | 16 | 4 | CRC-32C of the extent's bytes |
//! | 20 | 4 | records in the extent |
//!
//! | at | bytes | field of the footer |
//! |---|---|---|
//! | 0 | 8 | magic `WEIRIDX1` |
//! | 8 | 8 | offset of the first record |
//! | 16 | 8 | offset after the last record |
//! | 24 | 8 | latest timestamp |
//! | 32 | 8 | latest time of acceptance |
//! | 40 | 8 | bytes of the `.log` |
//! | 48 | 4 | number of entries |
//! | 52 | 4 | CRC-32C of the entries and bytes 0..52 |

use super::super::wire::{Fields, Put, len64};
use super::Extent;
use crate::clock::Timestamp;
use crate::names::Offset;

const ENTRY_BYTES: usize = 24;
const FOOTER_BYTES: usize = 56;
const MAGIC: &[u8; 8] = b"WEIRIDX1";

/// An extent ends with the batch that makes it this long.
const EXTENT_BYTES: u64 = 32 << 10;

/// What the index needs to know of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker::log) struct BatchFacts {
    pub(in crate::broker::log) first: Offset,
    pub(in crate::broker::log) next: Offset,
    pub(in crate::broker::log) max_timestamp: Timestamp,
    pub(in crate::broker::log) records: u32,
}

impl BatchFacts {
    pub(in crate::broker::log) fn of(batch: &crate::broker::record::RecordBatch) -> Self {
        Self {
            first: batch.base_offset(),
            next: batch.next_offset(),
            max_timestamp: batch.max_timestamp(),
            records: batch.count(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    first: Offset,
    position: u64,
    /// Of everything up to the end of this extent.
    max_timestamp: Timestamp,
    crc: u32,
    records: u32,
}

/// One extent as it must lie in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker::log) struct Part {
    pub(in crate::broker::log) position: u64,
    pub(in crate::broker::log) bytes: u64,
    pub(in crate::broker::log) crc: u32,
    /// Offset of its first batch.
    pub(in crate::broker::log) first: Offset,
    /// Offset of the next extent's first batch.
    pub(in crate::broker::log) next: Offset,
}

/// See the module's text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::broker::log) struct Index {
    entries: Vec<Entry>,
    bytes: u64,
}

impl Index {
    /// Notes the batch that comes next in the segment.
    pub(in crate::broker::log) fn add(&mut self, batch: BatchFacts, bytes: &[u8]) {
        let so_far = self.entries.last().map_or(batch.max_timestamp, |last| last.max_timestamp);
        let max_timestamp = so_far.max(batch.max_timestamp);
        match self.entries.last_mut() {
            Some(last) if self.bytes - last.position < EXTENT_BYTES => {
                last.max_timestamp = max_timestamp;
                last.crc = crc32c::crc32c_append(last.crc, bytes);
                last.records = last.records.saturating_add(batch.records);
            }
            _ => self.entries.push(Entry {
                first: batch.first,
                position: self.bytes,
                max_timestamp,
                crc: crc32c::crc32c(bytes),
                records: batch.records,
            }),
        }
        self.bytes += len64(bytes.len());
    }

    /// Position of a batch at or before the one that holds `offset`.
    pub(super) fn position_of(&self, offset: Offset) -> u64 {
        let after = self.entries.partition_point(|entry| entry.first <= offset);
        after.checked_sub(1).and_then(|index| self.entries.get(index)).map_or(0, |entry| entry.position)
    }

    /// Position of a batch at or before the first one with a record at `timestamp` or later.
    pub(super) fn position_at(&self, timestamp: Timestamp) -> u64 {
        let index = self.entries.partition_point(|entry| entry.max_timestamp < timestamp);
        self.entries.get(index).map_or(self.bytes, |entry| entry.position)
    }

    /// The extents, in order, of a segment that ends before `next`.
    pub(in crate::broker::log) fn parts(&self, next: Offset) -> impl Iterator<Item = Part> {
        let ends = self.entries.iter().skip(1).map(|entry| (entry.position, entry.first)).chain([(self.bytes, next)]);
        self.entries.iter().zip(ends).map(|(entry, (end, next))| Part {
            position: entry.position,
            bytes: end.saturating_sub(entry.position),
            crc: entry.crc,
            first: entry.first,
            next,
        })
    }

    /// The first extent that begins at `position` or later: its position and first offset.
    pub(in crate::broker::log) fn extent_from(&self, position: u64) -> Option<(u64, Offset)> {
        let index = self.entries.partition_point(|entry| entry.position < position);
        self.entries.get(index).map(|entry| (entry.position, entry.first))
    }

    /// Where the first extent begins that is not the same in both.
    pub(in crate::broker::log) fn first_difference(&self, other: &Self) -> Option<(u64, Offset)> {
        let differs = |pair: &(Option<&Entry>, Option<&Entry>)| pair.0 != pair.1;
        let longest = self.entries.len().max(other.entries.len());
        let mut pairs = (0..longest).map(|n| (self.entries.get(n), other.entries.get(n)));
        pairs.find(differs).and_then(|(ours, theirs)| ours.or(theirs)).map(|entry| (entry.position, entry.first))
    }

    pub(in crate::broker::log) fn encode(&self, base: Offset, extent: &Extent) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.entries.len() * ENTRY_BYTES + FOOTER_BYTES);
        for entry in &self.entries {
            out.u32(u32::try_from(entry.first.0 - base.0).unwrap_or(u32::MAX));
            out.u32(u32::try_from(entry.position).unwrap_or(u32::MAX));
            out.i64(entry.max_timestamp.0);
            out.u32(entry.crc);
            out.u32(entry.records);
        }
        out.put(MAGIC);
        out.i64(base.0);
        out.i64(extent.next.0);
        out.i64(extent.max_timestamp.0);
        out.i64(extent.max_accepted.0);
        out.u64(extent.bytes);
        out.u32(u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
        let checksum = crc32c::crc32c(&out);
        out.u32(checksum);
        out
    }

    /// The index in these bytes, if they are whole and about this segment.
    pub(in crate::broker::log) fn decode(bytes: &[u8], base: Offset, extent: &Extent) -> Option<Self> {
        let (entries, footer) = bytes.split_at_checked(bytes.len().checked_sub(FOOTER_BYTES)?)?;
        let mut fields = Fields(footer);
        let ours = fields.take(8)? == MAGIC
            && fields.i64()? == base.0
            && fields.i64()? == extent.next.0
            && fields.i64()? == extent.max_timestamp.0;
        fields.i64()?;
        let ours = ours && fields.u64()? == extent.bytes;
        let count = usize::try_from(fields.u32()?).ok()?;
        let whole = crc32c::crc32c(&bytes[..bytes.len() - 4]) == fields.u32()?;
        if !ours || !whole || entries.len() != count.checked_mul(ENTRY_BYTES)? {
            return None;
        }
        let entries = entries.chunks_exact(ENTRY_BYTES).map(|bytes| read_entry(bytes, base)).collect::<Option<_>>()?;
        Some(Self { entries, bytes: extent.bytes })
    }

    /// The largest file that an index of this many segment bytes can be.
    pub(in crate::broker::log) fn encoded_max(segment_bytes: u64) -> u64 {
        (segment_bytes / EXTENT_BYTES + 2) * len64(ENTRY_BYTES) + len64(FOOTER_BYTES)
    }
}

fn read_entry(bytes: &[u8], base: Offset) -> Option<Entry> {
    let mut fields = Fields(bytes);
    Some(Entry {
        first: Offset(base.0.checked_add(i64::from(fields.u32()?))?),
        position: u64::from(fields.u32()?),
        max_timestamp: Timestamp(fields.i64()?),
        crc: fields.u32()?,
        records: fields.u32()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts(first: i64, timestamp: i64) -> BatchFacts {
        BatchFacts { first: Offset(first), next: Offset(first + 10), max_timestamp: Timestamp(timestamp), records: 10 }
    }

    /// 100 batches of 10 KiB and ten records, one second apart.
    fn example() -> (Index, Extent) {
        let mut index = Index::default();
        for n in 0..100 {
            index.add(facts(n * 10, n * 1000), &[0; 10 << 10]);
        }
        let extent = Extent {
            bytes: 100 * (10 << 10),
            next: Offset(1000),
            max_timestamp: Timestamp(99_000),
            first_accepted: Timestamp(0),
            max_accepted: Timestamp(0),
            delete_horizon: crate::broker::log::segment::NO_HORIZON,
            sealed: true,
        };
        (index, extent)
    }

    #[test]
    fn it_points_at_or_shortly_before_what_is_looked_for() {
        let (index, _) = example();
        for offset in 0..1000 {
            let position = index.position_of(Offset(offset));
            let batch = u64::try_from(offset / 10).unwrap() * (10 << 10);
            assert!(position <= batch && batch - position <= EXTENT_BYTES + (10 << 10), "offset {offset}");
        }
        for second in 0..100_u32 {
            let position = index.position_at(Timestamp(i64::from(second) * 1000));
            let batch = u64::from(second) * (10 << 10);
            assert!(position <= batch && batch - position <= EXTENT_BYTES + (10 << 10), "second {second}");
        }
        assert_eq!(index.position_at(Timestamp(i64::MAX)), 100 * (10 << 10));
    }

    #[test]
    fn a_flipped_bit_anywhere_in_the_file_is_noticed() {
        let (index, extent) = example();
        let good = index.encode(Offset(0), &extent);
        assert_eq!(Index::decode(&good, Offset(0), &extent), Some(index));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert_eq!(Index::decode(&bad, Offset(0), &extent), None, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused(bytes: Vec<u8>) {
            prop_assert_eq!(Index::decode(&bytes, Offset(0), &example().1), None);
        }
    }
}
