//! A topic as the API shows it, and the figures from the engine that can go with it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

use super::wire::{Moment, Span};
use crate::broker::engine::Bounds;
use crate::catalog::model::{Classification, Cleanup, Topic, TopicSpec, TopicState, Visibility};
use crate::gateway::Gateway;
use crate::names::{AppName, Offset, TeamName, TopicName};

/// How long records are kept: a span of time, or `forever`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetentionTime {
    Forever,
    For(Span),
}

impl RetentionTime {
    pub(super) fn from_ms(ms: Option<i64>) -> Self {
        ms.map_or(Self::Forever, |ms| Self::For(Span { ms }))
    }

    pub(super) fn ms(self) -> Option<i64> {
        match self {
            Self::Forever => None,
            Self::For(span) => Some(span.ms),
        }
    }
}

impl Default for RetentionTime {
    fn default() -> Self {
        Self::For(Span { ms: TopicSpec::RETENTION_MS_DEFAULT })
    }
}

impl fmt::Display for RetentionTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forever => f.write_str("forever"),
            Self::For(span) => span.fmt(f),
        }
    }
}

impl FromStr for RetentionTime {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "forever" {
            return Ok(Self::Forever);
        }
        text.parse().map(Self::For).map_err(|error| format!("{error}, or forever"))
    }
}

impl Serialize for RetentionTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RetentionTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl utoipa::PartialSchema for RetentionTime {
    fn schema() -> RefOr<Schema> {
        let pattern = "^(forever|[0-9]+(w|d|h|m|s|ms))$";
        ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).examples([serde_json::json!("7d")]).into()
    }
}

impl utoipa::ToSchema for RetentionTime {}

/// A topic as it is shown.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"name": "orders", "generation": "7f3a09c2", "app": "checkout", "team": "payments",
    "description": "One event per accepted order", "classification": "internal", "visibility": "company", "partitions": 6,
    "retention": {"time": "7d", "bytes_per_partition": null}, "cleanup": "delete", "labels": {"domain": "sales"},
    "state": "active", "created_at": "2026-11-22T09:00:00.000Z", "updated_at": "2026-11-22T09:00:00.000Z", "revision": 42,
    "status": {"ready": true},
    "links": {"records": "/v1/topics/orders/records", "access": "/v1/topics/orders/access", "ui": "/topics/orders"}}))]
pub(super) struct TopicView {
    name: TopicName,
    /// Names the incarnation; a topic that is deleted and made again has another one.
    generation: String,
    app: AppName,
    team: TeamName,
    description: String,
    classification: Classification,
    visibility: Visibility,
    partitions: u32,
    retention: RetentionView,
    cleanup: Cleanup,
    labels: BTreeMap<String, String>,
    state: TopicState,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<Moment>,
    /// Until then a deleted topic can be restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    purge_after: Option<Moment>,
    created_at: Moment,
    updated_at: Moment,
    revision: i64,
    status: Status,
    links: Links,
    /// With `include=offsets`.
    #[serde(skip_serializing_if = "Option::is_none")]
    offsets: Option<Vec<PartitionRange>>,
    /// With `include=stats`.
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<Stats>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct RetentionView {
    time: RetentionTime,
    bytes_per_partition: Option<i64>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Status {
    /// Takes and gives records.
    ready: bool,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Links {
    records: String,
    access: String,
    ui: String,
}

/// The readable range of a partition.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct PartitionRange {
    partition: u32,
    /// Offset of the first kept record.
    earliest: Offset,
    /// Offset that the next record gets.
    next: Offset,
}

/// What is stored.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Stats {
    /// Offsets between the earliest and the next, all partitions together.
    records: i64,
    /// Bytes on disk.
    stored_bytes: u64,
}

impl From<&Topic> for TopicView {
    fn from(topic: &Topic) -> Self {
        let name = &topic.name;
        Self {
            name: name.clone(),
            generation: topic.id.generation(),
            app: topic.app.clone(),
            team: topic.team.clone(),
            description: topic.description.clone(),
            classification: topic.classification,
            visibility: topic.visibility,
            partitions: topic.partitions,
            retention: RetentionView {
                time: RetentionTime::from_ms(topic.retention_ms),
                bytes_per_partition: topic.retention_bytes,
            },
            cleanup: topic.cleanup,
            labels: topic.labels.clone(),
            state: topic.state,
            deleted_at: topic.deleted_at.map(Moment),
            purge_after: topic.purge_after.map(Moment),
            created_at: Moment(topic.created_at),
            updated_at: Moment(topic.updated_at),
            revision: topic.revision,
            status: Status { ready: topic.state == TopicState::Active },
            links: Links {
                records: format!("/v1/topics/{name}/records"),
                access: format!("/v1/topics/{name}/access"),
                ui: format!("/topics/{name}"),
            },
            offsets: None,
            stats: None,
        }
    }
}

/// What else to show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Include {
    offsets: bool,
    stats: bool,
}

impl Include {
    pub(super) fn any(self) -> bool {
        self.offsets || self.stats
    }
}

impl FromStr for Include {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut include = Self::default();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "offsets" => include.offsets = true,
                "stats" => include.stats = true,
                other => return Err(format!("takes `offsets` and `stats`, not `{other}`")),
            }
        }
        Ok(include)
    }
}

impl<'de> Deserialize<'de> for Include {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl TopicView {
    /// Adds figures from the engine. A partition that the engine does not hold yet is empty.
    pub(super) fn including(mut self, include: Include, topic: &Topic, gateway: &Gateway) -> Self {
        let ranges = if include.any() { ranges(topic, gateway) } else { Vec::new() };
        if include.stats {
            let records = ranges.iter().map(|range| range.next.0 - range.earliest.0).sum();
            self.stats = Some(Stats { records, stored_bytes: gateway.stored_bytes(topic) });
        }
        if include.offsets {
            self.offsets = Some(ranges);
        }
        self
    }
}

fn ranges(topic: &Topic, gateway: &Gateway) -> Vec<PartitionRange> {
    let bounds = gateway.bounds(topic).unwrap_or_default();
    let range =
        |(partition, bounds): (u32, Bounds)| PartitionRange { partition, earliest: bounds.start, next: bounds.end };
    (0..).zip(bounds).map(range).collect()
}

/// Whether any record would be lost with the topic.
pub(super) fn holds_records(topic: &Topic, gateway: &Gateway) -> bool {
    ranges(topic, gateway).iter().any(|range| range.next > range.earliest)
}
