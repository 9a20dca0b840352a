//! Search among names and descriptions: every word must occur somewhere. Ten thousand topics take a few milliseconds, so there
//! is no index to keep.

/// Words of a search beyond these are ignored.
const WORDS_MAX: usize = 10;

/// The words of a search in lower case; none at all matches everything.
#[derive(Debug, Clone, Default)]
pub(super) struct Words(Vec<String>);

impl Words {
    pub fn of(text: Option<&str>) -> Self {
        Self(text.unwrap_or_default().split_whitespace().take(WORDS_MAX).map(str::to_lowercase).collect())
    }

    /// Whether each word occurs in the text, which is in lower case already.
    pub fn all_in_lower(&self, text: &str) -> bool {
        self.0.iter().all(|word| memchr::memmem::find(text.as_bytes(), word.as_bytes()).is_some())
    }

    /// The words as patterns of `LIKE ALL`.
    pub fn like(&self) -> Vec<String> {
        self.0.iter().map(|word| format!("%{}%", Self::literal(word))).collect()
    }

    /// A text in a pattern of `LIKE` that means just itself.
    pub fn literal(text: &str) -> String {
        text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
    }

    /// Whether each word occurs in one of the texts.
    pub fn all_in(&self, texts: &[&str]) -> bool {
        self.0.is_empty() || self.all_in_lower(&texts.join("\n").to_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_must_occur_in_any_order_and_case() {
        let words = Words::of(Some("  Orders ACCEPTED "));
        assert!(words.all_in(&["sales", "Accepted orders of the shop"]));
        assert!(!words.all_in(&["orders", "refused"]));
        assert!(Words::of(None).all_in(&["anything"]));
        assert!(Words::of(Some(" ")).all_in_lower(""));
    }

    #[test]
    fn signs_of_patterns_are_taken_literally() {
        assert_eq!(Words::of(Some(r"50%_a\b")).like(), [r"%50\%\_a\\b%"]);
    }
}
