//! How moments and spans of time look in JSON and in query strings.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};

/// A moment: RFC 3339 in UTC with milliseconds, `2026-11-22T09:15:03.123Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub OffsetDateTime);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.0.to_offset(UtcOffset::UTC);
        let (date, time) = (t.date(), t.time());
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            time.hour(),
            time.minute(),
            time.second(),
            time.millisecond()
        )
    }
}

impl FromStr for Moment {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |_| "a moment looks like 2026-11-22T09:15:03Z".to_owned();
        OffsetDateTime::parse(text, &Rfc3339).map(Self).map_err(bad)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl utoipa::PartialSchema for Moment {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .examples([serde_json::json!("2026-11-22T09:15:03.123Z")])
            .into()
    }
}

impl utoipa::ToSchema for Moment {}

/// Units of a [`Span`], largest first, in milliseconds.
const UNITS: [(&str, i64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// A span of time: `"7d"`, `"36h"`, `"15m"`, `"500ms"`. Weeks are read but written as days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub ms: i64,
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = UNITS.iter().skip(1).find(|(_, ms)| self.ms % ms == 0 && self.ms >= *ms);
        let (unit, ms) = fits.copied().unwrap_or(("ms", 1));
        write!(f, "{}{unit}", self.ms / ms)
    }
}

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || "a span of time looks like 7d, 36h, 15m or 30s".to_owned();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = text[..digits].parse().map_err(|_| bad())?;
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &text[digits..]).ok_or_else(bad)?;
        let ms = number.checked_mul(*unit).filter(|ms| *ms > 0 && *ms <= i64::MAX / 1_000_000).ok_or_else(bad)?;
        Ok(Self { ms })
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl utoipa::PartialSchema for Span {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some("^[0-9]+(w|d|h|m|s|ms)$"))
            .examples([serde_json::json!("7d")])
            .into()
    }
}

impl utoipa::ToSchema for Span {}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn moments_are_written_in_utc_with_milliseconds() {
        assert_eq!(Moment(datetime!(2026-11-22 10:15:03.1234 +1)).to_string(), "2026-11-22T09:15:03.123Z");
        assert_eq!("2026-11-22T09:15:03Z".parse(), Ok(Moment(datetime!(2026-11-22 9:15:03 UTC))));
        assert!("yesterday".parse::<Moment>().is_err());
    }

    #[test]
    fn spans_are_written_in_their_largest_whole_unit() {
        for (text, canonical) in [("7d", "7d"), ("1w", "7d"), ("90m", "90m"), ("120m", "2h"), ("1500ms", "1500ms")] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), canonical);
        }
        for bad in ["", "7", "d", "-1d", "0d", "7 d", "1y", "99999999999999d", "é"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
