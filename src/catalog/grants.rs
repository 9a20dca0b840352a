//! Access grants: which application may do what on whose topics.

use time::OffsetDateTime;

use super::access::{Grant, ReadCatalog, SharePrefix, ShareTopic};
use super::error::{ChangeError, Denied, Kind};
use super::model::{AccessGrant, Operation};
use super::page::{Page, PageRequest};
use super::put::{Precondition, Put};
use super::{Catalog, Tx};
use crate::names::{AppName, TopicName, TopicPrefix};

impl Catalog {
    /// Grants on a topic, those by prefix included, by application. Expired ones too, so that they can be renewed.
    pub fn access_of_topic(
        &self,
        grant: &Grant<ReadCatalog>,
        name: &TopicName,
        page: &PageRequest,
    ) -> Result<Page<AccessGrant>, Denied> {
        let _ = (self, grant, page);
        Err(Denied::NotFound { kind: Kind::Topic, name: name.to_string() })
    }

    /// Grants an application holds, as far as the actor may know of the topics.
    pub fn access_of_app(
        &self,
        grant: &Grant<ReadCatalog>,
        name: &AppName,
        page: &PageRequest,
    ) -> Result<Page<AccessGrant>, Denied> {
        let _ = (self, grant, page);
        Err(Denied::NotFound { kind: Kind::Application, name: name.to_string() })
    }

    /// Prefix grants that an owner has given.
    pub fn prefixes_of_app(
        &self,
        grant: &Grant<ReadCatalog>,
        name: &AppName,
        page: &PageRequest,
    ) -> Result<Page<AccessGrant>, Denied> {
        let _ = (self, grant, page);
        Err(Denied::NotFound { kind: Kind::Application, name: name.to_string() })
    }
}

impl Tx {
    /// Makes the application's rights on the topic exactly these.
    pub async fn put_access(
        &mut self,
        grant: &Grant<ShareTopic>,
        app: &AppName,
        operations: &[Operation],
        expires_at: Option<OffsetDateTime>,
        precondition: Precondition,
    ) -> Result<Put<AccessGrant>, ChangeError> {
        let _ = (grant, app, operations, expires_at, precondition);
        Err(super::pending().into())
    }

    /// Takes the application's rights on the topic away; open streams end within a second.
    pub async fn revoke_access(
        &mut self,
        grant: &Grant<ShareTopic>,
        app: &AppName,
        precondition: Precondition,
    ) -> Result<(), ChangeError> {
        let _ = (grant, app, precondition);
        Err(super::pending().into())
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
        let _ = (grant, prefix, app, operations, expires_at, precondition);
        Err(super::pending().into())
    }

    /// Undoes [`Self::put_prefix_access`].
    pub async fn revoke_prefix_access(
        &mut self,
        grant: &Grant<SharePrefix>,
        prefix: &TopicPrefix,
        app: &AppName,
        precondition: Precondition,
    ) -> Result<(), ChangeError> {
        let _ = (grant, prefix, app, precondition);
        Err(super::pending().into())
    }
}
