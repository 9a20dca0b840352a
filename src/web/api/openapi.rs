//! The API's description: what the handlers declare, completed by what holds for all of them.

use std::collections::BTreeMap;

use axum::Router;
use axum::http::header::{self, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::web::error::ApiResult;
use crate::web::example::example_of;
use crate::web::extract::Query;
use crate::web::problem::{Code, Problem};
use crate::web::state::WebState;

/// The methods that a path item can have, in the order of the reference.
pub const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];

/// The completed document, in both versions, as it is sent.
#[derive(Debug, Clone)]
pub struct Description {
    /// OpenAPI 3.2.
    pub document: Value,
    v32: Bytes,
    v31: Bytes,
}

impl Description {
    /// Completes what the handlers declare.
    #[must_use]
    pub fn new(declared: &utoipa::openapi::OpenApi) -> Self {
        let mut document = serde_json::to_value(declared).unwrap_or_else(|_| json!({}));
        complete(&mut document);
        let mut older = document.clone();
        older["openapi"] = "3.1.0".into();
        drop_item_schemas(&mut older);
        Self { v32: document.to_string().into(), v31: older.to_string().into(), document }
    }

    /// Serves the document.
    pub fn router(&self) -> Router<WebState> {
        let (v32, v31) = (self.v32.clone(), self.v31.clone());
        Router::new().route("/openapi.json", get(move |query| std::future::ready(serve(query, v32, v31))))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionQuery {
    v: Option<String>,
}

fn serve(Query(query): Query<VersionQuery>, v32: Bytes, v31: Bytes) -> ApiResult<Response> {
    let body = match query.v.as_deref() {
        None | Some("3.2") => v32,
        Some("3.1") => v31,
        Some(_) => return Err(Problem::new(Code::MalformedQuery, "`v` takes 3.2 or 3.1.")),
    };
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
}

fn complete(document: &mut Value) {
    document["openapi"] = "3.2.0".into();
    document["info"] = json!({
        "title": "Weir",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "Teams, applications, topics, access and records of this Weir instance. Names need no quoting in a \
                        shell; `PUT` makes a thing so, however often it is repeated; every refusal is a problem (RFC 9457).",
    });
    document["servers"] = json!([{"url": "/"}]);
    document["tags"] = tags();
    complete_components(document);
    let schemas = document["components"]["schemas"].clone();
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for (path, item) in paths {
        for method in METHODS {
            if let Some(operation) = item.get_mut(method).and_then(Value::as_object_mut) {
                complete_operation(method, path, operation, &schemas);
            }
        }
    }
}

fn tags() -> Value {
    let tag = |name: &str, text: &str| json!({"name": name, "description": text});
    json!([
        tag("records", "Write and read records."),
        tag("topics", "Register topics and change them."),
        tag("access", "Who may do what on which topics."),
        tag("apps", "Register applications."),
        tag("tokens", "Credentials of applications and your own."),
        tag("teams", "Teams and their members."),
        tag("identity", "Who you are."),
        tag("audit", "Who changed what."),
        tag("users", "Accounts, for administrators."),
        tag("operations", "This instance."),
    ])
}

fn complete_components(document: &mut Value) {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let components = &mut document["components"];
    components["securitySchemes"] = json!({
        "token": {"type": "http", "scheme": "bearer",
                  "description": "`weir_app_…` of an application or `weir_pat_…` of a person; also as the password of Basic."},
        "session": {"type": "apiKey", "in": "cookie", "name": "__Host-weir_session",
                    "description": "The portal's session. `weir_session` over plain HTTP on the loopback address."},
    });
    components["schemas"]["Problem"] = json!({
        "type": "object",
        "description": "A refusal (RFC 9457). Some codes add members, as their pages say.",
        "required": ["type", "title", "status", "code", "detail", "retryable", "applied"],
        "properties": {
            "type": {"type": "string", "description": "Where the code is explained."},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "code": {"type": "string", "enum": codes},
            "detail": {"type": "string", "description": "What happened this time."},
            "retryable": {"type": "boolean", "description": "Whether the same request can succeed later."},
            "applied": {"type": "string", "enum": ["none", "unknown", "partial"],
                        "description": "Whether anything was changed or written."},
            "errors": {"type": "array", "items": {"$ref": "#/components/schemas/FieldError"}},
            "hint": {"type": "string", "description": "What to do, where possible a command that can be run."},
            "request_id": {"type": "string"},
        },
    });
    components["schemas"]["FieldError"] = json!({
        "type": "object",
        "required": ["pointer", "detail"],
        "properties": {
            "item": {"type": "integer", "description": "Zero-based number of the record, where the body has several."},
            "pointer": {"type": "string", "description": "JSON pointer into the body, or the name of a parameter."},
            "detail": {"type": "string"},
        },
    });
}

fn complete_operation(method: &str, path: &str, operation: &mut Map<String, Value>, schemas: &Value) {
    let mut codes = own_codes(operation);
    codes.extend(common_codes(method, path, operation));
    operation.remove("x-problems");
    let mut by_status: BTreeMap<u16, Vec<&'static str>> = BTreeMap::new();
    codes.sort_unstable();
    codes.dedup();
    for code in codes {
        by_status.entry(code.status()).or_default().push(code.as_str());
    }
    let sample = curl(method, path, operation, schemas);
    operation.insert("x-codeSamples".to_owned(), json!([{"lang": "Shell", "label": "curl", "source": sample}]));
    let responses = operation.entry("responses").or_insert_with(|| json!({}));
    for (status, codes) in by_status {
        let description = codes.iter().map(|code| format!("`{code}`")).collect::<Vec<_>>().join(", ");
        responses[status.to_string()] = json!({
            "description": description,
            "content": {"application/problem+json": {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "example": Problem::new(first(&codes), first(&codes).explanation()).to_json(),
            }},
        });
    }
}

fn first(codes: &[&str]) -> Code {
    Code::ALL.iter().copied().find(|code| Some(&code.as_str()) == codes.first()).unwrap_or(Code::Internal)
}

/// What the handler declares under `x-problems`.
fn own_codes(operation: &Map<String, Value>) -> Vec<Code> {
    let declared = operation.get("x-problems").and_then(Value::as_array);
    let names = declared.into_iter().flatten().filter_map(Value::as_str);
    names.filter_map(|name| Code::ALL.iter().copied().find(|code| code.as_str() == name)).collect()
}

/// What an operation can answer because of what it takes.
fn common_codes(method: &str, path: &str, operation: &Map<String, Value>) -> Vec<Code> {
    let mut codes = vec![Code::Internal, Code::RequestTimeout];
    let security = operation.get("security").and_then(Value::as_array);
    if security.is_some_and(|security| !security.is_empty()) {
        codes.extend([Code::Unauthenticated, Code::TokenExpired, Code::TokenRevoked, Code::AppSuspended]);
        codes.extend([Code::Forbidden, Code::InsufficientScope, Code::Unavailable, Code::InvalidHeader]);
    }
    if method != "get" {
        codes.push(Code::CsrfRejected);
    }
    if path.contains('{') {
        codes.extend([Code::NotFound, Code::MalformedPath]);
    }
    let parameters = operation.get("parameters").and_then(Value::as_array).into_iter().flatten();
    let names: Vec<&str> = parameters.filter(|p| p["in"] == "query").filter_map(|p| p["name"].as_str()).collect();
    if !names.is_empty() {
        codes.push(Code::MalformedQuery);
    }
    if names.contains(&"cursor") {
        codes.push(Code::InvalidCursor);
    }
    if operation.contains_key("requestBody") {
        codes.extend([Code::MalformedJson, Code::UnsupportedMediaType, Code::PayloadTooLarge]);
        codes.extend([Code::UnknownField, Code::ValidationFailed]);
    }
    if method == "post" && !path.ends_with("/records") {
        codes.extend([Code::IdempotencyInProgress, Code::IdempotencyKeyReused, Code::IdempotencyReplayRefused]);
    }
    codes
}

/// The operation as a command that can be pasted into a shell.
fn curl(method: &str, path: &str, operation: &Map<String, Value>, schemas: &Value) -> String {
    let mut url = path.to_owned();
    for parameter in operation.get("parameters").and_then(Value::as_array).into_iter().flatten() {
        let example = &parameter["example"];
        let example = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
        if let (Some("path"), Some(name)) = (parameter["in"].as_str(), parameter["name"].as_str()) {
            url = url.replace(&format!("{{{name}}}"), &example);
        }
    }
    let verb = if method == "get" { String::new() } else { format!(" -X {}", method.to_uppercase()) };
    let mut command = format!("curl -fsS{verb} \"$WEIR{url}\"");
    if operation.get("security").and_then(Value::as_array).is_some_and(|security| !security.is_empty()) {
        command.push_str(" -H \"Authorization: Bearer $T\"");
    }
    let content = operation.get("requestBody").and_then(|body| body["content"].as_object());
    let media = content.and_then(|content| content.get_key_value("application/json").or_else(|| content.iter().next()));
    if let Some((kind, example)) = media.and_then(|(kind, media)| Some((kind, example_of(media, schemas)?))) {
        let text = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
        let quoted = text.replace('\'', "'\\''");
        command.push_str(&format!(" \\\n  -H 'Content-Type: {kind}' \\\n  -d '{quoted}'"));
    }
    command
}

/// OpenAPI 3.1 does not know `itemSchema`.
fn drop_item_schemas(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("itemSchema");
            fields.values_mut().for_each(drop_item_schemas);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_item_schemas),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
