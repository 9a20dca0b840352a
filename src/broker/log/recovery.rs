//! Opening a store: reads the manifest, replays the log into segments, and makes a checkpoint before anything is served.
//!
//! The checkpoint matters: after a sync that failed, what can be read may not be on the disk. Rewriting and syncing it
//! makes it true or fails loudly. The log then goes on in a fresh segment, so that what a torn write left behind is never
//! touched again.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use uuid::Uuid;

use super::apply::Applier;
use super::checkpoint::{Checkpointer, Slot};
use super::commit::Committer;
use super::config::EngineConfig;
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
use super::{Counters, Log, Shared, apply, maintenance, scrub, spawn, topics, watch};
use crate::broker::disk::{Disk, Open};
use crate::broker::engine::Bounds;
use crate::broker::idempotency::Idempotency;
use crate::clock::Clock;
use crate::names::{Offset, TopicPartition};

const LOCK_PATH: &str = "LOCK";
const QUARANTINE_DIR: &str = "quarantine";

/// The log's segments are numbered from 1; a store that has this in its manifest was never served.
const NO_SEGMENT: u64 = 0;

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
}

/// Records of one partition that were acknowledged and cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The partition.
    pub at: TopicPartition,
    /// First missing offset.
    pub from: Offset,
    /// First offset after them that can be read; `None` if none can.
    pub to: Option<Offset>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic {} partition {} from offset {}", self.at.topic, self.at.partition, self.from)?;
        self.to.map_or(Ok(()), |to| write!(f, " to {}", to.0.saturating_sub(1)))
    }
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
        "the log is damaged at {file}, byte {at}: records that were acknowledged cannot be read ({}). Nothing was \
         changed; the bytes from there on were copied to {quarantined}. Restore the data directory from a backup.",
        list(.missing)
    )]
    Damaged {
        /// The file, relative to the data directory.
        file: String,
        /// Where in it.
        at: u64,
        /// Which records, as far as is known.
        missing: Vec<Missing>,
        /// Where the unreadable bytes were copied to, relative to the data directory.
        quarantined: String,
    },
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

fn list(missing: &[Missing]) -> String {
    let named: Vec<_> = missing.iter().map(ToString::to_string).collect();
    if named.is_empty() { "which ones is not known".to_owned() } else { named.join("; ") }
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
    let lock = disk.lock(LOCK_PATH).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse,
        _ => OpenError::Io(e),
    })?;
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

/// Makes an empty store. The manifest comes first, so that a log without one is never the trace of a cut creation.
fn create(disk: &dyn Disk) -> io::Result<Manifest> {
    for dir in [wal::DIR, manifest::DIR, segment::DIR, QUARANTINE_DIR] {
        disk.create_dir(dir)?;
    }
    for low_byte in 0..=u8::MAX {
        disk.create_dir(&segment::dir(low_byte))?;
    }
    disk.sync_dir(segment::DIR)?;
    disk.sync_dir("")?;
    let manifest = Manifest {
        store: Uuid::new_v4(),
        position: Position { segment: NO_SEGMENT, at: len64(BLOCK_BYTES), lsn: 1, chain: 0 },
        next_partition: 0,
        partitions: Vec::new(),
        garbage: Vec::new(),
        keys: Vec::new(),
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
        let mut keys = Idempotency::new(config.idempotency);
        manifest.keys.into_iter().for_each(|(key, seen)| keys.insert(key, seen));
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
            files: Files::new(Arc::clone(&disk), config.open_files_max),
            keys: Mutex::new(keys),
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
        let (sequences, start) = (self.sequences.clone(), self.start);
        let mut replay = Replay::new(Arc::clone(&self.shared), &mut self.applier, self.next_partition);
        let end = scan::scan(&*disk, store, &sequences, start, |frame, position| replay.frame(&frame, position))?;
        self.next_partition = replay.finish(report)?;
        match end {
            End::Whole(position) => Ok(position),
            End::Torn(position) => {
                report.torn_tail = true;
                Ok(position)
            }
            End::Damaged(damage) => Err(self.quarantine(&damage)?),
        }
    }

    /// Saves the unreadable bytes, and says what is missing.
    fn quarantine(&self, damage: &Damage) -> io::Result<OpenError> {
        let disk = &*self.shared.disk;
        let Position { segment, at, .. } = damage.position;
        let quarantined = format!("{QUARANTINE_DIR}/{segment:016}-{at}.wal");
        let file = disk.open(&quarantined, Open::Empty)?;
        file.write_at(&damage.bytes, 0)?;
        file.sync()?;
        disk.sync_dir(QUARANTINE_DIR)?;
        let missing = damage.readable_from.iter().filter_map(|(id, &readable)| {
            let partition = self.applier.partition(*id)?;
            let from = partition.end();
            (from < readable).then_some(Missing { at: partition.at, from, to: Some(readable) })
        });
        let missing = missing.collect();
        Ok(OpenError::Damaged { file: wal::segment::path(segment), at, missing, quarantined })
    }
}
