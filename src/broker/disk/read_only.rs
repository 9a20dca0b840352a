//! A directory tree of this machine that cannot be changed through this: every call that would change something fails.
//!
//! It looks at a store that another process may be using, so it takes no lock either.

use std::any::Any;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Disk, File, Open};

/// See the module's text.
#[derive(Debug)]
pub struct ReadOnlyDisk {
    root: PathBuf,
}

impl ReadOnlyDisk {
    /// A directory that exists.
    pub fn open(root: &Path) -> io::Result<Self> {
        fs::read_dir(root)?;
        Ok(Self { root: root.to_owned() })
    }

    /// Whether a process holds the lock at `path`. Asks with a shared lock, held for a moment: a start that meets it tries
    /// again.
    pub fn is_locked(&self, path: &str) -> io::Result<bool> {
        let file = match fs::File::open(self.root.join(path)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(fs::TryLockError::WouldBlock) => Ok(true),
            Err(fs::TryLockError::Error(e)) => Err(e),
        }
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for ReadOnlyDisk {
    fn open(&self, path: &str, how: Open) -> io::Result<Arc<dyn File>> {
        if how != Open::Existing {
            return refused();
        }
        Ok(Arc::new(ReadOnlyFile(fs::File::open(self.root.join(path))?)))
    }

    fn create_dir(&self, _path: &str) -> io::Result<()> {
        refused()
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(dir))? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _path: &str) -> io::Result<()> {
        refused()
    }

    fn sync_dir(&self, _path: &str) -> io::Result<()> {
        refused()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn total_bytes(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn lock(&self, _path: &str) -> io::Result<Box<dyn Any + Send + Sync>> {
        refused()
    }
}

struct ReadOnlyFile(fs::File);

impl File for ReadOnlyFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(buf, at) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn write_at(&self, _buf: &[u8], _at: u64) -> io::Result<()> {
        refused()
    }

    fn sync(&self) -> io::Result<()> {
        refused()
    }

    fn reserve(&self, _bytes: u64) -> io::Result<()> {
        refused()
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        refused()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
