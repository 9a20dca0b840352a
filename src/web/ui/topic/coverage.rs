//! What a list of events covers, said so that "nothing found" is never a lie: which offsets of which partition were looked
//! at, why it stopped there, and how to go on.

use crate::broker::engine::Bounds;
use crate::web::ui::records::units;

/// One partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub partition: u32,
    /// What is kept.
    pub kept: Bounds,
    /// First offset that was looked at.
    pub from: i64,
    /// First offset that was not.
    pub to: i64,
}

/// The look that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub parts: Vec<Part>,
    /// Rows found.
    pub found: usize,
    /// Events were asked for by their number from the end, so that older ones lie before them.
    pub newest: bool,
    /// Only this key was wanted.
    pub key: Option<String>,
    /// Records that were wanted and are gone.
    pub missing: i64,
}

/// A line of the table.
pub struct PartRow {
    pub partition: u32,
    pub earliest: i64,
    pub from: i64,
    pub to: i64,
    pub end: i64,
    pub state: String,
}

impl Look {
    /// Offsets looked at.
    #[must_use]
    pub fn scanned(&self) -> i64 {
        self.parts.iter().map(|part| (part.to - part.from).max(0)).sum()
    }

    /// Offsets between what was looked at and the end.
    #[must_use]
    pub fn left(&self) -> i64 {
        self.parts.iter().map(|part| (part.kept.end.0 - part.to).max(0)).sum()
    }

    /// Offsets kept before what was looked at.
    #[must_use]
    pub fn before(&self) -> i64 {
        self.parts.iter().map(|part| (part.from - part.kept.start.0).max(0)).sum()
    }

    /// Nothing is kept at all.
    #[must_use]
    pub fn nothing_kept(&self) -> bool {
        self.parts.iter().all(|part| part.kept.start == part.kept.end)
    }

    /// What was looked at and why it stopped.
    #[must_use]
    pub fn sentence(&self) -> String {
        if self.nothing_kept() {
            return "The topic holds no events.".to_owned();
        }
        let mut said = match &self.key {
            Some(key) => format!(
                "Looked at {} for the key {key}: {} found.",
                events(self.scanned()),
                units::count(i64::try_from(self.found).unwrap_or(i64::MAX))
            ),
            None if self.before() == 0 && self.left() == 0 => format!("All {}, to the end.", events(self.scanned())),
            None if self.newest => format!("The newest {}.", events(self.scanned())),
            None => format!("{}.", capital(&events(self.scanned()))),
        };
        if self.before() > 0 {
            said.push_str(&format!(
                " {} before them {} not looked at.",
                units::count(self.before()),
                were(self.before())
            ));
        }
        if self.left() > 0 {
            said.push_str(&format!(" Stopped because the page is full: {} to the end.", units::count(self.left())));
        } else if self.before() > 0 && !self.newest {
            said.push_str(" Complete to the end.");
        }
        if self.missing > 0 {
            said.push_str(&format!(
                " {} that you asked for {} gone: retention removed them.",
                events(self.missing),
                were(self.missing)
            ));
        }
        said
    }

    /// The table.
    #[must_use]
    pub fn rows(&self) -> Vec<PartRow> {
        self.parts.iter().map(row).collect()
    }
}

fn row(part: &Part) -> PartRow {
    let left = part.kept.end.0 - part.to;
    let state = match (part.kept.start == part.kept.end, left) {
        (true, _) => "empty".to_owned(),
        (_, ..=0) => "to the end".to_owned(),
        (_, left) => format!("{} left", units::count(left)),
    };
    PartRow {
        partition: part.partition,
        earliest: part.kept.start.0,
        from: part.from,
        to: part.to,
        end: part.kept.end.0,
        state,
    }
}

fn events(count: i64) -> String {
    format!("{} event{}", units::count(count), if count == 1 { "" } else { "s" })
}

const fn were(count: i64) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Offset;

    fn look(parts: &[(i64, i64, i64, i64)]) -> Look {
        let part = |(partition, (start, from, to, end)): (u32, &(i64, i64, i64, i64))| Part {
            partition,
            kept: Bounds { start: Offset(*start), end: Offset(*end) },
            from: *from,
            to: *to,
        };
        Look { parts: (0..).zip(parts).map(part).collect(), found: 2, newest: false, key: None, missing: 0 }
    }

    fn said(look: &Look) -> String {
        look.sentence().replace('\u{202f}', "")
    }

    #[test]
    fn an_empty_topic_is_said_to_be_empty() {
        assert_eq!(said(&look(&[(5, 5, 5, 5), (0, 0, 0, 0)])), "The topic holds no events.");
    }

    #[test]
    fn a_whole_topic_is_said_to_be_whole() {
        assert_eq!(said(&look(&[(0, 0, 3, 3), (0, 0, 1, 1)])), "All 4 events, to the end.");
    }

    #[test]
    fn what_lies_before_and_after_is_counted() {
        let newest = Look { newest: true, ..look(&[(0, 950, 1000, 1000)]) };
        assert_eq!(said(&newest), "The newest 50 events. 950 before them were not looked at.");
        let forward = look(&[(0, 100, 200, 1000)]);
        assert_eq!(
            said(&forward),
            "100 events. 100 before them were not looked at. Stopped because the page is full: 800 to the end."
        );
        assert_eq!(forward.rows()[0].state, "800 left");
    }

    #[test]
    fn a_search_for_a_key_says_how_much_was_searched() {
        let look = Look { key: Some("o-1".to_owned()), ..look(&[(0, 0, 10, 10)]) };
        assert_eq!(said(&look), "Looked at 10 events for the key o-1: 2 found.");
    }

    #[test]
    fn what_retention_removed_is_said() {
        let look = Look { missing: 7, ..look(&[(7, 7, 10, 10)]) };
        assert_eq!(
            said(&look),
            "All 3 events, to the end. 7 events that you asked for were gone: retention removed them."
        );
    }
}
