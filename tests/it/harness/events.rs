//! A client of Server-Sent Events that knows the format and nothing else.

use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use reqwest::RequestBuilder;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// Longest wait for one event; a test that meets it has failed.
const EVENT_WAIT: Duration = Duration::from_secs(20);

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    pub id: Option<String>,
    /// Empty for records; `weir.open`, `weir.end`, … otherwise.
    pub name: String,
    pub data: String,
}

impl Event {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }
}

/// An open stream.
pub struct Events {
    pub headers: HeaderMap,
    chunks: BoxStream<'static, Result<Vec<u8>, String>>,
    buffer: Vec<u8>,
}

impl Events {
    /// Opens it and insists on success.
    pub async fn open(request: RequestBuilder) -> Self {
        let response = request.header("accept", "text/event-stream").send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        if !status.is_success() {
            panic!("the stream was refused with {status}: {}", response.text().await.unwrap_or_default());
        }
        let chunks = response.bytes_stream().map_ok(|bytes| bytes.to_vec()).map_err(|e| e.to_string()).boxed();
        Self { headers, chunks, buffer: Vec::new() }
    }

    /// The next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Event> {
        let wait = tokio::time::timeout(EVENT_WAIT, self.next_unbounded());
        wait.await.unwrap_or_else(|_| panic!("no event within {EVENT_WAIT:?}"))
    }

    /// The next record, past control events.
    pub async fn record(&mut self) -> Event {
        loop {
            let event = self.next().await.expect("the stream ended before the next record");
            if event.name.is_empty() {
                return event;
            }
        }
    }

    /// The next event of that name, past all others.
    pub async fn named(&mut self, name: &str) -> Event {
        loop {
            let event = self.next().await.unwrap_or_else(|| panic!("the stream ended before {name}"));
            if event.name == name {
                return event;
            }
        }
    }

    async fn next_unbounded(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                if let Some(event) = parse(&String::from_utf8(block).unwrap()) {
                    return Some(event);
                }
            }
            match self.chunks.next().await? {
                Ok(chunk) => self.buffer.extend(chunk),
                Err(_) => return None,
            }
        }
    }
}

/// `None`: only comments or a retry time.
fn parse(block: &str) -> Option<Event> {
    let mut event = Event::default();
    let mut data = Vec::new();
    for line in block.lines() {
        match line.split_once(':').map(|(field, value)| (field, value.strip_prefix(' ').unwrap_or(value))) {
            Some(("id", value)) => event.id = Some(value.to_owned()),
            Some(("event", value)) => value.clone_into(&mut event.name),
            Some(("data", value)) => data.push(value),
            _ => {}
        }
    }
    event.data = data.join("\n");
    (!event.data.is_empty() || !event.name.is_empty()).then_some(event)
}
