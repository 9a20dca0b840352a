//! The API reference: our own page, made from the same description that `/openapi.json` gives, so that it works under the
//! content security policy and without the internet (decision 16).

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::routing::get;
use serde_json::{Map, Value};

use crate::web::example::example_of;
use crate::web::page::{Frame, PageResult, render};
use crate::web::state::WebState;

/// Methods in the order of the page.
const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];

/// The reference of this description.
pub fn router(document: &Value) -> Router<WebState> {
    let sections: Arc<[Section]> = sections(document).into();
    Router::new().route("/docs", get(move |frame: Frame| std::future::ready(show(frame, sections))))
}

fn show(frame: Frame, sections: Arc<[Section]>) -> PageResult {
    render(&Page { frame, sections: &sections })
}

#[derive(Template)]
#[template(path = "reference/page.html")]
struct Page<'s> {
    frame: Frame,
    sections: &'s [Section],
}

impl Page<'_> {
    /// What to type before the commands of the page.
    fn setup(&self) -> String {
        format!(
            "WEIR={}\nT=weir_app_…   # from an application's page, or weir_pat_… from your account",
            self.frame.base_url
        )
    }
}

/// Operations that belong together.
#[derive(Debug)]
struct Section {
    name: String,
    text: String,
    operations: Vec<Operation>,
}

#[derive(Debug)]
struct Operation {
    id: String,
    method: String,
    path: String,
    summary: String,
    text: String,
    /// Scopes, or where it is open to everybody, nothing.
    scopes: Vec<String>,
    open: bool,
    parameters: Vec<Parameter>,
    sample: String,
    answers: Vec<Answer>,
}

impl Operation {
    fn kind(&self) -> &'static str {
        match self.method.as_str() {
            "GET" => "outline",
            "DELETE" => "danger",
            _ => "accent",
        }
    }
}

#[derive(Debug)]
struct Parameter {
    name: String,
    place: String,
    required: bool,
    text: String,
}

#[derive(Debug)]
struct Answer {
    status: String,
    text: String,
    /// Codes of a refusal.
    codes: Vec<String>,
    example: Option<String>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn sections(document: &Value) -> Vec<Section> {
    let tags = document["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of_tag = |name: &Value| {
        let paths = document["paths"].as_object().into_iter().flatten();
        let all = paths.flat_map(|(path, item)| METHODS.iter().map(move |method| (path, *method, &item[*method])));
        all.filter(|(_, _, operation)| operation["tags"].as_array().is_some_and(|tags| tags.contains(name)))
            .filter_map(|(path, method, operation)| {
                Some(self::operation(path, method, operation.as_object()?, document))
            })
            .collect()
    };
    tags.iter()
        .map(|tag| Section {
            name: text(&tag["name"]),
            text: text(&tag["description"]),
            operations: of_tag(&tag["name"]),
        })
        .filter(|section| !section.operations.is_empty())
        .collect()
}

fn operation(path: &str, method: &str, operation: &Map<String, Value>, document: &Value) -> Operation {
    let field = |name: &str| operation.get(name).unwrap_or(&Value::Null);
    let security = field("security").as_array().map(Vec::as_slice).unwrap_or_default();
    let scopes = security.iter().filter_map(|entry| entry["token"].as_array()).flatten().map(text).collect();
    Operation {
        id: text(field("operationId")),
        method: method.to_uppercase(),
        path: path.to_owned(),
        summary: text(field("summary")),
        text: text(field("description")),
        scopes,
        open: security.is_empty(),
        parameters: field("parameters").as_array().into_iter().flatten().map(parameter).collect(),
        sample: text(&field("x-codeSamples")[0]["source"]),
        answers: field("responses")
            .as_object()
            .into_iter()
            .flatten()
            .map(|(status, response)| answer(status, response, document))
            .collect(),
    }
}

fn parameter(parameter: &Value) -> Parameter {
    Parameter {
        name: text(&parameter["name"]),
        place: text(&parameter["in"]),
        required: parameter["required"] == true,
        text: text(&parameter["description"]),
    }
}

fn answer(status: &str, response: &Value, document: &Value) -> Answer {
    let refused = &response["content"]["application/problem+json"];
    if refused.is_object() {
        let description = text(&response["description"]);
        let codes = description.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        return Answer { status: status.to_owned(), text: String::new(), codes, example: None };
    }
    let media = response["content"].as_object().and_then(|content| content.values().next());
    let example = media.and_then(|media| example_of(media, &document["components"]["schemas"]));
    let pretty = |value: Value| match value {
        Value::String(text) => text,
        other => serde_json::to_string_pretty(&other).unwrap_or_default(),
    };
    Answer {
        status: status.to_owned(),
        text: text(&response["description"]),
        codes: Vec::new(),
        example: example.map(pretty),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_operation_shows_its_scope_its_command_and_its_refusals() {
        let document = json!({
            "tags": [{"name": "teams", "description": "Teams."}, {"name": "empty", "description": ""}],
            "paths": {"/v1/teams": {"get": {
                "operationId": "listTeams", "tags": ["teams"], "summary": "Lists teams.",
                "security": [{"token": ["catalog:read"]}],
                "x-codeSamples": [{"source": "curl …"}],
                "responses": {
                    "200": {"description": "A page", "content": {"application/json": {"example": {"items": []}}}},
                    "401": {"description": "`token-expired`, `unauthenticated`", "content": {"application/problem+json": {}}},
                },
            }}},
        });
        let sections = sections(&document);
        assert_eq!(sections.len(), 1, "a section without operations is left out");
        let operation = &sections[0].operations[0];
        assert_eq!(operation.scopes, ["catalog:read"]);
        assert_eq!(operation.answers[0].example.as_deref(), Some("{\n  \"items\": []\n}"));
        assert_eq!(operation.answers[1].codes, ["token-expired", "unauthenticated"]);
    }
}
