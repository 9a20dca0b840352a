//! The program as people run it: the real binary, its own PostgreSQL, signals, kill -9.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::harness::Caller;

/// Longest time a start may take on a machine that is busy with other tests.
const READY_WAIT: Duration = Duration::from_secs(60);

pub fn weir(data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.env_remove("DATABASE_URL").env("WEIR_LISTEN", "127.0.0.1:0").env("WEIR_LOG_LEVEL", "warn");
    command.arg("--data-dir").arg(data_dir);
    command
}

/// A running `weir serve`. Killed when dropped.
pub struct Server {
    child: Child,
    output: BufReader<ChildStdout>,
    pub url: String,
    /// What it printed until it was ready.
    pub greeting: String,
}

impl Server {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut greeting = String::new();
        while !greeting.contains("/v1/status") {
            let length = output.read_line(&mut greeting).unwrap();
            assert_ne!(length, 0, "weir ended before it was ready: {:?}", child.wait());
        }
        let url = greeting.split("ready at ").nth(1).unwrap().lines().next().unwrap().trim().to_owned();
        Self { child, output, url, greeting }
    }

    pub fn caller(&self) -> Caller {
        Caller::anonymous(&self.url)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end and returns what was printed meanwhile.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + READY_WAIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "weir does not end");
            std::thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut rest = String::new();
        let _ = std::io::Read::read_to_string(&mut self.output, &mut rest);
    }
}

#[track_caller]
pub fn succeeded(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn refused(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The last line of what a command printed: the one secret in it.
pub fn last_line(text: &str) -> &str {
    text.lines().last().unwrap()
}

#[track_caller]
fn assert_closed_to_others(folder: &Path) {
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(folder).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "{} is open to others", folder.display());
}

fn create_admin(data_dir: &Path) -> String {
    let made = weir(data_dir).args(["admin", "create-user", "ada@example.com", "--admin"]).output().unwrap();
    succeeded(&made);
    create_token(weir(data_dir))
}

/// A token of ada's with every scope.
pub fn create_token(mut weir: Command) -> String {
    let made = weir.args(["admin", "create-token", "--user", "ada@example.com", "--ttl", "1d"]).output().unwrap();
    last_line(&succeeded(&made)).to_owned()
}

async fn make_topic(ada: &Caller) {
    ada.put("/v1/teams/payments", &json!({})).await.status(201);
    ada.put("/v1/apps/checkout", &json!({"team": "payments"})).await.status(201);
    ada.put("/v1/topics/orders", &json!({"app": "checkout", "partitions": 2})).await.status(201);
}

/// Every `n` in the topic, page by page.
pub async fn every_number(reader: &Caller) -> Vec<u64> {
    let (mut found, mut from) = (Vec::new(), "earliest".to_owned());
    loop {
        let page = reader.get(&format!("/v1/topics/orders/records?limit=1000&from={from}")).await.status(200).json();
        let records = page["records"].as_array().unwrap();
        if records.is_empty() {
            return found;
        }
        found.extend(records.iter().map(|record| record["value"]["n"].as_u64().unwrap()));
        page["next"].as_str().unwrap().clone_into(&mut from);
    }
}

/// One process after the other on one data directory: a first start, administration beside it, a kill in the middle of
/// writing, a start that finds everything, a stop with an open stream, and administration without a server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_kill_and_streams_are_told_of_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(weir(dir.path()));
    assert!(server.greeting.contains("/setup?token="), "{}", server.greeting);
    assert!(server.greeting.contains("curl "), "{}", server.greeting);
    assert_closed_to_others(&dir.path().join("log"));
    assert_closed_to_others(&dir.path().join("postgres"));
    let token = create_admin(dir.path());
    let ada = server.caller().with_token(&token);
    make_topic(&ada).await;

    let mut acknowledged = Vec::new();
    let writer = {
        let ada = ada.clone();
        tokio::spawn(async move {
            for n in 0.. {
                let request = ada.request(reqwest::Method::POST, "/v1/topics/orders/records").json(&json!({ "n": n }));
                match request.send().await {
                    Ok(answer) if answer.status().is_success() => acknowledged.push(n),
                    _ => break,
                }
            }
            acknowledged
        })
    };
    while ada.get("/v1/topics/orders/records?from=earliest&limit=100").await.json()["records"]
        .as_array()
        .map_or(0, Vec::len)
        < 50
    {}
    server.signal(Signal::KILL);
    let acknowledged = writer.await.unwrap();
    assert!(acknowledged.len() >= 50);
    server.wait();

    let mut server = Server::start(weir(dir.path()));
    assert!(!server.greeting.contains("/setup"), "there is an administrator");
    let ada = server.caller().with_token(&token);
    let found = every_number(&ada).await;
    for n in &acknowledged {
        assert!(found.contains(n), "{n} was acknowledged and is gone; {} of {} found", found.len(), acknowledged.len());
    }

    let mut stream = ada.events("/v1/topics/orders/records?from=latest").await;
    stream.named("weir.open").await;
    server.signal(Signal::TERM);
    let end = stream.named("weir.end").await.json();
    assert_eq!(end["reason"], "draining", "{end}");
    assert_eq!(stream.next().await, None);
    assert!(server.wait().success());

    let reset = weir(dir.path()).args(["admin", "reset-password", "ada@example.com"]).output().unwrap();
    assert!(last_line(&succeeded(&reset)).len() >= 12, "without a server it works as well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_the_same_data_is_refused_and_a_second_signal_stops_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(weir(dir.path()));
    let text = refused(&weir(dir.path()).arg("serve").output().unwrap());
    assert!(text.contains(&format!("in use by process {}", server.child.id())), "{text}");

    // A request that never ends keeps the first signal from finishing.
    let address = server.url.trim_start_matches("http://");
    let mut open = tokio::net::TcpStream::connect(address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut open, b"GET / HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    assert_eq!(server.caller().get("/livez").await.status(200).text(), "ok\n");
    server.signal(Signal::INT);
    server.signal(Signal::INT);
    server.signal(Signal::TERM);
    assert!(server.wait().success());
}

#[test]
fn an_unknown_key_in_the_file_is_refused_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("weir.toml");
    std::fs::write(&file, "listn = '127.0.0.1:1'\n").unwrap();
    let text = refused(&weir(dir.path()).arg("--config").arg(&file).output().unwrap());
    assert!(text.contains("unknown key `listn`; did you mean `listen`?"), "{text}");
    let text = refused(&weir(dir.path()).env("WEIR_LISTN", "x").output().unwrap());
    assert!(text.contains("`WEIR_LISTN`"), "{text}");
}

#[test]
fn without_postgresql_it_says_what_to_install_or_set() {
    let dir = tempfile::tempdir().unwrap();
    let text = refused(&weir(dir.path()).arg("--pg-bin").arg(dir.path()).output().unwrap());
    for part in ["apt-get install postgresql", "DATABASE_URL", "WEIR_PG_BIN"] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
}

#[test]
fn a_data_directory_of_another_postgresql_is_refused_with_the_steps() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = dir.path().join("postgres/data");
    std::fs::create_dir_all(&cluster).unwrap();
    std::fs::write(cluster.join("PG_VERSION"), "9\n").unwrap();
    let text = refused(&weir(dir.path()).output().unwrap());
    assert!(text.contains("was made by PostgreSQL 9") && text.contains("pg_upgrade"), "{text}");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = refused(&weir(dir.path()).args(["--listen", &address]).output().unwrap());
    assert!(text.contains(&address) && text.contains("--listen"), "{text}");
}

#[test]
fn the_help_shows_every_command_and_each_option_with_its_variable() {
    let output = Command::new(env!("CARGO_BIN_EXE_weir")).arg("--help").output().unwrap();
    let text = succeeded(&output);
    for part in
        ["serve", "demo", "admin", "--data-dir <DIR>", "[env: WEIR_DATA_DIR=", "--tls-cert <FILE>", "--config <FILE>"]
    {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
}
