//! Idempotency keys of the control plane: the answer of the first request, kept for 24 hours.

use sqlx::PgConnection;
use time::Duration;

use super::Catalog;
use super::error::CatalogError;

/// How long an answer is kept.
const KEPT_FOR: Duration = Duration::hours(24);
/// A request that has not answered after this time has died, and its key is free.
const RUNS_FOR: Duration = Duration::minutes(2);

/// An answer worth repeating.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    pub status: u16,
    /// Header names and values, lower case: `etag`, `location`, `content-type`, `weir-result`.
    pub headers: Vec<(String, String)>,
    /// At most [`StoredAnswer::BODY_MAX`] bytes.
    pub body: Vec<u8>,
    /// What was created, when the answer held a secret: then the body is empty and the answer is not repeated.
    pub secret_of: Option<String>,
}

impl StoredAnswer {
    /// Largest answer that is kept, in bytes.
    pub const BODY_MAX: usize = 64 * 1024;
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// Nothing: do the request, then [`Catalog::idempotency_store`] or [`Catalog::idempotency_forget`].
    New,
    /// The first request has not finished.
    InProgress,
    /// The key was used with another body.
    Reused,
    /// The first answer.
    Answer(StoredAnswer),
}

impl Catalog {
    /// Claims a key. `scope` is a digest of (principal, method, path, key), `digest` one of the body.
    pub async fn idempotency_claim(&self, scope: [u8; 32], digest: [u8; 32]) -> Result<Replay, CatalogError> {
        let now = self.now();
        let claimed = sqlx::query!(
            "INSERT INTO idempotency_keys (scope, digest, claimed_at) VALUES ($1, $2, $3)
             ON CONFLICT (scope) DO UPDATE SET digest = excluded.digest, claimed_at = excluded.claimed_at, status = NULL,
                 headers = NULL, body = NULL, secret_of = NULL
             WHERE idempotency_keys.claimed_at <= $4
                OR (idempotency_keys.status IS NULL AND idempotency_keys.claimed_at <= $5)",
            &scope,
            &digest,
            now,
            now - KEPT_FOR,
            now - RUNS_FOR
        )
        .execute(self.pool())
        .await?;
        if claimed.rows_affected() == 1 {
            return Ok(Replay::New);
        }
        let row = sqlx::query!(
            "SELECT digest, status, headers, body, secret_of FROM idempotency_keys WHERE scope = $1",
            &scope
        )
        .fetch_optional(self.pool())
        .await?;
        // Forgotten just now: whoever repeats the request will find the key free.
        let Some(row) = row else { return Ok(Replay::InProgress) };
        if row.digest != digest {
            return Ok(Replay::Reused);
        }
        let Some(status) = row.status else { return Ok(Replay::InProgress) };
        let damaged = |what: &str| CatalogError::Damaged(format!("a kept answer has no {what}"));
        Ok(Replay::Answer(StoredAnswer {
            status: u16::try_from(status).map_err(|_| damaged("status"))?,
            headers: serde_json::from_value(row.headers.unwrap_or_default()).map_err(|_| damaged("headers"))?,
            body: row.body.unwrap_or_default(),
            secret_of: row.secret_of,
        }))
    }

    /// Keeps the answer.
    pub async fn idempotency_store(&self, scope: [u8; 32], answer: &StoredAnswer) -> Result<(), CatalogError> {
        if answer.body.len() > StoredAnswer::BODY_MAX {
            return self.idempotency_forget(scope).await;
        }
        sqlx::query!(
            "UPDATE idempotency_keys SET status = $2, headers = $3, body = $4, secret_of = $5 WHERE scope = $1",
            &scope,
            i32::from(answer.status),
            serde_json::to_value(&answer.headers).unwrap_or_default(),
            answer.body,
            answer.secret_of
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Frees a claimed key: the request failed in a way that may be repeated.
    pub async fn idempotency_forget(&self, scope: [u8; 32]) -> Result<(), CatalogError> {
        sqlx::query!("DELETE FROM idempotency_keys WHERE scope = $1", &scope).execute(self.pool()).await?;
        Ok(())
    }

    pub(super) async fn remove_old_idempotency_keys(&self, conn: &mut PgConnection) -> Result<(), CatalogError> {
        let end = self.now() - KEPT_FOR;
        sqlx::query!("DELETE FROM idempotency_keys WHERE claimed_at <= $1", end).execute(conn).await?;
        Ok(())
    }
}
