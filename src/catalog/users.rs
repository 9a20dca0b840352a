//! Accounts, as administrators and the command line see them.

use super::Catalog;
use super::access::{Administer, Grant};
use super::error::{CatalogError, ChangeError};
use super::model::{Secret, Token, TokenSpec, User};
use super::page::{Page, PageRequest};
use crate::names::{Email, UserId};

impl Catalog {
    /// Accounts by address.
    pub async fn users(
        &self,
        grant: &Grant<Administer>,
        q: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<User>, CatalogError> {
        let _ = (grant, q, page);
        Err(super::pending())
    }

    /// Makes an account. Without a password one is made up and returned, to be shown once.
    pub async fn create_user(
        &self,
        grant: &Grant<Administer>,
        email: &Email,
        name: &str,
        admin: bool,
        password: Option<String>,
    ) -> Result<(User, Option<Secret>), ChangeError> {
        let _ = (grant, email, name, admin, password);
        Err(super::pending().into())
    }

    /// Sets a new password (made up when none is given) and ends every session of the account.
    pub async fn reset_password(
        &self,
        grant: &Grant<Administer>,
        email: &Email,
        password: Option<String>,
    ) -> Result<Option<Secret>, ChangeError> {
        let _ = (grant, email, password);
        Err(super::pending().into())
    }

    /// Makes a personal token for somebody else: the command line's `admin create-token`.
    pub async fn create_token_for(
        &self,
        grant: &Grant<Administer>,
        email: &Email,
        spec: &TokenSpec,
    ) -> Result<(Token, Secret), ChangeError> {
        let _ = (grant, email, spec);
        Err(super::pending().into())
    }

    /// Disables or enables an account; disabling ends its sessions and refuses its tokens. The last administrator stays.
    pub async fn set_disabled(
        &self,
        grant: &Grant<Administer>,
        id: UserId,
        disabled: bool,
    ) -> Result<User, ChangeError> {
        let _ = (grant, id, disabled);
        Err(super::pending().into())
    }

    /// Makes somebody an administrator, or no longer one. The last administrator stays.
    pub async fn set_admin(&self, grant: &Grant<Administer>, id: UserId, admin: bool) -> Result<User, ChangeError> {
        let _ = (grant, id, admin);
        Err(super::pending().into())
    }
}
