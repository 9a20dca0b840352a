//! The checkpoint: makes segments durable, says so in the manifest, and gives the log's old segments back.
//!
//! The order is the point: segments and their directories first, then the manifest, then the log may forget.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Shared;
use super::manifest::{KnownPartition, Manifest};
use super::segment::{self, SegmentKey};
use super::space;
use super::wal::Position;
use crate::broker::disk::Open;
use crate::broker::producers;

/// How often the free space is looked at.
const SPACE_CHECK_EVERY: Duration = Duration::from_secs(1);

/// Files that nobody needs are removed in steps of this many, with a pause between, as removing is work for the file
/// system's journal that writers wait for.
const REMOVALS_PER_STEP: usize = 64;
/// A larger file is first cut down in steps of this many bytes: giving back many blocks at once is such work, too.
const CUT_BYTES: u64 = 16 << 20;
const PAUSE_BETWEEN_STEPS: Duration = Duration::from_millis(10);

/// The commit thread waits for the copying of about this many keys and answers, or of one key's.
const ANSWERS_PER_SLICE: usize = 2048;

/// What a checkpoint makes durable.
pub(super) struct Snapshot {
    pub(super) position: Position,
    pub(super) next_partition: u32,
    pub(super) partitions: Vec<KnownPartition>,
    pub(super) segments: BTreeSet<SegmentKey>,
    pub(super) dirs: BTreeSet<u8>,
    pub(super) garbage: Vec<SegmentKey>,
    /// Segments of the log that nobody needs once it is durable.
    pub(super) released: Vec<u64>,
}

/// Hands one snapshot at a time from the applier to the checkpoint thread.
#[derive(Default)]
pub(super) struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    offered: Option<Snapshot>,
    busy: bool,
    finished: bool,
    aborted: bool,
}

impl Slot {
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.offered.is_none() && !state.busy
    }

    /// Waits until the previous one has been taken.
    pub(super) fn offer(&self, snapshot: Snapshot) {
        let mut state = self.state.lock();
        while state.offered.is_some() && !state.aborted {
            self.changed.wait(&mut state);
        }
        state.offered = Some(snapshot);
        self.changed.notify_all();
    }

    /// No more follows.
    pub(super) fn finish(&self) {
        self.state.lock().finished = true;
        self.changed.notify_all();
    }

    pub(super) fn abort(&self) {
        self.state.lock().aborted = true;
        self.changed.notify_all();
    }

    fn take(&self, patience: Duration) -> Next {
        let mut state = self.state.lock();
        state.busy = false;
        let deadline = Instant::now() + patience;
        while state.offered.is_none() && !state.finished && !state.aborted {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        if state.aborted {
            return Next::End;
        }
        let taken = state.offered.take();
        self.changed.notify_all();
        match taken {
            Some(snapshot) => {
                state.busy = true;
                Next::Snapshot(snapshot)
            }
            None if state.finished => Next::End,
            None => Next::Nothing,
        }
    }
}

enum Next {
    Snapshot(Snapshot),
    Nothing,
    End,
}

/// See the module's text.
pub(super) struct Checkpointer {
    shared: Arc<Shared>,
    /// Segments that no partition has any more; in the manifest until they are removed.
    garbage: Vec<SegmentKey>,
    /// Directories that files were removed from since the last manifest: before the next one forgets those files, a power
    /// cut must not bring them back.
    emptied_dirs: BTreeSet<u8>,
}

impl Checkpointer {
    pub(super) fn new(shared: Arc<Shared>, garbage: Vec<SegmentKey>) -> Self {
        Self { shared, garbage, emptied_dirs: BTreeSet::new() }
    }

    /// The loop; ends when nothing follows.
    pub(super) fn run(mut self) -> io::Result<()> {
        loop {
            space::look(&self.shared)?;
            // A checkpoint does not wait for removals: they go on between two.
            let patience = if self.garbage.is_empty() { SPACE_CHECK_EVERY } else { PAUSE_BETWEEN_STEPS };
            match self.shared.checkpoints.take(patience) {
                Next::Snapshot(snapshot) => self.checkpoint(snapshot)?,
                Next::Nothing => self.remove_some(),
                Next::End => break,
            }
        }
        // At a clean end nobody writes any more, so nothing is paced.
        while !self.garbage.is_empty() && !self.shared.is_stopped() {
            self.remove_some();
        }
        // The last of the threads that a clean end waits for.
        self.shared.pool.stop();
        self.shared.notifier.stop();
        Ok(())
    }

    /// Makes a snapshot durable.
    pub(super) fn checkpoint(&mut self, snapshot: Snapshot) -> io::Result<()> {
        let disk = &*self.shared.disk;
        for key in &snapshot.segments {
            self.shared.files.get(*key)?.file.sync()?;
        }
        for low_byte in snapshot.dirs.union(&std::mem::take(&mut self.emptied_dirs)) {
            disk.sync_dir(&segment::dir(*low_byte))?;
        }
        self.garbage.extend(&snapshot.garbage);
        let manifest = Manifest {
            store: self.shared.store,
            position: snapshot.position,
            next_partition: snapshot.next_partition,
            partitions: snapshot.partitions,
            garbage: self.garbage.clone(),
            keys: self.keys(),
            producers: self.producers(),
        };
        manifest.store(disk)?;
        self.shared.pool.give_back(snapshot.released);
        Ok(())
    }

    /// The idempotency keys. Those of frames after the snapshot are among them: they are durable too, and replaying
    /// their frames learns them again.
    fn keys(&self) -> Vec<([u8; 16], crate::broker::idempotency::Remembered)> {
        let tenants = {
            let mut known = self.shared.keys.lock();
            known.sweep(self.shared.clock.now());
            known.tenants()
        };
        let mut all = Vec::new();
        for tenant in tenants {
            let mut from = Some(0);
            while let Some(skip) = from {
                let (slice, next) = self.shared.keys.lock().slice(tenant, skip, ANSWERS_PER_SLICE);
                all.extend(slice);
                from = next;
            }
        }
        all
    }

    /// What is known of producers, like the keys.
    fn producers(&self) -> Vec<(producers::Key, producers::Known)> {
        self.shared.producers.lock().sweep(self.shared.clock.now());
        let (mut all, mut from) = (Vec::new(), Some(0));
        while let Some(after) = from {
            let (slice, next) = self.shared.producers.lock().slice(after, ANSWERS_PER_SLICE);
            all.extend(slice);
            from = next;
        }
        all
    }

    /// One step. The manifest says that nobody needs them; what cannot be removed now is tried again at the next start.
    fn remove_some(&mut self) {
        for _ in 0..REMOVALS_PER_STEP {
            let Some(&key) = self.garbage.last() else { return };
            // A reader that was under way may have opened it again.
            self.shared.files.forget(key);
            match self.cut_down(&key.log_path()) {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => warn(&key.log_path(), Err(error)),
            }
            self.garbage.pop();
            self.emptied_dirs.insert(key.partition.to_le_bytes()[0]);
            let disk = &*self.shared.disk;
            warn(&key.index_path(), disk.remove(&key.index_path()));
            warn(&key.log_path(), disk.remove(&key.log_path()));
        }
    }

    /// Takes a step off a large file; whether it was one.
    fn cut_down(&self, path: &str) -> io::Result<bool> {
        let file = self.shared.disk.open(path, Open::Existing)?;
        let len = file.size()?;
        if len > CUT_BYTES {
            file.set_len(len - CUT_BYTES)?;
        }
        Ok(len > CUT_BYTES)
    }
}

fn warn(path: &str, removed: io::Result<()>) {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path, %error, "a file that is no longer needed could not be removed");
        }
        _ => {}
    }
}
