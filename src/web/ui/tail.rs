//! The live tail: the rows of a topic's events as HTML, over server-sent events.
//!
//! One message is one or several rows, newest first; its `id` is the cursor after them, so a dropped connection, a pause and
//! a resume go on exactly where they stopped. What piled up meanwhile is given in whole up to [`CATCH_UP_EVENTS_MAX`]; only
//! what flows faster than a person can read is sampled, and that is announced. Every end is told in words. The answer is
//! always 200, because a browser never opens a stream again that was refused otherwise.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::records::event::{Event, LIST_VALUE_BYTES_MAX};
use super::records::fragments::{answer, ended, named, refused, unnamed};
use super::records::{reading, units};
use crate::catalog::access::{Consume, Grant};
use crate::gateway::{
    self, EndReason, Gap, OnGap, Page, Position, ReadRequest, Records, SessionUse, SubscribeError, SubscribeRequest,
    Subscription,
};
use crate::names::TopicName;
use crate::web::auth::encode_query;
use crate::web::extract::{Path, Query};
use crate::web::page::{Frame, PageError};
use crate::web::state::WebState;
use crate::web::visit::Visit;

/// Events a second that a person is shown, if the page does not say otherwise.
const RATE_DEFAULT: u32 = 20;
/// Most events a second.
const RATE_MAX: u32 = 200;
/// Events that piled up and are given in whole; the page keeps as many rows.
const CATCH_UP_EVENTS_MAX: usize = 500;
/// Silence after which a comment is sent, so that proxies keep the connection.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a sampling notice stays after the flow has calmed down.
const CALM: Duration = Duration::from_secs(3);

/// The route of the stream.
pub fn router() -> Router<WebState> {
    Router::new().route("/ui/topics/{topic}/tail", get(tail))
}

/// What the page asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Args {
    from: String,
    max_rate: Option<u32>,
}

async fn tail(
    State(state): State<WebState>,
    visit: Result<Visit, Response>,
    Path(name): Path<TopicName>,
    Query(args): Query<Args>,
    headers: HeaderMap,
) -> Response {
    let Ok(visit) = visit else { return refused(EndReason::SessionExpired) };
    let grant = match visit.authorize::<Consume>(&state, &name) {
        Ok(grant) => grant,
        Err(denied) => return refused(EndReason::from(&denied)),
    };
    let from = headers.get("last-event-id").and_then(|id| id.to_str().ok()).unwrap_or(&args.from);
    let rate = args.max_rate.unwrap_or(RATE_DEFAULT).clamp(1, RATE_MAX);
    match open(&state, visit.frame, grant, from, rate, visit.session_use).await {
        Ok(tail) => answer(Body::from_stream(stream::unfold(tail, Tail::step))),
        Err(end) => end,
    }
}

async fn open(
    state: &WebState,
    frame: Frame,
    grant: Grant<Consume>,
    from: &str,
    rate: u32,
    session: SessionUse,
) -> Result<Tail, Response> {
    let position = if from.is_empty() { Ok(Position::Latest) } else { from.parse() };
    let Ok(position) = position else { return Err(refused(EndReason::Refused)) };
    let name = grant.resource().name.clone();
    // What piled up, in whole; then the subscription from there on.
    let bytes_max = CATCH_UP_EVENTS_MAX * LIST_VALUE_BYTES_MAX;
    let request = ReadRequest { on_gap: OnGap::Skip, bytes_max, ..ReadRequest::new(position, CATCH_UP_EVENTS_MAX) };
    let page = state.gateway.read(std::slice::from_ref(&grant), request).await;
    let page = page.map_err(|error| {
        tracing::debug!(%error, "a live tail could not begin");
        refused(EndReason::Refused)
    })?;
    if state.catalog.record_view(&grant, from, page.records.len()).await.is_err() {
        return Err(answer(Body::from(unavailable())));
    }
    let mut first = format!("retry: 1000\nevent: weir.open\ndata: {}\n\n", json!({"topic": name}));
    first.push_str(&caught_up(&frame, &name, &page));
    let cursor = if page.behind() > 0 { page.end.cursor() } else { page.next.cursor() };
    let request = SubscribeRequest {
        rate_max: Some(rate),
        session: Some(session),
        ..SubscribeRequest::new(grant, Position::Cursor(cursor))
    };
    let subscription = state.gateway.subscribe(request, &state.shutdown.token).await.map_err(|error| match error {
        SubscribeError::TooManyStreams(_) => refused(EndReason::TooManyStreams),
        SubscribeError::Locate(_) => refused(EndReason::TopicRecreated),
    })?;
    Ok(Tail { state: state.clone(), frame, name, subscription, first: Some(first), sampled: None, done: false })
}

/// The rows of what piled up, and a word about what did not fit.
fn caught_up(frame: &Frame, name: &TopicName, page: &Page) -> String {
    let gaps: Vec<_> = page.gaps.iter().map(gap_row).collect();
    let events: Vec<_> = page.records.iter().map(|record| Event::of_read(record, LIST_VALUE_BYTES_MAX)).collect();
    let mut html = String::new();
    if page.behind() > 0 {
        let link = format!("/topics/{name}/events?from={}", encode_query(&page.next.cursor().to_string()));
        let left = units::count(i128::from(page.behind()));
        html.push_str(&format!(
            "<p class=\"event-note\">{left} further events came in the meantime and are not shown here. <a href=\"{link}\">Read them</a></p>"
        ));
    }
    html.push_str(&rows(frame, name, events.iter()).unwrap_or_default());
    html.push_str(&gaps.concat());
    let cursor = if page.behind() > 0 { page.end.cursor() } else { page.next.cursor() };
    // An empty message would not be swapped, but its id is where a dropped connection goes on.
    if html.is_empty() {
        named("weir.position", Some(&cursor.to_string()), "{}")
    } else {
        unnamed(&cursor.to_string(), &html)
    }
}

/// Rows, newest first.
fn rows<'a>(
    frame: &Frame,
    name: &TopicName,
    events: impl DoubleEndedIterator<Item = &'a Event>,
) -> Result<String, PageError> {
    let mut html = String::new();
    for event in events.rev() {
        html.push_str(&reading::row(frame, name, event)?);
    }
    Ok(html)
}

fn gap_row(gap: &Gap) -> String {
    format!(
        "<p class=\"event-note\">Offsets {} to {} of partition {} are gone: retention removed them.</p>",
        gap.missing_from,
        gap.resumed_at.0 - 1,
        gap.partition
    )
}

/// An open stream.
struct Tail {
    state: WebState,
    frame: Frame,
    name: TopicName,
    subscription: Subscription,
    first: Option<String>,
    /// When the flow was last faster than what is shown.
    sampled: Option<Instant>,
    done: bool,
}

impl Tail {
    async fn step(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if let Some(first) = self.first.take() {
            return Some((Ok(Bytes::from(first)), self));
        }
        if self.done {
            return None;
        }
        let text = self.next().await;
        Some((Ok(Bytes::from(text)), self))
    }

    async fn next(&mut self) -> String {
        let pause = if self.sampled.is_some() { CALM } else { HEARTBEAT };
        let Ok(event) = tokio::time::timeout(pause, self.subscription.next()).await else {
            return self.silence();
        };
        self.frame.now = self.state.clock.now_datetime();
        match event {
            gateway::Event::Open | gateway::Event::Topics(_) => ": open\n\n".to_owned(),
            gateway::Event::Records(records) => self.records(&records),
            gateway::Event::Gap(gap) => unnamed(&self.cursor(), &gap_row(&gap)),
            gateway::Event::Checkpoint => named("weir.position", Some(&self.cursor()), "{}"),
            gateway::Event::Sampled { shown, skipped } => self.sampling(shown, skipped),
            gateway::Event::End(end) => {
                self.done = true;
                ended(end.reason, Some(&self.cursor()))
            }
        }
    }

    fn records(&mut self, records: &Records) -> String {
        let event = |(_, record)| Event::of_view(records.partition, &record, LIST_VALUE_BYTES_MAX);
        let events: Vec<_> = records.iter().map(event).collect();
        let html = rows(&self.frame, &self.name, events.iter()).unwrap_or_default();
        let calm = self.calmed();
        format!("{}{calm}", unnamed(&self.cursor(), &html))
    }

    fn sampling(&mut self, shown: u32, skipped: u64) -> String {
        self.sampled = Some(Instant::now());
        let all = units::count(i128::from(skipped) + i128::from(shown));
        rate(&format!("Live: {all} events a second, showing {shown} of them"))
    }

    fn silence(&mut self) -> String {
        let calm = self.calmed();
        if calm.is_empty() { ": hb\n\n".to_owned() } else { calm }
    }

    /// Takes the sampling notice back once the flow can be followed again.
    fn calmed(&mut self) -> String {
        if self.sampled.is_some_and(|at| at.elapsed() >= CALM) {
            self.sampled = None;
            return rate("Live");
        }
        String::new()
    }

    fn cursor(&self) -> String {
        self.subscription.places().cursor().to_string()
    }
}

fn rate(text: &str) -> String {
    named("weir.rate", None, &json!({"text": text}).to_string())
}

fn unavailable() -> String {
    let text =
        "The catalog cannot be reached, and looking at events is not allowed without an audit entry. Trying again.";
    named("weir.end", None, &json!({"reason": "unavailable", "text": text}).to_string())
}
