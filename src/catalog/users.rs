//! Accounts, as administrators and the command line see them.

use serde_json::{Value, json};

use super::access::{Administer, Grant};
use super::error::{CatalogError, ChangeError, Kind};
use super::model::{Secret, Token, TokenSpec, User};
use super::page::{Page, PageRequest};
use super::search::Words;
use super::tx::{Line, name_taken};
use super::{Catalog, Tx, limits, load, password, secret};
use crate::names::{Email, UserId};

impl Catalog {
    /// Accounts by address.
    pub async fn users(
        &self,
        grant: &Grant<Administer>,
        q: Option<&str>,
        page: &PageRequest,
    ) -> Result<Page<User>, CatalogError> {
        let _ = grant;
        let limit = i64::try_from(page.limit() + 1).unwrap_or(i64::MAX);
        let words = Words::of(q).like();
        let users = sqlx::query_as!(
            User,
            r#"SELECT id AS "id!: UserId", email AS "email!: Email", name AS "name!", admin AS "admin!", disabled AS "disabled!",
                      created_at AS "created_at!", user_logins.at AS "last_login_at?"
               FROM users LEFT JOIN user_logins ON user_id = id
               WHERE ($1::text IS NULL OR email > $1) AND lower(email || ' ' || name) LIKE ALL ($2)
               ORDER BY email LIMIT $3"#,
            page.after(),
            &words,
            limit
        );
        let users = users.fetch_all(self.pool()).await?;
        Ok(page.collect(users.into_iter(), |user| user.email.to_string()))
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
        let (password, made_up) = chosen_or_made_up(password);
        password::check(&password, email)?;
        limits::name("/name", name)?;
        let hash = password::hash(password).await?;
        let mut tx = self.begin(grant.actor()).await?;
        let id = tx.insert_user(email, name, admin, &hash).await?;
        let user = tx.user_row(id).await?;
        tx.commit().await?;
        Ok((user, made_up))
    }

    /// Sets a new password (made up when none is given) and ends every session of the account.
    pub async fn reset_password(
        &self,
        grant: &Grant<Administer>,
        email: &Email,
        password: Option<String>,
    ) -> Result<Option<Secret>, ChangeError> {
        let (password, made_up) = chosen_or_made_up(password);
        password::check(&password, email)?;
        let hash = password::hash(password).await?;
        let mut tx = self.begin(grant.actor()).await?;
        let id = tx.account(email).await?;
        tx.set_password(id, email, &hash, "user.password.reset").await?;
        tx.commit().await?;
        Ok(made_up)
    }

    /// Makes a personal token for somebody else: the command line's `admin create-token`.
    pub async fn create_token_for(
        &self,
        grant: &Grant<Administer>,
        email: &Email,
        spec: &TokenSpec,
    ) -> Result<(Token, Secret), ChangeError> {
        let mut tx = self.begin(grant.actor()).await?;
        let id = tx.account(email).await?;
        let made = tx.create_token_of(id, email, spec).await?;
        tx.commit().await?;
        Ok(made)
    }

    /// Disables or enables an account; disabling ends its sessions and refuses its tokens. The last administrator stays.
    pub async fn set_disabled(
        &self,
        grant: &Grant<Administer>,
        id: UserId,
        disabled: bool,
    ) -> Result<User, ChangeError> {
        let mut tx = self.begin(grant.actor()).await?;
        let before = tx.user_row(id).await?;
        if before.disabled == disabled {
            return Ok(before);
        }
        if disabled {
            tx.not_the_last_admin(&before).await?;
        }
        let revision = tx.revision;
        sqlx::query!("UPDATE users SET disabled = $2, revision = $3 WHERE id = $1", id.0, disabled, revision)
            .execute(tx.conn())
            .await?;
        if disabled {
            sqlx::query!("DELETE FROM sessions WHERE user_id = $1", id.0).execute(tx.conn()).await?;
        }
        let action = if disabled { "user.disable" } else { "user.enable" };
        tx.audit_user(action, &before.email, None, None).await?;
        let user = tx.user_row(id).await?;
        tx.commit().await?;
        Ok(user)
    }

    /// Makes somebody an administrator, or no longer one. The last administrator stays.
    pub async fn set_admin(&self, grant: &Grant<Administer>, id: UserId, admin: bool) -> Result<User, ChangeError> {
        let mut tx = self.begin(grant.actor()).await?;
        let before = tx.user_row(id).await?;
        if before.admin == admin {
            return Ok(before);
        }
        if !admin {
            tx.not_the_last_admin(&before).await?;
        }
        let revision = tx.revision;
        sqlx::query!("UPDATE users SET admin = $2, revision = $3 WHERE id = $1", id.0, admin, revision)
            .execute(tx.conn())
            .await?;
        let line = |admin: bool| Some(json!({ "admin": admin }));
        tx.audit_user("user.admin", &before.email, line(before.admin), line(admin)).await?;
        let user = tx.user_row(id).await?;
        tx.commit().await?;
        Ok(user)
    }
}

impl Tx {
    pub(super) async fn insert_user(
        &mut self,
        email: &Email,
        name: &str,
        admin: bool,
        password_hash: &str,
    ) -> Result<UserId, ChangeError> {
        let id = UserId::new();
        let (now, revision) = (self.now, self.revision);
        sqlx::query!(
            "INSERT INTO users (id, email, name, admin, password_hash, created_at, revision) VALUES ($1, $2, $3, $4, $5, $6, $7)",
            id.0,
            email.as_str(),
            name.trim(),
            admin,
            password_hash,
            now,
            revision
        )
        .execute(self.conn())
        .await
        .map_err(|error| name_taken(error, "users_email_key", Kind::User, email.as_str()))?;
        self.audit_user("user.create", email, None, Some(json!({ "name": name, "admin": admin }))).await?;
        Ok(id)
    }

    /// Sets a password and ends every session of the account.
    pub(super) async fn set_password(
        &mut self,
        id: UserId,
        email: &Email,
        hash: &str,
        action: &'static str,
    ) -> Result<(), ChangeError> {
        let revision = self.revision;
        sqlx::query!("UPDATE users SET password_hash = $2, revision = $3 WHERE id = $1", id.0, hash, revision)
            .execute(self.conn())
            .await?;
        sqlx::query!("DELETE FROM sessions WHERE user_id = $1", id.0).execute(self.conn()).await?;
        self.audit_user(action, email, None, None).await?;
        Ok(())
    }

    pub(super) async fn user_row(&mut self, id: UserId) -> Result<User, ChangeError> {
        let found = load::users(self.conn(), Some(&[id.0])).await?;
        found.into_iter().next().ok_or_else(|| ChangeError::missing(Kind::User, id))
    }

    async fn not_the_last_admin(&mut self, user: &User) -> Result<(), ChangeError> {
        let others = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM users WHERE admin AND NOT disabled AND id <> $1"#,
            user.id.0
        )
        .fetch_one(self.conn())
        .await?;
        if others > 0 || !user.admin {
            return Ok(());
        }
        Err(ChangeError::Conflict { detail: format!("{} is the only administrator", user.email) })
    }

    async fn audit_user(
        &mut self,
        action: &'static str,
        email: &Email,
        before: Option<Value>,
        after: Option<Value>,
    ) -> Result<(), CatalogError> {
        let resource = format!("user/{email}");
        self.audit(Line { action, resource, team: None, app: None, before, after }).await
    }
}

/// The password to set and, if nobody chose it, the secret to show.
fn chosen_or_made_up(password: Option<String>) -> (String, Option<Secret>) {
    match password {
        Some(password) => (password, None),
        None => {
            let secret = secret::new_password();
            (secret.expose().to_owned(), Some(secret))
        }
    }
}
