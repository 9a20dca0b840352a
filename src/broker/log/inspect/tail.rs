//! The log after the last checkpoint, read while it may be written.
//!
//! Reading a file and writing it are not one step, so a frame that was not there yet may be followed by one that was
//! written a moment later. It is there when it is looked for again: whoever saw the later one knows that. Damage is what
//! stays.

use std::io;

use super::super::manifest::Manifest;
use super::super::wal::frame::Frame;
use super::super::wal::scan::{self, Damage, End};
use super::super::wal::{Position, segment};
use super::{ATTEMPTS_MAX, InspectError, Store};

/// What was found.
pub(super) struct Tail<T> {
    /// The manifest that it begins at.
    pub(super) manifest: Manifest,
    /// What the caller made of the frames.
    pub(super) seen: T,
    /// Where the last frame that can be read ends.
    pub(super) end: Position,
    /// The last bytes are a frame that was never whole, or is being written.
    pub(super) torn: bool,
    pub(super) damages: Vec<Damage>,
    /// Bytes of frames.
    pub(super) bytes: u64,
}

impl Store {
    /// Reads every frame after a checkpoint. `make` begins anew for each manifest that is tried.
    pub(super) fn tail<T>(
        &self,
        mut make: impl FnMut(&Manifest) -> Result<T, InspectError>,
        mut each: impl FnMut(&mut T, Frame<'_>, Position) -> Result<(), InspectError>,
    ) -> Result<Tail<T>, InspectError> {
        for _ in 0..ATTEMPTS_MAX {
            let manifest = self.manifest()?;
            let position = manifest.position;
            let seen = make(&manifest)?;
            let tail = Tail { manifest, seen, end: position, torn: false, damages: Vec::new(), bytes: 0 };
            let found = self.read_tail(tail, &mut each);
            // The log may have been used again since; then what was seen means nothing.
            if self.manifest()?.position == position {
                match found {
                    Err(InspectError::Io(e)) if e.kind() == io::ErrorKind::NotFound => {} // a file got its next name
                    other => return other,
                }
            }
        }
        Err(InspectError::Moving)
    }

    fn read_tail<T>(
        &self,
        mut tail: Tail<T>,
        each: &mut impl FnMut(&mut T, Frame<'_>, Position) -> Result<(), InspectError>,
    ) -> Result<Tail<T>, InspectError> {
        let store = tail.manifest.store;
        let mut suspected = None;
        loop {
            let sequences = scan::list(&*self.disk)?;
            let start = tail.end;
            if start.segment == super::super::recovery::NO_SEGMENT {
                return Ok(tail); // made and never served
            }
            let (mut end, mut bytes) = (start, 0);
            let found = scan::scan(&*self.disk, store, &sequences, start, |frame, position| {
                bytes += frame.bytes();
                end = position;
                each(&mut tail.seen, frame, position)
            })?;
            tail.bytes += bytes;
            tail.end = end;
            match found {
                End::Whole(position) => tail.end = position,
                End::Torn(position) => {
                    tail.end = position;
                    tail.torn = true;
                }
                End::Damaged(damage) if suspected != Some(damage.position) => {
                    tail.end = damage.position;
                    suspected = Some(damage.position);
                    continue;
                }
                End::Damaged(damage) => {
                    let resume = damage.resume;
                    tail.damages.push(damage);
                    if let Some(next) = resume {
                        tail.end = next;
                        continue;
                    }
                }
            }
            return Ok(tail);
        }
    }
}

/// Where a file of the log is.
pub(super) fn path(sequence: u64) -> String {
    segment::path(sequence)
}
