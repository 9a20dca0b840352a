//! Lists in pages, by key: a page begins after the last name of the one before, so inserts and deletes between two pages
//! neither repeat nor skip anything else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Which page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    limit: usize,
    after: Option<String>,
}

/// The cursor was not made by this program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the cursor cannot be understood; use the `next` of the page before")]
pub struct BadCursor;

impl PageRequest {
    /// Most items on one page.
    pub const LIMIT_MAX: usize = 1000;
    /// Items on a page that does not say how many.
    pub const LIMIT_DEFAULT: usize = 100;

    /// At most `limit` items (1 to [`Self::LIMIT_MAX`], else it is brought into range) after `cursor`.
    pub fn new(limit: Option<usize>, cursor: Option<&str>) -> Result<Self, BadCursor> {
        let after = cursor.map(decode).transpose()?;
        Ok(Self { limit: limit.unwrap_or(Self::LIMIT_DEFAULT).clamp(1, Self::LIMIT_MAX), after })
    }

    /// The first page with at most `limit` items.
    #[must_use]
    pub fn first(limit: usize) -> Self {
        Self { limit: limit.clamp(1, Self::LIMIT_MAX), after: None }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// Makes a page of an iterator that already begins after the cursor.
    pub(super) fn collect<T>(&self, items: impl Iterator<Item = T>, key: impl Fn(&T) -> String) -> Page<T> {
        let mut items: Vec<T> = items.take(self.limit + 1).collect();
        let more = items.len() > self.limit;
        items.truncate(self.limit);
        let next = if more { items.last().map(|item| encode(&key(item))) } else { None };
        Page { items, next }
    }
}

impl Default for PageRequest {
    fn default() -> Self {
        Self::first(Self::LIMIT_DEFAULT)
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The cursor of the next page; `None` on the last one.
    pub next: Option<String>,
}

fn encode(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

fn decode(cursor: &str) -> Result<String, BadCursor> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| BadCursor)?;
    String::from_utf8(bytes).map_err(|_| BadCursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_gap_or_repetition() {
        let all: Vec<u32> = (0..25).map(|n| n + 100).collect();
        let mut seen = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let request = PageRequest::new(Some(10), cursor.as_deref()).unwrap();
            let rest =
                all.iter().copied().filter(|n| request.after().is_none_or(|after| n.to_string().as_str() > after));
            let page = request.collect(rest, u32::to_string);
            seen.extend(page.items);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn a_cursor_from_elsewhere_is_refused() {
        assert_eq!(PageRequest::new(None, Some("%%%")), Err(BadCursor));
        assert_eq!(PageRequest::new(None, Some("_w")), Err(BadCursor));
    }
}
