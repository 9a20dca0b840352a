//! Commands and programs that use the topic, with the viewer's own names filled in.

use askama::Template;
use axum::extract::State;
use serde::Deserialize;

use super::head::{Head, Tab};
use crate::catalog::AppQuery;
use crate::catalog::page::PageRequest;
use crate::names::{AppName, TopicName};
use crate::web::extract::{Path, Query};
use crate::web::page::{Frame, PageResult, render};
use crate::web::state::WebState;
use crate::web::ui::records::reading::TOKEN_VARIABLE;
use crate::web::ui::records::snippets::{Snippet, Target};
use crate::web::visit::Visit;

/// Applications offered to write the snippets for.
const APPS_MAX: usize = 100;

/// For which application.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Args {
    app: String,
}

#[derive(Template)]
#[template(path = "topic/use.html")]
struct UsePage {
    frame: Frame,
    head: Head,
    snippets: Vec<Snippet>,
    app: Option<String>,
    apps: Vec<String>,
    /// What the viewer cannot do yet.
    missing: Option<String>,
}

impl UsePage {
    fn app_is(&self, name: &str) -> bool {
        self.app.as_deref() == Some(name)
    }
}

/// `GET /topics/{t}/use`
pub async fn page(
    State(state): State<WebState>,
    visit: Visit,
    Path(name): Path<TopicName>,
    Query(args): Query<Args>,
) -> PageResult {
    let head = Head::load(&state, &visit, &name, Tab::Use)?;
    let own = AppQuery { mine: true, ..AppQuery::default() };
    let apps: Vec<AppName> = state
        .catalog
        .apps(&head.reader, &own, &PageRequest::first(APPS_MAX))
        .items
        .iter()
        .map(|app| app.name.clone())
        .collect();
    let app = chosen(&apps, &args.app, &head);
    let target = Target { base_url: &visit.frame.base_url, topic: &name, app: app.as_ref(), token: TOKEN_VARIABLE };
    let page = UsePage {
        snippets: target.all(),
        missing: missing(&head),
        app: app.as_ref().map(ToString::to_string),
        apps: apps.iter().map(ToString::to_string).collect(),
        frame: visit.frame,
        head,
    };
    render(&page)
}

/// The application asked for; else one that has access; else the first of one's own.
fn chosen(apps: &[AppName], asked: &str, head: &Head) -> Option<AppName> {
    let named = apps.iter().find(|app| app.as_str() == asked);
    let with_access = |app: &&AppName| **app == head.topic.app || head.grants.iter().any(|grant| grant.app == **app);
    named.or_else(|| apps.iter().find(with_access)).or_else(|| apps.first()).cloned()
}

fn missing(head: &Head) -> Option<String> {
    let team = &head.topic.team;
    match (head.may_produce, head.may_consume) {
        (true, true) => None,
        (true, false) => Some(format!("You may send but not read. Ask the team {team} for consume.")),
        (false, true) => Some(format!("You may read but not send. Ask the team {team} for produce.")),
        (false, false) => Some(format!(
            "Neither you nor your applications have access yet. Ask the team {team}, on the tab Access you see whom."
        )),
    }
}
