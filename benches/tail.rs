//! Reading a warm topic: records of 100 bytes a second, and what each stage costs.
//!
//! `cargo bench --bench tail`. The stages add up: reading and decoding batches, rendering them, sending them to one `curl`.

#![expect(clippy::print_stdout, reason = "the figures are the output")]
#![expect(clippy::unwrap_used, reason = "a benchmark fails where it stands")]

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use support::{Bench, Connection};
use tokio_util::sync::CancellationToken;
use weir::catalog::access::{Actor, Consume};
use weir::gateway::{Event, Position, SubscribeRequest};
use weir::web::sse::render::{Renderer, Shape, Shown};

const RECORD_BYTES: usize = 100;
const RECORDS: usize = 3_000_000;
const LINES: usize = 10_000;
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    println!("{}", support::environment());
    let bench = Bench::start(1).await;
    fill(&bench).await;
    println!("\nTail of {RECORDS} JSON records of {RECORD_BYTES} bytes, one partition, best of {ROUNDS}");
    let mut baseline = None;
    for stage in ["read and decode", "and render NDJSON", "and render SSE"] {
        let mut best = Duration::MAX;
        for _ in 0..ROUNDS {
            best = best.min(in_process(&bench, stage).await);
        }
        report(stage, best, &mut baseline);
    }
    for format in ["ndjson", "sse"] {
        let mut best = Duration::MAX;
        for _ in 0..ROUNDS {
            best = best.min(curl(&bench, format).await);
        }
        report(&format!("to one curl as {format}"), best, &mut baseline);
    }
    bench.stop().await;
}

fn report(stage: &str, took: Duration, baseline: &mut Option<f64>) {
    let per_second = RECORDS as f64 / took.as_secs_f64();
    let baseline = *baseline.get_or_insert(per_second);
    println!(
        "{stage:>22}: {:>6.2} M records/s, {:>5.0} ns a record, {:>4.0}% of reading alone",
        per_second / 1e6,
        took.as_nanos() as f64 / RECORDS as f64,
        100.0 * per_second / baseline
    );
}

async fn fill(bench: &Bench) {
    let lines = format!("{}\n", support::json_of(RECORD_BYTES)).repeat(LINES);
    let request = support::post("/v1/topics/bench/records", &bench.token, "application/x-ndjson", lines.as_bytes());
    let mut connection = Connection::open(bench.address()).await;
    let began = Instant::now();
    for _ in 0..RECORDS / LINES {
        assert_eq!(connection.call(&request).await, 200, "{}", connection.answer());
    }
    let mb = (RECORDS * RECORD_BYTES) as f64 / 1e6;
    println!("filled by one connection at {:.0} MB/s of values, fsynced", mb / began.elapsed().as_secs_f64());
}

/// Reads everything through the gateway, without HTTP.
async fn in_process(bench: &Bench, stage: &str) -> Duration {
    let catalog = bench.app.catalog();
    let grant = catalog.authorize::<Consume>(&Actor::system(), &bench.topic.name).unwrap();
    let mut request = SubscribeRequest::new(grant, Position::Earliest);
    request.to = Some(Position::Latest);
    let mut subscription = bench.app.gateway().subscribe(request, &CancellationToken::new()).await.unwrap();
    let mut renderer = Renderer::new(Shape::Record);
    let mut out = Vec::with_capacity(256 << 10);
    let (render, sse) = (stage != "read and decode", stage == "and render SSE");
    let (mut records_seen, mut bytes) = (0, 0);
    let began = Instant::now();
    loop {
        match subscription.next().await {
            Event::Records(records) => {
                renderer.partition(records.topic.name.as_str(), records.partition);
                for (kind, record) in records.iter() {
                    records_seen += 1;
                    if !render {
                        bytes += std::hint::black_box(record.value).map_or(0, <[u8]>::len);
                        continue;
                    }
                    if sse {
                        out.extend_from_slice(b"data: ");
                    }
                    renderer.record(&mut out, Shown::view(kind, &record));
                    out.extend_from_slice(if sse { b"\n\n" } else { b"\n" });
                }
                bytes += std::hint::black_box(&out).len();
                out.clear();
            }
            Event::End(_) => break,
            _ => {}
        }
    }
    assert_eq!(records_seen, RECORDS);
    assert!(bytes > 0);
    began.elapsed()
}

async fn curl(bench: &Bench, format: &str) -> Duration {
    let url = format!("http://{}/v1/topics/bench/records?from=earliest&to=latest&format={format}", bench.address());
    let token = format!("Authorization: Bearer {}", bench.token);
    let began = Instant::now();
    let run = move || Command::new("curl").args(["-sSN", "-o", "/dev/null", "-H", &token, &url]).status();
    let status = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    let took = began.elapsed();
    assert!(status.success());
    took
}
