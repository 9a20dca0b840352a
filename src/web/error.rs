//! Errors of the parts below, as refusals a client can see. What they were caused by is logged here, once, and stays here.

use std::error::Error;
use std::fmt::Display;
use std::time::Duration;

use axum::http::header::{self, HeaderValue};
use serde_json::json;

use super::problem::{Code, FieldError, Problem};
use crate::catalog::error::{AuthError, CatalogError, ChangeError, Denied, Kind, MissingScope, Required, SignInError};
use crate::catalog::page::BadCursor;
use crate::names::AppName;
use crate::provision::ProvisionError;

/// What a handler of the API returns.
pub type ApiResult<T> = Result<T, Problem>;

/// A defect or a broken world: logged with its cause, told without it (invariant I10).
#[must_use]
pub fn internal(cause: &dyn Display) -> Problem {
    tracing::error!(%cause, "a request failed");
    Problem::new(
        Code::Internal,
        "Something failed inside Weir. The server's log has the cause under this request's id.",
    )
}

/// Seconds for `Retry-After`, rounded up, at least one.
fn seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}

/// An error with everything below it, for the log.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(below) = cause {
        text.push_str(": ");
        text.push_str(&below.to_string());
        cause = below.source();
    }
    text
}

impl From<CatalogError> for Problem {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Unavailable(_) => {
                tracing::warn!(cause = chain(&error), "the catalog cannot be reached");
                Self::new(Code::Unavailable, "The catalog's database cannot be reached. Nothing was changed.")
                    .retry_after(2)
            }
            CatalogError::Database(_) | CatalogError::Damaged(_) => internal(&chain(&error)),
        }
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let challenge = HeaderValue::from_static("Bearer realm=\"weir\", error=\"invalid_token\"");
        let refused =
            |code, detail: String| Self::new(code, detail).header(header::WWW_AUTHENTICATE, challenge.clone());
        match error {
            AuthError::Unknown => refused(Code::Unauthenticated, "The token is not known here.".to_owned()),
            AuthError::Expired { at } => refused(Code::TokenExpired, format!("The token ended at {at}.")),
            AuthError::Revoked => refused(Code::TokenRevoked, "The token was revoked.".to_owned()),
            AuthError::Disabled => refused(Code::Unauthenticated, "The account is disabled.".to_owned()),
            AuthError::AppSuspended { app } => app_suspended(&app),
        }
    }
}

fn app_suspended(app: &AppName) -> Problem {
    Problem::new(Code::AppSuspended, format!("The application {app} is suspended.")).with("app", app.as_str())
}

/// Nothing of this kind has the name, or the caller may not know of it.
#[must_use]
pub fn not_found(kind: Kind, name: &str) -> Problem {
    let noun = if kind == Kind::Application { "application" } else { kind.as_str() };
    Problem::new(Code::NotFound, format!("There is no {noun} `{name}`, or you may not know of it."))
        .with("kind", kind.as_str())
        .with("name", name)
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::NotFound { kind, name } => not_found(kind, &name),
            Denied::Forbidden { required, app } => forbidden(required, app.as_ref()),
            Denied::InsufficientScope { missing } => insufficient_scope(&missing),
            Denied::AppSuspended { app } => app_suspended(&app),
            Denied::TopicDeleted { topic, purge_after } => {
                let at = super::api::wire::Moment(purge_after).to_string();
                Self::new(
                    Code::TopicDeleted,
                    format!("The topic `{topic}` was deleted; it can be restored until {at}."),
                )
                .with("purge_after", at)
                .with("restore", format!("/v1/topics/{topic}/restore"))
                .hint(format!("curl -X POST $WEIR/v1/topics/{topic}/restore -H \"Authorization: Bearer $T\""))
            }
            Denied::Credential(error) => error.into(),
        }
    }
}

fn forbidden(required: Required, app: Option<&AppName>) -> Problem {
    match required {
        Required::Operation { topic, operation } => {
            let operation = operation.as_str();
            let page = match app {
                Some(app) => format!("/topics/{topic}/access?app={app}"),
                None => format!("/topics/{topic}/access"),
            };
            Problem::new(Code::Forbidden, format!("This needs the right to {operation} on topic `{topic}`."))
                .with("required", json!({"operation": operation, "topic": topic}))
                .with("request_access", page)
        }
        Required::Member { team } => {
            Problem::new(Code::Forbidden, format!("This needs membership of the team `{team}`."))
                .with("required", json!({"team": team, "role": "member"}))
                .with("request_access", format!("/teams/{team}"))
        }
        Required::Maintainer { team } => {
            Problem::new(Code::Forbidden, format!("Only maintainers of the team `{team}` may do this."))
                .with("required", json!({"team": team, "role": "maintainer"}))
                .with("request_access", format!("/teams/{team}"))
        }
        Required::Admin => Problem::new(Code::Forbidden, "Only administrators of this instance may do this.")
            .with("required", json!({"role": "admin"})),
        Required::Person => Problem::new(Code::Forbidden, "Only a person can do this, not an application.")
            .with("required", json!({"principal": "user"})),
    }
}

fn insufficient_scope(missing: &MissingScope) -> Problem {
    let (detail, required) = match missing {
        MissingScope::Scope(scope) => {
            (format!("The token lacks the scope `{scope}`."), json!({"scope": scope.as_str()}))
        }
        MissingScope::Topic(topic) => {
            (format!("The token's topic patterns leave out `{topic}`."), json!({"topic": topic}))
        }
        MissingScope::Prefix(prefix) => {
            let detail = format!("The token's topic patterns leave out some of `{prefix}*`.");
            (detail, json!({"topic": format!("{prefix}*")}))
        }
    };
    let challenge = HeaderValue::from_static("Bearer realm=\"weir\", error=\"insufficient_scope\"");
    Problem::new(Code::InsufficientScope, detail).with("required", required).header(header::WWW_AUTHENTICATE, challenge)
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Denied(denied) => denied.into(),
            ChangeError::NameTaken { kind, name } => {
                Self::new(Code::Conflict, format!("The {kind} name `{name}` is taken.")).with("kind", kind.as_str())
            }
            ChangeError::NotEmpty { blocking } => {
                Self::new(Code::NotEmpty, format!("{} must go first.", blocking.join(", "))).with("blocking", blocking)
            }
            ChangeError::IncompatibleChange { why } => Self::new(Code::IncompatibleChange, why),
            ChangeError::PreconditionFailed { current } => precondition_failed(current),
            ChangeError::Invalid { pointer, detail } => {
                Self::new(Code::ValidationFailed, format!("{pointer}: {detail}")).error(FieldError {
                    item: None,
                    pointer,
                    detail,
                })
            }
            ChangeError::NotFound { kind, name } => not_found(kind, &name),
            ChangeError::Conflict { detail } => Self::new(Code::Conflict, detail),
            ChangeError::Throttled { retry_after } => throttled(retry_after),
            ChangeError::Catalog(error) => error.into(),
        }
    }
}

fn precondition_failed(current: Option<i64>) -> Problem {
    match current {
        Some(revision) => Problem::new(Code::PreconditionFailed, format!("Its present version is \"r{revision}\"."))
            .with("current", format!("\"r{revision}\"")),
        None => Problem::new(Code::PreconditionFailed, "It does not exist."),
    }
}

fn throttled(wait: Duration) -> Problem {
    let wait = seconds(wait);
    Problem::new(Code::QuotaExceeded, format!("Too many attempts; wait {wait} s.")).retry_after(wait)
}

impl From<SignInError> for Problem {
    fn from(error: SignInError) -> Self {
        match error {
            SignInError::Wrong => Self::new(Code::Unauthenticated, "E-mail address or password is wrong."),
            SignInError::Disabled => Self::new(Code::Unauthenticated, "The account is disabled."),
            SignInError::Throttled { retry_after } => throttled(retry_after),
            SignInError::Catalog(error) => error.into(),
        }
    }
}

impl From<ProvisionError> for Problem {
    fn from(error: ProvisionError) -> Self {
        tracing::error!(cause = chain(&error), "a topic is registered but not held by the engine yet");
        let detail = "The topic is registered, and the log will hold it as soon as it can. Repeat the request to see.";
        let mut problem = Self::new(Code::Unavailable, detail).retry_after(2);
        problem.applied = Some(super::problem::Applied::Partial);
        problem
    }
}

impl From<BadCursor> for Problem {
    fn from(_: BadCursor) -> Self {
        Self::new(Code::InvalidCursor, "The cursor cannot be understood; use the `next` of the page before.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttled_attempt_says_when_to_come_back() {
        let problem = Problem::from(SignInError::Throttled { retry_after: Duration::from_millis(1200) });
        assert_eq!(problem.code, Code::QuotaExceeded);
        assert_eq!(problem.headers, [(header::RETRY_AFTER, HeaderValue::from_static("2"))]);
    }

    #[test]
    fn what_failed_below_is_not_told() {
        let secret = "password authentication failed for user weir";
        let problem = Problem::from(CatalogError::Damaged(secret.to_owned()));
        assert_eq!(problem.code, Code::Internal);
        assert!(!problem.to_json().to_string().contains("password"));
        assert_eq!(Problem::from(CatalogError::Unavailable(None)).code, Code::Unavailable);
    }
}
