//! Bodies, queries, forms, path parameters and conditions as typed values; every refusal is a [`Problem`].

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequest, RawPathParams, Request};
use axum::http::header::{self, HeaderMap, HeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::params::{self, ParamError};
use super::problem::{Code, FieldError, Problem};

/// Largest body of a control-plane request, in bytes.
pub const CONTROL_BODY_BYTES_MAX: usize = 256 * 1024;
/// Longest time a control-plane body may take to arrive.
pub const CONTROL_BODY_TIME_MAX: Duration = Duration::from_secs(20);
/// Deepest nesting of a JSON body.
pub const JSON_DEPTH_MAX: usize = 32;

/// A JSON body, strictly read; also a JSON answer.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

/// The query string.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

/// A form, `application/x-www-form-urlencoded`.
#[derive(Debug, Clone, Copy)]
pub struct Form<T>(pub T);

/// The path's parameters: one value, or a tuple in the path's order.
#[derive(Debug, Clone, Copy)]
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        check_content_type(request.headers())?;
        let body = read_body(request.into_body(), CONTROL_BODY_BYTES_MAX, CONTROL_BODY_TIME_MAX).await?;
        parse_json(&body).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> OptionalFromRequest<S> for Json<T> {
    type Rejection = Problem;

    /// `None` for an empty body.
    async fn from_request(request: Request, _: &S) -> Result<Option<Self>, Problem> {
        let headers = request.headers().clone();
        let body = read_body(request.into_body(), CONTROL_BODY_BYTES_MAX, CONTROL_BODY_TIME_MAX).await?;
        if body.is_empty() {
            return Ok(None);
        }
        check_content_type(&headers)?;
        parse_json(&body).map(|value| Some(Self(value)))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response(),
            Err(error) => super::error::internal(&error).into_response(),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let text = parts.uri.query().unwrap_or_default();
        params::parse_urlencoded(text).map(Self).map_err(|e| bad_parameters(Code::MalformedQuery, &e))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Form<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let kind = content_type(request.headers());
        if !matches!(kind.as_deref(), None | Some("application/x-www-form-urlencoded")) {
            return Err(Problem::new(Code::UnsupportedMediaType, "A form is expected here.")
                .with("accepted", vec!["application/x-www-form-urlencoded"]));
        }
        let body = read_body(request.into_body(), CONTROL_BODY_BYTES_MAX, CONTROL_BODY_TIME_MAX).await?;
        let text = std::str::from_utf8(&body)
            .map_err(|e| Problem::new(Code::ValidationFailed, format!("The form is not valid UTF-8: {e}.")))?;
        params::parse_urlencoded(text).map(Self).map_err(|e| bad_parameters(Code::ValidationFailed, &e))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let raw = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::new(Code::MalformedPath, "The path is not valid percent-encoded UTF-8."))?;
        let pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> =
            raw.iter().map(|(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value))).collect();
        params::from_path(&pairs).map(Self).map_err(|e| bad_path(&parts.method, &e))
    }
}

/// A name that breaks the grammar: asking for it finds nothing, making it is not valid.
fn bad_path(method: &Method, error: &ParamError) -> Problem {
    let name = match error {
        ParamError::Value { name, .. } => name.clone(),
        ParamError::Encoding(_) | ParamError::TooMany => String::new(),
    };
    if matches!(*method, Method::GET | Method::HEAD | Method::DELETE) {
        Problem::new(Code::NotFound, format!("Nothing has such a name: {error}.")).with("kind", name)
    } else {
        Problem::new(Code::ValidationFailed, "The path holds a name that is not legal.").error(FieldError {
            item: None,
            pointer: name,
            detail: error.to_string(),
        })
    }
}

fn bad_parameters(code: Code, error: &ParamError) -> Problem {
    let ParamError::Value { name, message } = error else {
        return Problem::new(code, format!("{}.", capitalised(&error.to_string())));
    };
    if let Some(unknown) = UnknownField::parse(message) {
        return Problem::new(code, format!("There is no parameter `{}`.{}", unknown.field, unknown.suggestion()))
            .with("known", unknown.known.clone());
    }
    let problem = Problem::new(code, format!("{}.", capitalised(message)));
    if code == Code::ValidationFailed {
        let detail = message.clone();
        return problem.error(FieldError { item: None, pointer: name.clone(), detail });
    }
    problem
}

fn capitalised(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// The media type without its parameters, lower-cased.
#[must_use]
pub fn content_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let kind = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    (!kind.is_empty()).then_some(kind)
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(kind) = content_type(headers) else { return Ok(()) };
    if kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json")) {
        return Ok(());
    }
    let problem = Problem::new(Code::UnsupportedMediaType, format!("`{}` is not taken here.", printable(&kind)))
        .with("accepted", vec!["application/json"]);
    Err(problem.hint("Say what you send: curl -H 'Content-Type: application/json' -d '{…}'"))
}

/// Reads a whole body within a size and a time.
pub async fn read_body(body: Body, bytes_max: usize, time_max: Duration) -> Result<Bytes, Problem> {
    let collected = tokio::time::timeout(time_max, Limited::new(body, bytes_max).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if is_too_large(error.as_ref()) => {
            let detail = format!("A body has at most {bytes_max} bytes here.");
            Err(Problem::new(Code::PayloadTooLarge, detail).with("limit", bytes_max))
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "a body could not be read");
            Err(Problem::new(Code::MalformedJson, "The body broke off or could not be decompressed."))
        }
        Err(_) => {
            Err(Problem::new(Code::RequestTimeout, format!("The body took longer than {} s.", time_max.as_secs())))
        }
    }
}

/// Whether a body was refused for its length, however deep the error is wrapped.
fn is_too_large(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |e| e.source()).any(|e| e.is::<LengthLimitError>())
}

/// Reads one JSON text into `T`; what is wrong is said with a place in the text or a pointer into the value.
pub fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::new(Code::MalformedJson, "The body is empty; a JSON object is expected."));
    }
    let text = std::str::from_utf8(body).map_err(|e| {
        Problem::new(Code::MalformedJson, format!("The body is not valid UTF-8 at byte {}.", e.valid_up_to()))
    })?;
    if nests_deeper_than(JSON_DEPTH_MAX, text) {
        let detail = format!("The body is nested deeper than {JSON_DEPTH_MAX} levels.");
        return Err(Problem::new(Code::MalformedJson, detail));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|e| bad_json(&e))?;
    json.end().map_err(|e| {
        let detail = format!("Something follows the JSON text in line {}, column {}.", e.line(), e.column());
        Problem::new(Code::MalformedJson, detail)
    })?;
    Ok(value)
}

/// Whether JSON text has more levels of arrays and objects than that. Of other text it says something, at no risk.
#[must_use]
pub fn nests_deeper_than(most: usize, text: &str) -> bool {
    if text.len() <= most {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > most {
                    return true;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

fn bad_json(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let inner = error.inner();
    let full = inner.to_string();
    let message = full.rsplit_once(" at line ").map_or(full.as_str(), |(message, _)| message);
    if !inner.is_data() {
        let detail =
            format!("The body is not valid JSON: {message} in line {}, column {}.", inner.line(), inner.column());
        return Problem::new(Code::MalformedJson, detail);
    }
    let pointer = pointer(error.path());
    if let Some(unknown) = UnknownField::parse(message) {
        let parent = pointer.strip_suffix(&format!("/{}", escape_pointer(&unknown.field))).unwrap_or(&pointer);
        let pointer = format!("{parent}/{}", escape_pointer(&unknown.field));
        let detail = format!("There is no field `{}`.{}", unknown.field, unknown.suggestion());
        let error = FieldError { item: None, pointer, detail: detail.clone() };
        return Problem::new(Code::UnknownField, detail).with("known", unknown.known.clone()).error(error);
    }
    let place = if pointer.is_empty() { "the body" } else { &pointer };
    let detail = format!("Not valid at {place}: {message}.");
    Problem::new(Code::ValidationFailed, detail).error(FieldError { item: None, pointer, detail: message.to_owned() })
}

/// A path as JSON pointer (RFC 6901).
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => pointer.push_str(&format!("/{}", escape_pointer(key))),
            Segment::Enum { variant } => pointer.push_str(&format!("/{}", escape_pointer(variant))),
            Segment::Unknown => {}
        }
    }
    pointer
}

fn escape_pointer(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// What serde says about a field nobody asked for: ``unknown field `a`, expected one of `b`, `c` ``.
struct UnknownField {
    field: String,
    known: Vec<String>,
}

impl UnknownField {
    fn parse(message: &str) -> Option<Self> {
        let rest = message.strip_prefix("unknown field `")?;
        // The field's own text may hold anything, so the list is looked for from the end.
        let (field, expected) = match rest.rfind("`, expected ") {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest.split_once("`, there are no fields")?.0, ""),
        };
        let known = expected.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        Some(Self { field: printable(field), known })
    }

    fn suggestion(&self) -> String {
        match nearest(&self.field, self.known.iter().map(String::as_str)) {
            Some(name) => format!(" Did you mean `{name}`?"),
            None if self.known.is_empty() => " Nothing is taken here.".to_owned(),
            None => format!(" Known are {}.", self.known.join(", ")),
        }
    }
}

/// The known name that a mistyped one probably meant.
#[must_use]
pub fn nearest<'k>(typed: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let similar = |name: &str| strsim::jaro_winkler(typed, name);
    let best = known.max_by(|a, b| similar(a).total_cmp(&similar(b)))?;
    (similar(best) > 0.78).then_some(best)
}

/// Foreign text, cut and without control characters, fit to be quoted in a message.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}

/// `If-Match` and `If-None-Match`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

/// A list of entity tags, or `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    Any,
    Listed(Vec<Tag>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Tag {
    weak: bool,
    text: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Conditions {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self {
            if_match: tags(&parts.headers, &header::IF_MATCH)?,
            if_none_match: tags(&parts.headers, &header::IF_NONE_MATCH)?,
        })
    }
}

impl Conditions {
    /// Whether the client already has this revision: answer 304.
    #[must_use]
    pub fn not_modified(&self, revision: i64) -> bool {
        let current = tag_of(revision);
        match &self.if_none_match {
            None => false,
            Some(Tags::Any) => true,
            Some(Tags::Listed(tags)) => tags.iter().any(|tag| tag.text == current),
        }
    }

    /// Whether the client sent `If-Match`.
    #[must_use]
    pub fn has_if_match(&self) -> bool {
        self.if_match.is_some()
    }

    /// `If-None-Match: *`: make it, do not change it.
    #[must_use]
    pub fn create_only(&self) -> bool {
        self.if_none_match == Some(Tags::Any)
    }

    /// Whether `If-Match: *` was sent: change it, do not make it.
    #[must_use]
    pub fn change_only(&self) -> bool {
        self.if_match == Some(Tags::Any)
    }

    /// The one revision that `If-Match` names. A weak or foreign tag names none that exists.
    pub fn revision(&self) -> Result<Option<i64>, Problem> {
        match &self.if_match {
            None | Some(Tags::Any) => Ok(None),
            Some(Tags::Listed(tags)) => match tags.as_slice() {
                [Tag { weak: false, text }] => Ok(Some(revision_of(text).unwrap_or(i64::MIN))),
                [_] => Ok(Some(i64::MIN)),
                _ => Err(bad_header(&header::IF_MATCH, "takes one entity tag such as \"r42\"")),
            },
        }
    }
}

/// The strong entity tag of a revision, as header value: `"r42"`.
#[must_use]
pub fn etag(revision: i64) -> HeaderValue {
    HeaderValue::try_from(format!("\"r{revision}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"r0\""))
}

fn tag_of(revision: i64) -> String {
    format!("r{revision}")
}

fn revision_of(tag: &str) -> Option<i64> {
    tag.strip_prefix('r')?.parse().ok()
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, Problem> {
    let mut list = Vec::new();
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| bad_header(name, "has characters that are not ASCII"))?.trim();
        if text == "*" {
            return Ok(Some(Tags::Any));
        }
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (weak, part) = part.strip_prefix("W/").map_or((false, part), |rest| (true, rest));
            // Shells eat quotation marks, so a bare tag is taken as well.
            let text = part.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(part).to_owned();
            if text.is_empty() || text.contains('"') {
                return Err(bad_header(name, "takes an entity tag such as \"r42\", or *"));
            }
            list.push(Tag { weak, text });
        }
    }
    Ok(headers.contains_key(name).then_some(Tags::Listed(list)))
}

/// A refusal that names the header and what it takes.
#[must_use]
pub fn bad_header(name: &HeaderName, takes: &str) -> Problem {
    Problem::new(Code::InvalidHeader, format!("The header `{name}` {takes}.")).with("header", name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the refusals are looked at")]
    struct Outer {
        partitions: Option<u32>,
        retention: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the refusals are looked at")]
    struct Inner {
        time: Option<String>,
    }

    fn refused(body: &str) -> Problem {
        parse_json::<Outer>(body.as_bytes()).unwrap_err()
    }

    #[test]
    fn an_unknown_field_is_named_with_what_was_meant() {
        let problem = refused(r#"{"partitons": 3}"#);
        assert_eq!(problem.code, Code::UnknownField);
        assert_eq!(problem.detail, "There is no field `partitons`. Did you mean `partitions`?");
        assert_eq!(problem.errors[0].pointer, "/partitons");
        let nested = refused(r#"{"retention": {"tme": "7d"}}"#);
        assert_eq!(nested.errors[0].pointer, "/retention/tme");
        assert!(nested.detail.ends_with("Did you mean `time`?"), "{}", nested.detail);
        assert!(refused(r#"{"`, expected `x": 3}"#).code == Code::UnknownField);
    }

    #[test]
    fn a_wrong_type_points_at_its_place() {
        let problem = refused(r#"{"retention": {"time": 7}}"#);
        assert_eq!(problem.code, Code::ValidationFailed);
        assert_eq!(problem.errors[0].pointer, "/retention/time");
        assert_eq!(problem.errors[0].detail, "invalid type: integer `7`, expected a string");
    }

    #[test]
    fn malformed_json_names_the_place() {
        assert!(
            refused("{\n \"partitions\": }").detail.contains("line 2, column 16"),
            "{}",
            refused("{\n \"partitions\": }").detail
        );
        assert_eq!(refused("  ").detail, "The body is empty; a JSON object is expected.");
        assert_eq!(refused("{} {}").detail, "Something follows the JSON text in line 1, column 4.");
        assert_eq!(
            parse_json::<Outer>(b"{\"a\":\"\xff\"}").unwrap_err().detail,
            "The body is not valid UTF-8 at byte 6."
        );
        assert_eq!(refused(&"[".repeat(100_000)).detail, "The body is nested deeper than 32 levels.");
        assert!(!nests_deeper_than(JSON_DEPTH_MAX, &format!("\"{}\"", "[\\\"{".repeat(1000))));
    }

    #[tokio::test]
    async fn a_body_that_does_not_end_is_given_up() {
        let endless = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let refused = read_body(endless, 100, Duration::from_millis(5)).await.unwrap_err();
        assert_eq!(refused.code, Code::RequestTimeout);
        let broken = futures_util::stream::iter([Ok(Bytes::from("{")), Err(std::io::Error::other("reset"))]);
        let refused = read_body(Body::from_stream(broken), 100, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(refused.code, Code::MalformedJson);
    }

    #[test]
    fn entity_tags_are_read_as_curl_users_write_them() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_MATCH, HeaderValue::from_static(text));
            tags(&headers, &header::IF_MATCH).map(|if_match| Conditions { if_match, if_none_match: None })
        };
        assert_eq!(read("\"r42\"").unwrap().revision().unwrap(), Some(42));
        assert_eq!(read("r42").unwrap().revision().unwrap(), Some(42));
        assert_eq!(read("W/\"r42\"").unwrap().revision().unwrap(), Some(i64::MIN));
        assert_eq!(read("\"other\"").unwrap().revision().unwrap(), Some(i64::MIN));
        assert!(read("*").unwrap().change_only());
        assert_eq!(read("\"a").unwrap_err().code, Code::InvalidHeader);
        assert_eq!(read("\"r1\", \"r2\"").unwrap().revision().unwrap_err().code, Code::InvalidHeader);
    }
}
