//! `GET /v1/topics/{topic}/partitions`: how much each partition holds. Shows no record.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::catalog::access::ReadCatalog;
use crate::names::{Offset, TopicName};
use crate::web::auth::Caller;
use crate::web::error::ApiResult;
use crate::web::extract::{Json, Path};
use crate::web::state::WebState;

/// A topic's partitions.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"items": [{"partition": 0, "earliest": 0, "next": 543}], "next": null, "stored_bytes": 70213}))]
pub(super) struct Partitions {
    items: Vec<Partition>,
    /// There is never another page.
    next: Option<String>,
    /// Bytes kept, of all partitions.
    stored_bytes: u64,
}

/// The readable range of a partition.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Partition {
    partition: u32,
    /// Offset of the first record kept.
    #[schema(value_type = i64)]
    earliest: Offset,
    /// Offset that the next record gets.
    #[schema(value_type = i64)]
    next: Offset,
}

/// Shows how much each partition holds.
#[utoipa::path(get, path = "/v1/topics/{topic}/partitions", operation_id = "listPartitions", tag = "records",
    params(("topic" = String, Path, description = "Name of the topic", example = "orders")),
    security(("token" = ["catalog:read"])),
    responses((status = 200, description = "All partitions", body = Partitions)))]
pub(super) async fn list_partitions(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(name): Path<TopicName>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ReadCatalog>(&actor, &())?;
    let topic = state.catalog.topic(&grant, &name)?;
    let bounds = state.gateway.bounds(&topic)?;
    let partition = |(partition, bounds): (u32, &crate::broker::engine::Bounds)| Partition {
        partition,
        earliest: bounds.start,
        next: bounds.end,
    };
    let items = (0..).zip(&bounds).map(partition).collect();
    Ok(Json(Partitions { items, next: None, stored_bytes: state.gateway.stored_bytes(&topic) }).into_response())
}
