//! Applications: the list, registering one, changing it.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use crate::catalog::AppQuery;
use crate::catalog::access::{AppTarget, PutApp};
use crate::catalog::model::{AppSpec, AppState, Application};
use crate::catalog::put::Precondition;
use crate::names::{AppName, TeamName};
use crate::web::extract::Path;
use crate::web::form::{Draft, Filters};
use crate::web::page::{Flash, Frame, PageResult, redirect, render, render_as};
use crate::web::quality;
use crate::web::state::WebState;
use crate::web::visit::Visit;

/// Applications on one page.
const APPS_PER_PAGE: usize = 50;

pub fn router() -> Router<WebState> {
    Router::new()
        .route("/apps", get(list))
        .route("/apps/new", get(new).post(create))
        .route("/apps/{app}/edit", get(edit).post(change))
}

#[derive(Template)]
#[template(path = "apps/list.html")]
struct AppsPage {
    frame: Frame,
    filters: Filters,
    apps: Vec<Arc<Application>>,
    teams: Vec<TeamName>,
    next: Option<String>,
    first: String,
}

async fn list(State(state): State<WebState>, visit: Visit, filters: Filters) -> PageResult {
    let grant = visit.reading(&state)?;
    let query = AppQuery {
        q: filters.0.text("q").map(str::to_owned),
        team: filters.0.text("team").and_then(|name| name.parse().ok()),
        state: filters.has("state", "suspended").then_some(AppState::Suspended),
        mine: filters.has("mine", "yes"),
        ..AppQuery::default()
    };
    let page = state.catalog.apps(&grant, &query, &filters.page(APPS_PER_PAGE)?);
    let teams = teams_of(&state, &visit);
    let (next, first) = (filters.next("/apps", page.next.as_deref()), filters.first("/apps"));
    render(&AppsPage { frame: visit.frame, filters, apps: page.items, teams, next, first })
}

fn teams_of(state: &WebState, visit: &Visit) -> Vec<TeamName> {
    state.catalog.teams_of(&visit.actor).into_iter().map(|(team, _)| team.name.clone()).collect()
}

#[derive(Template)]
#[template(path = "apps/form.html")]
struct AppForm {
    frame: Frame,
    form: Draft,
    /// Teams the application can belong to.
    teams: Vec<TeamName>,
    /// `None` while it is being registered.
    app: Option<AppName>,
}

fn again(state: &WebState, visit: Visit, form: Draft, app: Option<AppName>, status: StatusCode) -> PageResult {
    let mut teams = teams_of(state, &visit);
    if let Ok(chosen) = form.value("team").parse()
        && app.is_some()
        && !teams.contains(&chosen)
    {
        teams.insert(0, chosen); // an administrator edits what is not of a team of theirs
    }
    render_as(status, &AppForm { frame: visit.frame, form, teams, app })
}

async fn new(State(state): State<WebState>, visit: Visit, filters: Filters) -> PageResult {
    let form = Draft::new().with("team", filters.value("team")).with("owners", visit.user.email.to_string());
    again(&state, visit, form.focused("name"), None, StatusCode::OK)
}

/// What the form asks for, as far as it can be understood.
fn spec_of(form: &mut Draft) -> Option<AppSpec> {
    let team = form.parse::<TeamName>("team")?;
    let spec = AppSpec {
        description: form.value("description").trim().to_owned(),
        owners: form.lines("owners"),
        contacts: form.pairs("contacts"),
        repository: form.text("repository").map(str::to_owned),
        runbook: form.text("runbook").map(str::to_owned),
        labels: form.pairs("labels"),
        ..AppSpec::new(team)
    };
    form.sound().then_some(spec)
}

async fn create(State(state): State<WebState>, visit: Visit, mut form: Draft) -> PageResult {
    let name = form.parse::<AppName>("name");
    let (Some(spec), Some(name)) = (spec_of(&mut form), name) else {
        return again(&state, visit, form, None, StatusCode::UNPROCESSABLE_ENTITY);
    };
    let grant = visit.authorize::<PutApp>(&state, &AppTarget { name: name.clone(), team: spec.team.clone() })?;
    if grant.resource().existing.is_some() {
        form.wrong("name", format!("There is an application {name} already"));
        return again(&state, visit, form, None, StatusCode::CONFLICT);
    }
    let mut tx = state.catalog.begin(&visit.actor).await?;
    if let Err(error) = tx.put_app(&grant, &spec, Precondition::IfNoneMatchAny).await {
        let status = form.take(error)?;
        return again(&state, visit, form, None, status);
    }
    tx.commit().await?;
    let said = Flash::ok(format!("{name} is registered. Make a token or a topic next."));
    redirect(format!("/apps/{name}")).say(said).into()
}

fn lines<'a>(values: impl Iterator<Item = &'a String>) -> String {
    values.map(String::as_str).collect::<Vec<_>>().join("\n")
}

fn draft_of(app: &Application) -> Draft {
    let pairs = |pairs: &std::collections::BTreeMap<String, String>| {
        lines(pairs.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().iter())
    };
    Draft::new()
        .with("team", app.team.to_string())
        .with("description", app.description.clone())
        .with("owners", lines(app.owners.iter().map(ToString::to_string).collect::<Vec<_>>().iter()))
        .with("contacts", pairs(&app.contacts))
        .with("repository", app.repository.clone().unwrap_or_default())
        .with("runbook", app.runbook.clone().unwrap_or_default())
        .with("labels", pairs(&app.labels))
        .with("revision", app.revision.to_string())
}

async fn edit(State(state): State<WebState>, visit: Visit, Path(name): Path<AppName>) -> PageResult {
    let app = state.catalog.app(&visit.reading(&state)?, &name)?;
    visit.authorize::<PutApp>(&state, &AppTarget { name: name.clone(), team: app.team.clone() })?;
    again(&state, visit, draft_of(&app), Some(name), StatusCode::OK)
}

async fn change(State(state): State<WebState>, visit: Visit, Path(name): Path<AppName>, mut form: Draft) -> PageResult {
    let Some(spec) = spec_of(&mut form) else {
        return again(&state, visit, form, Some(name), StatusCode::UNPROCESSABLE_ENTITY);
    };
    let grant = visit.authorize::<PutApp>(&state, &AppTarget { name: name.clone(), team: spec.team.clone() })?;
    let precondition = form.parse_optional("revision").map_or(Precondition::IfMatchAny, Precondition::IfMatch);
    let mut tx = state.catalog.begin(&visit.actor).await?;
    if let Err(error) = tx.put_app(&grant, &spec, precondition).await {
        let status = form.take(error)?;
        return again(&state, visit, form, Some(name), status);
    }
    tx.commit().await?;
    redirect(format!("/apps/{name}")).say(Flash::ok("Saved.")).into()
}
