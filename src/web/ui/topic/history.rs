//! Everything that was changed about a topic, newest first, with what it was before.

use askama::Template;
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;

use super::head::{Head, Tab};
use crate::catalog::AuditQuery;
use crate::catalog::access::ReadAudit;
use crate::catalog::model::AuditEntry;
use crate::catalog::page::PageRequest;
use crate::names::TopicName;
use crate::web::extract::{Path, Query};
use crate::web::page::{Frame, PageResult, render};
use crate::web::state::WebState;
use crate::web::ui::records::json::{self, Difference};
use crate::web::ui::records::units;
use crate::web::visit::Visit;

/// Lines on one page.
const PAGE_ROWS: usize = 50;
/// Differences shown of one change.
const DIFFERENCES_MAX: usize = 30;
/// What looking at records is called in the audit.
const VIEWED: &str = "records.viewed";
/// Members that change with everything and say nothing.
const BOOKKEEPING: [&str; 6] = ["revision", "updated_at", "created_at", "id", "app_id", "team_id"];

/// Which page.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Args {
    cursor: String,
}

struct Entry {
    actor: String,
    sentence: String,
    at: OffsetDateTime,
    differences: Vec<Difference>,
}

#[derive(Template)]
#[template(path = "topic/history.html")]
struct HistoryPage {
    frame: Frame,
    head: Head,
    denied: Option<String>,
    entries: Vec<Entry>,
    next: Option<String>,
    first: String,
}

/// `GET /topics/{t}/history`
pub async fn page(
    State(state): State<WebState>,
    visit: Visit,
    Path(name): Path<TopicName>,
    Query(args): Query<Args>,
) -> PageResult {
    let head = Head::load(&state, &visit, &name, Tab::History)?;
    if !head.may_manage {
        let why = format!(
            "Ask the team {} what changed and why. They see every change with what it was before.",
            head.topic.team
        );
        let page = HistoryPage {
            frame: visit.frame,
            head,
            denied: Some(why),
            entries: vec![],
            next: None,
            first: String::new(),
        };
        return render(&page);
    }
    let grant = visit.authorize::<ReadAudit>(&state, &())?;
    let cursor = Some(args.cursor.as_str()).filter(|cursor| !cursor.is_empty());
    let request = PageRequest::new(Some(PAGE_ROWS), cursor).unwrap_or_else(|_| PageRequest::first(PAGE_ROWS));
    let query = AuditQuery { resource: Some(format!("topic/{name}")), ..AuditQuery::default() };
    let found = state.catalog.audit(&grant, &query, &request).await?;
    let here = format!("/topics/{name}/history");
    let page = HistoryPage {
        denied: None,
        entries: found.items.into_iter().map(entry).collect(),
        next: found.next.map(|cursor| format!("{here}?cursor={cursor}")),
        first: if args.cursor.is_empty() { String::new() } else { here },
        frame: visit.frame,
        head,
    };
    render(&page)
}

fn entry(entry: AuditEntry) -> Entry {
    let mut differences = json::differences(entry.before.as_ref(), entry.after.as_ref());
    differences.retain(|difference| !BOOKKEEPING.contains(&difference.path.as_str()));
    differences.truncate(DIFFERENCES_MAX);
    for difference in &mut differences {
        readable(difference);
    }
    if entry.action == VIEWED {
        differences.clear();
    }
    let token = if entry.via_token.is_some() { " with a token" } else { "" };
    Entry {
        sentence: format!("{}{token}", sentence(&entry.action, entry.after.as_ref())),
        actor: entry.actor,
        at: entry.at,
        differences,
    }
}

/// The action as what somebody did.
fn sentence(action: &str, after: Option<&Value>) -> String {
    match action {
        "topic.create" => "made the topic".to_owned(),
        "topic.update" => "changed the topic".to_owned(),
        "topic.delete" => "deleted the topic".to_owned(),
        "topic.restore" => "restored the topic".to_owned(),
        "topic.purge" => "purged the topic".to_owned(),
        "access.grant" | "access.create" => "gave access".to_owned(),
        "access.update" => "changed an access".to_owned(),
        "access.revoke" | "access.delete" => "took an access away".to_owned(),
        VIEWED => viewed(after),
        other => format!("did {other}"),
    }
}

/// How many events somebody looked at, and from where on.
fn viewed(after: Option<&Value>) -> String {
    let member = |name: &str| after.and_then(|after| after.get(name));
    let count = member("count").and_then(Value::as_i64).unwrap_or(0);
    let from = member("from").and_then(Value::as_str).unwrap_or_default();
    match count {
        0 => "opened the live view in the portal".to_owned(),
        1 => format!("looked at an event in the portal ({from})"),
        _ => format!("looked at {} events in the portal, from {from}", units::count(count)),
    }
}

/// Amounts as people read them.
fn readable(difference: &mut Difference) {
    let shown: fn(i64) -> String = match difference.path.as_str() {
        "retention_ms" => units::duration,
        "retention_bytes" => |bytes| units::bytes(bytes.unsigned_abs()),
        _ => return,
    };
    for side in [&mut difference.before, &mut difference.after] {
        if let Some(number) = side.as_deref().and_then(|text| text.parse().ok()) {
            *side = Some(shown(number));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_shows_what_it_was_before_and_leaves_the_bookkeeping_out() {
        let line = AuditEntry {
            id: 1,
            at: OffsetDateTime::UNIX_EPOCH,
            actor: "ada@example.com".to_owned(),
            via_token: None,
            action: "topic.update".to_owned(),
            resource: "topic/orders".to_owned(),
            before: Some(json!({"partitions": 3, "revision": 4, "retention_ms": null})),
            after: Some(json!({"partitions": 6, "revision": 9, "retention_ms": 604_800_000})),
            request_id: None,
            address: None,
        };
        let entry = entry(line);
        assert_eq!(entry.sentence, "changed the topic");
        assert_eq!(entry.differences.len(), 2);
        assert_eq!(entry.differences[1].after.as_deref(), Some("7 days"));
        assert_eq!(entry.differences[0].path, "partitions");
    }
}
