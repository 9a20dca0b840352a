//! Asking beforehand: may this application do that, and if not, why, and what would help?

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::catalog::Catalog;
use crate::catalog::access::{Actor, Consume, ManageTopic, Principal, Produce, ReadCatalog};
use crate::catalog::error::{Denied, MissingScope};
use crate::catalog::model::{Application, GrantTarget, Operation, Topic};
use crate::names::{AppName, TopicName};
use crate::web::auth::Caller;
use crate::web::error::ApiResult;
use crate::web::extract::Json;
use crate::web::state::WebState;

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new().routes(routes!(check_access))
}

/// The question.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"app": "shipping", "topic": "orders", "action": "consume"}))]
struct CheckBody {
    /// Who; left out: you, by the credential of this request.
    #[serde(default)]
    app: Option<AppName>,
    topic: TopicName,
    action: Operation,
}

/// The answer.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"allowed": false, "why": "shipping holds no grant to consume orders",
    "how": "A member of the team payments grants it: curl -X PUT $WEIR/v1/topics/orders/access/shipping …"}))]
struct Check {
    allowed: bool,
    why: String,
    /// What would help, if it is not allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    how: Option<String>,
}

/// Says whether an application, or you, may do something with a topic, and why.
#[utoipa::path(post, path = "/v1/access/check", operation_id = "checkAccess", tag = "access", request_body = CheckBody,
    security(("token" = ["catalog:read"])), extensions(("x-problems" = json!(["topic-deleted"]))),
    responses((status = 200, description = "Whether and why", body = Check)))]
async fn check_access(
    State(state): State<WebState>,
    Caller(caller): Caller,
    Json(question): Json<CheckBody>,
) -> ApiResult<Json<Check>> {
    let read = state.catalog.authorize::<ReadCatalog>(&caller, &())?;
    let topic = state.catalog.topic(&read, &question.topic)?;
    let (subject, app) = match &question.app {
        Some(name) => {
            let app = state.catalog.app(&read, name)?;
            (as_app(&app), Some(app))
        }
        None => (caller, None),
    };
    let verdict = decide(&state.catalog, &subject, &topic.name, question.action);
    Ok(Json(match verdict {
        Ok(()) => {
            Check { allowed: true, why: why_allowed(&state.catalog, &subject, app.as_deref(), &topic), how: None }
        }
        Err(denied) => refused(&denied, &subject, &topic, question.action),
    }))
}

/// The application itself, as if by a token that covers everything.
fn as_app(app: &Application) -> Arc<Actor> {
    let principal = Principal::App { id: app.id, name: app.name.clone(), team: app.team_id };
    Arc::new(Actor { principal, token: None, address: None, request_id: None })
}

fn decide(catalog: &Catalog, subject: &Arc<Actor>, topic: &TopicName, action: Operation) -> Result<(), Denied> {
    match action {
        Operation::Produce => catalog.authorize::<Produce>(subject, topic).map(drop),
        Operation::Consume => catalog.authorize::<Consume>(subject, topic).map(drop),
        Operation::Manage => catalog.authorize::<ManageTopic>(subject, topic).map(drop),
    }
}

fn why_allowed(catalog: &Catalog, subject: &Actor, app: Option<&Application>, topic: &Topic) -> String {
    let name = subject.app().or(app.map(|app| &app.name));
    if name == Some(&topic.app) {
        return format!("{} owns the topic", topic.app);
    }
    let view = catalog.view();
    let held = name.and_then(|name| view.grants_on(topic).find(|grant| grant.app == *name));
    match held {
        Some(grant) => {
            let operations: Vec<_> = grant.operations.iter().map(|operation| operation.as_str()).collect();
            let by = match &grant.target {
                GrantTarget::Topic(_) => String::new(),
                GrantTarget::Prefix { prefix, .. } => format!(" on the prefix {prefix}"),
            };
            format!("{} holds a grant{by} ({}), given by {}", grant.app, operations.join(", "), grant.granted_by)
        }
        None => format!("{} acts for the team {} or one that holds a grant", subject.label(), topic.team),
    }
}

fn refused(denied: &Denied, subject: &Actor, topic: &Topic, action: Operation) -> Check {
    let (who, verb) = (subject.label(), action.as_str());
    let granting = |app: &str| {
        format!(
            "A member of the team {} grants it: curl -X PUT $WEIR/v1/topics/{}/access/{app} -H \"Authorization: Bearer $T\" \
             -H 'Content-Type: application/json' -d '{{\"operations\":[\"{verb}\"]}}'",
            topic.team, topic.name
        )
    };
    let (why, how) = match denied {
        Denied::AppSuspended { app } => (
            format!("{app} is suspended"),
            format!("A member of its team resumes it: curl -X POST $WEIR/v1/apps/{app}/resume"),
        ),
        Denied::InsufficientScope { missing: MissingScope::Scope(scope) } => {
            (format!("the token lacks the scope {scope}"), "Make a token with that scope.".to_owned())
        }
        Denied::InsufficientScope { missing: MissingScope::Topic(topic) } => (
            format!("the token's topic patterns leave {topic} out"),
            "Make a token whose patterns cover it.".to_owned(),
        ),
        Denied::InsufficientScope { missing: MissingScope::Prefix(prefix) } => (
            format!("the token's topic patterns leave some of {prefix}* out"),
            "Make a token whose patterns cover it.".to_owned(),
        ),
        Denied::TopicDeleted { topic, .. } => (
            format!("{topic} was deleted"),
            format!("Its owner restores it: curl -X POST $WEIR/v1/topics/{topic}/restore"),
        ),
        Denied::Credential(error) => (error.to_string(), "Use another credential.".to_owned()),
        Denied::NotFound { .. } | Denied::Forbidden { .. } => {
            let app = subject.app().map_or("APP", |name| name.as_str());
            (format!("{who} holds no grant to {verb} {}", topic.name), granting(app))
        }
    };
    Check { allowed: false, why, how: Some(how) }
}
