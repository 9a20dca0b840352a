//! The partitions that exist, by topic.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::partition::Partition;
use crate::broker::engine::TopicSettings;
use crate::names::{TopicId, TopicPartition};

/// The partitions of one topic, in order.
pub(in crate::broker) type Partitions = Arc<[Arc<Partition>]>;

/// See the module's text.
#[derive(Default)]
pub(in crate::broker) struct Topics(RwLock<HashMap<TopicId, Partitions>>);

impl Topics {
    pub(in crate::broker) fn partition(&self, at: TopicPartition) -> Option<Arc<Partition>> {
        let topics = self.0.read();
        topics.get(&at.topic)?.get(usize::try_from(at.partition).ok()?).map(Arc::clone)
    }

    pub(in crate::broker) fn topic(&self, topic: TopicId) -> Option<Partitions> {
        self.0.read().get(&topic).map(Arc::clone)
    }

    /// Says how a topic's records are kept from now on.
    pub(in crate::broker) fn set_settings(&self, topic: TopicId, settings: TopicSettings) {
        let partitions = self.topic(topic);
        let others = partitions.iter().flat_map(|all| all.iter()).filter(|partition| partition.settings() != settings);
        others.for_each(|partition| partition.set_settings(settings));
    }

    /// Adds partitions of one topic; their numbers follow those that exist.
    pub(in crate::broker) fn add(&self, topic: TopicId, new: &[Arc<Partition>]) {
        let mut topics = self.0.write();
        let old = topics.get(&topic).map(Arc::clone).unwrap_or_default();
        topics.insert(topic, old.iter().chain(new).map(Arc::clone).collect());
    }

    pub(in crate::broker) fn remove(&self, topic: TopicId) -> Option<Partitions> {
        self.0.write().remove(&topic)
    }

    /// Every partition.
    pub(in crate::broker) fn all(&self) -> Vec<Partitions> {
        self.0.read().values().map(Arc::clone).collect()
    }
}
