//! `weir log`: what lies in the store, for people and scripts. Reads only.

use std::collections::HashMap;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::broker::inspect::{DumpedEntry, DumpedFrame, InspectError, Progress, Store};
use crate::broker::record::{RecordBatch, RecordView};
use crate::catalog;
use crate::names::{Offset, TopicId, TopicPartition};

/// The store in the data directory.
pub(super) const STORE: &str = "log";

const SOUND: u8 = 0;
const DAMAGED: u8 = 1;
const UNREADABLE: u8 = 2;

/// How often a long work says how far it has come.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What `dump` prints at most if nothing else is asked for.
const COUNT_DEFAULT: usize = 100;

#[derive(Debug, Subcommand)]
pub(super) enum Log {
    /// Read everything and compare it with its checksums: manifest, write-ahead log, segments, indexes
    Verify,
    /// List the partitions with their offsets and sizes
    Ls,
    /// Print records of a partition, or commit groups of the write-ahead log, one JSON object a line
    Dump(Dump),
}

#[derive(Debug, Args)]
pub(super) struct Dump {
    /// Name or id of the topic; without one, the write-ahead log since the last checkpoint is printed
    topic: Option<String>,
    /// Which partition of the topic
    #[arg(long, default_value_t = 0, value_name = "N")]
    partition: u32,
    /// Where to begin: an offset, or the number of a commit group
    #[arg(long, default_value_t = 0, value_name = "N")]
    from: u64,
    /// How many to print at most
    #[arg(long, default_value_t = COUNT_DEFAULT, value_name = "N")]
    count: usize,
    /// Print batches as they are stored, not the records in them
    #[arg(long, requires = "topic")]
    batches: bool,
}

/// Runs a command on the store of a data directory.
pub(super) async fn run(data_dir: &Path, command: Log) -> ExitCode {
    let names = catalog::stored_topic_names(&data_dir.join("view")).await;
    let names = Names(names.into_iter().map(|(id, name)| (id, name.to_string())).collect());
    let dir = data_dir.join(STORE);
    let work = tokio::task::spawn_blocking(move || {
        let result = open(&dir).and_then(|store| names.run(&store, command));
        result.with_context(|| dir.display().to_string())
    });
    match work.await.map_err(anyhow::Error::from).and_then(|result| result) {
        Ok(code) => ExitCode::from(code),
        // Whoever reads has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::from(SOUND),
        Err(error) => {
            let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
            eprintln!("weir: {}", causes.join(": "));
            let damaged = error.downcast_ref::<InspectError>().is_some_and(InspectError::is_damage);
            ExitCode::from(if damaged { DAMAGED } else { UNREADABLE })
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn open(dir: &Path) -> anyhow::Result<Store> {
    let store = Store::open(dir)?;
    let state = if store.is_in_use() { "in use by a running server" } else { "not in use" };
    eprintln!("weir: the store {} is {state}", dir.display());
    Ok(store)
}

/// What the local copy of the catalog calls topics. It may be old or missing.
struct Names(HashMap<TopicId, String>);

impl Names {
    fn run(&self, store: &Store, command: Log) -> anyhow::Result<u8> {
        let mut out = BufWriter::new(io::stdout().lock());
        let code = match command {
            Log::Verify => self.verify(store, &mut out)?,
            Log::Ls => self.list(store, &mut out)?,
            Log::Dump(Dump { topic: None, from, count, .. }) => dump_log(store, from, count, &mut out)?,
            Log::Dump(Dump { topic: Some(topic), partition, from, count, batches }) => {
                let at = TopicPartition { topic: self.topic(store, &topic)?, partition };
                let from = Offset(i64::try_from(from).context("no offset is that large")?);
                dump_partition(store, at, from, count, batches, &mut out)?
            }
        };
        out.flush()?;
        Ok(code)
    }

    fn verify(&self, store: &Store, out: &mut impl Write) -> anyhow::Result<u8> {
        let mut shown = Shown::new("checked");
        let verified = store.verify(|progress| shown.show(progress))?;
        shown.end();
        for finding in &verified.findings {
            writeln!(out, "{}", self.named(&finding.to_string()))?;
        }
        if let Some(more) = verified.found.checked_sub(u64::try_from(verified.findings.len())?).filter(|n| *n > 0) {
            writeln!(out, "and {more} more")?;
        }
        if verified.torn_tail {
            writeln!(out, "The log ends with a commit group that is there in part: it was never acknowledged.")?;
        }
        if verified.indexes_to_make > 0 {
            writeln!(out, "{} indexes are not whole and will be made again.", verified.indexes_to_make)?;
        }
        let verdict =
            if verified.is_sound() { "Sound".to_owned() } else { format!("DAMAGED in {} places", verified.found) };
        writeln!(
            out,
            "{verdict}: {} partitions, {} segments, {} batches, {} indexes, {} commit groups in the log, {} bytes.",
            verified.partitions, verified.segments, verified.batches, verified.indexes, verified.groups, verified.bytes
        )?;
        Ok(if verified.is_sound() { SOUND } else { DAMAGED })
    }

    /// A text with the names of topics behind their ids.
    fn named(&self, text: &str) -> String {
        let id = text.split(' ').find_map(|word| Uuid::from_str(word).ok());
        let name = id.and_then(|id| self.0.get(&TopicId(id)));
        name.map_or_else(|| text.to_owned(), |name| format!("{text} [{name}]"))
    }

    fn list(&self, store: &Store, out: &mut impl Write) -> anyhow::Result<u8> {
        let partitions = store.partitions()?;
        writeln!(
            out,
            "{:36} {:>5} {:>12} {:>12} {:>8} {:>14} {:>12}  NAME",
            "TOPIC", "PART", "START", "END", "SEGMENTS", "BYTES", "IN LOG"
        )?;
        for info in partitions {
            writeln!(
                out,
                "{:36} {:>5} {:>12} {:>12} {:>8} {:>14} {:>12}  {}",
                info.at.topic.to_string(),
                info.at.partition,
                info.start.0,
                info.end.0,
                info.segments,
                info.segment_bytes,
                info.log_bytes,
                self.0.get(&info.at.topic).map_or("-", String::as_str)
            )?;
        }
        Ok(SOUND)
    }

    /// By id or by name. A name may have been given anew: the topic that the store still holds is meant.
    fn topic(&self, store: &Store, text: &str) -> anyhow::Result<TopicId> {
        if let Ok(id) = Uuid::from_str(text) {
            return Ok(TopicId(id));
        }
        let held = store.partitions()?;
        let named = |id: &TopicId| self.0.get(id).is_some_and(|name| name == text);
        let found = held.iter().map(|info| info.at.topic).find(named);
        found.with_context(|| format!("no stored topic is known as `{text}`; `weir log ls` lists their ids"))
    }
}

/// How far a long work has come, on standard error.
pub(super) struct Shown {
    verb: &'static str,
    last: Instant,
    /// On a terminal one line is written over and over.
    terminal: bool,
    any: bool,
}

impl Shown {
    pub(super) fn new(verb: &'static str) -> Self {
        Self { verb, last: Instant::now(), terminal: io::stderr().is_terminal(), any: false }
    }

    pub(super) fn show(&mut self, Progress { done, total }: Progress) {
        if self.last.elapsed() < PROGRESS_EVERY {
            return;
        }
        self.last = Instant::now();
        self.any = true;
        let (start, end) = if self.terminal { ("\r", "") } else { ("", "\n") };
        eprint!("{start}weir: {} {} of {} MiB{end}", self.verb, done >> 20, total >> 20);
    }

    pub(super) fn end(&self) {
        if self.any && self.terminal {
            eprintln!();
        }
    }
}

fn dump_log(store: &Store, from: u64, count: usize, out: &mut impl Write) -> anyhow::Result<u8> {
    let (frames, lost) = store.frames(from, count)?;
    for frame in frames {
        writeln!(out, "{}", frame_json(&frame))?;
    }
    if lost.0.is_empty() {
        return Ok(SOUND);
    }
    eprintln!("weir: commit groups {lost} cannot be read");
    Ok(DAMAGED)
}

fn frame_json(frame: &DumpedFrame) -> Value {
    let entries: Vec<Value> = frame.entries.iter().map(entry_json).collect();
    json!({
        "lsn": frame.lsn, "durable_lsn": frame.durable_lsn, "segment": frame.segment,
        "time": frame.time, "bytes": frame.bytes, "entries": entries,
    })
}

fn entry_json(entry: &DumpedEntry) -> Value {
    match entry {
        DumpedEntry::Append { partition, base, records, bytes } => {
            json!({"kind": "append", "partition_id": partition, "base_offset": base.0, "records": records, "bytes": bytes})
        }
        DumpedEntry::CreatePartition { partition, at } => json!({
            "kind": "create-partition", "partition_id": partition, "topic": at.topic.to_string(), "partition": at.partition,
        }),
        DumpedEntry::LogStart { partition, start } => {
            json!({"kind": "log-start", "partition_id": partition, "start": start.0})
        }
        DumpedEntry::DeleteTopic { topic } => json!({"kind": "delete-topic", "topic": topic.to_string()}),
        DumpedEntry::Other(name) => json!({"kind": name}),
    }
}

fn dump_partition(
    store: &Store,
    at: TopicPartition,
    from: Offset,
    count: usize,
    batches: bool,
    out: &mut impl Write,
) -> anyhow::Result<u8> {
    let (mut left, mut failed) = (count, None);
    if left == 0 {
        return Ok(SOUND);
    }
    store.batches(at, from, count, |batch| {
        let written =
            if batches { print_batch(&batch, &mut left, out) } else { print_records(&batch, from, &mut left, out) };
        failed = written.err();
        if failed.is_some() || left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    failed.map_or(Ok(SOUND), |error| Err(error.into()))
}

fn print_batch(batch: &RecordBatch, left: &mut usize, out: &mut impl Write) -> io::Result<()> {
    *left -= 1;
    let line = json!({
        "base_offset": batch.base_offset().0, "last_offset": batch.last_offset().0, "records": batch.count(),
        "bytes": batch.len(), "max_timestamp": batch.max_timestamp(),
    });
    writeln!(out, "{line}")
}

fn print_records(batch: &RecordBatch, from: Offset, left: &mut usize, out: &mut impl Write) -> io::Result<()> {
    for record in batch.records().filter(|record| record.offset >= from).take(*left) {
        writeln!(out, "{}", record_json(&record))?;
        *left -= 1;
    }
    Ok(())
}

/// Bytes that are text stay text; others are base64 under another name.
fn record_json(record: &RecordView<'_>) -> Value {
    let mut line = Map::new();
    line.insert("offset".to_owned(), record.offset.0.into());
    line.insert("timestamp".to_owned(), record.timestamp.0.into());
    put_bytes(&mut line, "key", record.key);
    put_bytes(&mut line, "value", record.value);
    let headers: Vec<Value> = record
        .headers
        .map(|(name, value)| {
            let mut header = Map::new();
            header.insert("name".to_owned(), name.into());
            put_bytes(&mut header, "value", value);
            header.into()
        })
        .collect();
    if !headers.is_empty() {
        line.insert("headers".to_owned(), headers.into());
    }
    line.into()
}

fn put_bytes(line: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    let (name, value) = match bytes.map(std::str::from_utf8) {
        None => (name.to_owned(), Value::Null),
        Some(Ok(text)) => (name.to_owned(), text.into()),
        Some(Err(_)) => (format!("{name}_base64"), STANDARD.encode(bytes.unwrap_or_default()).into()),
    };
    line.insert(name, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text_and_other_bytes_are_base64() {
        let mut line = Map::new();
        put_bytes(&mut line, "a", Some(b"{\"n\":1}"));
        put_bytes(&mut line, "b", Some(&[0, 255]));
        put_bytes(&mut line, "c", None);
        assert_eq!(Value::from(line), json!({"a": "{\"n\":1}", "b_base64": "AP8=", "c": null}));
    }

    #[test]
    fn a_finding_gets_the_name_of_its_topic() {
        let id = Uuid::from_u128(7);
        let names = Names(HashMap::from([(TopicId(id), "orders".to_owned())]));
        assert!(names.named(&format!("topic {id} partition 0: x")).ends_with("[orders]"));
        assert_eq!(names.named("log: x"), "log: x");
    }
}
