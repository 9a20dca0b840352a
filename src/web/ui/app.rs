//! One application: overview, access, activity; suspending, resuming and deleting it.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};

use crate::catalog::access::{ManageApp, ManageAppTokens, ReadAudit};
use crate::catalog::error::ChangeError;
use crate::catalog::model::{AccessGrant, Application, AuditEntry, GrantTarget, Topic};
use crate::catalog::page::PageRequest;
use crate::catalog::put::Precondition;
use crate::catalog::{AuditQuery, TopicQuery};
use crate::names::AppName;
use crate::web::confirm::Confirm;
use crate::web::extract::Path;
use crate::web::form::{Draft, Filters};
use crate::web::page::{Flash, Frame, PageError, PageResult, redirect, render};
use crate::web::quality::{self, Issue};
use crate::web::state::WebState;
use crate::web::visit::Visit;

/// Topics and grants shown on one page of an application.
const ROWS_SHOWN_MAX: usize = 200;
/// Lines of activity on one page.
const ACTIVITY_PER_PAGE: usize = 50;

pub fn router() -> Router<WebState> {
    Router::new()
        .route("/apps/{app}", get(overview))
        .route("/apps/{app}/access", get(access))
        .route("/apps/{app}/activity", get(activity))
        .route("/apps/{app}/suspend", post(suspend))
        .route("/apps/{app}/resume", post(resume))
        .route("/apps/{app}/delete", post(delete))
}

/// What every tab of the page shows at its top.
struct Head {
    app: Arc<Application>,
    tab: &'static str,
    manages: bool,
    tokens: bool,
}

fn head(state: &WebState, visit: &Visit, name: &AppName, tab: &'static str) -> Result<Head, PageError> {
    let app = state.catalog.app(&visit.reading(state)?, name)?;
    let manages = visit.may::<ManageApp>(state, name);
    let tokens = visit.may::<ManageAppTokens>(state, name);
    Ok(Head { app, tab, manages, tokens })
}

#[derive(Template)]
#[template(path = "apps/overview.html")]
struct OverviewPage {
    frame: Frame,
    head: Head,
    issues: Vec<Issue>,
    topics: Vec<Arc<Topic>>,
    more_topics: bool,
}

impl OverviewPage {
    fn new_topic(&self) -> String {
        format!("/topics/new?app={}", self.head.app.name)
    }
}

async fn overview(State(state): State<WebState>, visit: Visit, Path(name): Path<AppName>) -> PageResult {
    let head = head(&state, &visit, &name, "overview")?;
    let query = TopicQuery { app: Some(name), ..TopicQuery::default() };
    let topics = state.catalog.topics(&visit.reading(&state)?, &query, &PageRequest::first(ROWS_SHOWN_MAX));
    let issues = quality::of_app(&head.app);
    let more_topics = topics.next.is_some();
    render(&OverviewPage { frame: visit.frame, head, issues, topics: topics.items, more_topics })
}

#[derive(Template)]
#[template(path = "apps/access.html")]
struct AccessPage {
    frame: Frame,
    head: Head,
    held: Vec<AccessGrant>,
    given: Vec<AccessGrant>,
}

impl AccessPage {
    fn expired(&self, grant: &AccessGrant) -> bool {
        grant.expires_at.is_some_and(|at| at <= self.frame.now)
    }
}

async fn access(State(state): State<WebState>, visit: Visit, Path(name): Path<AppName>) -> PageResult {
    let head = head(&state, &visit, &name, "access")?;
    let (grant, page) = (visit.reading(&state)?, PageRequest::first(ROWS_SHOWN_MAX));
    let held = state.catalog.access_of_app(&grant, &name, &page)?.items;
    let given = state.catalog.prefixes_of_app(&grant, &name, &page)?.items;
    render(&AccessPage { frame: visit.frame, head, held, given })
}

#[derive(Template)]
#[template(path = "apps/activity.html")]
struct ActivityPage {
    frame: Frame,
    head: Head,
    entries: Vec<AuditEntry>,
    next: Option<String>,
    first: String,
}

async fn activity(
    State(state): State<WebState>,
    visit: Visit,
    Path(name): Path<AppName>,
    filters: Filters,
) -> PageResult {
    let head = head(&state, &visit, &name, "activity")?;
    let path = format!("/apps/{name}/activity");
    let query = AuditQuery { app: Some(name), ..AuditQuery::default() };
    let grant = visit.authorize::<ReadAudit>(&state, &())?;
    let page = state.catalog.audit(&grant, &query, &filters.page(ACTIVITY_PER_PAGE)?).await?;
    let (next, first) = (filters.next(&path, page.next.as_deref()), filters.first(&path));
    render(&ActivityPage { frame: visit.frame, head, entries: page.items, next, first })
}

async fn suspend(
    State(state): State<WebState>,
    visit: Visit,
    Path(name): Path<AppName>,
    mut form: Draft,
) -> PageResult {
    let grant = visit.authorize::<ManageApp>(&state, &name)?;
    let confirm = Confirm {
        title: format!("Suspend {name}?"),
        text: "Its tokens are refused and its open streams end within a second. Topics and records stay. You can resume it at any time."
            .to_owned(),
        points: Vec::new(),
        button: "Suspend",
        back: format!("/apps/{name}"),
        type_name: None,
    };
    if let Some(question) = confirm.ask(&visit.frame, &mut form) {
        return question;
    }
    let mut tx = state.catalog.begin(&visit.actor).await?;
    tx.suspend_app(&grant, form.value("reason").trim()).await?;
    tx.commit().await?;
    let said = Flash::warn(format!("{name} is suspended.")).undo(format!("/apps/{name}/resume"));
    redirect(format!("/apps/{name}")).say(said).into()
}

async fn resume(State(state): State<WebState>, visit: Visit, Path(name): Path<AppName>) -> PageResult {
    let grant = visit.authorize::<ManageApp>(&state, &name)?;
    let mut tx = state.catalog.begin(&visit.actor).await?;
    tx.resume_app(&grant).await?;
    tx.commit().await?;
    redirect(format!("/apps/{name}")).say(Flash::ok(format!("{name} works again."))).into()
}

#[derive(Template)]
#[template(path = "apps/blocked.html")]
struct BlockedPage {
    frame: Frame,
    app: AppName,
    /// Their names.
    topics: Vec<String>,
}

async fn delete(State(state): State<WebState>, visit: Visit, Path(name): Path<AppName>, mut form: Draft) -> PageResult {
    let grant = visit.authorize::<ManageApp>(&state, &name)?;
    let query = TopicQuery { app: Some(name.clone()), ..TopicQuery::default() };
    let topics = state.catalog.topics(&visit.reading(&state)?, &query, &PageRequest::first(ROWS_SHOWN_MAX)).items;
    if !topics.is_empty() {
        let topics = topics.iter().map(|topic| topic.name.to_string()).collect();
        return render(&BlockedPage { frame: visit.frame, app: name, topics });
    }
    let confirm = Confirm {
        title: format!("Delete {name}?"),
        text: "This cannot be taken back.".to_owned(),
        points: vec![
            "Its tokens stop working at once.".to_owned(),
            "The access it was given is withdrawn.".to_owned(),
            "The audit keeps what it did.".to_owned(),
        ],
        button: "Delete the application",
        back: format!("/apps/{name}"),
        type_name: Some(name.to_string()),
    };
    if let Some(question) = confirm.ask(&visit.frame, &mut form) {
        return question;
    }
    let mut tx = state.catalog.begin(&visit.actor).await?;
    match tx.delete_app(&grant, Precondition::None).await {
        Ok(()) => {}
        Err(ChangeError::NotEmpty { blocking }) => {
            let topics = blocking.iter().map(|resource| resource.trim_start_matches("topic/").to_owned()).collect();
            return render(&BlockedPage { frame: visit.frame, app: name, topics });
        }
        Err(error) => return Err(error.into()),
    }
    tx.commit().await?;
    redirect("/apps").say(Flash::ok(format!("{name} is deleted."))).into()
}
