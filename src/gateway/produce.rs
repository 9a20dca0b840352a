//! Writing: records become batches by partition, and one commit writes them all or none.

use sha2::{Digest, Sha256};

use super::{Gateway, tenant_of};
use crate::broker::engine::{Ack, Appended, Commit, CommitError, IdempotencyKey, Write};
use crate::broker::record::{BuildError, CHUNK_BYTES_MAX, Record, ValueKind, partition_for_key, split_into_batches};
use crate::catalog::access::{Grant, Produce};
use crate::catalog::model::Topic;
use crate::clock::Timestamp;
use crate::names::{Offset, TopicPartition};

/// How records are to be written.
#[derive(Debug, Clone, Default)]
pub struct ProduceOptions {
    /// Write to this partition, whatever the keys say.
    pub partition: Option<u32>,
    /// Write only if the partition's next offset is this one.
    pub if_offset: Option<Offset>,
    /// Makes a repeated request harmless.
    pub idempotency: Option<Idempotency>,
}

/// A client's idempotency key and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The client's text.
    pub key: String,
    /// SHA-256 of everything that decides what the request does.
    pub request: [u8; 32],
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Produced {
    /// Runs of records, by partition; adjacent runs are one.
    pub appended: Vec<Appended>,
    /// Nothing was written now: this is the answer of an earlier request with the same key.
    pub replayed: bool,
}

impl Produced {
    /// Number of records.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.appended.iter().map(|run| u64::from(run.count)).sum()
    }
}

/// Why nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// The topic has fewer partitions.
    #[error("the topic has {partitions} partitions, so there is no partition {partition}")]
    NoSuchPartition {
        /// What was asked for.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// `if_offset` is about one partition, and the topic has several.
    #[error("if_offset needs partition")]
    PartitionNeeded,
    /// More than one batch can hold.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The engine refused.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Gateway {
    /// Writes records whose values are all of one kind. All or none; durable when it returns.
    pub async fn produce(
        &self,
        grant: &Grant<Produce>,
        records: Vec<Record>,
        kind: ValueKind,
        options: ProduceOptions,
    ) -> Result<Produced, ProduceError> {
        self.produce_each(grant, records.into_iter().map(|record| (record, kind)).collect(), options).await
    }

    /// Writes records that each say what their value is. All or none; durable when it returns.
    pub async fn produce_each(
        &self,
        grant: &Grant<Produce>,
        records: Vec<(Record, ValueKind)>,
        options: ProduceOptions,
    ) -> Result<Produced, ProduceError> {
        let topic = grant.resource();
        let now = self.clock.now();
        if records.is_empty() {
            return Ok(Produced { appended: Vec::new(), replayed: false });
        }
        let partition = fixed_partition(topic, &options)?;
        let mut writes = self.writes(topic, records, partition, now)?;
        if let Some(first) = writes.first_mut() {
            first.expect = options.if_offset;
        }
        let tenant = tenant_of(grant.actor());
        let idempotency = options.idempotency.map(|given| {
            let mut hash = Sha256::new();
            hash.update(tenant.0.as_bytes());
            hash.update(topic.id.0.as_bytes());
            hash.update(given.key.as_bytes());
            IdempotencyKey { key: half(hash.finalize().into()), digest: half(given.request) }
        });
        let ack = self.engine.commit(Commit { tenant, writes, idempotency }).await?;
        Ok(answer(ack))
    }

    /// Batches by partition, in the order of the records. Records without a key stay together up to a chunk, which
    /// writes and reads better than spreading each of them.
    fn writes(
        &self,
        topic: &Topic,
        records: Vec<(Record, ValueKind)>,
        fixed: Option<u32>,
        now: Timestamp,
    ) -> Result<Vec<Write>, ProduceError> {
        let mut runs: Vec<Run> = Vec::new();
        // Index of the last run of each partition: later records of a partition join it, if they are of its kind.
        let mut last: std::collections::HashMap<u32, usize> = std::collections::HashMap::new();
        let mut without_key: Option<(u32, usize)> = None;
        for (record, kind) in records {
            let partition = match (fixed, &record.key) {
                (Some(partition), _) => partition,
                (None, Some(key)) => partition_for_key(key, topic.partitions),
                (None, None) => self.partition_without_key(topic, &record, &mut without_key),
            };
            match last.get(&partition).map(|index| &mut runs[*index]) {
                Some(run) if run.kind == kind || record.value.is_none() => run.records.push(record),
                _ => {
                    last.insert(partition, runs.len());
                    runs.push(Run { partition, kind, records: vec![record] });
                }
            }
        }
        let mut writes = Vec::with_capacity(runs.len());
        for run in runs {
            let to = TopicPartition { topic: topic.id, partition: run.partition };
            let batches = split_into_batches(&run.records, run.kind, now)?;
            writes.extend(batches.into_iter().map(|batch| Write { to, batch, expect: None }));
        }
        Ok(writes)
    }

    fn partition_without_key(&self, topic: &Topic, record: &Record, sticky: &mut Option<(u32, usize)>) -> u32 {
        let bytes = record.value.as_ref().map_or(0, bytes::Bytes::len);
        match sticky {
            Some((partition, used)) if *used + bytes <= CHUNK_BYTES_MAX => {
                *used += bytes;
                *partition
            }
            _ => {
                let partition = self.in_turn.next(topic.id, topic.partitions);
                *sticky = Some((partition, bytes));
                partition
            }
        }
    }
}

/// Records for one partition whose values are of one kind.
struct Run {
    partition: u32,
    kind: ValueKind,
    records: Vec<Record>,
}

fn fixed_partition(topic: &Topic, options: &ProduceOptions) -> Result<Option<u32>, ProduceError> {
    match options.partition {
        Some(partition) if partition >= topic.partitions => {
            Err(ProduceError::NoSuchPartition { partition, partitions: topic.partitions })
        }
        None if options.if_offset.is_some() && topic.partitions > 1 => Err(ProduceError::PartitionNeeded),
        None if options.if_offset.is_some() => Ok(Some(0)),
        chosen => Ok(chosen),
    }
}

fn half(hash: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}

/// One entry per run of adjacent offsets, by partition.
fn answer(ack: Ack) -> Produced {
    let mut appended = ack.appended;
    appended.sort_by_key(|run| (run.to, run.first));
    appended.dedup_by(|next, run| {
        let adjacent = run.to == next.to && run.first.0 + i64::from(run.count) == next.first.0;
        if adjacent {
            run.count += next.count;
        }
        adjacent
    });
    Produced { appended, replayed: ack.replayed }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn appended(partition: u32, first: i64, count: u32) -> Appended {
        let topic = crate::names::TopicId(uuid::Uuid::nil());
        Appended { to: TopicPartition { topic, partition }, first: Offset(first), count, timestamp: Timestamp(0) }
    }

    #[test]
    fn adjacent_runs_of_a_partition_are_reported_as_one() {
        let ack = Ack {
            appended: vec![appended(1, 7, 3), appended(0, 5, 2), appended(1, 10, 1), appended(0, 9, 1)],
            replayed: false,
        };
        let produced = answer(ack);
        assert_eq!(produced.appended, [appended(0, 5, 2), appended(0, 9, 1), appended(1, 7, 4)]);
        assert_eq!(produced.records(), 7);
    }

    #[test]
    fn a_condition_on_an_offset_needs_to_know_the_partition() {
        let options = ProduceOptions { if_offset: Some(Offset(0)), ..ProduceOptions::default() };
        assert_eq!(fixed_partition(&testing::topic("one", 1), &options), Ok(Some(0)));
        assert_eq!(fixed_partition(&testing::topic("two", 2), &options), Err(ProduceError::PartitionNeeded));
        let options = ProduceOptions { partition: Some(2), ..ProduceOptions::default() };
        let refused = fixed_partition(&testing::topic("two", 2), &options);
        assert_eq!(refused, Err(ProduceError::NoSuchPartition { partition: 2, partitions: 2 }));
    }
}
