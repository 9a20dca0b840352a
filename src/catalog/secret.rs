//! Making and recognising secrets. 178 bits of the operating system's randomness; kept as SHA-256 only, which is enough for
//! what cannot be guessed (passwords can, and get argon2id).

use rand::TryRng as _;
use rand::rngs::SysRng;
use sha2::{Digest as _, Sha256};

use super::model::Secret;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Random characters of a secret: 62^30 is 2^178.
const RANDOM_LENGTH: usize = 30;
/// Characters of the checksum: 62^6 is more than 2^32.
const CHECKSUM_LENGTH: usize = 6;
/// Characters of a token that may be shown to recognise it by, beyond the kind.
const PREFIX_LENGTH: usize = 4;

/// What a token is for: the beginning of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    App,
    Personal,
}

impl TokenKind {
    const fn text(self) -> &'static str {
        match self {
            Self::App => "weir_app_",
            Self::Personal => "weir_pat_",
        }
    }
}

/// SHA-256 of a secret.
pub(super) fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// `weir_app_<30 random><6 checksum>`: scanners find it by its beginning and know by the checksum that it is one.
pub(super) fn new_token(kind: TokenKind) -> Secret {
    let random = random_text(RANDOM_LENGTH);
    let checksum = checksum(kind, &random);
    Secret::new(format!("{}{random}{checksum}", kind.text()))
}

/// The secret of a link or a cookie: 256 bits.
pub(super) fn new_secret() -> Secret {
    Secret::new(random_text(43))
}

/// A made-up password: 119 bits, short enough to be typed once.
pub(super) fn new_password() -> Secret {
    Secret::new(random_text(20))
}

/// Whether the text has the form of a token and its checksum is right. Mistyped tokens are refused without a look-up.
pub(super) fn is_token(text: &str) -> bool {
    let kinds = [TokenKind::App, TokenKind::Personal];
    let parts = kinds.into_iter().find_map(|kind| text.strip_prefix(kind.text()).map(|rest| (kind, rest)));
    let Some((kind, rest)) = parts else { return false };
    if rest.len() != RANDOM_LENGTH + CHECKSUM_LENGTH || !rest.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return false;
    }
    let (random, sum) = rest.split_at(RANDOM_LENGTH);
    checksum(kind, random) == sum
}

/// The part of a token that may be shown.
pub(super) fn shown_prefix(kind: TokenKind, secret: &Secret) -> String {
    secret.expose().chars().take(kind.text().len() + PREFIX_LENGTH).collect()
}

fn checksum(kind: TokenKind, random: &str) -> String {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(kind.text().as_bytes());
    hasher.update(random.as_bytes());
    let mut rest = u64::from(hasher.finalize());
    let mut digits = [0u8; CHECKSUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[usize::try_from(rest % 62).unwrap_or_default()];
        rest /= 62;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

/// Evenly distributed characters: bytes beyond the last whole multiple of 62 are thrown away.
fn random_text(length: usize) -> String {
    let mut text = String::with_capacity(length);
    let mut bytes = [0u8; 64];
    while text.len() < length {
        SysRng.try_fill_bytes(&mut bytes).expect("the operating system gives random bytes");
        let even = bytes.iter().filter(|byte| **byte < 248);
        text.extend(even.take(length - text.len()).map(|byte| char::from(ALPHABET[usize::from(byte % 62)])));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_recognised_and_a_mistyped_one_is_not() {
        for kind in [TokenKind::App, TokenKind::Personal] {
            let token = new_token(kind);
            let text = token.expose();
            assert_eq!(text.len(), 9 + 36);
            assert!(is_token(text), "{text}");
            for at in 9..text.len() {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
                assert!(!is_token(std::str::from_utf8(&bytes).unwrap()), "changed at {at}");
            }
        }
        for bad in ["", "weir_app_", "weir_app_é", "Bearer x", &"x".repeat(10_000)] {
            assert!(!is_token(bad), "{bad}");
        }
        let app = new_token(TokenKind::App);
        assert!(!is_token(&app.expose().replace("weir_app_", "weir_pat_")), "the checksum covers the kind");
    }

    #[test]
    fn secrets_differ_and_do_not_show_in_debug_output() {
        let (one, other) = (new_secret(), new_secret());
        assert_ne!(one, other);
        assert_eq!(one.expose().len(), 43);
        assert!(!format!("{one:?}").contains(one.expose()));
    }

    #[test]
    fn the_shown_prefix_says_the_kind_and_four_characters() {
        let token = new_token(TokenKind::App);
        let prefix = shown_prefix(TokenKind::App, &token);
        assert_eq!(prefix.len(), 13);
        assert!(token.expose().starts_with(&prefix));
    }
}
