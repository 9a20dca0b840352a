//! Maintenance: what the engine does from time to time without being asked.
//!
//! It only decides. The commit thread makes a decision durable, the applier carries it out on the segments, and the
//! checkpoint thread removes files once the manifest no longer names them. A decision that does not get through is made
//! again the next time.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::partition::Partition;
use super::queue::{Refused, Request, Trim};
use super::retention;
use super::segment::Extent;
use super::{Shared, compact, space};
use crate::broker::engine::{AdminError, TopicSettings};
use crate::clock::Timestamp;

/// Partitions that one request to the commit thread is about: a frame of a few blocks.
const PARTITIONS_PER_REQUEST: usize = 4096;

/// How long to wait for the applier; with a full disk it may never come to it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Paces the maintenance thread and lets only one run go on at a time.
#[derive(Default)]
pub(super) struct Pace {
    state: Mutex<State>,
    changed: Condvar,
    running: Mutex<()>,
}

#[derive(Default)]
struct State {
    stopped: bool,
    hurry: bool,
}

impl Pace {
    /// Waits; whether to go on.
    pub(super) fn wait(&self, time: Duration) -> bool {
        self.wait_unless(time, |_| false)
    }

    /// Waits for the next round, not so long if it is wanted earlier; whether to go on.
    fn next_round(&self, time: Duration) -> bool {
        self.wait_unless(time, |state| std::mem::take(&mut state.hurry))
    }

    fn wait_unless(&self, time: Duration, over: impl Fn(&mut State) -> bool) -> bool {
        let mut state = self.state.lock();
        let deadline = Instant::now() + time;
        while !state.stopped && !over(&mut state) && !self.changed.wait_until(&mut state, deadline).timed_out() {}
        !state.stopped
    }

    /// Has the next run begin now.
    pub(super) fn hurry(&self) {
        self.state.lock().hurry = true;
        self.changed.notify_all();
    }

    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }
}

/// The loop of the maintenance thread.
pub(super) fn run(shared: &Shared) {
    while shared.maintenance.next_round(shared.config.maintenance_every) {
        if let Err(error) = run_once(shared) {
            tracing::debug!(%error, "maintenance was put off");
        }
    }
}

/// One round of everything. Blocks.
pub(in crate::broker) fn run_once(shared: &Shared) -> Result<(), AdminError> {
    if shared.is_stopped() {
        return Err(AdminError::Stopped);
    }
    let _only = shared.maintenance.running.lock();
    let now = shared.clock.now();
    let bounded = bounded(shared);
    // First, so that what was sealed just now can go as well.
    let ripe = bounded.iter().filter(|(partition, settings)| {
        let last = partition.segments.read().last().map(|segment| segment.extent());
        last.is_some_and(|extent| retention::is_ripe(&extent, settings, now))
    });
    let seals: Vec<_> = ripe.map(|(partition, _)| Arc::clone(partition)).collect();
    for seals in seals.chunks(PARTITIONS_PER_REQUEST) {
        carry_out(shared, seals.to_vec(), Vec::new())?;
    }
    let starts: Vec<_> =
        bounded.into_iter().filter_map(|(partition, settings)| new_start(partition, &settings, now)).collect();
    for starts in starts.chunks(PARTITIONS_PER_REQUEST) {
        carry_out(shared, Vec::new(), starts.to_vec())?;
    }
    if let Err(error) = space::keep_ballast(shared) {
        // Only whoever meets a full disk would miss it.
        tracing::warn!(%error, "the ballast could not be made");
    }
    compact::run(shared);
    Ok(())
}

/// The partitions that may lose records, and what they are to keep.
fn bounded(shared: &Shared) -> Vec<(Arc<Partition>, TopicSettings)> {
    let all = shared.topics.all();
    let with_settings = all.iter().flat_map(|topic| topic.iter()).map(|p| (Arc::clone(p), p.settings()));
    with_settings.filter(|(_, settings)| retention::is_bounded(settings)).collect()
}

fn new_start(
    partition: Arc<Partition>,
    settings: &TopicSettings,
    now: Timestamp,
) -> Option<(Arc<Partition>, crate::names::Offset)> {
    let extents: Vec<Extent> = partition.segments.read().iter().map(|segment| segment.extent()).collect();
    retention::start(&extents, settings, now).map(|start| (partition, start))
}

/// Has a decision made durable and carried out; returns when the segments are as decided.
fn carry_out(
    shared: &Shared,
    seals: Vec<Arc<Partition>>,
    starts: Vec<(Arc<Partition>, crate::names::Offset)>,
) -> Result<(), AdminError> {
    let (carried_out, done) = mpsc::channel();
    match shared.queue.push(Request::Trim(Trim { seals, starts, carried_out: Some(carried_out) })) {
        Ok(()) => {}
        Err(Refused::Full) => return Err(AdminError::Busy),
        Err(Refused::Closed) => return Err(AdminError::Stopped),
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        match done.recv_timeout(Duration::from_millis(100)) {
            // Dropped without a word: there was nothing to do any more, or no space to say so in the log.
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) if shared.is_stopped() => return Err(AdminError::Stopped),
            // A closing engine waits for this thread.
            Err(RecvTimeoutError::Timeout) if shared.maintenance.is_stopped() || Instant::now() >= deadline => {
                return Err(AdminError::Busy);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}
