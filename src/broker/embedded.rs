//! The engine on this machine's disk: [`Engine`] over the log in [`super::log`].

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use tokio::sync::{Semaphore, oneshot};

pub use super::log::{DamageReport, DamagedPlace, EngineConfig, Groups, Loss, Missing, OpenError, RecoveryReport};

use super::disk::Disk;
use super::disk::real::RealDisk;
use super::engine::{
    Ack, AdminError, Bounds, Capabilities, Commit, CommitError, Engine, EngineStats, FetchError, Fetched, Room,
    TopicSpec, Watch,
};
use super::log::{self, Log, Partition, Refused, Request, Shared};
use crate::clock::{Clock, Timestamp};
use crate::names::{Offset, TopicId, TopicPartition};

/// One fetch never returns more, in bytes, however much was asked for.
const FETCH_BYTES_MAX: usize = 16 << 20;

/// See the module's text. One per data directory; share it behind an `Arc`.
///
/// [`Engine::close`] writes a checkpoint, which makes the next start quick. Without it nothing acknowledged is lost
/// either.
pub struct EmbeddedEngine {
    log: Arc<Log>,
    cold_reads: Arc<Semaphore>,
}

impl EmbeddedEngine {
    /// Opens or creates the store in `dir`. Blocks: it reads the log since the last checkpoint.
    pub fn open(dir: &Path, config: EngineConfig, clock: Arc<dyn Clock>) -> Result<(Self, RecoveryReport), OpenError> {
        Self::open_on(Arc::new(RealDisk::open(dir)?), config, clock)
    }

    pub(super) fn open_on(
        disk: Arc<dyn Disk>,
        config: EngineConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        let cold_reads = Arc::new(Semaphore::new(config.cold_reads_max.max(1)));
        let (log, report) = log::open(disk, config, clock)?;
        Ok((Self { log: Arc::new(log), cold_reads }, report))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.log.shared
    }

    /// Checks every sealed segment now, as fast as it goes.
    #[cfg(test)]
    pub(super) fn scrub(&self) {
        log::scrub(self.shared(), 0);
    }

    fn partition(&self, at: TopicPartition) -> Result<Arc<Partition>, FetchError> {
        if self.shared().is_stopped() {
            return Err(FetchError::Stopped);
        }
        self.shared().topics.partition(at).ok_or(FetchError::UnknownPartition(at))
    }

    /// Runs a read that may block on the disk.
    async fn cold<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shared) -> Result<T, FetchError> + Send + 'static,
    ) -> Result<T, FetchError> {
        let permit = Arc::clone(&self.cold_reads).acquire_owned().await.map_err(|_| FetchError::Stopped)?;
        let shared = Arc::clone(self.shared());
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            read(&shared)
        });
        reading.await.map_err(|_| FetchError::Stopped)?
    }

    async fn administer(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<(), AdminError>>) -> Request,
    ) -> Result<(), AdminError> {
        let (reply, answer) = oneshot::channel();
        match self.shared().queue.push(request(reply)) {
            Ok(()) => answer.await.map_err(|_| AdminError::Stopped)?,
            Err(Refused::Full) => Err(AdminError::Busy),
            Err(Refused::Closed) => Err(AdminError::Stopped),
        }
    }
}

#[async_trait]
impl Engine for EmbeddedEngine {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "embedded",
            durable: true,
            conditional_append: true,
            commit_bytes_max: self.shared().config.commit_bytes_max,
        }
    }

    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), AdminError> {
        // Of what is there at once: how long records are kept must not depend on whether the topic can grow.
        self.shared().topics.set_settings(spec.id, spec.settings);
        let known = self.shared().topics.topic(spec.id).map_or(0, |partitions| partitions.len());
        if self.shared().is_stopped() || u32::try_from(known) != Ok(spec.partitions) {
            if self.shared().room() != Room::Ample && !self.shared().is_stopped() {
                return Err(AdminError::ReadOnly);
            }
            let spec = spec.clone();
            self.administer(|reply| Request::Ensure { spec, reply }).await?;
        }
        // Until here the new partitions keep everything, which is never wrong for long.
        self.shared().topics.set_settings(spec.id, spec.settings);
        Ok(())
    }

    async fn delete_topic(&self, topic: TopicId) -> Result<(), AdminError> {
        self.administer(|reply| Request::Delete { topic, reply }).await
    }

    async fn maintain(&self) -> Result<(), AdminError> {
        let shared = Arc::clone(self.shared());
        let running = tokio::task::spawn_blocking(move || log::maintain(&shared));
        running.await.map_err(|_| AdminError::Stopped)?
    }

    async fn commit(&self, commit: Commit) -> Result<Ack, CommitError> {
        let shared = self.shared();
        let limit = shared.config.commit_bytes_max;
        let bytes = commit.writes.iter().map(|write| write.batch.len()).sum();
        if bytes > limit {
            return Err(CommitError::TooLarge { limit });
        }
        if shared.read_only.load(Ordering::SeqCst) && !shared.is_stopped() {
            return Err(CommitError::ReadOnly);
        }
        let (reply, answer) = oneshot::channel();
        match shared.queue.push(Request::Commit { commit, bytes, reply }) {
            Ok(()) => answer.await.map_err(|_| CommitError::Stopped)?,
            Err(Refused::Full) => Err(CommitError::Busy),
            Err(Refused::Closed) => Err(CommitError::Stopped),
        }
    }

    async fn fetch(&self, at: TopicPartition, from: Offset, bytes_max: usize) -> Result<Fetched, FetchError> {
        let partition = self.partition(at)?;
        let bounds = partition.bounds();
        if from < bounds.start || from > bounds.end {
            return Err(FetchError::OutOfRange(bounds));
        }
        let bytes_max = bytes_max.min(FETCH_BYTES_MAX);
        let batches = if from == bounds.end {
            Vec::new()
        } else if let Some(recent) = partition.recent(from, bounds.end, bytes_max) {
            recent
        } else {
            self.cold(move |shared| shared.read(&partition, from, bytes_max)).await?
        };
        Ok(Fetched { batches, bounds })
    }

    fn bounds(&self, at: TopicPartition) -> Result<Bounds, FetchError> {
        Ok(self.partition(at)?.bounds())
    }

    async fn offset_for_timestamp(&self, at: TopicPartition, at_or_after: Timestamp) -> Result<Offset, FetchError> {
        let partition = self.partition(at)?;
        self.cold(move |shared| shared.find_time(&partition, at_or_after)).await
    }

    fn watch(&self, partitions: &[TopicPartition]) -> Box<dyn Watch> {
        let known = partitions.iter().filter_map(|at| self.shared().topics.partition(*at)).collect();
        Box::new(self.shared().notifier.watch(known))
    }

    fn stored_bytes(&self, topic: TopicId) -> u64 {
        let partitions = self.shared().topics.topic(topic);
        partitions.iter().flat_map(|p| p.iter()).map(|p| p.stored_bytes.load(Ordering::Relaxed)).sum()
    }

    fn stats(&self) -> EngineStats {
        self.shared().stats()
    }

    fn fault(&self) -> Option<String> {
        self.shared().fault()
    }

    async fn close(&self) {
        let log = Arc::clone(&self.log);
        // An error is a panic of the closing itself, after which there is nothing more to do.
        drop(tokio::task::spawn_blocking(move || log.close()).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::conformance::{self, Fixture, conformance};
    use crate::broker::disk::sim::SimDisk;
    use crate::clock::ManualClock;

    mod on_a_simulated_disk {
        use super::*;

        async fn fixture() -> Fixture {
            let clock = ManualClock::at(Timestamp(1_000));
            let opened =
                EmbeddedEngine::open_on(Arc::new(SimDisk::new()), EngineConfig::small(), Arc::new(clock.clone()));
            Fixture::new(opened.unwrap().0, clock)
        }

        conformance!(fixture);
    }

    mod on_the_real_disk {
        use super::*;

        async fn fixture() -> Fixture {
            let clock = ManualClock::at(Timestamp(1_000));
            let dir = tempfile::tempdir().unwrap();
            let opened = EmbeddedEngine::open(dir.path(), EngineConfig::small(), Arc::new(clock.clone()));
            Fixture::new(opened.unwrap().0, clock).keeping(dir)
        }

        conformance!(fixture);
    }

    #[tokio::test]
    async fn everything_is_there_after_a_restart_with_or_without_a_clean_end() {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Timestamp(1_000));
        let open = || EmbeddedEngine::open(dir.path(), EngineConfig::small(), Arc::new(clock.clone())).unwrap();
        let (engine, report) = open();
        assert!(report.created);
        let f = Fixture::new(engine, clock.clone());
        let at = f.partition().await;
        f.append(at, &["a", "b"]).await;
        let keyed = f.engine.commit(conformance::keyed(1, 1, [conformance::write(at, &["c"])])).await.unwrap();
        drop(f);

        let (engine, report) = open();
        assert_eq!((report.created, report.records_replayed, report.torn_tail), (false, 3, false));
        let f = Fixture::new(engine, clock.clone());
        assert_eq!(f.values(at).await, ["a", "b", "c"]);
        f.append(at, &["d"]).await;
        f.engine.close().await;
        drop(f);

        let (engine, report) = open();
        assert_eq!(report.records_replayed, 0, "a clean end leaves nothing to replay");
        let f = Fixture::new(engine, clock.clone());
        let again = f.engine.commit(conformance::keyed(1, 1, [conformance::write(at, &["c"])])).await.unwrap();
        assert_eq!(again, Ack { replayed: true, ..keyed });
        assert_eq!(f.values(at).await, ["a", "b", "c", "d"]);
    }

    #[tokio::test]
    async fn a_read_that_begins_after_its_records_went_says_so_instead_of_skipping() {
        use crate::broker::engine::TopicSettings;
        let clock = ManualClock::at(Timestamp(1_000));
        let disk = SimDisk::new();
        // Nothing stays in memory, so that reads go to the segments.
        let config = EngineConfig { tail_bytes_max: 0, ..EngineConfig::small() };
        let (engine, _) = EmbeddedEngine::open_on(Arc::new(disk.clone()), config, Arc::new(clock.clone())).unwrap();
        let at = TopicPartition { topic: TopicId::new(), partition: 0 };
        let settings = TopicSettings { retention: Some(std::time::Duration::from_mins(1)), ..TopicSettings::default() };
        engine.ensure_topic(&TopicSpec { settings, ..TopicSpec::new(at.topic, 1) }).await.unwrap();
        engine.commit(conformance::commit([conformance::write(at, &["old", "older"])])).await.unwrap();
        clock.advance(std::time::Duration::from_hours(1));
        conformance::maintain_until(&engine, at, Offset(2)).await;
        engine.commit(conformance::commit([conformance::write(at, &["young"])])).await.unwrap();
        // What a reader does that looked at the bounds before.
        let partition = engine.partition(at).unwrap();
        for from in [0, 1] {
            let partition = Arc::clone(&partition);
            let raced = engine.cold(move |shared| shared.read(&partition, Offset(from), 100)).await;
            let bounds = Bounds { start: Offset(2), end: Offset(3) };
            assert_eq!(raced.unwrap_err(), FetchError::OutOfRange(bounds));
        }
    }

    #[test]
    fn a_second_engine_on_one_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp(1_000)));
        let open = || EmbeddedEngine::open(dir.path(), EngineConfig::small(), clock.clone());
        let first = open().unwrap();
        let second = open().err().unwrap();
        assert!(matches!(second, OpenError::InUse), "{second}");
        drop(first);
        open().unwrap();
    }
}
