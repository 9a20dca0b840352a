//! Commits that are written in one group: what becomes one batch and what does not, and that a power cut at any operation
//! takes nothing back.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::conformance::{commit, keyed, numbered, write};
use super::crash_tests::{at, clock, read_all, tiny, topic};
use super::disk::fault::FaultyDisk;
use super::disk::sim::{Loss, SimDisk};
use super::embedded::{EmbeddedEngine, EngineConfig};
use super::engine::{Ack, Commit, CommitError, Engine, TopicSpec, Write};
use super::record::RecordBatch;
use crate::names::{Offset, TopicPartition};

pub(super) type Answer = Result<Ack, CommitError>;
pub(super) type Waiting<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// An engine whose commit thread waits when told to.
pub(super) struct Setup {
    pub(super) sim: SimDisk,
    pub(super) disk: FaultyDisk,
    pub(super) engine: EmbeddedEngine,
}

fn open(sim: &SimDisk) -> Result<Setup, String> {
    open_with(sim, tiny())
}

pub(super) fn open_with(sim: &SimDisk, config: EngineConfig) -> Result<Setup, String> {
    let disk = FaultyDisk::new(sim.clone());
    let (engine, _) = EmbeddedEngine::open_on(Arc::new(disk.clone()), config, clock()).map_err(|e| e.to_string())?;
    Ok(Setup { sim: sim.clone(), disk, engine })
}

async fn setup() -> Setup {
    let setup = open(&SimDisk::new()).unwrap();
    setup.make_topics().await.unwrap();
    setup
}

pub(super) fn poll_once(waiting: &mut Waiting<'_>) -> Poll<Answer> {
    waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

impl Setup {
    async fn make_topics(&self) -> Result<(), ()> {
        for (n, partitions) in [(1, 2), (9, 1)] {
            self.engine.ensure_topic(&TopicSpec::new(topic(n), partitions)).await.map_err(drop)?;
        }
        Ok(())
    }

    /// Commits these in one group: they queue up behind the sync of another commit.
    async fn together(&self, commits: impl IntoIterator<Item = Commit>) -> Vec<Answer> {
        self.disk.hold_commits();
        let opener = commit([write(at(9, 0), &["opener"])]);
        let mut started = vec![self.start(opener)];
        self.disk.until_held(|| self.engine.fault().is_some());
        started.extend(commits.into_iter().map(|commit| self.start(commit)));
        self.disk.release_commits();
        let mut answers = Vec::new();
        for (early, waiting) in started {
            answers.push(match early {
                Poll::Ready(answer) => answer,
                Poll::Pending => waiting.await,
            });
        }
        answers.split_off(1)
    }

    /// A commit that is in the queue, unless it was refused at once.
    fn start(&self, commit: Commit) -> (Poll<Answer>, Waiting<'_>) {
        let mut waiting: Waiting<'_> = self.engine.commit(commit);
        (poll_once(&mut waiting), waiting)
    }

    /// The sizes of a partition's batches, in records.
    async fn batches(&self, at: TopicPartition) -> Vec<u32> {
        let fetched = self.engine.fetch(at, Offset(0), usize::MAX).await.unwrap();
        fetched.batches.iter().map(RecordBatch::count).collect()
    }
}

fn firsts(answers: &[Answer]) -> Vec<i64> {
    answers.iter().map(|answer| answer.as_ref().unwrap().appended[0].first.0).collect()
}

#[tokio::test]
async fn single_records_that_meet_in_a_group_become_one_batch_and_keep_their_own_answers() {
    let s = setup().await;
    let to = at(1, 0);
    let values = ["a", "b", "c", "d"];
    let answers = s.together(values.map(|value| commit([write(to, &[value])]))).await;
    assert_eq!(firsts(&answers), [0, 1, 2, 3]);
    assert_eq!(s.batches(to).await, [4]);
    assert_eq!(read_all(&s.engine, to).await.unwrap(), values);
    assert_eq!(s.engine.fetch(to, Offset(2), 1).await.unwrap().batches[0].base_offset(), Offset(0));
}

#[tokio::test]
async fn keys_conditions_producers_and_large_batches_stay_apart_and_in_order() {
    let s = setup().await;
    let to = at(1, 0);
    let large = "x".repeat(4 << 10);
    let small = |value: &str| commit([write(to, &[value])]);
    let of_producer = Write { batch: write(to, &["p"]).batch.with_producer(7, 0, 0), ..write(to, &["p"]) };
    let commits = [
        small("a"),
        small("b"),
        commit([Write { expect: Some(Offset(2)), ..write(to, &["at 2"]) }]),
        small("c"),
        keyed(1, 1, [write(to, &["k"])]),
        small("d"),
        small("e"),
        commit([of_producer]),
        small("f"),
        commit([write(to, &[&large])]),
    ];
    let answers = s.together(commits).await;
    assert_eq!(firsts(&answers), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(s.batches(to).await, [2, 1, 1, 1, 2, 1, 1, 1]);
    let found = read_all(&s.engine, to).await.unwrap();
    assert_eq!(found[..9], ["a", "b", "at 2", "c", "k", "d", "e", "p", "f"]);
}

#[tokio::test]
async fn a_refused_commit_between_others_leaves_no_gap() {
    let s = setup().await;
    let to = at(1, 0);
    let commits = [
        commit([write(to, &["a"])]),
        commit([Write { expect: Some(Offset(7)), ..write(to, &["never"]) }]),
        commit([write(to, &["b"]), write(at(5, 0), &["never"])]),
        commit([write(to, &["b"])]),
    ];
    let answers = s.together(commits).await;
    assert_eq!(answers[1], Err(CommitError::OffsetMismatch { at: to, next: Offset(1) }));
    assert_eq!(answers[2], Err(CommitError::UnknownPartition(at(5, 0))));
    assert_eq!(read_all(&s.engine, to).await.unwrap(), ["a", "b"]);
}

/// What the world knows of one life of the engine.
#[derive(Default)]
struct Witness {
    sent: Vec<String>,
    acked: BTreeMap<(TopicPartition, Offset), String>,
    keyed: Vec<(Commit, Ack)>,
}

fn value(write: &Write) -> String {
    let record = write.batch.records().next().unwrap();
    String::from_utf8(record.value.unwrap().to_vec()).unwrap()
}

/// Group `n`: single records to two partitions, and among them a keyed commit to both.
fn script(n: u8) -> Vec<Commit> {
    let one = |w: u8, partition| write(at(1, partition), &[&format!("{n}.{w} {}", "x".repeat(usize::from(n) * 9))]);
    vec![
        commit([one(0, 0)]),
        commit([one(1, 1)]),
        commit([one(2, 0)]),
        keyed(n, n, [one(3, 0), one(4, 1)]),
        commit([one(5, 1), one(6, 0)]),
        commit([one(7, 0)]),
        commit([numbered(at(1, 1), (7, 0, i32::from(n)), &[&value(&one(8, 1))])]),
    ]
}

impl Witness {
    /// Works until it is done or the disk is gone.
    async fn work(&mut self, sim: &SimDisk) -> Result<(), ()> {
        let s = open(sim).map_err(drop)?;
        s.make_topics().await?;
        for n in 0..14 {
            let commits = script(n);
            self.sent.extend(commits.iter().flat_map(|commit| &commit.writes).map(value));
            for (commit, answer) in commits.iter().zip(s.together(commits.clone()).await) {
                let ack = answer.map_err(drop)?;
                for (write, appended) in commit.writes.iter().zip(&ack.appended) {
                    self.acked.insert((write.to, appended.first), value(write));
                }
                if commit.idempotency.is_some() || commit.writes[0].batch.producer().is_some() {
                    self.keyed.push((commit.clone(), ack));
                }
            }
        }
        Ok(())
    }

    async fn check(&self, sim: &SimDisk) -> Result<(), String> {
        let s = open(sim)?;
        for partition in [at(1, 0), at(1, 1)] {
            let found = read_all(&s.engine, partition)
                .await
                .or_else(|e| if self.acked.is_empty() { Ok(Vec::new()) } else { Err(e) })?;
            let acked = self.acked.iter().filter(|((to, _), _)| *to == partition);
            for ((_, offset), value) in acked {
                let there = usize::try_from(offset.0).ok().and_then(|index| found.get(index));
                if there != Some(value) {
                    return Err(format!("{partition:?} {offset}: acknowledged {value}, found {there:?}"));
                }
            }
            if let Some(stranger) = found.iter().find(|value| !self.sent.contains(value)) {
                return Err(format!("{partition:?}: {stranger} was never sent"));
            }
        }
        // Of a producer the last five batches are known, and the one on its way may be the sixth.
        let recent = self.keyed.len().saturating_sub(8);
        let known = |at: usize, commit: &Commit| commit.idempotency.is_some() || at >= recent;
        for (_, (commit, ack)) in self.keyed.iter().enumerate().filter(|(at, (commit, _))| known(*at, commit)) {
            let again = s.engine.commit(commit.clone()).await.map_err(|e| e.to_string())?;
            if again != (Ack { replayed: true, ..ack.clone() }) {
                return Err(format!("a repetition was answered {again:?} instead of {ack:?}"));
            }
        }
        Ok(())
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn a_power_cut_at_any_operation_of_coalesced_groups_loses_nothing_acknowledged() {
    let operations = block_on(async {
        let sim = SimDisk::new();
        let mut witness = Witness::default();
        witness.work(&sim).await.unwrap();
        assert_eq!(witness.acked.len(), witness.sent.len(), "the script runs to its end");
        let s = open(&sim.power_cycled(Loss::Everything)).unwrap();
        assert!(s.batches(at(1, 0)).await.iter().any(|&count| count > 1), "groups are coalesced");
        assert!(s.sim.paths("wal/").len() > 1 && s.sim.paths("seg/").len() > 3, "the log and segments roll");
        sim.operations()
    });
    for operation in 1..=operations + 2 {
        for loss in [Loss::Everything, Loss::Random(operation.wrapping_mul(0x9e37_79b9))] {
            let outcome = block_on(async {
                let sim = SimDisk::new();
                sim.crash_at(operation);
                let mut witness = Witness::default();
                let _: Result<(), ()> = witness.work(&sim).await;
                witness.check(&sim.power_cycled(loss)).await
            });
            outcome.unwrap_or_else(|problem| panic!("cut at operation {operation}, {loss:?}: {problem}"));
        }
    }
}
