//! The API's description and the error catalogue say what is true, and are where people and programs look for them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use weir::catalog::model::Scope;
use weir::web::problem::{Applied, Code};

use crate::harness::Weir;

const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];

async fn document(weir: &Weir) -> Value {
    weir.get("/openapi.json").await.status(200).json()
}

/// Every operation with its method and path.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in METHODS {
            if item[method].is_object() {
                all.push((format!("{method} {path}"), &item[method]));
            }
        }
    }
    all
}

/// Every `$ref` in the document.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                found.insert(reference.to_owned());
            }
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_operation_has_an_identifier_a_scope_its_refusals_and_an_example() {
    let weir = Weir::start().await;
    let document = document(&weir).await;
    assert_eq!(document["openapi"], "3.2.0");
    let mut identifiers = BTreeSet::new();
    let scopes: BTreeSet<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    let tags: BTreeSet<&str> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    for (name, operation) in operations(&document) {
        assert!(
            identifiers.insert(operation["operationId"].as_str().unwrap().to_owned()),
            "{name}: identifier used twice"
        );
        assert!(operation["summary"].as_str().is_some_and(|text| text.ends_with('.')), "{name}: a sentence as summary");
        assert!(tags.contains(operation["tags"][0].as_str().unwrap()), "{name}: a documented tag");
        for scope in operation["security"][0]["token"].as_array().into_iter().flatten() {
            assert!(scopes.contains(scope.as_str().unwrap()), "{name}: {scope} is no scope");
        }
        if name != "get /v1/status" {
            assert!(operation["security"].is_array(), "{name}: says who may call it");
            assert!(operation["responses"]["401"].is_object(), "{name}: refuses nobody");
        }
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{name}: succeeds");
        for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
            let media = &response["content"]["application/problem+json"];
            assert_eq!(media["schema"]["$ref"], "#/components/schemas/Problem", "{name} {status}");
            assert!(media["example"]["code"].is_string(), "{name} {status}: an example");
        }
        let sample = operation["x-codeSamples"][0]["source"].as_str().unwrap();
        assert!(sample.starts_with("curl ") && !sample.contains('{') || sample.contains("-d '"), "{name}: {sample}");
        assert!(!sample.split("-d ").next().unwrap().contains('{'), "{name}: a parameter without example: {sample}");
        if operation["requestBody"].is_object() {
            assert!(sample.contains("-d '") || sample.contains("--data-binary"), "{name}: a body without example");
        }
    }
}

#[tokio::test]
async fn the_description_refers_to_nothing_that_is_missing() {
    let weir = Weir::start().await;
    let document = document(&weir).await;
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let older = weir.get("/openapi.json?v=3.1").await.status(200).json();
    assert_eq!(older["openapi"], "3.1.0");
    weir.get("/openapi.json?v=2").await.problem(400, "malformed-query");
}

/// Changes of the contract are seen in review: `INSTA_UPDATE=always cargo test --test it api_docs` accepts them.
#[tokio::test]
async fn the_contract_is_the_one_that_was_agreed() {
    let weir = Weir::start().await;
    let document = document(&weir).await;
    let mut contract = String::new();
    for (name, operation) in operations(&document) {
        let scopes: Vec<&str> = operation["security"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|entry| entry["token"].as_array().into_iter().flatten())
            .filter_map(Value::as_str)
            .collect();
        let parameters: Vec<&str> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] != "path")
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        let answers: Vec<&str> = operation["responses"].as_object().unwrap().keys().map(String::as_str).collect();
        contract.push_str(&format!(
            "{name}\n  {} scope [{}] takes [{}]\n  answers {}\n",
            operation["operationId"].as_str().unwrap(),
            scopes.join(" "),
            parameters.join(" "),
            answers.join(" ")
        ));
    }
    insta::assert_snapshot!("contract", contract);
    insta::assert_snapshot!("schemas", serde_json::to_string_pretty(&document["components"]["schemas"]).unwrap());
}

#[tokio::test]
async fn the_reference_shows_every_operation_without_a_script_of_its_own() {
    let weir = Weir::start().await;
    let document = document(&weir).await;
    let page = weir.get("/docs").await.status(200);
    assert!(page.header("content-type").starts_with("text/html"));
    let html = page.text();
    for (name, operation) in operations(&document) {
        let anchor = format!("id=\"{}\"", operation["operationId"].as_str().unwrap());
        assert!(html.contains(&anchor), "{name} is not on the page");
    }
    assert!(!html.contains("https://cdn") && !html.contains("<script>"), "nothing from elsewhere, nothing inline");
}

#[tokio::test]
async fn every_code_has_a_page_for_people_and_an_entry_for_programs() {
    let weir = Weir::start().await;
    let listed = weir.get("/problems").await.status(200).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), Code::ALL.len());
    for code in Code::ALL {
        let path = format!("/problems/{}", code.as_str());
        let entry = weir.get(&path).await.status(200).json();
        assert_eq!(
            (entry["status"].as_u64(), entry["title"].as_str()),
            (Some(u64::from(code.status())), Some(code.title()))
        );
        let request = weir.anonymous().request(reqwest::Method::GET, &path).header("accept", "text/html");
        let page = weir.anonymous().send(request).await.status(200);
        assert!(page.header("content-type").starts_with("text/html") && page.text().contains(code.as_str()));
    }
    let typo = weir.get("/problems/not-fond").await.problem(404, "not-found");
    assert_eq!(typo["hint"], "Did you mean /problems/not-found?");
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// A code that no test produces is a promise that nobody has kept yet.
#[test]
fn every_code_is_produced_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("tests/it"), &mut files);
    let over_http: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let beside_the_code: String = files
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .filter_map(|text| text.split_once("#[cfg(test)]\nmod tests").map(|(_, tests)| tests.to_owned()))
        .collect();
    let unproduced: Vec<&str> = Code::ALL
        .iter()
        .filter(|code| !over_http.contains(&format!("\"{}\"", code.as_str())))
        .filter(|code| !beside_the_code.contains(&format!("Code::{code:?}")))
        .map(|code| code.as_str())
        .collect();
    assert!(unproduced.is_empty(), "no test produces {unproduced:?}");
}

/// `UPDATE_DOCS=1 cargo test --test it api_docs` writes it.
#[test]
fn the_table_of_errors_in_the_documentation_is_current() {
    let mut text = String::from(
        "# Errors\n\nEvery refusal is a problem (RFC 9457) whose `code` is one of these. This page is made from the catalogue in\n\
         `src/web/problem.rs`; the instance itself serves it at `/problems`.\n\n\
         `retryable`: the same request can succeed later. `applied`: whether anything was changed or written.\n\n\
         | code | status | retryable | applied | meaning |\n|---|---|---|---|---|\n",
    );
    for code in Code::ALL {
        let applied = match code.applied() {
            Applied::None => "none",
            Applied::Unknown => "unknown",
            Applied::Partial => "partial",
        };
        let retryable = if code.retryable() { "yes" } else { "no" };
        text.push_str(&format!(
            "| `{}` | {} | {retryable} | {applied} | {}. {} |\n",
            code.as_str(),
            code.status(),
            code.title().trim_end_matches('?'),
            code.explanation()
        ));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap_or_default(), text, "docs/errors.md is not current");
}
