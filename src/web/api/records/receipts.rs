//! `POST …/records?receipts=batch`: an endless NDJSON body, written as it arrives, with a receipt for each batch.
//!
//! A receipt is sent when its records are on disk. What has no receipt when the connection breaks may or may not be
//! written; what has one is.

use std::io;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::header::{self, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::ingest::{self, BodyKind, FromHeaders, InputShape, RECORD_BYTES_MAX};
use crate::catalog::access::{Grant, Produce};
use crate::gateway::ProduceOptions;
use crate::gateway::streams::StreamPermit;
use crate::web::problem::{Code, Problem};
use crate::web::state::WebState;

/// Bytes that make a batch.
const BATCH_BYTES: usize = 1 << 20;
/// Longest time a line waits for others.
const FLUSH_AFTER: Duration = Duration::from_millis(50);
/// An upload that sends nothing for so long is ended: it holds one of the places for open streams.
const IDLE_MAX: Duration = Duration::from_secs(600);
/// Longest line: a record at its limit, in base64 and escaped, with its envelope.
const LINE_BYTES_MAX: usize = 2 * RECORD_BYTES_MAX;

/// How the lines are to be written.
pub(super) struct Intake {
    pub shape: InputShape,
    pub partition: Option<u32>,
    /// Go on after refused lines.
    pub lenient: bool,
    pub from_headers: FromHeaders,
}

/// Answers with the receipts while the body is read.
pub(super) fn respond(
    state: &WebState,
    grant: Grant<Produce>,
    permit: StreamPermit,
    intake: Intake,
    body: Body,
) -> Response {
    let reader = Reader {
        state: state.clone(),
        grant,
        intake,
        body: body.into_data_stream(),
        lines: Lines::default(),
        stopped: None,
        accepted: 0,
        rejected: 0,
        over: false,
        _permit: permit,
        _running: state.shutdown.tasks.token(),
    };
    let receipts = stream::unfold(reader, |mut reader| async move {
        if reader.over {
            return None;
        }
        let mut line = reader.next().await.to_string().into_bytes();
        line.push(b'\n');
        Some((Ok::<_, io::Error>(Bytes::from(line)), reader))
    });
    let mut response = Body::from_stream(receipts).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

struct Reader {
    state: WebState,
    grant: Grant<Produce>,
    intake: Intake,
    body: BodyDataStream,
    /// What was read and not written yet.
    lines: Lines,
    /// Why nothing more is read.
    stopped: Option<Stop>,
    accepted: u64,
    rejected: usize,
    over: bool,
    _permit: StreamPermit,
    _running: TaskTrackerToken,
}

/// Bytes that arrive in pieces, cut after whole lines. Each byte is searched once, however small the pieces are.
#[derive(Debug, Default)]
struct Lines {
    bytes: BytesMut,
    /// Length of the whole lines at the beginning.
    whole: usize,
}

impl Lines {
    fn push(&mut self, piece: &[u8]) {
        if let Some(end) = memchr::memrchr(b'\n', piece) {
            self.whole = self.bytes.len() + end + 1;
        }
        self.bytes.extend_from_slice(piece);
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn any_whole(&self) -> bool {
        self.whole > 0
    }

    /// Everything up to the end of the last whole line.
    fn take_whole(&mut self) -> Bytes {
        self.bytes.split_to(std::mem::take(&mut self.whole)).freeze()
    }

    /// Everything, the beginning of a line at the end too.
    fn take_all(&mut self) -> Bytes {
        self.whole = 0;
        self.bytes.split().freeze()
    }
}

/// Why reading stopped for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// The body is at its end.
    End,
    /// The body broke off: its last line may be half of one.
    Broken,
    /// Nothing came for too long.
    Idle,
    /// This instance stops.
    Draining,
}

impl Reader {
    /// The next receipt.
    async fn next(&mut self) -> Value {
        loop {
            if self.stopped.is_none() {
                self.stopped = self.fill().await;
            }
            // Without its end, the last line may be half of one.
            let batch = match self.stopped {
                Some(Stop::End) => self.lines.take_all(),
                _ => self.lines.take_whole(),
            };
            if batch.is_empty() && self.stopped.is_none() {
                return self.fail(&line_too_long());
            }
            if !batch.iter().all(u8::is_ascii_whitespace) {
                return match self.write(&batch).await {
                    Ok(receipt) => receipt,
                    Err(problem) => self.fail(&problem),
                };
            }
            match self.stopped {
                None => {}
                Some(Stop::End | Stop::Broken) => return self.done(),
                Some(Stop::Idle) => return self.fail(&idle()),
                Some(Stop::Draining) => {
                    return self.fail(&Problem::new(Code::Draining, "This instance is stopping.").retry_after(2));
                }
            }
        }
    }

    /// Reads until there is a batch: enough bytes, or a whole line that has waited long enough.
    async fn fill(&mut self) -> Option<Stop> {
        let mut flush_at = None;
        loop {
            if self.lines.len() >= BATCH_BYTES && (self.lines.any_whole() || self.lines.len() > LINE_BYTES_MAX) {
                return None;
            }
            if flush_at.is_none() && self.lines.any_whole() {
                flush_at = Some(Instant::now() + FLUSH_AFTER);
            }
            let flush = async {
                match flush_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                piece = piece(&mut self.body, IDLE_MAX) => match piece {
                    Ok(bytes) => self.lines.push(&bytes),
                    Err(stop) => return Some(stop),
                },
                () = flush => return None,
                () = self.state.shutdown.token.cancelled() => return Some(Stop::Draining),
            }
        }
    }

    /// Writes whole lines, in pieces that one request may have.
    async fn write(&mut self, lines: &Bytes) -> Result<Value, Problem> {
        let name = &self.grant.resource().name;
        self.grant = self.state.catalog.authorize::<Produce>(self.grant.actor(), name)?;
        let mut accepted = 0;
        let mut rejected = 0;
        let mut errors = Vec::new();
        let mut cursor = None;
        for piece in pieces(lines, self.intake.from_headers.records_max()) {
            let mut ingested = ingest::read(BodyKind::JsonLines, self.intake.shape, &piece)?;
            self.intake.from_headers.complete(&mut ingested, piece.len())?;
            if let Some(problem) = ingested.refusal().filter(|_| !self.intake.lenient) {
                return Err(problem);
            }
            rejected += ingested.refused.len();
            errors.extend(ingested.errors());
            if ingested.records.is_empty() {
                continue;
            }
            let options = ProduceOptions { partition: self.intake.partition, ..ProduceOptions::default() };
            let produced = self.state.gateway.produce_each(&self.grant, ingested.records, options).await?;
            accepted += produced.records();
            self.accepted += produced.records();
            cursor = Some(self.state.gateway.after(self.grant.resource(), &produced)?.cursor().to_string());
        }
        self.rejected += rejected;
        let mut receipt = json!({"accepted": accepted, "cursor": cursor});
        if rejected > 0 {
            errors.truncate(100);
            receipt["rejected"] = json!(rejected);
            receipt["errors"] = json!(errors);
        }
        Ok(receipt)
    }

    fn done(&mut self) -> Value {
        self.over = true;
        json!({"done": true, "accepted": self.accepted, "rejected": self.rejected})
    }

    fn fail(&mut self, problem: &Problem) -> Value {
        self.over = true;
        json!({"done": false, "accepted": self.accepted, "rejected": self.rejected, "error": problem.to_json()})
    }
}

/// The next piece of a body, if it comes within `patience`.
async fn piece(body: &mut BodyDataStream, patience: Duration) -> Result<Bytes, Stop> {
    match tokio::time::timeout(patience, body.next()).await {
        Ok(Some(Ok(bytes))) => Ok(bytes),
        Ok(Some(Err(_))) => Err(Stop::Broken),
        Ok(None) => Err(Stop::End),
        Err(_) => Err(Stop::Idle),
    }
}

fn idle() -> Problem {
    let minutes = IDLE_MAX.as_secs() / 60;
    Problem::new(
        Code::RequestTimeout,
        format!("Nothing was sent for {minutes} minutes; what has a receipt is written."),
    )
}

fn line_too_long() -> Problem {
    Problem::new(Code::RecordTooLarge, "A line is too long to hold a record.").with("limit", RECORD_BYTES_MAX)
}

/// Cuts lines into pieces of at most so many lines.
fn pieces(lines: &Bytes, most: usize) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for (number, end) in memchr::memchr_iter(b'\n', lines).enumerate() {
        if (number + 1) % most == 0 {
            pieces.push(lines.slice(start..=end));
            start = end + 1;
        }
    }
    pieces.push(lines.slice(start..));
    pieces.retain(|piece| !piece.iter().all(u8::is_ascii_whitespace));
    pieces
}

#[cfg(test)]
mod tests {
    use super::super::ingest::RECORDS_MAX;
    use super::*;

    #[test]
    fn lines_that_arrive_in_pieces_are_taken_when_they_are_whole() {
        let mut lines = Lines::default();
        lines.push(b"on");
        assert!(!lines.any_whole());
        lines.push(b"e\ntwo\nth");
        lines.push(b"re");
        assert_eq!((lines.any_whole(), lines.len()), (true, 12));
        assert_eq!(lines.take_whole(), "one\ntwo\n");
        assert!(!lines.any_whole());
        lines.push(b"e\n");
        assert_eq!(lines.take_whole(), "three\n");
        lines.push(b"four\nfi");
        assert_eq!(lines.take_all(), "four\nfi");
        assert_eq!((lines.any_whole(), lines.len()), (false, 0));
    }

    #[tokio::test]
    async fn a_body_that_sends_nothing_is_not_waited_for_without_an_end() {
        let first = stream::iter([Ok::<_, io::Error>("1\n")]);
        let mut body = Body::from_stream(first.chain(stream::pending())).into_data_stream();
        assert_eq!(piece(&mut body, Duration::from_secs(60)).await, Ok(Bytes::from("1\n")));
        assert_eq!(piece(&mut body, Duration::from_millis(10)).await, Err(Stop::Idle));
    }

    #[test]
    fn a_batch_of_many_lines_is_cut_into_pieces_that_can_be_written() {
        let lines = Bytes::from("1\n".repeat(RECORDS_MAX * 2 + 3));
        let pieces = pieces(&lines, RECORDS_MAX);
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces.concat(), lines);
    }
}
