//! Streams over HTTP: a subscription as server-sent events or as newline-delimited JSON.
//!
//! The body is pulled: the connection asks for the next chunk when it can send one, and only then is it fetched and
//! rendered. So a client that does not read costs at most one chunk, whatever is being written meanwhile.
//!
//! No stream ends silently. Server-sent events end with `weir.end`. An NDJSON stream that did not ask for control lines
//! ends cleanly only where everything asked for has been sent; otherwise the chunked body is broken off, so that `curl`
//! exits with 18 instead of pretending (decision 10).

pub mod render;

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use self::render::{Renderer, Shape, Shown};
use super::problem::{Code, Problem};
use crate::gateway::places::{Places, Slot};
use crate::gateway::{End, EndReason, Event, Records, Subscription};
use crate::names::Offset;

/// Bytes after which a chunk is sent.
const CHUNK_BYTES: usize = 64 << 10;
/// Silence after which a heartbeat is sent: below the 30 s at which Firefox drops an idle stream.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// A connection that takes nothing for so long, although there is something, is ended.
pub const STALL_MAX: Duration = Duration::from_secs(30);
/// What a client waits before it connects again after a dropped connection, ms.
const RETRY_MS: u32 = 2000;
/// The same after an end that coming back cannot mend.
const FATAL_RETRY_MS: u32 = 60_000;

/// How a stream is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `text/event-stream`.
    Sse,
    /// `application/x-ndjson`; with `control`, also lines such as `{"weir.end":{…}}`.
    Ndjson {
        /// Write control lines.
        control: bool,
    },
}

/// Everything a client can choose about the writing.
#[derive(Debug, Clone, Copy)]
pub struct StreamOptions {
    /// How.
    pub format: Format,
    /// What a record looks like.
    pub shape: Shape,
    /// An `id` on every record instead of on the last of each chunk.
    pub ids_each: bool,
    /// Silence after which a heartbeat is sent.
    pub heartbeat: Duration,
}

/// A subscription as an answer. `running` keeps the process waiting for the stream's end when it stops.
pub fn respond(subscription: Subscription, options: StreamOptions, running: TaskTrackerToken) -> Response {
    // Boxed: the stream moves it into each future and back, and would else hold it twice.
    let writer = Box::new(Writer {
        renderer: Renderer::new(options.shape),
        options,
        subscription,
        unfinished: None,
        sent_at: Instant::now(),
        handed: false,
        busy: false,
        state: State::Open,
        _running: running,
    });
    let chunks = stream::unfold(writer, |mut writer| async move {
        let chunk = writer.chunk().await?;
        Some((chunk, writer))
    });
    let mut response = Body::from_stream(chunks).into_response();
    set_headers(response.headers_mut(), options.format);
    response
}

/// A refusal in the only form that a browser's `EventSource` can show: any status but 200 would close it for good
/// without a word.
#[must_use]
pub fn refuse(problem: &Problem) -> Response {
    let reason = match problem.code {
        Code::Unauthenticated => EndReason::SessionExpired,
        Code::TokenExpired => EndReason::TokenExpired,
        Code::TokenRevoked => EndReason::TokenRevoked,
        Code::Forbidden | Code::InsufficientScope | Code::NotFound => EndReason::AccessRevoked,
        Code::AppSuspended => EndReason::AppSuspended,
        Code::TopicDeleted => EndReason::TopicDeleted,
        Code::TopicRecreated => EndReason::TopicRecreated,
        Code::TooManyStreams => EndReason::TooManyStreams,
        Code::CursorExpired => EndReason::CursorExpired,
        Code::Draining => EndReason::Draining,
        _ => EndReason::Refused,
    };
    let end = End::new(reason);
    let retry_ms = end.retry_after.map(ms);
    let data = json!({
        "reason": reason.as_str(), "retry_after_ms": retry_ms, "code": problem.code.as_str(), "detail": problem.detail,
    });
    let retry = retry_ms.unwrap_or(u64::from(FATAL_RETRY_MS));
    let text = format!("event: weir.end\nretry: {retry}\ndata: {data}\n\n");
    let mut response = text.into_response();
    set_headers(response.headers_mut(), Format::Sse);
    response
}

fn set_headers(headers: &mut HeaderMap, format: Format) {
    let kind = match format {
        Format::Sse => "text/event-stream",
        Format::Ndjson { .. } => "application/x-ndjson",
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    // nginx keeps a whole answer back without this.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The last chunk was made; then the body ends.
    Ended,
    /// The last chunk was made; then the body is broken off.
    Broken,
    Over,
}

struct Writer {
    subscription: Subscription,
    options: StreamOptions,
    renderer: Renderer,
    /// The rest of records that did not fit in the last chunk.
    unfinished: Option<Records>,
    sent_at: Instant,
    /// A chunk was handed to the connection, and it has not asked for another since.
    handed: bool,
    /// The last chunk was full: there is more, so the next one gets its room at once.
    busy: bool,
    state: State,
    _running: TaskTrackerToken,
}

impl Writer {
    /// The next chunk of the body; `None` ends it, an error breaks it off.
    async fn chunk(&mut self) -> Option<io::Result<Bytes>> {
        if std::mem::take(&mut self.handed) && self.sent_at.elapsed() > STALL_MAX && self.state == State::Open {
            // The position that the end names must not lie beyond records that were never sent.
            if let Some(rest) = self.unfinished.take() {
                self.subscription.unread(&rest);
            }
            self.subscription.finish(EndReason::SlowConsumer);
        }
        let mut out = Vec::with_capacity(if self.busy { CHUNK_BYTES + CHUNK_BYTES / 8 } else { 0 });
        loop {
            match self.state {
                State::Open => {}
                State::Ended | State::Over => return None,
                State::Broken => {
                    self.state = State::Over;
                    return Some(Err(io::Error::from(io::ErrorKind::ConnectionAborted)));
                }
            }
            self.fill(&mut out).await;
            if !out.is_empty() {
                break;
            }
            let silence_ends = self.sent_at + self.options.heartbeat;
            if self.state == State::Open
                && tokio::time::timeout_at(silence_ends, self.subscription.wait()).await.is_err()
            {
                out.extend_from_slice(match self.options.format {
                    Format::Sse => b": hb\n\n",
                    Format::Ndjson { .. } => b"\n",
                });
                break;
            }
        }
        self.busy = out.len() >= CHUNK_BYTES;
        self.sent_at = Instant::now();
        self.handed = true;
        Some(Ok(Bytes::from(out)))
    }

    /// Renders what there is without waiting, until the chunk is full.
    async fn fill(&mut self, out: &mut Vec<u8>) {
        // Where the last record of the chunk stands: it gets the id.
        let mut last = None;
        while self.state == State::Open && out.len() < CHUNK_BYTES {
            let event = match self.unfinished.take() {
                Some(records) => Some(Event::Records(records)),
                None => self.subscription.ready().await,
            };
            match event {
                None => break,
                Some(Event::Records(records)) => last = self.records(out, records),
                Some(Event::End(end)) => {
                    self.put_id(out, last.take());
                    self.end(out, end);
                }
                Some(event) => {
                    self.put_id(out, last.take());
                    self.control(out, &event);
                }
            }
        }
        self.put_id(out, last);
    }

    /// Renders records until the chunk is full. Returns the place after the last of them, if it was rendered here.
    fn records(&mut self, out: &mut Vec<u8>, records: Records) -> Option<(Slot, Offset)> {
        let sse = self.options.format == Format::Sse;
        let ids_each = self.options.ids_each && sse;
        self.renderer.partition(records.topic.name.as_str(), records.partition);
        let mut after = None;
        let mut full_at = None;
        for (kind, record) in records.iter() {
            if out.len() >= CHUNK_BYTES {
                full_at = Some(record.offset);
                break;
            }
            if sse {
                out.extend_from_slice(b"data: ");
            }
            self.renderer.record(out, Shown::view(kind, &record));
            out.push(b'\n');
            if sse {
                out.push(b'\n');
            }
            let next = (records.slot, Offset(record.offset.0 + 1));
            if ids_each {
                write_id(out, self.subscription.places(), Some(next));
            }
            after = Some(next);
        }
        if let Some(offset) = full_at {
            self.unfinished = Some(records.beginning_at(offset));
        }
        if ids_each { None } else { after }
    }

    /// Gives the record that ends the chunk its id: the place right after it.
    fn put_id(&self, out: &mut Vec<u8>, last: Option<(Slot, Offset)>) {
        let Some(last) = last.filter(|_| self.options.format == Format::Sse) else { return };
        // With nothing left over, the subscription's own place may be further on than the last record.
        write_id(out, self.subscription.places(), self.unfinished.as_ref().map(|_| last));
    }

    fn end(&mut self, out: &mut Vec<u8>, end: End) {
        let silent = self.options.format == Format::Ndjson { control: false };
        self.state = if silent && !end.reason.complete() { State::Broken } else { State::Ended };
        let retry_ms = end.retry_after.map(ms);
        if self.options.format == Format::Sse {
            let retry = retry_ms.unwrap_or(u64::from(FATAL_RETRY_MS));
            out.extend_from_slice(format!("retry: {retry}\n").as_bytes());
        }
        let data = json!({"reason": end.reason.as_str(), "retry_after_ms": retry_ms, "position": self.position()});
        self.named(out, "weir.end", &data, false);
    }

    fn control(&self, out: &mut Vec<u8>, event: &Event) {
        match event {
            Event::Open => self.open(out),
            Event::Gap(gap) => {
                let data = json!({
                    "topic": gap.topic, "partition": gap.partition, "missing_from": gap.missing_from,
                    "resumed_at": gap.resumed_at, "cause": "retention",
                });
                self.named(out, "weir.gap", &data, true);
            }
            Event::Checkpoint => {
                let data = json!({"position": self.position(), "behind": self.subscription.behind()});
                self.named(out, "weir.checkpoint", &data, true);
            }
            Event::Sampled { shown, skipped } => {
                let data = json!({"shown": shown, "skipped": skipped});
                self.named(out, "weir.sampled", &data, true);
            }
            Event::Topics(topics) => self.named(out, "weir.topics", &json!({"topics": topics}), true),
            Event::Records(_) | Event::End(_) => {}
        }
    }

    fn open(&self, out: &mut Vec<u8>) {
        let id = self.subscription.id();
        if self.options.format == Format::Sse {
            let heartbeat = self.options.heartbeat.as_secs();
            let preamble = format!(": weir stream={id} heartbeat={heartbeat}s\nretry: {RETRY_MS}\n\n");
            out.extend_from_slice(preamble.as_bytes());
        }
        let topics = &self.subscription.places().topics;
        let partitions: serde_json::Map<String, Value> =
            topics.iter().map(|places| (places.topic.name.to_string(), Value::from(places.topic.partitions))).collect();
        let data = json!({
            "stream": id, "position": self.position(), "partitions": partitions,
            "max_lifetime_s": self.subscription.lifetime().as_secs(),
        });
        self.named(out, "weir.open", &data, true);
    }

    /// A control frame, where the format has room for one. No text in `data` can hold a line break: it is JSON.
    fn named(&self, out: &mut Vec<u8>, name: &str, data: &Value, with_id: bool) {
        match self.options.format {
            Format::Sse => {
                out.extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes());
                if with_id {
                    write_id(out, self.subscription.places(), None);
                }
            }
            Format::Ndjson { control: true } => {
                out.extend_from_slice(format!("{{\"{name}\":{data}}}\n").as_bytes());
            }
            Format::Ndjson { control: false } => {}
        }
    }

    fn position(&self) -> String {
        self.subscription.places().cursor().to_string()
    }
}

/// Adds an `id` to the event that ends the buffer.
fn write_id(out: &mut Vec<u8>, places: &Places, instead: Option<(Slot, Offset)>) {
    debug_assert!(out.ends_with(b"\n\n"), "an id belongs to an event");
    out.pop();
    out.extend_from_slice(b"id: ");
    places.write_cursor(out, instead);
    out.extend_from_slice(b"\n\n");
}
