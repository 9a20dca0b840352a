//! The contract every log engine keeps. This text is the specification; `conformance.rs` is the same text as tests.
//!
//! # Order and offsets
//! A partition is a sequence of records. [`Engine::commit`] appends to its end; offsets grow and are never reused (I2).
//! The writes of one [`Commit`] become visible together or not at all. A commit without writes appends nothing and is
//! acknowledged. Batches that are read back need not be those that were written: small ones that follow each other may have
//! become one.
//!
//! # Durability and visibility
//! When `commit` returns `Ok`, every record of it is on stable storage and keeps its offset (I1). [`Engine::fetch`]
//! returns durable records only (I3): what a reader has seen, a power cut does not take back.
//!
//! A commit that writes to [`Durability::Relaxed`] topics only may return as soon as its records are written: they survive
//! the end of the process, become durable and readable a bounded moment later, and until then a power cut may take them,
//! the latest first. Their offsets are then given to other records, which no reader can notice. A refusal, and the answer
//! to a repeated key, are given only when what they tell of is durable.
//!
//! # Idempotence
//! A commit with an [`IdempotencyKey`] that was seen in the last 24 hours appends nothing and returns the first answer
//! with [`Ack::replayed`] set, provided that the body's digest is the same; another digest is
//! [`CommitError::KeyReused`]. The key is stored with the records, so this holds across a crash. A commit that was
//! refused does not use up its key. Memory for keys is bounded per [`Tenant`] and in all; beyond the bound the oldest
//! are forgotten early.
//!
//! A batch that a Kafka producer has numbered ([`RecordBatch::producer`]) is appended once: among the last five batches of
//! its producer and epoch in the partition, the one with the same numbers is answered with its first answer and appends
//! nothing, even if [`Write::expect`] no longer holds. [`Ack::replayed`] is set if that is so for every write of the commit.
//! Any other batch must follow the one before it, or begin a later epoch with number 0; an earlier epoch is
//! [`CommitError::ProducerFenced`]. Producers are known across a crash and forgotten after 24 hours without a batch;
//! memory for them is bounded. A commit has an idempotency key or numbered batches: with both it is
//! [`CommitError::KeyAndProducer`].
//!
//! # Settings
//! [`Engine::ensure_topic`] also says how the topic's records are kept ([`TopicSettings`]); the latest call counts. Settings
//! are not stored: after a restart, until the engine has been told again, a topic keeps everything.
//!
//! # What is no longer kept
//! From time to time, and at once when [`Engine::maintain`] is called, the engine removes records from the start of a
//! partition: those accepted longer ago than [`TopicSettings::retention`], and the oldest while more than
//! [`TopicSettings::retention_bytes`] are held. It may keep more than that for a while, never less. [`Bounds::start`] moves
//! forward and never back, not by a crash either; reading below it is [`FetchError::OutOfRange`], also for a reader that was
//! under way.
//!
//! # Compaction
//! Of a topic with [`TopicSettings::compact`] the engine removes, also from time to time, records after which there is a
//! newer one with the same key. The last record of every key stays, and records without a key; so do, for a while, the
//! newest records whatever their keys. Records keep their offsets, so there are gaps; the range ([`Bounds`]) stays. A record
//! without a value, a tombstone, is removed as well, [`TopicSettings::delete_retention`] after a compaction first met it.
//!
//! # Cancellation
//! Dropping the future of `commit` does not cancel the write.

use std::time::Duration;

use async_trait::async_trait;

use super::record::RecordBatch;
use crate::clock::Timestamp;
use crate::names::{Offset, TopicId, TopicPartition};

/// Who is billed and scheduled for a commit: an application or, for a person's own writes, a person.
/// Opaque to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(pub uuid::Uuid);

/// What an engine must hold for one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// The incarnation; never reused.
    pub id: TopicId,
    /// Number of partitions, at least 1. May grow, never shrinks.
    pub partitions: u32,
    /// How its records are kept.
    pub settings: TopicSettings,
}

impl TopicSpec {
    /// A topic whose records are durable and kept for ever.
    #[must_use]
    pub fn new(id: TopicId, partitions: u32) -> Self {
        Self { id, partitions, settings: TopicSettings::default() }
    }
}

/// How an engine keeps the records of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicSettings {
    /// Records older than this, by the engine's time of acceptance, may be removed; `None`: never for their age.
    pub retention: Option<Duration>,
    /// Of each partition, about this many of the latest bytes are kept; `None`: no bound.
    pub retention_bytes: Option<u64>,
    /// Only the last record of each key is kept.
    pub compact: bool,
    /// How long the removal of a key stays readable on a compacted topic.
    pub delete_retention: Duration,
    /// When a commit is acknowledged.
    pub durability: Durability,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            retention: None,
            retention_bytes: None,
            compact: false,
            delete_retention: DELETE_RETENTION,
            durability: Durability::default(),
        }
    }
}

/// How long the removal of a key stays readable unless something else is asked for.
const DELETE_RETENTION: Duration = Duration::from_hours(24);

/// When a commit is acknowledged. Readers see durable records only, whatever this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When it is on stable storage.
    #[default]
    Durable,
    /// When it is written; a power cut may take the last moments.
    Relaxed,
}

/// One batch for one partition.
#[derive(Debug, Clone)]
pub struct Write {
    /// Where to append.
    pub to: TopicPartition,
    /// What to append; its base offset is assigned by the engine.
    pub batch: RecordBatch,
    /// Append only if the partition's next offset, after the commit's earlier writes to it, is this one.
    pub expect: Option<Offset>,
}

/// Makes a repeated request harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Hash of (principal, topic, the client's key).
    pub key: [u8; 16],
    /// Digest of the request, so that a reused key with another body is found out.
    pub digest: [u8; 16],
}

/// One atomic unit of writing.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Who writes.
    pub tenant: Tenant,
    /// What is written, at most [`Capabilities::commit_bytes_max`] in all. Several writes may name one partition; they
    /// keep their order.
    pub writes: Vec<Write>,
    /// See the module's text.
    pub idempotency: Option<IdempotencyKey>,
}

/// Where one write went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The partition.
    pub to: TopicPartition,
    /// Offset of the first record.
    pub first: Offset,
    /// Number of records.
    pub count: u32,
    /// The largest timestamp of its records.
    pub timestamp: Timestamp,
}

/// The answer to a durable commit, one entry per write, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// Where each write went.
    pub appended: Vec<Appended>,
    /// Nothing was appended now: this is the stored answer of an earlier commit with the same key.
    pub replayed: bool,
}

/// The readable range of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Offset of the first record still kept.
    pub start: Offset,
    /// Offset that the next record gets; everything below is durable.
    pub end: Offset,
}

/// What a fetch returned.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Whole batches in order. The first has a record at the offset asked for or, where that is compacted away, after it;
    /// it may begin before it.
    pub batches: Vec<RecordBatch>,
    /// The range at the time of the fetch.
    pub bounds: Bounds,
}

/// What an engine can do, so that the portal can say "not enforceable on this engine" instead of pretending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Name for people: "embedded", "memory".
    pub name: &'static str,
    /// Records outlive the process.
    pub durable: bool,
    /// `Write::expect` is honoured.
    pub conditional_append: bool,
    /// Upper bound of the sum of batch sizes in one commit, in bytes.
    pub commit_bytes_max: usize,
}

/// What an engine has done and how fast its disk is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EngineStats {
    /// Partitions known.
    pub partitions: u64,
    /// Records acknowledged since the start of the process.
    pub records_committed: u64,
    /// Bytes of record batches acknowledged since the start of the process.
    pub bytes_committed: u64,
    /// Commit groups written; `records_committed / groups` says how well grouping works.
    pub groups: u64,
    /// Median time of one synchronisation to stable storage.
    pub sync_p50: Duration,
    /// 99th percentile of the same.
    pub sync_p99: Duration,
    /// Bytes kept on disk for records, without the write-ahead log.
    pub stored_bytes: u64,
    /// Bytes of stored records that were read again and compared with their checksums since the start of the process.
    pub scrubbed_bytes: u64,
    /// What that found to be damaged.
    pub damaged: Vec<DamagedRange>,
    /// Whether the storage still takes everything.
    pub room: Room,
    /// Bytes that the storage has left, where the engine knows.
    pub free_bytes: Option<u64>,
}

/// Stored records that are not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DamagedRange {
    /// The partition.
    pub at: TopicPartition,
    /// First offset that may be affected.
    pub from: Offset,
    /// Offset after the last one.
    pub to: Offset,
}

/// How much the storage still takes. Reading and deleting always go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Room {
    /// Everything.
    #[default]
    Ample,
    /// Records, but no new partitions.
    Short,
    /// Nothing.
    Full,
}

/// Why a commit failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The engine does not hold this partition (yet).
    #[error("unknown partition")]
    UnknownPartition(TopicPartition),
    /// `Write::expect` did not hold; nothing was appended.
    #[error("the partition's next offset is {next}")]
    OffsetMismatch {
        /// The partition.
        at: TopicPartition,
        /// Its next offset.
        next: Offset,
    },
    /// The key was used with another body; nothing was appended.
    #[error("the idempotency key was used with another request")]
    KeyReused,
    /// A batch is of an earlier epoch of its producer; nothing was appended.
    #[error("the producer was fenced off by its epoch {epoch}")]
    ProducerFenced {
        /// The partition.
        at: TopicPartition,
        /// The epoch that counts.
        epoch: i16,
    },
    /// A batch does not follow what its producer sent before; nothing was appended.
    #[error("the producer's next sequence number is {expected}")]
    OutOfSequence {
        /// The partition.
        at: TopicPartition,
        /// The number that would follow.
        expected: i32,
    },
    /// A commit with an idempotency key has a batch of a numbering producer; nothing was appended.
    #[error("a commit has an idempotency key or numbered batches, not both")]
    KeyAndProducer,
    /// The commit is larger than the engine takes.
    #[error("a commit has at most {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// Too much is waiting to be written; nothing was appended.
    #[error("the engine is busy")]
    Busy,
    /// The disk is full: reading goes on, nothing was appended.
    #[error("the storage is full and takes no records")]
    ReadOnly,
    /// The engine is stopping or its storage failed. Whether the records were appended is unknown.
    #[error("the engine has stopped")]
    Stopped,
}

/// Why a fetch failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The engine does not hold this partition (yet).
    #[error("unknown partition")]
    UnknownPartition(TopicPartition),
    /// The offset lies before the first kept record or beyond the end.
    #[error("the offset is outside {}..={}", .0.start, .0.end)]
    OutOfRange(Bounds),
    /// Stored bytes do not match their checksum; other partitions go on.
    #[error("stored records are damaged at offset {at}")]
    Damaged {
        /// First offset that cannot be read.
        at: Offset,
    },
    /// The engine has stopped or its disk failed.
    #[error("the engine has stopped")]
    Stopped,
}

/// Why an administrative call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// Partitions can be added, not removed.
    #[error("a topic cannot go from {from} to {to} partitions")]
    FewerPartitions {
        /// What the engine holds.
        from: u32,
        /// What was asked for.
        to: u32,
    },
    /// More partitions than a topic can have.
    #[error("a topic has at most {max} partitions")]
    TooManyPartitions {
        /// The limit.
        max: u32,
    },
    /// Too much is waiting to be written.
    #[error("the engine is busy")]
    Busy,
    /// The disk is full.
    #[error("the storage is full")]
    ReadOnly,
    /// The engine has stopped or its disk failed.
    #[error("the engine has stopped")]
    Stopped,
}

/// Tells a reader of one or many partitions that something new became durable in any of them.
///
/// One registration however many partitions; spurious wake-ups are allowed, missed ones are not.
#[async_trait]
pub trait Watch: Send {
    /// Returns once any watched partition has grown, was deleted, or the engine stopped, since the previous call
    /// returned (or since the watch was made); at once on a stopped engine. Cancel-safe.
    async fn changed(&mut self);
}

/// A log engine. See the module's text for what it promises.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// What this engine can do.
    fn capabilities(&self) -> Capabilities;

    /// Makes the topic exist with these partitions, kept as its settings say. Idempotent; that the partitions exist is
    /// durable when it returns.
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), AdminError>;

    /// Forgets the topic and its records. Idempotent; durable when it returns, the space is freed later.
    async fn delete_topic(&self, topic: TopicId) -> Result<(), AdminError>;

    /// Does now what the engine does from time to time. See the module's text.
    async fn maintain(&self) -> Result<(), AdminError>;

    /// Appends. See the module's text.
    async fn commit(&self, commit: Commit) -> Result<Ack, CommitError>;

    /// Durable batches from `from` on, about `bytes_max` of them but at least one if there is any; none at the end.
    async fn fetch(&self, at: TopicPartition, from: Offset, bytes_max: usize) -> Result<Fetched, FetchError>;

    /// The readable range now.
    fn bounds(&self, at: TopicPartition) -> Result<Bounds, FetchError>;

    /// Offset of the first record whose timestamp is `at_or_after` or later; the end if there is none.
    async fn offset_for_timestamp(&self, at: TopicPartition, at_or_after: Timestamp) -> Result<Offset, FetchError>;

    /// See [`Watch`]. Unknown partitions are ignored.
    fn watch(&self, partitions: &[TopicPartition]) -> Box<dyn Watch>;

    /// Bytes kept for one topic; 0 for an unknown one.
    fn stored_bytes(&self, topic: TopicId) -> u64;

    /// Figures since the start.
    fn stats(&self) -> EngineStats;

    /// Why the engine no longer takes records, if so. For `/readyz`.
    fn fault(&self) -> Option<String>;

    /// Makes everything durable and stops. Later calls fail with `Stopped`.
    async fn close(&self);
}
