//! Making a topic, and changing one: what is typed is checked while it is typed, and a change shows what it does before it
//! does it.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;

use super::markdown;
use super::{config, draft};
use crate::catalog::access::{ManageTopic, PutTopic, TopicTarget};
use crate::catalog::model::{Topic, TopicSpec};
use crate::catalog::page::PageRequest;
use crate::catalog::put::{Change, Precondition, PutResult, Risk};
use crate::catalog::{AppQuery, TopicQuery};
use crate::names::TopicName;
use crate::web::extract::{Path, Query};
use crate::web::form::Draft;
use crate::web::page::{Flash, Frame, PageError, PageResult, redirect, render, render_as};
use crate::web::problem::{Code, Problem};
use crate::web::state::WebState;
use crate::web::ui::records::units;
use crate::web::visit::Visit;

/// Applications offered as owner.
const APPS_MAX: usize = 1000;
/// Characters of a changed text in the review.
const REVIEW_CHARS_MAX: usize = 2000;

#[derive(Template)]
#[template(path = "topic/form.html")]
struct FormPage {
    frame: Frame,
    form: Draft,
    editing: bool,
    action: String,
    cancel: String,
    apps: Vec<String>,
}

#[derive(Template)]
#[template(path = "topic/review.html")]
struct ReviewPage {
    frame: Frame,
    name: TopicName,
    changes: Vec<ReviewLine>,
    destructive: bool,
    fields: Vec<(&'static str, String)>,
}

/// One change before it is made.
struct ReviewLine {
    what: &'static str,
    from: String,
    to: String,
    risk: &'static str,
    kind: &'static str,
    why: Option<&'static str>,
}

/// What a link may prefill.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Prefill {
    app: String,
    name: String,
    description: String,
}

/// `GET /topics/new`
pub async fn blank(State(state): State<WebState>, visit: Visit, Query(prefill): Query<Prefill>) -> PageResult {
    let apps = own_apps(&state, &visit, "")?;
    let app = if prefill.app.is_empty() { apps.first().cloned().unwrap_or_default() } else { prefill.app };
    let form = draft::blank().with("app", app).with("name", prefill.name).with("description", prefill.description);
    render(&new_page(visit.frame, form, apps))
}

fn new_page(frame: Frame, form: Draft, apps: Vec<String>) -> FormPage {
    let (action, cancel) = ("/topics/new".to_owned(), "/topics".to_owned());
    FormPage { frame, form, editing: false, action, cancel, apps }
}

/// The applications under which the person may make topics; `also` is one more that belongs in the list.
fn own_apps(state: &WebState, visit: &Visit, also: &str) -> Result<Vec<String>, PageError> {
    let own = AppQuery { mine: !visit.user.admin, ..AppQuery::default() };
    let page = state.catalog.apps(&visit.reading(state)?, &own, &PageRequest::first(APPS_MAX));
    let mut apps: Vec<_> = page.items.iter().map(|app| app.name.to_string()).collect();
    if !also.is_empty() && !apps.iter().any(|app| app == also) {
        apps.insert(0, also.to_owned());
    }
    Ok(apps)
}

/// `POST /topics/new`
pub async fn create(State(state): State<WebState>, visit: Visit, mut form: Draft) -> PageResult {
    let Some((name, spec)) = draft::check(&mut form, None) else {
        let apps = own_apps(&state, &visit, "")?;
        return render_as(StatusCode::UNPROCESSABLE_ENTITY, &new_page(visit.frame, form, apps));
    };
    match put(&state, &visit, &name, &spec, Precondition::IfNoneMatchAny).await {
        Ok(topic) => {
            let flash = Flash::ok(format!("{} is ready: send and read as you like.", topic.name));
            redirect(format!("/topics/{}", topic.name)).say(flash).into()
        }
        Err(problem) => {
            let problem = taken(problem, &name);
            let status = form.take(problem)?;
            let apps = own_apps(&state, &visit, "")?;
            render_as(status, &new_page(visit.frame, form, apps))
        }
    }
}

/// A name that exists already is wrong where it was typed.
fn taken(problem: Problem, name: &TopicName) -> Problem {
    if !matches!(problem.code, Code::PreconditionFailed | Code::Conflict) {
        return problem;
    }
    let detail = format!("The name {name} is taken.");
    let error = crate::web::problem::FieldError { item: None, pointer: "/name".to_owned(), detail: detail.clone() };
    Problem::new(Code::ValidationFailed, detail).error(error)
}

/// Makes the topic so, and has the log hold it before the answer.
async fn put(
    state: &WebState,
    visit: &Visit,
    name: &TopicName,
    spec: &TopicSpec,
    precondition: Precondition,
) -> Result<Topic, Problem> {
    let grant = visit.authorize::<PutTopic>(state, &TopicTarget { name: name.clone(), app: spec.app.clone() })?;
    let mut tx = state.catalog.begin(&visit.actor).await?;
    let put = tx.put_topic(&grant, spec, precondition).await?;
    tx.commit().await?;
    if let Err(error) = state.provision.ensure(&put.value).await {
        // The catalog has it; the reconciler will make it within moments.
        tracing::warn!(%error, topic = %name, "the log does not hold the topic yet");
    }
    Ok(put.value)
}

/// `GET /topics/{t}/edit`
pub async fn form(State(state): State<WebState>, visit: Visit, Path(name): Path<TopicName>) -> PageResult {
    let topic = existing(&state, &visit, &name)?;
    let form = draft::of(&topic).with("revision", topic.revision.to_string());
    edit_page(&state, visit, &topic, form, StatusCode::OK)
}

fn existing(state: &WebState, visit: &Visit, name: &TopicName) -> Result<Topic, PageError> {
    let grant = visit.authorize::<ManageTopic>(state, name)?;
    Ok(Topic::clone(grant.resource()))
}

fn edit_page(state: &WebState, visit: Visit, topic: &Topic, form: Draft, status: StatusCode) -> PageResult {
    let here = format!("/topics/{}", topic.name);
    let apps = own_apps(state, &visit, topic.app.as_str())?;
    let page = FormPage { frame: visit.frame, form, editing: true, action: format!("{here}/edit"), cancel: here, apps };
    render_as(status, &page)
}

/// `POST /topics/{t}/edit/again`: from the review back to the form.
pub async fn again(
    State(state): State<WebState>,
    visit: Visit,
    Path(name): Path<TopicName>,
    form: Draft,
) -> PageResult {
    let topic = existing(&state, &visit, &name)?;
    edit_page(&state, visit, &topic, form, StatusCode::OK)
}

/// `POST /topics/{t}/edit`: the review first, the change when it is confirmed.
pub async fn change(
    State(state): State<WebState>,
    visit: Visit,
    Path(name): Path<TopicName>,
    mut form: Draft,
) -> PageResult {
    let topic = existing(&state, &visit, &name)?;
    let Some((_, spec)) = draft::check(&mut form, Some(&topic)) else {
        return edit_page(&state, visit, &topic, form, StatusCode::UNPROCESSABLE_ENTITY);
    };
    let revision = form.value("revision").parse().unwrap_or(topic.revision);
    let done = if form.value("confirmed").is_empty() {
        preview_change(&state, &visit, &name, &spec, revision).await
    } else {
        put(&state, &visit, &name, &spec, Precondition::IfMatch(revision)).await.map(|_| Vec::new())
    };
    match done {
        Ok(_) if !form.value("confirmed").is_empty() => {
            redirect(format!("/topics/{name}/config")).say(Flash::ok(format!("{name} is changed."))).into()
        }
        Ok(changes) => render(&review(visit.frame, name, &form, &changes)),
        Err(problem) => {
            let status = form.take(stale(problem))?;
            edit_page(&state, visit, &topic, form, status)
        }
    }
}

/// What the change would do: the transaction is dropped.
async fn preview_change(
    state: &WebState,
    visit: &Visit,
    name: &TopicName,
    spec: &TopicSpec,
    revision: i64,
) -> Result<Vec<Change>, Problem> {
    let grant = visit.authorize::<PutTopic>(state, &TopicTarget { name: name.clone(), app: spec.app.clone() })?;
    let mut tx = state.catalog.begin(&visit.actor).await?;
    let put = tx.put_topic(&grant, spec, Precondition::IfMatch(revision)).await?;
    Ok(if put.result == PutResult::Unchanged { Vec::new() } else { put.changes })
}

fn stale(problem: Problem) -> Problem {
    if problem.code != Code::PreconditionFailed {
        return problem;
    }
    let detail = "Somebody changed the topic while you had the form open, so nothing was changed.";
    Problem::new(Code::PreconditionFailed, detail).hint("Open the form again to see the present state.")
}

/// The form's fields that travel through the review.
const FIELDS: [&str; 13] = [
    "app",
    "name",
    "description",
    "classification",
    "visibility",
    "partitions",
    "cleanup",
    "keep",
    "time",
    "time_unit",
    "size",
    "size_unit",
    "revision",
];

fn review(frame: Frame, name: TopicName, form: &Draft, changes: &[Change]) -> ReviewPage {
    ReviewPage {
        frame,
        name,
        destructive: changes.iter().any(|change| change.risk == Risk::Destructive),
        changes: changes.iter().map(line).collect(),
        fields: FIELDS.iter().map(|field| (*field, form.value(field).to_owned())).collect(),
    }
}

fn line(change: &Change) -> ReviewLine {
    let (risk, kind) = match change.risk {
        Risk::Safe => ("safe", "ok"),
        Risk::Disruptive => ("disruptive", "warn"),
        Risk::Destructive => ("destructive", "danger"),
    };
    ReviewLine {
        what: label(&change.path),
        from: shown(&change.path, &change.from),
        to: shown(&change.path, &change.to),
        risk,
        kind,
        why: change.why,
    }
}

/// The pointer into the resource as the form calls it.
fn label(path: &str) -> &'static str {
    match path.trim_start_matches('/') {
        "app" => "Application",
        "description" => "Description",
        "classification" => "Classification",
        "visibility" => "Visible to",
        "partitions" => "Partitions",
        "cleanup" => "Old events",
        "retention/time" | "retention_ms" => "Kept for",
        path if path.starts_with("retention") => "At most, in each partition",
        _ => "Other",
    }
}

fn shown(path: &str, value: &Value) -> String {
    let path = path.trim_start_matches('/');
    match (path, value) {
        ("retention/time" | "retention_ms", Value::Null) => "for ever".to_owned(),
        ("retention/time" | "retention_ms", Value::Number(ms)) => units::duration(ms.as_i64().unwrap_or(0)),
        ("retention/time" | "retention_ms", Value::String(text)) => crate::gateway::position::parse_duration(text)
            .and_then(|time| i64::try_from(time.as_millis()).ok())
            .map_or_else(|| text.clone(), units::duration),
        (path, Value::Null) if path.starts_with("retention") => "no bound".to_owned(),
        (path, Value::Number(bytes)) if path.starts_with("retention") => units::bytes(bytes.as_u64().unwrap_or(0)),
        ("cleanup", Value::String(word)) => {
            parsed(word).map_or_else(|| word.clone(), |c| config::cleanup(c).to_owned())
        }
        ("visibility", Value::String(word)) => {
            parsed(word).map_or_else(|| word.clone(), |v| config::visibility(v).to_owned())
        }
        (_, Value::String(text)) if text.is_empty() => "(none)".to_owned(),
        (_, Value::String(text)) => text.chars().take(REVIEW_CHARS_MAX).collect(),
        (_, other) => other.to_string(),
    }
}

fn parsed<T: serde::de::DeserializeOwned>(word: &str) -> Option<T> {
    serde_json::from_value(Value::String(word.to_owned())).ok()
}

/// The name, as the form asks about it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct NameArgs {
    name: String,
}

/// `GET /ui/topics/check-name`: whether a name is legal and free, while it is typed.
pub async fn check_name(State(state): State<WebState>, visit: Visit, Query(args): Query<NameArgs>) -> PageResult {
    let (class, text) = verdict(&state, &visit, args.name.trim())?;
    let html = format!(
        "<span class=\"name-{class}\">{}</span>",
        askama::filters::e(text, askama::filters::Html).map_err(|error| crate::web::error::internal(&error))?
    );
    Ok(Html(html).into_response())
}

fn verdict(state: &WebState, visit: &Visit, name: &str) -> Result<(&'static str, String), PageError> {
    if name.is_empty() {
        return Ok(("none", String::new()));
    }
    let name = match name.parse::<TopicName>() {
        Ok(name) => name,
        Err(why) => return Ok(("bad", format!("Not a legal name: {why}."))),
    };
    if state.catalog.view().topic(&name).is_some() {
        // Whether one may see it or not: making it would be refused in the same words.
        return Ok(("bad", format!("{name} is taken.")));
    }
    let near = TopicQuery { q: Some(name.as_str().to_owned()), ..TopicQuery::default() };
    let similar = state.catalog.topics(&visit.reading(state)?, &near, &PageRequest::first(3)).items;
    if similar.is_empty() {
        return Ok(("good", format!("{name} is free.")));
    }
    let names: Vec<_> = similar.iter().map(|topic| topic.name.as_str()).collect();
    Ok(("good", format!("{name} is free. There is already {}.", names.join(", "))))
}

/// `POST /ui/topics/preview`: the description as it will look.
pub async fn preview(_: Visit, form: Draft) -> Response {
    let html = markdown::render(form.value("description"));
    Html(if html.is_empty() { "<p class=\"faint\">Nothing yet.</p>".to_owned() } else { html.to_string() })
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_is_said_in_the_words_of_the_form() {
        assert_eq!(shown("/retention/time", &json!(604_800_000_i64)), "7 days");
        assert_eq!(shown("/retention/time", &json!("7d")), "7 days");
        assert_eq!(shown("/retention/bytes_per_partition", &json!(null)), "no bound");
        assert_eq!(shown("/cleanup", &json!("compact")), "last of each key kept");
        assert_eq!(shown("/description", &json!("")), "(none)");
        assert_eq!(label("/partitions"), "Partitions");
    }

    #[test]
    fn a_taken_name_is_wrong_at_its_field() {
        let problem = taken(Problem::new(Code::PreconditionFailed, "x"), &"orders".parse().expect("a topic name"));
        assert_eq!(problem.errors[0].pointer, "/name");
    }
}
