//! A store seen from outside: checked, listed, printed and copied, without an engine and beside one that runs.
//!
//! Nothing here writes to the store or locks it. What makes that right is the order in which an engine changes files: a
//! segment only grows, up to what a manifest says it is immutable; a file is removed only after a manifest that does not
//! name it is durable; the log before a manifest's position is used again only after that manifest. So everything is read
//! as one manifest names it, and read anew when a file is gone and the manifest has changed.

mod copy;
mod dump;
mod list;
mod tail;
#[cfg(test)]
mod tests;
mod verify;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use self::copy::Copied;
pub use self::dump::{DumpedEntry, DumpedFrame};
pub use self::list::PartitionInfo;
pub use self::verify::{Finding, Verified};
use super::manifest::{KnownPartition, Manifest, ManifestError};
use super::recovery::LOCK_PATH;
use super::segment::{Extent, SegmentKey};
use super::wal::scan;
use crate::broker::disk::Disk;
use crate::broker::disk::read_only::ReadOnlyDisk;
use crate::names::{Offset, TopicPartition};

/// The store moves while it is read; after this many beginnings anew it is given up.
const ATTEMPTS_MAX: u32 = 1000;

/// Why a store cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// There is none.
    #[error("there is no store here")]
    NoStore,
    /// A log without a manifest.
    #[error("wal/ holds a log but meta/manifest is missing")]
    ManifestMissing,
    /// The manifest cannot be trusted.
    #[error("meta/manifest is damaged: its checksum does not match")]
    ManifestDamaged,
    /// Neither the manifest nor the log has the partition.
    #[error("the store has no such partition")]
    UnknownPartition,
    /// Stored bytes are not what was written.
    #[error("the records of this partition cannot be read from offset {0} on")]
    Damaged(Offset),
    /// Frames of the log that were acknowledged cannot be read.
    #[error("the log cannot be read from commit group {0} on")]
    LogDamaged(u64),
    /// The store changes faster than it can be read.
    #[error("the store changed while it was read, {ATTEMPTS_MAX} times in a row")]
    Moving,
    /// The storage failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl InspectError {
    /// Whether the store could be read and is not sound.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::ManifestMissing | Self::ManifestDamaged | Self::Damaged(_) | Self::LogDamaged(_))
    }
}

/// How far a long work has come, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Done.
    pub done: u64,
    /// In all, as far as is known now.
    pub total: u64,
}

/// See the module's text.
pub struct Store {
    disk: Arc<dyn Disk>,
    in_use: bool,
}

impl Store {
    /// The store in a directory, which is not changed.
    pub fn open(dir: &Path) -> Result<Self, InspectError> {
        let disk = match ReadOnlyDisk::open(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(InspectError::NoStore),
            other => other?,
        };
        let in_use = disk.is_locked(LOCK_PATH)?;
        Self::on(Arc::new(disk), in_use)
    }

    pub(in crate::broker) fn on(disk: Arc<dyn Disk>, in_use: bool) -> Result<Self, InspectError> {
        let store = Self { disk, in_use };
        store.manifest()?;
        Ok(store)
    }

    /// Whether an engine runs on it, or did a moment ago.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.in_use
    }

    fn manifest(&self) -> Result<Manifest, InspectError> {
        match Manifest::load(&*self.disk) {
            Ok(Some(manifest)) => Ok(manifest),
            Ok(None) if scan::list(&*self.disk)?.is_empty() => Err(InspectError::NoStore),
            Ok(None) => Err(InspectError::ManifestMissing),
            Err(ManifestError::Io(error)) => Err(error.into()),
            Err(ManifestError::Damaged) => Err(InspectError::ManifestDamaged),
        }
    }

    /// Whether the newest manifest still names a segment.
    fn still_names(&self, key: SegmentKey) -> Result<bool, InspectError> {
        let manifest = self.manifest()?;
        let known = manifest.partitions.iter().find(|known| known.id == key.partition);
        Ok(known.is_some_and(|known| segments(known).any(|(named, _)| named == key)))
    }
}

/// The segments of a partition as the manifest has them, oldest first.
fn segments(known: &KnownPartition) -> impl Iterator<Item = (SegmentKey, Extent)> + '_ {
    known.segments.iter().copied()
}

/// Every segment that a manifest names.
fn all_segments(manifest: &Manifest) -> impl Iterator<Item = (TopicPartition, SegmentKey, Extent)> + '_ {
    let of = |known: &'_ KnownPartition| (known.at, segments(known).collect::<Vec<_>>());
    manifest.partitions.iter().map(of).flat_map(|(at, all)| all.into_iter().map(move |(key, extent)| (at, key, extent)))
}
