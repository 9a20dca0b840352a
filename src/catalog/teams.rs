//! Teams and who is in them.

use std::sync::Arc;

use serde_json::Value;

use super::access::{Actor, Grant, JoinTeam, ManageTeam, Principal, PutTeam, ReadCatalog};
use super::error::{CatalogError, ChangeError, Denied, Kind};
use super::model::{JoinRequest, Membership, Team, TeamRole, TeamSpec};
use super::page::{Page, PageRequest};
use super::put::{Diff, Precondition, Put, PutResult};
use super::search::Words;
use super::tx::{Line, json, name_taken};
use super::{Catalog, Tx, limits, load};
use crate::names::{Email, TeamId, TeamName, UserId};

/// Most open wishes to join that are shown, and that one person can have.
const OPEN_REQUESTS_MAX: i64 = 1000;
/// Most obstacles named in a refusal.
pub(super) const BLOCKING_SHOWN: i64 = 100;
/// Characters of a message to the maintainers.
const MESSAGE_MAX: usize = 2000;

impl Catalog {
    /// Teams by name; `q` is words that must occur in name or description.
    #[must_use]
    pub fn teams(&self, grant: &Grant<ReadCatalog>, q: Option<&str>, page: &PageRequest) -> Page<Arc<Team>> {
        let after = page.after().map(str::to_owned);
        let view = self.view();
        let words = Words::of(q);
        let _ = grant;
        let matching =
            view.teams_after(after.as_deref()).filter(|team| words.all_in(&[team.name.as_str(), &team.description]));
        page.collect(matching.cloned(), |team| team.name.to_string())
    }

    /// One team.
    pub fn team(&self, grant: &Grant<ReadCatalog>, name: &TeamName) -> Result<Arc<Team>, Denied> {
        let _ = grant;
        let hidden = || Denied::NotFound { kind: Kind::Team, name: name.to_string() };
        self.view().team(name).cloned().ok_or_else(hidden)
    }

    /// A team's members, maintainers first, then by address.
    pub fn members(&self, grant: &Grant<ReadCatalog>, name: &TeamName) -> Result<Vec<Membership>, Denied> {
        let team = self.team(grant, name)?;
        let mut members: Vec<_> = self.view().members(team.id).cloned().collect();
        members.sort_by(|a, b| b.role.cmp(&a.role).then_with(|| a.email.cmp(&b.email)));
        Ok(members)
    }

    /// The teams the actor is a member of (an application: the team it is of), by name.
    #[must_use]
    pub fn teams_of(&self, actor: &Actor) -> Vec<(Arc<Team>, TeamRole)> {
        let view = self.view();
        let role = |team: &Team| match &actor.principal {
            Principal::User { id, .. } => view.role(*id, team.id),
            Principal::App { team: of, .. } => (*of == team.id).then_some(TeamRole::Member),
            Principal::System => None,
        };
        view.teams().filter_map(|team| role(team).map(|role| (Arc::clone(team), role))).collect()
    }

    /// Who wants to join the team, oldest first, at most 1000.
    pub async fn join_requests(&self, grant: &Grant<ManageTeam>) -> Result<Vec<JoinRequest>, CatalogError> {
        let rows = sqlx::query_as!(
            JoinRequest,
            r#"SELECT t.name AS "team!: TeamName", j.user_id AS "user!: UserId", u.email AS "email!: Email", u.name AS "name!",
                      j.message AS "message!", j.since AS "since!"
               FROM join_requests j JOIN teams t ON t.id = j.team_id JOIN users u ON u.id = j.user_id
               WHERE j.team_id = $1 ORDER BY j.since LIMIT $2"#,
            grant.resource().id.0,
            OPEN_REQUESTS_MAX
        );
        Ok(rows.fetch_all(self.pool()).await?)
    }

    /// Which teams the person has asked to join.
    pub async fn own_join_requests(&self, user: UserId) -> Result<Vec<JoinRequest>, CatalogError> {
        let rows = sqlx::query_as!(
            JoinRequest,
            r#"SELECT t.name AS "team!: TeamName", j.user_id AS "user!: UserId", u.email AS "email!: Email", u.name AS "name!",
                      j.message AS "message!", j.since AS "since!"
               FROM join_requests j JOIN teams t ON t.id = j.team_id JOIN users u ON u.id = j.user_id
               WHERE j.user_id = $1 ORDER BY j.since LIMIT $2"#,
            user.0,
            OPEN_REQUESTS_MAX
        );
        Ok(rows.fetch_all(self.pool()).await?)
    }
}

impl Tx {
    /// Makes the team what the spec says; who makes it becomes its maintainer.
    pub async fn put_team(
        &mut self,
        grant: &Grant<PutTeam>,
        spec: &TeamSpec,
        precondition: Precondition,
    ) -> Result<Put<Team>, ChangeError> {
        let wanted = grant.resource();
        limits::text("/description", &spec.description, limits::DESCRIPTION_MAX)?;
        let found = sqlx::query_scalar!("SELECT id FROM teams WHERE name = $1", wanted.name.as_str())
            .fetch_optional(self.conn())
            .await?;
        let Some(id) = found else {
            precondition.check(None)?;
            let team = self.create_team(&wanted.name, spec).await?;
            return Ok(Put { value: team, result: PutResult::Created, changes: Vec::new() });
        };
        let now = load::the_only(load::teams(self.conn(), Some(&[id])).await?)?;
        precondition.check(Some(now.revision))?;
        if wanted.existing.as_ref().is_none_or(|team| team.id.0 != id) {
            return Err(ChangeError::NameTaken { kind: Kind::Team, name: wanted.name.to_string() });
        }
        let mut diff = Diff::default();
        diff.safe("/description", &now.description, &spec.description);
        if diff.result() == PutResult::Unchanged {
            return Ok(Put { value: now, result: PutResult::Unchanged, changes: Vec::new() });
        }
        let revision = self.revision;
        sqlx::query!("UPDATE teams SET description = $2, revision = $3 WHERE id = $1", id, spec.description, revision)
            .execute(self.conn())
            .await?;
        self.audit_team("team.update", &now, json(&TeamSpec::from(&now)), json(spec)).await?;
        let value = load::the_only(load::teams(self.conn(), Some(&[id])).await?)?;
        Ok(Put { value, result: PutResult::Updated, changes: diff.0 })
    }

    /// Removes a team that has no applications.
    pub async fn delete_team(
        &mut self,
        grant: &Grant<ManageTeam>,
        precondition: Precondition,
    ) -> Result<(), ChangeError> {
        let team = self.team_row(grant.resource().id).await?;
        precondition.check(Some(team.revision))?;
        let blocking = sqlx::query_scalar!(
            "SELECT name FROM applications WHERE team_id = $1 ORDER BY name LIMIT $2",
            team.id.0,
            BLOCKING_SHOWN
        )
        .fetch_all(self.conn())
        .await?;
        if !blocking.is_empty() {
            return Err(ChangeError::NotEmpty { blocking: blocking.iter().map(|app| format!("app/{app}")).collect() });
        }
        self.audit_team("team.delete", &team, json(&TeamSpec::from(&team)), None).await?;
        sqlx::query!("DELETE FROM teams WHERE id = $1", team.id.0).execute(self.conn()).await?;
        Ok(())
    }

    /// Makes somebody with an account a member, or changes the role. The last maintainer cannot be demoted.
    pub async fn set_member(
        &mut self,
        grant: &Grant<ManageTeam>,
        email: &Email,
        role: TeamRole,
    ) -> Result<Put<Membership>, ChangeError> {
        let team = Arc::clone(grant.resource());
        let user = self.account(email).await?;
        self.enter_team(&team, user, email, role).await
    }

    /// Takes somebody out of the team. The last maintainer stays while there are others.
    pub async fn remove_member(&mut self, grant: &Grant<ManageTeam>, email: &Email) -> Result<(), ChangeError> {
        let team = Arc::clone(grant.resource());
        let user = self.account(email).await?;
        self.take_out(&team, user, email, "team.member.remove").await
    }

    /// Takes the actor out of the team.
    pub async fn leave_team(&mut self, grant: &Grant<JoinTeam>) -> Result<(), ChangeError> {
        let team = Arc::clone(grant.resource());
        let actor = Arc::clone(&self.actor);
        let Principal::User { id, email, .. } = &actor.principal else {
            return Err(ChangeError::missing(Kind::User, actor.label()));
        };
        self.take_out(&team, *id, email, "team.member.leave").await
    }

    /// Asks the maintainers to be let in.
    pub async fn request_to_join(
        &mut self,
        grant: &Grant<JoinTeam>,
        message: &str,
    ) -> Result<JoinRequest, ChangeError> {
        limits::text("/message", message, MESSAGE_MAX)?;
        let team = Arc::clone(grant.resource());
        let actor = Arc::clone(&self.actor);
        let Principal::User { id, email, .. } = &actor.principal else {
            return Err(ChangeError::missing(Kind::User, actor.label()));
        };
        if self.role_in(&team, *id).await?.is_some() {
            return Err(ChangeError::Conflict { detail: format!("you are a member of {} already", team.name) });
        }
        let waiting = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM join_requests WHERE user_id = $1"#, id.0)
            .fetch_one(self.conn())
            .await?;
        if waiting >= OPEN_REQUESTS_MAX {
            return Err(ChangeError::Conflict { detail: "you have asked too many teams already".to_owned() });
        }
        let now = self.now;
        sqlx::query!(
            "INSERT INTO join_requests (team_id, user_id, message, since) VALUES ($1, $2, $3, $4)
             ON CONFLICT (team_id, user_id) DO UPDATE SET message = excluded.message",
            team.id.0,
            id.0,
            message,
            now
        )
        .execute(self.conn())
        .await?;
        self.audit_team("team.join.ask", &team, None, Some(serde_json::json!({ "user": email, "message": message })))
            .await?;
        let request = sqlx::query_as!(
            JoinRequest,
            r#"SELECT t.name AS "team!: TeamName", j.user_id AS "user!: UserId", u.email AS "email!: Email", u.name AS "name!",
                      j.message AS "message!", j.since AS "since!"
               FROM join_requests j JOIN teams t ON t.id = j.team_id JOIN users u ON u.id = j.user_id
               WHERE j.team_id = $1 AND j.user_id = $2"#,
            team.id.0,
            id.0
        );
        Ok(request.fetch_one(self.conn()).await?)
    }

    /// Lets somebody in who asked, or not.
    pub async fn decide_join(
        &mut self,
        grant: &Grant<ManageTeam>,
        email: &Email,
        admit: bool,
    ) -> Result<(), ChangeError> {
        let team = Arc::clone(grant.resource());
        let user = self.account(email).await?;
        let asked = sqlx::query!("DELETE FROM join_requests WHERE team_id = $1 AND user_id = $2", team.id.0, user.0)
            .execute(self.conn())
            .await?;
        if asked.rows_affected() == 0 {
            return Err(ChangeError::missing(Kind::JoinRequest, email));
        }
        let action = if admit { "team.join.admit" } else { "team.join.refuse" };
        self.audit_team(action, &team, Some(serde_json::json!({ "user": email })), None).await?;
        if admit {
            self.enter_team(&team, user, email, TeamRole::Member).await?;
        }
        Ok(())
    }

    async fn create_team(&mut self, name: &TeamName, spec: &TeamSpec) -> Result<Team, ChangeError> {
        let id = TeamId::new();
        let (now, revision) = (self.now, self.revision);
        sqlx::query!(
            "INSERT INTO teams (id, name, description, created_at, revision) VALUES ($1, $2, $3, $4, $5)",
            id.0,
            name.as_str(),
            spec.description,
            now,
            revision
        )
        .execute(self.conn())
        .await
        .map_err(|error| name_taken(error, "teams_name_key", Kind::Team, name.as_str()))?;
        let team = self.team_row(id).await?;
        self.audit_team("team.create", &team, None, json(spec)).await?;
        let actor = Arc::clone(&self.actor);
        if let Principal::User { id: user, email, .. } = &actor.principal {
            self.enter_team(&team, *user, email, TeamRole::Maintainer).await?;
        }
        Ok(self.team_row(id).await?)
    }

    async fn team_row(&mut self, id: TeamId) -> Result<Team, CatalogError> {
        load::the_only(load::teams(self.conn(), Some(&[id.0])).await?)
    }

    /// The account with the address.
    pub(super) async fn account(&mut self, email: &Email) -> Result<UserId, ChangeError> {
        let id = sqlx::query_scalar!(r#"SELECT id AS "id: UserId" FROM users WHERE email = $1"#, email.as_str())
            .fetch_optional(self.conn())
            .await?;
        id.ok_or_else(|| ChangeError::missing(Kind::User, email))
    }

    pub(super) async fn role_in(&mut self, team: &Team, user: UserId) -> Result<Option<TeamRole>, CatalogError> {
        let role =
            sqlx::query_scalar!("SELECT role FROM team_members WHERE team_id = $1 AND user_id = $2", team.id.0, user.0)
                .fetch_optional(self.conn())
                .await?;
        role.as_deref().map(load::word).transpose()
    }

    /// Makes somebody a member or changes the role; an open wish to join is settled by it.
    pub(super) async fn enter_team(
        &mut self,
        team: &Team,
        user: UserId,
        email: &Email,
        role: TeamRole,
    ) -> Result<Put<Membership>, ChangeError> {
        let before = self.role_in(team, user).await?;
        if before.is_some() && before == Some(role) {
            let value = self.membership(team, user).await?;
            return Ok(Put { value, result: PutResult::Unchanged, changes: Vec::new() });
        }
        if before == Some(TeamRole::Maintainer) {
            self.not_the_last_maintainer(team, email).await?;
        }
        let (now, revision) = (self.now, self.revision);
        sqlx::query!(
            "INSERT INTO team_members (id, team_id, user_id, role, since, revision) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (team_id, user_id) DO UPDATE SET role = excluded.role, revision = excluded.revision",
            uuid::Uuid::now_v7(),
            team.id.0,
            user.0,
            role.as_str(),
            now,
            revision
        )
        .execute(self.conn())
        .await?;
        sqlx::query!("DELETE FROM join_requests WHERE team_id = $1 AND user_id = $2", team.id.0, user.0)
            .execute(self.conn())
            .await?;
        let line = |role: TeamRole| serde_json::json!({ "user": email, "role": role });
        self.audit_team("team.member.set", team, before.map(line), Some(line(role))).await?;
        let value = self.membership(team, user).await?;
        let mut diff = Diff::default();
        if let Some(before) = before {
            diff.safe("/role", &before, &role);
        }
        let result = if before.is_some() { PutResult::Updated } else { PutResult::Created };
        Ok(Put { value, result, changes: diff.0 })
    }

    async fn membership(&mut self, team: &Team, user: UserId) -> Result<Membership, ChangeError> {
        let id =
            sqlx::query_scalar!("SELECT id FROM team_members WHERE team_id = $1 AND user_id = $2", team.id.0, user.0)
                .fetch_one(self.conn())
                .await?;
        let member = load::the_only(load::members(self.conn(), Some(&[id])).await?)?;
        Ok(member.membership)
    }

    async fn take_out(
        &mut self,
        team: &Team,
        user: UserId,
        email: &Email,
        action: &'static str,
    ) -> Result<(), ChangeError> {
        let Some(role) = self.role_in(team, user).await? else {
            return Err(ChangeError::missing(Kind::User, email));
        };
        if role == TeamRole::Maintainer {
            self.not_the_last_maintainer(team, email).await?;
        }
        sqlx::query!("DELETE FROM team_members WHERE team_id = $1 AND user_id = $2", team.id.0, user.0)
            .execute(self.conn())
            .await?;
        self.audit_team(action, team, Some(serde_json::json!({ "user": email, "role": role })), None).await?;
        Ok(())
    }

    async fn not_the_last_maintainer(&mut self, team: &Team, email: &Email) -> Result<(), ChangeError> {
        let maintainers = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM team_members WHERE team_id = $1 AND role = 'maintainer'"#,
            team.id.0
        )
        .fetch_one(self.conn())
        .await?;
        if maintainers > 1 {
            return Ok(());
        }
        let detail = format!("{email} is the only maintainer of {}; make somebody else one first", team.name);
        Err(ChangeError::Conflict { detail })
    }

    pub(super) async fn audit_team(
        &mut self,
        action: &'static str,
        team: &Team,
        before: Option<Value>,
        after: Option<Value>,
    ) -> Result<(), CatalogError> {
        let resource = format!("team/{}", team.name);
        self.audit(Line { action, resource, team: Some(team.id), app: None, before, after }).await
    }
}
