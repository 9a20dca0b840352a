//! Passwords: argon2id, off the async threads, at most two at a time (each takes 19 MiB and tens of milliseconds).

use std::sync::LazyLock;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use tokio::sync::Semaphore;

use super::error::{CatalogError, ChangeError};
use crate::names::Email;

/// Fewest characters of a password.
pub const LENGTH_MIN: usize = 12;
/// Most bytes of a password: argon2 reads all of them.
const BYTES_MAX: usize = 1024;
/// Hashes computed at the same time.
const AT_A_TIME: usize = 2;

static TURNS: Semaphore = Semaphore::const_new(AT_A_TIME);

/// A hash of no password, so that an unknown account takes the same time as a wrong password.
static NOBODY: LazyLock<String> = LazyLock::new(|| compute("no account has this password").unwrap_or_default());

/// Whether a password is good enough. Length is what counts; rules about character classes are not used, as NIST advises.
pub(super) fn check(password: &str, email: &Email) -> Result<(), ChangeError> {
    let refuse = |detail: String| Err(ChangeError::invalid("/password", detail));
    if password.chars().count() < LENGTH_MIN {
        return refuse(format!("has at least {LENGTH_MIN} characters; a few words with spaces are fine"));
    }
    if password.len() > BYTES_MAX {
        return refuse(format!("has at most {BYTES_MAX} bytes"));
    }
    if password.trim().eq_ignore_ascii_case(email.as_str()) {
        return refuse("is not the e-mail address".to_owned());
    }
    Ok(())
}

/// The PHC form of the password's hash, with its own salt.
pub(super) async fn hash(password: String) -> Result<String, CatalogError> {
    in_turn(move || compute(&password)).await?.ok_or_else(|| CatalogError::Damaged("argon2 gave no hash".to_owned()))
}

/// Whether the password is the hashed one. `None` (no account, or one without a password) takes as long and is no.
pub(super) async fn verify(password: String, hash: Option<String>) -> Result<bool, CatalogError> {
    if password.len() > BYTES_MAX {
        return Ok(false);
    }
    in_turn(move || {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODY.clone());
        let parsed = PasswordHash::new(&hash);
        let right = parsed.is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok());
        right && known
    })
    .await
}

fn compute(password: &str) -> Option<String> {
    Argon2::default().hash_password(password.as_bytes()).ok().map(|hash| hash.to_string())
}

async fn in_turn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, CatalogError> {
    // Held by the work itself: a caller that goes away does not free a turn that is still used.
    let turn = TURNS.acquire().await.map_err(|_| CatalogError::Unavailable(None))?;
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    done.await.map_err(|error| CatalogError::Damaged(format!("password work failed: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_verifies_against_its_hash_and_nothing_else_does() {
        let hashed = hash("correct horse battery".to_owned()).await.unwrap();
        assert!(hashed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hashed}");
        assert!(verify("correct horse battery".to_owned(), Some(hashed.clone())).await.unwrap());
        assert!(!verify("correct horse batterz".to_owned(), Some(hashed)).await.unwrap());
        assert!(!verify("no account has this password".to_owned(), None).await.unwrap());
        assert!(!verify("x".to_owned(), Some("not a hash".to_owned())).await.unwrap());
    }

    #[test]
    fn short_passwords_and_the_address_itself_are_refused() {
        let email: Email = "ada.lovelace@example.com".parse().unwrap();
        assert!(check("elevenchars", &email).is_err());
        assert!(check("Ada.Lovelace@Example.com", &email).is_err());
        assert!(check(&"x".repeat(BYTES_MAX + 1), &email).is_err());
        assert!(check("twelve chars", &email).is_ok());
    }
}
