//! Bounds of the embedded engine, each with its unit.

use std::time::Duration;

use super::loss::Loss;
use crate::broker::idempotency::IdempotencyLimits;
use crate::broker::producers::ProducerLimits;

/// Partitions of one topic.
const PARTITIONS_MAX: u32 = 10_000;

/// Bounds and intervals of the embedded engine. The defaults suit a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Size of one write-ahead log file. An idle engine keeps two; a busy one about twice what `checkpoint_bytes` takes.
    pub wal_segment_bytes: u64,
    /// A partition's file is sealed when it is this large.
    pub segment_bytes: u64,
    /// Largest commit. A commit is one frame of the log, so a segment must have room for it.
    pub commit_bytes_max: usize,
    /// A commit group ends at this size; a single larger commit is a group of its own.
    pub group_bytes_max: usize,
    /// What was acknowledged on relaxed topics is durable, and readable, after this time at the latest.
    pub relaxed_lag: Duration,
    /// And when this many bytes of the log wait to become durable.
    pub relaxed_bytes_max: usize,
    /// Bytes that may wait to be written; beyond it commits are refused as busy.
    pub queue_bytes_max: usize,
    /// Durable bytes that may wait in memory to be copied into segments; beyond it commits wait.
    pub backlog_bytes_max: usize,
    /// Recent batches kept in memory for readers, of all partitions together.
    pub tail_bytes_max: usize,
    /// A checkpoint begins after this many bytes of log.
    pub checkpoint_bytes: u64,
    /// A checkpoint begins after this time, if anything was written.
    pub checkpoint_every: Duration,
    /// How often the engine looks for what its topics no longer want kept.
    pub maintenance_every: Duration,
    /// Memory for the keys that one pass of compaction covers; 24 bytes and a third a key.
    pub compaction_map_bytes: usize,
    /// How fast sealed segments are read again to find damage; 0: never.
    pub scrub_bytes_per_second: u64,
    /// Segment files kept open.
    pub open_files_max: usize,
    /// With less free space than this, or 3 % of the disk if that is less, the engine takes no records; reading and deleting
    /// go on.
    pub free_bytes_min: u64,
    /// With less free space than this, or a tenth of the disk if that is less, no partitions are added.
    pub free_bytes_short: u64,
    /// Size of a file that an operator can remove to make room on a full disk; 0 for none.
    pub ballast_bytes: u64,
    /// Reads of old records that may be on the disk at once.
    pub cold_reads_max: usize,
    /// Bounds of the idempotency keys.
    pub idempotency: IdempotencyLimits,
    /// Damage of the log to start without: exactly what a refused start has named.
    pub accept_loss: Option<Loss>,
    /// Bounds of what is known of numbering producers.
    pub producers: ProducerLimits,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            wal_segment_bytes: 64 << 20,
            segment_bytes: 64 << 20,
            commit_bytes_max: 16 << 20,
            group_bytes_max: 1 << 20,
            relaxed_lag: Duration::from_millis(50),
            relaxed_bytes_max: 4 << 20,
            queue_bytes_max: 64 << 20,
            backlog_bytes_max: 128 << 20,
            tail_bytes_max: 128 << 20,
            checkpoint_bytes: 256 << 20,
            checkpoint_every: Duration::from_secs(30),
            maintenance_every: Duration::from_secs(30),
            compaction_map_bytes: 64 << 20,
            scrub_bytes_per_second: 5 << 20,
            open_files_max: 1024,
            free_bytes_min: 1 << 30,
            free_bytes_short: 5 << 30,
            ballast_bytes: 256 << 20,
            cold_reads_max: 16,
            idempotency: IdempotencyLimits::default(),
            accept_loss: None,
            producers: ProducerLimits::default(),
        }
    }
}

impl EngineConfig {
    /// For tests: the same engine with small files, quick to make.
    #[must_use]
    pub fn small() -> Self {
        Self {
            wal_segment_bytes: 4 << 20,
            segment_bytes: 1 << 20,
            commit_bytes_max: 1 << 20,
            group_bytes_max: 256 << 10,
            queue_bytes_max: 8 << 20,
            backlog_bytes_max: 4 << 20,
            tail_bytes_max: 4 << 20,
            checkpoint_bytes: 8 << 20,
            maintenance_every: Duration::from_hours(1),
            compaction_map_bytes: 1 << 20,
            scrub_bytes_per_second: 0,
            free_bytes_min: 0,
            free_bytes_short: 0,
            ballast_bytes: 0,
            open_files_max: 64,
            ..Self::default()
        }
    }

    /// Log files to keep for reuse.
    pub(super) fn spares_max(&self) -> usize {
        super::wire::len_usize(self.checkpoint_bytes / self.wal_segment_bytes.max(1)).saturating_add(1)
    }

    /// Partitions that can be created at once: their entries are one frame.
    pub(super) fn partitions_max(&self) -> u32 {
        let fit = (self.wal_segment_bytes / 2) / super::wire::len64(super::wal::frame::CREATE_BYTES);
        u32::try_from(fit).unwrap_or(u32::MAX).min(PARTITIONS_MAX)
    }

    /// Why these bounds cannot work together, if so.
    pub(super) fn problem(&self) -> Option<String> {
        let frame_max = super::wal::frame::padded(self.commit_bytes_max.saturating_mul(2));
        let room = super::wire::len_usize(self.wal_segment_bytes).saturating_sub(super::wal::BLOCK_BYTES);
        if !self.wal_segment_bytes.is_multiple_of(super::wire::len64(super::wal::BLOCK_BYTES)) {
            return Some("wal_segment_bytes must be a multiple of 4096".to_owned());
        }
        if self.wal_segment_bytes > 1 << 30 || self.segment_bytes > 1 << 30 {
            return Some("segments have at most 1 GiB".to_owned());
        }
        if frame_max > room || self.group_bytes_max.saturating_mul(2) > room {
            return Some(
                "wal_segment_bytes must be more than twice the largest commit and the largest group".to_owned(),
            );
        }
        None
    }
}
