//! Room on the disk: how much is left, what follows from that, and the ballast.
//!
//! | free | what happens |
//! |---|---|
//! | less than a tenth of the disk, or 5 GiB | maintenance runs at once, no partitions are added, the log says so |
//! | less than 3 %, or 1 GiB | no records are taken either; reading and deleting go on |
//!
//! The ballast is a file of no use but its size: whoever has to make room on a full disk removes it first.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Shared;
use super::config::EngineConfig;
use crate::broker::disk::Open;
use crate::broker::engine::Room;

const BALLAST_PATH: &str = "ballast";

/// Parts of the disk, where its size makes the configured marks too large.
const SHORT_PERCENT: u64 = 10;
const FULL_PERCENT: u64 = 3;

/// What was seen when somebody looked last.
pub(super) struct Space {
    /// Bytes; `u64::MAX` before the first look.
    free: AtomicU64,
    short: AtomicBool,
}

impl Default for Space {
    fn default() -> Self {
        Self { free: AtomicU64::new(u64::MAX), short: AtomicBool::new(false) }
    }
}

impl Space {
    pub(super) fn free_bytes(&self) -> Option<u64> {
        Some(self.free.load(Ordering::Relaxed)).filter(|&bytes| bytes != u64::MAX)
    }
}

impl Shared {
    /// How much room there was when somebody looked last.
    pub(in crate::broker) fn room(&self) -> Room {
        match (self.read_only.load(Ordering::SeqCst), self.space.short.load(Ordering::SeqCst)) {
            (true, _) => Room::Full,
            (false, true) => Room::Short,
            (false, false) => Room::Ample,
        }
    }
}

/// Free bytes below which something happens.
#[derive(Debug, PartialEq, Eq)]
struct Marks {
    short: u64,
    full: u64,
}

impl Marks {
    fn of(config: &EngineConfig, disk_bytes: u64) -> Self {
        let part = |percent| disk_bytes / 100 * percent;
        let full = config.free_bytes_min.min(part(FULL_PERCENT));
        Self { short: config.free_bytes_short.min(part(SHORT_PERCENT)).max(full), full }
    }
}

/// Looks how much room there is.
pub(super) fn look(shared: &Shared) -> io::Result<()> {
    let free = shared.disk.free_bytes()?;
    let marks = Marks::of(&shared.config, shared.disk.total_bytes()?);
    shared.space.free.store(free, Ordering::Relaxed);
    if crossed(&shared.read_only, free, marks.full) {
        tracing::warn!(
            free_bytes = free,
            mark = marks.full,
            read_only = free < marks.full,
            "the disk's last mark was crossed"
        );
    }
    if crossed(&shared.space.short, free, marks.short) {
        let short = free < marks.short;
        tracing::warn!(free_bytes = free, mark = marks.short, short, "the disk's first mark was crossed");
        if short {
            shared.maintenance.hurry();
        }
    }
    Ok(())
}

/// Sets the flag if there is less than the mark; whether that is a change.
fn crossed(flag: &AtomicBool, free: u64, mark: u64) -> bool {
    let was = flag.load(Ordering::SeqCst);
    // A quarter more to come back, so that it does not flap.
    let now = free < if was { mark.saturating_add(mark / 4) } else { mark };
    if was != now {
        flag.store(now, Ordering::SeqCst);
    }
    was != now
}

/// Makes the ballast, the first time and again after it was needed, while there is ample room for it.
pub(super) fn keep_ballast(shared: &Shared) -> io::Result<()> {
    let (disk, bytes) = (&*shared.disk, shared.config.ballast_bytes);
    if bytes == 0 || shared.room() != Room::Ample {
        return Ok(());
    }
    match disk.open(BALLAST_PATH, Open::Existing) {
        Ok(file) if file.size()? == bytes => return Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let short = Marks::of(&shared.config, disk.total_bytes()?).short;
    // It must not be what crosses the mark.
    if disk.free_bytes()? < short.saturating_add(short / 4).saturating_add(bytes) {
        return Ok(());
    }
    let reserved = disk.open(BALLAST_PATH, Open::Empty)?.reserve(bytes);
    if reserved.is_err() {
        disk.remove(BALLAST_PATH)?;
    }
    reserved
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_marks_of_a_small_disk_are_parts_of_it_and_of_a_large_one_fixed() {
        let config = EngineConfig::default();
        assert_eq!(Marks::of(&config, 1000 * GIB), Marks { short: 5 * GIB, full: GIB });
        let small = Marks::of(&config, 10 * GIB);
        assert!(small.short <= GIB && small.short > GIB * 99 / 100, "{small:?}");
        assert!(small.full <= GIB * 3 / 10 && small.full > GIB * 29 / 100, "{small:?}");
    }

    #[test]
    fn a_mark_is_left_only_with_a_quarter_more() {
        let flag = AtomicBool::new(false);
        let steps = [(100, false), (99, true), (99, false), (100, false), (124, false), (125, true), (100, false)];
        for (free, change) in steps {
            assert_eq!(crossed(&flag, free, 100), change, "{free}");
        }
    }
}
