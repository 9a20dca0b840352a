//! Teams: the list, making one, changing its description, removing it.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};

use crate::catalog::access::{ManageTeam, PutTeam};
use crate::catalog::model::{Team, TeamRole, TeamSpec};
use crate::catalog::put::Precondition;
use crate::names::TeamName;
use crate::web::confirm::Confirm;
use crate::web::extract::Path;
use crate::web::form::{Draft, Filters};
use crate::web::page::{Flash, Frame, PageResult, redirect, render, render_as};
use crate::web::state::WebState;
use crate::web::visit::Visit;

/// Teams on one page.
const TEAMS_PER_PAGE: usize = 50;

pub fn router() -> Router<WebState> {
    Router::new()
        .route("/teams", get(list))
        .route("/teams/new", get(new).post(create))
        .route("/teams/{team}/edit", get(edit).post(change))
        .route("/teams/{team}/delete", post(delete))
}

#[derive(Template)]
#[template(path = "teams/list.html")]
struct TeamsPage {
    frame: Frame,
    filters: Filters,
    teams: Vec<(Arc<Team>, Option<TeamRole>)>,
    next: Option<String>,
    first: String,
}

async fn list(State(state): State<WebState>, visit: Visit, filters: Filters) -> PageResult {
    let grant = visit.reading(&state)?;
    let own = state.catalog.teams_of(&visit.actor);
    let role = |team: &Team| own.iter().find(|(one, _)| one.id == team.id).map(|(_, role)| *role);
    let (teams, cursor) = if filters.has("mine", "yes") {
        (own.iter().map(|(team, role)| (Arc::clone(team), Some(*role))).collect(), None)
    } else {
        let page = state.catalog.teams(&grant, filters.0.text("q"), &filters.page(TEAMS_PER_PAGE)?);
        (page.items.into_iter().map(|team| (Arc::clone(&team), role(&team))).collect(), page.next)
    };
    let (next, first) = (filters.next("/teams", cursor.as_deref()), filters.first("/teams"));
    render(&TeamsPage { frame: visit.frame, filters, teams, next, first })
}

#[derive(Template)]
#[template(path = "teams/form.html")]
struct TeamForm {
    frame: Frame,
    form: Draft,
    /// `None` while the team is being made.
    team: Option<TeamName>,
}

async fn new(visit: Visit) -> PageResult {
    render(&TeamForm { frame: visit.frame, form: Draft::new().focused("name"), team: None })
}

async fn create(State(state): State<WebState>, visit: Visit, mut form: Draft) -> PageResult {
    let again = |frame, form, status| render_as(status, &TeamForm { frame, form, team: None });
    let Some(name) = form.parse::<TeamName>("name") else {
        return again(visit.frame, form, StatusCode::UNPROCESSABLE_ENTITY);
    };
    let grant = visit.authorize::<PutTeam>(&state, &name)?;
    if grant.resource().existing.is_some() {
        form.wrong("name", format!("There is a team {name} already"));
        return again(visit.frame, form, StatusCode::CONFLICT);
    }
    let spec = TeamSpec { description: form.value("description").trim().to_owned() };
    let mut tx = state.catalog.begin(&visit.actor).await?;
    if let Err(error) = tx.put_team(&grant, &spec, Precondition::IfNoneMatchAny).await {
        let status = form.take(error)?;
        return again(visit.frame, form, status);
    }
    tx.commit().await?;
    redirect(format!("/teams/{name}")).say(Flash::ok(format!("Team {name} is there. You are its maintainer."))).into()
}

async fn edit(State(state): State<WebState>, visit: Visit, Path(name): Path<TeamName>) -> PageResult {
    let grant = visit.authorize::<ManageTeam>(&state, &name)?;
    let form = Draft::new().with("description", grant.resource().description.clone()).focused("description");
    let form = form.with("revision", grant.resource().revision.to_string());
    render(&TeamForm { frame: visit.frame, form, team: Some(name) })
}

async fn change(
    State(state): State<WebState>,
    visit: Visit,
    Path(name): Path<TeamName>,
    mut form: Draft,
) -> PageResult {
    let grant = visit.authorize::<PutTeam>(&state, &name)?;
    let spec = TeamSpec { description: form.value("description").trim().to_owned() };
    let precondition = form.parse_optional("revision").map_or(Precondition::IfMatchAny, Precondition::IfMatch);
    let mut tx = state.catalog.begin(&visit.actor).await?;
    if let Err(error) = tx.put_team(&grant, &spec, precondition).await {
        let status = form.take(error)?;
        return render_as(status, &TeamForm { frame: visit.frame, form, team: Some(name) });
    }
    tx.commit().await?;
    redirect(format!("/teams/{name}")).say(Flash::ok("Saved.")).into()
}

async fn delete(
    State(state): State<WebState>,
    visit: Visit,
    Path(name): Path<TeamName>,
    mut form: Draft,
) -> PageResult {
    let grant = visit.authorize::<ManageTeam>(&state, &name)?;
    let confirm = Confirm {
        title: format!("Delete the team {name}?"),
        text: "Its members lose the team; their accounts stay. A team that still has applications cannot be deleted."
            .to_owned(),
        points: Vec::new(),
        button: "Delete the team",
        back: format!("/teams/{name}"),
        type_name: Some(name.to_string()),
    };
    if let Some(question) = confirm.ask(&visit.frame, &mut form) {
        return question;
    }
    let mut tx = state.catalog.begin(&visit.actor).await?;
    tx.delete_team(&grant, Precondition::None).await?;
    tx.commit().await?;
    redirect("/teams").say(Flash::ok(format!("The team {name} is deleted."))).into()
}
