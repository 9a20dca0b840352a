//! Access grants: which application may do what on whose topics.

use std::sync::Arc;

use serde_json::Value;
use time::OffsetDateTime;

use super::access::{Grant, ReadCatalog, SharePrefix, ShareTopic};
use super::error::{CatalogError, ChangeError, Denied, Kind};
use super::model::{AccessGrant, Application, GrantTarget, Operation, Topic};
use super::page::{Page, PageRequest};
use super::put::{Change, Diff, Precondition, Put, PutResult, Risk};
use super::rights::{self, Standing};
use super::tx::Line;
use super::{Catalog, Tx, load};
use crate::names::{AppId, AppName, GrantId, TopicId, TopicName, TopicPrefix};

impl Catalog {
    /// Grants on a topic, those by prefix included, by application. Expired ones too, so that they can be renewed.
    pub fn access_of_topic(
        &self,
        grant: &Grant<ReadCatalog>,
        name: &TopicName,
        page: &PageRequest,
    ) -> Result<Page<AccessGrant>, Denied> {
        let view = self.view();
        let topic = rights::read_topic(&view, grant.actor(), self.now(), name)?;
        let mut grants: Vec<_> = view.grants_on(&topic).cloned().collect();
        grants.sort_by_cached_key(key);
        Ok(paged(grants, page))
    }

    /// Grants an application holds, as far as the actor may know of the topics.
    pub fn access_of_app(
        &self,
        grant: &Grant<ReadCatalog>,
        name: &AppName,
        page: &PageRequest,
    ) -> Result<Page<AccessGrant>, Denied> {
        let app = self.app(grant, name)?;
        let view = self.view();
        let standing = Standing::of(&view, grant.actor(), self.now())?;
        let mut grants: Vec<_> = view.grants_of(&app.name).filter(|held| standing.sees_grant(held)).cloned().collect();
        grants.sort_by_cached_key(key);
        Ok(paged(grants, page))
    }

    /// Prefix grants that an owner has given, as far as the actor may know of them: a prefix tells of hidden topics.
    pub fn prefixes_of_app(
        &self,
        grant: &Grant<ReadCatalog>,
        name: &AppName,
        page: &PageRequest,
    ) -> Result<Page<AccessGrant>, Denied> {
        let app = self.app(grant, name)?;
        let view = self.view();
        let standing = Standing::of(&view, grant.actor(), self.now())?;
        let mut grants: Vec<_> =
            view.prefix_grants(app.id).filter(|given| standing.sees_grant(given)).cloned().collect();
        grants.sort_by_cached_key(key);
        Ok(paged(grants, page))
    }
}

impl Tx {
    /// Makes the application's rights on the topic exactly these. To give `manage`, or to give it for longer, is for the owner's
    /// side: who holds it could otherwise keep it for ever, and hand it on.
    pub async fn put_access(
        &mut self,
        grant: &Grant<ShareTopic>,
        app: &AppName,
        operations: &[Operation],
        expires_at: Option<OffsetDateTime>,
        precondition: Precondition,
    ) -> Result<Put<AccessGrant>, ChangeError> {
        let topic = self.living_topic(grant.resource()).await?;
        let holder = self.app_named(app).await?;
        if holder.id == topic.app_id {
            return Err(ChangeError::Conflict {
                detail: format!("{app} owns {} and has every right on it", topic.name),
            });
        }
        let wish = Wish::new(operations, expires_at, self.now)?;
        let found = sqlx::query_scalar!(
            "SELECT id FROM access_grants WHERE app_id = $1 AND topic_id = $2",
            holder.id.0,
            topic.id.0
        )
        .fetch_optional(self.conn())
        .await?;
        let before = match found {
            Some(id) => Some(self.grant_row(GrantId(id)).await?),
            None => None,
        };
        if wish.extends_manage(before.as_ref()) {
            rights::owns_topic(&self.catalog().view(), grant.actor(), self.now, &topic)?;
        }
        let about = About { topic: Some(topic.id), owner: None, prefix: None };
        let put = self.ensure_grant(found.map(GrantId), &holder, &about, &wish, precondition).await?;
        self.audit_topic_access(&topic, &holder.name, &put.0, put.1).await?;
        Ok(put.0)
    }

    /// Takes the application's rights on the topic away; open streams end within a second.
    pub async fn revoke_access(
        &mut self,
        grant: &Grant<ShareTopic>,
        app: &AppName,
        precondition: Precondition,
    ) -> Result<(), ChangeError> {
        let topic = self.topic_row(grant.resource().id).await?;
        let found = sqlx::query_scalar!(
            "SELECT g.id FROM access_grants g JOIN applications a ON a.id = g.app_id WHERE a.name = $1 AND g.topic_id = $2",
            app.as_str(),
            topic.id.0
        )
        .fetch_optional(self.conn())
        .await?;
        let before = self.remove_grant(found, app, precondition).await?;
        let before = Some(line(&before, app));
        self.audit_topic("access.revoke", &topic, before, None).await?;
        Ok(())
    }

    /// The same for every topic of the owner whose name begins with the prefix, also future ones.
    pub async fn put_prefix_access(
        &mut self,
        grant: &Grant<SharePrefix>,
        prefix: &TopicPrefix,
        app: &AppName,
        operations: &[Operation],
        expires_at: Option<OffsetDateTime>,
        precondition: Precondition,
    ) -> Result<Put<AccessGrant>, ChangeError> {
        rights::covers_prefix(grant.actor(), prefix)?;
        let owner = self.app_row(grant.resource().id).await?;
        let holder = self.app_named(app).await?;
        if holder.id == owner.id {
            return Err(ChangeError::Conflict {
                detail: format!("{app} owns these topics and has every right on them"),
            });
        }
        let wish = Wish::new(operations, expires_at, self.now)?;
        let found = sqlx::query_scalar!(
            "SELECT id FROM access_grants WHERE app_id = $1 AND owner_id = $2 AND prefix = $3",
            holder.id.0,
            owner.id.0,
            prefix.as_str()
        )
        .fetch_optional(self.conn())
        .await?;
        let about = About { topic: None, owner: Some(owner.id), prefix: Some(prefix) };
        let (put, before) = self.ensure_grant(found.map(GrantId), &holder, &about, &wish, precondition).await?;
        if put.result != PutResult::Unchanged {
            let after = Some(line(&put.value, app));
            self.audit_prefix("access.grant", &owner, prefix, before.map(|grant| line(&grant, app)), after).await?;
        }
        Ok(put)
    }

    /// Undoes [`Self::put_prefix_access`].
    pub async fn revoke_prefix_access(
        &mut self,
        grant: &Grant<SharePrefix>,
        prefix: &TopicPrefix,
        app: &AppName,
        precondition: Precondition,
    ) -> Result<(), ChangeError> {
        rights::covers_prefix(grant.actor(), prefix)?;
        let owner = self.app_row(grant.resource().id).await?;
        let found = sqlx::query_scalar!(
            "SELECT g.id FROM access_grants g JOIN applications a ON a.id = g.app_id
             WHERE a.name = $1 AND g.owner_id = $2 AND g.prefix = $3",
            app.as_str(),
            owner.id.0,
            prefix.as_str()
        )
        .fetch_optional(self.conn())
        .await?;
        let before = self.remove_grant(found, app, precondition).await?;
        let before = Some(line(&before, app));
        self.audit_prefix("access.revoke", &owner, prefix, before, None).await?;
        Ok(())
    }

    /// Makes the grant what is wished. Also says what was before.
    async fn ensure_grant(
        &mut self,
        found: Option<GrantId>,
        holder: &Application,
        about: &About<'_>,
        wish: &Wish,
        precondition: Precondition,
    ) -> Result<(Put<AccessGrant>, Option<AccessGrant>), ChangeError> {
        let Some(id) = found else {
            precondition.check(None)?;
            let value = self.insert_grant(holder, about, wish).await?;
            return Ok((Put { value, result: PutResult::Created, changes: Vec::new() }, None));
        };
        let before = self.grant_row(id).await?;
        precondition.check(Some(before.revision))?;
        let changes = wish.differences(&before);
        if changes.is_empty() {
            return Ok((Put { value: before, result: PutResult::Unchanged, changes }, None));
        }
        let revision = self.revision;
        sqlx::query!(
            "UPDATE access_grants SET operations = $2, expires_at = $3, revision = $4 WHERE id = $1",
            id.0,
            &wish.words(),
            wish.expires_at,
            revision
        )
        .execute(self.conn())
        .await?;
        let value = self.grant_row(id).await?;
        Ok((Put { value, result: PutResult::Updated, changes }, Some(before)))
    }

    async fn insert_grant(
        &mut self,
        holder: &Application,
        about: &About<'_>,
        wish: &Wish,
    ) -> Result<AccessGrant, ChangeError> {
        let id = GrantId::new();
        let (now, revision) = (self.now, self.revision);
        let actor = Arc::clone(&self.actor);
        sqlx::query!(
            "INSERT INTO access_grants (id, app_id, topic_id, owner_id, prefix, operations, expires_at, granted_by, since, revision)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            id.0,
            holder.id.0,
            about.topic.map(|topic| topic.0),
            about.owner.map(|owner| owner.0),
            about.prefix.map(TopicPrefix::as_str),
            &wish.words(),
            wish.expires_at,
            actor.label(),
            now,
            revision
        )
        .execute(self.conn())
        .await?;
        Ok(self.grant_row(id).await?)
    }

    async fn remove_grant(
        &mut self,
        found: Option<uuid::Uuid>,
        app: &AppName,
        precondition: Precondition,
    ) -> Result<AccessGrant, ChangeError> {
        let Some(id) = found else { return Err(ChangeError::missing(Kind::Access, app)) };
        let before = self.grant_row(GrantId(id)).await?;
        precondition.check(Some(before.revision))?;
        sqlx::query!("DELETE FROM access_grants WHERE id = $1", id).execute(self.conn()).await?;
        Ok(before)
    }

    async fn grant_row(&mut self, id: GrantId) -> Result<AccessGrant, CatalogError> {
        Ok(load::the_only(load::grants(self.conn(), Some(&[id.0])).await?)?.grant)
    }

    /// The topic as it is now, which must not have been deleted since it was looked up.
    async fn living_topic(&mut self, topic: &Topic) -> Result<Topic, ChangeError> {
        let topic = self.topic_row(topic.id).await?;
        match topic.purge_after {
            Some(purge_after) => Err(Denied::TopicDeleted { topic: topic.name, purge_after }.into()),
            None => Ok(topic),
        }
    }

    async fn app_named(&mut self, name: &AppName) -> Result<Application, ChangeError> {
        let id = sqlx::query_scalar!(r#"SELECT id AS "id: AppId" FROM applications WHERE name = $1"#, name.as_str())
            .fetch_optional(self.conn())
            .await?;
        let Some(id) = id else { return Err(ChangeError::missing(Kind::Application, name)) };
        Ok(self.app_row(id).await?)
    }

    async fn audit_topic_access(
        &mut self,
        topic: &Topic,
        app: &AppName,
        put: &Put<AccessGrant>,
        before: Option<AccessGrant>,
    ) -> Result<(), CatalogError> {
        if put.result == PutResult::Unchanged {
            return Ok(());
        }
        let before = before.map(|grant| line(&grant, app));
        self.audit_topic("access.grant", topic, before, Some(line(&put.value, app))).await
    }

    async fn audit_prefix(
        &mut self,
        action: &'static str,
        owner: &Application,
        prefix: &TopicPrefix,
        before: Option<Value>,
        after: Option<Value>,
    ) -> Result<(), CatalogError> {
        let resource = format!("app/{}/prefix/{prefix}", owner.name);
        let app = Some((owner.id, &owner.name));
        self.audit(Line { action, resource, team: Some(owner.team_id), app, before, after }).await
    }
}

/// What a grant is about, as the table has it.
struct About<'a> {
    topic: Option<TopicId>,
    owner: Option<AppId>,
    prefix: Option<&'a TopicPrefix>,
}

/// What a grant is to allow, checked.
struct Wish {
    operations: Vec<Operation>,
    expires_at: Option<OffsetDateTime>,
}

impl Wish {
    fn new(
        operations: &[Operation],
        expires_at: Option<OffsetDateTime>,
        now: OffsetDateTime,
    ) -> Result<Self, ChangeError> {
        let mut operations = operations.to_vec();
        operations.sort_unstable();
        operations.dedup();
        if operations.is_empty() {
            return Err(ChangeError::invalid("/operations", "names at least one of produce, consume, manage"));
        }
        if expires_at.is_some_and(|end| end <= now) {
            return Err(ChangeError::invalid("/expires_at", "is in the future"));
        }
        Ok(Self { operations, expires_at: expires_at.map(whole_micros) })
    }

    fn words(&self) -> Vec<String> {
        self.operations.iter().map(|operation| operation.as_str().to_owned()).collect()
    }

    /// Whether it gives `manage` to who has it not, or for longer than before.
    fn extends_manage(&self, before: Option<&AccessGrant>) -> bool {
        let held = before.filter(|grant| grant.operations.contains(&Operation::Manage));
        let longer = |held: &AccessGrant| match (self.expires_at, held.expires_at) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(wished), Some(held)) => wished > held,
        };
        self.operations.contains(&Operation::Manage) && held.is_none_or(longer)
    }

    fn differences(&self, is: &AccessGrant) -> Vec<Change> {
        let mut diff = Diff::default();
        let taken = is.operations.iter().any(|operation| !self.operations.contains(operation));
        let risk = if taken { Risk::Disruptive } else { Risk::Safe };
        diff.note("/operations", &is.operations, &self.operations, risk, taken.then_some("rights are taken away"));
        diff.safe("/expires_at", &is.expires_at.map(rfc3339), &self.expires_at.map(rfc3339));
        diff.0
    }
}

/// PostgreSQL keeps microseconds; so that what was stored equals what is sent again.
pub(super) fn whole_micros(moment: OffsetDateTime) -> OffsetDateTime {
    let nanos = moment.nanosecond();
    moment.replace_nanosecond(nanos - nanos % 1000).unwrap_or(moment)
}

fn rfc3339(moment: OffsetDateTime) -> String {
    moment.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}

fn line(grant: &AccessGrant, app: &AppName) -> Value {
    serde_json::json!({ "app": app, "operations": grant.operations, "expires_at": grant.expires_at.map(rfc3339) })
}

/// What a list of grants is ordered by.
fn key(grant: &AccessGrant) -> String {
    let target = match &grant.target {
        GrantTarget::Topic(topic) => format!("t/{topic}"),
        GrantTarget::Prefix { owner, prefix } => format!("p/{owner}/{prefix}"),
    };
    format!("{} {target}", grant.app)
}

fn paged(grants: Vec<AccessGrant>, page: &PageRequest) -> Page<AccessGrant> {
    let after = page.after().map(str::to_owned);
    let rest = grants.into_iter().filter(|grant| after.as_ref().is_none_or(|after| key(grant) > *after));
    page.collect(rest, key)
}
