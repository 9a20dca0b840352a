//! From records to batches.

use bytes::Bytes;

use super::batch::{self, HEADER_BYTES, RecordBatch};
use super::{Record, ValueKind, varint};
use crate::clock::Timestamp;

/// A batch is never larger, in bytes: what the largest commit takes.
pub const BATCH_BYTES_MAX: usize = 16 << 20;

/// [`split_into_batches`] cuts at this many bytes of whole records: the unit in which writers share the log.
pub const CHUNK_BYTES_MAX: usize = 64 << 10;

/// Why records do not make a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A batch has at least one record.
    #[error("a batch has at least one record")]
    Empty,
    /// The records take more than [`BATCH_BYTES_MAX`].
    #[error("a batch has at most {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
}

impl RecordBatch {
    /// One batch of these records, with base offset 0. Records without a timestamp get `now`.
    ///
    /// `kind` is the caller's promise about the values; it must have checked them.
    pub fn build(records: &[Record], kind: ValueKind, now: Timestamp) -> Result<Self, BuildError> {
        let Some(first) = records.first() else { return Err(BuildError::Empty) };
        let base = timestamp(first, now);
        let mut len = HEADER_BYTES;
        for (index, record) in records.iter().enumerate() {
            len = len.saturating_add(encoded_len(record, index, base, now));
        }
        if len > BATCH_BYTES_MAX {
            return Err(BuildError::TooLarge { limit: BATCH_BYTES_MAX });
        }
        let mut out = Vec::with_capacity(len);
        out.resize(HEADER_BYTES, 0);
        let mut max = base;
        for (index, record) in records.iter().enumerate() {
            max = max.max(timestamp(record, now));
            put_record(&mut out, record, index, base, now);
        }
        debug_assert_eq!(out.len(), len);
        batch::seal(&mut out, kind, records.len(), base, max);
        Ok(Self::sealed(Bytes::from(out)))
    }
}

/// Cuts records into batches of at most [`CHUNK_BYTES_MAX`], or one record where that is larger. Order is kept; an
/// empty list gives none.
pub fn split_into_batches(records: &[Record], kind: ValueKind, now: Timestamp) -> Result<Vec<RecordBatch>, BuildError> {
    let mut batches = Vec::new();
    let mut left = records;
    while !left.is_empty() {
        let (chunk, rest) = left.split_at(chunk_records(left, now));
        batches.push(RecordBatch::build(chunk, kind, now)?);
        left = rest;
    }
    Ok(batches)
}

/// How many of the first records fit in one chunk; at least 1. `records` is not empty.
fn chunk_records(records: &[Record], now: Timestamp) -> usize {
    let base = records.first().map_or(now, |first| timestamp(first, now));
    let mut len = HEADER_BYTES;
    for (index, record) in records.iter().enumerate() {
        len = len.saturating_add(encoded_len(record, index, base, now));
        if len > CHUNK_BYTES_MAX {
            return index.max(1);
        }
    }
    records.len()
}

fn timestamp(record: &Record, now: Timestamp) -> Timestamp {
    record.timestamp.unwrap_or(now)
}

/// Timestamps are any 64 bits; like Kafka, the difference wraps and so does the sum.
fn delta(record: &Record, base: Timestamp, now: Timestamp) -> i64 {
    timestamp(record, now).0.wrapping_sub(base.0)
}

/// A length or index as the varint that stands for it. Lengths beyond `i64` do not exist in memory.
fn signed(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

fn nullable_len(bytes: Option<&Bytes>) -> usize {
    bytes.map_or(varint::len(-1), |b| varint::len(signed(b.len())) + b.len())
}

/// Bytes of the record after its length field.
fn body_len(record: &Record, index: usize, base: Timestamp, now: Timestamp) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|(name, value)| varint::len(signed(name.len())) + name.len() + nullable_len(value.as_ref()))
        .sum();
    1 + varint::len(delta(record, base, now))
        + varint::len(signed(index))
        + nullable_len(record.key.as_ref())
        + nullable_len(record.value.as_ref())
        + varint::len(signed(record.headers.len()))
        + headers
}

fn encoded_len(record: &Record, index: usize, base: Timestamp, now: Timestamp) -> usize {
    let body = body_len(record, index, base, now);
    varint::len(signed(body)) + body
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&Bytes>) {
    match bytes {
        None => varint::put(out, -1),
        Some(bytes) => {
            varint::put(out, signed(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}

fn put_record(out: &mut Vec<u8>, record: &Record, index: usize, base: Timestamp, now: Timestamp) {
    varint::put(out, signed(body_len(record, index, base, now)));
    out.push(0); // attributes, unused
    varint::put(out, delta(record, base, now));
    varint::put(out, signed(index));
    put_nullable(out, record.key.as_ref());
    put_nullable(out, record.value.as_ref());
    varint::put(out, signed(record.headers.len()));
    for (name, value) in &record.headers {
        varint::put(out, signed(name.len()));
        out.extend_from_slice(name.as_bytes());
        put_nullable(out, value.as_ref());
    }
}
