//! Reading pages and single records over HTTP.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use weir::broker::engine::Engine as _;
use weir::broker::memory::MemoryEngine;
use weir::catalog::model::{Cleanup, Scope};
use weir::clock::SystemClock;

use crate::harness::{Caller, Weir};

const RECORDS: &str = "/v1/topics/orders/records";

/// Somebody who may do everything with the topics of "checkout", of which "orders" has two partitions.
async fn orders() -> (Weir, Caller) {
    let weir = Weir::start().await;
    let app = weir.application("checkout").await;
    weir.topic_with(&app, "orders", |spec| spec.partitions = 2).await;
    let scopes = [Scope::RecordsProduce, Scope::RecordsConsume, Scope::CatalogRead, Scope::TopicsWrite];
    let caller = weir.token(&app, &scopes).await;
    (weir, caller)
}

async fn write(caller: &Caller, partition: u32, values: &[i64]) {
    let lines: String = values.iter().map(|value| format!("{{\"n\":{value}}}\n")).collect();
    caller.post_as(&format!("{RECORDS}?partition={partition}"), "application/x-ndjson", lines).await.status(200);
}

fn numbers(page: &Value) -> Vec<i64> {
    page["records"].as_array().unwrap().iter().map(|record| record["value"]["n"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn a_loop_over_pages_sees_every_record_once() {
    let (_weir, caller) = orders().await;
    let mut position = "latest".to_owned();
    let mut seen = Vec::new();
    for round in 0..3 {
        let page = caller.get(&format!("{RECORDS}?from={position}&limit=2")).await.status(200).json();
        seen.extend(numbers(&page));
        position = page["next"].as_str().unwrap().to_owned();
        write(&caller, round % 2, &[i64::from(round) * 10, i64::from(round) * 10 + 1, i64::from(round) * 10 + 2]).await;
    }
    loop {
        let page = caller.get(&format!("{RECORDS}?from={position}&limit=2")).await.status(200).json();
        if page["records"].as_array().unwrap().is_empty() {
            assert_eq!(page["behind"], 0);
            assert_eq!(page["next"], position.as_str());
            break;
        }
        seen.extend(numbers(&page));
        position = page["next"].as_str().unwrap().to_owned();
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 10, 11, 12, 20, 21, 22]);
}

#[tokio::test]
async fn a_page_says_where_it_ends_and_how_much_is_left() {
    let (_weir, caller) = orders().await;
    write(&caller, 0, &[1, 2, 3]).await;
    let page = caller.get(&format!("{RECORDS}?limit=1")).await.status(200).json();
    assert_eq!((numbers(&page), &page["behind"]), (vec![1], &json!(2)));
    assert!(page["next"].as_str().unwrap().ends_with("/0:1,1:0"), "{page}");
    assert!(page["end"].as_str().unwrap().ends_with("/0:3,1:0"), "{page}");
    for (query, expected) in [
        ("from=-1", vec![3]),
        ("from=0:1,1:0", vec![2, 3]),
        ("from=-1h&to=latest", vec![1, 2, 3]),
        ("from=latest", vec![]),
    ] {
        let page = caller.get(&format!("{RECORDS}?{query}")).await.status(200).json();
        assert_eq!(numbers(&page), expected, "{query}");
    }
    let moment = "2001-01-01T00:00:00%2B01:00";
    assert_eq!(numbers(&caller.get(&format!("{RECORDS}?from={moment}")).await.status(200).json()), [1, 2, 3]);
}

#[tokio::test]
async fn records_can_be_chosen_by_partition_and_key_and_shown_as_values() {
    let (_weir, caller) = orders().await;
    for (key, partition, n) in [("a", 0, 1), ("b", 0, 2), ("a", 1, 3)] {
        caller.post(&format!("{RECORDS}?key={key}&partition={partition}"), &json!({"n": n})).await.status(201);
    }
    let page = |query: &'static str| {
        let caller = caller.clone();
        async move { caller.get(&format!("{RECORDS}?{query}")).await.status(200).json() }
    };
    assert_eq!(numbers(&page("key=a").await), [1, 3]);
    assert_eq!(numbers(&page("partition=1").await), [3]);
    assert_eq!(numbers(&page("partition=0,1&key=b").await), [2]);
    assert_eq!(page("as=value&partition=1").await["records"], json!([{"n": 3}]));
    assert!(page("partition=1").await["next"].as_str().unwrap().ends_with("/1:1"));
}

#[tokio::test]
async fn a_long_poll_answers_when_the_first_record_is_written() {
    let (_weir, caller) = orders().await;
    for header in [false, true] {
        let path = if header { format!("{RECORDS}?from=latest") } else { format!("{RECORDS}?from=latest&wait=30") };
        let request = caller.request(Method::GET, &path).header("prefer", if header { "wait=30" } else { "wait=0" });
        let reader = tokio::spawn({
            let caller = caller.clone();
            async move { caller.send(request).await.status(200).json() }
        });
        // Without it the page might begin after the record. Too short a wait makes the test weaker, not wrong.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let began = Instant::now();
        write(&caller, 1, &[7]).await;
        assert_eq!(numbers(&reader.await.unwrap()), [7]);
        assert!(began.elapsed() < Duration::from_secs(15));
    }
    let empty = caller.get(&format!("{RECORDS}?from=latest&wait=1")).await.status(200).json();
    assert_eq!(numbers(&empty), Vec::<i64>::new());
}

#[tokio::test]
async fn queries_that_cannot_be_understood_are_refused_by_name() {
    let (_weir, caller) = orders().await;
    for (query, status, code) in [
        ("limit=0", 400, "malformed-query"),
        ("limit=1001", 400, "malformed-query"),
        ("limit=x", 400, "malformed-query"),
        ("max_bytes=0", 400, "malformed-query"),
        ("wait=61", 400, "malformed-query"),
        ("partition=x", 400, "malformed-query"),
        ("partition=2", 404, "not-found"),
        ("format=xml", 400, "malformed-query"),
        ("as=xml", 400, "malformed-query"),
        ("on_gap=hope", 400, "malformed-query"),
        ("form=latest", 400, "malformed-query"),
        ("heartbeat=1ms", 400, "malformed-query"),
        ("from=yesterday", 400, "invalid-cursor"),
        ("from=-5x", 400, "invalid-cursor"),
        ("from=0:-1,1:0", 400, "invalid-cursor"),
        ("from=1:0", 400, "invalid-cursor"),
        ("from=payments@7f3a1b2c/0:0,1:0", 400, "invalid-cursor"),
        ("to=earliest", 400, "invalid-cursor"),
        ("last_event_id=latest", 400, "invalid-cursor"),
        ("lastEventId=%00", 400, "invalid-cursor"),
        ("from=orders@00000000/0:0,1:0", 416, "topic-recreated"),
        ("from=0:1,1:0", 416, "cursor-ahead"),
        ("from=0:0,1:0,2:0", 404, "not-found"),
    ] {
        caller.get(&format!("{RECORDS}?{query}")).await.problem(status, code);
    }
    let page = caller.request(Method::GET, RECORDS).header("accept", "text/html");
    caller.send(page).await.problem(406, "not-acceptable");
    let latest = caller.get(&format!("{RECORDS}?from=0:5,1:0")).await.problem(416, "cursor-ahead")["latest"].clone();
    caller.get(&format!("{RECORDS}?from={}", latest.as_str().unwrap())).await.status(200);
    caller.get("/v1/topics/ORDERS/records").await.problem(404, "not-found");
}

#[tokio::test]
async fn one_record_has_an_address() {
    let (_weir, caller) = orders().await;
    write(&caller, 1, &[1, 2]).await;
    let at = |partition: &str, offset: &str| format!("/v1/topics/orders/partitions/{partition}/records/{offset}");
    let record = caller.get(&at("1", "1")).await.status(200).json();
    assert_eq!(
        (&record["value"], &record["offset"], &record["topic"]),
        (&json!({"n": 2}), &json!(1), &json!("orders"))
    );
    caller.get(&at("1", "2")).await.problem(416, "cursor-ahead");
    caller.get(&at("1", "9")).await.problem(416, "cursor-ahead");
    caller.get(&at("2", "0")).await.problem(404, "not-found");
    caller.get(&at("1", "-1")).await.problem(404, "not-found");
    caller.get(&at("1", "x")).await.problem(404, "not-found");
}

#[tokio::test]
async fn a_record_that_a_newer_one_replaced_is_gone_and_readers_go_on_with_the_next() {
    let engine = Arc::new(MemoryEngine::new(Arc::new(SystemClock)));
    let weir = Weir::with().engine(engine.clone()).start().await;
    let app = weir.application("checkout").await;
    weir.topic_with(&app, "orders", |spec| (spec.partitions, spec.cleanup) = (1, Cleanup::Compact)).await;
    let caller = weir.token(&app, &[Scope::RecordsProduce, Scope::RecordsConsume]).await;
    for (key, n) in [("a", 0), ("b", 1), ("a", 2), ("c", 3)] {
        caller.post(&format!("{RECORDS}?key={key}"), &json!({ "n": n })).await.status(201);
    }
    engine.maintain().await.unwrap();
    let at = |offset: u64| format!("/v1/topics/orders/partitions/0/records/{offset}");
    let gone = caller.get(&at(0)).await.problem(404, "not-found");
    assert_eq!(gone["kind"], "record");
    caller.get(&at(2)).await.status(200);
    for from in ["earliest", "0:0"] {
        let page = caller.get(&format!("{RECORDS}?from={from}")).await.status(200).json();
        let offsets: Vec<_> =
            page["records"].as_array().unwrap().iter().map(|record| record["offset"].clone()).collect();
        assert_eq!(offsets, [1, 2, 3], "from {from}");
    }
}

#[tokio::test]
async fn partitions_say_how_much_they_hold_to_whoever_sees_the_topic() {
    let (weir, caller) = orders().await;
    write(&caller, 1, &[1, 2]).await;
    let bob = weir.person("bob").await;
    let partitions = bob.get("/v1/topics/orders/partitions").await.status(200).json();
    let expected = json!([{"partition": 0, "earliest": 0, "next": 0}, {"partition": 1, "earliest": 0, "next": 2}]);
    assert_eq!(partitions["items"], expected);
    bob.get(RECORDS).await.problem(403, "forbidden");
}

#[tokio::test]
async fn several_topics_are_read_as_one_as_far_as_they_may_be() {
    let (weir, caller) = orders().await;
    let bob = weir.person("bob").await;
    let secret = weir.application_of(&weir.team("other", &bob).await, "secret").await;
    let app = weir.application("checkout").await;
    weir.topic_of(&app, "flights.a").await;
    weir.topic_of(&secret, "flights.secret").await;
    caller.post("/v1/topics/flights.a/records", &json!({"n": 5})).await.status(201);
    write(&caller, 0, &[6]).await;
    let page = caller.get("/v1/records?topics=orders,flights.*").await.status(200).json();
    assert_eq!(numbers(&page), [5, 6]);
    let next = page["next"].as_str().unwrap();
    assert!(next.contains("orders@") && next.contains(",flights.a@") && !next.contains("secret"), "{next}");
    write(&caller, 1, &[7]).await;
    let more = caller.get(&format!("/v1/records?topics=orders,flights.*&from={next}")).await.status(200).json();
    assert_eq!(numbers(&more), [7]);
    caller.get("/v1/records?topics=orders,flights.secret").await.problem(403, "forbidden");
    caller.get("/v1/records?topics=nothing.*").await.problem(404, "not-found");
    caller.get("/v1/records?topics=NO").await.problem(400, "malformed-query");
    caller.get("/v1/records").await.problem(400, "malformed-query");
    let beginnings = |count: usize| (0..count).map(|n| format!("none{n}.*,")).collect::<String>();
    let same = "flights.*,".repeat(100);
    caller.get(&format!("/v1/records?topics={}{same}", beginnings(31))).await.status(200);
    let refused = caller.get(&format!("/v1/records?topics={}{same}", beginnings(32))).await;
    let problem = refused.problem(400, "malformed-query");
    assert_eq!(problem["detail"], "`topics` takes at most 32 beginnings with `*`.");
}

#[tokio::test]
async fn a_reader_covers_at_most_256_partitions() {
    let (weir, caller) = orders().await;
    let app = weir.application("checkout").await;
    for name in ["wide.a", "wide.b", "wide.c"] {
        weir.topic_with(&app, name, |spec| spec.partitions = 100).await;
    }
    caller.get("/v1/records?topics=wide.*").await.problem(422, "too-many-partitions");
    caller.get("/v1/records?topics=wide.*&partition=1,2").await.status(200);
}

#[tokio::test]
async fn a_deleted_topic_is_gone_until_it_is_restored() {
    let (_weir, caller) = orders().await;
    write(&caller, 0, &[1]).await;
    let tag = caller.get("/v1/topics/orders").await.status(200).header("etag").to_owned();
    let delete = caller.request(Method::DELETE, "/v1/topics/orders").header("if-match", tag);
    caller.send(delete).await.status(202);
    caller.get(RECORDS).await.problem(410, "topic-deleted");
    caller.post(RECORDS, &json!(1)).await.problem(410, "topic-deleted");
    caller.post("/v1/topics/orders/restore", &json!({})).await.status(200);
    assert_eq!(numbers(&caller.get(RECORDS).await.status(200).json()), [1]);
}
