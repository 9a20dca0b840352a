//! A topic's settings, what they do, and the same as a command.

use askama::Template;
use axum::extract::State;
use serde_json::json;

use super::draft::word;
use super::head::{Head, Tab};
use crate::catalog::model::{Cleanup, Topic, TopicSpec, Visibility};
use crate::names::TopicName;
use crate::web::extract::Path;
use crate::web::page::{Frame, PageResult, render};
use crate::web::state::WebState;
use crate::web::ui::records::reading::TOKEN_VARIABLE;
use crate::web::ui::records::snippets::shell_quoted;
use crate::web::ui::records::{json as layout, units};
use crate::web::visit::Visit;

/// One line.
struct Setting {
    name: &'static str,
    value: String,
    default: String,
    about: &'static str,
    /// It is not what a new topic has.
    changed: bool,
}

#[derive(Template)]
#[template(path = "topic/config.html")]
struct ConfigPage {
    frame: Frame,
    head: Head,
    settings: Vec<Setting>,
    curl: String,
}

/// `GET /topics/{t}/config`
pub async fn page(State(state): State<WebState>, visit: Visit, Path(name): Path<TopicName>) -> PageResult {
    let head = Head::load(&state, &visit, &name, Tab::Config)?;
    let page = ConfigPage {
        settings: settings(&head.topic),
        curl: curl(&visit.frame.base_url, &head.topic),
        frame: visit.frame,
        head,
    };
    render(&page)
}

fn settings(topic: &Topic) -> Vec<Setting> {
    let default = TopicSpec::new(topic.app.clone());
    let time = |ms: Option<i64>| ms.map_or_else(|| "for ever".to_owned(), units::duration);
    let size = |bytes: Option<i64>| bytes.map_or_else(|| "no bound".to_owned(), |b| units::bytes(b.unsigned_abs()));
    let setting = |name, value: String, default: String, about| Setting {
        name,
        changed: value != default,
        value,
        default,
        about,
    };
    vec![
        setting(
            "Partitions",
            topic.partitions.to_string(),
            default.partitions.to_string(),
            "How many readers of one group can share the work. Order holds inside one; can be raised, never lowered.",
        ),
        setting(
            "Kept for",
            time(topic.retention_ms),
            time(default.retention_ms),
            "How long an event can be read after it was stored.",
        ),
        setting(
            "At most",
            size(topic.retention_bytes),
            size(default.retention_bytes),
            "Bytes kept in each partition; beyond them the oldest events go first.",
        ),
        setting(
            "Old events",
            cleanup(topic.cleanup).to_owned(),
            cleanup(default.cleanup).to_owned(),
            "Whether they are removed, or the last one of each key stays.",
        ),
        setting(
            "Classification",
            word(&topic.classification),
            word(&default.classification),
            "How sensitive the events are. It is shown to everybody who sees the topic.",
        ),
        setting(
            "Visible to",
            visibility(topic.visibility).to_owned(),
            visibility(default.visibility).to_owned(),
            "Who can find the topic. Reading needs access all the same.",
        ),
    ]
}

/// The clean-up policy as what happens.
#[must_use]
pub const fn cleanup(cleanup: Cleanup) -> &'static str {
    match cleanup {
        Cleanup::Delete => "removed",
        Cleanup::Compact => "last of each key kept",
    }
}

/// The visibility as who sees it.
#[must_use]
pub const fn visibility(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Company => "the whole company",
        Visibility::Team => "the team, and those with access",
    }
}

/// The duration as the API takes it.
fn api_duration(ms: i64) -> String {
    let whole = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    match whole.iter().find(|(worth, _)| ms >= *worth && ms % worth == 0) {
        Some((worth, unit)) => format!("{}{unit}", ms / worth),
        None => format!("{ms}ms"),
    }
}

fn curl(base_url: &str, topic: &Topic) -> String {
    let body = json!({
        "app": topic.app,
        "description": topic.description,
        "partitions": topic.partitions,
        "retention": {"time": topic.retention_ms.map(api_duration), "bytes_per_partition": topic.retention_bytes},
        "cleanup": topic.cleanup,
        "classification": topic.classification,
        "visibility": topic.visibility,
        "labels": topic.labels,
    });
    format!(
        "curl -fsS -X PUT '{base_url}/v1/topics/{}?dry_run=true' \\\n  -H \"Authorization: Bearer {TOKEN_VARIABLE}\" \\\n  -H 'Content-Type: application/json' \\\n  -d {}",
        topic.name,
        shell_quoted(&layout::pretty(&body.to_string()))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_the_api_takes_them() {
        for (ms, text) in [(604_800_000, "7d"), (5_400_000, "90m"), (1500, "1500ms"), (36_000, "36s")] {
            assert_eq!(api_duration(ms), text);
            assert_eq!(crate::gateway::position::parse_duration(text).map(|d| d.as_millis()), u128::try_from(ms).ok());
        }
    }
}
