//! Ten thousand topics on one server: making them, what an idle server keeps in memory, and how soon it is back.
//!
//! `cargo bench --bench scale`. The real binary with its own PostgreSQL; the topics are made over HTTP, as an administrator's
//! script would.

#![expect(clippy::print_stdout, reason = "the figures are the output")]
#![expect(clippy::unwrap_used, reason = "a benchmark fails where it stands")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::Connection;
use tempfile::TempDir;

const TOPICS: usize = 10_000;
const CONNECTIONS: usize = 8;

#[tokio::main]
async fn main() {
    println!("{}", support::environment());
    let dir = TempDir::new().unwrap();
    let server = Server::start(dir.path());
    println!("first start to ready: {:.2} s", server.ready.as_secs_f64());
    admin(dir.path(), &["create-user", "ada@example.com", "--admin"]);
    let token = admin(dir.path(), &["create-token", "--user", "ada@example.com"]);
    put(server.address, &token, "teams/bench", "{}").await;
    put(server.address, &token, "apps/bench", r#"{"team": "bench"}"#).await;

    let began = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let makers: Vec<_> =
        (0..CONNECTIONS).map(|_| tokio::spawn(make(server.address, token.clone(), Arc::clone(&next)))).collect();
    for maker in makers {
        maker.await.unwrap();
    }
    println!("{TOPICS} topics made by PUT on {CONNECTIONS} connections: {:.1} s", began.elapsed().as_secs_f64());
    tokio::time::sleep(Duration::from_secs(3)).await;
    println!("resident, idle: {:.0} MiB", server.resident_mib());
    server.stop();

    let server = Server::start(dir.path());
    println!("restart to ready: {:.2} s, resident {:.0} MiB", server.ready.as_secs_f64(), server.resident_mib());
    server.stop();
}

async fn make(address: SocketAddr, token: String, next: Arc<AtomicUsize>) {
    let mut connection = Connection::open(address).await;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= TOPICS {
            return;
        }
        let body = r#"{"app": "bench", "description": "One of many"}"#;
        let request = request(&token, &format!("topics/bench.topic.{number:05}"), body);
        assert_eq!(connection.call(&request).await, 201, "{}", connection.answer());
    }
}

async fn put(address: SocketAddr, token: &str, what: &str, body: &str) {
    let mut connection = Connection::open(address).await;
    assert_eq!(connection.call(&request(token, what, body)).await, 201, "{}", connection.answer());
}

fn request(token: &str, what: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "PUT /v1/{what} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

fn weir(data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.env_remove("DATABASE_URL").env("WEIR_LISTEN", "127.0.0.1:0").env("WEIR_LOG_LEVEL", "warn");
    command.arg("--data-dir").arg(data_dir);
    command
}

/// The last line of what the command prints.
fn admin(data_dir: &Path, arguments: &[&str]) -> String {
    let output = weir(data_dir).arg("admin").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().last().unwrap_or_default().to_owned()
}

/// A running server in a process of its own.
struct Server {
    child: Child,
    address: SocketAddr,
    ready: Duration,
}

impl Server {
    fn start(data_dir: &Path) -> Self {
        let began = Instant::now();
        let mut child = weir(data_dir).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.map(Result::unwrap).find_map(|line| line.split("http://").nth(1).map(str::to_owned));
        let ready = ready.expect("the server says where it is");
        Self { child, address: ready.trim().parse().unwrap(), ready: began.elapsed() }
    }

    fn resident_mib(&self) -> f64 {
        support::resident_bytes_of(&self.child.id().to_string()) as f64 / f64::from(1 << 20)
    }

    fn stop(mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}
