//! The error catalogue: pages for people, JSON for programs. The `type` of every problem leads here, so these addresses
//! answer both, and need no account.

use askama::Template;
use axum::Router;
use axum::http::header::{self, HeaderMap};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use crate::web::extract::{Json, Path, nearest, printable};
use crate::web::page::{Frame, PageResult, render};
use crate::web::paths;
use crate::web::problem::{Applied, Code, Problem};
use crate::web::state::WebState;

pub fn router() -> Router<WebState> {
    Router::new().route("/problems", get(list)).route("/problems/{code}", get(show))
}

/// One entry of the catalogue.
#[derive(Debug, Serialize)]
struct Entry {
    code: &'static str,
    r#type: String,
    status: u16,
    title: &'static str,
    retryable: bool,
    applied: Applied,
    explanation: &'static str,
}

impl From<Code> for Entry {
    fn from(code: Code) -> Self {
        Self {
            code: code.as_str(),
            r#type: paths::problem(code.as_str()),
            status: code.status(),
            title: code.title(),
            retryable: code.retryable(),
            applied: code.applied(),
            explanation: code.explanation(),
        }
    }
}

impl Entry {
    fn effect(&self) -> &'static str {
        match self.applied {
            Applied::None => "Nothing was changed or written.",
            Applied::Unknown => "It is unknown whether anything was changed; read before you repeat it.",
            Applied::Partial => "A part was done; the body says which.",
        }
    }

    fn again(&self) -> &'static str {
        if self.retryable { "The same request can succeed later." } else { "Repeating the same request does not help." }
    }
}

#[derive(Serialize)]
struct Entries {
    items: Vec<Entry>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "problems/list.html")]
struct ListPage {
    frame: Frame,
    entries: Vec<Entry>,
}

#[derive(Template)]
#[template(path = "problems/show.html")]
struct ShowPage {
    frame: Frame,
    entry: Entry,
    example: String,
}

async fn list(frame: Frame, headers: HeaderMap) -> PageResult {
    let entries: Vec<Entry> = Code::ALL.iter().copied().map(Entry::from).collect();
    if wants_page(&headers) {
        return render(&ListPage { frame, entries });
    }
    Ok(Json(Entries { items: entries, next: None }).into_response())
}

async fn show(Path(name): Path<String>, frame: Frame, headers: HeaderMap) -> Result<Response, Problem> {
    let code = Code::ALL.iter().copied().find(|code| code.as_str() == name).ok_or_else(|| unknown(&name))?;
    if !wants_page(&headers) {
        return Ok(Json(Entry::from(code)).into_response());
    }
    let example = Problem::new(code, "What happened this time, in a sentence.").to_json();
    let example = serde_json::to_string_pretty(&example).unwrap_or_default();
    let page = render(&ShowPage { frame, entry: Entry::from(code), example });
    Ok(page.unwrap_or_else(IntoResponse::into_response))
}

fn wants_page(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|accept| accept.contains("text/html"))
}

fn unknown(name: &str) -> Problem {
    let name = printable(name);
    let problem = Problem::new(Code::NotFound, format!("There is no problem `{name}`.")).with("kind", "problem");
    match nearest(&name, Code::ALL.iter().map(|code| code.as_str())) {
        Some(similar) => problem.hint(format!("Did you mean /problems/{similar}?")),
        None => problem,
    }
}
