//! The list of topics with ten thousand of them: the portal's page, a search, and the REST list.
//!
//! `cargo bench --bench topics_page`. One connection, one request after the other; the baseline is `GET /v1/status` of the
//! same server, which touches no catalog.

#![expect(clippy::print_stdout, reason = "the figures are the output")]
#![expect(clippy::unwrap_used, reason = "a benchmark fails where it stands")]

mod support;

use std::time::{Duration, Instant};

use support::{Bench, Connection};
use weir::catalog::Origin;
use weir::catalog::access::{Actor, Administer, PutTopic, TopicTarget};
use weir::catalog::model::TopicSpec;
use weir::catalog::put::Precondition;

const TOPICS: usize = 10_000;
const REQUESTS: usize = 200;

#[tokio::main]
async fn main() {
    println!("{}", support::environment());
    let bench = Bench::start(1).await;
    fill(&bench).await;
    println!("\n{TOPICS} topics, {REQUESTS} requests each, one at a time");
    let session = session(&bench).await;
    let mut baseline = None;
    for (name, path) in [
        ("GET /v1/status", "/v1/status"),
        ("GET /v1/topics", "/v1/topics?limit=100"),
        ("GET /v1/topics?q=", "/v1/topics?q=orders%20accepted&limit=100"),
        ("GET /topics (page)", "/topics"),
        ("GET /topics?q= (page)", "/topics?q=orders+accepted"),
    ] {
        measure(&bench, &session, name, path, &mut baseline).await;
    }
    bench.stop().await;
}

/// One transaction: what is measured is reading.
async fn fill(bench: &Bench) {
    let catalog = bench.app.catalog();
    let system = Actor::system();
    let app = bench.topic.app.clone();
    let began = Instant::now();
    let mut tx = catalog.begin(&system).await.unwrap();
    for number in 0..TOPICS {
        let name =
            format!("{}.{}.{number:05}", ["orders", "payments", "stock"][number % 3], ["accepted", "sent"][number % 2]);
        let target = TopicTarget { name: name.parse().unwrap(), app: app.clone() };
        let grant = catalog.authorize::<PutTopic>(&system, &target).unwrap();
        let spec =
            TopicSpec { description: format!("Number {number} of many"), partitions: 1, ..TopicSpec::new(app.clone()) };
        tx.put_topic(&grant, &spec, Precondition::None).await.unwrap();
    }
    tx.commit().await.unwrap();
    // The reconciler brings them to the log in the background.
    while bench.app.engine().stats().partitions < TOPICS as u64 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("made {TOPICS} topics in {:.1} s", began.elapsed().as_secs_f64());
}

/// The cookie's secret of somebody who is signed in.
async fn session(bench: &Bench) -> String {
    let catalog = bench.app.catalog();
    let grant = catalog.authorize::<Administer>(&Actor::system(), &()).unwrap();
    let password = "a long passphrase for the bench";
    let email = "bench@example.com".parse().unwrap();
    catalog.create_user(&grant, &email, "Bench", false, Some(password.to_owned())).await.unwrap();
    let signed_in = catalog.sign_in(email.as_str(), password.to_owned(), &Origin::default()).await.unwrap();
    signed_in.secret.expose().to_owned()
}

async fn measure(bench: &Bench, session: &str, name: &str, path: &str, baseline: &mut Option<Duration>) {
    let mut connection = Connection::open(bench.address()).await;
    let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\ncookie: weir_session={session}\r\n\r\n").into_bytes();
    let mut times = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let began = Instant::now();
        assert_eq!(connection.call(&request).await, 200, "{path}: {}", connection.answer());
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let (median, p99) = (times[REQUESTS / 2], times[REQUESTS * 99 / 100]);
    let against = *baseline.get_or_insert(median);
    println!(
        "{name:>22}: p50 {:>6.2} ms, p99 {:>6.2} ms, {:>5.1} x the baseline",
        median.as_secs_f64() * 1e3,
        p99.as_secs_f64() * 1e3,
        median.as_secs_f64() / against.as_secs_f64()
    );
}
