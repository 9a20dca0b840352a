//! The log engine alone, against what it is an alternative to.
//!
//! `cargo bench --bench engine`. Durable commits of one record over ten thousand partitions against a file per partition
//! that is synced for each; large batches against the disk's own sequential writes; cold reads against `cat`; the start
//! with many partitions. `BENCH_DIR` chooses the disk; `benches/slow-disk` makes one that is limited to few writes a second.

#![expect(clippy::print_stdout, reason = "the figures are the output")]
#![expect(clippy::unwrap_used, reason = "a benchmark fails where it stands")]

mod support;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tempfile::TempDir;
use weir::broker::embedded::{EmbeddedEngine, EngineConfig};
use weir::broker::engine::{Commit, Engine as _, Tenant, TopicSpec, Write};
use weir::broker::record::{Record, RecordBatch, ValueKind};
use weir::clock::{SystemClock, Timestamp};
use weir::names::{Offset, TopicId, TopicPartition};

const PARTITIONS: u32 = 10_000;
const IN_FLIGHT: [usize; 2] = [64, 1024];
const RECORD_BYTES: usize = 1024;
/// More threads than this make the files no faster.
const THREADS_MAX: usize = 256;
const BATCH_RECORDS: usize = 1000;
const BATCH_WRITERS: usize = 4;
const SEQUENTIAL_BYTES: usize = 1 << 30;
const IDLE_TOPICS: usize = 100;
const IDLE_PARTITIONS: u32 = 1000;
const READ_BYTES: usize = 4 << 20;

#[tokio::main]
async fn main() {
    println!("{}", support::environment());
    support::raise_descriptor_limit();
    let place = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    println!("store in {}", place.display());
    single_records(&place).await;
    large_batches(&place).await;
    many_partitions(&place).await;
}

fn open(dir: &Path) -> EmbeddedEngine {
    EmbeddedEngine::open(dir, EngineConfig::default(), Arc::new(SystemClock)).unwrap().0
}

fn batch(records: usize) -> RecordBatch {
    let record = Record { value: Some(Bytes::from(vec![b'x'; RECORD_BYTES])), ..Record::default() };
    RecordBatch::build(&vec![record; records], ValueKind::Bytes, Timestamp(0)).unwrap()
}

fn commit(to: TopicPartition, batch: &RecordBatch) -> Commit {
    let writes = vec![Write { to, batch: batch.clone(), expect: None }];
    Commit { tenant: Tenant(to.topic.0), writes, idempotency: None }
}

/// Spreads the commits over the partitions, the same way for everybody.
fn partition_of(n: u64) -> u32 {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    u32::try_from(mixed % u64::from(PARTITIONS)).unwrap()
}

/// What one run did.
struct Figures {
    latencies: Histogram<u64>,
    elapsed: Duration,
}

impl Figures {
    fn new() -> Self {
        Self { latencies: Histogram::new_with_bounds(1, 60_000_000, 3).unwrap(), elapsed: Duration::ZERO }
    }

    fn add(&mut self, other: &Self) {
        self.latencies.add(&other.latencies).unwrap();
        self.elapsed += other.elapsed;
    }

    fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    fn ms(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1e3
    }
}

fn micros(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
}

async fn single_records(place: &Path) {
    println!(
        "\nDurable commits of one {RECORD_BYTES}-byte record, {PARTITIONS} partitions; baseline: a synced file each"
    );
    println!(
        "{:>9} | {:>9} {:>8} {:>8} | {:>9} {:>8} {:>8} | {:>6}",
        "in flight", "commits/s", "p50 ms", "p99 ms", "files/s", "p50 ms", "p99 ms", "ratio"
    );
    let (store, files) = (TempDir::new_in(place).unwrap(), TempDir::new_in(place).unwrap());
    let engine = Arc::new(open(store.path()));
    let topic = TopicId::new();
    engine.ensure_topic(&TopicSpec::new(topic, PARTITIONS)).await.unwrap();
    let files = Arc::new(Files::create(files.path()));
    let half = support::seconds() / 2;
    for in_flight in IN_FLIGHT {
        let (mut ours, mut theirs) = (Figures::new(), Figures::new());
        for _ in 0..2 {
            let synced = Arc::clone(&files);
            theirs.add(&tokio::task::spawn_blocking(move || synced.run(in_flight, half)).await.unwrap());
            ours.add(&log_run(&engine, topic, in_flight, half).await);
        }
        println!(
            "{in_flight:>9} | {:>9.0} {:>8.2} {:>8.2} | {:>9.0} {:>8.2} {:>8.2} | {:>5.1}x",
            ours.rate(),
            ours.ms(0.5),
            ours.ms(0.99),
            theirs.rate(),
            theirs.ms(0.5),
            theirs.ms(0.99),
            ours.rate() / theirs.rate()
        );
    }
    engine.close().await;
}

async fn log_run(engine: &Arc<EmbeddedEngine>, topic: TopicId, in_flight: usize, time: Duration) -> Figures {
    let counter = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let writers: Vec<_> = (0..in_flight)
        .map(|_| {
            let (engine, counter, batch) = (Arc::clone(engine), Arc::clone(&counter), batch(1));
            tokio::spawn(async move {
                let mut figures = Figures::new();
                while began.elapsed() < time {
                    let n = counter.fetch_add(1, Ordering::Relaxed);
                    let asked = Instant::now();
                    let to = TopicPartition { topic, partition: partition_of(n) };
                    engine.commit(commit(to, &batch)).await.unwrap();
                    figures.latencies.saturating_record(micros(asked));
                }
                figures
            })
        })
        .collect();
    let mut figures = Figures::new();
    for writer in writers {
        figures.add(&writer.await.unwrap());
    }
    figures.elapsed = began.elapsed();
    figures
}

/// The simplest durable engine: each partition is a file, each commit is appended and synced.
struct Files(Vec<Mutex<(File, u64)>>);

impl Files {
    fn create(dir: &Path) -> Self {
        let create = |n: u32| Mutex::new((File::create_new(dir.join(n.to_string())).unwrap(), 0));
        Self((0..PARTITIONS).map(create).collect())
    }

    fn run(self: Arc<Self>, in_flight: usize, time: Duration) -> Figures {
        let counter = AtomicU64::new(0);
        let mut bytes = Vec::new();
        batch(1).write_to(&mut bytes);
        let began = Instant::now();
        let mut all = Figures::new();
        thread::scope(|scope| {
            let worker = || {
                let mut figures = Figures::new();
                while began.elapsed() < time {
                    let n = counter.fetch_add(1, Ordering::Relaxed);
                    let asked = Instant::now();
                    let mut file = self.0[usize::try_from(partition_of(n)).unwrap()].lock();
                    let (to, at) = &mut *file;
                    to.write_all_at(&bytes, *at).unwrap();
                    to.sync_data().unwrap();
                    *at += bytes.len() as u64;
                    drop(file);
                    figures.latencies.saturating_record(micros(asked));
                }
                figures
            };
            let threads: Vec<_> = (0..in_flight.min(THREADS_MAX)).map(|_| scope.spawn(worker)).collect();
            threads.into_iter().for_each(|thread| all.add(&thread.join().unwrap()));
        });
        all.elapsed = began.elapsed();
        all
    }
}

async fn large_batches(place: &Path) {
    let dir = TempDir::new_in(place).unwrap();
    let disk = sequential_write(dir.path());
    let store = dir.path().join("store");
    fs::create_dir(&store).unwrap();
    let engine = Arc::new(open(&store));
    let at = TopicPartition { topic: TopicId::new(), partition: 0 };
    engine.ensure_topic(&TopicSpec::new(at.topic, 1)).await.unwrap();
    let batch = batch(BATCH_RECORDS);
    let commits = SEQUENTIAL_BYTES / batch.len() / BATCH_WRITERS;
    let began = Instant::now();
    let writers: Vec<_> = (0..BATCH_WRITERS)
        .map(|_| {
            let (engine, batch) = (Arc::clone(&engine), batch.clone());
            tokio::spawn(async move {
                for _ in 0..commits {
                    engine.commit(commit(at, &batch)).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let ours = (commits * BATCH_WRITERS * batch.len()) as f64 / began.elapsed().as_secs_f64() / 1e6;
    println!(
        "\nCommits of {:.1} MB, {BATCH_WRITERS} in flight: {ours:.0} MB/s, {:.0}% of a sequential write ({disk:.0} MB/s)",
        batch.len() as f64 / 1e6,
        100.0 * ours / disk
    );
    engine.close().await;
    drop(engine);
    cold_read(&store, at).await;
}

/// MB/s of one file, synced at its end.
fn sequential_write(dir: &Path) -> f64 {
    let path = dir.join("sequential");
    let mut file = File::create_new(&path).unwrap();
    let piece = vec![b'x'; 1 << 20];
    let began = Instant::now();
    for _ in 0..SEQUENTIAL_BYTES / piece.len() {
        file.write_all(&piece).unwrap();
    }
    file.sync_data().unwrap();
    let took = began.elapsed();
    fs::remove_file(path).unwrap();
    SEQUENTIAL_BYTES as f64 / took.as_secs_f64() / 1e6
}

async fn cold_read(store: &Path, at: TopicPartition) {
    let cold = drop_caches();
    let (mut bytes, mut buffer) = (0, vec![0; 1 << 20]);
    let began = Instant::now();
    for path in segment_files(&store.join("seg")) {
        let mut file = File::open(path).unwrap();
        loop {
            let read = file.read(&mut buffer).unwrap();
            if read == 0 {
                break;
            }
            bytes += read;
        }
    }
    let cat = bytes as f64 / began.elapsed().as_secs_f64() / 1e6;
    let engine = open(store);
    drop_caches();
    let (mut from, mut read) = (Offset(0), 0);
    let began = Instant::now();
    loop {
        let fetched = engine.fetch(at, from, READ_BYTES).await.unwrap();
        let Some(last) = fetched.batches.last() else { break };
        from = last.next_offset();
        read += fetched.batches.iter().map(RecordBatch::len).sum::<usize>();
    }
    let ours = read as f64 / began.elapsed().as_secs_f64() / 1e6;
    assert_eq!(read, bytes);
    println!(
        "Sequential read, {}: {ours:.0} MB/s, {:.0}% of reading the files ({cat:.0} MB/s)",
        if cold { "caches dropped" } else { "CACHES WARM (dropping them needs root)" },
        100.0 * ours / cat
    );
    engine.close().await;
}

/// Whether it could be done.
fn drop_caches() -> bool {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(segment_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "log") {
            found.push(path);
        }
    }
    found.sort();
    found
}

async fn many_partitions(place: &Path) {
    let dir = TempDir::new_in(place).unwrap();
    let before = support::resident_bytes();
    let engine = open(dir.path());
    let began = Instant::now();
    for _ in 0..IDLE_TOPICS {
        engine.ensure_topic(&TopicSpec::new(TopicId::new(), IDLE_PARTITIONS)).await.unwrap();
    }
    let made = began.elapsed();
    engine.close().await;
    drop(engine);
    let began = Instant::now();
    let engine = open(dir.path());
    let ready = began.elapsed();
    println!(
        "\n{} idle partitions: made in {:.1} s, restart to ready {:.2} s, resident {:.0} MiB (before {:.0} MiB)",
        IDLE_TOPICS * usize::try_from(IDLE_PARTITIONS).unwrap(),
        made.as_secs_f64(),
        ready.as_secs_f64(),
        support::resident_bytes() as f64 / f64::from(1 << 20),
        before as f64 / f64::from(1 << 20)
    );
    engine.close().await;
}
