//! Records and batches: Kafka's RecordBatch v2, byte for byte.
//!
//! Pure: no I/O, no clock. Whatever bytes come in, the worst that comes out is an error.

mod batch;
mod build;
mod merge;
mod partitioner;
mod retain;
mod varint;

use bytes::Bytes;

pub use self::batch::{BatchError, BatchLimits, HEADER_BYTES, Producer, RecordBatch, Records};
pub use self::build::{BATCH_BYTES_MAX, BuildError, CHUNK_BYTES_MAX, split_into_batches};
pub use self::merge::Merge;
pub use self::partitioner::partition_for_key;
use self::varint::Reader;
use crate::clock::Timestamp;
use crate::names::Offset;

/// One record as a producer gives it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// The key decides the partition and, on a compacted topic, which record is replaced.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Names and values, in order.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// When it happened, by the producer's word; the time of acceptance if `None`.
    pub timestamp: Option<Timestamp>,
}

/// One record inside a batch, borrowed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Names and values, in order; decoded only when iterated.
    pub headers: Headers<'a>,
}

/// The headers of one record: an iterator over the encoded bytes, so that a record without headers costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers<'a> {
    left: u32,
    encoded: &'a [u8],
}

impl<'a> Headers<'a> {
    /// `encoded` holds `left` headers, name and value with a varint length each.
    fn new(left: u32, encoded: &'a [u8]) -> Self {
        Self { left, encoded }
    }

    /// Whether there is none left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let mut reader = Reader::new(self.encoded);
        let header = reader.header();
        self.encoded = reader.rest();
        // Damaged bytes end the iteration; `RecordBatch` lets none in, so this is only defence.
        self.left = if header.is_some() { self.left } else { 0 };
        header
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, usize::try_from(self.left).ok())
    }
}

/// What the values of a batch are known to be, so that a reader need not parse them again. Kept in bit 7 of the batch's
/// attributes, which Kafka leaves unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// Every value that is present is one valid JSON text without CR and LF. Weir checked it at ingest.
    Json,
    /// Bytes: nothing is known.
    Bytes,
}
