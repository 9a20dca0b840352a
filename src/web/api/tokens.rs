//! Tokens of applications, and one's own. A secret is shown once, in the answer that made it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use time::OffsetDateTime;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, ChangeQuery, List};
use super::idempotency::SecretOf;
use super::wire::{Moment, Span};
use crate::catalog::access::{ManageAppTokens, OwnTokens};
use crate::catalog::model::{Scope, Secret, Token, TokenHolder, TokenSpec};
use crate::names::{AppName, TokenId};
use crate::web::auth::Caller;
use crate::web::error::ApiResult;
use crate::web::extract::{Json, Path, Query};
use crate::web::state::WebState;

/// Life of a token that does not say: 90 days.
const LIFE_DEFAULT: Span = Span { ms: 90 * 24 * 60 * 60 * 1000 };
/// Overlap of a rotation that does not say: a day.
const OVERLAP_DEFAULT: Span = Span { ms: 24 * 60 * 60 * 1000 };

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new()
        .routes(routes!(list_app_tokens, create_app_token))
        .routes(routes!(rotate_app_token))
        .routes(routes!(revoke_app_token))
        .routes(routes!(list_own_tokens, create_own_token))
        .routes(routes!(rotate_own_token))
        .routes(routes!(revoke_own_token))
}

/// A token, without its secret.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"id": "019a2f7e-0000-7000-8000-000000000000", "name": "ci", "prefix": "weir_app_x7Gq",
    "scopes": ["records:produce"], "topics": ["orders*"], "state": "active", "created_by": "ada@example.com",
    "created_at": "2026-11-22T09:00:00.000Z", "expires_at": "2027-02-20T09:00:00.000Z", "revoked_at": null,
    "last_used_at": null, "last_used_ip": null}))]
struct TokenView {
    id: TokenId,
    /// The application, or absent for one's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<AppName>,
    name: String,
    /// First characters of the secret, to recognise it by.
    prefix: String,
    scopes: Vec<Scope>,
    /// Patterns of topic names; empty: every topic.
    topics: Vec<String>,
    /// `active`, `expired` or `revoked`.
    state: &'static str,
    created_by: String,
    created_at: Moment,
    expires_at: Option<Moment>,
    revoked_at: Option<Moment>,
    last_used_at: Option<Moment>,
    last_used_ip: Option<String>,
}

impl TokenView {
    fn new(token: Token, now: OffsetDateTime) -> Self {
        let state = match (token.revoked_at, token.expires_at) {
            (Some(_), _) => "revoked",
            (None, Some(end)) if end <= now => "expired",
            (None, _) => "active",
        };
        let app = match token.holder {
            TokenHolder::App { name, .. } => Some(name),
            TokenHolder::User { .. } => None,
        };
        Self {
            id: token.id,
            app,
            name: token.name,
            prefix: token.prefix,
            scopes: token.scopes,
            topics: token.topics,
            state,
            created_by: token.created_by,
            created_at: Moment(token.created_at),
            expires_at: token.expires_at.map(Moment),
            revoked_at: token.revoked_at.map(Moment),
            last_used_at: token.last_used_at.map(Moment),
            last_used_ip: token.last_used_address,
        }
    }
}

/// A token that was made just now.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"token": "weir_app_x7Gq…", "id": "019a2f7e-0000-7000-8000-000000000000", "name": "ci",
    "prefix": "weir_app_x7Gq", "scopes": ["records:produce"], "topics": [], "expires_at": "2027-02-20T09:00:00.000Z"}))]
struct NewToken {
    /// The secret. It is not shown again.
    token: String,
    id: TokenId,
    name: String,
    prefix: String,
    scopes: Vec<Scope>,
    topics: Vec<String>,
    expires_at: Option<Moment>,
}

impl NewToken {
    fn answer(token: Token, secret: &Secret) -> Response {
        let secret_of = SecretOf::answer(token.id.to_string());
        let view = Self {
            token: secret.expose().to_owned(),
            id: token.id,
            name: token.name,
            prefix: token.prefix,
            scopes: token.scopes,
            topics: token.topics,
            expires_at: token.expires_at.map(Moment),
        };
        (StatusCode::CREATED, secret_of, Json(view)).into_response()
    }
}

/// How long a token lives: a span of time, or `never` for one that does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lifetime {
    Endless,
    For(Span),
}

impl FromStr for Lifetime {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self::Endless);
        }
        text.parse().map(Self::For).map_err(|error| format!("{error}, or never"))
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endless => f.write_str("never"),
            Self::For(span) => span.fmt(f),
        }
    }
}

impl Default for Lifetime {
    fn default() -> Self {
        Self::For(LIFE_DEFAULT)
    }
}

impl<'de> Deserialize<'de> for Lifetime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl utoipa::PartialSchema for Lifetime {
    fn schema() -> RefOr<Schema> {
        let pattern = "^(never|[0-9]+(w|d|h|m|s|ms))$";
        ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some(pattern))
            .examples([serde_json::json!("90d")])
            .into()
    }
}

impl utoipa::ToSchema for Lifetime {}

/// A token as it is wanted. It never covers more than the caller's own credential.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "ci", "scopes": ["records:produce"], "topics": ["orders*"], "expires_in": "90d"}))]
struct TokenBody {
    name: String,
    scopes: Vec<Scope>,
    /// Names of topics, with `*` at the end for all that begin so. Empty: every topic.
    #[serde(default)]
    topics: Vec<String>,
    /// `90d` if nothing is said.
    #[serde(default)]
    expires_in: Lifetime,
}

impl TokenBody {
    fn into_spec(self, now: OffsetDateTime) -> TokenSpec {
        let expires_at = match self.expires_in {
            Lifetime::Endless => None,
            Lifetime::For(span) => Some(now.saturating_add(time::Duration::milliseconds(span.ms))),
        };
        TokenSpec { name: self.name, scopes: self.scopes, topics: self.topics, expires_at }
    }
}

#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"overlap": "24h"}))]
struct RotateBody {
    /// How long the old secret still works; `24h` if nothing is said.
    #[serde(default)]
    overlap: Option<Span>,
}

fn overlap(body: Option<Json<RotateBody>>) -> Duration {
    let span = body.and_then(|Json(body)| body.overlap).unwrap_or(OVERLAP_DEFAULT);
    Duration::from_millis(u64::try_from(span.ms).unwrap_or(0))
}

fn listed(tokens: Vec<Token>, state: &WebState) -> Json<List<TokenView>> {
    let now = state.clock.now_datetime();
    Json(List { items: tokens.into_iter().map(|token| TokenView::new(token, now)).collect(), next: None })
}

/// Lists an application's tokens, newest first.
#[utoipa::path(get, path = "/v1/apps/{app}/tokens", operation_id = "listAppTokens", tag = "tokens",
    params(("app" = String, Path, description = "Name of the application", example = "checkout")),
    security(("token" = ["tokens:write"])),
    responses((status = 200, description = "All tokens; ended ones for 30 days", body = List<TokenView>)))]
async fn list_app_tokens(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(app): Path<AppName>,
) -> ApiResult<Json<List<TokenView>>> {
    let grant = state.catalog.authorize::<ManageAppTokens>(&actor, &app)?;
    Ok(listed(state.catalog.tokens_of_app(&grant).await?, &state))
}

/// Makes a token for an application. The secret is shown once.
#[utoipa::path(post, path = "/v1/apps/{app}/tokens", operation_id = "createAppToken", tag = "tokens",
    params(("app" = String, Path, description = "Name of the application", example = "checkout")),
    request_body = TokenBody, security(("token" = ["tokens:write"])), extensions(("x-problems" = json!(["validation-failed"]))),
    responses((status = 201, description = "Made", body = NewToken)))]
async fn create_app_token(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(app): Path<AppName>,
    Json(body): Json<TokenBody>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ManageAppTokens>(&actor, &app)?;
    let mut tx = state.catalog.begin(&actor).await?;
    let (token, secret) = tx.create_app_token(&grant, &body.into_spec(state.clock.now_datetime())).await?;
    tx.commit().await?;
    Ok(NewToken::answer(token, &secret))
}

/// Replaces a token by a new one with the same rights; the old one ends after the overlap.
#[utoipa::path(post, path = "/v1/apps/{app}/tokens/{id}/rotate", operation_id = "rotateAppToken", tag = "tokens",
    params(("app" = String, Path, description = "Name of the application", example = "checkout"),
           ("id" = String, Path, description = "The token", example = "019a2f7e-0000-7000-8000-000000000000")),
    request_body = RotateBody, security(("token" = ["tokens:write"])), extensions(("x-problems" = json!(["conflict"]))),
    responses((status = 201, description = "Made", body = NewToken)))]
async fn rotate_app_token(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path((app, id)): Path<(AppName, TokenId)>,
    body: Option<Json<RotateBody>>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ManageAppTokens>(&actor, &app)?;
    let mut tx = state.catalog.begin(&actor).await?;
    let (token, secret) = tx.rotate_app_token(&grant, id, overlap(body)).await?;
    tx.commit().await?;
    Ok(NewToken::answer(token, &secret))
}

/// Ends a token now; its open streams end within a second.
#[utoipa::path(delete, path = "/v1/apps/{app}/tokens/{id}", operation_id = "revokeAppToken", tag = "tokens",
    params(("app" = String, Path, description = "Name of the application", example = "checkout"),
           ("id" = String, Path, description = "The token", example = "019a2f7e-0000-7000-8000-000000000000"), ChangeQuery),
    security(("token" = ["tokens:write"])), responses((status = 204, description = "Refused from now on")))]
async fn revoke_app_token(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path((app, id)): Path<(AppName, TokenId)>,
    Query(query): Query<ChangeQuery>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ManageAppTokens>(&actor, &app)?;
    let mut tx = state.catalog.begin(&actor).await?;
    tx.revoke_app_token(&grant, id).await?;
    answer::finish_removal(tx, query).await
}

/// Lists your own tokens, newest first.
#[utoipa::path(get, path = "/v1/me/tokens", operation_id = "listOwnTokens", tag = "tokens",
    security(("token" = ["tokens:write"])),
    responses((status = 200, description = "All tokens; ended ones for 30 days", body = List<TokenView>)))]
async fn list_own_tokens(State(state): State<WebState>, Caller(actor): Caller) -> ApiResult<Json<List<TokenView>>> {
    let grant = state.catalog.authorize::<OwnTokens>(&actor, &())?;
    Ok(listed(state.catalog.tokens_of_user(&grant).await?, &state))
}

/// Makes a token of your own. The secret is shown once.
#[utoipa::path(post, path = "/v1/me/tokens", operation_id = "createOwnToken", tag = "tokens",
    request_body = TokenBody, security(("token" = ["tokens:write"])), extensions(("x-problems" = json!(["validation-failed"]))),
    responses((status = 201, description = "Made", body = NewToken)))]
async fn create_own_token(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Json(body): Json<TokenBody>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<OwnTokens>(&actor, &())?;
    let mut tx = state.catalog.begin(&actor).await?;
    let (token, secret) = tx.create_own_token(&grant, &body.into_spec(state.clock.now_datetime())).await?;
    tx.commit().await?;
    Ok(NewToken::answer(token, &secret))
}

/// Replaces one of your tokens by a new one with the same rights; the old one ends after the overlap.
#[utoipa::path(post, path = "/v1/me/tokens/{id}/rotate", operation_id = "rotateOwnToken", tag = "tokens",
    params(("id" = String, Path, description = "The token", example = "019a2f7e-0000-7000-8000-000000000000")),
    request_body = RotateBody, security(("token" = ["tokens:write"])), extensions(("x-problems" = json!(["conflict"]))),
    responses((status = 201, description = "Made", body = NewToken)))]
async fn rotate_own_token(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(id): Path<TokenId>,
    body: Option<Json<RotateBody>>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<OwnTokens>(&actor, &())?;
    let mut tx = state.catalog.begin(&actor).await?;
    let (token, secret) = tx.rotate_own_token(&grant, id, overlap(body)).await?;
    tx.commit().await?;
    Ok(NewToken::answer(token, &secret))
}

/// Ends one of your tokens now.
#[utoipa::path(delete, path = "/v1/me/tokens/{id}", operation_id = "revokeOwnToken", tag = "tokens",
    params(("id" = String, Path, description = "The token", example = "019a2f7e-0000-7000-8000-000000000000"), ChangeQuery),
    security(("token" = ["tokens:write"])), responses((status = 204, description = "Refused from now on")))]
async fn revoke_own_token(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(id): Path<TokenId>,
    Query(query): Query<ChangeQuery>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<OwnTokens>(&actor, &())?;
    let mut tx = state.catalog.begin(&actor).await?;
    tx.revoke_own_token(&grant, id).await?;
    answer::finish_removal(tx, query).await
}
