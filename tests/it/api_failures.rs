//! What clients are told when something below fails: never the cause, always whether it had an effect.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use serde_json::json;
use weir::broker::engine::{
    Ack, AdminError, Bounds, Capabilities, Commit, CommitError, Engine, EngineStats, FetchError, Fetched, TopicSpec,
    Watch,
};
use weir::broker::memory::MemoryEngine;
use weir::clock::{SystemClock, Timestamp};
use weir::names::{Offset, TopicId, TopicPartition};

use crate::harness::Weir;

const WORKS: u8 = 0;
const PANICS: u8 = 1;
const FULL: u8 = 2;
const BUSY: u8 = 3;
const REFUSES_TOPICS: u8 = 4;
const TRIMMED: u8 = 5;

/// An engine that fails in the way it is told to.
struct Failing {
    engine: MemoryEngine,
    how: Arc<AtomicU8>,
}

impl Failing {
    fn how(&self) -> u8 {
        self.how.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Engine for Failing {
    fn capabilities(&self) -> Capabilities {
        self.engine.capabilities()
    }
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), AdminError> {
        if self.how() == REFUSES_TOPICS {
            return Err(AdminError::Stopped);
        }
        self.engine.ensure_topic(spec).await
    }
    async fn delete_topic(&self, topic: TopicId) -> Result<(), AdminError> {
        self.engine.delete_topic(topic).await
    }
    async fn maintain(&self) -> Result<(), AdminError> {
        self.engine.maintain().await
    }
    async fn commit(&self, commit: Commit) -> Result<Ack, CommitError> {
        match self.how() {
            FULL => Err(CommitError::ReadOnly),
            BUSY => Err(CommitError::Busy),
            _ => self.engine.commit(commit).await,
        }
    }
    async fn fetch(&self, at: TopicPartition, from: Offset, bytes_max: usize) -> Result<Fetched, FetchError> {
        self.engine.fetch(at, from, bytes_max).await
    }
    fn bounds(&self, at: TopicPartition) -> Result<Bounds, FetchError> {
        assert!(self.how() != PANICS, "the vault's combination is 1234");
        if self.how() == TRIMMED {
            return Ok(Bounds { start: Offset(5), end: Offset(9) });
        }
        self.engine.bounds(at)
    }
    async fn offset_for_timestamp(&self, at: TopicPartition, moment: Timestamp) -> Result<Offset, FetchError> {
        self.engine.offset_for_timestamp(at, moment).await
    }
    fn watch(&self, partitions: &[TopicPartition]) -> Box<dyn Watch> {
        self.engine.watch(partitions)
    }
    fn stored_bytes(&self, topic: TopicId) -> u64 {
        self.engine.stored_bytes(topic)
    }
    fn stats(&self) -> EngineStats {
        self.engine.stats()
    }
    fn fault(&self) -> Option<String> {
        self.engine.fault()
    }
    async fn close(&self) {
        self.engine.close().await;
    }
}

async fn failing() -> (Weir, Arc<AtomicU8>) {
    let how = Arc::new(AtomicU8::new(WORKS));
    let engine = Failing { engine: MemoryEngine::new(Arc::new(SystemClock)), how: Arc::clone(&how) };
    (Weir::with().engine(Arc::new(engine)).start().await, how)
}

#[tokio::test]
async fn a_panic_ends_one_request_and_tells_nothing() {
    let (weir, how) = failing().await;
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    weir.topic("orders").await;

    how.store(PANICS, Ordering::SeqCst);
    let answer = ada.get("/v1/topics/orders?include=stats").await;
    assert!(!answer.text().contains("1234") && !answer.text().contains("src/"), "{}", answer.text());
    let problem = answer.problem(500, "internal");
    assert_eq!((&problem["applied"], &problem["retryable"]), (&json!("unknown"), &json!(true)));
    how.store(WORKS, Ordering::SeqCst);
    ada.get("/v1/topics/orders?include=stats").await.status(200);
}

#[tokio::test]
async fn a_full_or_busy_log_takes_nothing_and_says_when_to_come_back() {
    let (weir, how) = failing().await;
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    weir.topic("orders").await;

    how.store(FULL, Ordering::SeqCst);
    let full = ada.post("/v1/topics/orders/records", &json!(1)).await;
    assert_ne!(full.header("retry-after"), "");
    assert_eq!(full.problem(503, "storage-readonly")["applied"], "none");
    how.store(BUSY, Ordering::SeqCst);
    let busy = ada.post("/v1/topics/orders/records", &json!(1)).await;
    assert_ne!(busy.header("retry-after"), "");
    assert_eq!(busy.problem(503, "engine-busy")["applied"], "none");
    let read = ada.get("/v1/topics/orders/records").await.status(200).json();
    assert_eq!(read["records"], json!([]), "nothing was written, and reading goes on");
}

#[tokio::test]
async fn a_topic_that_the_log_does_not_hold_yet_is_said_to_be_half_made() {
    let (weir, how) = failing().await;
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    weir.application("checkout").await;

    how.store(REFUSES_TOPICS, Ordering::SeqCst);
    let problem = ada.put("/v1/topics/orders", &json!({"app": "checkout"})).await.problem(503, "unavailable");
    assert_eq!((&problem["applied"], &problem["retryable"]), (&json!("partial"), &json!(true)));
    how.store(WORKS, Ordering::SeqCst);
    ada.put("/v1/topics/orders", &json!({"app": "checkout"})).await.status(200);
    ada.post("/v1/topics/orders/records", &json!(1)).await.status(201);
}

#[tokio::test]
async fn a_position_before_the_first_kept_record_is_told_where_that_is() {
    let (weir, how) = failing().await;
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    let app = weir.application("checkout").await;
    weir.topic_with(&app, "orders", |spec| spec.partitions = 1).await;

    how.store(TRIMMED, Ordering::SeqCst);
    let problem = ada.get("/v1/topics/orders/records?from=0:1").await.problem(416, "cursor-expired");
    assert!(problem["earliest"].as_str().unwrap().ends_with("/0:5"), "{problem}");
}
