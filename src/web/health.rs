//! For orchestrators and monitoring: does it live, does it take work, what does it count.

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Map, Value, json};

use super::auth::Caller;
use super::problem::Problem;
use super::state::WebState;
use crate::broker::engine::Room;
use crate::catalog::access::ReadMetrics;
use crate::telemetry;

/// `/livez`, `/readyz`, and `/metrics` for tokens with `metrics:read`.
pub fn router() -> Router<WebState> {
    Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).route("/metrics", get(metrics))
}

/// The same for the second listener, which only operators can reach: `/metrics` needs no token there.
pub fn open_metrics(state: WebState) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(async |State(state): State<WebState>| exposition(&state).await))
        .with_state(state)
}

/// Looks at nothing but itself: a database that is away must not make an orchestrator kill a server that still serves.
async fn livez() -> &'static str {
    "ok\n"
}

/// What stands between this instance and its work.
struct Readiness {
    draining: bool,
    /// Why the log takes no records.
    log_fault: Option<String>,
    /// Some stored records cannot be read; all others can.
    damaged: bool,
    /// What its disk still takes.
    room: Room,
    /// Without the database records flow on by the local view; only changes have to wait.
    postgres: bool,
}

impl Readiness {
    async fn of(state: &WebState) -> Self {
        let stats = state.engine.stats();
        Self {
            draining: state.shutdown.token.is_cancelled(),
            log_fault: state.engine.fault(),
            damaged: !stats.damaged.is_empty(),
            room: stats.room,
            postgres: state.catalog.healthy().await,
        }
    }

    fn ready(&self) -> bool {
        !self.draining && self.log_fault.is_none()
    }

    fn status(&self) -> &'static str {
        match (self.draining, self.log_fault.is_some(), self.postgres) {
            (true, ..) => "draining",
            (_, true, _) => "unavailable",
            (_, _, false) => "degraded",
            _ if self.damaged => "degraded",
            _ if self.room == Room::Full => "degraded",
            _ => "ready",
        }
    }

    fn checks(&self) -> Value {
        // What is wrong with the log is for its own log lines; anybody may ask here.
        let log = match (&self.log_fault, self.damaged) {
            (Some(_), _) => "failed",
            (None, true) => "damaged",
            (None, false) => "ok",
        };
        let postgres = if self.postgres { "ok" } else { "unreachable" };
        let disk = match self.room {
            Room::Ample => "ok",
            Room::Short => "short",
            Room::Full => "full",
        };
        json!({ "log": log, "disk": disk, "postgres": postgres })
    }
}

async fn readyz(State(state): State<WebState>, RawQuery(query): RawQuery) -> Response {
    let readiness = Readiness::of(&state).await;
    let mut body = Map::new();
    body.insert("status".to_owned(), readiness.status().into());
    if query.is_some_and(|q| q.split('&').any(|p| p == "verbose" || p.starts_with("verbose="))) {
        body.insert("checks".to_owned(), readiness.checks());
    }
    let status = if readiness.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (status, headers, format!("{}\n", Value::Object(body))).into_response()
}

async fn metrics(State(state): State<WebState>, Caller(actor): Caller) -> Result<Response, Problem> {
    state.catalog.authorize::<ReadMetrics>(&actor, &())?;
    Ok(exposition(&state).await)
}

/// Everything counted, in the text format of Prometheus.
async fn exposition(state: &WebState) -> Response {
    let stats = state.engine.stats();
    metrics::gauge!("weir_engine_partitions").set(approximate(stats.partitions));
    metrics::gauge!("weir_engine_stored_bytes").set(approximate(stats.stored_bytes));
    metrics::gauge!("weir_engine_sync_p50_seconds").set(stats.sync_p50.as_secs_f64());
    metrics::gauge!("weir_engine_sync_p99_seconds").set(stats.sync_p99.as_secs_f64());
    metrics::gauge!("weir_engine_damaged_ranges").set(approximate(stats.damaged.len() as u64));
    metrics::counter!("weir_engine_scrubbed_bytes_total").absolute(stats.scrubbed_bytes);
    if let Some(free) = stats.free_bytes {
        metrics::gauge!("weir_engine_free_bytes").set(approximate(free));
    }
    metrics::gauge!("weir_engine_room").set(match stats.room {
        Room::Ample => 2.0,
        Room::Short => 1.0,
        Room::Full => 0.0,
    });
    metrics::counter!("weir_engine_records_total").absolute(stats.records_committed);
    metrics::counter!("weir_engine_bytes_total").absolute(stats.bytes_committed);
    metrics::counter!("weir_engine_groups_total").absolute(stats.groups);
    metrics::gauge!("weir_streams").set(approximate(state.gateway.streams().open() as u64));
    metrics::gauge!("weir_ready").set(if Readiness::of(state).await.ready() { 1.0 } else { 0.0 });
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], telemetry::metrics().render()).into_response()
}

/// Prometheus counts in floating point.
#[expect(clippy::cast_precision_loss, reason = "beyond 2^53 a gauge may be off by a few")]
fn approximate(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::{Readiness, Room};

    fn readiness(draining: bool, fault: bool, postgres: bool) -> Readiness {
        let log_fault = fault.then(|| "disk failed: /dev/sda".to_owned());
        Readiness { draining, log_fault, damaged: false, room: Room::Ample, postgres }
    }

    #[test]
    fn records_can_flow_without_the_database_but_not_without_the_log() {
        assert!(readiness(false, false, true).ready());
        assert!(readiness(false, false, false).ready());
        assert_eq!(readiness(false, false, false).status(), "degraded");
        assert!(!readiness(false, true, true).ready());
        assert!(!readiness(true, false, true).ready());
        let full = Readiness { room: Room::Full, ..readiness(false, false, true) };
        assert!(full.ready() && full.status() == "degraded", "what is there can be read");
    }

    #[test]
    fn damaged_records_degrade_and_stop_nothing() {
        let damaged = Readiness { damaged: true, ..readiness(false, false, true) };
        assert!(damaged.ready());
        assert_eq!(damaged.status(), "degraded");
        assert_eq!(damaged.checks()["log"], "damaged");
    }

    #[test]
    fn what_is_wrong_is_named_without_the_machines_details() {
        let text = readiness(false, true, false).checks().to_string();
        assert_eq!(text, r#"{"log":"failed","disk":"ok","postgres":"unreachable"}"#);
    }
}
