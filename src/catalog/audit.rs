//! The audit: who changed what, when, by which token, from where. Written in the transaction of the change (I11).

use time::OffsetDateTime;

use super::Catalog;
use super::access::{Grant, ReadAudit};
use super::error::CatalogError;
use super::model::AuditEntry;
use super::page::{Page, PageRequest};
use crate::names::AppName;

/// Which lines of the audit. Everything given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditQuery {
    /// As [`AuditEntry::actor`].
    pub actor: Option<String>,
    /// Concerning this application or one of its topics.
    pub app: Option<AppName>,
    /// As [`AuditEntry::resource`].
    pub resource: Option<String>,
    /// As [`AuditEntry::action`]; `topic.*` means every action on topics.
    pub action: Option<String>,
    pub since: Option<OffsetDateTime>,
    pub until: Option<OffsetDateTime>,
}

impl Catalog {
    /// Lines of the audit that the actor may read, newest first.
    pub async fn audit(
        &self,
        grant: &Grant<ReadAudit>,
        query: &AuditQuery,
        page: &PageRequest,
    ) -> Result<Page<AuditEntry>, CatalogError> {
        let _ = (grant, query, page);
        Err(super::pending())
    }
}
