//! Invitations: a link that makes its holder a member of a team, once, with or without an account.

use std::sync::Arc;

use super::access::{Actor, Grant, ManageTeam};
use super::error::{CatalogError, ChangeError};
use super::model::{Invitation, Secret, SignedIn, TeamRole};
use super::{Catalog, Origin, Tx};
use crate::names::{Email, InvitationId, TeamName};

impl Catalog {
    /// The team's open invitations, newest first, at most 1000.
    pub async fn invitations(&self, grant: &Grant<ManageTeam>) -> Result<Vec<Invitation>, CatalogError> {
        let _ = grant;
        Err(super::pending())
    }

    /// What an invitation link is for; `None` when it is unknown, used or expired.
    pub async fn invitation(&self, secret: &str) -> Result<Option<Invitation>, CatalogError> {
        let _ = secret;
        Err(super::pending())
    }

    /// Accepts as the signed-in person, whose address must be the invited one. Returns the team.
    pub async fn accept_invitation(&self, actor: &Arc<Actor>, secret: &str) -> Result<TeamName, ChangeError> {
        let _ = (actor, secret);
        Err(super::pending().into())
    }

    /// Accepts by making the account, and signs in.
    pub async fn register_by_invitation(
        &self,
        secret: &str,
        name: &str,
        password: String,
        from: &Origin,
    ) -> Result<SignedIn, ChangeError> {
        let _ = (secret, name, password, from);
        Err(super::pending().into())
    }
}

impl Tx {
    /// Invites somebody; the secret is the link's and is shown once. An open invitation of the same address is replaced.
    pub async fn invite(
        &mut self,
        grant: &Grant<ManageTeam>,
        email: &Email,
        role: TeamRole,
    ) -> Result<(Invitation, Secret), ChangeError> {
        let _ = (grant, email, role);
        Err(super::pending().into())
    }

    /// Takes an open invitation back.
    pub async fn withdraw_invitation(
        &mut self,
        grant: &Grant<ManageTeam>,
        id: InvitationId,
    ) -> Result<(), ChangeError> {
        let _ = (grant, id);
        Err(super::pending().into())
    }
}
