//! Applications: lists, registration, suspension.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::access::{Grant, ManageApp, Principal, PutApp, ReadCatalog};
use super::error::{CatalogError, ChangeError, Denied, Kind};
use super::model::{AppSpec, AppState, Application};
use super::page::{Page, PageRequest};
use super::put::{Change, Diff, Precondition, Put, PutResult, Risk};
use super::search::Words;
use super::teams::BLOCKING_SHOWN;
use super::tx::{Line, json, name_taken};
use super::{Catalog, Tx, limits, load};
use crate::names::{AppId, AppName, TeamId, TeamName};

/// Most human owners of an application.
const OWNERS_MAX: usize = 50;
/// Characters of the reason for a suspension.
const REASON_MAX: usize = 2000;

/// Which applications to list. Everything given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AppQuery {
    /// Words, all of which must occur in name, team, description or labels.
    pub q: Option<String>,
    pub team: Option<TeamName>,
    pub label: Option<(String, String)>,
    pub state: Option<AppState>,
    /// Only those of the actor's teams.
    pub mine: bool,
}

impl Catalog {
    /// Applications by name.
    #[must_use]
    pub fn apps(&self, grant: &Grant<ReadCatalog>, query: &AppQuery, page: &PageRequest) -> Page<Arc<Application>> {
        let after = page.after().map(str::to_owned);
        let view = self.view();
        let words = Words::of(query.q.as_deref());
        let actor = grant.actor();
        let mine = |app: &Application| match &actor.principal {
            Principal::User { id, .. } => view.role(*id, app.team_id).is_some(),
            Principal::App { team, .. } => app.team_id == *team,
            Principal::System => true,
        };
        let matching = view.apps_after(after.as_deref()).filter(|app| {
            query.team.as_ref().is_none_or(|team| app.team == *team)
                && query.state.is_none_or(|state| app.state == state)
                && query.label.as_ref().is_none_or(|(key, value)| app.labels.get(key) == Some(value))
                && (!query.mine || mine(app))
                && words.all_in(&[app.name.as_str(), app.team.as_str(), &app.description, &labels_text(&app.labels)])
        });
        page.collect(matching.cloned(), |app| app.name.to_string())
    }

    /// One application.
    pub fn app(&self, grant: &Grant<ReadCatalog>, name: &AppName) -> Result<Arc<Application>, Denied> {
        let _ = grant;
        let hidden = || Denied::NotFound { kind: Kind::Application, name: name.to_string() };
        self.view().app(name).cloned().ok_or_else(hidden)
    }
}

impl Tx {
    /// Makes the application what the spec says. Moving it to another team takes its topics along.
    pub async fn put_app(
        &mut self,
        grant: &Grant<PutApp>,
        spec: &AppSpec,
        precondition: Precondition,
    ) -> Result<Put<Application>, ChangeError> {
        let wanted = grant.resource();
        if wanted.team.name != spec.team {
            return Err(ChangeError::invalid("/team", "is not the team that was asked for"));
        }
        let spec = &normalised(spec)?;
        let found = sqlx::query_scalar!("SELECT id FROM applications WHERE name = $1", wanted.name.as_str())
            .fetch_optional(self.conn())
            .await?;
        let Some(id) = found else {
            precondition.check(None)?;
            let app = self.create_app(&wanted.name, wanted.team.id, spec).await?;
            return Ok(Put { value: app, result: PutResult::Created, changes: Vec::new() });
        };
        let now = self.app_row(AppId(id)).await?;
        precondition.check(Some(now.revision))?;
        if wanted.existing.as_ref().is_none_or(|app| app.id.0 != id) {
            return Err(ChangeError::NameTaken { kind: Kind::Application, name: wanted.name.to_string() });
        }
        let changes = differences(&AppSpec::from(&now), spec);
        if changes.is_empty() {
            return Ok(Put { value: now, result: PutResult::Unchanged, changes });
        }
        self.update_app(&now, wanted.team.id, spec).await?;
        let value = self.app_row(now.id).await?;
        self.audit_app("app.update", &value, json(&AppSpec::from(&now)), json(spec)).await?;
        Ok(Put { value, result: PutResult::Updated, changes })
    }

    /// Removes an application that owns no topic; its tokens and grants go with it.
    pub async fn delete_app(
        &mut self,
        grant: &Grant<ManageApp>,
        precondition: Precondition,
    ) -> Result<(), ChangeError> {
        let app = self.app_row(grant.resource().id).await?;
        precondition.check(Some(app.revision))?;
        let blocking = sqlx::query_scalar!(
            "SELECT name FROM topics WHERE app_id = $1 ORDER BY name LIMIT $2",
            app.id.0,
            BLOCKING_SHOWN
        )
        .fetch_all(self.conn())
        .await?;
        if !blocking.is_empty() {
            return Err(ChangeError::NotEmpty {
                blocking: blocking.iter().map(|topic| format!("topic/{topic}")).collect(),
            });
        }
        self.audit_app("app.delete", &app, json(&AppSpec::from(&app)), None).await?;
        sqlx::query!("DELETE FROM applications WHERE id = $1", app.id.0).execute(self.conn()).await?;
        Ok(())
    }

    /// Refuses the application's tokens and ends its streams until it is resumed.
    pub async fn suspend_app(&mut self, grant: &Grant<ManageApp>, reason: &str) -> Result<Application, ChangeError> {
        limits::text("/reason", reason, REASON_MAX)?;
        self.set_app_state(grant, AppState::Suspended, "app.suspend", Some(reason)).await
    }

    /// Undoes [`Self::suspend_app`].
    pub async fn resume_app(&mut self, grant: &Grant<ManageApp>) -> Result<Application, ChangeError> {
        self.set_app_state(grant, AppState::Active, "app.resume", None).await
    }

    async fn create_app(&mut self, name: &AppName, team: TeamId, spec: &AppSpec) -> Result<Application, ChangeError> {
        let id = AppId::new();
        let (now, revision) = (self.now, self.revision);
        let owners: Vec<String> = spec.owners.iter().map(ToString::to_string).collect();
        sqlx::query!(
            "INSERT INTO applications (id, name, team_id, description, owners, contacts, repository, runbook, labels, state,
                                       created_at, updated_at, revision)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'active', $10, $10, $11)",
            id.0,
            name.as_str(),
            team.0,
            spec.description,
            &owners,
            json(&spec.contacts),
            spec.repository,
            spec.runbook,
            json(&spec.labels),
            now,
            revision
        )
        .execute(self.conn())
        .await
        .map_err(|error| name_taken(error, "applications_name_key", Kind::Application, name.as_str()))?;
        let app = self.app_row(id).await?;
        self.audit_app("app.create", &app, None, json(spec)).await?;
        Ok(app)
    }

    async fn update_app(&mut self, app: &Application, team: TeamId, spec: &AppSpec) -> Result<(), ChangeError> {
        let (now, revision) = (self.now, self.revision);
        let owners: Vec<String> = spec.owners.iter().map(ToString::to_string).collect();
        sqlx::query!(
            "UPDATE applications SET team_id = $2, description = $3, owners = $4, contacts = $5, repository = $6, runbook = $7,
                                     labels = $8, updated_at = $9, revision = $10 WHERE id = $1",
            app.id.0,
            team.0,
            spec.description,
            &owners,
            json(&spec.contacts),
            spec.repository,
            spec.runbook,
            json(&spec.labels),
            now,
            revision
        )
        .execute(self.conn())
        .await?;
        if app.team_id != team {
            // Its topics show the team too, so they have changed with it.
            sqlx::query!("UPDATE topics SET revision = $2 WHERE app_id = $1", app.id.0, revision)
                .execute(self.conn())
                .await?;
        }
        Ok(())
    }

    async fn set_app_state(
        &mut self,
        grant: &Grant<ManageApp>,
        state: AppState,
        action: &'static str,
        reason: Option<&str>,
    ) -> Result<Application, ChangeError> {
        let app = self.app_row(grant.resource().id).await?;
        if app.state == state {
            return Ok(app);
        }
        let (now, revision) = (self.now, self.revision);
        sqlx::query!(
            "UPDATE applications SET state = $2, updated_at = $3, revision = $4 WHERE id = $1",
            app.id.0,
            state.as_str(),
            now,
            revision
        )
        .execute(self.conn())
        .await?;
        let before = serde_json::json!({ "state": app.state });
        let after = serde_json::json!({ "state": state, "reason": reason });
        self.audit_app(action, &app, Some(before), Some(after)).await?;
        Ok(self.app_row(app.id).await?)
    }

    pub(super) async fn app_row(&mut self, id: AppId) -> Result<Application, CatalogError> {
        load::the_only(load::apps(self.conn(), Some(&[id.0])).await?)
    }

    async fn audit_app(
        &mut self,
        action: &'static str,
        app: &Application,
        before: Option<Value>,
        after: Option<Value>,
    ) -> Result<(), CatalogError> {
        let resource = format!("app/{}", app.name);
        let line = Line { action, resource, team: Some(app.team_id), app: Some((app.id, &app.name)), before, after };
        self.audit(line).await
    }
}

/// Checks a spec and brings it into the form that is compared and stored.
fn normalised(spec: &AppSpec) -> Result<AppSpec, ChangeError> {
    let mut spec = spec.clone();
    spec.owners.sort();
    spec.owners.dedup();
    if spec.owners.len() > OWNERS_MAX {
        return Err(ChangeError::invalid("/owners", format!("has at most {OWNERS_MAX} entries")));
    }
    limits::text("/description", &spec.description, limits::DESCRIPTION_MAX)?;
    limits::entries("/contacts", &spec.contacts)?;
    limits::entries("/labels", &spec.labels)?;
    limits::url("/repository", spec.repository.as_deref())?;
    limits::url("/runbook", spec.runbook.as_deref())?;
    Ok(spec)
}

fn differences(is: &AppSpec, wanted: &AppSpec) -> Vec<Change> {
    let mut diff = Diff::default();
    let why = "the members of the new team take over the application and its topics; those of the old one lose them";
    diff.note("/team", &is.team, &wanted.team, Risk::Disruptive, Some(why));
    diff.safe("/description", &is.description, &wanted.description);
    diff.safe("/owners", &is.owners, &wanted.owners);
    diff.safe("/contacts", &is.contacts, &wanted.contacts);
    diff.safe("/repository", &is.repository, &wanted.repository);
    diff.safe("/runbook", &is.runbook, &wanted.runbook);
    diff.safe("/labels", &is.labels, &wanted.labels);
    diff.0
}

fn labels_text(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value} ")).collect()
}
