//! Opening a stream of records.

use axum::response::Response;

use super::read::{Ids, OutputFormat, ReadQuery, Wanted};
use crate::catalog::access::{Consume, Grant};
use crate::gateway::SubscribeRequest;
use crate::web::auth::Person;
use crate::web::error::ApiResult;
use crate::web::sse::{self, Format, StreamOptions};
use crate::web::state::WebState;

/// Subscribes, and answers with the stream.
pub(super) async fn open(
    state: &WebState,
    grants: Vec<Grant<Consume>>,
    prefixes: Vec<String>,
    query: &ReadQuery,
    wanted: Wanted,
    person: Option<Person>,
) -> ApiResult<Response> {
    // A token is stronger than a cookie that happens to come along.
    let by_session = grants.first().is_some_and(|grant| grant.actor().token.is_none());
    let request = SubscribeRequest {
        grants,
        prefixes,
        partitions: wanted.partitions,
        from: wanted.from,
        to: wanted.to,
        on_gap: wanted.on_gap,
        limit: wanted.limit,
        key: wanted.key,
        rate_max: None,
        session: person.filter(|_| by_session).map(|person| person.session_use()),
    };
    let subscription = state.gateway.subscribe(request, &state.shutdown.token).await?;
    let format = match wanted.format {
        OutputFormat::Ndjson => Format::Ndjson { control: query.control },
        OutputFormat::Sse | OutputFormat::Json => Format::Sse,
    };
    let options =
        StreamOptions { format, shape: wanted.shape, ids_each: query.ids == Ids::Each, heartbeat: wanted.heartbeat };
    Ok(sse::respond(subscription, options, state.shutdown.tasks.token()))
}
