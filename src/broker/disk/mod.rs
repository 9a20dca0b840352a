//! Everything the log asks of storage. The only place in the broker that opens files.
//!
//! Paths are relative to the data directory and use `/`. Nothing is durable before it is asked for: file contents by
//! [`File::sync`], the existence and the name of a file by [`Disk::sync_dir`] of its directory.

pub mod read_only;
pub mod real;

#[cfg(test)]
pub(crate) mod fault;
#[cfg(test)]
pub(crate) mod sim;

use std::any::Any;
use std::io;
use std::sync::Arc;

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// It must exist; for reading and writing.
    Existing,
    /// It is made, or emptied if it exists.
    Empty,
}

/// A directory tree on some storage.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &str, how: Open) -> io::Result<Arc<dyn File>>;

    /// Makes a directory if it is not there; its parent must be.
    fn create_dir(&self, path: &str) -> io::Result<()>;

    /// Names of the files in a directory, in no order.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Moves a file over whatever has the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Makes the directory's entries durable. The root is `""`.
    fn sync_dir(&self, path: &str) -> io::Result<()>;

    /// Bytes that can still be written.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Size of the whole disk in bytes.
    fn total_bytes(&self) -> io::Result<u64>;

    /// Takes the lock at `path`, held until the answer is dropped; [`io::ErrorKind::WouldBlock`] if somebody has it.
    fn lock(&self, path: &str) -> io::Result<Box<dyn Any + Send + Sync>>;
}

/// An open file. Any number of threads may use it at once.
pub trait File: Send + Sync {
    /// Reads up to `buf.len()` bytes; 0 at the end.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;

    /// Writes all of `buf`, making the file longer if needed.
    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()>;

    /// Makes what was written durable, with the length. An error is final: never ask again (the page cache may have
    /// dropped what it could not write).
    fn sync(&self) -> io::Result<()>;

    /// Takes room on the disk for this many bytes.
    fn reserve(&self, bytes: u64) -> io::Result<()>;

    /// Cuts or lengthens the file; new bytes are zero.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Length in bytes.
    fn size(&self) -> io::Result<u64>;
}

/// Reads exactly `len` bytes; [`io::ErrorKind::UnexpectedEof`] if the file ends before.
pub(crate) fn read_exact(file: &dyn File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut buf = vec![0; len];
    let got = read_up_to(file, at, &mut buf)?;
    if got == len { Ok(buf) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Fills `buf` as far as the file goes.
pub(crate) fn read_up_to(file: &dyn File, at: u64, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        let position = at.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
        match file.read_at(&mut buf[filled..], position)? {
            0 => break,
            got => filled += got,
        }
    }
    Ok(filled)
}
