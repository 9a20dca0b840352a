//! The faces: REST, SSE and the portal. A handler parses, calls one thing and answers.

pub mod api;
pub mod assets;
pub mod audit_view;
pub mod auth;
pub mod confirm;
pub mod error;
mod example;
pub mod extract;
pub mod form;
pub mod health;
pub mod page;
pub mod params;
pub mod paths;
pub mod problem;
pub mod quality;
pub mod security;
pub mod server;
pub mod sse;
pub mod stall;
pub mod state;
pub mod tls;
pub mod token_form;
pub mod ui;
pub mod visit;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::decompression::RequestDecompressionLayer;

use self::extract::CONTROL_BODY_BYTES_MAX;
use self::problem::{Code, Problem};
use self::state::WebState;

/// Everything Weir serves.
///
/// The layers, from the outside in:
/// - `frame`: request id, trusted proxies, security headers, and refusals in their one shape, so that nothing inside can
///   answer without them;
/// - catch-panic inside it, so that a panic is answered, and logged, like any other failure;
/// - CSRF before anything reads a cookie;
/// - a bound on the time until an answer begins (streams begin at once);
/// - compression of answers, except event streams and tiny ones; decompression of bodies, whose limits count what comes out;
/// - a small limit for bodies read by the framework's own extractors; the data plane's routes set their own.
pub fn router(state: WebState) -> Router {
    let csrf = security::csrf_layer(state.public_url.as_deref());
    let (api, declared) = api::router().split_for_parts();
    let description = api::openapi::Description::new(&declared);
    let idempotency = middleware::from_fn_with_state(state.clone(), api::idempotency::layer);
    Router::new()
        .merge(api.layer(idempotency))
        .merge(description.router())
        .merge(ui::reference::router(&description.document))
        .merge(assets::router())
        .merge(health::router())
        .merge(ui::router())
        .fallback(nothing_here)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(CONTROL_BODY_BYTES_MAX))
        .layer(RequestDecompressionLayer::new())
        .layer(CompressionLayer::new())
        .layer(middleware::from_fn(security::time_bound))
        .layer(csrf)
        .layer(CatchPanicLayer::custom(security::panicked))
        .layer(middleware::from_fn_with_state(state.clone(), security::frame))
        .with_state(state)
}

async fn nothing_here() -> Problem {
    Problem::new(Code::NotFound, "There is nothing at this address.").with("kind", "page")
}

async fn method_not_allowed(method: axum::http::Method) -> Problem {
    Problem::new(Code::MethodNotAllowed, format!("This address does not take {method}."))
}
