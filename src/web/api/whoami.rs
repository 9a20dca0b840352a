//! Who the caller is, and what its credential covers.

use axum::extract::State;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::wire::Moment;
use crate::catalog::access::{Actor, Principal};
use crate::catalog::model::{Scope, TeamRole};
use crate::names::{TeamName, TokenId};
use crate::web::auth::Caller;
use crate::web::extract::Json;
use crate::web::state::WebState;

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new().routes(routes!(whoami))
}

/// The caller.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"principal": {"type": "app", "name": "checkout"}, "admin": false,
    "teams": [{"team": "payments", "role": "member"}],
    "token": {"id": "019a2f7e-0000-7000-8000-000000000000", "name": "ci", "scopes": ["records:produce"], "topics": ["orders*"],
              "expires_at": "2027-02-20T00:00:00.000Z"}}))]
struct Whoami {
    principal: PrincipalView,
    /// May do everything on this instance.
    admin: bool,
    teams: Vec<TeamPlace>,
    /// `null` for a portal session, which covers everything that the person may do.
    token: Option<TokenCover>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct PrincipalView {
    /// `user` or `app`.
    r#type: &'static str,
    /// E-mail address or application name.
    name: String,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct TeamPlace {
    team: TeamName,
    role: TeamRole,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct TokenCover {
    id: TokenId,
    name: String,
    scopes: Vec<Scope>,
    /// Empty: every topic.
    topics: Vec<String>,
    expires_at: Option<Moment>,
}

/// Says who you are.
#[utoipa::path(get, path = "/v1/whoami", operation_id = "whoami", tag = "identity", security(("token" = [])),
    responses((status = 200, description = "The caller", body = Whoami)))]
async fn whoami(State(state): State<WebState>, Caller(actor): Caller) -> Json<Whoami> {
    let teams =
        state.catalog.teams_of(&actor).into_iter().map(|(team, role)| TeamPlace { team: team.name.clone(), role });
    Json(Whoami { principal: principal(&actor), admin: is_admin(&actor), teams: teams.collect(), token: cover(&actor) })
}

fn principal(actor: &Actor) -> PrincipalView {
    let r#type = match &actor.principal {
        Principal::User { .. } => "user",
        Principal::App { .. } => "app",
        Principal::System => "system",
    };
    PrincipalView { r#type, name: actor.label().to_owned() }
}

fn is_admin(actor: &Actor) -> bool {
    let covered = actor.token.as_ref().is_none_or(|token| token.scopes.contains(&Scope::Admin));
    matches!(actor.principal, Principal::User { admin: true, .. }) && covered
}

fn cover(actor: &Actor) -> Option<TokenCover> {
    actor.token.as_ref().map(|token| TokenCover {
        id: token.id,
        name: token.name.clone(),
        scopes: token.scopes.clone(),
        topics: token.topics.clone(),
        expires_at: token.expires_at.map(Moment),
    })
}
