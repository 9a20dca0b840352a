//! Waking readers. One registration for any number of partitions, and one thread that does the waking, so that the
//! commit thread never pays for the number of readers.

use std::collections::HashMap;
use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;

use async_trait::async_trait;
use futures_util::task::AtomicWaker;
use parking_lot::{Condvar, Mutex};

use super::partition::Partition;
use crate::broker::engine::Watch;

/// One reader's registration.
#[derive(Default)]
pub(in crate::broker) struct Watcher {
    pending: AtomicBool,
    waker: AtomicWaker,
}

impl Watcher {
    fn wake(&self) {
        if !self.pending.swap(true, Ordering::SeqCst) {
            self.waker.wake();
        }
    }
}

/// Who watches one partition.
#[derive(Default)]
pub(in crate::broker) struct Watchers {
    /// Read by the commit thread without the lock.
    count: AtomicUsize,
    /// Waiting to be woken by the notifier.
    queued: AtomicBool,
    registered: Mutex<Registered>,
}

#[derive(Default)]
struct Registered {
    next: u64,
    by_number: HashMap<u64, Arc<Watcher>>,
}

impl Watchers {
    fn add(&self, watcher: &Arc<Watcher>) -> u64 {
        let mut registered = self.registered.lock();
        registered.next += 1;
        let number = registered.next;
        registered.by_number.insert(number, Arc::clone(watcher));
        self.count.store(registered.by_number.len(), Ordering::SeqCst);
        number
    }

    fn remove(&self, number: u64) {
        let mut registered = self.registered.lock();
        registered.by_number.remove(&number);
        self.count.store(registered.by_number.len(), Ordering::SeqCst);
    }
}

/// Hands partitions from the commit thread to the thread that wakes their watchers.
#[derive(Default)]
pub(in crate::broker) struct Notifier {
    queue: Mutex<Queue>,
    filled: Condvar,
    /// Every watch returns at once from now on.
    stopped: AtomicBool,
    /// Everybody, whatever they watch.
    all: Watchers,
}

#[derive(Default)]
struct Queue {
    partitions: Vec<Arc<Partition>>,
    stopped: bool,
}

impl Notifier {
    /// Has the partitions' watchers woken soon.
    pub(in crate::broker) fn notify<'a>(&self, partitions: impl IntoIterator<Item = &'a Arc<Partition>>) {
        let mut queue = None;
        for partition in partitions {
            let watchers = &partition.watchers;
            if watchers.count.load(Ordering::SeqCst) == 0 || watchers.queued.swap(true, Ordering::SeqCst) {
                continue;
            }
            queue.get_or_insert_with(|| self.queue.lock()).partitions.push(Arc::clone(partition));
        }
        if queue.is_some() {
            self.filled.notify_one();
        }
    }

    /// The loop of the waking thread.
    pub(in crate::broker) fn run(&self) {
        let mut partitions = Vec::new();
        let mut watchers = Vec::new();
        loop {
            {
                let mut queue = self.queue.lock();
                while queue.partitions.is_empty() && !queue.stopped {
                    self.filled.wait(&mut queue);
                }
                if queue.partitions.is_empty() {
                    return;
                }
                mem::swap(&mut partitions, &mut queue.partitions);
            }
            for partition in partitions.drain(..) {
                partition.watchers.queued.store(false, Ordering::SeqCst);
                // Waking thousands takes milliseconds; nobody who registers should wait for that.
                watchers.extend(partition.watchers.registered.lock().by_number.values().cloned());
            }
            watchers.drain(..).for_each(|watcher: Arc<Watcher>| watcher.wake());
        }
    }

    /// Wakes everybody for good and ends the thread.
    pub(in crate::broker) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.queue.lock().stopped = true;
        self.filled.notify_one();
        let everybody: Vec<_> = self.all.registered.lock().by_number.values().cloned().collect();
        everybody.iter().for_each(|watcher| watcher.wake());
    }

    /// A watch over these partitions.
    pub(in crate::broker) fn watch(self: &Arc<Self>, partitions: Vec<Arc<Partition>>) -> LogWatch {
        let watcher = Arc::default();
        let everything = self.all.add(&watcher);
        let registered = partitions
            .into_iter()
            .map(|partition| {
                let number = partition.watchers.add(&watcher);
                (partition, number)
            })
            .collect();
        LogWatch { watcher, registered, everything, notifier: Arc::clone(self) }
    }
}

/// See [`Watch`].
pub(in crate::broker) struct LogWatch {
    watcher: Arc<Watcher>,
    registered: Vec<(Arc<Partition>, u64)>,
    everything: u64,
    notifier: Arc<Notifier>,
}

#[async_trait]
impl Watch for LogWatch {
    async fn changed(&mut self) {
        poll_fn(|cx| {
            self.watcher.waker.register(cx.waker());
            let changed = self.watcher.pending.swap(false, Ordering::SeqCst);
            if changed || self.notifier.stopped.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl Drop for LogWatch {
    fn drop(&mut self) {
        self.notifier.all.remove(self.everything);
        for (partition, number) in &self.registered {
            partition.watchers.remove(*number);
        }
    }
}
