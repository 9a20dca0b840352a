//! One batch as Kafka lays it out. Big endian:
//!
//! | at | bytes | field | Weir |
//! |---|---|---|---|
//! | 0 | 8 | base offset | assigned by the engine; outside the checksum |
//! | 8 | 4 | length of what follows this field | checked |
//! | 12 | 4 | partition leader epoch | 0; outside the checksum |
//! | 16 | 1 | magic | 2 |
//! | 17 | 4 | CRC-32C of everything from byte 21 | checked |
//! | 21 | 2 | attributes: 0-2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon, **7 values are JSON** | 0 but for bits 6 and 7 |
//! | 23 | 4 | last offset delta | count - 1 from a producer; compaction leaves it |
//! | 27 | 8 | base timestamp, ms; with bit 6 when the batch's tombstones may go | |
//! | 35 | 8 | max timestamp, ms | checked |
//! | 43 | 8 | producer id | -1 |
//! | 51 | 2 | producer epoch | -1 |
//! | 53 | 4 | base sequence | -1 |
//! | 57 | 4 | number of records | at least 1 |
//! | 61 | | records | |
//!
//! A record: varint length of the rest, attributes i8, varlong timestamp delta, varint offset delta, varint key length
//! (-1 none), key, varint value length (-1 none), value, varint number of headers, and per header name and value alike.

use std::fmt;

use bytes::Bytes;

use super::varint::Reader;
use super::{Headers, RecordView, ValueKind};
use crate::clock::Timestamp;
use crate::names::Offset;

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 61;

const LENGTH_AT: usize = 8;
const LENGTH_COUNTS_FROM: usize = 12;
const MAGIC_AT: usize = 16;
const MAGIC: u8 = 2;
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;
const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_AT: usize = 43;
const COUNT_AT: usize = 57;

/// The numbers that a producer gave a batch so that it is stored once, however often it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// Its id.
    pub id: i64,
    /// A later one fences off an earlier one.
    pub epoch: i16,
    /// Number of the batch's first record in its partition.
    pub sequence: i32,
}

/// Producer id of a batch that no Kafka producer numbered.
const NO_PRODUCER: i64 = -1;

/// Bit 7 of the attributes.
const ATTRIBUTE_JSON: u16 = 1 << 7;

/// Bit 6: compaction has seen the batch's tombstones, and the base timestamp is when they may go.
const ATTRIBUTE_DELETE_HORIZON: u16 = 1 << 6;

/// Bounds on a batch from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Largest batch in bytes, header included.
    pub bytes_max: usize,
    /// Largest number of records.
    pub records_max: u32,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { bytes_max: super::BATCH_BYTES_MAX, records_max: 1 << 20 }
    }
}

/// Why bytes are not a batch that Weir takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Shorter than its own length field says, or longer.
    #[error("the batch's length does not match its bytes")]
    Length,
    /// Larger than the limits allow.
    #[error("the batch is too large")]
    TooLarge,
    /// Another version of the format.
    #[error("record batches have magic 2, not {0}")]
    Magic(u8),
    /// The bytes are not what the producer wrote.
    #[error("the batch's checksum does not match")]
    Checksum,
    /// Compression, transactions, control records or bits that Weir keeps for itself.
    #[error("batch attributes {0:#06x} are not supported")]
    Attributes(u16),
    /// A producer without an epoch or a number.
    #[error("the batch has a producer id and no valid epoch or sequence")]
    Producer,
    /// The number of records is not what the header says.
    #[error("the batch's record count does not match its records")]
    Count,
    /// The maximal timestamp is not that of the records.
    #[error("the batch's maximal timestamp does not match its records")]
    MaxTimestamp,
    /// A record cannot be decoded.
    #[error("record {index} of the batch is malformed")]
    Record {
        /// Its zero-based place in the batch.
        index: u32,
    },
}

/// A checked RecordBatch v2 that owns exactly its bytes. Cheap to clone.
///
/// The base offset lives beside the bytes, so that the engine can assign it without copying them.
#[derive(Clone)]
pub struct RecordBatch {
    bytes: Bytes,
    base_offset: Offset,
}

impl RecordBatch {
    /// Takes a batch from outside: checks every field and every record.
    pub fn parse(bytes: Bytes, limits: BatchLimits) -> Result<Self, BatchError> {
        if bytes.len() > limits.bytes_max {
            return Err(BatchError::TooLarge);
        }
        let batch = Self::stored(bytes)?;
        if batch.attributes() != 0 {
            return Err(BatchError::Attributes(batch.attributes()));
        }
        let producer = batch.numbers();
        let numbered = producer.id >= 0 && producer.epoch >= 0 && producer.sequence >= 0;
        if producer.id != NO_PRODUCER && !numbered {
            return Err(BatchError::Producer);
        }
        if batch.count() > limits.records_max {
            return Err(BatchError::TooLarge);
        }
        batch.check_records()?;
        Ok(batch)
    }

    /// Takes a batch that the engine wrote: checks length, version and checksum, not each record again.
    pub(in crate::broker) fn stored(bytes: Bytes) -> Result<Self, BatchError> {
        if Self::length_of(&bytes) != Some(bytes.len()) {
            return Err(BatchError::Length);
        }
        if bytes[MAGIC_AT] != MAGIC {
            return Err(BatchError::Magic(bytes[MAGIC_AT]));
        }
        if u32_at(&bytes, CRC_AT) != crc32c::crc32c(&bytes[CRC_FROM..]) {
            return Err(BatchError::Checksum);
        }
        let batch = Self { base_offset: Offset(i64_at(&bytes, 0)), bytes };
        if batch.attributes() & !(ATTRIBUTE_JSON | ATTRIBUTE_DELETE_HORIZON) != 0 {
            return Err(BatchError::Attributes(batch.attributes()));
        }
        if i32_at(&batch.bytes, COUNT_AT) < 1 || i32_at(&batch.bytes, LAST_OFFSET_DELTA_AT) < 0 {
            return Err(BatchError::Count);
        }
        Ok(batch)
    }

    /// Wraps bytes that [`seal`] has just finished.
    pub(super) fn sealed(bytes: Bytes) -> Self {
        debug_assert_eq!(Self::length_of(&bytes), Some(bytes.len()));
        Self { bytes, base_offset: Offset(0) }
    }

    /// How many bytes the batch takes whose first [`HEADER_BYTES`] these are; `None` if too few are given or the length
    /// field cannot be true.
    pub(in crate::broker) fn length_of(start: &[u8]) -> Option<usize> {
        if start.len() < HEADER_BYTES {
            return None;
        }
        let len = usize::try_from(i32_at(start, LENGTH_AT)).ok()?.checked_add(LENGTH_COUNTS_FROM)?;
        (len >= HEADER_BYTES).then_some(len)
    }

    fn check_records(&self) -> Result<(), BatchError> {
        let count = self.count();
        if self.last_offset_delta() != count - 1 {
            return Err(BatchError::Count);
        }
        let mut reader = Reader::new(&self.bytes[HEADER_BYTES..]);
        let mut max = i64::MIN;
        for index in 0..count {
            let record = decode(&mut reader, self).ok_or(BatchError::Record { index })?;
            let headers = usize::try_from(record.headers.left).unwrap_or(usize::MAX);
            let mut decoded = record.headers;
            let whole = decoded.by_ref().count() == headers && decoded.encoded.is_empty();
            if !whole || record.offset.0 != self.base_offset.0.wrapping_add(i64::from(index)) {
                return Err(BatchError::Record { index });
            }
            max = max.max(record.timestamp.0);
        }
        if !reader.rest().is_empty() {
            return Err(BatchError::Count);
        }
        if max == self.max_timestamp().0 { Ok(()) } else { Err(BatchError::MaxTimestamp) }
    }

    /// Offset of the first record.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        self.base_offset
    }

    /// Offset of the last record.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(self.last_offset_delta())))
    }

    /// Offset after the last record.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    /// Number of records, at least 1.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32_at(&self.bytes, COUNT_AT)
    }

    /// Who numbered the batch, if a Kafka producer did.
    #[must_use]
    pub fn producer(&self) -> Option<Producer> {
        Some(self.numbers()).filter(|producer| producer.id != NO_PRODUCER)
    }

    fn numbers(&self) -> Producer {
        Producer {
            id: i64_at(&self.bytes, PRODUCER_AT),
            epoch: i16::from_be_bytes(array_at(&self.bytes, PRODUCER_AT + 8)),
            sequence: i32_at(&self.bytes, PRODUCER_AT + 10),
        }
    }

    /// What the values are known to be.
    #[must_use]
    pub fn value_kind(&self) -> ValueKind {
        if self.attributes() & ATTRIBUTE_JSON != 0 { ValueKind::Json } else { ValueKind::Bytes }
    }

    /// The latest timestamp in the batch.
    #[must_use]
    pub fn max_timestamp(&self) -> Timestamp {
        Timestamp(i64_at(&self.bytes, MAX_TIMESTAMP_AT))
    }

    /// From when on the batch's tombstones may be removed; `None` while no compaction has seen one in it.
    pub(in crate::broker) fn delete_horizon(&self) -> Option<Timestamp> {
        let known = self.attributes() & ATTRIBUTE_DELETE_HORIZON != 0;
        known.then(|| Timestamp(i64_at(&self.bytes, BASE_TIMESTAMP_AT)))
    }

    pub(super) fn header(&self) -> &[u8] {
        &self.bytes[..HEADER_BYTES]
    }

    /// Number of bytes on disk, header included.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The same batch at another place. Copies no bytes.
    #[must_use]
    pub fn with_base_offset(mut self, base_offset: Offset) -> Self {
        self.base_offset = base_offset;
        self
    }

    /// For tests: the same batch as a Kafka producer sends it.
    #[cfg(test)]
    pub(crate) fn with_producer(self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        let mut bytes = self.bytes.to_vec();
        put(&mut bytes, PRODUCER_AT, id.to_be_bytes());
        put(&mut bytes, PRODUCER_AT + 8, epoch.to_be_bytes());
        put(&mut bytes, PRODUCER_AT + 10, base_sequence.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        put(&mut bytes, CRC_AT, crc.to_be_bytes());
        Self { bytes: bytes.into(), ..self }
    }

    /// Appends the batch as it lies on disk and on Kafka's wire.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.base_offset.0.to_be_bytes());
        out.extend_from_slice(&self.bytes[LENGTH_AT..]);
    }

    /// The records, in order. Allocates nothing.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records { batch: self, reader: Reader::new(&self.bytes[HEADER_BYTES..]), left: self.count() }
    }

    /// The records as they lie behind the header.
    pub(super) fn encoded_records(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..]
    }

    pub(super) fn base_timestamp(&self) -> Timestamp {
        Timestamp(i64_at(&self.bytes, BASE_TIMESTAMP_AT))
    }

    /// Whether the header says nothing of the records that another batch's could not: no producer, no gaps.
    pub(super) fn is_plain(&self) -> bool {
        self.producer().is_none() && self.last_offset_delta() == self.count() - 1
    }

    pub(super) fn attributes(&self) -> u16 {
        u16::from_be_bytes(array_at(&self.bytes, ATTRIBUTES_AT))
    }

    fn last_offset_delta(&self) -> u32 {
        u32_at(&self.bytes, LAST_OFFSET_DELTA_AT)
    }
}

impl PartialEq for RecordBatch {
    fn eq(&self, other: &Self) -> bool {
        self.base_offset == other.base_offset && self.bytes[LENGTH_AT..] == other.bytes[LENGTH_AT..]
    }
}

impl Eq for RecordBatch {}

impl fmt::Debug for RecordBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordBatch")
            .field("base_offset", &self.base_offset.0)
            .field("count", &self.count())
            .field("len", &self.len())
            .field("value_kind", &self.value_kind())
            .finish()
    }
}

/// Iterator over the records of a batch.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    batch: &'a RecordBatch,
    reader: Reader<'a>,
    left: u32,
}

impl<'a> Iterator for Records<'a> {
    type Item = RecordView<'a>;

    #[inline]
    fn next(&mut self) -> Option<RecordView<'a>> {
        self.left = self.left.checked_sub(1)?;
        let record = decode(&mut self.reader, self.batch);
        self.left = if record.is_some() { self.left } else { 0 };
        record
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, usize::try_from(self.left).ok())
    }
}

#[inline]
fn decode<'a>(reader: &mut Reader<'a>, batch: &RecordBatch) -> Option<RecordView<'a>> {
    let len = usize::try_from(reader.varint()?).ok()?;
    let mut body = Reader::new(reader.take(len)?);
    body.byte()?;
    let timestamp_delta = body.varlong()?;
    let offset_delta = body.varint()?;
    let key = body.nullable_bytes()?;
    let value = body.nullable_bytes()?;
    let headers = u32::try_from(body.varint()?).ok()?;
    Some(RecordView {
        offset: Offset(batch.base_offset.0.wrapping_add(i64::from(offset_delta))),
        timestamp: Timestamp(i64_at(&batch.bytes, BASE_TIMESTAMP_AT).wrapping_add(timestamp_delta)),
        key,
        value,
        headers: Headers::new(headers, body.rest()),
    })
}

/// Fills in the header of `out`, which has [`HEADER_BYTES`] of room and then `count` records.
pub(super) fn seal(out: &mut [u8], kind: ValueKind, count: usize, base: Timestamp, max: Timestamp) {
    let length = i32::try_from(out.len() - LENGTH_COUNTS_FROM).expect("the builder bounds a batch to 16 MiB");
    let count = i32::try_from(count).expect("a record takes at least one byte of 16 MiB");
    let attributes = if kind == ValueKind::Json { ATTRIBUTE_JSON } else { 0 };
    put(out, 0, 0_i64.to_be_bytes());
    put(out, LENGTH_AT, length.to_be_bytes());
    put(out, LENGTH_COUNTS_FROM, 0_i32.to_be_bytes());
    put(out, MAGIC_AT, [MAGIC]);
    put(out, ATTRIBUTES_AT, attributes.to_be_bytes());
    put(out, LAST_OFFSET_DELTA_AT, (count - 1).to_be_bytes());
    put(out, BASE_TIMESTAMP_AT, base.0.to_be_bytes());
    put(out, MAX_TIMESTAMP_AT, max.0.to_be_bytes());
    put(out, PRODUCER_AT, [0xff; COUNT_AT - PRODUCER_AT]); // no producer id, epoch, sequence: all -1
    put(out, COUNT_AT, count.to_be_bytes());
    let crc = crc32c::crc32c(&out[CRC_FROM..]);
    put(out, CRC_AT, crc.to_be_bytes());
}

/// Mends the header of `out`, a batch of which `count` records are left.
pub(super) fn reseal(out: &mut [u8], count: u32, max: Timestamp, horizon: Option<Timestamp>) {
    let length = i32::try_from(out.len() - LENGTH_COUNTS_FROM).expect("a batch of 16 MiB does not grow to 2 GiB");
    put(out, LENGTH_AT, length.to_be_bytes());
    if let Some(horizon) = horizon {
        let attributes = u16::from_be_bytes(array_at(out, ATTRIBUTES_AT)) | ATTRIBUTE_DELETE_HORIZON;
        put(out, ATTRIBUTES_AT, attributes.to_be_bytes());
        put(out, BASE_TIMESTAMP_AT, horizon.0.to_be_bytes());
    }
    put(out, MAX_TIMESTAMP_AT, max.0.to_be_bytes());
    put(out, COUNT_AT, count.to_be_bytes());
    let crc = crc32c::crc32c(&out[CRC_FROM..]);
    put(out, CRC_AT, crc.to_be_bytes());
}

fn put<const N: usize>(out: &mut [u8], at: usize, field: [u8; N]) {
    out[at..at + N].copy_from_slice(&field);
}

/// The field at `at`; every caller has checked that the header is whole.
#[inline]
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array_at(bytes, at))
}

#[inline]
fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(array_at(bytes, at))
}

#[inline]
fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(array_at(bytes, at))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
