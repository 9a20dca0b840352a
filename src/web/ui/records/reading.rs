//! Reading a topic's records for a person: how rows are rendered, and that every look is in the audit.

use std::sync::Arc;

use askama::Template;
use time::OffsetDateTime;

use super::event::Event;
use super::snippets::Target;
use crate::catalog::access::{Actor, Consume};
use crate::gateway::{Position, ReadRequest};
use crate::names::TopicName;
use crate::web::page::{Frame, PageError};
use crate::web::state::WebState;

/// How the snippets read the token.
pub const TOKEN_VARIABLE: &str = "$WEIR_TOKEN";

/// One event as HTML. The record is foreign text: the template escapes it.
#[derive(Template)]
#[template(path = "topic/_event.html")]
struct EventRow<'a> {
    clock: &'a Frame,
    event: &'a Event,
    link: String,
    curl: String,
}

/// What is inside an event as HTML.
#[derive(Template)]
#[template(path = "topic/_event_body.html")]
struct EventBody<'a> {
    event: &'a Event,
    link: String,
    curl: String,
}

/// The page of one event.
#[must_use]
pub fn permalink(topic: &TopicName, partition: u32, offset: i64) -> String {
    format!("/topics/{topic}/p/{partition}/o/{offset}")
}

fn curl(frame: &Frame, topic: &TopicName, event: &Event) -> String {
    let target = Target { base_url: &frame.base_url, topic, app: None, token: TOKEN_VARIABLE };
    target.one(event.partition, event.offset)
}

/// An event as a row of a list.
pub fn row(frame: &Frame, topic: &TopicName, event: &Event) -> Result<String, PageError> {
    let link = permalink(topic, event.partition, event.offset);
    let row = EventRow { clock: frame, event, link, curl: curl(frame, topic, event) };
    Ok(row.render().map_err(|error| crate::web::error::internal(&error))?)
}

/// An event as the content of its own page.
pub fn body(frame: &Frame, topic: &TopicName, event: &Event) -> Result<String, PageError> {
    let link = permalink(topic, event.partition, event.offset);
    let body = EventBody { event, link, curl: curl(frame, topic, event) };
    Ok(body.render().map_err(|error| crate::web::error::internal(&error))?)
}

/// When the newest record was stored, for those who may read it. Nothing of its content is shown, so it is not audited.
pub async fn last_event(state: &WebState, actor: &Arc<Actor>, topic: &TopicName) -> Option<OffsetDateTime> {
    let grant = state.catalog.authorize::<Consume>(actor, topic).ok()?;
    let page = state.gateway.read(&[grant], ReadRequest::new(Position::Last(1), 1)).await.ok()?;
    page.records.iter().map(|record| record.timestamp.to_datetime()).max()
}
