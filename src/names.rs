//! Names and identifiers. Parsed once at the edge; inside, a `TopicName` cannot be wrong.
//!
//! The grammars are those of `docs/api.md`: they need no quoting in a shell and no escaping in a URL, and a topic name
//! is legal in Apache Kafka.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

/// Why a text is not a name. The sentence is written for the person who typed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {problem}")]
pub struct NameError {
    /// What was parsed: "a topic name", "an e-mail address".
    pub kind: &'static str,
    /// What is wrong and what is allowed.
    pub problem: String,
}

impl NameError {
    fn new(kind: &'static str, problem: impl Into<String>) -> Self {
        Self { kind, problem: problem.into() }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $parse:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, sqlx::Type)]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                $parse(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                String::schema()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}

name!(
    /// A team: `^[a-z][a-z0-9-]{1,62}$`.
    TeamName,
    parse_team
);
name!(
    /// An application: `^[a-z][a-z0-9-]{1,62}$`.
    AppName,
    parse_app
);
name!(
    /// A topic: `^[a-z0-9][a-z0-9._-]{0,248}$`.
    TopicName,
    parse_topic
);
name!(
    /// The beginning of topic names: the grammar of a topic name, 1 to 200 characters.
    TopicPrefix,
    parse_prefix
);
name!(
    /// An e-mail address, lower-cased. Checked for shape only; nobody but the mail server knows more.
    Email,
    parse_email
);

fn parse_team(text: &str) -> Result<String, NameError> {
    parse_slug("a team name", text)
}

fn parse_app(text: &str) -> Result<String, NameError> {
    parse_slug("an application name", text)
}

fn parse_slug(kind: &'static str, text: &str) -> Result<String, NameError> {
    let allowed = "has 2 to 63 characters out of a-z, 0-9 and '-', and begins with a letter";
    let legal = (2..=63).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if legal { Ok(text.to_owned()) } else { Err(NameError::new(kind, allowed)) }
}

fn legal_topic_text(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
}

fn parse_topic(text: &str) -> Result<String, NameError> {
    let allowed = "has 1 to 249 characters out of a-z, 0-9, '.', '_' and '-', and begins with a letter or a digit";
    if (1..=249).contains(&text.len()) && legal_topic_text(text) {
        Ok(text.to_owned())
    } else {
        Err(NameError::new("a topic name", allowed))
    }
}

fn parse_prefix(text: &str) -> Result<String, NameError> {
    let allowed = "has 1 to 200 characters of a topic name";
    if (1..=200).contains(&text.len()) && legal_topic_text(text) {
        Ok(text.to_owned())
    } else {
        Err(NameError::new("a topic prefix", allowed))
    }
}

fn parse_email(text: &str) -> Result<String, NameError> {
    let text = text.trim().to_lowercase();
    let bad = || NameError::new("an e-mail address", "looks like name@example.com and has at most 254 characters");
    let (local, domain) = text.rsplit_once('@').ok_or_else(bad)?;
    let clean = |s: &str| !s.is_empty() && s.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != '@');
    let shaped = clean(local) && clean(domain) && !domain.starts_with('.') && !domain.ends_with('.');
    if shaped && text.len() <= 254 { Ok(text) } else { Err(bad()) }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new identifier that sorts by the time it was made (UUID version 7).
            #[must_use]
            #[expect(clippy::new_without_default, reason = "an identifier has no default")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }
    };
}

uuid_id!(
    /// A person with an account.
    UserId
);
uuid_id!(
    /// A team.
    TeamId
);
uuid_id!(
    /// An application.
    AppId
);
uuid_id!(
    /// An API token.
    TokenId
);
uuid_id!(
    /// A signed-in browser.
    SessionId
);
uuid_id!(
    /// An invitation to a team.
    InvitationId
);
uuid_id!(
    /// An access grant.
    GrantId
);
uuid_id!(
    /// One incarnation of a topic: deleting and creating it again gives another one, so it is never reused.
    TopicId
);

impl TopicId {
    /// Eight hex digits of the incarnation: what a cursor carries, so that a cursor of a deleted topic never reads from
    /// its successor.
    #[must_use]
    pub fn generation(self) -> String {
        let bytes = self.0.as_bytes();
        format!("{:02x}{:02x}{:02x}{:02x}", bytes[12], bytes[13], bytes[14], bytes[15])
    }
}

/// Position of a record inside one partition. Grows by one a record; gaps are legal, reuse is not.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(transparent)]
pub struct Offset(pub i64);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One partition of one topic incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's incarnation.
    pub topic: TopicId,
    /// Zero-based number of the partition.
    pub partition: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_the_documented_grammar() {
        for good in ["a", "0", "flights.departures", "a_b-c.d", &"x".repeat(249)] {
            assert!(good.parse::<TopicName>().is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "A", "a/b", "a b", "é", "a\n", "../etc", &"x".repeat(250)] {
            assert!(bad.parse::<TopicName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn application_names_follow_the_documented_grammar() {
        for good in ["ab", "check-out2", &"x".repeat(63)] {
            assert!(good.parse::<AppName>().is_ok(), "{good}");
        }
        for bad in ["", "a", "1a", "a_b", "a.b", "Ab", &"x".repeat(64)] {
            assert!(bad.parse::<AppName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn e_mail_addresses_are_lower_cased_and_checked_for_shape() {
        assert_eq!("  Ada@Example.COM ".parse::<Email>().map(|e| e.to_string()), Ok("ada@example.com".to_owned()));
        for bad in ["", "ada", "@x", "a@", "a b@x.y", "a@b@c", "a@.x"] {
            assert!(bad.parse::<Email>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_generation_is_eight_hex_digits() {
        let id = TopicId::new();
        assert_eq!(id.generation().len(), 8);
        assert_ne!(id.generation(), TopicId::new().generation());
    }
}
