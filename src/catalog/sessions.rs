//! Signing in and out. A session is a row; the cookie carries 32 random bytes of which the row holds the SHA-256.

use std::sync::Arc;

use sqlx::PgConnection;
use time::Duration;

use super::access::{Actor, Grant, OwnAccount};
use super::error::{CatalogError, ChangeError, Kind, SignInError};
use super::model::{Session, SignedIn, User};
use super::{Catalog, Origin, load, password, secret};
use crate::names::{Email, SessionId, UserId};

/// A session that is not used ends after this time.
const IDLE: Duration = Duration::days(30);
/// Every session ends after this time.
const ABSOLUTE: Duration = Duration::days(90);
/// How exact "last seen" is.
const SEEN_EVERY: Duration = Duration::minutes(1);
/// Most open sessions of one person; the one not seen for longest ends.
const SESSIONS_MAX: i64 = 100;
/// Characters kept of what the browser says it is.
const USER_AGENT_SHOWN: usize = 300;

impl Catalog {
    /// Checks the password and opens a session. Attempts are throttled per network address and per account.
    pub async fn sign_in(&self, email: &str, password: String, from: &Origin) -> Result<SignedIn, SignInError> {
        let email = email.parse::<Email>().ok();
        // In its one form, so that another way of writing it is not another account to the throttle.
        let account = email.as_ref().map_or("", Email::as_str);
        self.inner
            .throttle
            .attempt(from.address, account)
            .map_err(|retry_after| SignInError::Throttled { retry_after })?;
        let account = sqlx::query!(
            r#"SELECT id AS "id: UserId", password_hash, disabled FROM users WHERE email = $1"#,
            email.as_ref().map(Email::as_str)
        )
        .fetch_optional(self.pool())
        .await?;
        let hash = account.as_ref().and_then(|account| account.password_hash.clone());
        let right = password::verify(password, hash).await?;
        let Some(account) = account.filter(|_| right) else { return Err(SignInError::Wrong) };
        if account.disabled {
            return Err(SignInError::Disabled);
        }
        Ok(self.open_session(account.id, from).await?)
    }

    /// The session behind a cookie and its person, if both still hold. Notes that it was seen.
    pub async fn session(&self, cookie: &str) -> Result<Option<(Session, Arc<User>)>, CatalogError> {
        let now = self.now();
        let row = sqlx::query!(
            r#"SELECT s.id AS "id!: SessionId", s.user_id AS "user!: UserId", s.created_at AS "created_at!",
                      s.last_seen_at AS "last_seen_at!", s.expires_at AS "expires_at!", s.address AS "address?",
                      s.user_agent AS "user_agent?", u.email AS "email!: Email", u.name AS "name!", u.admin AS "admin!",
                      u.created_at AS "joined_at!"
               FROM sessions s JOIN users u ON u.id = s.user_id
               WHERE s.hash = $1 AND NOT u.disabled AND s.expires_at > $2 AND s.last_seen_at > $3"#,
            &secret::hash(cookie),
            now,
            now - IDLE
        )
        .fetch_optional(self.pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        if row.last_seen_at < now - SEEN_EVERY {
            sqlx::query!("UPDATE sessions SET last_seen_at = $2 WHERE id = $1", row.id.0, now)
                .execute(self.pool())
                .await?;
        }
        let session = Session {
            id: row.id,
            user: row.user,
            created_at: row.created_at,
            last_seen_at: row.last_seen_at,
            expires_at: row.expires_at.min(now + IDLE),
            address: row.address,
            user_agent: row.user_agent,
        };
        let user = User {
            id: row.user,
            email: row.email,
            name: row.name,
            admin: row.admin,
            disabled: false,
            created_at: row.joined_at,
            last_login_at: Some(session.created_at),
        };
        Ok(Some((session, Arc::new(user))))
    }

    /// Ends the session behind a cookie. Unknown ones are ended already.
    pub async fn sign_out(&self, cookie: &str) -> Result<(), CatalogError> {
        sqlx::query!("DELETE FROM sessions WHERE hash = $1", &secret::hash(cookie)).execute(self.pool()).await?;
        Ok(())
    }

    /// Ends every session of the person, except `keep`. Returns how many.
    pub async fn sign_out_everywhere(
        &self,
        grant: &Grant<OwnAccount>,
        keep: Option<SessionId>,
    ) -> Result<u64, CatalogError> {
        let ended = sqlx::query!(
            "DELETE FROM sessions WHERE user_id = $1 AND ($2::uuid IS NULL OR id <> $2)",
            grant.resource().0,
            keep.map(|id| id.0)
        );
        Ok(ended.execute(self.pool()).await?.rows_affected())
    }

    /// Ends one of the person's sessions.
    pub async fn end_session(&self, grant: &Grant<OwnAccount>, id: SessionId) -> Result<(), ChangeError> {
        let ended = sqlx::query!("DELETE FROM sessions WHERE id = $1 AND user_id = $2", id.0, grant.resource().0)
            .execute(self.pool())
            .await?;
        if ended.rows_affected() == 0 { Err(ChangeError::missing(Kind::Session, id)) } else { Ok(()) }
    }

    /// The person's open sessions, last seen first, at most 100.
    pub async fn sessions(&self, grant: &Grant<OwnAccount>) -> Result<Vec<Session>, CatalogError> {
        let now = self.now();
        let rows = sqlx::query!(
            r#"SELECT id AS "id: SessionId", created_at, last_seen_at, expires_at, address, user_agent FROM sessions
               WHERE user_id = $1 AND expires_at > $2 AND last_seen_at > $3 ORDER BY last_seen_at DESC LIMIT $4"#,
            grant.resource().0,
            now,
            now - IDLE,
            SESSIONS_MAX
        )
        .fetch_all(self.pool())
        .await?;
        let sessions = rows.into_iter().map(|row| Session {
            id: row.id,
            user: *grant.resource(),
            created_at: row.created_at,
            last_seen_at: row.last_seen_at,
            expires_at: row.expires_at.min(row.last_seen_at + IDLE),
            address: row.address,
            user_agent: row.user_agent,
        });
        Ok(sessions.collect())
    }

    /// Changes the password after checking the present one; ends every other session and opens a new one.
    pub async fn change_password(
        &self,
        grant: &Grant<OwnAccount>,
        present: String,
        new: String,
        from: &Origin,
    ) -> Result<SignedIn, ChangeError> {
        let user = *grant.resource();
        let actor = grant.actor();
        self.inner
            .throttle
            .attempt(from.address, actor.label())
            .map_err(|retry_after| ChangeError::Throttled { retry_after })?;
        let account = sqlx::query!(r#"SELECT email AS "email: Email", password_hash FROM users WHERE id = $1"#, user.0)
            .fetch_one(self.pool())
            .await?;
        if !password::verify(present, account.password_hash).await? {
            return Err(ChangeError::invalid("/present", "is not the present password"));
        }
        password::check(&new, &account.email)?;
        let hash = password::hash(new).await?;
        let mut tx = self.begin(actor).await?;
        tx.set_password(user, &account.email, &hash, "user.password.change").await?;
        tx.commit().await?;
        Ok(self.open_session(user, from).await?)
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

    /// A new session: always a new secret, so that one planted before the sign-in is worth nothing.
    pub(super) async fn open_session(&self, user: UserId, from: &Origin) -> Result<SignedIn, CatalogError> {
        let secret = secret::new_secret();
        let now = self.now();
        let id = SessionId::new();
        let address = from.address.map(|address| address.to_string());
        let user_agent = from.user_agent.as_ref().map(|agent| agent.chars().take(USER_AGENT_SHOWN).collect::<String>());
        let mut conn = self.pool().begin().await?;
        sqlx::query!(
            "INSERT INTO sessions (id, hash, user_id, created_at, last_seen_at, expires_at, address, user_agent)
             VALUES ($1, $2, $3, $4, $4, $5, $6, $7)",
            id.0,
            &secret::hash(secret.expose()),
            user.0,
            now,
            now + ABSOLUTE,
            address,
            user_agent
        )
        .execute(&mut *conn)
        .await?;
        sqlx::query!(
            "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE user_id = $1 ORDER BY last_seen_at DESC, id DESC OFFSET $2)",
            user.0,
            SESSIONS_MAX
        )
        .execute(&mut *conn)
        .await?;
        sqlx::query!(
            "INSERT INTO user_logins (user_id, at) VALUES ($1, $2) ON CONFLICT (user_id) DO UPDATE SET at = excluded.at",
            user.0,
            now
        )
        .execute(&mut *conn)
        .await?;
        let user = load::the_only(load::users(&mut conn, Some(&[user.0])).await?)?;
        conn.commit().await?;
        let session = Session {
            id,
            user: user.id,
            created_at: now,
            last_seen_at: now,
            expires_at: now + IDLE,
            address,
            user_agent,
        };
        Ok(SignedIn { secret, session, user })
    }

    /// Removes sessions that are over.
    pub(super) async fn remove_ended_sessions(&self, conn: &mut PgConnection) -> Result<(), CatalogError> {
        let now = self.now();
        sqlx::query!("DELETE FROM sessions WHERE expires_at <= $1 OR last_seen_at <= $2", now, now - IDLE)
            .execute(conn)
            .await?;
        Ok(())
    }
}
