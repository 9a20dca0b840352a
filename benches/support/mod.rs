//! What the benchmarks share: a running Weir with a topic and a token, and an HTTP client that costs little itself.
//!
//! Everything is started here, the private PostgreSQL through the product's own code. Nothing is left behind.

#![expect(dead_code, reason = "each benchmark is a program of its own and uses a part")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir::app::App;
use weir::catalog::access::{Action, Actor, AppTarget, Grant, ManageAppTokens, PutApp, PutTeam, PutTopic, TopicTarget};
use weir::catalog::model::{AppSpec, Scope, TeamSpec, TokenSpec, Topic, TopicSpec};
use weir::catalog::put::Precondition;
use weir::config::{Config, Options};
use weir::names::{AppName, TeamName, TopicName};

/// A running Weir.
pub struct Bench {
    pub app: App,
    pub token: String,
    pub topic: Arc<Topic>,
    data_dir: TempDir,
}

impl Bench {
    /// Starts one with a topic `bench` of so many partitions.
    pub async fn start(partitions: u32) -> Self {
        let data_dir = TempDir::new().unwrap();
        let mut options = Options { data_dir: Some(data_dir.path().to_owned()), ..Options::default() };
        options.listen = Some("127.0.0.1:0".parse().unwrap());
        options.http.connections_per_address_max = Some(20_000);
        let app = App::start(Config::from_options(options).unwrap()).await.unwrap();
        let (token, topic) = furnish(&app, partitions).await;
        Self { app, token, topic, data_dir }
    }

    pub fn address(&self) -> SocketAddr {
        self.app.addr()
    }

    /// Stops it; the data directory goes with it.
    pub async fn stop(self) {
        self.app.shutdown().await;
        drop(self.data_dir);
    }
}

async fn furnish(app: &App, partitions: u32) -> (String, Arc<Topic>) {
    let (team, name): (TeamName, AppName) = ("bench".parse().unwrap(), "bench".parse().unwrap());
    let topic: TopicName = "bench".parse().unwrap();
    let catalog = app.catalog();
    let actor = Actor::system();
    let mut tx = catalog.begin(&actor).await.unwrap();
    tx.put_team(&may::<PutTeam>(app, &team), &TeamSpec::default(), Precondition::None).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = catalog.begin(&actor).await.unwrap();
    let grant = may::<PutApp>(app, &AppTarget { name: name.clone(), team: team.clone() });
    tx.put_app(&grant, &AppSpec::new(team), Precondition::None).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = catalog.begin(&actor).await.unwrap();
    let grant = may::<PutTopic>(app, &TopicTarget { name: topic, app: name.clone() });
    let mut spec = TopicSpec::new(name.clone());
    spec.partitions = partitions;
    let topic = tx.put_topic(&grant, &spec, Precondition::None).await.unwrap().value;
    tx.commit().await.unwrap();
    app.engine().ensure_topic(&weir::provision::spec_of(&topic)).await.unwrap();
    let mut tx = catalog.begin(&actor).await.unwrap();
    let scopes = vec![Scope::RecordsProduce, Scope::RecordsConsume];
    let spec = TokenSpec { name: "bench".to_owned(), scopes, topics: Vec::new(), expires_at: None };
    let (_, secret) = tx.create_app_token(&may::<ManageAppTokens>(app, &name), &spec).await.unwrap();
    tx.commit().await.unwrap();
    (secret.expose().to_owned(), Arc::new(topic))
}

fn may<A: Action>(app: &App, target: &A::Target) -> Grant<A> {
    app.catalog().authorize(&Actor::system(), target).unwrap()
}

/// One connection that is kept.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::with_capacity(4096) }
    }

    /// Sends a whole request and reads the whole answer. Returns the status.
    pub async fn call(&mut self, request: &[u8]) -> u16 {
        self.stream.write_all(request).await.unwrap();
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
            assert!(read > 0, "the server closed the connection: {}", String::from_utf8_lossy(&self.buffer));
            if let Some(status) = whole_answer(&self.buffer) {
                return status;
            }
        }
    }

    /// The last answer.
    pub fn answer(&self) -> String {
        String::from_utf8_lossy(&self.buffer).into_owned()
    }
}

/// The status, once head and body are there. The answers measured here have a Content-Length.
fn whole_answer(buffer: &[u8]) -> Option<u16> {
    let head_end = memchr::memmem::find(buffer, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&buffer[..head_end]).ok()?;
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let length: usize = length.unwrap_or(0);
    (buffer.len() >= head_end + length).then(|| head.split(' ').nth(1)?.parse().ok()).flatten()
}

/// A POST of a body, as bytes on the wire.
pub fn post(path: &str, token: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\ncontent-type: {content_type}\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A JSON object of exactly so many bytes.
pub fn json_of(bytes: usize) -> String {
    let frame = r#"{"pad":""}"#.len();
    format!(r#"{{"pad":"{}"}}"#, "x".repeat(bytes - frame))
}

/// How long each measurement takes; `BENCH_SECONDS` says otherwise.
pub fn seconds() -> Duration {
    let given = std::env::var("BENCH_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(given.unwrap_or(5))
}

/// What the figures were taken on.
pub fn environment() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let load = read("/proc/loadavg");
    format!(
        "{} | {cores} cores | kernel {} | load before {} | {} build | data in {}",
        model.map_or("unknown CPU", |(_, name)| name),
        read("/proc/sys/kernel/osrelease").trim(),
        load.split(' ').next().unwrap_or_default(),
        if cfg!(debug_assertions) { "DEBUG" } else { "release" },
        std::env::temp_dir().display(),
    )
}

/// Resident memory of this process, in bytes.
pub fn resident_bytes() -> usize {
    resident_bytes_of("self")
}

/// The same of another process.
pub fn resident_bytes_of(process: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    kib.unwrap_or(0) * 1024
}

/// As many open files as the system lets us have.
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // If it fails, opening the connections will say so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
