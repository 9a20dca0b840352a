//! The end of the log, owned by the commit thread.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::frame::FrameBuilder;
use super::pool::{Pool, Prepared};
use super::{BLOCK_BYTES, Position};
use crate::broker::disk::File;
use crate::broker::log::wire::len64;
use crate::clock::Timestamp;

/// See the module's text.
pub(in crate::broker::log) struct Writer {
    pool: Arc<Pool>,
    file: Arc<dyn File>,
    segment_bytes: u64,
    position: Position,
    /// Every frame up to this one is durable.
    durable: u64,
    /// What the last frame on disk says about that.
    recorded: u64,
}

impl Writer {
    /// Goes on after `position` in a fresh segment.
    pub(in crate::broker::log) fn new(pool: Arc<Pool>, first: Prepared, segment_bytes: u64, after: Position) -> Self {
        let position = Position { segment: first.sequence, at: len64(BLOCK_BYTES), ..after };
        let durable = after.lsn - 1;
        Self { pool, file: first.file, segment_bytes, position, durable, recorded: durable }
    }

    /// Where the next frame goes.
    pub(in crate::broker::log) fn position(&self) -> Position {
        self.position
    }

    /// Whether a frame of `bytes` fits in the segment.
    pub(in crate::broker::log) fn has_room(&self, bytes: usize) -> bool {
        self.position.at + len64(bytes) <= self.segment_bytes
    }

    /// Makes sure that a frame of `bytes` fits, going on to the next segment if need be.
    pub(in crate::broker::log) fn reserve(&mut self, bytes: usize) -> io::Result<()> {
        if !self.has_room(bytes) {
            // A mark is not synced on its own; nothing may follow it in another file before it is durable.
            if self.is_ahead() {
                // Not to be tried again, whatever the reason: the caller must not take it for a full disk.
                self.sync().map_err(io::Error::other)?;
            }
            let next = self.pool.take()?;
            self.position = Position { segment: next.sequence, at: len64(BLOCK_BYTES), ..self.position };
            self.file = next.file;
        }
        Ok(())
    }

    /// Whether the log does not yet say that its last frame is durable. A new segment is not begun for it.
    pub(in crate::broker::log) fn wants_mark(&self) -> bool {
        self.recorded < self.durable && self.has_room(BLOCK_BYTES)
    }

    /// Whether something was written that is not durable.
    pub(in crate::broker::log) fn is_ahead(&self) -> bool {
        self.position.lsn - 1 > self.durable
    }

    /// Writes an empty frame, so that recovery can tell a durable last frame that rotted from one that was never whole.
    pub(in crate::broker::log) fn mark(&mut self, frame: &mut FrameBuilder, now: Timestamp) -> io::Result<()> {
        frame.start();
        self.write(frame, now)
    }

    /// Writes the frame. Room has been reserved.
    pub(in crate::broker::log) fn write(&mut self, frame: &mut FrameBuilder, now: Timestamp) -> io::Result<()> {
        let (bytes, checksum) = frame.finish(self.position, self.durable, now);
        debug_assert!(self.position.at + len64(bytes.len()) <= self.segment_bytes, "room was reserved");
        self.file.write_at(bytes, self.position.at)?;
        self.recorded = self.durable;
        self.position.at += len64(bytes.len());
        self.position.lsn += 1;
        self.position.chain = checksum;
        Ok(())
    }

    /// Makes everything that was written durable; how long that took.
    pub(in crate::broker::log) fn sync(&mut self) -> io::Result<Duration> {
        let start = Instant::now();
        self.file.sync()?;
        self.durable = self.position.lsn - 1;
        Ok(start.elapsed())
    }
}

/// Segments that recovery may still need, oldest first.
#[derive(Debug, Default)]
pub(in crate::broker::log) struct InUse(VecDeque<u64>);

impl InUse {
    /// Notes a segment that frames are written to.
    pub(in crate::broker::log) fn note(&mut self, sequence: u64) {
        if self.0.back() != Some(&sequence) {
            self.0.push_back(sequence);
        }
    }

    /// Takes out the segments before `first_needed`.
    pub(in crate::broker::log) fn release_before(&mut self, first_needed: u64) -> Vec<u64> {
        let released = self.0.partition_point(|&sequence| sequence < first_needed);
        self.0.drain(..released).collect()
    }
}
