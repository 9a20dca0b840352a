//! One team: what it has, who is in it, who wants in.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};

use crate::catalog::AppQuery;
use crate::catalog::access::{JoinTeam, ManageTeam};
use crate::catalog::model::{AppState, Application, Invitation, JoinRequest, Membership, Secret, Team, TeamRole};
use crate::catalog::page::PageRequest;
use crate::names::{Email, InvitationId, TeamName, UserId};
use crate::web::confirm::Confirm;
use crate::web::extract::Path;
use crate::web::form::Draft;
use crate::web::page::{Flash, Frame, PageError, PageResult, redirect, render, render_as, render_secret};
use crate::web::problem::{Code, Problem};
use crate::web::state::WebState;
use crate::web::visit::Visit;

/// Applications shown on a team's page.
const APPS_SHOWN_MAX: usize = 100;

pub fn router() -> Router<WebState> {
    Router::new()
        .route("/teams/{team}", get(show))
        .route("/teams/{team}/join", post(join))
        .route("/teams/{team}/leave", post(leave))
        .route("/teams/{team}/requests", post(decide))
        .route("/teams/{team}/members/role", post(set_role))
        .route("/teams/{team}/members/remove", post(remove))
        .route("/teams/{team}/invitations", post(invite))
        .route("/teams/{team}/invitations/withdraw", post(withdraw))
}

#[derive(Template)]
#[template(path = "teams/page.html")]
struct TeamPage {
    frame: Frame,
    team: Arc<Team>,
    me: UserId,
    role: Option<TeamRole>,
    maintains: bool,
    members: Vec<Membership>,
    apps: Vec<Arc<Application>>,
    requests: Vec<JoinRequest>,
    invitations: Vec<Invitation>,
    /// The person has asked to join already.
    asked: bool,
    form: Draft,
    /// A link that was just made: to whom, and the link.
    link: Option<(Email, String)>,
}

impl TeamPage {
    fn new_app(&self) -> String {
        format!("/apps/new?team={}", self.team.name)
    }

    fn maintainers(&self) -> usize {
        self.members.iter().filter(|member| member.role == TeamRole::Maintainer).count()
    }
}

async fn page_of(state: &WebState, visit: Visit, name: &TeamName, form: Draft) -> Result<TeamPage, PageError> {
    let reading = visit.reading(state)?;
    let team = state.catalog.team(&reading, name)?;
    let members = state.catalog.members(&reading, name)?;
    let role = members.iter().find(|member| member.user == visit.user.id).map(|member| member.role);
    let query = AppQuery { team: Some(name.clone()), ..AppQuery::default() };
    let apps = state.catalog.apps(&reading, &query, &PageRequest::first(APPS_SHOWN_MAX)).items;
    let (mut requests, mut invitations, mut maintains) = (Vec::new(), Vec::new(), false);
    if let Ok(managing) = visit.authorize::<ManageTeam>(state, name) {
        requests = state.catalog.join_requests(&managing).await?;
        invitations = state.catalog.invitations(&managing).await?;
        maintains = true;
    }
    let asked = role.is_none()
        && state.catalog.own_join_requests(visit.user.id).await?.iter().any(|request| request.team == *name);
    let me = visit.user.id;
    let frame = visit.frame;
    Ok(TeamPage { frame, team, me, role, maintains, members, apps, requests, invitations, asked, form, link: None })
}

async fn show(State(state): State<WebState>, visit: Visit, Path(name): Path<TeamName>) -> PageResult {
    render(&page_of(&state, visit, &name, Draft::new().with("role", "member")).await?)
}

fn back_to(name: &TeamName) -> String {
    format!("/teams/{name}")
}

async fn join(State(state): State<WebState>, visit: Visit, Path(name): Path<TeamName>, mut form: Draft) -> PageResult {
    let grant = visit.authorize::<JoinTeam>(&state, &name)?;
    let mut tx = state.catalog.begin(&visit.actor).await?;
    if let Err(error) = tx.request_to_join(&grant, form.value("message").trim()).await {
        let status = form.take(error)?;
        return render_as(status, &page_of(&state, visit, &name, form).await?);
    }
    tx.commit().await?;
    redirect(back_to(&name)).say(Flash::ok("The maintainers see your request on their home page.")).into()
}

async fn leave(State(state): State<WebState>, visit: Visit, Path(name): Path<TeamName>, mut form: Draft) -> PageResult {
    let grant = visit.authorize::<JoinTeam>(&state, &name)?;
    let confirm = Confirm {
        title: format!("Leave the team {name}?"),
        text: "You can no longer change its applications and topics, or read what only the team may read.".to_owned(),
        points: Vec::new(),
        button: "Leave",
        back: back_to(&name),
        type_name: None,
    };
    if let Some(question) = confirm.ask(&visit.frame, &mut form) {
        return question;
    }
    let mut tx = state.catalog.begin(&visit.actor).await?;
    if let Err(error) = tx.leave_team(&grant).await {
        return refused(&name, form, error.into());
    }
    tx.commit().await?;
    redirect("/teams").say(Flash::ok(format!("You have left {name}."))).into()
}

/// A refusal of a button: said on the team's page, since there is no field to say it at.
fn refused(name: &TeamName, mut form: Draft, problem: Problem) -> PageResult {
    form.take(problem)?;
    redirect(back_to(name)).say(Flash::warn(form.refusal().unwrap_or("That was refused.").to_owned())).into()
}

fn email_of(form: &mut Draft) -> Result<Email, PageError> {
    let missing = || Problem::new(Code::ValidationFailed, "The form names no person.");
    Ok(form.parse("email").ok_or_else(missing)?)
}

fn role_of(form: &Draft) -> TeamRole {
    if form.has("role", "maintainer") { TeamRole::Maintainer } else { TeamRole::Member }
}

async fn decide(
    State(state): State<WebState>,
    visit: Visit,
    Path(name): Path<TeamName>,
    mut form: Draft,
) -> PageResult {
    let grant = visit.authorize::<ManageTeam>(&state, &name)?;
    let (email, admit) = (email_of(&mut form)?, form.has("decision", "admit"));
    let mut tx = state.catalog.begin(&visit.actor).await?;
    if let Err(error) = tx.decide_join(&grant, &email, admit).await {
        return refused(&name, form, error.into());
    }
    tx.commit().await?;
    let said = if admit { format!("{email} is now a member of {name}.") } else { format!("{email} was not let in.") };
    let back = form.text("back").map_or_else(|| back_to(&name), str::to_owned);
    redirect(back).say(Flash::ok(said)).into()
}

async fn set_role(
    State(state): State<WebState>,
    visit: Visit,
    Path(name): Path<TeamName>,
    mut form: Draft,
) -> PageResult {
    let grant = visit.authorize::<ManageTeam>(&state, &name)?;
    let (email, role) = (email_of(&mut form)?, role_of(&form));
    let mut tx = state.catalog.begin(&visit.actor).await?;
    if let Err(error) = tx.set_member(&grant, &email, role).await {
        return refused(&name, form, error.into());
    }
    tx.commit().await?;
    let said = match role {
        TeamRole::Maintainer => format!("{email} is now a maintainer."),
        TeamRole::Member => format!("{email} is now a member."),
    };
    redirect(back_to(&name)).say(Flash::ok(said)).into()
}

async fn remove(
    State(state): State<WebState>,
    visit: Visit,
    Path(name): Path<TeamName>,
    mut form: Draft,
) -> PageResult {
    let grant = visit.authorize::<ManageTeam>(&state, &name)?;
    let email = email_of(&mut form)?;
    let confirm = Confirm {
        title: format!("Remove {email} from {name}?"),
        text: "The account stays. The person can no longer change or read what belongs to the team.".to_owned(),
        points: Vec::new(),
        button: "Remove",
        back: back_to(&name),
        type_name: None,
    };
    if let Some(question) = confirm.ask(&visit.frame, &mut form) {
        return question;
    }
    let mut tx = state.catalog.begin(&visit.actor).await?;
    if let Err(error) = tx.remove_member(&grant, &email).await {
        return refused(&name, form, error.into());
    }
    tx.commit().await?;
    redirect(back_to(&name)).say(Flash::ok(format!("{email} is no longer in {name}."))).into()
}

async fn invite(
    State(state): State<WebState>,
    visit: Visit,
    Path(name): Path<TeamName>,
    mut form: Draft,
) -> PageResult {
    let grant = visit.authorize::<ManageTeam>(&state, &name)?;
    let Some(email) = form.parse::<Email>("email") else {
        return render_as(StatusCode::UNPROCESSABLE_ENTITY, &page_of(&state, visit, &name, form).await?);
    };
    let mut tx = state.catalog.begin(&visit.actor).await?;
    let secret = match tx.invite(&grant, &email, role_of(&form)).await {
        Ok((_, secret)) => secret,
        Err(error) => {
            let status = form.take(error)?;
            return render_as(status, &page_of(&state, visit, &name, form).await?);
        }
    };
    tx.commit().await?;
    let link = invitation_link(&visit.frame, &secret);
    let mut page = page_of(&state, visit, &name, Draft::new().with("role", "member")).await?;
    page.link = Some((email, link));
    render_secret(&page)
}

fn invitation_link(frame: &Frame, secret: &Secret) -> String {
    format!("{}/invitations/{}", frame.base_url, secret.expose())
}

async fn withdraw(
    State(state): State<WebState>,
    visit: Visit,
    Path(name): Path<TeamName>,
    mut form: Draft,
) -> PageResult {
    let grant = visit.authorize::<ManageTeam>(&state, &name)?;
    let missing = || Problem::new(Code::ValidationFailed, "The form names no invitation.");
    let id = form.parse::<InvitationId>("invitation").ok_or_else(missing)?;
    let mut tx = state.catalog.begin(&visit.actor).await?;
    tx.withdraw_invitation(&grant, id).await?;
    tx.commit().await?;
    redirect(back_to(&name)).say(Flash::ok("The invitation no longer works.")).into()
}
