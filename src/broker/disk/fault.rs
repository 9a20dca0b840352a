//! A disk whose operations fail on demand.

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{Disk, File, Open};

/// What can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Write,
    Sync,
    Rename,
    SyncDir,
    /// `open` with [`Open::Empty`].
    Create,
}

/// Operations of this kind on paths that begin with this fail with this error, the first `skip` excepted.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) operation: Operation,
    pub(crate) path: &'static str,
    pub(crate) error: rustix::io::Errno,
    pub(crate) skip: u32,
}

#[derive(Default)]
struct Plan {
    fault: Option<Fault>,
    failed: u32,
    free_bytes: Option<u64>,
    /// Syncs of the commit thread wait.
    hold: bool,
    /// So many of them may pass.
    passes: u32,
    /// One of them waits.
    held: bool,
}

/// The thread that [`FaultyDisk::hold_commits`] holds.
const COMMIT_THREAD: &str = "weir-commit";

/// Hands everything on to another disk but for the planned fault. Clones share the plan.
#[derive(Clone)]
pub(crate) struct FaultyDisk {
    inner: Arc<dyn Disk>,
    plan: Arc<Mutex<Plan>>,
    changed: Arc<Condvar>,
}

impl FaultyDisk {
    pub(crate) fn new(inner: impl Disk) -> Self {
        Self { inner: Arc::new(inner), plan: Arc::default(), changed: Arc::default() }
    }

    pub(crate) fn plan(&self, fault: Option<Fault>) {
        self.plan.lock().fault = fault;
    }

    pub(crate) fn pretend_free_bytes(&self, bytes: Option<u64>) {
        self.plan.lock().free_bytes = bytes;
    }

    /// How many operations have failed.
    pub(crate) fn failed(&self) -> u32 {
        self.plan.lock().failed
    }

    /// Lets the commit thread's next sync wait for [`FaultyDisk::release_commits`], so that a test decides what is written
    /// together.
    pub(crate) fn hold_commits(&self) {
        self.plan.lock().hold = true;
    }

    /// Waits until a sync is held; gives up when `over`.
    pub(crate) fn until_held(&self, over: impl Fn() -> bool) {
        let mut plan = self.plan.lock();
        while !plan.held && !over() {
            self.changed.wait_for(&mut plan, Duration::from_millis(1));
        }
    }

    pub(crate) fn release_commits(&self) {
        self.plan.lock().hold = false;
        self.changed.notify_all();
    }

    /// Lets one sync of the commit thread happen.
    pub(crate) fn pass_one_commit(&self) {
        let mut plan = self.plan.lock();
        plan.passes += 1;
        plan.held = false;
        self.changed.notify_all();
    }

    fn wait_while_held(&self) {
        if std::thread::current().name() != Some(COMMIT_THREAD) {
            return;
        }
        let mut plan = self.plan.lock();
        while plan.hold && plan.passes == 0 {
            plan.held = true;
            self.changed.notify_all();
            self.changed.wait(&mut plan);
        }
        plan.passes = plan.passes.saturating_sub(1);
        plan.held = false;
    }

    fn check(&self, operation: Operation, path: &str) -> io::Result<()> {
        let mut plan = self.plan.lock();
        let Some(fault) = &mut plan.fault else { return Ok(()) };
        if fault.operation != operation || !path.starts_with(fault.path) {
            return Ok(());
        }
        if let Some(left) = fault.skip.checked_sub(1) {
            fault.skip = left;
            return Ok(());
        }
        let error = fault.error;
        plan.failed += 1;
        Err(error.into())
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &str, how: Open) -> io::Result<Arc<dyn File>> {
        if how == Open::Empty {
            self.check(Operation::Create, path)?;
        }
        let inner = self.inner.open(path, how)?;
        Ok(Arc::new(FaultyFile { disk: self.clone(), inner, path: path.to_owned() }))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.inner.create_dir(path)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check(Operation::Rename, to)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.check(Operation::SyncDir, path)?;
        self.inner.sync_dir(path)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.plan.lock().free_bytes.map_or_else(|| self.inner.free_bytes(), Ok)
    }

    fn total_bytes(&self) -> io::Result<u64> {
        self.inner.total_bytes()
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.inner.lock(path)
    }
}

struct FaultyFile {
    disk: FaultyDisk,
    inner: Arc<dyn File>,
    path: String,
}

impl File for FaultyFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.inner.read_at(buf, at)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.disk.check(Operation::Write, &self.path)?;
        self.inner.write_at(buf, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.wait_while_held();
        self.disk.check(Operation::Sync, &self.path)?;
        self.inner.sync()
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.inner.reserve(bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }
}
