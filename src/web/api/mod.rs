//! The REST API: one resource a file. The shapes are those of `docs/api.md`.
//!
//! Each file offers `router()`; what its handlers declare with `#[utoipa::path]` becomes `/openapi.json`, and
//! `extensions(("x-problems" = json!([…])))` the refusals that are particular to an operation. Authentication, unknown
//! names, malformed bodies and the like are added to every operation that can have them by `openapi`.

mod access;
mod answer;
mod apps;
mod audit;
mod check;
pub mod idempotency;
mod members;
pub mod openapi;
pub mod records;
mod sessions;
mod status;
mod teams;
mod tokens;
mod topic_view;
mod topics;
mod users;
mod whoami;
pub mod wire;

use utoipa_axum::router::OpenApiRouter;

use super::state::WebState;

/// Every operation of the API with its description.
pub fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new()
        .merge(whoami::router())
        .merge(teams::router())
        .merge(members::router())
        .merge(apps::router())
        .merge(topics::router())
        .merge(access::router())
        .merge(check::router())
        .merge(tokens::router())
        .merge(sessions::router())
        .merge(audit::router())
        .merge(users::router())
        .merge(status::router())
        .merge(records::router())
}
