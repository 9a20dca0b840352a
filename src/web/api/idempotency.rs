//! `Idempotency-Key` on the control plane's POSTs: a repeated request gets the first one's answer and does nothing.
//!
//! An answer that held a secret is not stored; the repetition is told what was created instead (decision 7). The data
//! plane keeps its keys in the log, so produce is not handled here.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{Extension, IntoResponse, Response};
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};

use crate::catalog::access::Principal;
use crate::catalog::{Catalog, Replay, StoredAnswer};
use crate::web::auth::MaybeCaller;
use crate::web::error::{ApiResult, internal};
use crate::web::extract::{CONTROL_BODY_BYTES_MAX, CONTROL_BODY_TIME_MAX, bad_header, read_body};
use crate::web::problem::{Code, Problem};
use crate::web::state::WebState;

/// The request's key.
pub const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Marks an answer that was given before.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Longest key, in characters.
const KEY_CHARS_MAX: usize = 255;
/// Headers that are stored with an answer.
const KEPT: [&str; 5] = ["content-type", "etag", "location", "weir-result", "link"];

/// Marks an answer that holds a secret, with what was created.
#[derive(Debug, Clone)]
pub(super) struct SecretOf(String);

impl SecretOf {
    /// For the answer's tuple: goes into its extensions, and keeps it out of every cache.
    pub fn answer(created: String) -> (Extension<Self>, [(HeaderName, HeaderValue); 1]) {
        (Extension(Self(created)), [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))])
    }
}

/// Middleware around the control plane.
pub async fn layer(State(state): State<WebState>, request: Request, next: Next) -> Response {
    let produces = request.uri().path().ends_with("/records");
    if request.method() != Method::POST || produces || !request.headers().contains_key(KEY) {
        return next.run(request).await;
    }
    once(&state, request, next).await.unwrap_or_else(IntoResponse::into_response)
}

async fn once(state: &WebState, request: Request, next: Next) -> ApiResult<Response> {
    let key = key_of(request.headers())?;
    let (mut parts, body) = request.into_parts();
    let MaybeCaller(caller) = MaybeCaller::from_request_parts(&mut parts, state).await?;
    let Some(caller) = caller else { return Ok(next.run(Request::from_parts(parts, body)).await) };
    let principal = match &caller.principal {
        Principal::User { id, .. } => id.0,
        Principal::App { id, .. } => id.0,
        Principal::System => uuid::Uuid::nil(),
    };
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let scope = digest(&[principal.as_bytes(), parts.method.as_str().as_bytes(), path.as_bytes(), key.as_bytes()]);
    let body = read_body(body, CONTROL_BODY_BYTES_MAX, CONTROL_BODY_TIME_MAX).await?;
    match state.catalog.idempotency_claim(scope, digest(&[&body])).await? {
        Replay::New => {
            let response = next.run(Request::from_parts(parts, Body::from(body))).await;
            keep(&state.catalog, scope, response).await
        }
        Replay::InProgress => {
            let detail = "The first request with this Idempotency-Key has not finished.";
            Err(Problem::new(Code::IdempotencyInProgress, detail).retry_after(1))
        }
        Replay::Reused => {
            Err(Problem::new(Code::IdempotencyKeyReused, "The Idempotency-Key was used with another body."))
        }
        Replay::Answer(answer) => replay(answer),
    }
}

/// Keeps the answer of a first request; an answer that could be another one next time is not kept.
async fn keep(catalog: &Catalog, scope: [u8; 32], response: Response) -> ApiResult<Response> {
    let refused_for_now = response.status().is_server_error()
        || matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
        || response.status() == StatusCode::UNAUTHORIZED;
    if refused_for_now {
        catalog.idempotency_forget(scope).await?;
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let secret_of = parts.extensions.get::<SecretOf>().map(|secret| secret.0.clone());
    let bytes: Bytes = body.collect().await.map_err(|e| internal(&e))?.to_bytes();
    if bytes.len() > StoredAnswer::BODY_MAX {
        catalog.idempotency_forget(scope).await?;
    } else {
        let text = |name: &str| Some((name.to_owned(), parts.headers.get(name)?.to_str().ok()?.to_owned()));
        let answer = StoredAnswer {
            status: parts.status.as_u16(),
            headers: KEPT.iter().filter_map(|name| text(name)).collect(),
            body: if secret_of.is_some() { Vec::new() } else { bytes.to_vec() },
            secret_of,
        };
        // The change is done; that its answer cannot be repeated must not make it look failed.
        if let Err(error) = catalog.idempotency_store(scope, &answer).await {
            tracing::warn!(%error, "an idempotent answer could not be kept");
        }
    }
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

fn replay(answer: StoredAnswer) -> ApiResult<Response> {
    if let Some(id) = answer.secret_of {
        let detail = "The first request succeeded, and its answer held a secret that is shown once.";
        return Err(Problem::new(Code::IdempotencyReplayRefused, detail).with("id", id));
    }
    let status = StatusCode::from_u16(answer.status).map_err(|e| internal(&e))?;
    let mut response = (status, answer.body).into_response();
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

/// The key, with or without the quotation marks of the standard's draft.
fn key_of(headers: &HeaderMap) -> ApiResult<String> {
    let takes = || bad_header(&KEY, "takes one text of 1 to 255 visible ASCII characters");
    let mut values = headers.get_all(KEY).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(takes()) };
    let text = value.to_str().map_err(|_| takes())?.trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let legal = (1..=KEY_CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if legal { Ok(text.to_owned()) } else { Err(takes()) }
}

/// SHA-256 over parts, each with its length, so that no two lists of parts look alike.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_with_and_without_quotation_marks() {
        let key = |text: &str| {
            key_of(&HeaderMap::from_iter([(KEY, HeaderValue::from_str(text).unwrap())])).map_err(|problem| problem.code)
        };
        assert_eq!(key("\"0f9c\""), Ok("0f9c".to_owned()));
        assert_eq!(key("0f9c"), Ok("0f9c".to_owned()));
        assert_eq!(key(""), Err(Code::InvalidHeader));
        assert_eq!(key("a b"), Err(Code::InvalidHeader));
        assert_eq!(key(&"x".repeat(256)), Err(Code::InvalidHeader));
    }

    #[test]
    fn parts_that_join_alike_digest_differently() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
    }
}
