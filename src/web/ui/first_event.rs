//! The first event in sixty seconds: one page with four ticks. Name an application; a sandbox topic comes with it; two
//! commands with a live token filled in; and beside them a pane that turns green when the event arrives.

use std::convert::Infallible;
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;

use super::records::event::{Event, LIST_VALUE_BYTES_MAX};
use super::records::fragments::{answer, ended, refused, unnamed};
use super::records::reading;
use super::records::snippets::Target;
use crate::broker::record::{Record, ValueKind};
use crate::catalog::View;
use crate::catalog::access::{
    AppTarget, Consume, ManageAppTokens, ManageTopic, Produce, PutApp, PutTeam, PutTopic, TopicTarget,
};
use crate::catalog::model::{AppSpec, Scope, Secret, TeamSpec, TokenSpec, Topic, TopicSpec};
use crate::catalog::put::Precondition;
use crate::gateway::{self, EndReason, Position, ProduceOptions, Records, SubscribeRequest, Subscription};
use crate::names::{AppName, TeamName, TopicName};
use crate::web::extract::Query;
use crate::web::form::Draft;
use crate::web::page::{Frame, PageResult, redirect, render, render_as, render_secret};
use crate::web::problem::{Code, FieldError, Problem};
use crate::web::state::WebState;
use crate::web::visit::Visit;

/// How long the sandbox keeps events.
const RETENTION_MS: i64 = 24 * 60 * 60 * 1000;
/// How long the token in the commands works.
const TOKEN_LIFE: time::Duration = time::Duration::hours(24);
/// Names tried before giving up: `sandbox.ada.hello`, `sandbox.ada-2.hello`, …
const NAMES_TRIED: usize = 50;
/// Silence after which a comment is sent.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// What the ready-made command sends.
const HELLO: &str = r#"{"hello":"world"}"#;

/// The routes of this screen.
pub fn router() -> Router<WebState> {
    Router::new()
        .route("/start", get(page).post(begin))
        .route("/start/send", post(send))
        .route("/ui/start/tail", get(tail))
}

/// The sandbox, once it exists.
struct Sandbox {
    app: AppName,
    topic: TopicName,
    /// The commands, with the token in them; only in the answer that made it.
    commands: Option<Commands>,
    /// Where the pane listens.
    tail: String,
    /// The topic form, prefilled.
    real: String,
}

struct Commands {
    follow: String,
    send: String,
}

#[derive(Template)]
#[template(path = "first_event/page.html")]
struct StartPage {
    frame: Frame,
    form: Draft,
    sandbox: Option<Sandbox>,
    /// The team that will be made on the way.
    new_team: Option<String>,
}

/// `GET /start`
async fn page(State(state): State<WebState>, visit: Visit) -> PageResult {
    let sandbox = existing(&state, &visit).map(|topic| sandbox(&topic, None, &visit.frame));
    let form = Draft::new().with("app", suggested_app(&state, &visit)).focused("app");
    render(&StartPage { form, sandbox, new_team: new_team(&state, &visit), frame: visit.frame })
}

/// `POST /start`: makes what is missing, and a token.
async fn begin(State(state): State<WebState>, visit: Visit, mut form: Draft) -> PageResult {
    let Some(app) = form.parse::<AppName>("app") else {
        return again(&state, visit, form, StatusCode::UNPROCESSABLE_ENTITY);
    };
    match make(&state, &visit, &app).await {
        Ok((topic, secret)) => {
            let sandbox = sandbox(&topic, Some(&secret), &visit.frame);
            render_secret(&StartPage { form, sandbox: Some(sandbox), new_team: None, frame: visit.frame })
        }
        Err(problem) => {
            let status = form.take(problem)?;
            again(&state, visit, form, status)
        }
    }
}

fn again(state: &WebState, visit: Visit, form: Draft, status: StatusCode) -> PageResult {
    let new_team = new_team(state, &visit);
    render_as(status, &StartPage { form, sandbox: None, new_team, frame: visit.frame })
}

fn sandbox(topic: &Topic, secret: Option<&Secret>, frame: &Frame) -> Sandbox {
    let name = &topic.name;
    let commands = secret.map(|secret| {
        let target = Target { base_url: &frame.base_url, topic: name, app: Some(&topic.app), token: secret.expose() };
        Commands { follow: target.tail(), send: target.produce(HELLO) }
    });
    Sandbox {
        commands,
        tail: format!("/ui/start/tail?topic={name}"),
        real: format!("/topics/new?app={app}&name={app}.events", app = topic.app),
        app: topic.app.clone(),
        topic: name.clone(),
    }
}

/// The person as a part of names: the beginning of the e-mail address, as far as it is legal.
fn slug(email: &str) -> String {
    let local = email.split('@').next().unwrap_or_default();
    let legal = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let mapped: String = local.to_lowercase().chars().take(30).map(legal).collect();
    let parts: Vec<_> = mapped.split('-').filter(|part| !part.is_empty()).collect();
    let slug = parts.join("-");
    let begins_well = slug.starts_with(|c: char| c.is_ascii_lowercase());
    if begins_well && slug.len() >= 2 { slug } else { format!("u-{slug}").trim_end_matches('-').to_owned() }
}

/// `base`, `base-2`, `base-3`, …: the first that is free.
fn free<N: std::str::FromStr>(base: impl Fn(&str) -> String, taken: impl Fn(&N) -> bool) -> Option<N> {
    let suffix = |n: usize| if n == 1 { String::new() } else { format!("-{n}") };
    (1..=NAMES_TRIED).find_map(|n| base(&suffix(n)).parse().ok().filter(|name| !taken(name)))
}

/// An application of one's own to try things with: the production ones are left alone.
fn suggested_app(state: &WebState, visit: &Visit) -> String {
    let view = state.catalog.view();
    let slug = slug(visit.user.email.as_str());
    let others = |name: &AppName| view.app(name).is_some_and(|app| view.role(visit.user.id, app.team_id).is_none());
    let name = free(|suffix| format!("{slug}-app{suffix}"), others);
    name.map(|name| name.to_string()).unwrap_or_default()
}

/// The team that has to be made, if the person is in none.
fn new_team(state: &WebState, visit: &Visit) -> Option<String> {
    if !state.catalog.teams_of(&visit.actor).is_empty() {
        return None;
    }
    free_team(&state.catalog.view(), visit).map(|team| team.to_string())
}

fn free_team(view: &View, visit: &Visit) -> Option<TeamName> {
    let slug = slug(visit.user.email.as_str());
    free(|suffix| format!("{slug}{suffix}"), |name| view.team(name).is_some())
}

/// The person's sandbox topic, if there is one that the person may use.
fn existing(state: &WebState, visit: &Visit) -> Option<Topic> {
    let slug = slug(visit.user.email.as_str());
    let view = state.catalog.view();
    (1..=NAMES_TRIED)
        .map_while(|n| {
            let name = topic_name(&slug, n)?;
            view.topic(&name).map(|_| name)
        })
        .find_map(|name| {
            let grant = visit.authorize::<Consume>(state, &name).ok()?;
            visit.may::<ManageTopic>(state, &name).then(|| Topic::clone(grant.resource()))
        })
}

fn topic_name(slug: &str, n: usize) -> Option<TopicName> {
    let suffix = if n == 1 { String::new() } else { format!("-{n}") };
    format!("sandbox.{slug}{suffix}.hello").parse().ok()
}

/// Team, application, topic and token, as far as they are missing. Every step can be repeated.
async fn make(state: &WebState, visit: &Visit, app: &AppName) -> Result<(Topic, Secret), Problem> {
    let app = make_app(state, visit, app).await?;
    let topic = match existing(state, visit).filter(|topic| topic.app == app) {
        Some(topic) => topic,
        None => make_topic(state, visit, &app).await?,
    };
    let grant = visit.authorize::<ManageAppTokens>(state, &app)?;
    let spec = TokenSpec {
        name: "first event".to_owned(),
        scopes: vec![Scope::RecordsProduce, Scope::RecordsConsume],
        topics: vec![topic.name.to_string()],
        expires_at: Some(visit.frame.now + TOKEN_LIFE),
    };
    let mut tx = state.catalog.begin(&visit.actor).await?;
    let (_, secret) = tx.create_app_token(&grant, &spec).await?;
    tx.commit().await?;
    Ok((topic, secret))
}

async fn make_app(state: &WebState, visit: &Visit, name: &AppName) -> Result<AppName, Problem> {
    let teams = state.catalog.teams_of(&visit.actor);
    if let Some(app) = state.catalog.view().app(name) {
        if teams.iter().any(|(team, _)| team.id == app.team_id) {
            return Ok(app.name.clone());
        }
        let detail = format!("{name} belongs to the team {}; choose another name.", app.team);
        let error = FieldError { item: None, pointer: "/app".to_owned(), detail: detail.clone() };
        return Err(Problem::new(Code::ValidationFailed, detail).error(error));
    }
    let team = match teams.first() {
        Some((team, _)) => team.name.clone(),
        None => make_team(state, visit).await?,
    };
    let grant = visit.authorize::<PutApp>(state, &AppTarget { name: name.clone(), team: team.clone() })?;
    let spec = AppSpec { owners: vec![visit.user.email.clone()], ..AppSpec::new(team) };
    let mut tx = state.catalog.begin(&visit.actor).await?;
    tx.put_app(&grant, &spec, Precondition::IfNoneMatchAny).await?;
    tx.commit().await?;
    Ok(name.clone())
}

async fn make_team(state: &WebState, visit: &Visit) -> Result<TeamName, Problem> {
    let none = || Problem::new(Code::Conflict, "Every name for a team of yours is taken. Make a team first.");
    let name = free_team(&state.catalog.view(), visit).ok_or_else(none)?;
    let grant = visit.authorize::<PutTeam>(state, &name)?;
    let mut tx = state.catalog.begin(&visit.actor).await?;
    tx.put_team(&grant, &TeamSpec::default(), Precondition::IfNoneMatchAny).await?;
    tx.commit().await?;
    Ok(name)
}

async fn make_topic(state: &WebState, visit: &Visit, app: &AppName) -> Result<Topic, Problem> {
    let view = state.catalog.view();
    let slug = slug(visit.user.email.as_str());
    let none = || Problem::new(Code::Conflict, "Every name for a sandbox of yours is taken.");
    let name = free(|suffix| format!("sandbox.{slug}{suffix}.hello"), |name| view.topic(name).is_some());
    let name: TopicName = name.ok_or_else(none)?;
    let spec = TopicSpec {
        description: "A sandbox for trying things out. Events are kept for a day.".to_owned(),
        partitions: 1,
        retention_ms: Some(RETENTION_MS),
        ..TopicSpec::new(app.clone())
    };
    let grant = visit.authorize::<PutTopic>(state, &TopicTarget { name, app: app.clone() })?;
    let mut tx = state.catalog.begin(&visit.actor).await?;
    let put = tx.put_topic(&grant, &spec, Precondition::IfNoneMatchAny).await?;
    tx.commit().await?;
    if let Err(error) = state.provision.ensure(&put.value).await {
        tracing::warn!(%error, "the log does not hold a sandbox yet");
    }
    Ok(put.value)
}

/// `POST /start/send`: the event without a terminal.
async fn send(State(state): State<WebState>, visit: Visit, mut form: Draft) -> PageResult {
    let Some(name) = form.parse::<TopicName>("topic") else {
        return Err(Problem::new(Code::ValidationFailed, "Which topic?").into());
    };
    let grant = visit.authorize::<Produce>(&state, &name)?;
    let value = Some(Bytes::from_static(HELLO.as_bytes()));
    let records = vec![Record { value, ..Record::default() }];
    state.gateway.produce(&grant, records, ValueKind::Json, ProduceOptions::default()).await?;
    if visit.frame.htmx {
        // The pane shows it.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    redirect(format!("/topics/{name}/events")).into()
}

/// Which topic the pane listens to.
#[derive(Debug, Deserialize)]
struct TailArgs {
    topic: TopicName,
}

/// `GET /ui/start/tail`: the pane.
async fn tail(State(state): State<WebState>, visit: Result<Visit, Response>, Query(args): Query<TailArgs>) -> Response {
    let Ok(visit) = visit else { return refused(EndReason::SessionExpired) };
    let grant = match visit.authorize::<Consume>(&state, &args.topic) {
        Ok(grant) => grant,
        Err(denied) => return refused(EndReason::from(&denied)),
    };
    if state.catalog.record_view(&grant, "latest", 0).await.is_err() {
        return refused(EndReason::Draining);
    }
    let session = Some(visit.session_use);
    let request = SubscribeRequest { session, ..SubscribeRequest::new(grant, Position::Latest) };
    match state.gateway.subscribe(request, &state.shutdown.token).await {
        Ok(subscription) => {
            let pane = Pane { state, topic: args.topic, subscription, done: false };
            answer(Body::from_stream(stream::unfold(pane, Pane::step)))
        }
        Err(_) => refused(EndReason::TooManyStreams),
    }
}

/// What arrived, as the pane shows it.
#[derive(Template)]
#[template(path = "first_event/_arrived.html")]
struct Arrived<'a> {
    event: &'a Event,
    topic: &'a TopicName,
    link: String,
    /// From being stored to being sent to the browser.
    latency_ms: i64,
}

struct Pane {
    state: WebState,
    topic: TopicName,
    subscription: Subscription,
    done: bool,
}

impl Pane {
    async fn step(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if self.done {
            return None;
        }
        let text = match tokio::time::timeout(HEARTBEAT, self.subscription.next()).await {
            Ok(gateway::Event::Records(records)) => self.arrived(&records),
            Ok(gateway::Event::End(end)) => {
                self.done = true;
                ended(end.reason, Some(&self.cursor()))
            }
            Ok(_) | Err(_) => ": hb\n\n".to_owned(),
        };
        Some((Ok(Bytes::from(text)), self))
    }

    fn cursor(&self) -> String {
        self.subscription.places().cursor().to_string()
    }

    /// The newest record of what arrived.
    fn arrived(&self, records: &Records) -> String {
        let Some((_, record)) = records.iter().last() else { return String::new() };
        let event = Event::of_view(records.partition, &record, LIST_VALUE_BYTES_MAX);
        let latency_ms = (self.state.clock.now().0 - event.timestamp.0).max(0);
        let link = reading::permalink(&self.topic, event.partition, event.offset);
        let html = Arrived { event: &event, topic: &self.topic, link, latency_ms }.render();
        unnamed(&self.cursor(), &html.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_becomes_a_legal_part_of_a_name() {
        for (email, part) in [
            ("ada@example.com", "ada"),
            ("Ada.Lovelace+x@example.com", "ada-lovelace-x"),
            ("1@example.com", "u-1"),
            ("a@example.com", "u-a"),
            ("élan@example.com", "lan"),
            ("___@example.com", "u"),
        ] {
            assert_eq!(slug(email), part, "{email}");
            assert!(topic_name(&slug(email), 2).is_some());
        }
    }

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        let taken = |name: &TeamName| name.as_str() == "ada" || name.as_str() == "ada-2";
        let name: Option<TeamName> = free(|suffix| format!("ada{suffix}"), taken);
        assert_eq!(name.map(|name| name.to_string()).as_deref(), Some("ada-3"));
    }
}
