//! Fragments of HTML over server-sent events: how they are framed, and how a stream tells a person that it has ended.
//!
//! An unnamed message is swapped into the page, a named one becomes an event of the page's script. The answer is always
//! 200, because a browser never opens a stream again that was refused otherwise.

use axum::body::Body;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::gateway::EndReason;

/// A stream of server-sent events that no proxy holds back.
pub fn answer(body: Body) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// A stream that consists of its end.
pub fn refused(reason: EndReason) -> Response {
    answer(Body::from(ended(reason, None)))
}

/// A message that is swapped into the page.
pub fn unnamed(id: &str, html: &str) -> String {
    message(None, Some(id), html)
}

/// A message that becomes an event of the page's script.
pub fn named(event: &str, id: Option<&str>, data: &str) -> String {
    message(Some(event), id, data)
}

fn message(event: Option<&str>, id: Option<&str>, data: &str) -> String {
    let mut out = String::with_capacity(data.len() + 64);
    if let Some(event) = event {
        out.push_str(&format!("event: {event}\n"));
    }
    // A carriage return would end the line, and with it the data, wherever a record holds one.
    for line in data.replace("\r\n", "\n").replace('\r', "&#13;").split('\n') {
        out.push_str(&format!("data: {line}\n"));
    }
    if let Some(id) = id {
        out.push_str(&format!("id: {id}\n"));
    }
    out.push('\n');
    out
}

/// The end of a stream: `weir.end` if the page should connect again, `weir.end-fatal` if that cannot help.
pub fn ended(reason: EndReason, cursor: Option<&str>) -> String {
    let event = if reason.reconnect() { "weir.end" } else { "weir.end-fatal" };
    named(event, cursor, &json!({"reason": reason.as_str(), "text": words(reason)}).to_string())
}

/// Why a stream ended, for a person.
const fn words(reason: EndReason) -> &'static str {
    match reason {
        EndReason::MaxLifetime => "Streams last an hour. Going on in a moment; no event is lost.",
        EndReason::Draining => "The server restarts. Going on in a moment; no event is lost.",
        EndReason::SlowConsumer => "The browser could not keep up. Going on in a moment; no event is lost.",
        EndReason::TooManyStreams => "You have too many live views open. Close one; this one tries again.",
        EndReason::SessionExpired => "You are signed out. Sign in again and open the live view anew.",
        EndReason::TokenExpired | EndReason::TokenRevoked => "Your sign-in has ended. Sign in again.",
        EndReason::AccessRevoked => "You may no longer read this topic. Its team can give you access again.",
        EndReason::AppSuspended => "The application through which you may read this topic is suspended.",
        EndReason::TopicDeleted => "The topic was deleted. Its team can restore it.",
        EndReason::TopicRecreated => "The topic was deleted and made again. Reload to see the new one.",
        EndReason::CursorExpired => "Retention removed events before they were shown. Reload to go on.",
        EndReason::Damaged => "Stored events cannot be read. The server's log says more.",
        EndReason::Refused => "This position cannot be followed. Reload to begin with the newest events.",
        EndReason::ReachedTo | EndReason::ReachedLimit => "That was all.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_cannot_break_out_of_its_message() {
        let message = unnamed("orders@7f3a/0:1", "a\nb\r\nc\rdata: x\r\n\r\nevent: weir.end\n");
        assert_eq!(
            message,
            "data: a\ndata: b\ndata: c&#13;data: x\ndata: \ndata: event: weir.end\ndata: \nid: orders@7f3a/0:1\n\n"
        );
    }

    #[test]
    fn an_end_that_coming_back_cannot_mend_is_told_apart() {
        assert!(ended(EndReason::Draining, Some("0:1")).starts_with("event: weir.end\n"));
        let fatal = ended(EndReason::AccessRevoked, None);
        assert!(fatal.starts_with("event: weir.end-fatal\n") && fatal.contains("no longer read"));
    }
}
