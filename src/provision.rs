//! Brings the engine to what the catalog wants: topics made, grown, and dropped once they are purged for good.
//!
//! Idempotent and resumable: every run compares and does what is missing, so a crash between a change in the catalog and the
//! one in the engine costs nothing. The records of a topic are dropped only when the catalog *says* that it was purged;
//! that a topic is missing from the view is no reason.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::broker::engine::{AdminError, Engine, TopicSettings, TopicSpec};
use crate::catalog::Catalog;
use crate::catalog::error::CatalogError;
use crate::catalog::model::{Cleanup, Topic};
use crate::names::TopicId;

/// How often topics whose time is over are purged, and everything is compared again.
const PERIOD: Duration = Duration::from_secs(60);
/// Pause after a run that failed.
const RETRY: Duration = Duration::from_secs(2);

/// Topics that can be told to the engine at once.
const TURNS: usize = 64;

/// Why the engine does not hold what it should.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// The engine refused.
    #[error("the engine refused topic {topic}: {source}")]
    Engine {
        /// Which topic.
        topic: String,
        /// Why.
        source: AdminError,
    },
    /// The catalog could not be asked.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// The reconciler. Cheap to clone.
#[derive(Clone)]
pub struct Provisioner {
    engine: Arc<dyn Engine>,
    catalog: Catalog,
    known: Arc<Mutex<Known>>,
    /// Two changes of one topic must reach the engine one after the other, or the older one could be the last. Topics share
    /// these by their id.
    turns: Arc<[tokio::sync::Mutex<()>]>,
}

/// What an engine is to hold for a topic.
#[must_use]
pub fn spec_of(topic: &Topic) -> TopicSpec {
    let compact = topic.cleanup == Cleanup::Compact;
    let settings = TopicSettings {
        // A compacted topic keeps the last record of each key, however old.
        retention: topic
            .retention_ms
            .filter(|_| !compact)
            .and_then(|ms| u64::try_from(ms).ok())
            .map(Duration::from_millis),
        retention_bytes: topic.retention_bytes.filter(|_| !compact).and_then(|bytes| u64::try_from(bytes).ok()),
        compact,
        ..TopicSettings::default()
    };
    TopicSpec { id: topic.id, partitions: topic.partitions, settings }
}

/// What the engine is known to hold, so that a run asks it for the differences only.
#[derive(Debug, Default)]
struct Known {
    /// What the engine was told last, and of which revision of the topic that was.
    held: HashMap<TopicId, (i64, TopicSpec)>,
    /// Topics that were dropped by this process.
    dropped: HashSet<TopicId>,
}

impl Provisioner {
    /// A reconciler between this catalog and this engine.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, catalog: Catalog) -> Self {
        let turns = (0..TURNS).map(|_| tokio::sync::Mutex::default()).collect();
        Self { engine, catalog, known: Arc::default(), turns }
    }

    /// Makes the engine hold one topic. Called right after the change has committed, so that whoever made the topic can
    /// write to it when the answer arrives; if this process dies before, [`Self::reconcile`] does it at the next start.
    pub async fn ensure(&self, topic: &Topic) -> Result<(), ProvisionError> {
        let spec = spec_of(topic);
        let _turn = self.turns[usize::from(topic.id.0.as_bytes()[15]) % TURNS].lock().await;
        {
            let known = self.known.lock();
            // The caller's view may be older than the purge.
            let dropped = known.dropped.contains(&topic.id);
            let held = known.held.get(&topic.id);
            if dropped || held.is_some_and(|(revision, held)| *revision >= topic.revision || *held == spec) {
                return Ok(());
            }
        }
        let refused = |source| ProvisionError::Engine { topic: topic.name.to_string(), source };
        self.engine.ensure_topic(&spec).await.map_err(refused)?;
        let dropped = {
            let mut known = self.known.lock();
            let dropped = known.dropped.contains(&topic.id);
            if !dropped {
                known.held.insert(topic.id, (topic.revision, spec));
            }
            dropped
        };
        if dropped {
            // Purged meanwhile, perhaps before the engine made it again.
            self.engine.delete_topic(topic.id).await.map_err(refused)?;
        }
        Ok(())
    }

    /// Makes the engine hold every topic of the catalog, deleted ones too: they can be restored.
    pub async fn ensure_all(&self) -> Result<(), ProvisionError> {
        let view = self.catalog.view();
        let mut first_error = None;
        for topic in view.topics() {
            // One topic that cannot be held must not keep the others from being held.
            if let Err(error) = self.ensure(topic).await {
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Purges topics whose time is over, and drops the records of everything purged.
    pub async fn purge(&self) -> Result<(), ProvisionError> {
        let due = self.catalog.purge_due().await?;
        if due > 0 {
            tracing::info!(topics = due, "purged deleted topics whose time was over");
        }
        for id in self.catalog.purged_topics().await? {
            // Before the engine is asked, so that nobody makes it again unseen.
            if !self.known.lock().dropped.insert(id) {
                continue;
            }
            let refused = |source| ProvisionError::Engine { topic: id.to_string(), source };
            let done = self.engine.delete_topic(id).await.map_err(refused);
            let mut known = self.known.lock();
            if done.is_err() {
                known.dropped.remove(&id);
            }
            done?;
            known.held.remove(&id);
        }
        Ok(())
    }

    /// One complete run.
    pub async fn reconcile(&self) -> Result<(), ProvisionError> {
        self.ensure_all().await?;
        self.purge().await
    }

    /// Reconciles whenever the catalog changes, and from time to time, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut changes = self.catalog.changes();
        while !stop.is_cancelled() {
            changes.borrow_and_update();
            let done = self.ensure_all().await;
            let done = if done.is_ok() && self.something_vanished() { self.purge().await } else { done };
            let wait = match done {
                Ok(()) => PERIOD,
                Err(error) => {
                    tracing::warn!(%error, "the engine does not hold every topic yet; trying again");
                    RETRY
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {
                    if let Err(error) = self.purge().await {
                        tracing::warn!(%error, "deleted topics could not be purged; trying again");
                    }
                }
            }
        }
    }

    /// Whether a topic that the engine holds has left the catalog: probably somebody purged it, and its space is wanted.
    fn something_vanished(&self) -> bool {
        let view = self.catalog.view();
        let present: HashSet<TopicId> = view.topics().map(|topic| topic.id).collect();
        self.known.lock().held.keys().any(|id| !present.contains(id))
    }
}
