//! A copy of a store, consistent while an engine writes to it.
//!
//! First the log from one manifest's position to its end, then the segments as that manifest names them: up to those
//! lengths they never change. If a segment was removed before it was copied, it begins anew with a newer manifest; what
//! has been copied stays. Everything that was acknowledged before the copy began is in its log or its segments.

use std::collections::HashMap;
use std::io;

use super::super::manifest::Manifest;
use super::super::segment::{Extent, SegmentKey};
use super::super::wal::{Position, scan};
use super::super::wire::len64;
use super::super::{manifest, recovery, segment, wal};
use super::{ATTEMPTS_MAX, InspectError, Progress, Store, all_segments, tail};
use crate::broker::disk::{self, Disk, File, Open};

/// How much is copied at once, in bytes.
const STEP_BYTES: usize = 1 << 20;

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// The id of the store.
    pub store: uuid::Uuid,
    /// Every commit group before this one is in the copy.
    pub next_lsn: u64,
    /// Bytes of segments and of the log.
    pub bytes: u64,
}

impl Store {
    /// Copies everything to an empty directory. Durable when it returns.
    pub fn copy_to(&self, to: &dyn Disk, mut progress: impl FnMut(Progress)) -> Result<Copied, InspectError> {
        recovery::create_dirs(to)?;
        let mut copy = Copy { from: &*self.disk, to, copied: HashMap::new(), done: 0, total: 0 };
        for _ in 0..ATTEMPTS_MAX {
            let tail = self.tail(|_| Ok(()), |(), _, _| Ok(()))?;
            if let Some(damage) = tail.damages.first() {
                return Err(InspectError::LogDamaged(damage.groups.first));
            }
            if !copy.log(&tail.manifest, tail.end)? || !copy.segments(&tail.manifest, self, &mut progress)? {
                continue;
            }
            copy.remove_others(&tail.manifest)?;
            copy.sync()?;
            tail.manifest.store(to)?;
            let (store, next_lsn) = (tail.manifest.store, tail.end.lsn);
            return Ok(Copied { store, next_lsn, bytes: copy.total });
        }
        Err(InspectError::Moving)
    }
}

struct Copy<'a> {
    from: &'a dyn Disk,
    to: &'a dyn Disk,
    /// Bytes of each segment that are copied.
    copied: HashMap<SegmentKey, u64>,
    done: u64,
    total: u64,
}

impl Copy<'_> {
    /// Copies the log from the manifest's position to `end`. Whether all of it has arrived: it may be used again meanwhile.
    fn log(&mut self, manifest: &Manifest, end: Position) -> Result<bool, InspectError> {
        for old in scan::list(self.to)? {
            self.to.remove(&tail::path(old))?;
        }
        let position = manifest.position;
        if position.segment == recovery::NO_SEGMENT {
            return Ok(true);
        }
        self.total = 0;
        let sequences = scan::list(self.from)?;
        for sequence in sequences.into_iter().filter(|s| (position.segment..=end.segment).contains(s)) {
            let file = match self.from.open(&tail::path(sequence), Open::Existing) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
                other => other?,
            };
            let bytes = if sequence == end.segment { end.at } else { file.size()? };
            let to = self.to.open(&tail::path(sequence), Open::Empty)?;
            if !copy_range(&*file, &*to, 0, bytes, |_| {})? {
                return Ok(false);
            }
            to.sync()?;
            self.total += bytes;
        }
        self.to.sync_dir(wal::DIR)?;
        self.done = self.total;
        // What counts is what the copy holds.
        let sequences = scan::list(self.to)?;
        let arrived = scan::scan(self.to, manifest.store, &sequences, position, |_, _| Ok::<_, io::Error>(()))?;
        Ok(arrived == scan::End::Whole(end))
    }

    /// Copies the segments of a manifest. `false`: one was removed meanwhile.
    fn segments(
        &mut self,
        manifest: &Manifest,
        store: &Store,
        progress: &mut impl FnMut(Progress),
    ) -> Result<bool, InspectError> {
        self.total = self.done + all_segments(manifest).map(|(_, _, extent)| extent.bytes).sum::<u64>();
        for (_, key, extent) in all_segments(manifest) {
            if !self.segment(key, &extent, progress)? {
                return if store.still_names(key)? { Err(InspectError::Damaged(key.base)) } else { Ok(false) };
            }
            self.done += extent.bytes;
            progress(Progress { done: self.done, total: self.total });
        }
        Ok(true)
    }

    fn segment(
        &mut self,
        key: SegmentKey,
        extent: &Extent,
        progress: &mut impl FnMut(Progress),
    ) -> Result<bool, InspectError> {
        let start = self.copied.get(&key).copied();
        if start == Some(extent.bytes) && !extent.sealed {
            return Ok(true);
        }
        let file = match self.from.open(&key.log_path(), Open::Existing) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && extent.bytes == 0 => return Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        let how = if start.is_some() { Open::Existing } else { Open::Empty };
        let to = self.to.open(&key.log_path(), how)?;
        let (done, total) = (self.done, self.total);
        let whole = copy_range(&*file, &*to, start.unwrap_or(0), extent.bytes, |bytes| {
            progress(Progress { done: done + bytes, total });
        })?;
        to.sync()?;
        if whole {
            self.copied.insert(key, extent.bytes);
            if extent.sealed {
                self.index(key)?;
            }
        }
        Ok(whole)
    }

    /// An index is made again when it is missing; one that is torn is found out by its checksum.
    fn index(&self, key: SegmentKey) -> Result<(), InspectError> {
        let Ok(file) = self.from.open(&key.index_path(), Open::Existing) else { return Ok(()) };
        let to = self.to.open(&key.index_path(), Open::Empty)?;
        copy_range(&*file, &*to, 0, file.size()?, |_| {})?;
        Ok(to.sync()?)
    }

    /// Segments that were copied for an earlier manifest and that this one does not have.
    fn remove_others(&mut self, manifest: &Manifest) -> io::Result<()> {
        for (_, key, _) in all_segments(manifest) {
            self.copied.remove(&key);
        }
        for key in std::mem::take(&mut self.copied).into_keys() {
            self.to.remove(&key.log_path())?;
            match self.to.remove(&key.index_path()) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        for low_byte in 0..=u8::MAX {
            self.to.sync_dir(&segment::dir(low_byte))?;
        }
        self.to.sync_dir(wal::DIR)?;
        self.to.sync_dir(manifest::DIR)
    }
}

/// Copies the bytes from `start` to `end`. Whether they were all there.
fn copy_range(from: &dyn File, to: &dyn File, start: u64, end: u64, mut told: impl FnMut(u64)) -> io::Result<bool> {
    let mut buf = vec![0; STEP_BYTES];
    let mut at = start;
    while at < end {
        let step = usize::try_from(end - at).map_or(STEP_BYTES, |left| left.min(STEP_BYTES));
        let got = disk::read_up_to(from, at, &mut buf[..step])?;
        to.write_at(&buf[..got], at)?;
        at += len64(got);
        told(at);
        if got < step {
            return Ok(false);
        }
    }
    Ok(true)
}
