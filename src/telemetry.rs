//! What a running Weir tells about itself: log lines and metrics.
//!
//! Log lines go to standard error, so that standard output stays free for what commands answer. Request ids are made in
//! `web::security` and stand in every line that belongs to a request.

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// How often histograms give up what they no longer need.
pub const UPKEEP: Duration = Duration::from_secs(5);

/// Upper bounds of the buckets of every `…_seconds` histogram: from a cached answer to a long poll.
const SECONDS: [f64; 14] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// Why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("the log level `{level}` is not understood: {detail}")]
pub struct LevelError {
    level: String,
    detail: String,
}

/// Starts logging. A second call changes nothing: the first decides for the process.
pub fn start_logging(log: &Log) -> Result<(), LevelError> {
    let bad = |e: &dyn std::fmt::Display| LevelError { level: log.level.clone(), detail: e.to_string() };
    // sqlx tells every notice of a migration; that is for those who ask for it.
    let text = if log.level.contains('=') { log.level.clone() } else { format!("{},sqlx=warn", log.level) };
    let filter = EnvFilter::builder().parse(text).map_err(|e| bad(&e))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Text => {
            use std::io::IsTerminal as _;
            lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init()
        }
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
    Ok(())
}

/// The process's metrics. Made on first use; servers of one process share them.
pub fn metrics() -> &'static PrometheusHandle {
    static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();
    METRICS.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .expect("the list of buckets is not empty")
            .build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed; /metrics stays empty");
        }
        describe();
        handle
    })
}

/// Says in `/metrics` what the figures of this module's neighbours mean.
fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_gauge!("weir_connections", "Open client connections");
    describe_counter!("weir_connections_refused_total", "Connections closed at once because a bound was reached");
    describe_histogram!("weir_http_request_seconds", Unit::Seconds, "Time until the head of the answer, by route");
    describe_gauge!("weir_engine_partitions", "Partitions that the engine holds");
    describe_gauge!("weir_engine_stored_bytes", Unit::Bytes, "Bytes kept on disk for records");
    describe_gauge!("weir_engine_damaged_ranges", "Ranges of stored records that are damaged; the log names them");
    describe_counter!("weir_engine_scrubbed_bytes_total", Unit::Bytes, "Bytes of stored records checked for damage");
    describe_counter!("weir_engine_records_total", "Records acknowledged");
    describe_counter!("weir_engine_bytes_total", Unit::Bytes, "Bytes of record batches acknowledged");
    describe_counter!("weir_engine_groups_total", "Commit groups written");
    describe_gauge!("weir_engine_sync_p50_seconds", Unit::Seconds, "Median time of one sync to stable storage");
    describe_gauge!("weir_engine_sync_p99_seconds", Unit::Seconds, "99th percentile of the same");
    describe_gauge!("weir_engine_free_bytes", Unit::Bytes, "Bytes that the disk of the records has left");
    describe_gauge!(
        "weir_engine_room",
        "2 when everything is taken, 1 when no topics are made, 0 when no records are taken"
    );
    describe_gauge!("weir_ready", "1 when this instance takes work, else 0");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_not_understood_is_named() {
        let log = Log { format: LogFormat::Text, level: "loud=quiet=".to_owned() };
        assert!(start_logging(&log).unwrap_err().to_string().contains("loud=quiet="));
    }

    #[test]
    fn what_was_counted_is_in_the_exposition() {
        let metrics = metrics();
        metrics::counter!("weir_connections_refused_total", "bound" => "test").increment(3);
        let text = metrics.render();
        assert!(text.contains("weir_connections_refused_total{bound=\"test\"} 3"), "{text}");
        assert!(text.contains("# HELP weir_connections_refused_total Connections closed at once"), "{text}");
    }
}
