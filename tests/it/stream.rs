//! Streams over HTTP: resuming, ends, heartbeats, and readers that do not read.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use weir::broker::engine::{
    Ack, AdminError, Bounds, Capabilities, Commit, CommitError, Engine, EngineStats, FetchError, Fetched, TopicSpec,
    Watch,
};
use weir::broker::memory::MemoryEngine;
use weir::catalog::model::{Operation, Scope};
use weir::clock::{SystemClock, Timestamp};
use weir::names::{Offset, TopicId, TopicPartition};

use crate::harness::{Caller, Events, Weir};

const RECORDS: &str = "/v1/topics/orders/records";

/// Somebody who may do everything with the topics of "checkout", of which "orders" has three partitions.
async fn orders() -> (Weir, Caller) {
    orders_on(Weir::start().await).await
}

async fn orders_on(weir: Weir) -> (Weir, Caller) {
    let app = weir.application("checkout").await;
    weir.topic_with(&app, "orders", |spec| spec.partitions = 3).await;
    let caller = weir.token(&app, &[Scope::RecordsProduce, Scope::RecordsConsume, Scope::CatalogRead]).await;
    (weir, caller)
}

async fn write(caller: &Caller, values: std::ops::Range<i64>) {
    let lines: String = values.map(|n| format!("{{\"key\":\"k{n}\",\"value\":{{\"n\":{n}}}}}\n")).collect();
    caller.post_as(&format!("{RECORDS}?as=record"), "application/x-ndjson", lines).await.status(200);
}

fn number(record: &Value) -> i64 {
    record["value"]["n"].as_i64().unwrap()
}

/// Opens a stream that goes on after an event.
async fn resume(caller: &Caller, path: &str, id: &str) -> Events {
    Events::open(caller.request(Method::GET, path).header("last-event-id", id)).await
}

#[tokio::test]
async fn an_event_stream_begins_with_its_position_and_resumes_after_any_event() {
    let (_weir, caller) = orders().await;
    let mut events = caller.events(RECORDS).await;
    assert_eq!(events.headers["content-type"], "text/event-stream");
    assert_eq!(events.headers["cache-control"], "no-cache, no-transform");
    assert_eq!(events.headers["x-accel-buffering"], "no");
    let open = events.named("weir.open").await;
    assert_eq!(open.json()["partitions"], json!({"orders": 3}));
    assert_eq!(open.id.as_deref(), open.json()["position"].as_str());
    write(&caller, 0..30).await;
    // A drop before the first record resumes exactly.
    let mut again = resume(&caller, RECORDS, &open.id.unwrap()).await;
    let mut seen = BTreeSet::new();
    for _ in 0..30 {
        assert!(seen.insert(number(&again.record().await.json())), "twice");
    }
    assert_eq!(seen, (0..30).collect());
    // With an id on each record, a drop after any of them loses and repeats nothing.
    let path = format!("{RECORDS}?from=earliest&ids=each");
    let mut events = caller.events(&path).await;
    let mut got = BTreeSet::new();
    for _ in 0..10 {
        for _ in 0..3 {
            let event = events.record().await;
            assert!(got.insert(number(&event.json())), "twice");
            if got.len() % 3 == 0 {
                events = resume(&caller, &path, &event.id.unwrap()).await;
            }
        }
    }
    assert_eq!(got, (0..30).collect());
}

#[tokio::test]
async fn with_an_id_for_each_chunk_a_resumed_stream_loses_nothing_and_repeats_at_most_one_chunk() {
    let (_weir, caller) = orders().await;
    write(&caller, 0..2000).await;
    let path = format!("{RECORDS}?from=earliest&to=latest");
    let mut events = caller.events(&path).await;
    let (mut seen, mut after_id, mut last_id) = (BTreeSet::new(), Vec::new(), None);
    for _ in 0..1200 {
        let event = events.record().await;
        after_id.push(number(&event.json()));
        if event.id.is_some() {
            last_id = event.id;
            seen.extend(after_id.drain(..));
        }
    }
    let mut events = resume(&caller, &path, &last_id.unwrap()).await;
    while let Some(event) = events.next().await {
        if event.name.is_empty() {
            assert!(seen.insert(number(&event.json())), "a record before the id came again");
        } else if event.name == "weir.end" {
            assert_eq!(event.json()["reason"], "reached-to");
        }
    }
    assert_eq!(seen, (0..2000).collect());
}

#[tokio::test]
async fn a_restart_in_the_middle_loses_nothing() {
    let (weir, caller) = orders().await;
    write(&caller, 0..500).await;
    let mut events = caller.events(&format!("{RECORDS}?from=earliest")).await;
    let (mut seen, mut last_id) = (BTreeSet::new(), String::new());
    for _ in 0..200 {
        let event = events.record().await;
        seen.insert(number(&event.json()));
        last_id = event.id.unwrap_or(last_id);
    }
    let secret = caller.secret().to_owned();
    let weir = weir.restart().await;
    let caller = weir.anonymous().with_token(&secret);
    write(&caller, 500..600).await;
    let from = if last_id.is_empty() { format!("{RECORDS}?from=earliest") } else { RECORDS.to_owned() };
    let mut events = resume(&caller, &from, &last_id).await;
    while seen.len() < 600 {
        seen.insert(number(&events.record().await.json()));
    }
    assert_eq!(seen, (0..600).collect());
}

#[tokio::test]
async fn lines_end_cleanly_only_where_everything_was_sent() {
    let (weir, caller) = orders().await;
    write(&caller, 0..5).await;
    let answer = caller.get(&format!("{RECORDS}?format=ndjson&from=earliest&to=latest")).await.status(200);
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    assert_eq!(answer.lines().iter().map(number).collect::<BTreeSet<_>>(), (0..5).collect());
    let limited = caller.get(&format!("{RECORDS}?format=ndjson&from=earliest&limit=2")).await.status(200);
    assert_eq!(limited.lines().len(), 2);
    let told = caller.get(&format!("{RECORDS}?format=ndjson&from=earliest&limit=2&control=true")).await.lines();
    assert!(told[0].get("weir.open").is_some(), "{told:?}");
    assert_eq!(told.last().unwrap()["weir.end"]["reason"], "reached-limit");
    let mut curl = Command::new("curl");
    let token = format!("Authorization: Bearer {}", caller.secret());
    curl.args(["-sSN", "-H", &token, &weir.url(&format!("{RECORDS}?format=ndjson&from=earliest"))]);
    let mut curl = curl.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut output = BufReader::new(curl.stdout.take().unwrap()).lines();
    for _ in 0..5 {
        assert!(output.next_line().await.unwrap().is_some());
    }
    weir.stop().await;
    let status = tokio::time::timeout(Duration::from_secs(20), curl.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(18), "curl must not take a broken-off stream for a whole one");
}

#[tokio::test]
async fn silence_is_filled_with_heartbeats() {
    let (_weir, caller) = orders().await;
    for (format, heartbeat) in [("sse", ": hb\n\n"), ("ndjson", "\n")] {
        let request = caller.request(Method::GET, &format!("{RECORDS}?format={format}&heartbeat=1s"));
        let mut answer = request.send().await.unwrap();
        let mut text = String::new();
        while !text.ends_with(heartbeat) || (format == "sse" && !text.contains(": hb")) {
            let chunk = tokio::time::timeout(Duration::from_secs(10), answer.chunk()).await.unwrap();
            text.push_str(std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
        }
    }
}

#[tokio::test]
async fn shutting_down_tells_every_stream() {
    let (weir, caller) = orders().await;
    let mut events = Vec::new();
    for _ in 0..20 {
        let mut stream = caller.events(RECORDS).await;
        stream.named("weir.open").await;
        events.push(stream);
    }
    let stop = tokio::spawn(weir.stop());
    for stream in &mut events {
        let end = stream.named("weir.end").await.json();
        assert_eq!(end["reason"], "draining");
        assert!(end["retry_after_ms"].as_u64().is_some_and(|ms| (500..=1500).contains(&ms)), "{end}");
        assert!(stream.next().await.is_none());
    }
    tokio::time::timeout(Duration::from_secs(20), stop).await.unwrap().unwrap();
}

/// Opens a stream, does something, and insists on how the stream ends.
async fn ends(caller: &Caller, reason: &str, cause: impl Future<Output = ()>) {
    let mut events = caller.events(RECORDS).await;
    events.named("weir.open").await;
    cause.await;
    let end = events.named("weir.end").await.json();
    assert_eq!((&end["reason"], &end["retry_after_ms"]), (&json!(reason), &Value::Null));
}

#[tokio::test]
async fn a_stream_ends_when_the_right_to_it_does() {
    let (weir, owner) = orders().await;
    let admin = weir.admin().await;
    let bob = weir.person("bob").await;
    let shipping = weir.application_of(&weir.team("other", &bob).await, "shipping").await;
    let topic = weir.catalog().view().topic(&"orders".parse().unwrap()).unwrap().clone();
    weir.allow(&shipping, &topic, &[Operation::Consume]).await;
    let reader = weir.token(&shipping, &[Scope::RecordsConsume]).await;
    ends(&reader, "access-revoked", async {
        admin.delete("/v1/topics/orders/access/shipping").await.status(204);
    })
    .await;
    weir.allow(&shipping, &topic, &[Operation::Consume]).await;
    ends(&reader, "app-suspended", async {
        admin.post("/v1/apps/shipping/suspend", &json!({})).await.status(200);
    })
    .await;
    admin.post("/v1/apps/shipping/resume", &json!({})).await.status(200);
    ends(&reader, "token-revoked", async {
        let tokens = admin.get("/v1/apps/shipping/tokens").await.status(200).json();
        let id = tokens["items"][0]["id"].as_str().unwrap().to_owned();
        admin.delete(&format!("/v1/apps/shipping/tokens/{id}")).await.status(204);
    })
    .await;
    ends(&owner, "topic-deleted", async {
        let tag = admin.get("/v1/topics/orders").await.header("etag").to_owned();
        let delete = admin.request(Method::DELETE, "/v1/topics/orders").header("if-match", tag);
        admin.send(delete).await.status(202);
    })
    .await;
}

#[tokio::test]
async fn a_stream_ends_when_its_token_runs_out() {
    let (weir, _) = orders().await;
    let app = weir.application("checkout").await;
    let mut spec = crate::harness::token_spec(vec![Scope::RecordsConsume]);
    spec.expires_at = Some(weir.now() + Duration::from_secs(3));
    let caller = weir.token_with(&app, spec).await;
    ends(&caller, "token-expired", async {}).await;
}

#[tokio::test]
async fn a_stream_that_was_opened_with_a_session_ends_when_the_person_signs_out() {
    let (weir, _) = orders().await;
    let browser = weir.admin().await.at_the_portal(&weir).await;
    ends(&browser, "session-expired", async {
        weir.catalog().sign_out(browser.secret()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_browser_is_told_in_the_stream_and_a_script_by_the_status() {
    let (weir, _) = orders().await;
    let bob = weir.person("bob").await;
    bob.get(&format!("{RECORDS}?format=sse")).await.problem(403, "forbidden");
    let browser = bob.at_the_portal(&weir).await;
    let mut events = browser.events(RECORDS).await;
    let end = events.named("weir.end").await.json();
    assert_eq!((&end["reason"], &end["code"]), (&json!("access-revoked"), &json!("forbidden")));
    assert_eq!(end["retry_after_ms"], Value::Null);
    let signed_out = weir.anonymous().with_session("gone");
    let end = signed_out.events(RECORDS).await.named("weir.end").await.json();
    assert_eq!(end["reason"], "session-expired");
    weir.anonymous().get(&format!("{RECORDS}?format=sse")).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn new_partitions_and_new_topics_join_an_open_stream() {
    let (weir, caller) = orders().await;
    let app = weir.application("checkout").await;
    let mut events = caller.events("/v1/records?topics=orders,flights.*").await;
    events.named("weir.open").await;
    weir.topic_with(&app, "orders", |spec| spec.partitions = 5).await;
    caller.post(&format!("{RECORDS}?partition=4"), &json!({"n": 1})).await.status(201);
    assert_eq!(number(&events.record().await.json()), 1);
    weir.topic_of(&app, "flights.a").await;
    caller.post("/v1/topics/flights.a/records", &json!({"n": 2})).await.status(201);
    let joined = events.named("weir.topics").await;
    assert_eq!(joined.json()["topics"], json!(["orders", "flights.a"]));
    let record = events.record().await;
    assert_eq!(number(&record.json()), 2);
    assert!(record.id.unwrap().contains(",flights.a@"));
}

#[tokio::test]
async fn a_stream_can_be_limited_to_partitions_and_keys() {
    let (_weir, caller) = orders().await;
    write(&caller, 0..50).await;
    let lines = caller.get(&format!("{RECORDS}?format=ndjson&from=earliest&to=latest&key=k7")).await.lines();
    assert_eq!(lines.iter().map(number).collect::<Vec<_>>(), [7]);
    let lines = caller.get(&format!("{RECORDS}?format=ndjson&from=earliest&to=latest&partition=1")).await.lines();
    assert!(!lines.is_empty() && lines.iter().all(|record| record["partition"] == 1));
    let values = caller.get(&format!("{RECORDS}?format=ndjson&from=earliest&limit=1&as=value")).await.lines();
    assert!(values[0].get("n").is_some());
}

/// An engine that counts the bytes it was asked for.
struct Counting {
    inner: MemoryEngine,
    fetched: AtomicU64,
}

#[async_trait]
impl Engine for Counting {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<(), AdminError> {
        self.inner.ensure_topic(spec).await
    }
    async fn delete_topic(&self, topic: TopicId) -> Result<(), AdminError> {
        self.inner.delete_topic(topic).await
    }
    async fn maintain(&self) -> Result<(), AdminError> {
        self.inner.maintain().await
    }
    async fn commit(&self, commit: Commit) -> Result<Ack, CommitError> {
        self.inner.commit(commit).await
    }
    async fn fetch(&self, at: TopicPartition, from: Offset, bytes_max: usize) -> Result<Fetched, FetchError> {
        let fetched = self.inner.fetch(at, from, bytes_max).await?;
        let bytes: usize = fetched.batches.iter().map(weir::broker::record::RecordBatch::len).sum();
        self.fetched.fetch_add(bytes as u64, Ordering::SeqCst);
        Ok(fetched)
    }
    fn bounds(&self, at: TopicPartition) -> Result<Bounds, FetchError> {
        self.inner.bounds(at)
    }
    async fn offset_for_timestamp(&self, at: TopicPartition, from: Timestamp) -> Result<Offset, FetchError> {
        self.inner.offset_for_timestamp(at, from).await
    }
    fn watch(&self, partitions: &[TopicPartition]) -> Box<dyn Watch> {
        self.inner.watch(partitions)
    }
    fn stored_bytes(&self, topic: TopicId) -> u64 {
        self.inner.stored_bytes(topic)
    }
    fn stats(&self) -> EngineStats {
        self.inner.stats()
    }
    fn fault(&self) -> Option<String> {
        self.inner.fault()
    }
    async fn close(&self) {
        self.inner.close().await;
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_is_not_read_for_and_holds_nobody_back() {
    let engine = Arc::new(Counting { inner: MemoryEngine::new(Arc::new(SystemClock)), fetched: AtomicU64::new(0) });
    let (weir, caller) = orders_on(Weir::with().engine(engine.clone()).start().await).await;
    // Much more than the sockets' buffers hold.
    let line = format!("{{\"pad\":\"{}\"}}\n", "x".repeat(1000));
    for _ in 0..12 {
        let lines = line.repeat(4000);
        caller.post_as(&format!("{RECORDS}?partition=0"), "application/x-ndjson", lines).await.status(200);
    }
    let written = weir.app().engine().stats().bytes_committed;
    let mut socket = tokio::net::TcpStream::connect(weir.app().addr()).await.unwrap();
    let head = format!(
        "GET {RECORDS}?format=ndjson&from=earliest HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        caller.secret()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = engine.fetched.load(Ordering::SeqCst);
        if now > 0 && now == before {
            break;
        }
        before = now;
    }
    assert!(before < written / 2, "{before} of {written} bytes were fetched for nobody");
    let lines = caller.get(&format!("{RECORDS}?format=ndjson&from=-5&limit=5")).await.status(200).lines();
    assert_eq!(lines.len(), 5);
    drop(socket);
    while weir.app().gateway().streams().open() > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn python_reads_the_stream_with_its_standard_library() {
    const SCRIPT: &str = r#"
import json, sys, urllib.request
url, token, last = sys.argv[1:4]
headers = {"Authorization": "Bearer " + token, "Accept": "text/event-stream"}
if last: headers["Last-Event-ID"] = last
event, records, last_id = {}, [], None
with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
    for line in answer:
        line = line.decode().rstrip("\n")
        if line.startswith(":"): continue
        if line:
            field, _, value = line.partition(": ")
            event[field] = value
            continue
        last_id = event.get("id", last_id)
        if "event" not in event and "data" in event: records.append(json.loads(event["data"])["value"]["n"])
        event = {}
print(json.dumps({"records": records, "id": last_id}))
"#;
    let (weir, caller) = orders().await;
    write(&caller, 0..20).await;
    let run = |last: String| {
        let url = weir.url(&format!("{RECORDS}?from=earliest&to=latest"));
        let mut python = Command::new("python3");
        python.args(["-c", SCRIPT, &url, caller.secret(), &last]).kill_on_drop(true);
        async move {
            let output = tokio::time::timeout(Duration::from_secs(60), python.output()).await.unwrap().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            serde_json::from_slice::<Value>(&output.stdout).unwrap()
        }
    };
    let first = run(String::new()).await;
    assert_eq!(first["records"].as_array().unwrap().len(), 20);
    write(&caller, 20..30).await;
    let second = run(first["id"].as_str().unwrap().to_owned()).await;
    let mut numbers: Vec<i64> = second["records"].as_array().unwrap().iter().filter_map(Value::as_i64).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (20..30).collect::<Vec<_>>());
}
