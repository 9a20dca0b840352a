//! The first page of a topic: what it is for, what it holds, who may use it.

use askama::Template;
use axum::extract::State;
use time::OffsetDateTime;

use super::figures::{self, PartitionRow};
use super::head::{Head, Tab};
use super::markdown::{self, SafeHtml};
use super::quality::{self, Facts, Hint};
use crate::catalog::model::{AccessGrant, Cleanup, Operation, Topic};
use crate::names::TopicName;
use crate::web::extract::Path;
use crate::web::page::{Frame, PageResult, render};
use crate::web::state::WebState;
use crate::web::ui::records::{reading, units};
use crate::web::visit::Visit;

/// Applications named on each side; the access tab has them all.
const PARTIES_MAX: usize = 12;

/// The log's figures, as the template shows them.
struct FiguresView {
    total: String,
    stored: String,
    partitions: Vec<PartitionRow>,
    more: Option<String>,
}

/// An application that may use the topic.
struct Party {
    app: String,
    note: Option<String>,
}

#[derive(Template)]
#[template(path = "topic/overview.html")]
struct OverviewPage {
    frame: Frame,
    head: Head,
    hints: Vec<Hint>,
    readme: SafeHtml,
    figures: FiguresView,
    last_event: Option<OffsetDateTime>,
    facts: Vec<(&'static str, String)>,
    labels: Vec<String>,
    producers: Vec<Party>,
    consumers: Vec<Party>,
}

/// `GET /topics/{t}`
pub async fn page(State(state): State<WebState>, visit: Visit, Path(name): Path<TopicName>) -> PageResult {
    let head = Head::load(&state, &visit, &name, Tab::Overview)?;
    let topic = &head.topic;
    let figures = figures::of(&state, topic);
    let now = visit.frame.now;
    let live = |grant: &&AccessGrant| grant.expires_at.is_none_or(|end| end > now);
    let holders = |operation| -> Vec<&AccessGrant> {
        head.grants.iter().filter(live).filter(|grant| grant.operations.contains(&operation)).collect()
    };
    let (producers, consumers) = (holders(Operation::Produce), holders(Operation::Consume));
    let owners = state.catalog.app(&head.reader, &topic.app).map_or(0, |app| app.owners.len());
    let facts = Facts { owners, consumers: consumers.len(), stored_bytes: figures.stored_bytes };
    let last_event = reading::last_event(&state, &visit.actor, &name).await;
    let page = OverviewPage {
        hints: quality::hints(topic, facts),
        readme: markdown::render(&topic.description),
        figures: FiguresView {
            total: figures.total(),
            stored: units::bytes(figures.stored_bytes),
            partitions: figures.rows(),
            more: figures.more(),
        },
        last_event,
        facts: retention(topic),
        labels: topic.labels.iter().map(|(key, value)| format!("{key}={value}")).collect(),
        producers: parties(topic, &producers, now),
        consumers: parties(topic, &consumers, now),
        frame: visit.frame,
        head,
    };
    render(&page)
}

fn parties(topic: &Topic, grants: &[&AccessGrant], now: OffsetDateTime) -> Vec<Party> {
    let owner = Party { app: topic.app.to_string(), note: Some("owner".to_owned()) };
    let holder = |grant: &&AccessGrant| Party {
        app: grant.app.to_string(),
        note: grant.expires_at.map(|end| format!("for {} more", left(end, now))),
    };
    let mut found: Vec<_> = std::iter::once(owner).chain(grants.iter().take(PARTIES_MAX).map(holder)).collect();
    found.dedup_by(|a, b| a.app == b.app);
    found
}

fn left(end: OffsetDateTime, now: OffsetDateTime) -> String {
    let days = (end - now).whole_days();
    match days {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

/// How long what is kept, in words.
fn retention(topic: &Topic) -> Vec<(&'static str, String)> {
    let time = topic.retention_ms.map_or_else(|| "for ever".to_owned(), units::duration);
    let mut facts = vec![("Kept", time)];
    if let Some(bytes) = topic.retention_bytes {
        facts.push(("At most", format!("{} in each partition", units::bytes(bytes.unsigned_abs()))));
    }
    facts.push((
        "Old events",
        match topic.cleanup {
            Cleanup::Delete => "are removed".to_owned(),
            Cleanup::Compact => "the last of each key stays".to_owned(),
        },
    ));
    facts
}
