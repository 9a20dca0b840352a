//! Who is in a team, and the two ways in: being asked, and asking.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, ChangeQuery, List};
use super::idempotency::SecretOf;
use super::wire::Moment;
use crate::catalog::access::{JoinTeam, ManageTeam, ReadCatalog};
use crate::catalog::model::{Invitation, JoinRequest, Membership, TeamRole};
use crate::names::{Email, InvitationId, TeamName};
use crate::web::auth::Caller;
use crate::web::error::ApiResult;
use crate::web::extract::{Json, Path, Query};
use crate::web::state::WebState;

pub(super) fn router() -> OpenApiRouter<WebState> {
    OpenApiRouter::new()
        .routes(routes!(list_members))
        .routes(routes!(put_member, delete_member))
        .routes(routes!(list_join_requests, request_to_join))
        .routes(routes!(approve_join_request))
        .routes(routes!(reject_join_request))
        .routes(routes!(list_invitations, invite))
        .routes(routes!(withdraw_invitation))
        .routes(routes!(accept_invitation))
}

/// A person's place in a team.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"email": "ada@example.com", "name": "Ada", "role": "maintainer", "since": "2026-11-22T09:00:00.000Z"}))]
struct MemberView {
    email: Email,
    name: String,
    role: TeamRole,
    since: Moment,
}

impl From<Membership> for MemberView {
    fn from(member: Membership) -> Self {
        Self { email: member.email, name: member.name, role: member.role, since: Moment(member.since) }
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"role": "member"}))]
struct MemberBody {
    role: TeamRole,
}

/// Lists a team's members, maintainers first.
#[utoipa::path(get, path = "/v1/teams/{team}/members", operation_id = "listMembers", tag = "teams",
    params(("team" = String, Path, description = "Name of the team", example = "payments")),
    security(("token" = ["catalog:read"])), responses((status = 200, description = "All members", body = List<MemberView>)))]
async fn list_members(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(team): Path<TeamName>,
) -> ApiResult<Json<List<MemberView>>> {
    let grant = state.catalog.authorize::<ReadCatalog>(&actor, &())?;
    let members = state.catalog.members(&grant, &team)?;
    Ok(Json(List { items: members.into_iter().map(MemberView::from).collect(), next: None }))
}

/// Makes somebody with an account a member, or changes the role.
#[utoipa::path(put, path = "/v1/teams/{team}/members/{email}", operation_id = "putMember", tag = "teams",
    params(("team" = String, Path, description = "Name of the team", example = "payments"),
           ("email" = String, Path, description = "Address of the person", example = "ada@example.com"), ChangeQuery),
    request_body = MemberBody, security(("token" = ["apps:write"])),
    extensions(("x-problems" = json!(["conflict"]))),
    responses((status = 200, description = "Changed, or as it was", body = MemberView),
              (status = 201, description = "Became a member", body = MemberView)))]
async fn put_member(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path((team, email)): Path<(TeamName, Email)>,
    Query(query): Query<ChangeQuery>,
    Json(body): Json<MemberBody>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ManageTeam>(&actor, &team)?;
    let mut tx = state.catalog.begin(&actor).await?;
    let put = tx.set_member(&grant, &email, body.role).await?;
    if query.dry_run {
        return Ok(answer::dry_run(put.result.as_str(), put.changes));
    }
    tx.commit().await?;
    Ok(answer::done(MemberView::from(put.value), put.result))
}

/// Takes somebody out of the team; everybody may leave.
#[utoipa::path(delete, path = "/v1/teams/{team}/members/{email}", operation_id = "deleteMember", tag = "teams",
    params(("team" = String, Path, description = "Name of the team", example = "payments"),
           ("email" = String, Path, description = "Address of the person", example = "ada@example.com"), ChangeQuery),
    security(("token" = ["apps:write"])), extensions(("x-problems" = json!(["conflict"]))),
    responses((status = 204, description = "No longer a member")))]
async fn delete_member(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path((team, email)): Path<(TeamName, Email)>,
    Query(query): Query<ChangeQuery>,
) -> ApiResult<Response> {
    if actor.user().is_some() && actor.label() == email.as_str() {
        let grant = state.catalog.authorize::<JoinTeam>(&actor, &team)?;
        let mut tx = state.catalog.begin(&actor).await?;
        tx.leave_team(&grant).await?;
        return answer::finish_removal(tx, query).await;
    }
    let grant = state.catalog.authorize::<ManageTeam>(&actor, &team)?;
    let mut tx = state.catalog.begin(&actor).await?;
    tx.remove_member(&grant, &email).await?;
    answer::finish_removal(tx, query).await
}

/// Somebody who wants to be let in.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"team": "payments", "email": "bob@example.com", "name": "Bob", "message": "I take over from Ada",
    "since": "2026-11-22T09:00:00.000Z"}))]
struct JoinRequestView {
    team: TeamName,
    email: Email,
    name: String,
    message: String,
    since: Moment,
}

impl From<JoinRequest> for JoinRequestView {
    fn from(request: JoinRequest) -> Self {
        Self {
            team: request.team,
            email: request.email,
            name: request.name,
            message: request.message,
            since: Moment(request.since),
        }
    }
}

#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"message": "I take over from Ada"}))]
struct JoinBody {
    /// Why, for the maintainers.
    #[serde(default)]
    message: String,
}

/// Lists who wants to join, oldest first.
#[utoipa::path(get, path = "/v1/teams/{team}/join-requests", operation_id = "listJoinRequests", tag = "teams",
    params(("team" = String, Path, description = "Name of the team", example = "payments")),
    security(("token" = ["apps:write"])),
    responses((status = 200, description = "All open requests", body = List<JoinRequestView>)))]
async fn list_join_requests(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(team): Path<TeamName>,
) -> ApiResult<Json<List<JoinRequestView>>> {
    let grant = state.catalog.authorize::<ManageTeam>(&actor, &team)?;
    let requests = state.catalog.join_requests(&grant).await?;
    Ok(Json(List { items: requests.into_iter().map(JoinRequestView::from).collect(), next: None }))
}

/// Asks a team's maintainers to be let in.
#[utoipa::path(post, path = "/v1/teams/{team}/join-requests", operation_id = "requestToJoin", tag = "teams",
    params(("team" = String, Path, description = "Name of the team", example = "payments")),
    request_body = JoinBody, security(("token" = ["apps:write"])), extensions(("x-problems" = json!(["conflict"]))),
    responses((status = 201, description = "Asked", body = JoinRequestView)))]
async fn request_to_join(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(team): Path<TeamName>,
    body: Option<Json<JoinBody>>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<JoinTeam>(&actor, &team)?;
    let mut tx = state.catalog.begin(&actor).await?;
    let request = tx.request_to_join(&grant, &body.map(|Json(body)| body.message).unwrap_or_default()).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(JoinRequestView::from(request))).into_response())
}

/// Lets somebody in who asked.
#[utoipa::path(post, path = "/v1/teams/{team}/join-requests/{email}/approve", operation_id = "approveJoinRequest",
    tag = "teams",
    params(("team" = String, Path, description = "Name of the team", example = "payments"),
           ("email" = String, Path, description = "Who asked", example = "bob@example.com")),
    security(("token" = ["apps:write"])), responses((status = 204, description = "Is a member now")))]
async fn approve_join_request(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path((team, email)): Path<(TeamName, Email)>,
) -> ApiResult<StatusCode> {
    decide(&state, &actor, &team, &email, true).await
}

/// Does not let somebody in who asked.
#[utoipa::path(post, path = "/v1/teams/{team}/join-requests/{email}/reject", operation_id = "rejectJoinRequest",
    tag = "teams",
    params(("team" = String, Path, description = "Name of the team", example = "payments"),
           ("email" = String, Path, description = "Who asked", example = "bob@example.com")),
    security(("token" = ["apps:write"])), responses((status = 204, description = "The request is closed")))]
async fn reject_join_request(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path((team, email)): Path<(TeamName, Email)>,
) -> ApiResult<StatusCode> {
    decide(&state, &actor, &team, &email, false).await
}

async fn decide(
    state: &WebState,
    actor: &std::sync::Arc<crate::catalog::access::Actor>,
    team: &TeamName,
    email: &Email,
    admit: bool,
) -> ApiResult<StatusCode> {
    let grant = state.catalog.authorize::<ManageTeam>(actor, team)?;
    let mut tx = state.catalog.begin(actor).await?;
    tx.decide_join(&grant, email, admit).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An open invitation.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"id": "019a2f7e-0000-7000-8000-000000000000", "team": "payments", "email": "bob@example.com",
    "role": "member", "invited_by": "ada@example.com", "created_at": "2026-11-22T09:00:00.000Z",
    "expires_at": "2026-11-29T09:00:00.000Z"}))]
struct InvitationView {
    id: InvitationId,
    team: TeamName,
    email: Email,
    role: TeamRole,
    invited_by: String,
    created_at: Moment,
    expires_at: Moment,
    /// Opens the invitation. Shown once, in the answer that made it; give it to nobody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl From<Invitation> for InvitationView {
    fn from(invitation: Invitation) -> Self {
        Self {
            id: invitation.id,
            team: invitation.team,
            email: invitation.email,
            role: invitation.role,
            invited_by: invitation.invited_by,
            created_at: Moment(invitation.created_at),
            expires_at: Moment(invitation.expires_at),
            secret: None,
        }
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "bob@example.com", "role": "member"}))]
struct InviteBody {
    email: Email,
    #[serde(default = "member")]
    role: TeamRole,
}

fn member() -> TeamRole {
    TeamRole::Member
}

/// Lists a team's open invitations, newest first.
#[utoipa::path(get, path = "/v1/teams/{team}/invitations", operation_id = "listInvitations", tag = "teams",
    params(("team" = String, Path, description = "Name of the team", example = "payments")),
    security(("token" = ["apps:write"])),
    responses((status = 200, description = "All open invitations", body = List<InvitationView>)))]
async fn list_invitations(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(team): Path<TeamName>,
) -> ApiResult<Json<List<InvitationView>>> {
    let grant = state.catalog.authorize::<ManageTeam>(&actor, &team)?;
    let invitations = state.catalog.invitations(&grant).await?;
    Ok(Json(List { items: invitations.into_iter().map(InvitationView::from).collect(), next: None }))
}

/// Invites somebody, with or without an account. The secret is shown once.
#[utoipa::path(post, path = "/v1/teams/{team}/invitations", operation_id = "invite", tag = "teams",
    params(("team" = String, Path, description = "Name of the team", example = "payments")),
    request_body = InviteBody, security(("token" = ["apps:write"])), extensions(("x-problems" = json!(["conflict"]))),
    responses((status = 201, description = "Invited", body = InvitationView)))]
async fn invite(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path(team): Path<TeamName>,
    Json(body): Json<InviteBody>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ManageTeam>(&actor, &team)?;
    let mut tx = state.catalog.begin(&actor).await?;
    let (invitation, secret) = tx.invite(&grant, &body.email, body.role).await?;
    tx.commit().await?;
    let mut view = InvitationView::from(invitation);
    view.secret = Some(secret.expose().to_owned());
    let secret_of = SecretOf::answer(view.id.to_string());
    Ok((StatusCode::CREATED, secret_of, Json(view)).into_response())
}

/// Takes an open invitation back.
#[utoipa::path(delete, path = "/v1/teams/{team}/invitations/{id}", operation_id = "withdrawInvitation", tag = "teams",
    params(("team" = String, Path, description = "Name of the team", example = "payments"),
           ("id" = String, Path, description = "The invitation", example = "019a2f7e-0000-7000-8000-000000000000"), ChangeQuery),
    security(("token" = ["apps:write"])), responses((status = 204, description = "The link no longer works")))]
async fn withdraw_invitation(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Path((team, id)): Path<(TeamName, InvitationId)>,
    Query(query): Query<ChangeQuery>,
) -> ApiResult<Response> {
    let grant = state.catalog.authorize::<ManageTeam>(&actor, &team)?;
    let mut tx = state.catalog.begin(&actor).await?;
    tx.withdraw_invitation(&grant, id).await?;
    answer::finish_removal(tx, query).await
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"secret": "the secret of the invitation"}))]
struct AcceptBody {
    secret: String,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"team": "payments"}))]
struct Accepted {
    team: TeamName,
}

/// Accepts an invitation as the person it was made for.
#[utoipa::path(post, path = "/v1/invitations/accept", operation_id = "acceptInvitation", tag = "teams",
    request_body = AcceptBody, security(("token" = ["apps:write"])), extensions(("x-problems" = json!(["conflict"]))),
    responses((status = 200, description = "Is a member now", body = Accepted)))]
async fn accept_invitation(
    State(state): State<WebState>,
    Caller(actor): Caller,
    Json(body): Json<AcceptBody>,
) -> ApiResult<Json<Accepted>> {
    // Whoever may ask to join by this credential may also accept; the catalog checks for whom the invitation is.
    if let Some(invitation) = state.catalog.invitation(&body.secret).await? {
        state.catalog.authorize::<JoinTeam>(&actor, &invitation.team)?;
    }
    let team = state.catalog.accept_invitation(&actor, &body.secret).await?;
    Ok(Json(Accepted { team }))
}
