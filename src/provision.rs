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

use crate::broker::engine::{AdminError, Engine, TopicSpec};
use crate::catalog::Catalog;
use crate::catalog::error::CatalogError;
use crate::catalog::model::Topic;
use crate::names::TopicId;

/// How often topics whose time is over are purged, and everything is compared again.
const PERIOD: Duration = Duration::from_secs(60);
/// Pause after a run that failed.
const RETRY: Duration = Duration::from_secs(2);

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
}

/// What the engine is known to hold, so that a run asks it for the differences only.
#[derive(Debug, Default)]
struct Known {
    /// Partitions by topic.
    held: HashMap<TopicId, u32>,
    /// Topics that were dropped by this process.
    dropped: HashSet<TopicId>,
}

impl Provisioner {
    /// A reconciler between this catalog and this engine.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, catalog: Catalog) -> Self {
        Self { engine, catalog, known: Arc::default() }
    }

    /// Makes the engine hold one topic. Called right after the change has committed, so that whoever made the topic can
    /// write to it when the answer arrives; if this process dies before, [`Self::reconcile`] does it at the next start.
    pub async fn ensure(&self, topic: &Topic) -> Result<(), ProvisionError> {
        let spec = TopicSpec { id: topic.id, partitions: topic.partitions };
        {
            let known = self.known.lock();
            // The caller's view may be older than the purge.
            let dropped = known.dropped.contains(&topic.id);
            if dropped || known.held.get(&topic.id).is_some_and(|held| *held >= spec.partitions) {
                return Ok(());
            }
        }
        let refused = |source| ProvisionError::Engine { topic: topic.name.to_string(), source };
        self.engine.ensure_topic(&spec).await.map_err(refused)?;
        let dropped = {
            let mut known = self.known.lock();
            let dropped = known.dropped.contains(&topic.id);
            if !dropped {
                known.held.insert(topic.id, spec.partitions);
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
