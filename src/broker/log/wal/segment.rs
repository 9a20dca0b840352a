//! One file of the log: a header block, then frames, then what was there before.
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `WEIRWAL1` |
//! | 8 | 16 | id of the store: a segment of another store does not match |
//! | 24 | 8 | sequence number |
//! | 32 | 4 | CRC-32C of bytes 0..32 |
//! | 36 | | zeros up to 4096 |

use std::io;
use std::sync::Arc;

use uuid::Uuid;

use super::super::wire::{Fields, Put, len64};
use super::{BLOCK_BYTES, DIR};
use crate::broker::disk::{Disk, File, Open};

const MAGIC: &[u8; 8] = b"WEIRWAL1";

/// New files are zeroed in steps of this many bytes.
const ZERO_STEP_BYTES: usize = 1 << 20;

pub(in crate::broker::log) fn path(sequence: u64) -> String {
    format!("{DIR}/{sequence:016}.wal")
}

/// The sequence number in a file name, if it is one of ours.
pub(in crate::broker::log) fn sequence_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    (digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

fn header(store: Uuid, sequence: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(BLOCK_BYTES);
    out.put(MAGIC);
    out.uuid(store);
    out.u64(sequence);
    out.u32(crc32c::crc32c(&out));
    out.resize(BLOCK_BYTES, 0);
    out
}

/// Whether a file that begins with these bytes was prepared as this segment.
pub(in crate::broker::log) fn is_prepared(bytes: &[u8], store: Uuid, sequence: u64) -> bool {
    let mut fields = Fields(bytes);
    fields.take(36).is_some_and(|start| start == &header(store, sequence)[..36])
}

/// Makes a zeroed file and prepares it. Durable when it returns.
pub(in crate::broker::log) fn create(
    disk: &dyn Disk,
    store: Uuid,
    sequence: u64,
    bytes: u64,
) -> io::Result<Arc<dyn File>> {
    let file = disk.open(&path(sequence), Open::Empty)?;
    let zeros = vec![0; ZERO_STEP_BYTES];
    let mut at = 0;
    while at < bytes {
        let step = usize::try_from(bytes - at).map_or(ZERO_STEP_BYTES, |left| left.min(ZERO_STEP_BYTES));
        file.write_at(&zeros[..step], at)?;
        at += len64(step);
    }
    prepare(disk, &*file, store, sequence)?;
    Ok(file)
}

/// Turns a file whose frames are no longer needed into the next segment. Durable when it returns.
pub(in crate::broker::log) fn recycle(
    disk: &dyn Disk,
    store: Uuid,
    old: u64,
    sequence: u64,
) -> io::Result<Arc<dyn File>> {
    disk.rename(&path(old), &path(sequence))?;
    let file = disk.open(&path(sequence), Open::Existing)?;
    prepare(disk, &*file, store, sequence)?;
    Ok(file)
}

fn prepare(disk: &dyn Disk, file: &dyn File, store: Uuid, sequence: u64) -> io::Result<()> {
    file.write_at(&header(store, sequence), 0)?;
    file.sync()?;
    disk.sync_dir(DIR)
}
