//! Topics: lists, and the changes of a topic's life.

use std::sync::Arc;

use serde_json::Value;
use time::{Duration, OffsetDateTime};

use super::access::{Actor, Grant, ManageTopic, Principal, PutTopic, ReadCatalog};
use super::error::{CatalogError, ChangeError, Denied, Kind};
use super::model::{
    AccessGrant, Application, Classification, Cleanup, Operation, Topic, TopicSpec, TopicState, Visibility,
};
use super::page::{Page, PageRequest};
use super::put::{Change, Diff, Precondition, Put, PutResult, Risk};
use super::rights::{self, Standing};
use super::search::Words;
use super::tx::{Line, json, name_taken};
use super::{Catalog, Tx, View, limits, load};
use crate::names::{AppId, AppName, TeamName, TopicId, TopicName};

/// How long a deleted topic can be restored.
const RESTORABLE_FOR: Duration = Duration::days(30);
/// How long the engine is told that a topic was purged.
const PURGES_TOLD_FOR: Duration = Duration::days(90);
/// Most topics purged in one go.
const PURGES_AT_ONCE: usize = 100;
/// Shortest retention, in milliseconds.
const RETENTION_MS_MIN: i64 = 1000;
/// Smallest retention, in bytes per partition.
const RETENTION_BYTES_MIN: i64 = 1024 * 1024;

/// Which topics to list. Everything given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicQuery {
    /// Words, all of which must occur in name, owner, team, description or labels.
    pub q: Option<String>,
    pub app: Option<AppName>,
    pub team: Option<TeamName>,
    /// Key and value.
    pub label: Option<(String, String)>,
    pub classification: Option<Classification>,
    /// Only those of the actor's teams.
    pub mine: bool,
    /// `None`: active ones.
    pub state: Option<TopicState>,
    /// Topics that this application may read now.
    pub readable_by: Option<AppName>,
}

impl Catalog {
    /// Topics that the actor may know of, by name.
    #[must_use]
    pub fn topics(&self, grant: &Grant<ReadCatalog>, query: &TopicQuery, page: &PageRequest) -> Page<Arc<Topic>> {
        let after = page.after().map(str::to_owned);
        let view = self.view();
        let now = self.now();
        let Ok(standing) = Standing::of(&view, grant.actor(), now) else {
            return Page { items: Vec::new(), next: None };
        };
        let words = Words::of(query.q.as_deref());
        let state = query.state.unwrap_or(TopicState::Active);
        let reader = query.readable_by.as_ref().map(|app| view.app(app));
        let mine = |topic: &Topic| match &grant.actor().principal {
            Principal::User { id, .. } => view.role(*id, topic.team_id).is_some(),
            Principal::App { team, .. } => topic.team_id == *team,
            Principal::System => true,
        };
        let matching = view.topics_after(after.as_deref()).filter(|(topic, text)| {
            topic.state == state
                && query.app.as_ref().is_none_or(|app| topic.app == *app)
                && query.team.as_ref().is_none_or(|team| topic.team == *team)
                && query.classification.is_none_or(|class| topic.classification == class)
                && (!query.mine || mine(topic))
                && query.label.as_ref().is_none_or(|(key, value)| topic.labels.get(key) == Some(value))
                && words.all_in_lower(text)
                && reader.is_none_or(|app| app.is_some_and(|app| readable(&view, topic, app, now)))
                && standing.sees(topic)
        });
        page.collect(matching.map(|(topic, _)| Arc::clone(topic)), |topic| topic.name.to_string())
    }

    /// One topic. A deleted one is [`Denied::TopicDeleted`], except to those who may restore it.
    pub fn topic(&self, grant: &Grant<ReadCatalog>, name: &TopicName) -> Result<Arc<Topic>, Denied> {
        rights::read_topic(&self.view(), grant.actor(), self.now(), name)
    }

    /// Removes deleted topics whose time is over. Weir calls it from time to time; returns how many.
    pub async fn purge_due(&self) -> Result<usize, CatalogError> {
        let mut purged = 0;
        while self.purge_is_due() && purged < PURGES_AT_ONCE {
            let mut tx = self.begin(&Actor::system()).await?;
            let now = tx.now;
            let due =
                sqlx::query_scalar!("SELECT id FROM topics WHERE purge_after <= $1 ORDER BY purge_after LIMIT 1", now)
                    .fetch_optional(tx.conn())
                    .await?;
            // Another instance may have been faster.
            let Some(id) = due else { break };
            let topic = tx.topic_row(TopicId(id)).await?;
            tx.purge(&topic).await?;
            tx.commit().await?;
            purged += 1;
        }
        Ok(purged)
    }

    /// Whether the snapshot has a deleted topic whose time is over.
    pub(super) fn purge_is_due(&self) -> bool {
        let now = self.now();
        self.view().topics().any(|topic| topic.purge_after.is_some_and(|end| end <= now))
    }

    /// Topics that were purged in the last 90 days: what the engine may drop. Absence from the view alone is no reason to drop records.
    pub async fn purged_topics(&self) -> Result<Vec<TopicId>, CatalogError> {
        let since = self.now() - PURGES_TOLD_FOR;
        let ids = sqlx::query_scalar!(
            r#"SELECT id AS "id: TopicId" FROM purged_topics WHERE purged_at > $1 ORDER BY purged_at"#,
            since
        );
        Ok(ids.fetch_all(self.pool()).await?)
    }
}

impl Tx {
    /// Makes the topic what the spec says. Fewer partitions are [`ChangeError::IncompatibleChange`].
    pub async fn put_topic(
        &mut self,
        grant: &Grant<PutTopic>,
        spec: &TopicSpec,
        precondition: Precondition,
    ) -> Result<Put<Topic>, ChangeError> {
        let wanted = grant.resource();
        if wanted.app.name != spec.app {
            return Err(ChangeError::invalid("/app", "is not the application that was asked for"));
        }
        check(spec)?;
        let found = sqlx::query_scalar!("SELECT id FROM topics WHERE name = $1", wanted.name.as_str())
            .fetch_optional(self.conn())
            .await?;
        let Some(id) = found else {
            precondition.check(None)?;
            let topic = self.create_topic(&wanted.name, wanted.app.id, spec).await?;
            return Ok(Put { value: topic, result: PutResult::Created, changes: Vec::new() });
        };
        let now = self.topic_row(TopicId(id)).await?;
        // A topic that the actor may not know of is only said to exist.
        if wanted.existing.as_ref().is_none_or(|topic| topic.id != now.id) || now.state == TopicState::Deleted {
            return Err(ChangeError::NameTaken { kind: Kind::Topic, name: wanted.name.to_string() });
        }
        precondition.check(Some(now.revision))?;
        let changes = differences(&TopicSpec::from(&now), spec)?;
        if changes.is_empty() {
            return Ok(Put { value: now, result: PutResult::Unchanged, changes });
        }
        self.update_topic(now.id, wanted.app.id, spec).await?;
        let value = self.topic_row(now.id).await?;
        self.audit_topic("topic.update", &value, json(&TopicSpec::from(&now)), json(spec)).await?;
        Ok(Put { value, result: PutResult::Updated, changes })
    }

    /// Makes the topic unreadable and unwritable; it can be restored for 30 days, and its name stays taken.
    pub async fn delete_topic(
        &mut self,
        grant: &Grant<ManageTopic>,
        precondition: Precondition,
    ) -> Result<Topic, ChangeError> {
        let topic = self.topic_row(grant.resource().id).await?;
        precondition.check(Some(topic.revision))?;
        if topic.state == TopicState::Deleted {
            return Ok(topic);
        }
        let purge_after = self.now + RESTORABLE_FOR;
        self.set_topic_state(&topic, TopicState::Deleted, Some(purge_after), "topic.delete").await
    }

    /// Undoes [`Self::delete_topic`].
    pub async fn restore_topic(&mut self, grant: &Grant<ManageTopic>) -> Result<Topic, ChangeError> {
        let topic = self.topic_row(grant.resource().id).await?;
        if topic.state == TopicState::Active {
            return Ok(topic);
        }
        self.set_topic_state(&topic, TopicState::Active, None, "topic.restore").await
    }

    /// Removes a deleted topic at once and for good, and frees its name.
    pub async fn purge_topic(&mut self, grant: &Grant<ManageTopic>) -> Result<(), ChangeError> {
        let topic = self.topic_row(grant.resource().id).await?;
        if topic.state == TopicState::Active {
            return Err(ChangeError::Conflict { detail: format!("delete {} first", topic.name) });
        }
        Ok(self.purge(&topic).await?)
    }

    async fn create_topic(&mut self, name: &TopicName, app: AppId, spec: &TopicSpec) -> Result<Topic, ChangeError> {
        let id = TopicId::new();
        let (now, revision) = (self.now, self.revision);
        sqlx::query!(
            "INSERT INTO topics (id, name, app_id, description, classification, visibility, partitions, retention_ms,
                                 retention_bytes, cleanup, labels, state, created_at, updated_at, revision)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'active', $12, $12, $13)",
            id.0,
            name.as_str(),
            app.0,
            spec.description,
            spec.classification.as_str(),
            spec.visibility.as_str(),
            partitions(spec),
            spec.retention_ms,
            spec.retention_bytes,
            spec.cleanup.as_str(),
            json(&spec.labels),
            now,
            revision
        )
        .execute(self.conn())
        .await
        .map_err(|error| name_taken(error, "topics_name_key", Kind::Topic, name.as_str()))?;
        let topic = self.topic_row(id).await?;
        self.audit_topic("topic.create", &topic, None, json(spec)).await?;
        Ok(topic)
    }

    async fn update_topic(&mut self, id: TopicId, app: AppId, spec: &TopicSpec) -> Result<(), ChangeError> {
        let (now, revision) = (self.now, self.revision);
        sqlx::query!(
            "UPDATE topics SET app_id = $2, description = $3, classification = $4, visibility = $5, partitions = $6,
                               retention_ms = $7, retention_bytes = $8, cleanup = $9, labels = $10, updated_at = $11, revision = $12
             WHERE id = $1",
            id.0,
            app.0,
            spec.description,
            spec.classification.as_str(),
            spec.visibility.as_str(),
            partitions(spec),
            spec.retention_ms,
            spec.retention_bytes,
            spec.cleanup.as_str(),
            json(&spec.labels),
            now,
            revision
        )
        .execute(self.conn())
        .await?;
        Ok(())
    }

    async fn set_topic_state(
        &mut self,
        topic: &Topic,
        state: TopicState,
        purge_after: Option<OffsetDateTime>,
        action: &'static str,
    ) -> Result<Topic, ChangeError> {
        let (now, revision) = (self.now, self.revision);
        sqlx::query!(
            "UPDATE topics SET state = $2, deleted_at = $3, purge_after = $4, updated_at = $5, revision = $6 WHERE id = $1",
            topic.id.0,
            state.as_str(),
            purge_after.map(|_| now),
            purge_after,
            now,
            revision
        )
        .execute(self.conn())
        .await?;
        let line = |state: TopicState| serde_json::json!({ "state": state });
        self.audit_topic(action, topic, Some(line(topic.state)), Some(line(state))).await?;
        Ok(self.topic_row(topic.id).await?)
    }

    /// Removes the row and says so to the engine.
    async fn purge(&mut self, topic: &Topic) -> Result<(), CatalogError> {
        let now = self.now;
        sqlx::query!(
            "INSERT INTO purged_topics (id, name, purged_at) VALUES ($1, $2, $3)",
            topic.id.0,
            topic.name.as_str(),
            now
        )
        .execute(self.conn())
        .await?;
        sqlx::query!("DELETE FROM topics WHERE id = $1", topic.id.0).execute(self.conn()).await?;
        self.audit_topic("topic.purge", topic, json(&TopicSpec::from(topic)), None).await?;
        Ok(())
    }

    pub(super) async fn topic_row(&mut self, id: TopicId) -> Result<Topic, CatalogError> {
        load::the_only(load::topics(self.conn(), Some(&[id.0])).await?)
    }

    pub(super) async fn audit_topic(
        &mut self,
        action: &'static str,
        topic: &Topic,
        before: Option<Value>,
        after: Option<Value>,
    ) -> Result<(), CatalogError> {
        let resource = format!("topic/{}", topic.name);
        let app = Some((topic.app_id, &topic.app));
        self.audit(Line { action, resource, team: Some(topic.team_id), app, before, after }).await
    }
}

fn readable(view: &View, topic: &Topic, app: &Application, now: OffsetDateTime) -> bool {
    let granted = |grant: &AccessGrant| grant.app_id == app.id && View::gives(grant, Operation::Consume, now);
    topic.app_id == app.id || view.grants_on(topic).any(granted)
}

fn partitions(spec: &TopicSpec) -> i32 {
    i32::try_from(spec.partitions).unwrap_or(i32::MAX)
}

fn check(spec: &TopicSpec) -> Result<(), ChangeError> {
    limits::text("/description", &spec.description, limits::DESCRIPTION_MAX)?;
    limits::entries("/labels", &spec.labels)?;
    if !(1..=TopicSpec::PARTITIONS_MAX).contains(&spec.partitions) {
        return Err(ChangeError::invalid("/partitions", format!("is 1 to {}", TopicSpec::PARTITIONS_MAX)));
    }
    if spec.retention_ms.is_some_and(|ms| ms < RETENTION_MS_MIN) {
        return Err(ChangeError::invalid("/retention/time", "is at least one second"));
    }
    if spec.retention_bytes.is_some_and(|bytes| bytes < RETENTION_BYTES_MIN) {
        let detail = format!("is at least {RETENTION_BYTES_MIN}");
        return Err(ChangeError::invalid("/retention/bytes_per_partition", detail));
    }
    Ok(())
}

/// `None` is for ever, which nothing is longer than.
fn shorter(wanted: Option<i64>, is: Option<i64>) -> bool {
    wanted.unwrap_or(i64::MAX) < is.unwrap_or(i64::MAX)
}

fn differences(is: &TopicSpec, wanted: &TopicSpec) -> Result<Vec<Change>, ChangeError> {
    if wanted.partitions < is.partitions {
        let why = format!(
            "the topic has {} partitions and cannot have {}: partitions can be added, not removed. Create another topic \
             and copy the records.",
            is.partitions, wanted.partitions
        );
        return Err(ChangeError::IncompatibleChange { why });
    }
    let mut diff = Diff::default();
    let why = "the new owner's team takes over the topic; the old one keeps what it is granted";
    diff.note("/app", &is.app, &wanted.app, Risk::Disruptive, Some(why));
    diff.safe("/description", &is.description, &wanted.description);
    diff.safe("/classification", &is.classification, &wanted.classification);
    let why = "the topic is hidden from everybody but its team and those who hold a grant";
    let (risk, why) = match wanted.visibility {
        Visibility::Team => (Risk::Disruptive, Some(why)),
        Visibility::Company => (Risk::Safe, None),
    };
    diff.note("/visibility", &is.visibility, &wanted.visibility, risk, why);
    let why = "keys will map to other partitions; per-key order is broken across the change";
    diff.note("/partitions", &is.partitions, &wanted.partitions, Risk::Disruptive, Some(why));
    let removed = |shorter: bool| match shorter {
        true => (Risk::Destructive, Some("records beyond the new bound are removed")),
        false => (Risk::Safe, None),
    };
    let (risk, why) = removed(shorter(wanted.retention_ms, is.retention_ms));
    diff.note(
        "/retention/time",
        &is.retention_ms.map(duration_text),
        &wanted.retention_ms.map(duration_text),
        risk,
        why,
    );
    let (risk, why) = removed(shorter(wanted.retention_bytes, is.retention_bytes));
    diff.note("/retention/bytes_per_partition", &is.retention_bytes, &wanted.retention_bytes, risk, why);
    let why = match wanted.cleanup {
        Cleanup::Compact => "all but the last record of each key are removed",
        Cleanup::Delete => "records are removed by age and size, the last one of a key too",
    };
    diff.note("/cleanup", &is.cleanup, &wanted.cleanup, Risk::Destructive, Some(why));
    diff.safe("/labels", &is.labels, &wanted.labels);
    Ok(diff.0)
}

/// The API's form of a duration, in the largest unit that fits: `7d`, `90m`, `1500ms`.
fn duration_text(ms: i64) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    let fitting = units.iter().find(|(_, length)| ms % length == 0);
    fitting.map_or_else(|| format!("{ms}ms"), |(unit, length)| format!("{}{unit}", ms / length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> TopicSpec {
        TopicSpec::new("checkout".parse().unwrap())
    }

    fn risks(is: &TopicSpec, wanted: &TopicSpec) -> Vec<(String, Risk)> {
        differences(is, wanted).unwrap().into_iter().map(|change| (change.path, change.risk)).collect()
    }

    #[test]
    fn each_difference_is_named_with_its_risk() {
        type Spoil = fn(&mut TopicSpec);
        let table: [(Spoil, &str, Risk); 9] = [
            (|spec| spec.description = "x".to_owned(), "/description", Risk::Safe),
            (|spec| spec.partitions = 6, "/partitions", Risk::Disruptive),
            (|spec| spec.retention_ms = Some(1000), "/retention/time", Risk::Destructive),
            (|spec| spec.retention_ms = None, "/retention/time", Risk::Safe),
            (|spec| spec.retention_bytes = Some(1 << 30), "/retention/bytes_per_partition", Risk::Destructive),
            (|spec| spec.cleanup = Cleanup::Compact, "/cleanup", Risk::Destructive),
            (|spec| spec.visibility = Visibility::Team, "/visibility", Risk::Disruptive),
            (|spec| spec.app = "billing".parse().unwrap(), "/app", Risk::Disruptive),
            (|spec| spec.classification = Classification::Restricted, "/classification", Risk::Safe),
        ];
        for (change, path, risk) in table {
            let mut wanted = spec();
            change(&mut wanted);
            assert_eq!(risks(&spec(), &wanted), [(path.to_owned(), risk)]);
        }
        assert_eq!(risks(&spec(), &spec()), []);
    }

    #[test]
    fn partitions_cannot_be_removed() {
        let mut wanted = spec();
        wanted.partitions = 1;
        assert!(matches!(differences(&spec(), &wanted), Err(ChangeError::IncompatibleChange { .. })));
    }

    #[test]
    fn durations_are_told_in_the_largest_unit_that_fits() {
        for (ms, text) in [(604_800_000, "7d"), (5_400_000, "90m"), (1500, "1500ms"), (1000, "1s"), (3_600_000, "1h")] {
            assert_eq!(duration_text(ms), text);
        }
    }
}
