//! Accounts, for administrators.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, List, page_request};
use super::idempotency::SecretOf;
use super::wire::Moment;
use crate::catalog::access::Administer;
use crate::catalog::error::{ChangeError, Kind};
use crate::catalog::model::User;
use crate::names::{Email, UserId};
use crate::web::auth::Caller;
use crate::web::error::ApiResult;
use crate::web::extract::{Json, Path, Query};
use crate::web::problem::{Code, Problem};
use crate::web::state::WebState;

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new()
        .routes(routes!(list_users, create_user))
        .routes(routes!(patch_user))
        .routes(routes!(reset_password))
}

/// An account.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"id": "019a2f7e-0000-7000-8000-000000000000", "email": "ada@example.com", "name": "Ada",
    "admin": false, "disabled": false, "created_at": "2026-11-22T09:00:00.000Z", "last_login_at": null}))]
struct UserView {
    id: UserId,
    email: Email,
    name: String,
    admin: bool,
    disabled: bool,
    created_at: Moment,
    last_login_at: Option<Moment>,
    /// The first password. Shown once, in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            email: user.email,
            name: user.name,
            admin: user.admin,
            disabled: user.disabled,
            created_at: Moment(user.created_at),
            last_login_at: user.last_login_at.map(Moment),
            password: None,
        }
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct UsersQuery {
    /// Part of the address or the name.
    q: Option<String>,
    /// Items on a page, 1 to 1000.
    #[param(default = 100)]
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Lists accounts by address.
#[utoipa::path(get, path = "/v1/users", operation_id = "listUsers", tag = "users", params(UsersQuery),
    security(("token" = ["admin"])), responses((status = 200, description = "A page of accounts", body = List<UserView>)))]
async fn list_users(
    State(state): State<WebState>,
    Caller(actor): Caller,
    uri: Uri,
    Query(query): Query<UsersQuery>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<Administer>(&actor, &())?;
    let page = page_request(query.limit, query.cursor.as_deref())?;
    Ok(answer::list::<_, UserView>(state.catalog.users(&grant, query.q.as_deref(), &page).await?, &uri))
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "ada@example.com", "name": "Ada", "admin": false}))]
struct UserBody {
    email: Email,
    /// What stands before the `@` if nothing is said.
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    admin: bool,
}

impl UserBody {
    fn name(&self) -> &str {
        let local = self.email.as_str().split('@').next().unwrap_or_default();
        self.name.as_deref().unwrap_or(local)
    }
}

/// Makes an account. Its first password is made up and shown once.
#[utoipa::path(post, path = "/v1/users", operation_id = "createUser", tag = "users", request_body = UserBody,
    security(("token" = ["admin"])), extensions(("x-problems" = json!(["conflict", "validation-failed"]))),
    responses((status = 201, description = "Made", body = UserView)))]
async fn create_user(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Json(body): Json<UserBody>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<Administer>(&actor, &())?;
    let (user, secret) = state.catalog.create_user(&grant, &body.email, body.name(), body.admin, None).await?;
    let mut view = UserView::from(user);
    view.password = secret.map(|secret| secret.expose().to_owned());
    let secret_of = SecretOf::answer(view.id.to_string());
    Ok((StatusCode::CREATED, secret_of, Json(view)).into_response())
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"disabled": true}))]
struct UserPatch {
    #[serde(default)]
    admin: Option<bool>,
    /// A disabled account cannot sign in, its sessions end and its tokens are refused.
    #[serde(default)]
    disabled: Option<bool>,
}

/// Disables or enables an account, makes it an administrator's or takes that away.
#[utoipa::path(patch, path = "/v1/users/{id}", operation_id = "patchUser", tag = "users",
    params(("id" = String, Path, description = "The account", example = "019a2f7e-0000-7000-8000-000000000000")),
    request_body(content = UserPatch, content_type = "application/merge-patch+json"), security(("token" = ["admin"])),
    extensions(("x-problems" = json!(["conflict", "validation-failed"]))),
    responses((status = 200, description = "The account", body = UserView)))]
async fn patch_user(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(id): Path<UserId>,
    Json(patch): Json<UserPatch>,
) -> ApiResult<Json<UserView>> {
    let grant = state.catalog.authorize::<Administer>(&actor, &())?;
    // Two changes would be two transactions; one at a time keeps a failure from leaving half of it.
    let user = match (patch.admin, patch.disabled) {
        (Some(admin), None) => state.catalog.set_admin(&grant, id, admin).await?,
        (None, Some(disabled)) => state.catalog.set_disabled(&grant, id, disabled).await?,
        _ => return Err(Problem::new(Code::ValidationFailed, "Say either `admin` or `disabled`.")),
    };
    Ok(Json(UserView::from(user)))
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"password": "shown once"}))]
struct NewPassword {
    password: String,
}

/// Gives an account a new password, shown once, and ends its sessions.
#[utoipa::path(post, path = "/v1/users/{id}/reset-password", operation_id = "resetPassword", tag = "users",
    params(("id" = String, Path, description = "The account", example = "019a2f7e-0000-7000-8000-000000000000")),
    security(("token" = ["admin"])), responses((status = 200, description = "The new password", body = NewPassword)))]
async fn reset_password(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(id): Path<UserId>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<Administer>(&actor, &())?;
    let missing = || ChangeError::NotFound { kind: Kind::User, name: id.to_string() };
    let email = state.catalog.view().user(id).map(|user| user.email.clone()).ok_or_else(missing)?;
    let secret = state.catalog.reset_password(&grant, &email, None).await?.ok_or_else(missing)?;
    let body = NewPassword { password: secret.expose().to_owned() };
    Ok((SecretOf::answer(id.to_string()), Json(body)).into_response())
}
