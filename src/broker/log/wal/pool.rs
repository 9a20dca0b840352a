//! Keeps the next segment ready, so that the commit thread does not zero files or rename them while writers wait.

use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

use super::segment;
use crate::broker::disk::{Disk, File};

/// A segment to write to.
pub(in crate::broker::log) struct Prepared {
    pub(in crate::broker::log) sequence: u64,
    pub(in crate::broker::log) file: Arc<dyn File>,
}

/// See the module's text.
pub(in crate::broker::log) struct Pool {
    disk: Arc<dyn Disk>,
    store: Uuid,
    segment_bytes: u64,
    /// Files kept for the next turns; the rest is removed. Enough for the log between two checkpoints, or every turn
    /// would zero new files and remove old ones.
    spares_max: usize,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Number of the segment to prepare next.
    next: u64,
    ready: Option<Result<Prepared, io::Error>>,
    /// Files whose frames are no longer needed.
    spares: Vec<u64>,
    stopped: bool,
}

impl Pool {
    pub(in crate::broker::log) fn new(
        disk: Arc<dyn Disk>,
        store: Uuid,
        segment_bytes: u64,
        spares_max: usize,
        next: u64,
    ) -> Self {
        let state = Mutex::new(State { next, ready: None, spares: Vec::new(), stopped: false });
        Self { disk, store, segment_bytes, spares_max, state, changed: Condvar::new() }
    }

    /// The loop of the thread that prepares.
    pub(in crate::broker::log) fn run(&self) {
        let mut state = self.state.lock();
        while !state.stopped {
            if state.ready.is_some() && state.spares.len() <= self.spares_max {
                self.changed.wait(&mut state);
                continue;
            }
            if state.ready.is_some() {
                // What cannot be removed now is found by the next start.
                let surplus = state.spares.pop();
                parking_lot::MutexGuard::unlocked(&mut state, || {
                    surplus.map(|sequence| self.disk.remove(&segment::path(sequence)))
                });
                continue;
            }
            let (sequence, spare) = (state.next, state.spares.pop());
            let made = parking_lot::MutexGuard::unlocked(&mut state, || self.prepare(sequence, spare));
            state.next += u64::from(made.is_ok());
            state.ready = Some(made);
            self.changed.notify_all();
        }
    }

    /// Prepares one segment now, on the calling thread.
    pub(in crate::broker::log) fn prepare_now(&self) -> io::Result<Prepared> {
        let (sequence, spare) = {
            let mut state = self.state.lock();
            state.next += 1;
            (state.next - 1, state.spares.pop())
        };
        self.prepare(sequence, spare)
    }

    fn prepare(&self, sequence: u64, spare: Option<u64>) -> io::Result<Prepared> {
        let file = match spare {
            Some(old) => segment::recycle(&*self.disk, self.store, old, sequence)?,
            None => segment::create(&*self.disk, self.store, sequence, self.segment_bytes)?,
        };
        Ok(Prepared { sequence, file })
    }

    /// The next segment; waits until there is one. After an error the pool tries again.
    pub(in crate::broker::log) fn take(&self) -> io::Result<Prepared> {
        let mut state = self.state.lock();
        loop {
            if let Some(ready) = state.ready.take() {
                self.changed.notify_all();
                return ready;
            }
            if state.stopped {
                return Err(io::Error::other("the engine is stopping"));
            }
            self.changed.wait(&mut state);
        }
    }

    /// Takes back segments that are no longer needed.
    pub(in crate::broker::log) fn give_back(&self, sequences: impl IntoIterator<Item = u64>) {
        let mut state = self.state.lock();
        for sequence in sequences {
            // Two turns on one file would be the end of the log.
            if !state.spares.contains(&sequence) {
                state.spares.push(sequence);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    pub(in crate::broker::log) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }
}
