//! Records and batches: Kafka's RecordBatch v2, byte for byte.

use bytes::Bytes;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Names and values, in order; empty for most records.
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
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

/// A checked RecordBatch v2 that owns exactly its bytes. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordBatch {
    bytes: Bytes,
}
