//! Who may do what with a topic: the list, giving and taking, and why an application may or may not.

use std::collections::BTreeSet;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use time::{Duration, OffsetDateTime};

use super::explain::{self, Verdict};
use super::head::{Head, Tab};
use super::quality;
use crate::catalog::AppQuery;
use crate::catalog::access::{SharePrefix, ShareTopic};
use crate::catalog::model::{AccessGrant, GrantTarget, Operation};
use crate::catalog::page::PageRequest;
use crate::catalog::put::Precondition;
use crate::names::{AppName, TopicName, TopicPrefix};
use crate::web::auth::encode_query;
use crate::web::extract::{Path, Query};
use crate::web::form::Draft;
use crate::web::page::{Flash, Frame, PageError, PageResult, redirect, render, render_as};
use crate::web::problem::{Code, FieldError, Problem};
use crate::web::state::WebState;
use crate::web::visit::Visit;

/// Applications offered while typing.
const APP_NAMES_MAX: usize = 1000;

/// A grant as a row.
struct GrantRow {
    app: String,
    team: Option<String>,
    operations: String,
    prefix: Option<String>,
    granted_by: String,
    since: OffsetDateTime,
    expires_at: Option<OffsetDateTime>,
    expired: bool,
}

#[derive(Template)]
#[template(path = "topic/access.html")]
struct AccessPage {
    frame: Frame,
    head: Head,
    grants: Vec<GrantRow>,
    form: Draft,
    app_names: Vec<String>,
    prefixes: Vec<String>,
    explain_app: String,
    explain_refused: Option<String>,
    verdicts: Vec<Verdict>,
}

/// The application to explain.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Args {
    app: String,
}

/// `GET /topics/{t}/access`
pub async fn page(
    State(state): State<WebState>,
    visit: Visit,
    Path(name): Path<TopicName>,
    Query(args): Query<Args>,
) -> PageResult {
    let form = Draft::new().with("operation", "consume");
    render(&load(&state, visit, &name, form, args.app)?)
}

fn load(
    state: &WebState,
    visit: Visit,
    name: &TopicName,
    form: Draft,
    explain_app: String,
) -> Result<AccessPage, PageError> {
    let head = Head::load(state, &visit, name, Tab::Access)?;
    let now = visit.frame.now;
    let view = state.catalog.view();
    let row = |grant: &AccessGrant| GrantRow {
        app: grant.app.to_string(),
        team: view.app(&grant.app).map(|app| app.team.to_string()),
        operations: operations(&grant.operations),
        prefix: prefix_of(grant),
        granted_by: grant.granted_by.clone(),
        since: grant.since,
        expires_at: grant.expires_at,
        expired: grant.expires_at.is_some_and(|end| end <= now),
    };
    let grants = head.grants.iter().map(row).collect();
    let (verdicts, explain_refused) = explained(state, &head, &explain_app, now);
    let apps = state.catalog.apps(&head.reader, &AppQuery::default(), &PageRequest::first(APP_NAMES_MAX));
    let app_names =
        apps.items.iter().filter(|app| app.id != head.topic.app_id).map(|app| app.name.to_string()).collect();
    Ok(AccessPage {
        grants,
        form,
        app_names,
        prefixes: prefixes(name),
        explain_app,
        explain_refused,
        verdicts,
        frame: visit.frame,
        head,
    })
}

fn explained(state: &WebState, head: &Head, app: &str, now: OffsetDateTime) -> (Vec<Verdict>, Option<String>) {
    if app.is_empty() {
        return (Vec::new(), None);
    }
    let found = app.parse::<AppName>().ok().and_then(|name| state.catalog.app(&head.reader, &name).ok());
    match found {
        Some(app) => (explain::verdicts(&state.catalog, &app, &head.topic, &head.grants, now), None),
        None => (Vec::new(), Some(format!("There is no application {app}."))),
    }
}

/// `produce and consume`
fn operations(operations: &[Operation]) -> String {
    let words: Vec<_> = operations.iter().map(|operation| quality::operation(*operation)).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => words.join(""),
    }
}

fn prefix_of(grant: &AccessGrant) -> Option<String> {
    match &grant.target {
        GrantTarget::Topic(_) => None,
        GrantTarget::Prefix { prefix, .. } => Some(prefix.to_string()),
    }
}

/// The beginnings of a name that end at a separator: `a.b.c` has `a.` and `a.b.`.
fn prefixes(name: &TopicName) -> Vec<String> {
    let text = name.as_str();
    let ends: BTreeSet<_> = text.match_indices(['.', '-', '_']).map(|(at, separator)| at + separator.len()).collect();
    ends.into_iter().filter(|end| *end < text.len()).map(|end| text[..end].to_owned()).collect()
}

/// The choice as the form shows it.
#[must_use]
pub fn prefix_label(prefix: &str) -> String {
    format!("every topic {prefix}*, future ones too")
}

/// A grant as a form or a link describes it.
struct Wanted {
    app: AppName,
    operations: Vec<Operation>,
    expires_at: Option<OffsetDateTime>,
    prefix: Option<TopicPrefix>,
}

/// `POST /topics/{t}/access`
pub async fn give(
    State(state): State<WebState>,
    visit: Visit,
    Path(name): Path<TopicName>,
    mut form: Draft,
) -> PageResult {
    let Some(wanted) = wanted(&mut form, visit.frame.now) else {
        return render_as(StatusCode::UNPROCESSABLE_ENTITY, &load(&state, visit, &name, form, String::new())?);
    };
    match put(&state, &visit, &name, &wanted).await {
        Ok(()) => {
            let may = operations(&wanted.operations);
            let undo = revoke_path(&name, &wanted.app, wanted.prefix.as_ref());
            let flash = Flash::ok(format!("{} may now {may}.", wanted.app)).undo(undo);
            redirect(format!("/topics/{name}/access")).say(flash).into()
        }
        Err(problem) => {
            let status = form.take(at_the_app(problem))?;
            render_as(status, &load(&state, visit, &name, form, String::new())?)
        }
    }
}

/// An unknown application is wrong where it was typed.
fn at_the_app(problem: Problem) -> Problem {
    if problem.code != Code::NotFound {
        return problem;
    }
    let error = FieldError { item: None, pointer: "/app".to_owned(), detail: problem.detail.clone() };
    Problem::new(Code::ValidationFailed, problem.detail).error(error)
}

fn wanted(form: &mut Draft, now: OffsetDateTime) -> Option<Wanted> {
    let app = form.parse::<AppName>("app");
    let mut operations: Vec<_> = form.values("operation").filter_map(operation).collect();
    operations.sort_unstable();
    operations.dedup();
    if operations.is_empty() {
        form.wrong("operation", "Choose at least one.");
    }
    let days = form.parse_optional::<u16>("expires");
    let prefix = form.parse_optional::<TopicPrefix>("reach");
    if !form.sound() {
        return None;
    }
    Some(Wanted { app: app?, operations, expires_at: days.map(|days| now + Duration::days(days.into())), prefix })
}

fn operation(word: &str) -> Option<Operation> {
    serde_json::from_value(word.into()).ok()
}

async fn put(state: &WebState, visit: &Visit, name: &TopicName, wanted: &Wanted) -> Result<(), Problem> {
    let Wanted { app, operations, expires_at, prefix } = wanted;
    let share = visit.authorize::<ShareTopic>(state, name)?;
    if let Some(prefix) = prefix.as_ref().filter(|prefix| !name.as_str().starts_with(prefix.as_str())) {
        return Err(Problem::new(Code::ValidationFailed, format!("{prefix} is not the beginning of {name}.")));
    }
    let mut tx = state.catalog.begin(&visit.actor).await?;
    match prefix {
        None => drop(tx.put_access(&share, app, operations, *expires_at, Precondition::None).await?),
        Some(prefix) => {
            let owner = visit.authorize::<SharePrefix>(state, &share.resource().app)?;
            drop(tx.put_prefix_access(&owner, prefix, app, operations, *expires_at, Precondition::None).await?);
        }
    }
    tx.commit().await?;
    Ok(())
}

#[derive(Template)]
#[template(path = "topic/revoke.html")]
struct RevokePage {
    frame: Frame,
    topic: TopicName,
    app: AppName,
    owner: String,
    operations: String,
    prefix: Option<String>,
}

/// Which of an application's grants.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Which {
    prefix: String,
}

fn grant_of(head: &Head, app: &AppName, prefix: &str) -> Result<AccessGrant, PageError> {
    let prefix = Some(prefix).filter(|prefix| !prefix.is_empty());
    let found = head.grants.iter().find(|grant| grant.app == *app && prefix_of(grant).as_deref() == prefix);
    let none = || Problem::new(Code::NotFound, format!("{app} has no such access to {}.", head.topic.name));
    Ok(found.cloned().ok_or_else(none)?)
}

/// `GET /topics/{t}/access/{app}/revoke`: the question.
pub async fn confirm(
    State(state): State<WebState>,
    visit: Visit,
    Path((name, app)): Path<(TopicName, AppName)>,
    Query(which): Query<Which>,
) -> PageResult {
    let head = Head::load(&state, &visit, &name, Tab::Access)?;
    visit.authorize::<ShareTopic>(&state, &name)?;
    let grant = grant_of(&head, &app, &which.prefix)?;
    let page = RevokePage {
        frame: visit.frame,
        owner: head.topic.app.to_string(),
        topic: name,
        app,
        operations: operations(&grant.operations),
        prefix: prefix_of(&grant),
    };
    render(&page)
}

/// `POST /topics/{t}/access/{app}/revoke`
pub async fn revoke(
    State(state): State<WebState>,
    visit: Visit,
    Path((name, app)): Path<(TopicName, AppName)>,
    Query(which): Query<Which>,
    form: Draft,
) -> PageResult {
    let prefix = form.text("prefix").unwrap_or(&which.prefix);
    let head = Head::load(&state, &visit, &name, Tab::Access)?;
    let grant = grant_of(&head, &app, prefix)?;
    let share = visit.authorize::<ShareTopic>(&state, &name)?;
    let mut tx = state.catalog.begin(&visit.actor).await?;
    match &grant.target {
        GrantTarget::Topic(_) => tx.revoke_access(&share, &app, Precondition::None).await?,
        GrantTarget::Prefix { prefix, .. } => {
            let owner = visit.authorize::<SharePrefix>(&state, &share.resource().app)?;
            tx.revoke_prefix_access(&owner, prefix, &app, Precondition::None).await?;
        }
    }
    tx.commit().await?;
    let flash = Flash::ok(format!("{app} has no longer this access.")).undo(restore_path(&name, &grant));
    redirect(format!("/topics/{name}/access")).say(flash).into()
}

fn revoke_path(name: &TopicName, app: &AppName, prefix: Option<&TopicPrefix>) -> String {
    let query = prefix.map(|prefix| format!("?prefix={}", encode_query(prefix.as_str()))).unwrap_or_default();
    format!("/topics/{name}/access/{app}/revoke{query}")
}

/// Where "Undo" gives back what was taken.
fn restore_path(name: &TopicName, grant: &AccessGrant) -> String {
    let words: Vec<_> = grant.operations.iter().map(|operation| quality::operation(*operation)).collect();
    let mut path = format!("/topics/{name}/access/{}/restore?operations={}", grant.app, words.join(","));
    if let Some(prefix) = prefix_of(grant) {
        path.push_str(&format!("&prefix={}", encode_query(&prefix)));
    }
    if let Some(end) = grant.expires_at {
        path.push_str(&format!("&until={}", end.unix_timestamp()));
    }
    path
}

/// What to give back.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct GiveBack {
    operations: String,
    prefix: String,
    until: Option<i64>,
}

/// `POST /topics/{t}/access/{app}/restore`
pub async fn give_back(
    State(state): State<WebState>,
    visit: Visit,
    Path((name, app)): Path<(TopicName, AppName)>,
    Query(what): Query<GiveBack>,
) -> PageResult {
    let wanted = Wanted {
        app,
        operations: what.operations.split(',').filter_map(operation).collect(),
        expires_at: what.until.and_then(|end| OffsetDateTime::from_unix_timestamp(end).ok()),
        prefix: what.prefix.parse().ok(),
    };
    put(&state, &visit, &name, &wanted).await?;
    let flash = Flash::ok(format!("{} has its access again.", wanted.app));
    redirect(format!("/topics/{name}/access")).say(flash).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefixes_of_a_name_end_at_its_separators() {
        let of = |name: &str| prefixes(&name.parse().expect("a topic name"));
        assert_eq!(of("flights.departures-raw"), ["flights.", "flights.departures-"]);
        assert_eq!(of("orders"), Vec::<String>::new());
        assert_eq!(of("a."), Vec::<String>::new());
    }

    #[test]
    fn operations_read_as_a_sentence() {
        use Operation::{Consume, Manage, Produce};
        assert_eq!(operations(&[Consume]), "consume");
        assert_eq!(operations(&[Produce, Consume, Manage]), "produce, consume and manage");
    }

    #[test]
    fn a_grant_needs_an_application_and_an_operation() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let mut empty = Draft::new().with("app", "");
        assert!(wanted(&mut empty, now).is_none());
        assert!(empty.error("app").is_some() && empty.error("operation").is_some());
        let mut full =
            Draft::new().with("app", "shipping").with("operation", "consume").with("expires", "30").with("reach", "");
        let wanted = wanted(&mut full, now).expect("the form is sound");
        assert_eq!(wanted.expires_at, Some(now + Duration::days(30)));
        assert!(wanted.prefix.is_none());
    }
}
