//! Opening a store: reads the manifest, replays the log into segments, and makes a checkpoint before anything is served.
//!
//! The checkpoint matters: after a sync that failed, what can be read may not be on the disk. Rewriting and syncing it
//! makes it true or fails loudly. The log then goes on in a fresh segment, so that what a torn write left behind is never
//! touched again.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use uuid::Uuid;

use super::apply::Applier;
use super::checkpoint::{Checkpointer, Slot};
use super::commit::Committer;
use super::config::EngineConfig;
use super::loss::{DamageReport, DamagedPlace, Loss};
use super::manifest::{self, Manifest, ManifestError};
use super::partition::Partition;
use super::queue::Queue;
use super::replay::Replay;
use super::segment::files::Files;
use super::segment::{self, Segment, SegmentKey};
use super::wal::frame::{FrameBuilder, Seal};
use super::wal::pool::Pool;
use super::wal::scan::{Damage, End};
use super::wal::writer::Writer;
use super::wal::{self, BLOCK_BYTES, Position, scan};
use super::wire::len64;
use super::{Counters, Log, Shared, apply, maintenance, scrub, space, spawn, topics, watch};
use crate::broker::disk::{Disk, Open};
use crate::broker::engine::{Appended, Bounds};
use crate::broker::idempotency::Idempotency;
use crate::broker::producers::Producers;
use crate::clock::Clock;

pub(super) const LOCK_PATH: &str = "LOCK";
pub(super) const QUARANTINE_DIR: &str = "quarantine";

/// Whoever looks at a store tries its lock for a moment, to tell whether it is in use; a start looks twice.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// After this many damaged places the rest of the log counts as one.
const PLACES_MAX: usize = 1000;

/// The log's segments are numbered from 1; a store that has this in its manifest was never served.
pub(super) const NO_SEGMENT: u64 = 0;

/// What opening a store found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// There was no store; now there is an empty one.
    pub created: bool,
    /// Commit groups that were replayed from the log.
    pub groups_replayed: u64,
    /// Records in them.
    pub records_replayed: u64,
    /// The log ended with a group that was written in part and never acknowledged; it was dropped.
    pub torn_tail: bool,
    /// What the log has lost, if [`EngineConfig::accept_loss`] named it.
    pub accepted: Option<Box<DamageReport>>,
}

/// Why a store could not be opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error("the data directory is in use by another process (it holds the lock on its file LOCK)")]
    InUse,
    /// The bounds contradict each other.
    #[error("the engine's configuration does not work: {0}")]
    Config(String),
    /// Acknowledged records cannot be read from the log.
    #[error(
        "the log is damaged: records that were acknowledged cannot be read.\n{0}\nNothing was changed. Restore the data \
         directory from a backup, or start without these groups, and only without these: weir serve --accept-loss {loss}",
        loss = .0.loss()
    )]
    Damaged(Box<DamageReport>),
    /// The manifest cannot be trusted.
    #[error("meta/manifest is damaged: its checksum does not match. Restore the data directory from a backup.")]
    ManifestDamaged,
    /// There is a log without a manifest.
    #[error("wal/ holds a log but meta/manifest is missing. Restore the data directory from a backup.")]
    ManifestMissing,
    /// A frame's checksums are right but its contents are not; or a later version wrote it.
    #[error("the log holds an entry that this version does not understand, in frame {lsn}: {problem}")]
    Unsupported {
        /// The frame.
        lsn: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// The storage failed.
    #[error("the data directory cannot be used: {0}")]
    Io(#[from] io::Error),
}

impl From<ManifestError> for OpenError {
    fn from(error: ManifestError) -> Self {
        match error {
            ManifestError::Io(source) => Self::Io(source),
            ManifestError::Damaged => Self::ManifestDamaged,
        }
    }
}

/// Opens or creates a store and starts its threads. Blocks.
pub(in crate::broker) fn open(
    disk: Arc<dyn Disk>,
    config: EngineConfig,
    clock: Arc<dyn Clock>,
) -> Result<(Log, RecoveryReport), OpenError> {
    if let Some(problem) = config.problem() {
        return Err(OpenError::Config(problem));
    }
    let lock = take_lock(&*disk)?;
    let mut report = RecoveryReport::default();
    let sequences = scan::list(&*disk)?;
    let manifest = match Manifest::load(&*disk)? {
        Some(manifest) => manifest,
        None if !sequences.is_empty() => return Err(OpenError::ManifestMissing),
        None => create(&*disk)?,
    };
    report.created = manifest.position.segment == NO_SEGMENT;
    let log = Recovery::new(disk, config, clock, manifest, sequences).run(lock, &mut report)?;
    Ok((log, report))
}

fn take_lock(disk: &dyn Disk) -> Result<Box<dyn Any + Send + Sync>, OpenError> {
    let mut tries = 1;
    loop {
        match disk.lock(LOCK_PATH) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && tries < LOCK_TRIES => {
                tries += 1;
                std::thread::park_timeout(LOCK_PAUSE);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(OpenError::InUse),
            other => return Ok(other?),
        }
    }
}

/// The directories of a store.
pub(super) fn create_dirs(disk: &dyn Disk) -> io::Result<()> {
    for dir in [wal::DIR, manifest::DIR, segment::DIR, QUARANTINE_DIR] {
        disk.create_dir(dir)?;
    }
    for low_byte in 0..=u8::MAX {
        disk.create_dir(&segment::dir(low_byte))?;
    }
    disk.sync_dir(segment::DIR)?;
    disk.sync_dir("")
}

/// Makes an empty store. The manifest comes first, so that a log without one is never the trace of a cut creation.
fn create(disk: &dyn Disk) -> io::Result<Manifest> {
    create_dirs(disk)?;
    let manifest = Manifest {
        store: Uuid::new_v4(),
        position: Position { segment: NO_SEGMENT, at: len64(BLOCK_BYTES), lsn: 1, chain: 0 },
        next_partition: 0,
        partitions: Vec::new(),
        garbage: Vec::new(),
        keys: Vec::new(),
        producers: Vec::new(),
    };
    manifest.store(disk)?;
    Ok(manifest)
}

/// A store on its way up.
struct Recovery {
    shared: Arc<Shared>,
    applier: Applier,
    garbage: Vec<SegmentKey>,
    sequences: Vec<u64>,
    start: Position,
    next_partition: u32,
}

impl Recovery {
    fn new(
        disk: Arc<dyn Disk>,
        config: EngineConfig,
        clock: Arc<dyn Clock>,
        manifest: Manifest,
        sequences: Vec<u64>,
    ) -> Self {
        let newest = sequences.last().copied().unwrap_or(0).max(manifest.position.segment);
        let (store, segment_bytes) = (manifest.store, config.wal_segment_bytes);
        let mut producers = Producers::new(config.producers);
        let mut keys = Idempotency::new(config.idempotency);
        // The manifest's keys and numbers may be ahead of its segments. The log says those again; if it has lost them, they
        // must not be answered with. Answers of a topic that is gone stay.
        let next: HashMap<_, _> = manifest.partitions.iter().map(|known| (known.at, known.next)).collect();
        let is_applied = |run: &Appended| next.get(&run.to).is_none_or(|next| run.first < *next);
        let applied = manifest.keys.into_iter().filter(|(_, seen)| seen.appended.iter().all(is_applied));
        applied.for_each(|(key, seen)| keys.insert(key, seen));
        for ((at, id), mut known) in manifest.producers {
            known.batches.retain(|batch| next.get(&at).is_none_or(|next| batch.first < *next));
            if !known.batches.is_empty() {
                producers.insert((at, id), known);
            }
        }
        let shared = Arc::new(Shared {
            topics: topics::Topics::default(),
            queue: Queue::new(config.queue_bytes_max),
            backlog: apply::Backlog::new(config.backlog_bytes_max),
            checkpoints: Slot::default(),
            pool: Arc::new(Pool::new(Arc::clone(&disk), store, segment_bytes, config.spares_max(), newest + 1)),
            notifier: Arc::new(watch::Notifier::default()),
            maintenance: maintenance::Pace::default(),
            compactor: Mutex::default(),
            damage: scrub::Damage::default(),
            space: space::Space::default(),
            files: Files::new(Arc::clone(&disk), config.open_files_max),
            keys: Mutex::new(keys),
            producers: Mutex::new(producers),
            fault: OnceLock::new(),
            stopped: AtomicBool::new(false),
            read_only: AtomicBool::new(false),
            counters: Counters::new(),
            config,
            clock,
            disk,
            store,
        });
        let mut applier = Applier::new(Arc::clone(&shared), manifest.position, manifest.next_partition);
        let mut by_topic: HashMap<_, BTreeMap<u32, Arc<Partition>>> = HashMap::new();
        for known in manifest.partitions {
            let segment = |(key, extent)| Arc::new(Segment::known(key, extent));
            let segments = known.segments.into_iter().map(segment).collect();
            let bounds = Bounds { start: known.start, end: known.next };
            let partition = Arc::new(Partition::new(known.id, known.at, bounds, segments));
            partition.set_clean_to(known.clean_to);
            applier.add(Arc::clone(&partition));
            by_topic.entry(known.at.topic).or_default().insert(known.at.partition, partition);
        }
        for (topic, partitions) in by_topic {
            shared.topics.add(topic, &partitions.into_values().collect::<Vec<_>>());
        }
        Self {
            shared,
            applier,
            garbage: manifest.garbage,
            sequences,
            start: manifest.position,
            next_partition: manifest.next_partition,
        }
    }

    fn run(mut self, lock: Box<dyn Any + Send + Sync>, report: &mut RecoveryReport) -> Result<Log, OpenError> {
        let position = if report.created { self.start } else { self.replay(report)? };
        let shared = Arc::clone(&self.shared);
        // First, so that the start uses one of them again if it can: there may be no space for a new file.
        let oldest_needed = self.start.segment;
        let (older, others) = self.sequences.iter().partition::<Vec<_>, _>(|&&sequence| sequence < oldest_needed);
        self.keep_spares(&older)?;
        let first = shared.pool.prepare_now()?;
        let position = Position { segment: first.sequence, at: len64(BLOCK_BYTES), ..position };
        self.applier.recovered(position);
        shared.compactor.lock().started_with(&shared.topics, &self.garbage);
        let mut checkpointer = Checkpointer::new(Arc::clone(&shared), std::mem::take(&mut self.garbage));
        checkpointer.checkpoint(self.applier.snapshot())?;
        self.keep_spares(&others)?;
        let writer = Writer::new(Arc::clone(&shared.pool), first, shared.config.wal_segment_bytes, position);
        let frame = FrameBuilder::new(Seal::of(shared.store));
        let committer = Committer::new(Arc::clone(&shared), writer, frame, self.next_partition);
        let applier = self.applier;
        let log = Log { shared: Arc::clone(&shared), threads: Mutex::default(), _lock: lock };
        let start = |name, body: Box<dyn FnOnce() -> io::Result<()> + Send>| -> io::Result<JoinHandle<()>> {
            spawn(&shared, name, body)
        };
        let (pool, notifier) = (Arc::clone(&shared.pool), Arc::clone(&shared.notifier));
        // A thread that cannot be started drops `log`, which ends the others.
        log.threads.lock().push(start("weir-commit", Box::new(move || committer.run()))?);
        log.threads.lock().push(start("weir-apply", Box::new(move || applier.run()))?);
        log.threads.lock().push(start("weir-checkpoint", Box::new(move || checkpointer.run()))?);
        log.threads.lock().push(start(
            "weir-wal",
            Box::new(move || {
                pool.run();
                Ok(())
            }),
        )?);
        if shared.config.scrub_bytes_per_second > 0 {
            let scrubbed = Arc::clone(&shared);
            log.threads.lock().push(start(
                "weir-scrub",
                Box::new(move || {
                    scrub::run(&scrubbed);
                    Ok(())
                }),
            )?);
        }
        let maintained = Arc::clone(&shared);
        log.threads.lock().push(start(
            "weir-maintain",
            Box::new(move || {
                maintenance::run(&maintained);
                Ok(())
            }),
        )?);
        log.threads.lock().push(start(
            "weir-notify",
            Box::new(move || {
                notifier.run();
                Ok(())
            }),
        )?);
        Ok(log)
    }

    /// Segments of the log that were there and are not needed: as spares if they have the right size.
    fn keep_spares(&self, sequences: &[u64]) -> io::Result<()> {
        let disk = &*self.shared.disk;
        for &sequence in sequences {
            let path = wal::segment::path(sequence);
            if disk.open(&path, Open::Existing)?.size()? == self.shared.config.wal_segment_bytes {
                self.shared.pool.give_back([sequence]);
            } else {
                disk.remove(&path)?;
            }
        }
        Ok(())
    }

    /// Reads the log from the manifest's position on. Where it ends.
    fn replay(&mut self, report: &mut RecoveryReport) -> Result<Position, OpenError> {
        let (disk, store) = (Arc::clone(&self.shared.disk), self.shared.store);
        let (sequences, mut start) = (self.sequences.clone(), self.start);
        let mut replay = Replay::new(Arc::clone(&self.shared), &mut self.applier, self.next_partition);
        let mut damages = Vec::new();
        let end = loop {
            match scan::scan(&*disk, store, &sequences, start, |frame, position| replay.frame(&frame, position))? {
                End::Whole(position) => break position,
                End::Torn(position) => {
                    report.torn_tail = true;
                    break position;
                }
                End::Damaged(damage) => {
                    // Read on, to tell everything that is lost at once.
                    replay.pass_over();
                    let resume = damage.resume.filter(|_| damages.len() < PLACES_MAX);
                    let next = damage.groups.last.unwrap_or(damage.groups.first) + 1;
                    let end = Position { lsn: next, ..damage.position };
                    damages.push(damage);
                    match resume {
                        Some(next) => start = next,
                        None => break end,
                    }
                }
            }
        };
        let passed_over = replay.finish(report)?;
        self.next_partition = passed_over.next_partition;
        if !damages.is_empty() {
            let damage = DamageReport {
                places: damages.iter().map(|damage| quarantine(&*disk, damage)).collect::<io::Result<_>>()?,
                missing: passed_over.missing,
                unplaced: passed_over.unplaced,
            };
            disk.sync_dir(QUARANTINE_DIR)?;
            report.accepted = Some(self.accept(damage)?);
        }
        Ok(end)
    }

    /// Whether the operator has named this damage, and no other.
    fn accept(&self, damage: DamageReport) -> Result<Box<DamageReport>, OpenError> {
        let damage = Box::new(damage);
        let accepted: Option<&Loss> = self.shared.config.accept_loss.as_ref();
        if accepted != Some(&damage.loss()) {
            return Err(OpenError::Damaged(damage));
        }
        tracing::error!(%damage, "started without records that were acknowledged, as accepted");
        Ok(damage)
    }
}

/// Saves the bytes that are not understood.
fn quarantine(disk: &dyn Disk, damage: &Damage) -> io::Result<DamagedPlace> {
    let Position { segment, at, .. } = damage.position;
    let quarantined = format!("{QUARANTINE_DIR}/{segment:016}-{at}.wal");
    let file = disk.open(&quarantined, Open::Empty)?;
    file.write_at(&damage.bytes, 0)?;
    file.sync()?;
    Ok(DamagedPlace { file: wal::segment::path(segment), at, groups: damage.groups, quarantined })
}
