//! The first page: what needs the person, what they own, how to reach the API.

use std::collections::HashSet;
use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::routing::get;

use crate::catalog::access::{ManageTeam, OwnTokens};
use crate::catalog::model::{Application, JoinRequest, Team, TeamRole, Token, Topic};
use crate::catalog::page::PageRequest;
use crate::catalog::{AppQuery, TopicQuery};
use crate::web::page::{Frame, PageError, PageResult, render};
use crate::web::quality::{self, Issue};
use crate::web::state::WebState;
use crate::web::token_form::{self, TokenState};
use crate::web::visit::Visit;

/// Applications shown; the rest is a link away.
const APPS_SHOWN_MAX: usize = 12;
/// Teams whose topics are gathered.
const TEAMS_READ_MAX: usize = 20;
/// Topics shown.
const TOPICS_SHOWN_MAX: usize = 8;
/// Issues shown.
const ISSUES_SHOWN_MAX: usize = 8;

pub fn router() -> Router<WebState> {
    Router::new().route("/", get(home))
}

#[derive(Template)]
#[template(path = "home/page.html")]
struct HomePage {
    frame: Frame,
    teams: Vec<(Arc<Team>, TeamRole)>,
    requests: Vec<JoinRequest>,
    issues: Vec<(Arc<Application>, Issue)>,
    tokens: Vec<Token>,
    apps: Vec<Arc<Application>>,
    more_apps: bool,
    topics: Vec<Arc<Topic>>,
    /// Nothing of the person's has a topic yet.
    first_run: bool,
}

impl HomePage {
    fn api(&self) -> String {
        format!("{}/v1", self.frame.base_url)
    }

    fn needs(&self) -> usize {
        self.requests.len() + self.issues.len() + self.tokens.len()
    }
}

async fn home(State(state): State<WebState>, visit: Visit) -> PageResult {
    let state = &state;
    let reading = visit.reading(state)?;
    let teams = state.catalog.teams_of(&visit.actor);
    let query = AppQuery { mine: true, ..AppQuery::default() };
    let apps = state.catalog.apps(&reading, &query, &PageRequest::first(APPS_SHOWN_MAX));
    let issues =
        apps.items.iter().flat_map(|app| quality::of_app(app).into_iter().map(|issue| (Arc::clone(app), issue)));
    let issues = issues.filter(|(_, issue)| issue.kind == "danger" || issue.text.contains("owner"));
    let issues = issues.take(ISSUES_SHOWN_MAX).collect();
    let topics = own_topics(state, &visit, &teams)?;
    let requests = requests_for(state, &visit, &teams).await?;
    let tokens = ending_tokens(state, &visit).await?;
    let first_run = topics.is_empty();
    render(&HomePage {
        frame: visit.frame,
        teams,
        requests,
        issues,
        tokens,
        more_apps: apps.next.is_some(),
        apps: apps.items,
        topics,
        first_run,
    })
}

/// The topics of the person's teams that changed last.
fn own_topics(state: &WebState, visit: &Visit, teams: &[(Arc<Team>, TeamRole)]) -> Result<Vec<Arc<Topic>>, PageError> {
    let reading = visit.reading(state)?;
    let mut topics = Vec::new();
    for (team, _) in teams.iter().take(TEAMS_READ_MAX) {
        let query = TopicQuery { team: Some(team.name.clone()), ..TopicQuery::default() };
        topics.extend(state.catalog.topics(&reading, &query, &PageRequest::first(PageRequest::LIMIT_DEFAULT)).items);
    }
    let mut seen = HashSet::new();
    topics.retain(|topic| seen.insert(topic.id));
    topics.sort_by_key(|topic| std::cmp::Reverse(topic.updated_at));
    topics.truncate(TOPICS_SHOWN_MAX);
    Ok(topics)
}

async fn requests_for(
    state: &WebState,
    visit: &Visit,
    teams: &[(Arc<Team>, TeamRole)],
) -> Result<Vec<JoinRequest>, PageError> {
    let mut requests = Vec::new();
    for (team, _) in teams.iter().filter(|(_, role)| *role == TeamRole::Maintainer).take(TEAMS_READ_MAX) {
        let grant = visit.authorize::<ManageTeam>(state, &team.name)?;
        requests.extend(state.catalog.join_requests(&grant).await?);
    }
    Ok(requests)
}

async fn ending_tokens(state: &WebState, visit: &Visit) -> Result<Vec<Token>, PageError> {
    let grant = visit.authorize::<OwnTokens>(state, &())?;
    let mut tokens = state.catalog.tokens_of_user(&grant).await?;
    tokens.retain(|token| {
        token_form::state(token, visit.frame.now) == TokenState::EndsSoon && token.revoked_at.is_none()
    });
    Ok(tokens)
}
