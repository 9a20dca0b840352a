//! Records over HTTP: writing, pages, streams, single records. `docs/api.md` has the contract.

mod cloud_event;
mod envelope;
mod ingest;
mod partitions;
mod problems;
mod produce;
mod read;
mod receipts;
mod stream;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::web::state::WebState;

pub use self::ingest::{BODY_BYTES_MAX, RECORD_BYTES_MAX, RECORDS_MAX};

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new()
        .routes(routes!(produce::produce_records, read::read_records))
        .routes(routes!(read::read_topics))
        .routes(routes!(read::get_record))
        .routes(routes!(partitions::list_partitions))
}
