//! Invitations: a link that makes its holder a member of a team, once, with or without an account.

use std::sync::Arc;

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::access::{Actor, Grant, ManageTeam, Principal};
use super::error::{CatalogError, ChangeError, Denied, Kind, Required};
use super::model::{Invitation, Secret, SignedIn, TeamRole};
use super::{Catalog, Origin, Tx, limits, load, password, secret};
use crate::names::{Email, InvitationId, TeamName, UserId};

/// How long an invitation can be accepted.
const OPEN_FOR: Duration = Duration::days(14);
/// Most open invitations of a team.
const OPEN_MAX: i64 = 1000;

impl Catalog {
    /// The team's open invitations, newest first, at most 1000.
    pub async fn invitations(&self, grant: &Grant<ManageTeam>) -> Result<Vec<Invitation>, CatalogError> {
        let now = self.now();
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT i.id AS "id!: InvitationId", t.name AS "team!: TeamName", i.email AS "email!: Email", i.role AS "role!",
                      i.invited_by AS "invited_by!", i.created_at AS "created_at!", i.expires_at AS "expires_at!",
                      EXISTS (SELECT FROM users WHERE users.email = i.email) AS "has_account!"
               FROM invitations i JOIN teams t ON t.id = i.team_id
               WHERE i.team_id = $1 AND i.expires_at > $2 ORDER BY i.created_at DESC LIMIT $3"#,
            grant.resource().id.0,
            now,
            OPEN_MAX
        )
        .fetch_all(self.pool())
        .await?;
        rows.into_iter().map(Invitation::try_from).collect()
    }

    /// What an invitation link is for; `None` when it is unknown, used or expired.
    pub async fn invitation(&self, link: &str) -> Result<Option<Invitation>, CatalogError> {
        let mut conn = self.pool().acquire().await?;
        open(&mut conn, link, self.now()).await
    }

    /// Accepts as the signed-in person, whose address must be the invited one. Returns the team.
    pub async fn accept_invitation(&self, actor: &Arc<Actor>, link: &str) -> Result<TeamName, ChangeError> {
        let Principal::User { id, email, .. } = &actor.principal else {
            return Err(Denied::Forbidden { required: Required::Person, app: actor.app().cloned() }.into());
        };
        let mut tx = self.begin(actor).await?;
        let invitation = tx.take_invitation(link).await?;
        if invitation.email != *email {
            return Err(ChangeError::Conflict { detail: format!("the invitation is for {}", invitation.email) });
        }
        tx.enter_invited(&invitation, *id).await?;
        tx.commit().await?;
        Ok(invitation.team)
    }

    /// Accepts by making the account, and signs in.
    pub async fn register_by_invitation(
        &self,
        link: &str,
        name: &str,
        password: String,
        from: &Origin,
    ) -> Result<SignedIn, ChangeError> {
        limits::name("/name", name)?;
        let Some(invitation) = self.invitation(link).await? else {
            return Err(ChangeError::missing(Kind::Invitation, "link"));
        };
        self.inner
            .throttle
            .attempt(from.address, invitation.email.as_str())
            .map_err(|retry_after| ChangeError::Throttled { retry_after })?;
        // Before the password is hashed, which costs much: such a link could be used to keep the server busy.
        if invitation.has_account {
            return Err(ChangeError::NameTaken { kind: Kind::User, name: invitation.email.to_string() });
        }
        password::check(&password, &invitation.email)?;
        let hash = password::hash(password).await?;
        let mut tx = self.begin(&from.system_actor()).await?;
        let invitation = tx.take_invitation(link).await?;
        let user = tx.insert_user(&invitation.email, name, false, &hash).await?;
        tx.enter_invited(&invitation, user).await?;
        tx.commit().await?;
        Ok(self.open_session(user, from).await?)
    }
}

impl Tx {
    /// Invites somebody; the secret is the link's and is shown once. An open invitation of the same address is replaced.
    pub async fn invite(
        &mut self,
        grant: &Grant<ManageTeam>,
        email: &Email,
        role: TeamRole,
    ) -> Result<(Invitation, Secret), ChangeError> {
        let team = Arc::clone(grant.resource());
        let open_ones = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM invitations WHERE team_id = $1 AND email <> $2"#,
            team.id.0,
            email.as_str()
        )
        .fetch_one(self.conn())
        .await?;
        if open_ones >= OPEN_MAX {
            return Err(ChangeError::Conflict { detail: format!("{} has too many open invitations", team.name) });
        }
        let (id, secret) = (InvitationId::new(), secret::new_secret());
        let now = self.now;
        let actor = Arc::clone(&self.actor);
        sqlx::query!(
            "INSERT INTO invitations (id, hash, team_id, email, role, invited_by, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (team_id, email) DO UPDATE SET id = excluded.id, hash = excluded.hash, role = excluded.role,
                 invited_by = excluded.invited_by, created_at = excluded.created_at, expires_at = excluded.expires_at",
            id.0,
            &secret::hash(secret.expose()),
            team.id.0,
            email.as_str(),
            role.as_str(),
            actor.label(),
            now,
            now + OPEN_FOR
        )
        .execute(self.conn())
        .await?;
        let line = serde_json::json!({ "user": email, "role": role });
        self.audit_team("team.invite", &team, None, Some(line)).await?;
        let invitation = open(self.conn(), secret.expose(), now).await?;
        let invitation = invitation.ok_or_else(|| ChangeError::missing(Kind::Invitation, id))?;
        Ok((invitation, secret))
    }

    /// Takes an open invitation back.
    pub async fn withdraw_invitation(
        &mut self,
        grant: &Grant<ManageTeam>,
        id: InvitationId,
    ) -> Result<(), ChangeError> {
        let team = Arc::clone(grant.resource());
        let email = sqlx::query_scalar!(
            "DELETE FROM invitations WHERE id = $1 AND team_id = $2 RETURNING email",
            id.0,
            team.id.0
        )
        .fetch_optional(self.conn())
        .await?;
        let Some(email) = email else { return Err(ChangeError::missing(Kind::Invitation, id)) };
        self.audit_team("team.invite.withdraw", &team, Some(serde_json::json!({ "user": email })), None).await?;
        Ok(())
    }

    /// Uses the link up.
    async fn take_invitation(&mut self, link: &str) -> Result<Invitation, ChangeError> {
        let now = self.now;
        let found = open(self.conn(), link, now).await?;
        let Some(invitation) = found else { return Err(ChangeError::missing(Kind::Invitation, "link")) };
        sqlx::query!("DELETE FROM invitations WHERE id = $1", invitation.id.0).execute(self.conn()).await?;
        Ok(invitation)
    }

    async fn enter_invited(&mut self, invitation: &Invitation, user: UserId) -> Result<(), ChangeError> {
        let id = sqlx::query_scalar!("SELECT id FROM teams WHERE name = $1", invitation.team.as_str())
            .fetch_one(self.conn())
            .await?;
        let team = load::the_only(load::teams(self.conn(), Some(&[id])).await?)?;
        let line = serde_json::json!({ "user": invitation.email, "role": invitation.role });
        self.audit_team("team.invite.accept", &team, Some(line), None).await?;
        // Whoever is a maintainer already is not demoted by an older invitation.
        let role = self.role_in(&team, user).await?.map_or(invitation.role, |role| role.max(invitation.role));
        self.enter_team(&team, user, &invitation.email, role).await?;
        Ok(())
    }
}

struct Row {
    id: InvitationId,
    team: TeamName,
    email: Email,
    role: String,
    invited_by: String,
    created_at: OffsetDateTime,
    expires_at: OffsetDateTime,
    has_account: bool,
}

impl TryFrom<Row> for Invitation {
    type Error = CatalogError;
    fn try_from(row: Row) -> Result<Self, CatalogError> {
        Ok(Self {
            id: row.id,
            team: row.team,
            email: row.email,
            role: load::word(&row.role)?,
            invited_by: row.invited_by,
            created_at: row.created_at,
            expires_at: row.expires_at,
            has_account: row.has_account,
        })
    }
}

/// The invitation behind a link, if it can still be accepted.
async fn open(conn: &mut PgConnection, link: &str, now: OffsetDateTime) -> Result<Option<Invitation>, CatalogError> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT i.id AS "id!: InvitationId", t.name AS "team!: TeamName", i.email AS "email!: Email", i.role AS "role!",
                  i.invited_by AS "invited_by!", i.created_at AS "created_at!", i.expires_at AS "expires_at!",
                  EXISTS (SELECT FROM users WHERE users.email = i.email) AS "has_account!"
           FROM invitations i JOIN teams t ON t.id = i.team_id
           WHERE i.hash = $1 AND i.expires_at > $2"#,
        &secret::hash(link),
        now
    );
    row.fetch_optional(conn).await?.map(Invitation::try_from).transpose()
}
