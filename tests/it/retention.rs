//! Retention, from the topic's settings to what a reader is told whose records are gone.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use weir::clock::{Clock as _, ManualClock, SystemClock};
use weir::names::{Offset, TopicPartition};

use crate::harness::{Events, Person, Weir};

const RECORDS: &str = "/v1/topics/orders/records";

/// Somebody whose topic "orders", of one partition, keeps records for an hour.
async fn orders() -> (Weir, ManualClock, Person) {
    let clock = ManualClock::at(SystemClock.now());
    let weir = Weir::with().clock(&clock).start().await;
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    weir.application("checkout").await;
    let body = json!({"app": "checkout", "partitions": 1, "retention": {"time": "1h"}});
    ada.put("/v1/topics/orders", &body).await.status(201);
    (weir, clock, ada)
}

async fn write(ada: &Person, values: std::ops::Range<i64>) {
    for n in values {
        ada.post(RECORDS, &json!({"n": n})).await.status(201);
    }
}

async fn partition(weir: &Weir) -> TopicPartition {
    let topic = weir.catalog().view().topics().find(|topic| topic.name.as_str() == "orders").unwrap().id;
    TopicPartition { topic, partition: 0 }
}

/// Has the engine do its maintenance until the topic begins at `start`.
async fn begins_at(weir: &Weir, start: i64) {
    let at = partition(weir).await;
    let engine = weir.app().engine();
    let removed = async {
        while engine.bounds(at).unwrap().start < Offset(start) {
            engine.maintain().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), removed).await.expect("what is too old is removed");
    assert_eq!(engine.bounds(at).unwrap().start, Offset(start));
}

/// Five records that are gone, and five after them that are not.
async fn five_of_ten() -> (Weir, Person) {
    let (weir, clock, ada) = orders().await;
    write(&ada, 0..5).await;
    clock.advance(Duration::from_mins(90));
    begins_at(&weir, 5).await;
    write(&ada, 5..10).await;
    (weir, ada)
}

#[tokio::test]
async fn a_page_below_what_is_kept_is_refused_with_the_place_to_go_on() {
    let (_weir, ada) = five_of_ten().await;
    let problem = ada.get(&format!("{RECORDS}?from=0:3")).await.problem(416, "cursor-expired");
    let earliest = problem["earliest"].as_str().unwrap();
    let page = ada.get(&format!("{RECORDS}?from={earliest}")).await.status(200).json();
    let offsets: Vec<_> = page["records"].as_array().unwrap().iter().map(|r| r["offset"].as_i64().unwrap()).collect();
    assert_eq!(offsets, [5, 6, 7, 8, 9]);
    assert_eq!(page.get("gaps"), None);
    let items = ada.get("/v1/topics/orders/partitions").await.status(200).json();
    assert_eq!(items["items"], json!([{"partition": 0, "earliest": 5, "next": 10}]));
}

#[tokio::test]
async fn a_page_that_may_skip_names_what_it_skipped() {
    let (_weir, ada) = five_of_ten().await;
    let page = ada.get(&format!("{RECORDS}?from=0:3&on_gap=skip")).await.status(200).json();
    assert_eq!(page["gaps"], json!([{"topic": "orders", "partition": 0, "missing_from": 3, "resumed_at": 5}]));
    assert_eq!(page["records"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn an_event_stream_that_comes_back_too_late_is_told_of_the_gap_before_it_goes_on() {
    let (_weir, ada) = five_of_ten().await;
    let request = ada.request(Method::GET, RECORDS).header("last-event-id", "0:3");
    let mut events = Events::open(request).await;
    let gap = events.named("weir.gap").await.json();
    let expected = json!({"topic": "orders", "partition": 0, "missing_from": 3, "resumed_at": 5, "cause": "retention"});
    assert_eq!(gap, expected);
    assert_eq!(events.record().await.json()["offset"], 5);
}

#[tokio::test]
async fn lines_that_must_not_miss_anything_are_refused() {
    let (_weir, ada) = five_of_ten().await;
    ada.get(&format!("{RECORDS}?format=ndjson&from=0:3&to=latest")).await.problem(416, "cursor-expired");
    let lines = ada.get(&format!("{RECORDS}?format=ndjson&from=earliest&to=latest")).await.status(200).lines();
    assert_eq!(lines.len(), 5);
}

#[tokio::test]
async fn a_changed_retention_counts_for_records_that_are_there_already() {
    let (weir, clock, ada) = orders().await;
    let keep = async |time: &str| {
        let body = json!({"app": "checkout", "partitions": 1, "retention": {"time": time}});
        ada.put("/v1/topics/orders", &body).await.status(200);
    };
    write(&ada, 0..3).await;
    keep("7d").await;
    clock.advance(Duration::from_hours(24));
    weir.app().engine().maintain().await.unwrap();
    assert_eq!(weir.app().engine().bounds(partition(&weir).await).unwrap().start, Offset(0));
    keep("2h").await;
    begins_at(&weir, 3).await;
}
