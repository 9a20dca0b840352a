//! First run: a one-time link makes the first administrator.

use super::error::{CatalogError, ChangeError, Kind};
use super::model::{Secret, SignedIn};
use super::{Catalog, Origin, limits, password, secret};
use crate::names::{Email, NameError};

impl Catalog {
    /// Whether there is no administrator yet.
    pub async fn setup_needed(&self) -> Result<bool, CatalogError> {
        let admins = sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM users WHERE admin) AS "exists!""#);
        Ok(!admins.fetch_one(self.pool()).await?)
    }

    /// A new one-time set-up secret, or `None` when there is an administrator. It is valid until there is one.
    pub async fn setup_link(&self) -> Result<Option<Secret>, CatalogError> {
        if !self.setup_needed().await? {
            return Ok(None);
        }
        let secret = secret::new_secret();
        let now = self.now();
        // Several instances may start on one empty database: each prints a link and each link works, until one is used.
        sqlx::query!("INSERT INTO setup_links (hash, created_at) VALUES ($1, $2)", &secret::hash(secret.expose()), now)
            .execute(self.pool())
            .await?;
        Ok(Some(secret))
    }

    /// Whether the secret opens the set-up.
    pub async fn setup_link_valid(&self, link: &str) -> Result<bool, CatalogError> {
        let valid = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM setup_links WHERE hash = $1) AND NOT EXISTS (SELECT FROM users WHERE admin) AS "valid!""#,
            &secret::hash(link)
        );
        Ok(valid.fetch_one(self.pool()).await?)
    }

    /// Makes the first administrator and signs in. A wrong or used secret is [`ChangeError::NotFound`].
    pub async fn setup(
        &self,
        link: &str,
        email: &str,
        name: &str,
        password: String,
        from: &Origin,
    ) -> Result<SignedIn, ChangeError> {
        let email: Email = email.parse().map_err(|error: NameError| ChangeError::invalid("/email", error.problem))?;
        limits::name("/name", name)?;
        password::check(&password, &email)?;
        if !self.setup_link_valid(link).await? {
            return Err(ChangeError::missing(Kind::Invitation, "set-up link"));
        }
        let hash = password::hash(password).await?;
        let mut tx = self.begin(&from.system_actor()).await?;
        // Once more, now that nobody else can change anything.
        let valid = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM setup_links WHERE hash = $1) AND NOT EXISTS (SELECT FROM users WHERE admin) AS "valid!""#,
            &secret::hash(link)
        )
        .fetch_one(tx.conn())
        .await?;
        if !valid {
            return Err(ChangeError::missing(Kind::Invitation, "set-up link"));
        }
        let id = tx.insert_user(&email, name, true, &hash).await?;
        sqlx::query!("DELETE FROM setup_links").execute(tx.conn()).await?;
        tx.commit().await?;
        Ok(self.open_session(id, from).await?)
    }
}
