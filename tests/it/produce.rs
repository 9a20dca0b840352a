//! Writing records over HTTP: every form of a body, every refusal, and that a refusal wrote nothing.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use weir::catalog::model::{Operation, Scope};

use crate::harness::{Answer, Caller, Weir};

const RECORDS: &str = "/v1/topics/orders/records";

/// A topic with one partition, and somebody who may write and read it.
async fn orders() -> (Weir, Caller) {
    with_partitions(1).await
}

async fn with_partitions(partitions: u32) -> (Weir, Caller) {
    let weir = Weir::start().await;
    let app = weir.application("checkout").await;
    weir.topic_with(&app, "orders", |spec| spec.partitions = partitions).await;
    let caller = weir.token(&app, &[Scope::RecordsProduce, Scope::RecordsConsume, Scope::CatalogRead]).await;
    (weir, caller)
}

async fn stored(caller: &Caller) -> Vec<Value> {
    let page = caller.get(&format!("{RECORDS}?limit=1000")).await.status(200).json();
    page["records"].as_array().unwrap().clone()
}

/// A refusal that says it wrote nothing, and did not.
async fn refused(caller: &Caller, answer: Answer, status: u16, code: &str) -> Value {
    let problem = answer.problem(status, code);
    assert_eq!(problem["applied"], "none", "{problem}");
    assert_eq!(stored(caller).await, Vec::<Value>::new(), "{code} wrote something");
    problem
}

#[tokio::test]
async fn one_json_value_is_stored_as_written_and_its_location_leads_to_it() {
    let (_weir, caller) = orders().await;
    let body = "{\"order_id\":\"o-1\",\n \"total\":12345678901234567890.50}";
    let answer = caller.post_as(&format!("{RECORDS}?key=o-1"), "application/json", body).await.status(201);
    let at = answer.json();
    assert_eq!((&at["partition"], &at["offset"]), (&json!(0), &json!(0)));
    let location = answer.header("location").to_owned();
    assert_eq!(location, "/v1/topics/orders/partitions/0/records/0");
    let record = caller.get(&location).await.status(200);
    let expected = "\"value\":{\"order_id\":\"o-1\",  \"total\":12345678901234567890.50}";
    assert!(record.text().contains(expected), "{}", record.text());
    assert_eq!(record.json()["key"], "o-1");
    assert_eq!(record.json()["timestamp"], at["timestamp"]);
}

#[tokio::test]
async fn lines_are_stored_in_order_and_the_answer_says_where() {
    let (_weir, caller) = orders().await;
    let answer =
        caller.post_as(RECORDS, "application/x-ndjson", "{\"n\":1}\n\n{\"n\":2}\r\n{\"n\":3}").await.status(200).json();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(3), &json!(0)));
    assert_eq!(answer["appended"], json!([{"partition": 0, "first_offset": 0, "count": 3}]));
    assert!(answer["cursor"].as_str().unwrap().ends_with("/0:3"), "{answer}");
    let values: Vec<Value> = stored(&caller).await.iter().map(|r| r["value"]["n"].clone()).collect();
    assert_eq!(values, [1, 2, 3]);
}

#[tokio::test]
async fn what_was_read_can_be_written_to_another_topic() {
    let (weir, caller) = orders().await;
    let app = weir.application("checkout").await;
    weir.topic_of(&app, "copy").await;
    let records = r#"[{"key":"a","value":{"n":1},"headers":{"h":["1",null]},"timestamp":"2026-01-02T03:04:05.678Z"},
        {"key":"b","value":null},{"key":null,"value":"AAE=","encoding":"base64"}]"#;
    caller.post_as(&format!("{RECORDS}?as=record"), "application/json", records).await.status(200);
    let lines = caller.get(&format!("{RECORDS}?from=earliest&to=latest&format=ndjson")).await.status(200).text();
    caller.post_as("/v1/topics/copy/records?as=record", "application/x-ndjson", lines).await.status(200);
    let of = |page: &Value| -> Vec<Value> {
        let mut records = page["records"].as_array().unwrap().clone();
        for record in &mut records {
            for place in ["topic", "partition", "offset"] {
                record.as_object_mut().unwrap().remove(place);
            }
        }
        records.sort_by_key(ToString::to_string);
        records
    };
    let copied = caller.get("/v1/topics/copy/records").await.status(200).json();
    let original = caller.get(RECORDS).await.status(200).json();
    assert_eq!(of(&copied), of(&original));
    assert_eq!(original["records"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn bytes_come_with_their_metadata_in_headers() {
    let (_weir, caller) = orders().await;
    let request = caller
        .request(Method::POST, RECORDS)
        .header("content-type", "application/octet-stream")
        .header("weir-key", "o-1")
        .header("weir-timestamp", "2026-01-02T03:04:05Z")
        .header("weir-header-traceparent", "00-4bf9")
        .body(vec![0, 1, 2, 255]);
    caller.send(request).await.status(201);
    let record = &stored(&caller).await[0];
    assert_eq!((&record["value"], &record["encoding"]), (&json!("AAEC/w=="), &json!("base64")));
    assert_eq!((&record["key"], &record["timestamp"]), (&json!("o-1"), &json!("2026-01-02T03:04:05.000Z")));
    assert_eq!(record["headers"], json!({"traceparent": "00-4bf9"}));
}

#[tokio::test]
async fn cloud_events_go_in_and_out_in_every_form() {
    let (_weir, caller) = orders().await;
    let event = |id: &str| {
        json!({"specversion": "1.0", "id": id, "source": "/checkout", "type": "order.accepted",
        "partitionkey": "o-1", "data": {"n": 1}})
    };
    caller.post_as(RECORDS, "application/cloudevents+json", event("1").to_string()).await.status(201);
    let batch = json!([event("2"), event("3")]).to_string();
    caller.post_as(RECORDS, "application/cloudevents-batch+json", batch).await.status(200);
    let binary = caller
        .request(Method::POST, RECORDS)
        .header("content-type", "application/json")
        .header("ce-specversion", "1.0")
        .header("ce-id", "4")
        .header("ce-source", "/checkout%20page")
        .header("ce-type", "order.accepted")
        .body("{\"n\":1}");
    caller.send(binary).await.status(201);
    let events = caller.get(&format!("{RECORDS}?as=cloudevent")).await.status(200).json()["records"].clone();
    let ids: Vec<&Value> = events.as_array().unwrap().iter().map(|event| &event["id"]).collect();
    assert_eq!(ids, ["1", "2", "3", "4"]);
    assert_eq!((&events[0]["type"], &events[0]["data"]), (&json!("order.accepted"), &json!({"n": 1})));
    assert_eq!(events[3]["source"], "/checkout page");
    let missing = caller.post_as(RECORDS, "application/cloudevents+json", "{\"specversion\":\"1.0\"}").await;
    missing.problem(422, "validation-failed");
}

#[tokio::test]
async fn a_batch_with_one_bad_line_writes_nothing_and_names_the_line() {
    let (_weir, caller) = orders().await;
    let answer = caller.post_as(RECORDS, "application/x-ndjson", "{\"n\":1}\n{\"n\":\n{\"n\":3}\n").await;
    let problem = refused(&caller, answer, 400, "malformed-json").await;
    assert_eq!(problem["errors"][0]["item"], 1);
    let answer =
        caller.post_as(&format!("{RECORDS}?as=record"), "application/x-ndjson", "{\"value\":1}\n{\"vlaue\":2}").await;
    let problem = refused(&caller, answer, 422, "unknown-field").await;
    assert!(problem["detail"].as_str().unwrap().contains("did you mean `value`"), "{problem}");
    assert_eq!(problem["errors"][0]["pointer"], "/vlaue");
}

#[tokio::test]
async fn on_error_continue_writes_the_good_lines_and_tells_the_bad_ones() {
    let (_weir, caller) = orders().await;
    let path = format!("{RECORDS}?on_error=continue");
    let answer = caller.post_as(&path, "application/x-ndjson", "1\n{oops\n3\n").await.status(207).json();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(2), &json!(1)));
    assert_eq!(answer["errors"][0]["item"], 1);
    assert_eq!(stored(&caller).await.len(), 2);
    caller.post_as(&path, "application/x-ndjson", "{oops\n").await.problem(400, "malformed-json");
}

#[tokio::test]
async fn bad_bodies_are_refused_by_name_and_write_nothing() {
    let (_weir, caller) = orders().await;
    let json = "application/json";
    for (query, kind, body, status, code) in [
        ("", json, &b"{\"a\":"[..], 400, "malformed-json"),
        ("", json, b"", 400, "malformed-json"),
        ("", json, b"{\"a\":1} x", 400, "malformed-json"),
        ("", json, b"{\"a\":\"\xff\xfe\"}", 400, "malformed-json"),
        ("", json, b"{\"a\":\"line\nbreak\"}", 400, "malformed-json"),
        ("", "application/x-ndjson", b"\n\n", 422, "validation-failed"),
        ("?as=record", json, b"7", 422, "validation-failed"),
        ("?as=record", json, b"{\"key\":7,\"value\":1}", 422, "validation-failed"),
        ("?as=record", json, b"{\"value\":1,\"value\":2}", 422, "validation-failed"),
        ("?as=record", json, b"{\"value\":1,\"headers\":{\"a\":{}}}", 422, "validation-failed"),
        ("?as=record", json, b"{\"value\":1,\"timestamp\":\"soon\"}", 422, "validation-failed"),
        ("?as=record", "text/plain", b"x", 400, "malformed-query"),
        ("?as=rekord", json, b"1", 400, "malformed-query"),
        ("?kee=a", json, b"1", 400, "malformed-query"),
        ("?partition=1", json, b"1", 404, "not-found"),
        ("?partition=-1", json, b"1", 400, "malformed-query"),
        ("?if_offset=-1", json, b"1", 400, "malformed-query"),
        ("", "application/x-www-form-urlencoded", b"{\"a\":1}", 415, "unsupported-media-type"),
    ] {
        let answer = caller.post_as(&format!("{RECORDS}{query}"), kind, body.to_vec()).await;
        refused(&caller, answer, status, code).await;
    }
    let bare = caller.send(caller.request(Method::POST, RECORDS).body("1")).await;
    let problem = refused(&caller, bare, 415, "unsupported-media-type").await;
    assert!(problem["hint"].as_str().unwrap().contains("-H 'Content-Type: application/json'"), "{problem}");
    for (name, value) in [("weir-timestamp", "soon"), ("idempotency-key", "\"\"")] {
        let request = caller.request(Method::POST, RECORDS).header("content-type", json).header(name, value).body("1");
        let answer = caller.send(request).await;
        refused(&caller, answer, 400, "invalid-header").await;
    }
}

#[tokio::test]
async fn limits_are_named_and_hold_for_what_comes_out_of_compression() {
    let (_weir, caller) = orders().await;
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    let answer = caller.post_as(RECORDS, "application/json", large.clone()).await;
    assert_eq!(refused(&caller, answer, 413, "record-too-large").await["limit"], 1 << 20);
    let many = "1\n".repeat(10_001);
    let answer = caller.post_as(RECORDS, "application/x-ndjson", many).await;
    assert_eq!(refused(&caller, answer, 413, "payload-too-large").await["limit"], 10_000);
    let body = format!("{large}\n").repeat(9);
    let answer = caller.post_as(RECORDS, "application/x-ndjson", body.clone()).await;
    assert_eq!(refused(&caller, answer, 413, "payload-too-large").await["limit"], 8 << 20);
    let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
    zipped.write_all(body.as_bytes()).unwrap();
    let answer = compressed(&caller, "gzip", zipped.finish().unwrap()).await;
    assert_eq!(refused(&caller, answer, 413, "payload-too-large").await["limit"], 8 << 20);
    let answer = compressed(&caller, "br", b"1".to_vec()).await;
    refused(&caller, answer, 415, "unsupported-media-type").await;
    let answer = compressed(&caller, "gzip", b"not gzip".to_vec()).await;
    assert_eq!(answer.code, 400, "{}", answer.text());
    let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
    zipped.write_all(b"1\n2\n").unwrap();
    assert_eq!(compressed(&caller, "gzip", zipped.finish().unwrap()).await.status(200).json()["accepted"], 2);
}

async fn compressed(caller: &Caller, encoding: &str, body: Vec<u8>) -> Answer {
    let request = caller.request(Method::POST, RECORDS).header("content-type", "application/x-ndjson");
    caller.send(request.header("content-encoding", encoding).body(body)).await
}

#[tokio::test]
async fn an_idempotency_key_makes_a_repetition_harmless_also_after_a_restart() {
    let (weir, caller) = orders().await;
    let post = |caller: Caller, body: &'static str| async move {
        let request = caller.request(Method::POST, RECORDS).header("content-type", "application/json");
        caller.send(request.header("idempotency-key", "\"k-1\"").body(body)).await
    };
    let first = post(caller.clone(), "{\"n\":1}").await.status(201);
    assert_eq!(first.header("idempotency-replayed"), "");
    let again = post(caller.clone(), "{\"n\":1}").await.status(201);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(
        (again.json()["offset"].clone(), again.header("location")),
        (first.json()["offset"].clone(), first.header("location"))
    );
    post(caller.clone(), "{\"n\":2}").await.problem(422, "idempotency-key-reused");
    let secret = caller.secret().to_owned();
    let weir = weir.restart().await;
    let caller = weir.anonymous().with_token(&secret);
    let after = post(caller.clone(), "{\"n\":1}").await.status(201);
    assert_eq!(after.header("idempotency-replayed"), "true");
    assert_eq!(stored(&caller).await.len(), 1);
}

#[tokio::test]
async fn a_condition_on_the_next_offset_is_kept() {
    let (_weir, caller) = with_partitions(2).await;
    let write = |query: &'static str| {
        let caller = caller.clone();
        async move { caller.post(&format!("{RECORDS}?{query}"), &json!(1)).await }
    };
    write("partition=1&if_offset=0").await.status(201);
    let problem = write("partition=1&if_offset=0").await.problem(412, "offset-mismatch");
    assert_eq!((&problem["next_offset"], &problem["partition"]), (&json!(1), &json!(1)));
    write("partition=1&if_offset=1").await.status(201);
    write("if_offset=0").await.problem(422, "validation-failed");
}

#[tokio::test]
async fn keys_stay_together_and_records_without_keys_spread() {
    let (_weir, caller) = with_partitions(3).await;
    for _ in 0..3 {
        caller.post(&format!("{RECORDS}?key=o-1"), &json!(1)).await.status(201);
        caller.post(RECORDS, &json!(2)).await.status(201);
    }
    let records = stored(&caller).await;
    let partitions = |key: &Value| {
        let of_key = records.iter().filter(|record| record["key"] == *key);
        of_key.map(|record| record["partition"].as_u64().unwrap()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(partitions(&json!("o-1")).len(), 1);
    assert_eq!(partitions(&Value::Null).len(), 3);
}

#[tokio::test]
async fn a_topic_is_written_by_those_who_may() {
    let (weir, owner) = orders().await;
    let stranger = weir.application_of(&weir.team("other", &weir.person("bob").await).await, "shipping").await;
    let caller = weir.token(&stranger, &[Scope::RecordsProduce]).await;
    let problem = caller.post(RECORDS, &json!(1)).await.problem(403, "forbidden");
    assert_eq!(problem["required"], json!({"operation": "produce", "topic": "orders"}));
    let topic = weir.catalog().view().topic(&"orders".parse().unwrap()).unwrap().clone();
    weir.allow(&stranger, &topic, &[Operation::Produce]).await;
    caller.post(RECORDS, &json!(1)).await.status(201);
    caller.get(RECORDS).await.problem(403, "forbidden");
    let reader = weir.token(&stranger, &[Scope::RecordsConsume]).await;
    reader.post(RECORDS, &json!(1)).await.problem(403, "insufficient-scope");
    weir.anonymous().post(RECORDS, &json!(1)).await.problem(401, "unauthenticated");
    owner.post("/v1/topics/nothing/records", &json!(1)).await.problem(404, "not-found");
    owner.post("/v1/topics/..%2F..%2Fetc/records", &json!(1)).await.status(422);
}

#[tokio::test]
async fn a_body_that_breaks_off_writes_nothing() {
    let (weir, caller) = orders().await;
    let address = weir.app().addr();
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {RECORDS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/x-ndjson\r\ncontent-length: 1000\r\n\r\n1\n2\n",
        caller.secret()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 20"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(stored(&caller).await.len(), 0);
}

#[tokio::test]
async fn header_injection_stays_inside_the_record() {
    let (_weir, caller) = orders().await;
    let key = "a%0d%0aset-cookie:%20x=1%0a%0adata:%20evil";
    let answer = caller.post(&format!("{RECORDS}?key={key}"), &json!("\n\ndata: evil")).await.status(201);
    assert_eq!(answer.header("set-cookie"), "");
    let stream = caller.get(&format!("{RECORDS}?format=sse&from=earliest&to=latest")).await.status(200).text();
    assert!(stream.lines().all(|line| !line.starts_with("data: evil") && !line.starts_with("set-cookie")), "{stream}");
}

#[tokio::test]
async fn an_endless_body_is_acknowledged_batch_by_batch() {
    let (_weir, caller) = orders().await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<&'static str, std::io::Error>>(1);
    let body = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    let request = caller.request(Method::POST, &format!("{RECORDS}?receipts=batch"));
    let request = request.header("content-type", "application/x-ndjson").body(reqwest::Body::wrap_stream(body));
    let answer = tokio::spawn(async move { request.send().await.unwrap() });
    sender.send(Ok("{\"n\":1}\n{\"n\":2}\n{\"n\"")).await.unwrap();
    let mut answer = answer.await.unwrap();
    let mut receipts = Vec::new();
    while !receipts.contains(&b'\n') {
        receipts.extend_from_slice(&answer.chunk().await.unwrap().unwrap());
    }
    // Acknowledged while the body still goes on: the records can be read.
    assert_eq!(serde_json::from_slice::<Value>(&receipts).unwrap()["accepted"], 2);
    assert_eq!(stored(&caller).await.len(), 2);
    sender.send(Ok(":3}\n")).await.unwrap();
    drop(sender);
    while let Some(chunk) = answer.chunk().await.unwrap() {
        receipts.extend_from_slice(&chunk);
    }
    let last: Value = serde_json::from_str(std::str::from_utf8(&receipts).unwrap().lines().last().unwrap()).unwrap();
    assert_eq!(last, json!({"done": true, "accepted": 3, "rejected": 0}));
}
