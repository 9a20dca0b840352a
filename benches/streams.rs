//! Many open streams on one topic: memory of each, and how late an event arrives.
//!
//! `cargo bench --bench streams`. The server and the readers are two processes, so that the memory is the server's alone.
//! 5,000 streams (`BENCH_STREAMS` says otherwise) at 10 events a second (`BENCH_EVENTS`).

#![expect(clippy::print_stdout, reason = "the figures are the output")]
#![expect(clippy::unwrap_used, reason = "a benchmark fails where it stands")]

mod support;

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use support::{Bench, Connection};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use weir::clock::{Clock as _, SystemClock};

const READERS_AT_ONCE: usize = 200;

#[tokio::main]
async fn main() {
    support::raise_descriptor_limit();
    let args: Vec<String> = std::env::args().collect();
    match args.iter().position(|arg| arg == "--readers") {
        Some(at) => read(args[at + 1].parse().unwrap(), &args[at + 2], args[at + 3].parse().unwrap()).await,
        None => serve().await,
    }
}

fn given(name: &str) -> Option<u32> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn streams() -> usize {
    given("BENCH_STREAMS").map_or(5_000, |streams| usize::try_from(streams).unwrap())
}

fn events_per_second() -> u32 {
    given("BENCH_EVENTS").unwrap_or(10)
}

async fn serve() {
    println!("{}", support::environment());
    let bench = Bench::start(1).await;
    let mut producer = Connection::open(bench.address()).await;
    produce(&bench, &mut producer).await;
    let before = support::resident_bytes();
    let mut readers = Command::new(std::env::current_exe().unwrap());
    readers.args(["--readers", &bench.address().to_string(), &bench.token, &streams().to_string()]);
    let mut readers = readers.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(readers.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("open"));
    let open = support::resident_bytes();
    let events = u32::try_from(support::seconds().as_secs()).unwrap() * events_per_second();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / events_per_second());
    let began = Instant::now();
    for _ in 0..events {
        tick.tick().await;
        produce(&bench, &mut producer).await;
    }
    let took = began.elapsed();
    // The last events are on their way.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let live = support::resident_bytes();
    readers.stdin.take().unwrap().write_all(b"report\n").await.unwrap();
    let per = |bytes: usize| bytes.saturating_sub(before) as f64 / streams() as f64 / 1024.0;
    println!("\n{} SSE streams on one topic, {events} events in {:.1} s", streams(), took.as_secs_f64());
    println!(
        "memory a stream: {:.1} KiB when opened, {:.1} KiB while events flow (server process)",
        per(open),
        per(live)
    );
    let expected = streams() as u64 * u64::from(events);
    while let Some(line) = lines.next_line().await.unwrap() {
        println!("{line} of {expected} expected");
    }
    bench.stop().await;
}

async fn produce(bench: &Bench, producer: &mut Connection) {
    let body = format!("{{\"sent\":{:013},\"pad\":\"{}\"}}", SystemClock.now().0, "x".repeat(64));
    let request = support::post("/v1/topics/bench/records", &bench.token, "application/json", body.as_bytes());
    assert_eq!(producer.call(&request).await, 201, "{}", producer.answer());
}

/// The other process: opens the streams, says so, and reports when it is told to.
async fn read(address: SocketAddr, token: &str, count: usize) {
    let latencies = Arc::new(Mutex::new(Histogram::<u64>::new_with_bounds(1, 600_000, 3).unwrap()));
    let turns = Arc::new(tokio::sync::Semaphore::new(READERS_AT_ONCE));
    let mut opening = Vec::with_capacity(count);
    for _ in 0..count {
        let (token, latencies, turns) = (token.to_owned(), Arc::clone(&latencies), Arc::clone(&turns));
        let (opened, is_open) = tokio::sync::oneshot::channel();
        opening.push(is_open);
        tokio::spawn(async move {
            let turn = turns.acquire_owned().await.unwrap();
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head = format!(
                "GET /v1/topics/bench/records HTTP/1.1\r\nhost: bench\r\naccept: text/event-stream\r\n\
                 authorization: Bearer {token}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut buffer = Vec::with_capacity(1024);
            while memchr::memmem::find(&buffer, b"weir.open").is_none() {
                assert!(stream.read_buf(&mut buffer).await.unwrap() > 0, "{}", String::from_utf8_lossy(&buffer));
            }
            drop(turn);
            let _ = opened.send(());
            loop {
                buffer.clear();
                if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                    return;
                }
                note(&buffer, &latencies);
            }
        });
    }
    for open in opening {
        open.await.unwrap();
    }
    println!("open");
    let wait = || std::io::stdin().read_line(&mut String::new());
    tokio::task::spawn_blocking(wait).await.unwrap().unwrap();
    let latencies = latencies.lock();
    let at = |quantile: f64| latencies.value_at_quantile(quantile);
    println!(
        "delivery: p50 {} ms, p99 {} ms, max {} ms; {} events arrived",
        at(0.5),
        at(0.99),
        latencies.max(),
        latencies.len()
    );
}

/// Records how long ago each event in the buffer was sent, in milliseconds.
fn note(buffer: &[u8], latencies: &Mutex<Histogram<u64>>) {
    let now = SystemClock.now().0;
    for at in memchr::memmem::find_iter(buffer, b"\"sent\":") {
        let sent = buffer.get(at + 7..at + 20).and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<i64>().ok());
        if let Some(sent) = sent {
            latencies.lock().saturating_record(now.saturating_sub(sent).max(0).unsigned_abs());
        }
    }
}
