//! How long texts and lists of the catalog may be. Every refusal names the field.

use std::collections::BTreeMap;

use super::error::ChangeError;

/// Characters of a description.
pub(super) const DESCRIPTION_MAX: usize = 20_000;
/// Characters of a person's or token's name.
pub(super) const NAME_MAX: usize = 200;
/// Characters of an address (URL).
const URL_MAX: usize = 2_000;
/// Entries of labels or contacts.
const ENTRIES_MAX: usize = 64;
/// Characters of a label's or contact's key and value.
const KEY_MAX: usize = 63;
const VALUE_MAX: usize = 256;

/// A text of bounded length without control characters (line breaks and tabs excepted).
pub(super) fn text(pointer: &str, text: &str, max: usize) -> Result<(), ChangeError> {
    if text.chars().count() > max {
        return Err(ChangeError::invalid(pointer, format!("has at most {max} characters")));
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(ChangeError::invalid(pointer, "has no control characters"));
    }
    Ok(())
}

/// A name of one line that is not blank.
pub(super) fn name(pointer: &str, name: &str) -> Result<(), ChangeError> {
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err(ChangeError::invalid(pointer, "is one line and not blank"));
    }
    text(pointer, name, NAME_MAX)
}

/// A web address: shown as a link, so nothing but http and https.
pub(super) fn url(pointer: &str, url: Option<&str>) -> Result<(), ChangeError> {
    let Some(url) = url else { return Ok(()) };
    let scheme = url.starts_with("https://") || url.starts_with("http://");
    if !scheme || url.len() > URL_MAX || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(ChangeError::invalid(pointer, "is a web address that begins with https:// or http://"));
    }
    Ok(())
}

/// Labels or contacts.
pub(super) fn entries(pointer: &str, entries: &BTreeMap<String, String>) -> Result<(), ChangeError> {
    if entries.len() > ENTRIES_MAX {
        return Err(ChangeError::invalid(pointer, format!("has at most {ENTRIES_MAX} entries")));
    }
    for (key, value) in entries {
        let pointer = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
        if key.is_empty() || key.len() > KEY_MAX || !key.chars().all(legal) {
            let detail = format!("a key has 1 to {KEY_MAX} characters out of letters, digits, '.', '_', '-' and '/'");
            return Err(ChangeError::invalid(pointer, detail));
        }
        text(&pointer, value, VALUE_MAX)?;
    }
    Ok(())
}
