//! Durable produce against the same server that authenticates and reads the same body and stores nothing.
//!
//! `cargo bench --bench produce`. Records of 1 KiB on 1, 16, 64 and 256 connections, one request at a time on each; then
//! NDJSON, 100 x 1 KiB a request on 16 connections. The client runs in the same process, on the same cores.

#![expect(clippy::print_stdout, reason = "the figures are the output")]
#![expect(clippy::unwrap_used, reason = "a benchmark fails where it stands")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::post;
use hdrhistogram::Histogram;
use support::{Bench, Connection};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::decompression::RequestDecompressionLayer;
use weir::catalog::access::Produce;
use weir::clock::SystemClock;
use weir::config::{Config, Options};
use weir::names::TopicName;
use weir::provision::Provisioner;
use weir::web::auth::Caller;
use weir::web::extract::{Path, read_body};
use weir::web::problem::Problem;
use weir::web::security;
use weir::web::server::{Limits, Server, Stop};
use weir::web::state::{Shutdown, WebParts, WebState};

const CONNECTIONS: [usize; 4] = [1, 16, 64, 256];
const RECORD_BYTES: usize = 1024;
const LINES: usize = 100;
const LINE_CONNECTIONS: usize = 16;

#[tokio::main]
async fn main() {
    println!("{}", support::environment());
    let bench = Bench::start(16).await;
    let discard = discard_server(&bench).await;
    let body = support::json_of(RECORD_BYTES);
    let kept = support::post("/v1/topics/bench/records", &bench.token, "application/json", body.as_bytes());
    let thrown = support::post("/v1/topics/bench/discard", &bench.token, "application/json", body.as_bytes());
    run(bench.address(), &kept, 16, Duration::from_secs(1)).await;
    run(discard, &thrown, 16, Duration::from_secs(1)).await;

    println!(
        "\nProduce of {RECORD_BYTES}-byte JSON records, each acknowledged when fsynced; baseline: read and dropped"
    );
    println!(
        "{:>11} | {:>9} {:>9} {:>9} | {:>9} {:>9} | {:>6}",
        "connections", "stored/s", "p50 ms", "p99 ms", "dropped/s", "p99 ms", "ratio"
    );
    for connections in CONNECTIONS {
        // Taken in turn, so that a change of the machine's mood hits both.
        let half = support::seconds() / 2;
        let (mut stored, mut dropped) = (Figures::default(), Figures::default());
        for _ in 0..2 {
            dropped.add(run(discard, &thrown, connections, half).await);
            stored.add(run(bench.address(), &kept, connections, half).await);
        }
        println!(
            "{connections:>11} | {:>9.0} {:>9.3} {:>9.3} | {:>9.0} {:>9.3} | {:>5.0}%",
            stored.rate(),
            stored.ms(0.5),
            stored.ms(0.99),
            dropped.rate(),
            dropped.ms(0.99),
            100.0 * stored.rate() / dropped.rate()
        );
    }

    let lines = format!("{body}\n").repeat(LINES);
    let request = support::post("/v1/topics/bench/records", &bench.token, "application/x-ndjson", lines.as_bytes());
    let figures = run(bench.address(), &request, LINE_CONNECTIONS, support::seconds()).await;
    let per_second = figures.rate() * lines.len() as f64 / 1e6;
    println!("\nNDJSON, {LINES} x {RECORD_BYTES} bytes a request, {LINE_CONNECTIONS} connections, fsynced:");
    println!(
        "{per_second:.0} MB/s, {:.0} records/s, p50 {:.2} ms, p99 {:.2} ms",
        figures.rate() * LINES as f64,
        figures.ms(0.5),
        figures.ms(0.99)
    );
    let stats = bench.app.engine().stats();
    println!(
        "\nengine: {:.1} records a commit group, sync p50 {:.2} ms, p99 {:.2} ms",
        stats.records_committed as f64 / stats.groups.max(1) as f64,
        stats.sync_p50.as_secs_f64() * 1e3,
        stats.sync_p99.as_secs_f64() * 1e3
    );
    bench.stop().await;
}

/// The product's server and layers around a handler that throws the body away.
async fn discard_server(bench: &Bench) -> SocketAddr {
    let config = Config::from_options(Options::default()).unwrap();
    let state = WebState::from(WebParts {
        catalog: bench.app.catalog().clone(),
        gateway: bench.app.gateway().clone(),
        provision: Provisioner::new(Arc::clone(bench.app.engine()), bench.app.catalog().clone()),
        engine: Arc::clone(bench.app.engine()),
        clock: Arc::new(SystemClock),
        shutdown: Shutdown::default(),
        public_url: None,
        trusted_proxies: Vec::new(),
    });
    let router = Router::new()
        .route("/v1/topics/{topic}/discard", post(discard))
        .layer(RequestDecompressionLayer::new())
        .layer(CompressionLayer::new())
        .layer(middleware::from_fn(security::time_bound))
        .layer(security::csrf_layer(None))
        .layer(CatchPanicLayer::custom(security::panicked))
        .layer(middleware::from_fn_with_state(state.clone(), security::frame))
        .with_state(state);
    let limits = Limits { http: config.http, trusted_proxies: Vec::new().into() };
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), router, limits, None).await.unwrap();
    let address = server.address().unwrap();
    tokio::spawn(server.run(Stop::default()));
    address
}

async fn discard(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(topic): Path<TopicName>,
    body: Body,
) -> Result<StatusCode, Problem> {
    state.catalog.authorize::<Produce>(&actor, &topic)?;
    read_body(body, 8 << 20, Duration::from_secs(60)).await?;
    Ok(StatusCode::CREATED)
}

/// Nanoseconds up to a minute.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap()
}

/// What was measured.
struct Figures {
    latencies: Histogram<u64>,
    elapsed: Duration,
}

impl Default for Figures {
    fn default() -> Self {
        Self { latencies: histogram(), elapsed: Duration::ZERO }
    }
}

impl Figures {
    fn add(&mut self, other: Self) {
        self.latencies.add(other.latencies).unwrap();
        self.elapsed += other.elapsed;
    }

    fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    fn ms(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1e6
    }
}

/// Repeats a request on so many connections for so long.
async fn run(address: SocketAddr, request: &[u8], connections: usize, time: Duration) -> Figures {
    let request: Arc<[u8]> = request.into();
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        open.push(Connection::open(address).await);
    }
    let began = Instant::now();
    let workers: Vec<_> =
        open.into_iter().map(|c| tokio::spawn(repeat(c, Arc::clone(&request), began + time))).collect();
    let mut figures = Figures::default();
    for worker in workers {
        figures.latencies.add(worker.await.unwrap()).unwrap();
    }
    figures.elapsed = began.elapsed();
    figures
}

async fn repeat(mut connection: Connection, request: Arc<[u8]>, until: Instant) -> Histogram<u64> {
    let mut latencies = histogram();
    loop {
        let began = Instant::now();
        if began >= until {
            return latencies;
        }
        let status = connection.call(&request).await;
        assert!(matches!(status, 200 | 201), "{}", connection.answer());
        latencies.saturating_record(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
}
