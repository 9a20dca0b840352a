//! Teams and who is in them.

use std::sync::Arc;

use super::access::{Actor, Grant, JoinTeam, ManageTeam, PutTeam, ReadCatalog};
use super::error::{CatalogError, ChangeError, Denied, Kind};
use super::model::{JoinRequest, Membership, Team, TeamRole, TeamSpec};
use super::page::{Page, PageRequest};
use super::put::{Precondition, Put};
use super::{Catalog, Tx};
use crate::names::{Email, TeamName, UserId};

impl Catalog {
    /// Teams by name; `q` is words that must occur in name or description.
    #[must_use]
    pub fn teams(&self, grant: &Grant<ReadCatalog>, q: Option<&str>, page: &PageRequest) -> Page<Arc<Team>> {
        let _ = (self, grant, q);
        page.collect(std::iter::empty(), |team: &Arc<Team>| team.name.to_string())
    }

    /// One team.
    pub fn team(&self, grant: &Grant<ReadCatalog>, name: &TeamName) -> Result<Arc<Team>, Denied> {
        let _ = (self, grant);
        Err(Denied::NotFound { kind: Kind::Team, name: name.to_string() })
    }

    /// A team's members, maintainers first, then by address.
    pub fn members(&self, grant: &Grant<ReadCatalog>, name: &TeamName) -> Result<Vec<Membership>, Denied> {
        let _ = (self, grant);
        Err(Denied::NotFound { kind: Kind::Team, name: name.to_string() })
    }

    /// The teams the actor is a member of (an application: the team it is of), by name.
    #[must_use]
    pub fn teams_of(&self, actor: &Actor) -> Vec<(Arc<Team>, TeamRole)> {
        let _ = (self, actor);
        Vec::new()
    }

    /// Who wants to join the team, oldest first, at most 1000.
    pub async fn join_requests(&self, grant: &Grant<ManageTeam>) -> Result<Vec<JoinRequest>, CatalogError> {
        let _ = grant;
        Err(super::pending())
    }

    /// Which teams the person has asked to join.
    pub async fn own_join_requests(&self, user: UserId) -> Result<Vec<JoinRequest>, CatalogError> {
        let _ = user;
        Err(super::pending())
    }
}

impl Tx {
    /// Makes the team what the spec says; who makes it becomes its maintainer.
    pub async fn put_team(
        &mut self,
        grant: &Grant<PutTeam>,
        spec: &TeamSpec,
        precondition: Precondition,
    ) -> Result<Put<Team>, ChangeError> {
        let _ = (grant, spec, precondition);
        Err(super::pending().into())
    }

    /// Removes a team that has no applications.
    pub async fn delete_team(
        &mut self,
        grant: &Grant<ManageTeam>,
        precondition: Precondition,
    ) -> Result<(), ChangeError> {
        let _ = (grant, precondition);
        Err(super::pending().into())
    }

    /// Makes somebody with an account a member, or changes the role. The last maintainer cannot be demoted.
    pub async fn set_member(
        &mut self,
        grant: &Grant<ManageTeam>,
        email: &Email,
        role: TeamRole,
    ) -> Result<Put<Membership>, ChangeError> {
        let _ = (grant, email, role);
        Err(super::pending().into())
    }

    /// Takes somebody out of the team. The last maintainer stays while there are others.
    pub async fn remove_member(&mut self, grant: &Grant<ManageTeam>, email: &Email) -> Result<(), ChangeError> {
        let _ = (grant, email);
        Err(super::pending().into())
    }

    /// Takes the actor out of the team.
    pub async fn leave_team(&mut self, grant: &Grant<JoinTeam>) -> Result<(), ChangeError> {
        let _ = grant;
        Err(super::pending().into())
    }

    /// Asks the maintainers to be let in.
    pub async fn request_to_join(
        &mut self,
        grant: &Grant<JoinTeam>,
        message: &str,
    ) -> Result<JoinRequest, ChangeError> {
        let _ = (grant, message);
        Err(super::pending().into())
    }

    /// Lets somebody in who asked, or not.
    pub async fn decide_join(
        &mut self,
        grant: &Grant<ManageTeam>,
        email: &Email,
        admit: bool,
    ) -> Result<(), ChangeError> {
        let _ = (grant, email, admit);
        Err(super::pending().into())
    }
}
