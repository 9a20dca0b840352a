//! What every page of a topic shares: the topic, the person's rights on it, the tabs.

use std::sync::Arc;

use time::OffsetDateTime;

use super::draft::word;
use crate::catalog::access::{Consume, Grant, ManageTopic, Produce, ReadCatalog};
use crate::catalog::error::Denied;
use crate::catalog::model::Classification;
use crate::catalog::model::{AccessGrant, Membership, Topic, TopicState, Visibility};
use crate::catalog::page::PageRequest;
use crate::catalog::{AppQuery, Catalog};
use crate::names::TopicName;
use crate::web::page::PageError;
use crate::web::state::WebState;
use crate::web::visit::Visit;

/// People named when somebody has to ask for access.
const ASK_MAX: usize = 3;

/// Which page of a topic is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tab {
    Overview,
    Events,
    Access,
    Config,
    History,
    Use,
}

/// A tab as a link.
pub struct TabLink {
    pub href: String,
    pub label: &'static str,
    pub count: Option<usize>,
    pub current: bool,
}

/// See the module's text.
pub struct Head {
    pub topic: Arc<Topic>,
    pub may_produce: bool,
    pub may_consume: bool,
    pub may_manage: bool,
    /// Grants on the topic, those by prefix included.
    pub grants: Vec<AccessGrant>,
    pub reader: Grant<ReadCatalog>,
    tab: Tab,
}

impl Head {
    /// The topic, if the person may know of it.
    pub fn load(state: &WebState, visit: &Visit, name: &TopicName, tab: Tab) -> Result<Self, PageError> {
        let catalog = &state.catalog;
        let reader = visit.reading(state)?;
        let topic = catalog.topic(&reader, name)?;
        let grants = catalog.access_of_topic(&reader, name, &PageRequest::first(PageRequest::LIMIT_MAX));
        Ok(Self {
            may_produce: visit.may::<Produce>(state, name),
            may_consume: visit.may::<Consume>(state, name),
            may_manage: visit.may::<ManageTopic>(state, name),
            grants: grants.map(|page| page.items).unwrap_or_default(),
            topic,
            reader,
            tab,
        })
    }

    /// The tabs.
    #[must_use]
    pub fn tabs(&self) -> Vec<TabLink> {
        let base = format!("/topics/{}", self.topic.name);
        let tab = |tab: Tab, path: &str, label| TabLink {
            href: format!("{base}{path}"),
            label,
            count: (tab == Tab::Access && !self.grants.is_empty()).then_some(self.grants.len()),
            current: tab == self.tab,
        };
        vec![
            tab(Tab::Overview, "", "Overview"),
            tab(Tab::Events, "/events", "Events"),
            tab(Tab::Access, "/access", "Access"),
            tab(Tab::Config, "/config", "Config"),
            tab(Tab::History, "/history", "History"),
            tab(Tab::Use, "/use", "Use it"),
        ]
    }

    #[must_use]
    pub fn deleted(&self) -> bool {
        self.topic.state == TopicState::Deleted
    }

    /// Until when a deleted topic can be restored.
    #[must_use]
    pub fn purge_after(&self) -> Option<OffsetDateTime> {
        self.topic.purge_after.filter(|_| self.deleted())
    }

    #[must_use]
    pub fn company(&self) -> bool {
        self.topic.visibility == Visibility::Company
    }

    #[must_use]
    pub fn classification(&self) -> String {
        word(&self.topic.classification)
    }

    #[must_use]
    pub fn classification_kind(&self) -> &'static str {
        classification_kind(self.topic.classification)
    }
}

/// The colour of a classification.
#[must_use]
pub const fn classification_kind(class: Classification) -> &'static str {
    match class {
        Classification::Public => "ok",
        Classification::Internal => "",
        Classification::Confidential => "warn",
        Classification::Restricted => "danger",
    }
}

/// Somebody who can give access.
pub struct Contact {
    pub email: String,
    pub name: String,
}

/// Why the person may not read or write, and what to do about it.
pub struct DeniedView {
    pub title: &'static str,
    pub why: String,
    pub ask: Vec<Contact>,
    /// Subject of the mail.
    pub subject: String,
    /// The person's own applications, one of which could hold the grant.
    pub apps: Vec<String>,
}

impl DeniedView {
    /// Puts a refusal into words for a page about the topic.
    #[must_use]
    pub fn of(catalog: &Catalog, head: &Head, denied: &Denied) -> Self {
        let topic = &head.topic;
        let (title, why) = match denied {
            Denied::TopicDeleted { .. } => {
                let why = "Its records are kept, but nobody can read them until it is restored.".to_owned();
                return Self { title: "The topic is deleted", why, ask: vec![], subject: String::new(), apps: vec![] };
            }
            _ => (
                "You may not read the events of this topic",
                format!(
                    "They belong to the application {} of the team {}. You see that the topic exists and what it is for.",
                    topic.app, topic.team
                ),
            ),
        };
        let members = catalog.members(&head.reader, &topic.team).unwrap_or_default();
        let contact = |member: &Membership| Contact { email: member.email.to_string(), name: member.name.clone() };
        let own = AppQuery { mine: true, ..AppQuery::default() };
        let apps = catalog.apps(&head.reader, &own, &PageRequest::first(5)).items;
        Self {
            title,
            why,
            ask: members.iter().take(ASK_MAX).map(contact).collect(),
            subject: format!("Access to the topic {}", topic.name),
            apps: apps.iter().map(|app| app.name.to_string()).collect(),
        }
    }
}
