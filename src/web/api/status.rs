//! What this instance is, and the limits it enforces, so that clients can adapt to them.

use axum::extract::State;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::records::{BODY_BYTES_MAX, RECORD_BYTES_MAX, RECORDS_MAX};
use super::wire::Moment;
use crate::catalog::model::TopicSpec;
use crate::catalog::page::PageRequest;
use crate::web::extract::{CONTROL_BODY_BYTES_MAX, JSON_DEPTH_MAX, Json};
use crate::web::state::WebState;

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new().routes(routes!(status))
}

/// The instance.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"version": "0.1.0", "time": "2026-11-22T09:00:00.000Z",
    "engine": {"name": "embedded", "durable": true, "conditional_append": true},
    "limits": {"record_bytes": 1048576, "records_body_bytes": 8388608, "records_per_request": 10000,
        "control_body_bytes": 262144, "json_depth": 32, "page_items": 1000, "partitions_per_topic": 1024}}))]
struct Status {
    version: &'static str,
    time: Moment,
    engine: EngineView,
    limits: Limits,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct EngineView {
    name: &'static str,
    /// Acknowledged records outlive the process.
    durable: bool,
    /// `if_offset` is honoured.
    conditional_append: bool,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Limits {
    record_bytes: usize,
    records_body_bytes: usize,
    records_per_request: usize,
    control_body_bytes: usize,
    json_depth: usize,
    page_items: usize,
    partitions_per_topic: u32,
}

/// Says what this instance is.
#[utoipa::path(get, path = "/v1/status", operation_id = "status", tag = "operations",
    responses((status = 200, description = "The instance", body = Status)))]
async fn status(State(state): State<WebState>) -> Json<Status> {
    let engine = state.engine.capabilities();
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        time: Moment(state.clock.now_datetime()),
        engine: EngineView {
            name: engine.name,
            durable: engine.durable,
            conditional_append: engine.conditional_append,
        },
        limits: Limits {
            record_bytes: RECORD_BYTES_MAX,
            records_body_bytes: BODY_BYTES_MAX,
            records_per_request: RECORDS_MAX,
            control_body_bytes: CONTROL_BODY_BYTES_MAX,
            json_depth: JSON_DEPTH_MAX,
            page_items: PageRequest::LIMIT_MAX,
            partitions_per_topic: TopicSpec::PARTITIONS_MAX,
        },
    })
}
