//! The embedded log: one write-ahead log for all partitions, and segment files per partition behind it.
//!
//! ```text
//! commit() ──► queue ──► commit thread: sequence, write one frame, fdatasync ──► publish, answer
//!                              │                                    └──► notifier thread: wakes readers
//!                              ▼ backlog
//!                        applier thread: copies batches into segments
//!                              │ snapshot
//!                              ▼
//!                        checkpoint thread: fdatasync segments, manifest, recycle the log, remove files
//! ```
//!
//! Only the commit thread assigns offsets; only the applier changes segments; only the checkpoint thread replaces the
//! manifest. The maintenance thread decides what is no longer kept and asks the commit thread for it. Every error of a write or a sync stops the engine for good: what the page cache drops after a failed sync
//! cannot be found out, so nothing is ever tried again except writes that found the disk full.

mod apply;
mod checkpoint;
mod coalesce;
mod commit;
mod compact;
mod config;
pub mod inspect;
mod loss;
mod maintenance;
mod manifest;
mod partition;
mod queue;
mod recovery;
mod replay;
mod retention;
mod scrub;
mod segment;
mod space;
mod topics;
mod wal;
mod watch;
mod wire;

use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use uuid::Uuid;

pub use self::config::EngineConfig;
pub use self::loss::{DamageReport, DamagedPlace, Groups, Loss, Missing};
pub(super) use self::maintenance::run_once as maintain;
pub(super) use self::partition::Partition;
pub(super) use self::queue::{Refused, Request};
pub(super) use self::recovery::open;
pub use self::recovery::{OpenError, RecoveryReport};
pub(super) use self::retention::is_older;
#[cfg(test)]
pub(super) use self::scrub::round as scrub;
use self::segment::files::Files;
use self::topics::Topics;
use self::wal::pool::Pool;
use super::disk::Disk;
use super::engine::{Bounds, EngineStats, FetchError};
use super::idempotency::Idempotency;
use super::producers::Producers;
use super::record::RecordBatch;
use crate::clock::{Clock, Timestamp};
use crate::names::Offset;

/// What the threads of one store share.
pub(super) struct Shared {
    pub(super) config: EngineConfig,
    clock: Arc<dyn Clock>,
    disk: Arc<dyn Disk>,
    store: Uuid,
    pub(super) topics: Topics,
    pub(super) queue: queue::Queue,
    backlog: apply::Backlog,
    checkpoints: checkpoint::Slot,
    pool: Arc<Pool>,
    pub(super) notifier: Arc<watch::Notifier>,
    files: Files,
    maintenance: maintenance::Pace,
    compactor: Mutex<compact::Compactor>,
    damage: scrub::Damage,
    space: space::Space,
    keys: Mutex<Idempotency>,
    producers: Mutex<Producers>,
    /// Why nothing goes on, for good.
    fault: OnceLock<String>,
    stopped: AtomicBool,
    pub(super) read_only: AtomicBool,
    counters: Counters,
}

/// Figures since the start.
struct Counters {
    records: AtomicU64,
    bytes: AtomicU64,
    groups: AtomicU64,
    /// Microseconds.
    syncs: Mutex<Histogram<u64>>,
}

impl Counters {
    fn new() -> Self {
        let syncs = Histogram::new_with_bounds(1, 60_000_000, 2).expect("the bounds are valid");
        Self {
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            groups: AtomicU64::new(0),
            syncs: Mutex::new(syncs),
        }
    }
}

impl Shared {
    /// Stops everything for good; the first reason counts.
    fn fail(&self, reason: impl Into<String>) {
        let reason = reason.into();
        if self.fault.set(reason.clone()).is_ok() {
            tracing::error!(%reason, "the log engine has stopped");
        }
        self.halt();
    }

    /// Ends all threads as soon as they look; nobody is answered any more.
    fn halt(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.queue.abort();
        self.backlog.abort();
        self.checkpoints.abort();
        self.pool.stop();
        self.notifier.stop();
        self.maintenance.stop();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    pub(super) fn fault(&self) -> Option<String> {
        self.fault.get().cloned()
    }

    pub(super) fn stats(&self) -> EngineStats {
        let all = self.topics.all();
        let partitions = all.iter().flat_map(|topic| topic.iter());
        let stored_bytes = partitions.map(|p| p.stored_bytes.load(Ordering::Relaxed)).sum();
        let syncs = self.counters.syncs.lock();
        let quantile = |q| Duration::from_micros(syncs.value_at_quantile(q));
        EngineStats {
            partitions: all.iter().map(|topic| wire::len64(topic.len())).sum(),
            records_committed: self.counters.records.load(Ordering::Relaxed),
            bytes_committed: self.counters.bytes.load(Ordering::Relaxed),
            groups: self.counters.groups.load(Ordering::Relaxed),
            sync_p50: quantile(0.5),
            sync_p99: quantile(0.99),
            stored_bytes,
            scrubbed_bytes: self.damage.scrubbed_bytes(),
            damaged: self.damage.ranges(self),
            room: self.room(),
            free_bytes: self.space.free_bytes(),
        }
    }

    /// Batches from segments. Blocks.
    pub(super) fn read(&self, at: &Partition, from: Offset, bytes_max: usize) -> Result<Vec<RecordBatch>, FetchError> {
        // Memory first: what leaves it meanwhile is in a segment by then.
        let recent = at.first_recent(from, at.end());
        let stored = segment::reader::read(at, &self.files, from, bytes_max)?;
        let stored = self.damage.before_hidden(at, stored)?;
        // Compaction may have left nothing between here and what is only in memory.
        Ok(if stored.is_empty() { recent.into_iter().collect() } else { stored })
    }

    /// Offset of the first record at `timestamp` or later; the end if there is none. Blocks.
    pub(super) fn find_time(&self, at: &Partition, timestamp: Timestamp) -> Result<Offset, FetchError> {
        // Memory first: what leaves it meanwhile is in a segment by then.
        let Bounds { start, end } = at.bounds();
        let recent = at.recent_at(timestamp, start, end);
        let stored = segment::reader::find_time(at, &self.files, timestamp)?;
        Ok(stored.or(recent).map_or(end, |found| found.clamp(start, end)))
    }
}

/// A running store.
pub(super) struct Log {
    pub(super) shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    _lock: Box<dyn std::any::Any + Send + Sync>,
}

impl Log {
    /// Writes what waits, makes a checkpoint and stops. Blocks.
    pub(super) fn close(&self) {
        self.shared.maintenance.stop();
        self.shared.queue.close();
        self.join();
        // A fault that came first stays the reason.
        self.shared.fault.get_or_init(|| "the engine was closed".to_owned());
        self.shared.halt();
    }

    fn join(&self) {
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                self.shared.fail("a thread of the log engine panicked");
            }
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.shared.halt();
        self.join();
    }
}

/// Runs a thread of the engine; an error or a panic of it stops the engine.
fn spawn(
    shared: &Arc<Shared>,
    name: &'static str,
    body: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let guard = StopOnPanic { shared: Arc::clone(shared), name };
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(error) = body() {
            guard.shared.fail(format!("{name}: {error}"));
        }
    })
}

/// Waiting writers must not wait for a thread that is gone.
struct StopOnPanic {
    shared: Arc<Shared>,
    name: &'static str,
}

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.fail(format!("{} panicked", self.name));
        }
    }
}
