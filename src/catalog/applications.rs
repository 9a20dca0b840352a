//! Applications: lists, registration, suspension.

use std::sync::Arc;

use super::access::{Grant, ManageApp, PutApp, ReadCatalog};
use super::error::{ChangeError, Denied, Kind};
use super::model::{AppSpec, AppState, Application};
use super::page::{Page, PageRequest};
use super::put::{Precondition, Put};
use super::{Catalog, Tx};
use crate::names::{AppName, TeamName};

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
        let _ = (self, grant, query);
        page.collect(std::iter::empty(), |app: &Arc<Application>| app.name.to_string())
    }

    /// One application.
    pub fn app(&self, grant: &Grant<ReadCatalog>, name: &AppName) -> Result<Arc<Application>, Denied> {
        let _ = (self, grant);
        Err(Denied::NotFound { kind: Kind::Application, name: name.to_string() })
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
        let _ = (grant, spec, precondition);
        Err(super::pending().into())
    }

    /// Removes an application that owns no topic; its tokens and grants go with it.
    pub async fn delete_app(
        &mut self,
        grant: &Grant<ManageApp>,
        precondition: Precondition,
    ) -> Result<(), ChangeError> {
        let _ = (grant, precondition);
        Err(super::pending().into())
    }

    /// Refuses the application's tokens and ends its streams until it is resumed.
    pub async fn suspend_app(&mut self, grant: &Grant<ManageApp>, reason: &str) -> Result<Application, ChangeError> {
        let _ = (grant, reason);
        Err(super::pending().into())
    }

    /// Undoes [`Self::suspend_app`].
    pub async fn resume_app(&mut self, grant: &Grant<ManageApp>) -> Result<Application, ChangeError> {
        let _ = grant;
        Err(super::pending().into())
    }
}
