//! The REST API: one resource a file. The shapes are those of `docs/api.md`.
//!
//! Each file offers `router()`; what its handlers declare with `#[utoipa::path]` becomes `/openapi.json`.

pub mod records;
pub mod wire;

use utoipa_axum::router::OpenApiRouter;

use super::state::WebState;

/// Every operation of the API with its description.
pub fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new().merge(records::router())
}
