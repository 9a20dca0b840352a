//! What waits to be written, bounded by bytes.
//!
//! First come, first served. A scheduler that is fair to tenants takes the place of this file: the commit thread asks
//! for one group at a time and does not care how it was chosen.

use std::collections::VecDeque;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::partition::Partition;
use crate::broker::engine::{Ack, AdminError, Commit, CommitError, TopicSpec};
use crate::names::{Offset, TopicId};

/// Memory that a waiting commit takes beside its batches, in bytes.
const OVERHEAD_BYTES: usize = 256;

/// What maintenance has decided.
pub(in crate::broker) struct Trim {
    /// Whose growing segments are to be sealed where they are now.
    pub(in crate::broker) seals: Vec<Arc<Partition>>,
    /// Where partitions are to begin.
    pub(in crate::broker) starts: Vec<(Arc<Partition>, Offset)>,
    /// Told once the segments are so; dropped if that will not be.
    pub(in crate::broker) carried_out: Option<mpsc::Sender<()>>,
}

/// Something for the commit thread to do.
pub(in crate::broker) enum Request {
    Commit { commit: Commit, bytes: usize, reply: oneshot::Sender<Result<Ack, CommitError>> },
    Ensure { spec: TopicSpec, reply: oneshot::Sender<Result<(), AdminError>> },
    Delete { topic: TopicId, reply: oneshot::Sender<Result<(), AdminError>> },
    Trim(Trim),
}

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Self::Commit { bytes, .. } => bytes + OVERHEAD_BYTES,
            Self::Ensure { .. } | Self::Delete { .. } | Self::Trim(_) => OVERHEAD_BYTES,
        }
    }

    fn is_commit(&self) -> bool {
        matches!(self, Self::Commit { .. })
    }
}

/// What [`Queue::take_group`] found.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::broker) enum Taken {
    Group,
    /// Nothing came for as long as the caller wanted to wait.
    Idle,
    /// Nothing is left and nothing will come.
    Closed,
}

/// Why nothing was queued.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::broker) enum Refused {
    Full,
    Closed,
}

/// See the module's text.
pub(in crate::broker) struct Queue {
    bytes_max: usize,
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    requests: VecDeque<Request>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    pub(in crate::broker) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: Mutex::default(), filled: Condvar::new() }
    }

    pub(in crate::broker) fn push(&self, request: Request) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        // What makes room is small and rare, and must not be kept out by what needs it. A request larger than the bound must
        // get in some time: when nothing else waits.
        let makes_room = matches!(request, Request::Delete { .. } | Request::Trim(_));
        if !makes_room && state.bytes > 0 && state.bytes + request.bytes() > self.bytes_max {
            return Err(Refused::Full);
        }
        state.bytes += request.bytes();
        let first = state.requests.is_empty();
        state.requests.push_back(request);
        drop(state);
        if first {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Moves the next group into `group`: commits of about `bytes_max` in all, or one request of another kind. Waits for
    /// the first request, at most `patience` if there is one.
    pub(in crate::broker) fn take_group(
        &self,
        group: &mut Vec<Request>,
        bytes_max: usize,
        patience: Option<Duration>,
    ) -> Taken {
        let mut state = self.state.lock();
        while state.requests.is_empty() {
            if state.closed {
                return Taken::Closed;
            }
            match patience {
                None => self.filled.wait(&mut state),
                Some(patience) => {
                    if self.filled.wait_for(&mut state, patience).timed_out() && state.requests.is_empty() {
                        return Taken::Idle;
                    }
                }
            }
        }
        let mut bytes = 0;
        while let Some(request) = state.requests.front() {
            let alone = !request.is_commit() || bytes + request.bytes() > bytes_max;
            if alone && !group.is_empty() {
                break;
            }
            let Some(request) = state.requests.pop_front() else { break };
            bytes += request.bytes();
            let commit = request.is_commit();
            group.push(request);
            if !commit {
                break;
            }
        }
        state.bytes -= bytes;
        Taken::Group
    }

    /// Takes nothing new; what waits is still handed out.
    pub(in crate::broker) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_all();
    }

    /// Takes nothing new and drops what waits; the waiting see their reply channel closed.
    pub(in crate::broker) fn abort(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let dropped = std::mem::take(&mut state.requests);
        state.bytes = 0;
        drop(state);
        self.filled.notify_all();
        drop(dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(bytes: usize) -> Request {
        let commit =
            Commit { tenant: crate::broker::engine::Tenant(uuid::Uuid::nil()), writes: Vec::new(), idempotency: None };
        Request::Commit { commit, bytes, reply: oneshot::channel().0 }
    }

    fn delete() -> Request {
        Request::Delete { topic: TopicId::new(), reply: oneshot::channel().0 }
    }

    fn groups(queue: &Queue, bytes_max: usize) -> Vec<usize> {
        let mut sizes = Vec::new();
        let mut group = Vec::new();
        while queue.take_group(&mut group, bytes_max, Some(Duration::ZERO)) == Taken::Group {
            sizes.push(group.drain(..).count());
        }
        sizes
    }

    #[test]
    fn a_group_ends_at_its_size_and_before_other_requests() {
        let queue = Queue::new(1 << 20);
        for request in [commit(1000), commit(1000), commit(1000), delete(), commit(9000), commit(10)] {
            queue.push(request).unwrap();
        }
        assert_eq!(groups(&queue, 3000), [2, 1, 1, 1, 1]);
    }

    #[test]
    fn beyond_its_bytes_it_refuses_until_a_group_was_taken() {
        let queue = Queue::new(3000);
        queue.push(commit(5000)).unwrap();
        assert_eq!(queue.push(commit(1)).err(), Some(Refused::Full));
        assert_eq!(groups(&queue, 3000), [1]);
        queue.push(commit(1)).unwrap();
        queue.push(commit(2000)).unwrap();
        assert_eq!(queue.push(commit(2000)).err(), Some(Refused::Full));
        queue.push(delete()).expect("what makes room is let in");
        queue.close();
        assert_eq!(queue.push(commit(1)).err(), Some(Refused::Closed));
        assert_eq!(groups(&queue, 3000), [2, 1]);
        assert_eq!(queue.take_group(&mut Vec::new(), 3000, None), Taken::Closed);
    }
}
