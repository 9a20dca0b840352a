//! What the gateway's unit tests share.

use std::sync::Arc;

use bytes::Bytes;

use crate::broker::engine::{Commit, Engine, Tenant, TopicSpec, Write};
use crate::broker::record::{Record, RecordBatch, ValueKind};
use crate::catalog::model::{Classification, Cleanup, Topic, TopicState, Visibility};
use crate::clock::Timestamp;
use crate::names::{AppId, TeamId, TopicId, TopicPartition};

/// A topic that no catalog knows.
pub fn topic(name: &str, partitions: u32) -> Arc<Topic> {
    let moment = time::OffsetDateTime::UNIX_EPOCH;
    Arc::new(Topic {
        id: TopicId::new(),
        name: name.parse().unwrap(),
        app: "checkout".parse().unwrap(),
        app_id: AppId::new(),
        team: "payments".parse().unwrap(),
        team_id: TeamId::new(),
        description: String::new(),
        classification: Classification::Internal,
        visibility: Visibility::Company,
        partitions,
        retention_ms: None,
        retention_bytes: None,
        cleanup: Cleanup::Delete,
        labels: std::collections::BTreeMap::new(),
        state: TopicState::Active,
        deleted_at: None,
        purge_after: None,
        created_at: moment,
        updated_at: moment,
        revision: 1,
    })
}

/// An engine that holds the topics and nothing else.
pub async fn engine(topics: &[&Arc<Topic>]) -> Arc<dyn Engine> {
    let engine = crate::broker::memory::MemoryEngine::new(Arc::new(crate::clock::SystemClock));
    for topic in topics {
        engine.ensure_topic(&TopicSpec::new(topic.id, topic.partitions)).await.unwrap();
    }
    Arc::new(engine)
}

/// Appends one JSON record per timestamp, in one batch.
pub async fn append(engine: &dyn Engine, topic: &Topic, partition: u32, timestamps: &[i64]) {
    let record = |ms: &i64| Record {
        key: Some(Bytes::from(format!("k{ms}"))),
        value: Some(Bytes::from(format!("{{\"at\":{ms}}}"))),
        headers: Vec::new(),
        timestamp: Some(Timestamp(*ms)),
    };
    let records: Vec<Record> = timestamps.iter().map(record).collect();
    let batch = RecordBatch::build(&records, ValueKind::Json, Timestamp(0)).unwrap();
    let to = TopicPartition { topic: topic.id, partition };
    let writes = vec![Write { to, batch, expect: None }];
    let tenant = Tenant(uuid::Uuid::nil());
    engine.commit(Commit { tenant, writes, idempotency: None }).await.unwrap();
}
