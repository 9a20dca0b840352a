//! Errors of the parts below, as refusals a client can see. What they were caused by is logged here, once, and stays here.

use std::fmt::Display;

use axum::http::StatusCode;
use axum::http::header::{self, HeaderValue};
use axum::response::{IntoResponse, Response};

use super::problem::{Code, Problem};
use super::security::RequestContext;

/// What a handler of the API returns.
pub type ApiResult<T> = Result<T, Problem>;

/// A defect or a broken world: logged with its cause, told without it (invariant I10).
#[must_use]
pub fn internal(cause: &dyn Display) -> Problem {
    tracing::error!(%cause, "a request failed");
    Problem::new(
        Code::Internal,
        "Something failed inside Weir. The server's log has the cause under this request's id.",
    )
}

/// The page of a refusal.
pub fn page(problem: &Problem, _context: &RequestContext, _fragment: bool) -> Response {
    let status = StatusCode::from_u16(problem.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = format!(
        "<!doctype html><title>{title}</title><h1>{title}</h1><p>{detail}</p><p><a href=\"/problems/{code}\">{code}</a></p>",
        title = problem.code.title(),
        detail = escape(&problem.detail),
        code = problem.code.as_str()
    );
    let mut response = (status, body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    for (name, value) in problem.headers.clone() {
        response.headers_mut().append(name, value);
    }
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
