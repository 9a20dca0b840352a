//! The write-ahead log: one sequence of frames for all partitions, in pre-zeroed segment files that are used again.
//!
//! One frame is one commit group: written, then made durable, then acknowledged, and only then is the next one written.
//! Of groups that hold nothing but appends to relaxed topics, several may be written before one sync makes all of them
//! durable; they lie in one segment.

pub(super) mod frame;
pub(super) mod pool;
pub(super) mod scan;
pub(super) mod segment;
pub(super) mod writer;

/// Segments and frames begin at multiples of this many bytes, so that no write touches a block that was acknowledged.
pub(super) const BLOCK_BYTES: usize = 4096;

/// Where the directory is.
pub(super) const DIR: &str = "wal";

/// Place in the log of the next frame, and what that frame must say to follow the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Sequence number of the segment.
    pub(super) segment: u64,
    /// Byte in the segment's file.
    pub(super) at: u64,
    /// Number of the frame.
    pub(super) lsn: u64,
    /// Header checksum of the frame before.
    pub(super) chain: u32,
}
