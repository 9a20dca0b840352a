//! `from` and `to`: the ways to say where to begin and where to stop.
//!
//! ```text
//! from = "earliest" | "latest" | "-" count | "-" duration | rfc3339 | cursor
//! ```

use std::str::FromStr;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::cursor::Cursor;
use crate::clock::Timestamp;

/// Most records that `-COUNT` goes back.
pub const COUNT_MAX: u32 = 10_000;

/// A place in one or several topics, as a client says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// The first record that is kept.
    Earliest,
    /// After the last record there is now.
    Latest,
    /// The newest so many records.
    Last(u32),
    /// The records of the last so long.
    Ago(Duration),
    /// The first record of this time or later.
    At(Timestamp),
    /// Exactly there.
    Cursor(Cursor),
}

/// Why a text is not a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PositionError(pub String);

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        if let Some(back) = text.strip_prefix('-') {
            return parse_back(back);
        }
        if let Some(moment) = parse_moment(text) {
            return Ok(Self::At(moment));
        }
        if !text.contains(':') {
            return Err(PositionError(format!(
                "'{}' is not earliest, latest, -COUNT, -DURATION, a date with time zone, or a cursor",
                shown(text)
            )));
        }
        text.parse().map(Self::Cursor).map_err(|error: super::cursor::CursorError| PositionError(error.to_string()))
    }
}

/// A duration as the API writes it: `90s`, `15m`, `7d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (count, unit) = text.split_at(digits);
    let count: u64 = count.parse().ok()?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 7 * 86_400_000,
        _ => return None,
    };
    count.checked_mul(unit_ms).map(Duration::from_millis)
}

fn parse_back(text: &str) -> Result<Position, PositionError> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return match text.parse() {
            Ok(count) if count <= COUNT_MAX => Ok(Position::Last(count)),
            _ => Err(PositionError(format!("-COUNT goes back at most {COUNT_MAX} records; use a time or a cursor"))),
        };
    }
    parse_duration(text).map(Position::Ago).ok_or_else(|| {
        PositionError(format!("'-{}' is neither -COUNT nor -DURATION with one of ms, s, m, h, d, w", shown(text)))
    })
}

/// RFC 3339. A blank stands for the plus sign of a time zone that was not escaped in a URL.
pub fn parse_moment(text: &str) -> Option<Timestamp> {
    if text.len() > 40 || !text.contains('T') {
        return None;
    }
    OffsetDateTime::parse(&text.replace(' ', "+"), &Rfc3339).ok().map(Timestamp::from)
}

/// At most the first 40 characters, for a sentence about it.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn parsed(text: &str) -> Position {
        text.parse().unwrap()
    }

    #[test]
    fn every_form_of_the_grammar_is_understood() {
        assert_eq!(parsed("earliest"), Position::Earliest);
        assert_eq!(parsed("latest"), Position::Latest);
        assert_eq!(parsed("-100"), Position::Last(100));
        assert_eq!(parsed("-15m"), Position::Ago(Duration::from_secs(900)));
        assert_eq!(parsed("-500ms"), Position::Ago(Duration::from_millis(500)));
        assert_eq!(parsed("-7d"), Position::Ago(Duration::from_secs(7 * 86_400)));
        assert_eq!(parsed("1970-01-01T00:00:01Z"), Position::At(Timestamp(1000)));
        assert_eq!(parsed("1970-01-01T01:00:01.5+01:00"), Position::At(Timestamp(1500)));
        assert_eq!(parsed("1970-01-01T01:00:01 01:00"), Position::At(Timestamp(1000)));
        assert!(matches!(parsed("orders@7f3a/0:543,1:923"), Position::Cursor(_)));
        assert!(matches!(parsed("3:18000"), Position::Cursor(_)));
    }

    #[test]
    fn what_is_no_position_is_refused_with_a_sentence() {
        for bad in [
            "",
            "-",
            "first",
            "-10001",
            "-5x",
            "-m",
            "2026-11-22",
            "2026-13-01T00:00:00Z",
            "12",
            "-99999999999999999999d",
        ] {
            let refused = bad.parse::<Position>();
            assert!(refused.is_err_and(|error| !error.to_string().is_empty()), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_without_a_panic(text in any::<String>()) {
            let _ = text.parse::<Position>();
        }
    }
}
