//! Topics: lists, and the changes of a topic's life.

use std::sync::Arc;

use super::access::{Grant, ManageTopic, PutTopic, ReadCatalog};
use super::error::{CatalogError, ChangeError, Denied};
use super::model::{Classification, Topic, TopicSpec, TopicState};
use super::page::{Page, PageRequest};
use super::put::{Precondition, Put};
use super::{Catalog, Tx};
use crate::names::{AppName, TeamName, TopicId, TopicName};

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
    /// `None`: active ones.
    pub state: Option<TopicState>,
    /// Topics that this application may read now.
    pub readable_by: Option<AppName>,
}

impl Catalog {
    /// Topics that the actor may know of, by name.
    #[must_use]
    pub fn topics(&self, grant: &Grant<ReadCatalog>, query: &TopicQuery, page: &PageRequest) -> Page<Arc<Topic>> {
        let _ = (self, grant, query);
        page.collect(std::iter::empty(), |topic: &Arc<Topic>| topic.name.to_string())
    }

    /// One topic. A deleted one is [`Denied::TopicDeleted`], except to those who may restore it.
    pub fn topic(&self, grant: &Grant<ReadCatalog>, name: &TopicName) -> Result<Arc<Topic>, Denied> {
        let _ = (self, grant);
        Err(Denied::NotFound { kind: super::error::Kind::Topic, name: name.to_string() })
    }

    /// Removes deleted topics whose time is over. Weir calls it from time to time; returns how many.
    pub async fn purge_due(&self) -> Result<usize, CatalogError> {
        Err(super::pending())
    }

    /// Topics that were purged in the last 90 days: what the engine may drop. Absence from the view alone is no reason to drop records.
    pub async fn purged_topics(&self) -> Result<Vec<TopicId>, CatalogError> {
        Err(super::pending())
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
        let _ = (grant, spec, precondition);
        Err(super::pending().into())
    }

    /// Makes the topic unreadable and unwritable; it can be restored for 30 days, and its name stays taken.
    pub async fn delete_topic(
        &mut self,
        grant: &Grant<ManageTopic>,
        precondition: Precondition,
    ) -> Result<Topic, ChangeError> {
        let _ = (grant, precondition);
        Err(super::pending().into())
    }

    /// Undoes [`Self::delete_topic`].
    pub async fn restore_topic(&mut self, grant: &Grant<ManageTopic>) -> Result<Topic, ChangeError> {
        let _ = grant;
        Err(super::pending().into())
    }

    /// Removes a deleted topic at once and for good, and frees its name.
    pub async fn purge_topic(&mut self, grant: &Grant<ManageTopic>) -> Result<(), ChangeError> {
        let _ = grant;
        Err(super::pending().into())
    }
}
