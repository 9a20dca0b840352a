//! `PUT` means *ensure*: what a change did, in terms a person or a pipeline can judge before it is done.

use serde::Serialize;
use serde_json::Value;

use super::error::ChangeError;

/// What a `PUT` did, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PutResult {
    Created,
    Updated,
    Unchanged,
}

impl PutResult {
    /// The word of the `Weir-Result` header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
        }
    }
}

/// How much a change can hurt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    Safe,
    /// Clients may notice.
    Disruptive,
    /// Records or rights are lost.
    Destructive,
}

/// One difference between what is and what is wanted.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Change {
    /// JSON pointer into the resource as the API shows it.
    pub path: String,
    pub from: Value,
    pub to: Value,
    pub risk: Risk,
    /// What the change does, where that is not plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<&'static str>,
}

/// The answer to a `PUT`.
#[derive(Debug, Clone)]
pub struct Put<T> {
    pub value: T,
    pub result: PutResult,
    /// Empty when created or unchanged.
    pub changes: Vec<Change>,
}

/// What the caller believes about the present state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precondition {
    #[default]
    None,
    /// `If-Match`: it exists with this revision.
    IfMatch(i64),
    /// `If-Match: *`: it exists.
    IfMatchAny,
    /// `If-None-Match: *`: it does not exist.
    IfNoneMatchAny,
}

impl Precondition {
    /// Holds it against the present revision.
    pub(super) fn check(self, current: Option<i64>) -> Result<(), ChangeError> {
        let holds = match self {
            Self::None => true,
            Self::IfMatch(revision) => current == Some(revision),
            Self::IfMatchAny => current.is_some(),
            Self::IfNoneMatchAny => current.is_none(),
        };
        if holds { Ok(()) } else { Err(ChangeError::PreconditionFailed { current }) }
    }
}

/// Collects differences.
#[derive(Debug, Default)]
pub(super) struct Diff(pub Vec<Change>);

impl Diff {
    /// Notes a harmless difference, if it is one.
    pub fn safe<T: Serialize + PartialEq>(&mut self, path: &str, from: &T, to: &T) {
        self.note(path, from, to, Risk::Safe, None);
    }

    /// Notes a difference with its risk, if it is one.
    pub fn note<T: Serialize + PartialEq>(
        &mut self,
        path: &str,
        from: &T,
        to: &T,
        risk: Risk,
        why: Option<&'static str>,
    ) {
        if from != to {
            let json = |value: &T| serde_json::to_value(value).unwrap_or(Value::Null);
            self.0.push(Change { path: path.to_owned(), from: json(from), to: json(to), risk, why });
        }
    }

    pub fn result(&self) -> PutResult {
        if self.0.is_empty() { PutResult::Unchanged } else { PutResult::Updated }
    }
}
