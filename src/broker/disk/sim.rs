//! A disk in memory that can lose power.
//!
//! What was not synced when the power goes may be there, may not be there, or may be torn at sectors of 512 bytes; what
//! was not synced in a directory may have been made, renamed or removed, or not. The crash can be set for any operation
//! that changes something, counted from the start.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, File, Open};

const SECTOR_BYTES: usize = 512;

/// What becomes of un-synced changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// All are lost: the worst legal disk.
    Everything,
    /// None is lost: the power stayed on.
    Nothing,
    /// Each sector and each directory change survives or not, by this seed.
    Random(u64),
}

/// See the module's text. Clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

type Inode = u64;

#[derive(Default)]
struct State {
    files: BTreeMap<Inode, Content>,
    next_inode: Inode,
    /// Names now, and names after a crash that loses everything.
    names: BTreeMap<String, Inode>,
    synced_names: BTreeMap<String, Inode>,
    /// Changes of names that no directory sync has covered, in order.
    unsynced_names: Vec<NameChange>,
    operations: u64,
    crash_at: Option<u64>,
    /// Syncs of paths that begin with this do nothing and report success.
    ignored_sync: Option<String>,
    locked: bool,
}

#[derive(Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Clone)]
enum NameChange {
    Made(String, Inode),
    Renamed(String, String),
    Removed(String),
}

impl NameChange {
    fn dir(&self) -> &str {
        let (Self::Made(path, _) | Self::Renamed(_, path) | Self::Removed(path)) = self;
        path.rsplit_once('/').map_or("", |(dir, _)| dir)
    }

    fn apply(&self, names: &mut BTreeMap<String, Inode>) {
        match self {
            Self::Made(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Renamed(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Removed(path) => {
                names.remove(path);
            }
        }
    }
}

impl SimDisk {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Operation number `operation` (from 1) and everything after it fails: the power is gone.
    pub(crate) fn crash_at(&self, operation: u64) {
        self.0.lock().crash_at = Some(operation);
    }

    /// Operations so far that changed something or synced.
    pub(crate) fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    pub(crate) fn ignore_sync(&self, path_prefix: &str) {
        self.0.lock().ignored_sync = Some(path_prefix.to_owned());
    }

    /// The disk as the next start finds it. This one is cut off for good.
    pub(crate) fn power_cycled(&self, loss: Loss) -> Self {
        let mut old = self.0.lock();
        old.crash_at = Some(0);
        let mut dice = Dice(loss);
        let mut names = old.synced_names.clone();
        for change in &old.unsynced_names {
            if dice.survives() {
                change.apply(&mut names);
            }
        }
        let mut new = State { next_inode: old.next_inode, ..State::default() };
        for (path, inode) in &names {
            let content = old.files[inode].after_crash(&mut dice);
            new.files.insert(*inode, Content { now: content.clone(), synced: content, unsynced: Vec::new() });
            new.names.insert(path.clone(), *inode);
        }
        new.synced_names = new.names.clone();
        Self(Arc::new(Mutex::new(new)))
    }

    /// Changes bytes behind everybody's back, on the medium.
    pub(crate) fn edit(&self, path: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.lock();
        let inode = state.names[path];
        let content = state.files.get_mut(&inode).unwrap();
        edit(&mut content.now);
        content.synced = content.now.clone();
        content.unsynced.clear();
    }

    /// Paths of all files that begin with `prefix`.
    pub(crate) fn paths(&self, prefix: &str) -> Vec<String> {
        self.0.lock().names.keys().filter(|path| path.starts_with(prefix)).cloned().collect()
    }

    pub(crate) fn read(&self, path: &str) -> Vec<u8> {
        let state = self.0.lock();
        state.files[&state.names[path]].now.clone()
    }
}

/// A small linear congruential generator: runs are the same for the same seed.
struct Dice(Loss);

impl Dice {
    fn survives(&mut self) -> bool {
        match &mut self.0 {
            Loss::Everything => false,
            Loss::Nothing => true,
            Loss::Random(state) => {
                *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (*state >> 33) & 1 == 1
            }
        }
    }
}

impl Content {
    fn after_crash(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        for change in &self.unsynced {
            match change {
                Change::SetLen(len) => {
                    if dice.survives() {
                        bytes.resize(*len, 0);
                    }
                }
                Change::Write { at, bytes: written } => {
                    let mut start = 0;
                    while start < written.len() {
                        let end = ((at + start) / SECTOR_BYTES + 1) * SECTOR_BYTES - at;
                        let end = end.min(written.len());
                        if dice.survives() {
                            write(&mut bytes, at + start, &written[start..end]);
                        }
                        start = end;
                    }
                }
            }
        }
        bytes
    }
}

fn write(bytes: &mut Vec<u8>, at: usize, written: &[u8]) {
    if bytes.len() < at + written.len() {
        bytes.resize(at + written.len(), 0);
    }
    bytes[at..at + written.len()].copy_from_slice(written);
}

fn position(at: u64) -> usize {
    usize::try_from(at).unwrap()
}

impl State {
    /// Counts an operation that changes something; fails it if the power is gone.
    fn operate(&mut self) -> io::Result<()> {
        self.operations += 1;
        self.powered()
    }

    fn powered(&self) -> io::Result<()> {
        match self.crash_at {
            Some(at) if self.operations >= at => Err(io::Error::other("the power is gone")),
            _ => Ok(()),
        }
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    fn ignores(&self, path: &str) -> bool {
        self.ignored_sync.as_ref().is_some_and(|prefix| path.starts_with(prefix.as_str()))
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &str, how: Open) -> io::Result<Arc<dyn File>> {
        let mut state = self.0.lock();
        state.powered()?;
        let inode = match (state.names.get(path).copied(), how) {
            (Some(inode), Open::Existing) => inode,
            (None, Open::Existing) => return Err(io::ErrorKind::NotFound.into()),
            (Some(inode), Open::Empty) => {
                state.operate()?;
                let content = state.files.get_mut(&inode).unwrap();
                content.now.clear();
                content.unsynced.push(Change::SetLen(0));
                inode
            }
            (None, Open::Empty) => {
                state.operate()?;
                let inode = state.next_inode;
                state.next_inode += 1;
                state.files.insert(inode, Content::default());
                state.change_names(NameChange::Made(path.to_owned(), inode));
                inode
            }
        };
        Ok(Arc::new(SimFile { disk: self.clone(), inode, path: path.to_owned() }))
    }

    fn create_dir(&self, _path: &str) -> io::Result<()> {
        self.0.lock().powered()
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.0.lock();
        state.powered()?;
        let prefix = format!("{dir}/");
        let inside = state.names.keys().filter_map(|path| path.strip_prefix(&prefix));
        Ok(inside.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.operate()?;
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_names(NameChange::Renamed(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.operate()?;
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_names(NameChange::Removed(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.operate()?;
        if state.ignores(&format!("{path}/.")) {
            return Ok(());
        }
        let state = &mut *state;
        let (covered, rest) = state.unsynced_names.drain(..).partition(|change| change.dir() == path);
        state.unsynced_names = rest;
        let covered: Vec<NameChange> = covered;
        for change in covered {
            change.apply(&mut state.synced_names);
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn total_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn lock(&self, _path: &str) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut state = self.0.lock();
        if std::mem::replace(&mut state.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Unlock(self.clone())))
    }
}

struct Unlock(SimDisk);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.0.lock().locked = false;
    }
}

struct SimFile {
    disk: SimDisk,
    inode: Inode,
    path: String,
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let state = self.disk.0.lock();
        state.powered()?;
        let now = &state.files[&self.inode].now;
        let from = position(at).min(now.len());
        let len = buf.len().min(now.len() - from);
        buf[..len].copy_from_slice(&now[from..from + len]);
        Ok(len)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let powered = state.operate();
        let content = state.files.get_mut(&self.inode).unwrap();
        // The write that the power cut meets is under way: parts of it may survive.
        write(&mut content.now, position(at), buf);
        content.unsynced.push(Change::Write { at: position(at), bytes: buf.to_vec() });
        powered
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.operate()?;
        if !state.ignores(&self.path) {
            let content = state.files.get_mut(&self.inode).unwrap();
            for change in content.unsynced.drain(..) {
                match change {
                    Change::SetLen(len) => content.synced.resize(len, 0),
                    Change::Write { at, bytes } => write(&mut content.synced, at, &bytes),
                }
            }
        }
        Ok(())
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.operate()?;
        let content = state.files.get_mut(&self.inode).unwrap();
        content.now.resize(position(len), 0);
        content.unsynced.push(Change::SetLen(position(len)));
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let state = self.disk.0.lock();
        state.powered()?;
        Ok(u64::try_from(state.files[&self.inode].now.len()).unwrap())
    }
}
