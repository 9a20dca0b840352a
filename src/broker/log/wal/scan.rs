//! Reads the log back, and tells a log that ends from one that is damaged.
//!
//! A frame says which frames before it were durable when it was written: all of them, but for those of relaxed topics. So
//! when a frame cannot be read but a later one says that it was durable, bytes that were acknowledged as such are gone:
//! that is damage, and nobody may go on as if the log ended here. When no later frame says so, the power went before the
//! frame was synced, and the log ends here, whatever can be read behind it. Only of the frames since the last sync this
//! cannot be known; the mark that an idle log writes keeps that window small.

use std::io;

use uuid::Uuid;

use super::frame::{Frame, Header, Seal};
use super::{BLOCK_BYTES, Position, segment};
use crate::broker::disk::{self, Disk, Open};
use crate::broker::log::loss::Groups;
use crate::broker::log::wire::{len_usize, len64};

/// A segment is never larger, in bytes.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Where the log ends.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::broker::log) enum End {
    /// All frames were read.
    Whole(Position),
    /// A frame that was never acknowledged is there in part.
    Torn(Position),
    /// Frames that were acknowledged cannot be read.
    Damaged(Damage),
}

/// What is known about damage.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::broker::log) struct Damage {
    pub(in crate::broker::log) position: Position,
    /// The frames that are missing.
    pub(in crate::broker::log) groups: Groups,
    /// What the segment holds from there on, up to the next frame that can be read.
    pub(in crate::broker::log) bytes: Vec<u8>,
    /// The next frame that can be read: where to go on for whoever goes on without the missing ones.
    pub(in crate::broker::log) resume: Option<Position>,
}

/// Sequence numbers of the segments that are there, ascending.
pub(in crate::broker::log) fn list(disk: &dyn Disk) -> io::Result<Vec<u64>> {
    let names = match disk.list(super::DIR) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut sequences: Vec<_> = names.iter().filter_map(|name| segment::sequence_of(name)).collect();
    sequences.sort_unstable();
    Ok(sequences)
}

fn read(disk: &dyn Disk, sequence: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(&segment::path(sequence), Open::Existing)?;
    let len = file.size()?.min(SEGMENT_BYTES_MAX);
    disk::read_exact(&*file, 0, len_usize(len))
}

/// Hands every frame from `start` on to `each`, with the position after it.
pub(in crate::broker::log) fn scan<E: From<io::Error>>(
    disk: &dyn Disk,
    store: Uuid,
    sequences: &[u64],
    start: Position,
    mut each: impl FnMut(Frame<'_>, Position) -> Result<(), E>,
) -> Result<End, E> {
    let seal = Seal::of(store);
    let mut position = start;
    let mut later = sequences.iter().copied().filter(|&sequence| sequence > start.segment).peekable();
    let mut bytes = match read(disk, start.segment) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    // The segment that the manifest names was prepared before the manifest was written.
    let begun = segment::is_prepared(&bytes, store, start.segment);
    loop {
        while let Some(frame) = frame_at(seal, &bytes, position) {
            let next = frame.next(position);
            each(frame, next)?;
            position = next;
        }
        let Some(&sequence) = later.peek() else { break };
        let continued = Position { segment: sequence, at: len64(BLOCK_BYTES), ..position };
        let next_bytes = read(disk, sequence)?;
        if frame_at(seal, &next_bytes, continued).is_none() {
            break;
        }
        (bytes, position) = (next_bytes, continued);
        later.next();
    }
    let mut ahead = LookAhead { seal, position, durable: false, torn: false, last: None, resume: None };
    ahead.look(&bytes, len_usize(position.at), position.segment);
    for sequence in later {
        ahead.look(&read(disk, sequence)?, BLOCK_BYTES, sequence);
    }
    Ok(ahead.verdict(begun || position != start, &bytes))
}

fn frame_at(seal: Seal, bytes: &[u8], position: Position) -> Option<Frame<'_>> {
    let frame = Frame::parse(seal, bytes.get(len_usize(position.at)..)?)?;
    frame.follows(position).then_some(frame)
}

/// What lies behind the place where reading stopped.
struct LookAhead {
    seal: Seal,
    position: Position,
    /// A later frame says that the one at `position` was durable.
    durable: bool,
    /// There is something.
    torn: bool,
    /// The largest number that a frame's header has.
    last: Option<u64>,
    /// The first whole frame.
    resume: Option<Position>,
}

impl LookAhead {
    fn look(&mut self, bytes: &[u8], from: usize, segment: u64) {
        for block in bytes.get(from..).unwrap_or_default().chunks(BLOCK_BYTES).enumerate() {
            let Some(header) = Header::parse(self.seal, block.1) else { continue };
            if header.segment != segment || header.lsn < self.position.lsn {
                continue; // left over from the file's earlier use
            }
            self.torn = true;
            self.durable |= header.durable_lsn >= self.position.lsn;
            self.last = self.last.max(Some(header.lsn));
            let start = from + block.0 * BLOCK_BYTES;
            if self.resume.is_none() && Frame::parse(self.seal, &bytes[start..]).is_some() {
                let (lsn, chain) = (header.lsn, header.chain);
                self.resume = Some(Position { segment, at: len64(start), lsn, chain });
            }
        }
    }

    fn verdict(self, begun: bool, bytes: &[u8]) -> End {
        if self.durable || !begun {
            End::Damaged(self.damage(bytes))
        } else if self.torn {
            End::Torn(self.position)
        } else {
            End::Whole(self.position)
        }
    }

    fn damage(self, bytes: &[u8]) -> Damage {
        let Position { segment, at, lsn, .. } = self.position;
        let last = self.resume.map(|next| next.lsn - 1).or(self.last);
        let end = self.resume.filter(|next| next.segment == segment).map_or(bytes.len(), |next| len_usize(next.at));
        Damage {
            position: self.position,
            groups: Groups { first: lsn, last: last.map(|last| last.max(lsn)) },
            bytes: bytes.get(len_usize(at)..end).unwrap_or_default().to_vec(),
            resume: self.resume,
        }
    }
}
