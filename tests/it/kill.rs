//! Kill -9 of the real binary while it is written to over HTTP, again and again, and a ledger of what it has acknowledged.
//!
//! After every kill: the store is sound, every acknowledged record is at its place, nothing is there that was not sent, and
//! a write whose answer never came is there once however often it is sent again with its key. `WEIR_KILL_ROUNDS` says how
//! often (3 in the test command, 200 for the full proof), `WEIR_KILL_SEED` repeats a run.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::Caller;
use crate::operators::{Place, make_topic};
use crate::process::Server;

const ROUNDS_DEFAULT: u64 = 3;
const WRITERS: u64 = 6;
const PARTITIONS: u32 = 3;
/// A server is killed this long after writing began, at most.
const LIFE_MS_MAX: u64 = 700;

/// One write: a name of its own, and how many records.
#[derive(Clone)]
struct Write {
    name: String,
    records: u64,
}

impl Write {
    fn body(&self) -> String {
        let fill = "x".repeat(usize::try_from(self.records * 37 % 900).unwrap());
        (0..self.records).map(|n| format!("{{\"w\":\"{}\",\"n\":{n},\"fill\":\"{fill}\"}}\n", self.name)).collect()
    }

    /// The places that the answer names, in the order of the records.
    async fn send(&self, to: &Caller) -> Option<Vec<(u64, u64)>> {
        let request = to.request(Method::POST, "/v1/topics/orders/records");
        let request = request
            .header("content-type", "application/x-ndjson")
            .header("idempotency-key", format!("\"{}\"", self.name));
        let answer = request.body(self.body()).send().await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        let answer: Value = answer.json().await.ok()?;
        let mut places = Vec::new();
        for appended in answer["appended"].as_array().unwrap() {
            let at = |field: &str| appended[field].as_u64().unwrap();
            places.extend((0..at("count")).map(|n| (at("partition"), at("first_offset") + n)));
        }
        Some(places)
    }
}

/// What the outside world knows.
#[derive(Default)]
struct Ledger {
    /// By partition and offset: the write.
    acknowledged: BTreeMap<(u64, u64), String>,
    /// Every write that was ever sent, by name: how many records.
    sent: HashMap<String, u64>,
    in_doubt: Vec<Write>,
}

impl Ledger {
    fn note(&mut self, write: &Write, places: Vec<(u64, u64)>) {
        assert_eq!(u64::try_from(places.len()).unwrap(), write.records);
        for place in places {
            let other = self.acknowledged.insert(place, write.name.clone());
            assert!(other.is_none_or(|other| other == write.name), "{place:?} was given twice");
        }
    }

    /// Compares everything that is stored with what is known.
    async fn compare(&self, reader: &Caller) {
        let stored = every_record(reader).await;
        for (place, name) in &self.acknowledged {
            let found = stored.get(place).map(|(name, _)| name);
            assert_eq!(found, Some(name), "{name} was acknowledged at {place:?}");
        }
        let mut copies: HashMap<(String, u64), u64> = HashMap::new();
        for (name, n) in stored.into_values() {
            let records = self.sent.get(&name).unwrap_or_else(|| panic!("{name} was never sent"));
            assert!(n < *records);
            *copies.entry((name, n)).or_default() += 1;
        }
        for ((name, n), count) in &copies {
            assert_eq!(*count, 1, "record {n} of {name} is there {count} times");
        }
        for name in copies.keys().map(|(name, _)| name) {
            let there = (0..self.sent[name]).all(|n| copies.contains_key(&(name.clone(), n)));
            assert!(there, "{name} is there in part");
        }
    }
}

async fn every_record(reader: &Caller) -> BTreeMap<(u64, u64), (String, u64)> {
    let (mut found, mut from) = (BTreeMap::new(), "earliest".to_owned());
    loop {
        let page = reader.get(&format!("/v1/topics/orders/records?limit=1000&from={from}")).await.status(200).json();
        let records = page["records"].as_array().unwrap();
        if records.is_empty() {
            return found;
        }
        for record in records {
            let place = (record["partition"].as_u64().unwrap(), record["offset"].as_u64().unwrap());
            let value = &record["value"];
            found.insert(place, (value["w"].as_str().unwrap().to_owned(), value["n"].as_u64().unwrap()));
        }
        page["next"].as_str().unwrap().clone_into(&mut from);
    }
}

/// Writes until the server is gone. What was acknowledged, and what was sent last.
async fn write_until_killed(to: Caller, round: u64, writer: u64) -> (Vec<(Write, Vec<(u64, u64)>)>, Write) {
    let mut acknowledged = Vec::new();
    for n in 0.. {
        let write = Write { name: format!("{round}-{writer}-{n}"), records: 1 + (n * 7 + writer * 5) % 23 };
        match write.send(&to).await {
            Some(places) => acknowledged.push((write, places)),
            None => return (acknowledged, write),
        }
    }
    unreachable!("the loop has no end")
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_after_kill_everything_acknowledged_is_at_its_place_and_nothing_is_there_twice() {
    let rounds = number("WEIR_KILL_ROUNDS").unwrap_or(ROUNDS_DEFAULT);
    let mut dice = Dice(number("WEIR_KILL_SEED").unwrap_or_else(|| u64::from(std::process::id())));
    println!("WEIR_KILL_SEED={}", dice.0);
    let temp = tempfile::tempdir().unwrap();
    let place = Place::new(temp.path()).await;
    let mut ledger = Ledger::default();
    let mut token = None;
    for round in 0..rounds {
        let mut server = Server::start(place.weir(&["serve"]));
        let token = token.get_or_insert_with(|| place.token());
        let ada = server.caller().with_token(token);
        if round == 0 {
            make_topic(&ada, PARTITIONS).await;
        }
        for write in std::mem::take(&mut ledger.in_doubt) {
            let places = write.send(&ada).await.unwrap_or_else(|| panic!("{} is not taken again", write.name));
            ledger.note(&write, places);
        }
        ledger.compare(&ada).await;
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| tokio::spawn(write_until_killed(ada.clone(), round, writer))).collect();
        tokio::time::sleep(Duration::from_millis(dice.below(LIFE_MS_MAX))).await;
        server.signal(Signal::KILL);
        server.wait();
        for writer in writers {
            let (acknowledged, last) = writer.await.unwrap();
            for (write, places) in acknowledged {
                ledger.sent.insert(write.name.clone(), write.records);
                ledger.note(&write, places);
            }
            ledger.sent.insert(last.name.clone(), last.records);
            ledger.in_doubt.push(last);
        }
        let verified = place.run(&["log", "verify"]);
        assert!(verified.status.success(), "round {round}: {}", String::from_utf8_lossy(&verified.stdout));
    }
    let server = Server::start(place.weir(&["serve"]));
    let ada = server.caller().with_token(token.as_deref().unwrap_or_default());
    ledger.compare(&ada).await;
    assert!(ledger.acknowledged.len() > 100, "{} were acknowledged", ledger.acknowledged.len());
}
