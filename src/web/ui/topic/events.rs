//! The list of a topic's events, one event by its address, and sending one.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use bytes::Bytes;
use serde::Deserialize;
use time::PrimitiveDateTime;
use time::macros::format_description;

use super::coverage::{Look, Part, PartRow};
use super::head::{DeniedView, Head, Tab};
use crate::broker::record::{Record, ValueKind};
use crate::catalog::access::{Consume, Grant, Produce};
use crate::clock::Timestamp;
use crate::gateway::{LocateError, OnGap, Page, Position, ProduceOptions, ReadRequest, RecordError};
use crate::names::{Offset, TopicName};
use crate::web::auth::encode_query;
use crate::web::extract::{Path, Query};
use crate::web::form::Draft;
use crate::web::page::{Frame, PageError, PageResult, redirect, render, render_as};
use crate::web::problem::Problem;
use crate::web::state::WebState;
use crate::web::ui::records::event::{Event, LIST_VALUE_BYTES_MAX, PAGE_VALUE_BYTES_MAX};
use crate::web::ui::records::reading;
use crate::web::ui::records::units;
use crate::web::visit::Visit;

/// Events on a page that reads forward.
const PAGE_EVENTS: usize = 100;
/// Events looked at, from the end, for a key.
const KEY_SCAN_EVENTS: u32 = 10_000;
/// Events shown for a key.
const KEY_EVENTS_MAX: usize = 200;
/// Partitions offered in the filter.
const PARTITION_CHOICES_MAX: u32 = 256;
/// Longest value that the form sends; larger ones go by the API.
const VALUE_BYTES_MAX: usize = 128 * 1024;
/// Most headers that the form sends.
const HEADERS_MAX: usize = 32;

/// What to show, as the URL has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Filter {
    show: String,
    at: String,
    partition: String,
    key: String,
    /// A cursor: where "Continue" goes on.
    from: String,
    /// `partition:offset` of an event that was just sent.
    sent: String,
}

/// The ways to begin, as the form offers them.
const SHOWS: [(&str, &str); 7] = [
    ("", "Newest 50"),
    ("200", "Newest 200"),
    ("1h", "Last hour"),
    ("24h", "Last 24 hours"),
    ("time", "Since a time"),
    ("offset", "From an offset"),
    ("earliest", "From the beginning"),
];

impl Filter {
    fn shows(&self) -> &'static [(&'static str, &'static str)] {
        &SHOWS
    }

    fn at_hint(&self) -> &'static str {
        if self.show == "offset" { "Offset, like 1200" } else { "Time (UTC) or offset" }
    }

    fn is_partition(&self, number: &u32) -> bool {
        self.partition.parse() == Ok(*number)
    }

    fn partition(&self) -> Result<Option<u32>, String> {
        match self.partition.as_str() {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| "The partition is a number.".to_owned()),
        }
    }

    /// Where to begin, and whether the newest are wanted.
    fn position(&self, partitions: u32) -> Result<(Position, bool), String> {
        if !self.from.is_empty() {
            let position = self.from.parse::<Position>().map_err(|error| format!("{error}."))?;
            return Ok((position, false));
        }
        let keyed = !self.key.is_empty();
        let fixed = |text: &str| text.parse::<Position>().map_err(|error| format!("{error}."));
        match self.show.as_str() {
            "" if keyed => Ok((Position::Last(KEY_SCAN_EVENTS), true)),
            "" => Ok((Position::Last(50), true)),
            "200" => Ok((Position::Last(200), true)),
            "1h" => Ok((fixed("-1h")?, false)),
            "24h" => Ok((fixed("-24h")?, false)),
            "earliest" => Ok((Position::Earliest, false)),
            "time" => Ok((Position::At(moment(&self.at)?), false)),
            "offset" => self.offset(partitions).map(|position| (position, false)),
            _ => Err("Choose where to begin.".to_owned()),
        }
    }

    fn offset(&self, partitions: u32) -> Result<Position, String> {
        let partition = match self.partition()? {
            Some(partition) => partition,
            None if partitions == 1 => 0,
            None => return Err("An offset belongs to one partition: choose which.".to_owned()),
        };
        let offset: u64 = self.at.trim().parse().map_err(|_| "An offset is a whole number, like 1200.".to_owned())?;
        format!("{partition}:{offset}").parse().map_err(|_| "An offset is a whole number, like 1200.".to_owned())
    }

    fn request(&self, partitions: u32) -> Result<(ReadRequest, bool), String> {
        let (from, newest) = self.position(partitions)?;
        let records_max = match &from {
            Position::Last(count) if self.key.is_empty() => usize::try_from(*count).unwrap_or(PAGE_EVENTS),
            Position::Last(_) => usize::MAX,
            _ => PAGE_EVENTS,
        };
        let chosen = match (self.partition()?, self.show.as_str()) {
            (None, "offset") if self.from.is_empty() => Some(vec![0]),
            (chosen, _) => chosen.map(|partition| vec![partition]),
        };
        let key = Some(self.key.clone()).filter(|key| !key.is_empty()).map(Bytes::from);
        let request =
            ReadRequest { partitions: chosen, on_gap: OnGap::Skip, key, ..ReadRequest::new(from, records_max) };
        Ok((request, newest))
    }

    /// The same list from another position on.
    fn continued(&self, topic: &TopicName, cursor: &str) -> String {
        let mut href = format!("/topics/{topic}/events?from={}", encode_query(cursor));
        for (name, value) in [("partition", &self.partition), ("key", &self.key)] {
            if !value.is_empty() {
                href.push_str(&format!("&{name}={}", encode_query(value)));
            }
        }
        href
    }
}

/// A moment as people type it; without a zone it is UTC.
fn moment(text: &str) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Some(moment) = crate::gateway::position::parse_moment(text) {
        return Ok(moment);
    }
    let plain = text.replace('T', " ");
    let minutes = format_description!("[year]-[month]-[day] [hour]:[minute]");
    let seconds = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    let day = format!("{plain} 00:00");
    [(&plain, minutes), (&day, minutes)]
        .into_iter()
        .find_map(|(text, format)| PrimitiveDateTime::parse(text, format).ok())
        .or_else(|| PrimitiveDateTime::parse(&plain, seconds).ok())
        .map(|moment| Timestamp::from(moment.assume_utc()))
        .ok_or_else(|| "Give a time like 2026-11-22 13:05 (UTC) or 2026-11-22T13:05:00+01:00.".to_owned())
}

/// What the coverage line says.
#[derive(Default)]
struct CoverageView {
    sentence: String,
    next: Option<String>,
    parts: Vec<PartRow>,
    nothing_kept: bool,
}

/// Where a sent event went.
struct Sent {
    partition: u32,
    offset: i64,
}

#[derive(Template)]
#[template(path = "topic/events.html")]
struct EventsPage {
    frame: Frame,
    head: Head,
    denied: Option<DeniedView>,
    filter: Filter,
    problem: Option<String>,
    partitions: Vec<u32>,
    coverage: CoverageView,
    rows: Vec<String>,
    sent: Option<Sent>,
    send: Draft,
}

/// `GET /topics/{t}/events`
pub async fn page(
    State(state): State<WebState>,
    visit: Visit,
    Path(name): Path<TopicName>,
    Query(filter): Query<Filter>,
) -> PageResult {
    let page = load(&state, visit, &name, filter).await?;
    render(&page)
}

async fn load(state: &WebState, visit: Visit, name: &TopicName, filter: Filter) -> Result<EventsPage, PageError> {
    let head = Head::load(state, &visit, name, Tab::Events)?;
    let grant = visit.authorize::<Consume>(state, name);
    let mut page = EventsPage {
        partitions: (0..head.topic.partitions.min(PARTITION_CHOICES_MAX)).collect(),
        sent: sent(&filter.sent),
        send: blank(),
        denied: None,
        problem: None,
        coverage: CoverageView::default(),
        rows: Vec::new(),
        frame: visit.frame,
        head,
        filter,
    };
    let grant = match grant {
        Ok(grant) => grant,
        Err(denied) => {
            page.denied = Some(DeniedView::of(&state.catalog, &page.head, &denied));
            return Ok(page);
        }
    };
    if let Err(why) = fill(state, &grant, &mut page).await? {
        page.problem = Some(why);
    }
    Ok(page)
}

/// Reads what the filter asks for; the inner error is a sentence about the filter.
async fn fill(
    state: &WebState,
    grant: &Grant<Consume>,
    page: &mut EventsPage,
) -> Result<Result<(), String>, PageError> {
    let (request, newest) = match page.filter.request(page.head.topic.partitions) {
        Ok(request) => request,
        Err(why) => return Ok(Err(why)),
    };
    let mut read = match state.gateway.read(std::slice::from_ref(grant), request).await {
        Ok(read) => read,
        Err(error) => return located(error).map(Err),
    };
    let from = read.begin.cursor().to_string();
    let look = look(state, page, &read, newest);
    let name = &page.head.topic.name;
    if newest {
        read.records.reverse();
        read.records.truncate(if page.filter.key.is_empty() { usize::MAX } else { KEY_EVENTS_MAX });
    }
    if !read.records.is_empty() {
        state.catalog.record_view(grant, &from, read.records.len()).await?;
    }
    let rows = read
        .records
        .iter()
        .map(|record| reading::row(&page.frame, name, &Event::of_read(record, LIST_VALUE_BYTES_MAX)));
    page.rows = rows.collect::<Result<_, _>>()?;
    let cursor = read.next.cursor().to_string();
    page.coverage = CoverageView {
        sentence: look.sentence(),
        next: (look.left() > 0).then(|| page.filter.continued(name, &cursor)),
        parts: look.rows(),
        nothing_kept: look.nothing_kept(),
    };
    Ok(Ok(()))
}

/// A position that does not fit is said beside the filter; what is broken becomes a page of its own.
fn located(error: LocateError) -> Result<String, PageError> {
    match error {
        LocateError::Engine(_) | LocateError::TooManyPartitions(_) | LocateError::CursorTooLong { .. } => {
            Err(PageError::from(Problem::from(error)))
        }
        other => Ok(format!("{}.", capital(&other.to_string()))),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn look(state: &WebState, page: &EventsPage, read: &Page, newest: bool) -> Look {
    let bounds = state.gateway.bounds(&page.head.topic).unwrap_or_default();
    let part = |slot| {
        let (from, to) = (read.begin.place(slot), read.next.place(slot));
        let kept = bounds.get(usize::try_from(to.partition).unwrap_or(usize::MAX)).copied()?;
        Some(Part { partition: to.partition, kept, from: from.next.0, to: to.next.0 })
    };
    Look {
        parts: read.next.slots().filter_map(part).collect(),
        found: read.records.len(),
        newest,
        key: Some(page.filter.key.clone()).filter(|key| !key.is_empty()),
        missing: read.gaps.iter().map(|gap| gap.resumed_at.0 - gap.missing_from.0).sum(),
    }
}

fn sent(text: &str) -> Option<Sent> {
    let (partition, offset) = text.split_once(':')?;
    Some(Sent { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
}

fn blank() -> Draft {
    Draft::new().with("value", "{\"hello\": \"world\"}").with("kind", "json")
}

/// `POST /topics/{t}/events`: sends one event.
pub async fn send(
    State(state): State<WebState>,
    visit: Visit,
    Path(name): Path<TopicName>,
    mut draft: Draft,
) -> PageResult {
    let grant = visit.authorize::<Produce>(&state, &name)?;
    let sent = match record(&mut draft) {
        Some((record, kind)) => state.gateway.produce(&grant, vec![record], kind, ProduceOptions::default()).await,
        None => return again(&state, visit, &name, draft, StatusCode::UNPROCESSABLE_ENTITY).await,
    };
    match sent {
        Ok(produced) => {
            let place = produced.appended.first().map(|run| format!("{}:{}", run.to.partition, run.first));
            let place = place.unwrap_or_default();
            redirect(format!("/topics/{name}/events?sent={place}#send")).into()
        }
        Err(error) => {
            let status = draft.take(error)?;
            again(&state, visit, &name, draft, status).await
        }
    }
}

async fn again(state: &WebState, visit: Visit, name: &TopicName, draft: Draft, status: StatusCode) -> PageResult {
    let mut page = load(state, visit, name, Filter::default()).await?;
    page.send = draft;
    render_as(status, &page)
}

/// The record the form describes; otherwise the fields that are wrong are marked.
fn record(form: &mut Draft) -> Option<(Record, ValueKind)> {
    let text = form.value("value").to_owned();
    if text.len() > VALUE_BYTES_MAX {
        form.wrong("value", format!("At most {}; send larger values with curl.", units::bytes(VALUE_BYTES_MAX as u64)));
    }
    let kind = if form.value("kind") == "text" { ValueKind::Bytes } else { ValueKind::Json };
    if kind == ValueKind::Json
        && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&text)
    {
        form.wrong("value", format!("This is not JSON: {error}."));
    }
    let headers = headers(form);
    let key = Some(form.value("key").to_owned()).filter(|key| !key.is_empty()).map(Bytes::from);
    if !form.sound() {
        return None;
    }
    // Line ends lie outside of JSON's strings, and a stored JSON value is one line.
    let value =
        if kind == ValueKind::Json { text.trim().replace(['\r', '\n'], " ") } else { text.replace("\r\n", "\n") };
    Some((Record { key, value: Some(Bytes::from(value)), headers: headers?, timestamp: None }, kind))
}

fn headers(form: &mut Draft) -> Option<Vec<(String, Option<Bytes>)>> {
    let mut headers = Vec::new();
    for line in form.value("headers").lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.split_once(':').map(|(name, value)| (name.trim(), value.trim())) {
            Some((name, value)) if !name.is_empty() => {
                headers.push((name.to_owned(), Some(Bytes::copy_from_slice(value.as_bytes()))));
            }
            _ => {
                form.wrong("headers", "One header a line, like `source: portal`.");
                return None;
            }
        }
    }
    if headers.len() > HEADERS_MAX {
        form.wrong("headers", format!("At most {HEADERS_MAX} headers."));
        return None;
    }
    Some(headers)
}

#[derive(Template)]
#[template(path = "topic/record.html")]
struct RecordPage {
    frame: Frame,
    head: Head,
    denied: Option<DeniedView>,
    partition: u32,
    offset: i64,
    record: Option<String>,
    missing: String,
    previous: Option<String>,
    next: Option<String>,
}

/// `GET /topics/{t}/p/{p}/o/{o}`
pub async fn one(
    State(state): State<WebState>,
    visit: Visit,
    Path((name, partition, offset)): Path<(TopicName, u32, i64)>,
) -> PageResult {
    let head = Head::load(&state, &visit, &name, Tab::Events)?;
    let bounds = state.gateway.bounds(&head.topic).unwrap_or_default();
    let kept = bounds.get(usize::try_from(partition).unwrap_or(usize::MAX)).copied();
    let link = |offset: i64| {
        kept.filter(|kept| (kept.start.0..kept.end.0).contains(&offset))
            .map(|_| reading::permalink(&name, partition, offset))
    };
    let grant = visit.authorize::<Consume>(&state, &name);
    let mut page = RecordPage {
        denied: None,
        partition,
        offset,
        record: None,
        missing: String::new(),
        previous: offset.checked_sub(1).and_then(link),
        next: offset.checked_add(1).and_then(link),
        frame: visit.frame,
        head,
    };
    let grant = match grant {
        Ok(grant) => grant,
        Err(denied) => {
            page.denied = Some(DeniedView::of(&state.catalog, &page.head, &denied));
            return render(&page);
        }
    };
    match state.gateway.record(&grant, partition, Offset(offset)).await {
        Ok(record) => {
            state.catalog.record_view(&grant, &format!("{partition}:{offset}"), 1).await?;
            page.record = Some(reading::body(&page.frame, &name, &Event::of_read(&record, PAGE_VALUE_BYTES_MAX))?);
            render(&page)
        }
        Err(error) => {
            page.missing = missing(error)?;
            render_as(StatusCode::NOT_FOUND, &page)
        }
    }
}

/// Why there is no event at an address, in words.
fn missing(error: RecordError) -> Result<String, PageError> {
    Ok(match error {
        RecordError::NoRecord => {
            "It was here, but a later event with the same key replaced it: this topic keeps the last of each key."
                .to_owned()
        }
        RecordError::Locate(LocateError::Expired { gap, .. }) => {
            format!(
                "Retention has removed it. The first event this partition still keeps has the offset {}.",
                gap.resumed_at
            )
        }
        RecordError::Locate(LocateError::Ahead { end, .. }) => {
            format!("Nobody has written that far. The next event of this partition will get the offset {end}.")
        }
        RecordError::Locate(error) => located(error)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(show: &str, at: &str) -> Filter {
        Filter { show: show.to_owned(), at: at.to_owned(), ..Filter::default() }
    }

    #[test]
    fn the_newest_come_first_unless_a_beginning_is_chosen() {
        assert_eq!(filter("", "").position(3), Ok((Position::Last(50), true)));
        assert_eq!(filter("earliest", "").position(3), Ok((Position::Earliest, false)));
        let keyed = Filter { key: "o-1".to_owned(), ..Filter::default() };
        assert_eq!(keyed.position(3), Ok((Position::Last(KEY_SCAN_EVENTS), true)));
    }

    #[test]
    fn an_offset_needs_a_partition_unless_there_is_only_one() {
        assert!(filter("offset", "12").position(3).is_err_and(|why| why.contains("choose which")));
        assert_eq!(filter("offset", "12").position(1).map(|found| found.1), Ok(false));
        assert!(filter("offset", "-1").position(1).is_err());
    }

    #[test]
    fn times_are_taken_as_people_write_them() {
        let noon = Timestamp(1_795_348_800_000);
        assert_eq!(noon.to_datetime().unix_timestamp() % 3600, 0);
        let same = [noon.to_datetime()];
        for text in ["2026-11-22 12:00", "2026-11-22T12:00", "2026-11-22 12:00:00", "2026-11-22T13:00:00+01:00"] {
            assert_eq!(moment(text).map(Timestamp::to_datetime), Ok(same[0]), "{text}");
        }
        assert_eq!(moment("2026-11-22").map(|day| day.to_datetime().hour()), Ok(0));
        assert!(moment("yesterday").is_err());
    }

    #[test]
    fn a_form_becomes_a_record() {
        let mut form =
            Draft::new().with("value", "{\r\n \"a\": 1\r\n}").with("key", "k").with("headers", "a: b:c\n\n x:y ");
        let (record, kind) = record(&mut form).expect("the form is sound");
        assert_eq!(kind, ValueKind::Json);
        assert_eq!(record.value.as_deref(), Some(&b"{   \"a\": 1  }"[..]));
        assert_eq!(record.headers.len(), 2);
        assert_eq!(record.headers[0].1.as_deref(), Some(&b"b:c"[..]));
    }

    #[test]
    fn what_is_not_json_is_said_at_the_field() {
        let mut form = Draft::new().with("value", "{a").with("headers", "nonsense");
        assert!(record(&mut form).is_none());
        assert!(form.error("value").is_some() && form.error("headers").is_some());
    }

    #[test]
    fn the_filters_stay_when_one_continues() {
        let name = "orders".parse().expect("a topic name");
        let filter = Filter { key: "a&b".to_owned(), partition: "2".to_owned(), ..Filter::default() };
        assert_eq!(
            filter.continued(&name, "orders@7f3a/2:9"),
            "/topics/orders/events?from=orders%407f3a/2%3A9&partition=2&key=a%26b"
        );
    }
}
