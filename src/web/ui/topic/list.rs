//! The list of topics: search, filters in the URL, pages by name.

use askama::Template;
use axum::extract::State;
use axum::http::HeaderValue;
use serde::Deserialize;
use time::OffsetDateTime;

use super::draft::word;
use super::figures;
use super::head::classification_kind;
use crate::catalog::TopicQuery;
use crate::catalog::model::{Classification, Topic, TopicState, Visibility};
use crate::catalog::page::PageRequest;
use crate::names::{AppName, TeamName};
use crate::web::auth::encode_query;
use crate::web::extract::Query;
use crate::web::page::{Frame, PageResult, render};
use crate::web::state::WebState;
use crate::web::ui::records::units;
use crate::web::visit::Visit;

/// Topics on one page.
const PAGE_ROWS: usize = 50;
/// Characters of a description in the list.
const SUMMARY_CHARS_MAX: usize = 140;

/// The classifications, as the filter offers them.
pub const CLASSIFICATIONS: [&str; 4] = ["public", "internal", "confidential", "restricted"];

/// The filters, as the URL has them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Filter {
    q: String,
    mine: String,
    app: String,
    team: String,
    classification: String,
    state: String,
    cursor: String,
}

impl Filter {
    /// The same list, of all teams or of one's own.
    fn scope_href(&self, mine: &str) -> String {
        Self { mine: mine.to_owned(), ..self.clone() }.href("")
    }

    /// The URL of a page of this list.
    fn href(&self, cursor: &str) -> String {
        let fields = [
            ("q", self.q.as_str()),
            ("mine", &self.mine),
            ("app", &self.app),
            ("team", &self.team),
            ("classification", &self.classification),
            ("state", &self.state),
            ("cursor", cursor),
        ];
        let pairs: Vec<_> = fields
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name}={}", encode_query(value)))
            .collect();
        if pairs.is_empty() { "/topics".to_owned() } else { format!("/topics?{}", pairs.join("&")) }
    }

    fn query(&self) -> TopicQuery {
        TopicQuery {
            q: Some(self.q.trim().to_owned()).filter(|q| !q.is_empty()),
            app: self.app.parse::<AppName>().ok(),
            team: self.team.parse::<TeamName>().ok(),
            classification: serde_json::from_value(self.classification.clone().into()).ok(),
            state: (self.state == "deleted").then_some(TopicState::Deleted),
            mine: !self.mine.is_empty(),
            ..TopicQuery::default()
        }
    }

    fn empty(&self) -> Empty {
        if !self.cursor.is_empty() {
            Empty::PageEnd
        } else if self.state == "deleted" && self.q.is_empty() {
            Empty::NoneDeleted
        } else if [&self.q, &self.app, &self.team, &self.classification].iter().any(|field| !field.is_empty()) {
            Empty::NoMatch
        } else if self.mine.is_empty() {
            Empty::Nothing
        } else {
            Empty::NoneOfMine
        }
    }
}

/// Why a list is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Empty {
    Nothing,
    NoneOfMine,
    NoneDeleted,
    NoMatch,
    PageEnd,
}

struct Row {
    name: String,
    summary: String,
    app: String,
    team: String,
    classification: String,
    classification_kind: &'static str,
    /// Not the usual classification, so it is worth showing.
    notable: bool,
    events: String,
    stored: String,
    visibility: &'static str,
    deleted_until: Option<OffsetDateTime>,
}

#[derive(Template)]
#[template(path = "topics/list.html")]
struct ListPage {
    frame: Frame,
    filter: Filter,
    rows: Vec<Row>,
    empty: Empty,
    next: Option<String>,
    first: String,
}

/// `GET /topics`
pub async fn page(State(state): State<WebState>, visit: Visit, Query(filter): Query<Filter>) -> PageResult {
    let grant = visit.reading(&state)?;
    let cursor = Some(filter.cursor.as_str()).filter(|cursor| !cursor.is_empty());
    // A cursor from elsewhere is no reason to show nothing.
    let request = PageRequest::new(Some(PAGE_ROWS), cursor).unwrap_or_else(|_| PageRequest::first(PAGE_ROWS));
    let found = state.catalog.topics(&grant, &filter.query(), &request);
    let rows = found.items.iter().map(|topic| row(&state, topic)).collect();
    let next = found.next.map(|cursor| filter.href(&cursor));
    let first = if filter.cursor.is_empty() { String::new() } else { filter.href("") };
    let here = filter.href(&filter.cursor);
    let htmx = visit.frame.htmx;
    let mut response = render(&ListPage { empty: filter.empty(), frame: visit.frame, filter, rows, next, first })?;
    if htmx && let Ok(here) = HeaderValue::try_from(here) {
        // What stands in the address bar is the filter without its empty fields.
        response.headers_mut().insert("hx-push-url", here);
    }
    Ok(response)
}

fn row(state: &WebState, topic: &Topic) -> Row {
    let figures = figures::of(state, topic);
    Row {
        name: topic.name.to_string(),
        summary: summary(&topic.description),
        app: topic.app.to_string(),
        team: topic.team.to_string(),
        classification: word(&topic.classification),
        classification_kind: classification_kind(topic.classification),
        notable: topic.classification != Classification::Internal,
        events: units::count(figures.events()),
        stored: units::bytes(figures.stored_bytes),
        visibility: match topic.visibility {
            Visibility::Company => "company",
            Visibility::Team => "team only",
        },
        deleted_until: topic.purge_after.filter(|_| topic.state == TopicState::Deleted),
    }
}

/// The first line of a description that says something, without the marks of Markdown.
fn summary(markdown: &str) -> String {
    let says = |line: &&str| line.chars().any(char::is_alphanumeric);
    let line = markdown.lines().map(str::trim).find(says).unwrap_or_default();
    let plain: String = line.chars().filter(|c| !matches!(c, '#' | '*' | '`' | '>' | '|')).collect();
    let plain = plain.trim();
    match plain.char_indices().nth(SUMMARY_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &plain[..at]),
        None => plain.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_stay_in_the_address() {
        let filter = Filter { q: "a b&c".to_owned(), mine: "1".to_owned(), ..Filter::default() };
        assert_eq!(filter.href("xyz"), "/topics?q=a%20b%26c&mine=1&cursor=xyz");
        assert_eq!(filter.scope_href(""), "/topics?q=a%20b%26c");
        assert_eq!(Filter::default().href(""), "/topics");
    }

    #[test]
    fn a_summary_is_the_first_line_that_says_something() {
        assert_eq!(summary("\n# **Orders** of `shop`\n\nmore"), "Orders of shop");
        assert_eq!(summary("---\n"), "");
        assert_eq!(summary(&"x".repeat(500)).chars().count(), SUMMARY_CHARS_MAX + 1);
    }

    #[test]
    fn an_empty_list_knows_why_it_is_empty() {
        let with = |q: &str, mine: &str, state: &str, cursor: &str| {
            let own = |text: &str| text.to_owned();
            Filter { q: own(q), mine: own(mine), state: own(state), cursor: own(cursor), ..Filter::default() }.empty()
        };
        assert_eq!(with("", "", "", ""), Empty::Nothing);
        assert_eq!(with("", "1", "", ""), Empty::NoneOfMine);
        assert_eq!(with("x", "1", "", ""), Empty::NoMatch);
        assert_eq!(with("", "", "deleted", ""), Empty::NoneDeleted);
        assert_eq!(with("x", "", "", "c"), Empty::PageEnd);
    }
}
