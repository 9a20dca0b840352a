//! What holds for every request before a handler sees it and for every answer before a client does: who really asks
//! (trusted proxies), a request id, security headers with a nonce, one shape for refusals, a bound on time.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tower_http::csrf::{CsrfLayer, ProtectionError};
use tracing::Instrument;

use super::error;
use super::page::{self, Frame};
use super::paths;
use super::problem::{Code, Problem};
use super::state::WebState;
pub use crate::config::AddressRange;

/// Longest time until the head of an answer. Long polls wait at most 60 s.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(90);
/// Most proxies believed in one `X-Forwarded-For`.
const PROXIES_MAX: usize = 16;

/// Names a request in logs, answers and the audit.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("weir-request-id");

/// The connection, put into the request's extensions by the accept loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub address: IpAddr,
    /// The connection itself is encrypted.
    pub tls: bool,
}

/// What is known about a request before anything else.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// `req_…`, as in `Weir-Request-Id`.
    pub id: Arc<str>,
    /// The client, seen through trusted proxies.
    pub address: Option<IpAddr>,
    /// The client's connection is encrypted, here or at a trusted proxy.
    pub https: bool,
    /// For the `nonce` attribute of inline scripts and styles.
    pub nonce: Arc<str>,
}

impl RequestContext {
    fn of(headers: &HeaderMap, peer: Option<Peer>, trusted: &[AddressRange]) -> Self {
        Self {
            id: format!("req_{}", uuid::Uuid::now_v7().simple()).into(),
            address: peer.map(|peer| client_address(headers, peer.address, trusted)),
            https: peer
                .is_some_and(|peer| peer.tls || (is_trusted(peer.address, trusted) && proxy_says_https(headers))),
            nonce: uuid::Uuid::new_v4().simple().to_string().into(),
        }
    }

    /// Plain HTTP over the machine's own loopback: nobody on the way can listen.
    #[must_use]
    pub fn loopback(&self) -> bool {
        self.address.is_some_and(|address| address.to_canonical().is_loopback())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RequestContext {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or_else(|| error::internal(&"a request without its context"))
    }
}

fn is_trusted(address: IpAddr, trusted: &[AddressRange]) -> bool {
    trusted.iter().any(|range| range.contains(address))
}

/// Walks `X-Forwarded-For` from the right: each hop is believed only while the one that reported it is trusted.
fn client_address(headers: &HeaderMap, peer: IpAddr, trusted: &[AddressRange]) -> IpAddr {
    let values: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok()).collect();
    let mut address = peer;
    for hop in values.iter().rev().flat_map(|value| value.rsplit(',')).take(PROXIES_MAX) {
        if !is_trusted(address, trusted) {
            break;
        }
        let Ok(reported) = hop.trim().parse() else { break };
        address = reported;
    }
    address
}

fn proxy_says_https(headers: &HeaderMap) -> bool {
    let last = headers.get_all("x-forwarded-proto").iter().next_back().and_then(|v| v.to_str().ok());
    last.and_then(|v| v.rsplit(',').next()).is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("https"))
}

/// Outermost: gives the request its context and the answer its headers, and renders refusals.
pub async fn frame(State(state): State<WebState>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let context = RequestContext::of(request.headers(), peer, &state.trusted_proxies);
    request.extensions_mut().insert(context.clone());
    let asked = Asked::of(&request, &state);
    let path = loggable(request.uri().path());
    let span = tracing::info_span!("request", id = %context.id, method = %request.method(), path);
    let began = Instant::now();
    let response = next.run(request).instrument(span.clone()).await;
    let mut response = span.in_scope(|| render_refusal(response, &asked, &context));
    set_headers(response.headers_mut(), &context);
    let _entered = span.enter();
    observe(&asked, response.status(), began.elapsed());
    response
}

/// The path as the log may have it: the secret of an invitation is a part of its link, and who reads logs must not join teams.
fn loggable(path: &str) -> &str {
    if path.starts_with("/invitations/") { "/invitations/…" } else { path }
}

/// What must be remembered of a request to answer it.
struct Asked {
    method: Method,
    path: String,
    route: Option<MatchedPath>,
    /// How a refusal looks, where a person asks.
    frame: Option<Frame>,
}

impl Asked {
    fn of(request: &Request, state: &WebState) -> Self {
        let path = request.uri().path();
        let page = || Frame::of(request.headers(), request.uri(), state.clock.now_datetime());
        let accept = request.headers().get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        Self {
            method: request.method().clone(),
            path: path.to_owned(),
            route: request.extensions().get().cloned(),
            frame: (!paths::is_api(path)).then(page).filter(|frame| frame.htmx || accept.contains("text/html")),
        }
    }
}

/// One line and one measurement a request; the route, not the path, labels the series, so that names do not multiply them.
fn observe(asked: &Asked, status: StatusCode, took: Duration) {
    let route = asked.route.as_ref().map_or("unmatched", MatchedPath::as_str).to_owned();
    let status = status.as_u16();
    tracing::info!(status, ms = took.as_secs_f64() * 1000.0, "answered");
    let labels = [("method", asked.method.to_string()), ("route", route), ("status", status.to_string())];
    metrics::histogram!("weir_http_request_seconds", &labels).record(took.as_secs_f64());
}

/// Gives every refusal its one shape: a page for people, problem details with the request id for machines.
fn render_refusal(response: Response, asked: &Asked, context: &RequestContext) -> Response {
    let (mut parts, body) = response.into_parts();
    let problem = match parts.extensions.remove::<Problem>() {
        Some(problem) => problem,
        None => match foreign_refusal(&parts.headers, parts.status, asked) {
            Some(problem) => problem,
            None => return Response::from_parts(parts, body),
        },
    };
    let allow = parts.headers.get(header::ALLOW).cloned();
    let cookies: Vec<HeaderValue> = parts.headers.get_all(header::SET_COOKIE).iter().cloned().collect();
    let problem = problem.with("request_id", &*context.id);
    let mut rendered = match &asked.frame {
        Some(frame) => {
            page::refused(&problem, &Frame { nonce: context.nonce.to_string(), ..frame.clone() }, &context.id)
        }
        None => problem.into_response(),
    };
    rendered.extensions_mut().remove::<Problem>();
    if let Some(allow) = allow {
        rendered.headers_mut().insert(header::ALLOW, allow);
    }
    for cookie in cookies {
        rendered.headers_mut().append(header::SET_COOKIE, cookie);
    }
    rendered
}

/// A refusal by the framework or a layer, which knows nothing of the catalogue.
fn foreign_refusal(headers: &HeaderMap, status: StatusCode, asked: &Asked) -> Option<Problem> {
    let bare = headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    let refused = status.is_client_error() || status.is_server_error();
    if !refused || !bare || matches!(asked.path.as_str(), "/livez" | "/readyz" | "/metrics") {
        return None;
    }
    Some(match status {
        StatusCode::NOT_FOUND => Problem::new(Code::NotFound, "There is nothing at this address.").with("kind", "page"),
        StatusCode::METHOD_NOT_ALLOWED => {
            Problem::new(Code::MethodNotAllowed, format!("This address does not take {}.", asked.method))
        }
        StatusCode::REQUEST_TIMEOUT => Problem::new(Code::RequestTimeout, "The request did not arrive in time."),
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(Code::PayloadTooLarge, "The body is too large."),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            Problem::new(Code::UnsupportedMediaType, "The body's type or encoding is not taken here.")
                .with("accepted", vec!["application/json"])
                .with("accepted_encodings", vec!["identity", "gzip", "zstd"])
        }
        StatusCode::FORBIDDEN => Problem::new(Code::Forbidden, "You may not do this."),
        StatusCode::SERVICE_UNAVAILABLE => Problem::new(Code::Unavailable, "This cannot be served now."),
        status if status.is_client_error() => Problem::new(Code::MalformedQuery, "The request cannot be understood."),
        status => error::internal(&format!("a layer answered {status}")),
    })
}

/// Only scripts and styles of this server or with the nonce of this answer run; nobody may frame us.
fn content_security_policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; \
         font-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'"
    )
}

fn set_headers(headers: &mut HeaderMap, context: &RequestContext) {
    const SERVER: HeaderValue = HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION")));
    headers.insert(header::SERVER, SERVER);
    for (name, value) in [
        (REQUEST_ID, context.id.to_string()),
        (header::CONTENT_SECURITY_POLICY, content_security_policy(&context.nonce)),
    ] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    let isolation = HeaderValue::from_static("same-origin");
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), isolation.clone());
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), isolation);
    if context.https {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    // Answers depend on who asks; shared caches must not keep them, private ones must ask again.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-cache"));
}

/// Refuses state-changing requests that a browser made for another site. Scripts send neither `Sec-Fetch-Site` nor `Origin`.
pub fn csrf_layer(public_url: Option<&str>) -> CsrfLayer<fn(ProtectionError) -> Response> {
    let layer = CsrfLayer::new();
    // Behind a proxy the Host header may differ from what the browser shows; the configured address is ours as well.
    let origin = public_url.map(|url| url.trim_end_matches('/'));
    let layer = match origin.map(|origin| layer.clone().add_trusted_origin(origin)) {
        Some(Ok(trusting)) => trusting,
        Some(Err(error)) => {
            tracing::warn!(%error, "the public URL is not an origin; CSRF protection goes by the Host header alone");
            layer
        }
        None => layer,
    };
    layer.with_rejection_response(csrf_rejected as fn(ProtectionError) -> Response)
}

fn csrf_rejected(_: ProtectionError) -> Response {
    Problem::new(Code::CsrfRejected, "The browser says that another site caused this request.").into_response()
}

/// Bounds the time until an answer begins. Streams begin at once and then last as long as they like.
pub async fn time_bound(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_TIME_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!("a handler took longer than {} s", ANSWER_TIME_MAX.as_secs());
            let problem = Problem::new(Code::RequestTimeout, "The request could not be finished in time.");
            problem.into_response()
        }
    }
}

/// A panic ends one request, not the server, and its text stays here.
pub fn panicked(payload: Box<dyn Any + Send + 'static>) -> Response {
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("unknown");
    error::internal(&format!("panic: {text}")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(texts: &[&str]) -> Vec<AddressRange> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn forwarded(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static("x-forwarded-for"), HeaderValue::from_static(value))])
    }

    fn seen(value: &'static str, peer: &str, trusted: &[&str]) -> String {
        client_address(&forwarded(value), peer.parse().unwrap(), &ranges(trusted)).to_string()
    }

    #[test]
    fn forwarded_addresses_are_believed_from_the_right_and_only_from_trusted_hops() {
        assert_eq!(seen("1.2.3.4", "9.9.9.9", &[]), "9.9.9.9", "an untrusted peer cannot claim anything");
        assert_eq!(seen("1.2.3.4", "10.0.0.1", &["10.0.0.0/8"]), "1.2.3.4");
        assert_eq!(
            seen("6.6.6.6, 1.2.3.4", "10.0.0.1", &["10.0.0.0/8"]),
            "1.2.3.4",
            "what the client itself sent is not used"
        );
        assert_eq!(seen("1.2.3.4, 10.0.0.2", "10.0.0.1", &["10.0.0.0/8"]), "1.2.3.4");
        assert_eq!(seen("not an address", "10.0.0.1", &["10.0.0.0/8"]), "10.0.0.1");
    }

    #[test]
    fn https_is_believed_from_trusted_proxies_only() {
        let headers =
            HeaderMap::from_iter([(HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static("https"))]);
        let peer = Some(Peer { address: "10.0.0.1".parse().unwrap(), tls: false });
        assert!(!RequestContext::of(&headers, peer, &[]).https);
        assert!(RequestContext::of(&headers, peer, &ranges(&["10.0.0.0/8"])).https);
    }

    #[test]
    fn the_secret_of_an_invitation_is_not_logged() {
        assert_eq!(loggable("/invitations/s3cret"), "/invitations/…");
        assert_eq!(loggable("/invitations/s3cret/more"), "/invitations/…");
        assert_eq!(loggable("/v1/topics/orders"), "/v1/topics/orders");
    }

    #[test]
    fn inline_code_needs_the_nonce() {
        let policy = content_security_policy("abc");
        assert!(policy.contains("script-src 'self' 'nonce-abc';"));
        assert!(!policy.contains("unsafe"));
        assert!(policy.contains("frame-ancestors 'none'"));
    }
}
