//! Idempotency keys of the control plane: the answer of the first request, kept for 24 hours.

use super::Catalog;
use super::error::CatalogError;

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
        let _ = (scope, digest);
        Err(super::pending())
    }

    /// Keeps the answer.
    pub async fn idempotency_store(&self, scope: [u8; 32], answer: &StoredAnswer) -> Result<(), CatalogError> {
        let _ = (scope, answer);
        Err(super::pending())
    }

    /// Frees a claimed key: the request failed in a way that may be repeated.
    pub async fn idempotency_forget(&self, scope: [u8; 32]) -> Result<(), CatalogError> {
        let _ = scope;
        Err(super::pending())
    }
}
