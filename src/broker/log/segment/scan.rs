//! Walks over the batches of a segment's file.

use std::io;

use bytes::Bytes;

use super::super::wire::{len_usize, len64};
use crate::broker::disk::{self, File};
use crate::broker::record::{HEADER_BYTES, RecordBatch};

/// Reads batch after batch, checking each.
pub(in crate::broker::log) struct Scanner<'a> {
    file: &'a dyn File,
    at: u64,
    /// Where the batches end.
    end: u64,
    /// How much to read at once.
    step: usize,
    /// What has been read from `at` on.
    ahead: Bytes,
}

impl<'a> Scanner<'a> {
    pub(in crate::broker::log) fn new(file: &'a dyn File, at: u64, end: u64, step: usize) -> Self {
        Self { file, at, end, step, ahead: Bytes::new() }
    }

    /// The next batch; `None` at the end. An error means that the bytes there are not what was written.
    pub(in crate::broker::log) fn next(&mut self) -> io::Result<Option<RecordBatch>> {
        if self.at >= self.end {
            return Ok(None);
        }
        self.have(HEADER_BYTES)?;
        let len = RecordBatch::length_of(&self.ahead).ok_or_else(damaged)?;
        self.have(len)?;
        let batch = RecordBatch::stored(self.ahead.split_to(len)).map_err(|_| damaged())?;
        self.at += len64(len);
        Ok(Some(batch))
    }

    /// Where the next batch begins.
    pub(in crate::broker::log) fn position(&self) -> u64 {
        self.at
    }

    fn have(&mut self, len: usize) -> io::Result<()> {
        if self.ahead.len() >= len {
            return Ok(());
        }
        let left = len_usize(self.end - self.at);
        if len > left {
            return Err(damaged());
        }
        self.ahead = Bytes::from(disk::read_exact(self.file, self.at, self.step.max(len).min(left))?);
        Ok(())
    }
}

fn damaged() -> io::Error {
    io::ErrorKind::InvalidData.into()
}
