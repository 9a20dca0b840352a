//! What an operator does with a data directory, by the real binary: look at it, back it up, restore it, and start without
//! what is lost.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use weir::embedded_postgres::testing::{self, TestDatabase};

use crate::harness::Caller;
use crate::process::{Server, every_number, last_line, succeeded, weir};

/// The binary on a data directory and a database of the tests' own server.
pub struct Place {
    pub dir: PathBuf,
    database: Option<Arc<TestDatabase>>,
}

impl Place {
    pub async fn new(dir: &Path) -> Self {
        let database = Some(Arc::new(testing::database(&weir::MIGRATOR).await));
        Self { dir: dir.to_owned(), database }
    }

    /// With the private PostgreSQL.
    fn private(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), database: None }
    }

    pub fn weir(&self, arguments: &[&str]) -> Command {
        let mut command = weir(&self.dir);
        if let Some(database) = &self.database {
            command.env("DATABASE_URL", database.url());
        }
        command.args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.weir(arguments).output().unwrap()
    }

    /// A token of the administrator, who is made.
    pub fn token(&self) -> String {
        succeeded(&self.run(&["admin", "create-user", "ada@example.com", "--admin"]));
        let made = self.run(&["admin", "create-token", "--user", "ada@example.com", "--ttl", "1d"]);
        last_line(&succeeded(&made)).to_owned()
    }
}

pub async fn make_topic(ada: &Caller, partitions: u32) {
    ada.put("/v1/teams/payments", &json!({})).await.status(201);
    ada.put("/v1/apps/checkout", &json!({"team": "payments"})).await.status(201);
    ada.put("/v1/topics/orders", &json!({"app": "checkout", "partitions": partitions})).await.status(201);
}

async fn post(ada: &Caller, numbers: std::ops::Range<u64>) {
    let body: String = numbers.map(|n| format!("{{\"n\":{n}}}\n")).collect();
    ada.post_as("/v1/topics/orders/records", "application/x-ndjson", body).await.status(200);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What a command printed, and that it ended like this.
#[track_caller]
fn ended(output: &Output, code: i32) -> String {
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{errors}");
    format!("{out}{errors}")
}

fn flip(file: &Path, byte: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[byte] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

/// Every file of the store with its content, the lock excepted.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else {
                let content = std::fs::read(&entry).unwrap();
                found.push((entry, content));
            }
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_can_be_looked_at_beside_the_server_and_without_it_and_damage_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let place = Place::new(temp.path()).await;
    let nothing = ended(&place.run(&["log", "verify"]), 2);
    assert!(nothing.contains("no store"), "{nothing}");
    let mut server = Server::start(place.weir(&["serve"]));
    let ada = server.caller().with_token(&place.token());
    make_topic(&ada, 1).await;
    post(&ada, 0..50).await;

    let beside = ended(&place.run(&["log", "verify"]), 0);
    assert!(beside.contains("in use by a running server") && beside.contains("Sound: "), "{beside}");
    let mut listed = succeeded(&place.run(&["log", "ls"]));
    while !listed.contains("orders") {
        listed = succeeded(&place.run(&["log", "ls"])); // the copy of the catalog reaches its files half a second later
    }
    let line: Vec<&str> = listed.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((line[1], line[2], line[3], line[7]), ("0", "0", "50", "orders"), "{listed}");
    let dumped = succeeded(&place.run(&["log", "dump", "orders", "--from", "7", "--count", "2"]));
    let records: Vec<Value> = dumped.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seen: Vec<_> = records.iter().map(|record| (record["offset"].clone(), record["value"].clone())).collect();
    assert_eq!(seen, [(json!(7), json!("{\"n\":7}")), (json!(8), json!("{\"n\":8}"))]);
    let groups = succeeded(&place.run(&["log", "dump", "--count", "1"]));
    assert_eq!(groups.lines().count(), 1);
    assert!(serde_json::from_str::<Value>(groups.trim()).unwrap()["lsn"].is_u64(), "{groups}");

    server.signal(Signal::TERM);
    assert!(server.wait().success());
    let before = contents(&place.dir.join("log"));
    let alone = ended(&place.run(&["log", "verify"]), 0);
    assert!(alone.contains("not in use"), "{alone}");
    let batches = succeeded(&place.run(&["log", "dump", "orders", "--batches"]));
    assert!(batches.contains("\"base_offset\":0"), "{batches}");
    assert_eq!(contents(&place.dir.join("log")), before, "looking changes nothing");

    let (segment, _) = before.iter().find(|(path, _)| path.extension().is_some_and(|e| e == "log")).unwrap();
    flip(segment, 80);
    let damaged = ended(&place.run(&["log", "verify"]), 1);
    assert!(
        damaged.contains("partition 0: offsets 0 to 49 cannot be read") && damaged.contains("[orders]"),
        "{damaged}"
    );
    ended(&place.run(&["log", "dump", "orders"]), 1);
    ended(&place.run(&["log", "dump", "other"]), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_log_starts_only_for_who_names_the_loss() {
    let temp = tempfile::tempdir().unwrap();
    let place = Place::new(temp.path()).await;
    let mut server = Server::start(place.weir(&["serve"]));
    let token = place.token();
    let ada = server.caller().with_token(&token);
    make_topic(&ada, 1).await;
    for n in 0..6 {
        post(&ada, n..n + 1).await;
    }
    server.signal(Signal::KILL);
    server.wait();

    let dumped = succeeded(&place.run(&["log", "dump", "--count", "10000"]));
    let groups: Vec<Value> = dumped.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |offset: u64| groups.iter().find(|group| group["entries"][0]["base_offset"] == json!(offset)).unwrap();
    let lsn = of(3)["lsn"].as_u64().unwrap();
    let file = place.dir.join(format!("log/wal/{:016}.wal", of(3)["segment"].as_u64().unwrap()));
    let bytes = std::fs::read(&file).unwrap();
    let is_it = |at: &usize| bytes[*at..].starts_with(b"WGRP") && bytes[at + 16..at + 24] == lsn.to_le_bytes();
    flip(&file, (4096..bytes.len()).step_by(4096).find(is_it).unwrap() + 100);

    let found = ended(&place.run(&["log", "verify"]), 1);
    assert!(found.contains(&format!("commit groups {lsn} cannot be read")), "{found}");
    let refused = ended(&place.run(&["serve"]), 1);
    assert!(refused.contains(&format!("--accept-loss {lsn}")) && refused.contains("offsets 3 to 3"), "{refused}");
    let wrong = ended(&place.run(&["serve", "--accept-loss", &format!("{lsn}-{}", lsn + 1)]), 1);
    assert!(wrong.contains(&format!("--accept-loss {lsn}\n")), "{wrong}");

    let server = Server::start(place.weir(&["serve", "--accept-loss", &lsn.to_string()]));
    let ada = server.caller().with_token(&token);
    let page = ada.get("/v1/topics/orders/records?from=earliest&limit=100").await.status(200).json();
    let kept: Vec<u64> =
        page["records"].as_array().unwrap().iter().map(|r| r["value"]["n"].as_u64().unwrap()).collect();
    assert_eq!(kept, [0, 1, 2, 4, 5]);
    let quarantined = std::fs::read_dir(place.dir.join("log/quarantine")).unwrap().count();
    assert_eq!(quarantined, 1);
}

/// Writes until it is told to stop; counts what was acknowledged, one number after the other.
fn write_on(ada: &Caller, acknowledged: &Arc<AtomicU64>, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
    let (ada, acknowledged, stop) = (ada.clone(), Arc::clone(acknowledged), Arc::clone(stop));
    tokio::spawn(async move {
        while !stop.load(Ordering::SeqCst) {
            let n = acknowledged.load(Ordering::SeqCst);
            let body: String =
                (n..n + 20).map(|n| format!("{{\"n\":{n},\"fill\":\"{}\"}}\n", "x".repeat(500))).collect();
            ada.post_as("/v1/topics/orders/records", "application/x-ndjson", body).await.status(200);
            acknowledged.store(n + 20, Ordering::SeqCst);
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_made_under_load_restores_everything_acknowledged_before_it_and_the_catalog() {
    let temp = tempfile::tempdir().unwrap();
    let place = Place::private(&temp.path().join("original"));
    let server = Server::start(place.weir(&["serve"]));
    let token = place.token();
    let ada = server.caller().with_token(&token);
    make_topic(&ada, 1).await;
    let (acknowledged, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let writer = write_on(&ada, &acknowledged, &stop);
    while acknowledged.load(Ordering::SeqCst) < 1000 {
        tokio::task::yield_now().await;
    }
    let backup = temp.path().join("backup");
    let before = acknowledged.load(Ordering::SeqCst);
    let mut command = place.weir(&["backup", backup.to_str().unwrap()]);
    let made = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    stop.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    ended(&made, 0);
    assert!(acknowledged.load(Ordering::SeqCst) > before, "there was load");
    let again = ended(&place.run(&["backup", backup.to_str().unwrap()]), 1);
    assert!(again.contains("is not empty"), "{again}");
    drop(server);

    let restored = Place::private(&temp.path().join("restored"));
    let output = restored.run(&["restore", backup.to_str().unwrap()]);
    ended(&output, 0);
    let twice = ended(&restored.run(&["restore", backup.to_str().unwrap()]), 1);
    assert!(twice.contains("exists"), "{twice}");
    ended(&restored.run(&["log", "verify"]), 0);
    let server = Server::start(restored.weir(&["serve"]));
    let ada = server.caller().with_token(&token);
    let found = every_number(&ada).await;
    let expected: Vec<u64> = (0..u64::try_from(found.len()).unwrap()).collect();
    assert_eq!(found, expected, "in order and without a gap");
    assert!(expected.len() as u64 >= before, "{} of {before}", found.len());
    let topic = ada.get("/v1/topics/orders").await.status(200).json();
    assert_eq!((&topic["app"], &topic["partitions"]), (&json!("checkout"), &json!(1)));
    ada.request(Method::POST, "/v1/topics/orders/records").json(&json!({"n": 0})).send().await.unwrap();
    assert_eq!(every_number(&ada).await.len(), found.len() + 1, "and it goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incomplete_backup_is_not_restored() {
    let temp = tempfile::tempdir().unwrap();
    let place = Place::new(&temp.path().join("new")).await;
    let empty = temp.path().join("backup");
    std::fs::create_dir(&empty).unwrap();
    let refused = ended(&place.run(&["restore", empty.to_str().unwrap()]), 1);
    assert!(refused.contains("no complete backup"), "{refused}");
    assert!(!place.dir.join("log").exists());
}
