//! The error catalogue, and RFC 9457 problem details made from it.
//!
//! Every refusal that a client can see has one [`Code`]. The code decides the status, whether trying again can help, and
//! whether anything was written; the page `/problems/{code}` explains it.

use axum::http::StatusCode;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};

/// What a client may assume about the effect of a refused request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Applied {
    /// Nothing was changed or written.
    None,
    /// It may or may not have been; ask before repeating.
    Unknown,
    /// A part was; the body says which.
    Partial,
}

macro_rules! codes {
    ($($variant:ident $text:literal $status:literal $retryable:literal $applied:ident $title:literal $explain:literal;)*) => {
        /// Why a request was refused. In alphabetical order.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// Every code, in alphabetical order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as clients see it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The HTTP status it is answered with.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// Whether the same request can succeed later.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Self::$variant => $retryable,)* }
            }

            /// Whether anything was changed.
            #[must_use]
            pub const fn applied(self) -> Applied {
                match self { $(Self::$variant => Applied::$applied,)* }
            }

            /// One line that names the problem.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// What it means and what to do, for `/problems/{code}`.
            #[must_use]
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $explain,)* }
            }
        }
    };
}

codes! {
    AppSuspended "app-suspended" 403 false None "The application is suspended"
        "An owner or an administrator has switched the application off. Its tokens are refused and its streams have ended until it is resumed on its page.";
    Conflict "conflict" 409 false None "The request conflicts with the present state"
        "The detail says with what. Read the resource again and repeat the change on what you find.";
    CsrfRejected "csrf-rejected" 403 false None "The request came from another site"
        "A browser said that another site caused this request, so it was refused. Repeat the action on Weir's own page; scripts use a token instead of the cookie.";
    CursorAhead "cursor-ahead" 416 false None "The position lies beyond the end of the topic"
        "No record has this offset yet. The body's `latest` is the end; continue from there.";
    CursorExpired "cursor-expired" 416 false None "The position lies before the first kept record"
        "Retention has removed the records at this position. The body's `earliest` is the first one kept; continue from there, or read with `on_gap=skip`.";
    Draining "draining" 503 true None "This instance is shutting down"
        "The instance takes no new work while it stops. Try again after the `Retry-After` seconds.";
    EngineBusy "engine-busy" 503 true None "Too many records wait to be written"
        "The log cannot keep up with what is being sent. Nothing was written; try again after the `Retry-After` seconds.";
    Forbidden "forbidden" 403 false None "You may not do this"
        "The body's `required` says which right is missing, and `request_access` where to get it.";
    IdempotencyInProgress "idempotency-in-progress" 409 true None "The same request is still running"
        "A request with this Idempotency-Key has not finished. Try again shortly to get its answer.";
    IdempotencyKeyReused "idempotency-key-reused" 422 false None "The Idempotency-Key was used for another request"
        "A key names one request. Use a new key for a new body.";
    IdempotencyReplayRefused "idempotency-replay-refused" 409 false None "The answer held a secret and is not repeated"
        "The first request with this Idempotency-Key succeeded and its answer contained a secret, which is shown once. The body's `id` names what was created; rotate or delete it.";
    IncompatibleChange "incompatible-change" 422 false None "The change would break what exists"
        "For example, partitions can be added but not removed. The detail says what stands in the way.";
    InsufficientScope "insufficient-scope" 403 false None "The token does not cover this"
        "The token lacks a scope, or its topic patterns leave this topic out. The body's `required` names what is missing; make a token that has it.";
    Internal "internal" 500 true Unknown "Something failed inside Weir"
        "The cause is in the server's log under the request id. Whether the request had an effect is unknown; read before you repeat it.";
    InvalidCursor "invalid-cursor" 400 false None "The position cannot be understood"
        "A position is `earliest`, `latest`, `-100` (records), `-15m` (time), a date such as 2026-11-22T08:00:00Z, or a cursor that Weir gave out.";
    InvalidHeader "invalid-header" 400 false None "A request header cannot be understood"
        "The detail names the header and what it takes.";
    MalformedJson "malformed-json" 400 false None "The body is not valid JSON"
        "The detail says where. Nothing was written. For NDJSON every line must be one JSON text.";
    MalformedPath "malformed-path" 400 false None "The path cannot be understood"
        "The path of the request must be percent-encoded UTF-8.";
    MalformedQuery "malformed-query" 400 false None "A query parameter cannot be understood"
        "The detail names the parameter and what it takes.";
    MethodNotAllowed "method-not-allowed" 405 false None "The path does not know this method"
        "The `Allow` header lists the methods it knows.";
    NotAcceptable "not-acceptable" 406 false None "No representation fits the Accept header"
        "The body's `available` lists what can be had.";
    NotEmpty "not-empty" 409 false None "Something still depends on it"
        "The body's `blocking` lists what must be removed or moved first.";
    NotFound "not-found" 404 false None "There is no such thing, or you may not know of it"
        "Check the name. Things that are hidden from you look exactly like things that do not exist.";
    OffsetMismatch "offset-mismatch" 412 false None "The partition has moved on"
        "`if_offset` did not hold, so nothing was written. The body's `next_offset` is the partition's next offset.";
    PayloadTooLarge "payload-too-large" 413 false None "The body is too large"
        "The body's `limit` says how many bytes, or records, one request takes. Split it.";
    PreconditionFailed "precondition-failed" 412 false None "Somebody changed it in the meantime"
        "`If-Match` or `If-None-Match` did not hold. Read the resource, decide again, and send its new ETag.";
    PreconditionRequired "precondition-required" 428 false None "Say which version you mean to delete"
        "The topic holds records. Send `If-Match` with its ETag to show that you know what is deleted.";
    QuotaExceeded "quota-exceeded" 429 true None "Too many requests"
        "Slow down and try again after the `Retry-After` seconds.";
    RecordTooLarge "record-too-large" 413 false None "A record is too large"
        "The body's `limit` says how many bytes a record may have. Store large objects elsewhere and send a reference.";
    RequestTimeout "request-timeout" 408 true Unknown "The request did not arrive in time"
        "The body was not complete within the time allowed.";
    StorageReadonly "storage-readonly" 503 true None "The storage is full"
        "Reading goes on; nothing was written. The operator must free or add space.";
    TokenExpired "token-expired" 401 false None "The token has expired"
        "Make a new token, or rotate before the end the next time.";
    TokenRevoked "token-revoked" 401 false None "The token was revoked"
        "Somebody with the right to do so has revoked it. Make a new one.";
    TooManyPartitions "too-many-partitions" 422 false None "The request names too many partitions"
        "One stream covers at most 256 partitions. Name some with `partition=`.";
    TooManyStreams "too-many-streams" 429 true None "Too many open streams"
        "Close a stream before you open another.";
    TopicDeleted "topic-deleted" 410 false None "The topic was deleted"
        "Its owner can restore it until the date in the body; then it is gone for good.";
    TopicRecreated "topic-recreated" 416 false None "The topic was deleted and created again"
        "The position belongs to the earlier topic of this name. Begin anew with `from=earliest`.";
    Unauthenticated "unauthenticated" 401 false None "Who are you?"
        "Send `Authorization: Bearer TOKEN`. You make tokens on your account page or on the page of an application.";
    Unavailable "unavailable" 503 true None "A part of Weir is not reachable"
        "Usually the catalog's database. Records can still be written and read; try again shortly.";
    UnknownField "unknown-field" 422 false None "The body has a field that Weir does not know"
        "The detail names it and what was probably meant. Nothing was changed.";
    UnsupportedMediaType "unsupported-media-type" 415 false None "The content type is not taken here"
        "The body's `accepted` lists what is.";
    ValidationFailed "validation-failed" 422 false None "The request is not valid"
        "The body's `errors` name each part that is wrong. Nothing was written.";
}

/// One thing that is wrong with one part of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// Zero-based number of the record or line, where the body has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<usize>,
    /// JSON pointer into the body (or the item), or the name of a parameter.
    pub pointer: String,
    /// What is wrong, in a sentence.
    pub detail: String,
}

/// A refusal: RFC 9457 problem details with Weir's members.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Which one.
    pub code: Code,
    /// What happened this time, in a sentence.
    pub detail: String,
    /// What to do, where possible a command that can be run.
    pub hint: Option<String>,
    /// Parts that are wrong, at most 100.
    pub errors: Vec<FieldError>,
    /// Further members: `earliest`, `limit`, `accepted`, …
    pub members: Map<String, Value>,
    /// `Retry-After`, `Allow`, `WWW-Authenticate`, …
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Overrides what the code says.
    pub applied: Option<Applied>,
}

impl Problem {
    /// A problem with a sentence about this occurrence.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            hint: None,
            errors: Vec::new(),
            members: Map::new(),
            headers: Vec::new(),
            applied: None,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a member to the body.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds `Retry-After`.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Adds one wrong part; beyond 100 they are dropped.
    #[must_use]
    pub fn error(mut self, error: FieldError) -> Self {
        if self.errors.len() < 100 {
            self.errors.push(error);
        }
        self
    }

    /// The body, in the member order of the documentation.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut body = Map::new();
        body.insert("type".to_owned(), format!("/problems/{}", self.code.as_str()).into());
        body.insert("title".to_owned(), self.code.title().into());
        body.insert("status".to_owned(), self.code.status().into());
        body.insert("code".to_owned(), self.code.as_str().into());
        body.insert("detail".to_owned(), self.detail.clone().into());
        body.insert("retryable".to_owned(), self.code.retryable().into());
        let applied = self.applied.unwrap_or(self.code.applied());
        body.insert("applied".to_owned(), serde_json::to_value(applied).unwrap_or(Value::Null));
        if !self.errors.is_empty() {
            body.insert("errors".to_owned(), serde_json::to_value(&self.errors).unwrap_or(Value::Null));
        }
        for (name, value) in &self.members {
            body.insert(name.clone(), value.clone());
        }
        if let Some(hint) = &self.hint {
            body.insert("hint".to_owned(), hint.clone().into());
        }
        Value::Object(body)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, self.to_json().to_string()).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        for (name, value) in &self.headers {
            response.headers_mut().append(name, value.clone());
        }
        // `web::security` makes a page of it where a person asked, and adds the request id.
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn codes_are_in_alphabetical_order_and_unique() {
        assert!(Code::ALL.is_sorted_by(|a, b| a.as_str() < b.as_str()));
    }

    #[test]
    fn a_code_that_can_be_retried_is_not_the_clients_fault() {
        for code in Code::ALL {
            if code.status() >= 500 {
                assert!(code.retryable(), "{}", code.as_str());
            }
        }
    }
}
