//! What the gateway refuses, as problems.

use serde_json::json;

use super::ingest::{BODY_BYTES_MAX, RECORD_BYTES_MAX};
use crate::broker::engine::{CommitError, FetchError};
use crate::broker::record::BuildError;
use crate::gateway::position::PositionError;
use crate::gateway::{LocateError, ProduceError, RecordError, SubscribeError};
use crate::names::TopicName;
use crate::web::error::internal;
use crate::web::problem::{Applied, Code, FieldError, Problem};

/// Seconds after which a busy engine is worth another try.
const BUSY_RETRY_S: u32 = 1;
/// Seconds after which a full disk is worth another look.
const FULL_RETRY_S: u32 = 30;

impl From<PositionError> for Problem {
    fn from(error: PositionError) -> Self {
        Self::new(Code::InvalidCursor, format!("{error}."))
    }
}

impl From<LocateError> for Problem {
    fn from(error: LocateError) -> Self {
        match error {
            LocateError::Invalid(detail) => Self::new(Code::InvalidCursor, format!("{detail}.")),
            LocateError::Recreated(topic) => {
                Self::new(Code::TopicRecreated, format!("The cursor belongs to an earlier topic named `{topic}`."))
                    .hint("Begin anew with from=earliest.")
            }
            LocateError::Expired { gap, earliest } => {
                let detail = format!(
                    "Partition {} of `{}` begins at {}; offset {} is no longer kept.",
                    gap.partition, gap.topic, gap.resumed_at, gap.missing_from
                );
                Self::new(Code::CursorExpired, detail)
                    .with("earliest", &*earliest)
                    .hint(format!("Go on with from={earliest}, or read with on_gap=skip."))
            }
            LocateError::Ahead { topic, partition, asked, end, latest } => {
                let detail =
                    format!("Partition {partition} of `{topic}` ends at {end}; nobody wrote offset {asked} yet.");
                Self::new(Code::CursorAhead, detail).with("latest", latest)
            }
            LocateError::NoSuchPartition { topic, partition, partitions } => {
                no_such_partition(Some(&topic), partition, partitions)
            }
            LocateError::TooManyPartitions(count) => Self::new(
                Code::TooManyPartitions,
                format!(
                    "{count} partitions are more than one reader covers; name some with partition=, or fewer topics."
                ),
            )
            .with("limit", crate::gateway::locate::PARTITIONS_MAX),
            LocateError::CursorTooLong { topics, .. } => Self::new(
                Code::TooManyPartitions,
                format!("A position in {topics} topics with names so long is too long to be sent back; name fewer."),
            ),
            LocateError::Engine(error) => error.into(),
        }
    }
}

/// The topic has fewer partitions.
pub fn no_such_partition(topic: Option<&TopicName>, partition: u32, partitions: u32) -> Problem {
    let of = topic.map(|topic| format!(" of `{topic}`")).unwrap_or_default();
    Problem::new(Code::NotFound, format!("There is no partition {partition}{of}; it has 0 to {}.", partitions - 1))
        .with("kind", "partition")
}

impl From<FetchError> for Problem {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::UnknownPartition(_) => not_ready(),
            FetchError::OutOfRange(bounds) => {
                Self::new(Code::CursorExpired, format!("The partition keeps offsets from {} on.", bounds.start))
            }
            FetchError::Stopped => draining(),
            FetchError::Damaged { .. } => internal(&error),
        }
    }
}

fn not_ready() -> Problem {
    Problem::new(Code::Unavailable, "The log does not hold this topic yet; it is being made.").retry_after(1)
}

fn draining() -> Problem {
    Problem::new(Code::Draining, "This instance is stopping.").retry_after(2)
}

impl From<SubscribeError> for Problem {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Locate(error) => error.into(),
            SubscribeError::TooManyStreams(full) => {
                let whose = if full.own { "You have" } else { "This instance has" };
                Self::new(Code::TooManyStreams, format!("{whose} {} streams open, which is the limit.", full.limit))
                    .with("limit", full.limit)
                    .retry_after(5)
            }
        }
    }
}

impl From<RecordError> for Problem {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Locate(error) => error.into(),
            RecordError::NoRecord => {
                Self::new(Code::NotFound, "There is no record at this offset; a later one of its key replaced it.")
                    .with("kind", "record")
            }
        }
    }
}

impl From<ProduceError> for Problem {
    fn from(error: ProduceError) -> Self {
        match error {
            ProduceError::NoSuchPartition { partition, partitions } => no_such_partition(None, partition, partitions),
            ProduceError::PartitionNeeded => {
                let detail = "`if_offset` is about one partition; say which with `partition`.";
                Self::new(Code::ValidationFailed, detail).error(FieldError {
                    item: None,
                    pointer: "partition".to_owned(),
                    detail: "is needed with if_offset".to_owned(),
                })
            }
            ProduceError::Build(BuildError::TooLarge { limit }) => {
                Self::new(Code::RecordTooLarge, "A record is too large.").with("limit", limit.min(RECORD_BYTES_MAX))
            }
            ProduceError::Build(BuildError::Empty) => internal(&error),
            ProduceError::Commit(error) => commit(&error),
        }
    }
}

fn commit(error: &CommitError) -> Problem {
    match error {
        CommitError::UnknownPartition(_) => not_ready(),
        CommitError::OffsetMismatch { at, next } => {
            let detail = format!("The next offset of partition {} is {next}. Nothing was written.", at.partition);
            Problem::new(Code::OffsetMismatch, detail).with("next_offset", json!(next)).with("partition", at.partition)
        }
        CommitError::KeyReused => {
            Problem::new(Code::IdempotencyKeyReused, "This Idempotency-Key came with another request before.")
        }
        CommitError::TooLarge { limit } => {
            Problem::new(Code::PayloadTooLarge, "The records are too large to be written together.")
                .with("limit", (*limit).min(BODY_BYTES_MAX))
        }
        CommitError::Busy => {
            Problem::new(Code::EngineBusy, "Too many records wait to be written; nothing was written.")
                .retry_after(BUSY_RETRY_S)
        }
        CommitError::ReadOnly => {
            Problem::new(Code::StorageReadonly, "The storage is full; nothing was written.").retry_after(FULL_RETRY_S)
        }
        // Requests over HTTP carry no numbered batches.
        CommitError::ProducerFenced { .. } | CommitError::OutOfSequence { .. } | CommitError::KeyAndProducer => {
            internal(error)
        }
        CommitError::Stopped => {
            let mut problem = draining();
            // The commit may have been on its way.
            problem.applied = Some(Applied::Unknown);
            problem
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::engine::Tenant;
    use crate::gateway::streams::Streams;

    #[test]
    fn one_stream_too_many_is_told_the_limit() {
        let streams = Streams::new(8, 1);
        let tenant = Tenant(uuid::Uuid::nil());
        let _open = streams.permit(tenant).expect("the first one is within the limit");
        let full = streams.permit(tenant).expect_err("the second one is not");
        let problem = Problem::from(SubscribeError::TooManyStreams(full));
        assert_eq!(problem.code, Code::TooManyStreams);
        assert_eq!(problem.members["limit"], 1);
    }
}
