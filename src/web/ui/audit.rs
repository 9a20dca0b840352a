//! The audit: who changed what, as far as it concerns the person.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use time::format_description::well_known::Iso8601;
use time::{Date, OffsetDateTime, Time};

use crate::catalog::AuditQuery;
use crate::catalog::access::{AuditSight, ReadAudit};
use crate::catalog::model::AuditEntry;
use crate::web::form::Filters;
use crate::web::page::{Frame, PageResult, render};
use crate::web::state::WebState;
use crate::web::visit::Visit;

/// Lines on one page.
const LINES_PER_PAGE: usize = 50;
/// Kinds of changes that can be filtered by.
const KINDS: &[(&str, &str)] = &[
    ("topic.*", "Topics"),
    ("app.*", "Applications"),
    ("access.*", "Access"),
    ("token.*", "Tokens"),
    ("team.*", "Teams"),
    ("user.*", "People"),
];

pub fn router() -> Router<WebState> {
    Router::new().route("/audit", get(show))
}

#[derive(Template)]
#[template(path = "audit/page.html")]
struct AuditPage {
    frame: Frame,
    filters: Filters,
    entries: Vec<AuditEntry>,
    kinds: &'static [(&'static str, &'static str)],
    everything: bool,
    next: Option<String>,
    first: String,
}

async fn show(State(state): State<WebState>, visit: Visit, filters: Filters) -> PageResult {
    let grant = visit.authorize::<ReadAudit>(&state, &())?;
    let text = |name: &str| filters.0.text(name).map(str::to_owned);
    let query = AuditQuery {
        actor: text("actor"),
        app: filters.0.text("app").and_then(|name| name.parse().ok()),
        resource: text("resource"),
        action: text("action"),
        since: filters.0.text("since").and_then(midnight),
        until: filters.0.text("until").and_then(midnight).map(|day| day + time::Duration::DAY),
    };
    let page = state.catalog.audit(&grant, &query, &filters.page(LINES_PER_PAGE)?).await?;
    let everything = *grant.resource() == AuditSight::Everything;
    let (next, first) = (filters.next("/audit", page.next.as_deref()), filters.first("/audit"));
    render(&AuditPage { frame: visit.frame, filters, entries: page.items, kinds: KINDS, everything, next, first })
}

/// The first moment of a day such as `2026-11-22`, in UTC.
fn midnight(day: &str) -> Option<OffsetDateTime> {
    Some(Date::parse(day, &Iso8601::DATE).ok()?.with_time(Time::MIDNIGHT).assume_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_days_in_utc() {
        assert_eq!(midnight("2026-11-22"), Some(time::macros::datetime!(2026-11-22 00:00 UTC)));
        assert_eq!(midnight("yesterday"), None);
    }
}
