//! Signing in and out. A session is a row; the cookie carries 32 random bytes of which the row holds the SHA-256.

use std::sync::Arc;

use super::access::{Actor, Grant, OwnAccount};
use super::error::{CatalogError, ChangeError, SignInError};
use super::model::{Session, SignedIn, User};
use super::{Catalog, Origin};
use crate::names::SessionId;

impl Catalog {
    /// Checks the password and opens a session. Attempts are throttled per network address and per account.
    pub async fn sign_in(&self, email: &str, password: String, from: &Origin) -> Result<SignedIn, SignInError> {
        let _ = (email, password, from);
        Err(super::pending().into())
    }

    /// The session behind a cookie and its person, if both still hold. Notes that it was seen.
    pub async fn session(&self, secret: &str) -> Result<Option<(Session, Arc<User>)>, CatalogError> {
        let _ = secret;
        Err(super::pending())
    }

    /// Ends the session behind a cookie. Unknown ones are ended already.
    pub async fn sign_out(&self, secret: &str) -> Result<(), CatalogError> {
        let _ = secret;
        Err(super::pending())
    }

    /// Ends every session of the person, except `keep`. Returns how many.
    pub async fn sign_out_everywhere(
        &self,
        grant: &Grant<OwnAccount>,
        keep: Option<SessionId>,
    ) -> Result<u64, CatalogError> {
        let _ = (grant, keep);
        Err(super::pending())
    }

    /// Ends one of the person's sessions.
    pub async fn end_session(&self, grant: &Grant<OwnAccount>, id: SessionId) -> Result<(), ChangeError> {
        let _ = (grant, id);
        Err(super::pending().into())
    }

    /// The person's open sessions, last seen first, at most 100.
    pub async fn sessions(&self, grant: &Grant<OwnAccount>) -> Result<Vec<Session>, CatalogError> {
        let _ = grant;
        Err(super::pending())
    }

    /// Changes the password after checking the present one; ends every other session and opens a new one.
    pub async fn change_password(
        &self,
        grant: &Grant<OwnAccount>,
        present: String,
        new: String,
        from: &Origin,
    ) -> Result<SignedIn, ChangeError> {
        let _: (&Grant<OwnAccount>, String, String, &Origin) = (grant, present, new, from);
        Err(super::pending().into())
    }

    /// The actor of a portal session.
    #[must_use]
    pub fn actor_of(user: &User, from: &Origin) -> Arc<Actor> {
        Arc::new(Actor {
            principal: super::access::Principal::User { id: user.id, email: user.email.clone(), admin: user.admin },
            token: None,
            address: from.address,
            request_id: from.request_id.clone(),
        })
    }
}
