//! First run: a one-time link makes the first administrator.

use super::error::{CatalogError, ChangeError};
use super::model::{Secret, SignedIn};
use super::{Catalog, Origin};

impl Catalog {
    /// Whether there is no administrator yet.
    pub async fn setup_needed(&self) -> Result<bool, CatalogError> {
        Err(super::pending())
    }

    /// A new one-time set-up secret, or `None` when there is an administrator. It is valid until there is one.
    pub async fn setup_link(&self) -> Result<Option<Secret>, CatalogError> {
        Err(super::pending())
    }

    /// Whether the secret opens the set-up.
    pub async fn setup_link_valid(&self, secret: &str) -> Result<bool, CatalogError> {
        let _ = secret;
        Err(super::pending())
    }

    /// Makes the first administrator and signs in. A wrong or used secret is [`ChangeError::NotFound`].
    pub async fn setup(
        &self,
        secret: &str,
        email: &str,
        name: &str,
        password: String,
        from: &Origin,
    ) -> Result<SignedIn, ChangeError> {
        let _ = (secret, email, name, password, from);
        Err(super::pending().into())
    }
}
