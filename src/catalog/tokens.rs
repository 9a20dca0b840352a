//! API tokens: made once, shown once, kept as SHA-256.

use std::net::IpAddr;
use std::time::Duration;

use super::access::{Grant, ManageAppTokens, OwnTokens, TokenActorParts};
use super::error::{AuthError, CatalogError, ChangeError};
use super::model::{Secret, Token, TokenSpec};
use super::{Catalog, Tx};
use crate::names::TokenId;

impl Catalog {
    /// Who holds the token. From the snapshot, in constant work; notes the use for "last used".
    pub fn authenticate_token(&self, secret: &str, from: Option<IpAddr>) -> Result<TokenActorParts, AuthError> {
        let _ = (self, secret, from);
        Err(AuthError::Unknown)
    }

    /// An application's tokens, newest first; revoked and expired ones for 30 days.
    pub async fn tokens_of_app(&self, grant: &Grant<ManageAppTokens>) -> Result<Vec<Token>, CatalogError> {
        let _ = grant;
        Err(super::pending())
    }

    /// A person's tokens, newest first; revoked and expired ones for 30 days.
    pub async fn tokens_of_user(&self, grant: &Grant<OwnTokens>) -> Result<Vec<Token>, CatalogError> {
        let _ = grant;
        Err(super::pending())
    }
}

impl Tx {
    /// Makes a token for an application, with no more rights than the actor's own credential.
    pub async fn create_app_token(
        &mut self,
        grant: &Grant<ManageAppTokens>,
        spec: &TokenSpec,
    ) -> Result<(Token, Secret), ChangeError> {
        let _ = (grant, spec);
        Err(super::pending().into())
    }

    /// Makes a personal token.
    pub async fn create_own_token(
        &mut self,
        grant: &Grant<OwnTokens>,
        spec: &TokenSpec,
    ) -> Result<(Token, Secret), ChangeError> {
        let _ = (grant, spec);
        Err(super::pending().into())
    }

    /// A new token with the same rights; the old one ends after the overlap.
    pub async fn rotate_app_token(
        &mut self,
        grant: &Grant<ManageAppTokens>,
        id: TokenId,
        overlap: Duration,
    ) -> Result<(Token, Secret), ChangeError> {
        let _ = (grant, id, overlap);
        Err(super::pending().into())
    }

    /// A new personal token with the same rights; the old one ends after the overlap.
    pub async fn rotate_own_token(
        &mut self,
        grant: &Grant<OwnTokens>,
        id: TokenId,
        overlap: Duration,
    ) -> Result<(Token, Secret), ChangeError> {
        let _ = (grant, id, overlap);
        Err(super::pending().into())
    }

    /// Ends a token now; its open streams end within a second.
    pub async fn revoke_app_token(
        &mut self,
        grant: &Grant<ManageAppTokens>,
        id: TokenId,
    ) -> Result<Token, ChangeError> {
        let _ = (grant, id);
        Err(super::pending().into())
    }

    /// Ends a personal token now.
    pub async fn revoke_own_token(&mut self, grant: &Grant<OwnTokens>, id: TokenId) -> Result<Token, ChangeError> {
        let _ = (grant, id);
        Err(super::pending().into())
    }
}
