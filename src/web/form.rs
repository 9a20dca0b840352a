//! A form as a person sent it: what was typed, and what is wrong with it, for showing it again.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;

use super::extract::Form;
use super::page::PageError;
use super::problem::{Code, Problem};

/// Fields that one form may have.
const FIELDS_MAX: usize = 200;
/// Characters of a one-line field.
const LINE_CHARS_MAX: usize = 500;

/// What was typed, and what is wrong with it.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    values: Vec<(String, String)>,
    errors: BTreeMap<String, String>,
    refusal: Option<String>,
    hint: Option<String>,
    focus: Option<&'static str>,
}

impl Draft {
    /// An empty form.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Fills in a field; a second value of the same name is a second choice.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.values.push((name.to_owned(), value.into()));
        self
    }

    /// The field in which the cursor begins.
    #[must_use]
    pub fn focused(mut self, name: &'static str) -> Self {
        self.focus = Some(name);
        self
    }

    /// What was typed into a field; empty when it was not sent.
    #[must_use]
    pub fn value(&self, name: &str) -> &str {
        self.values.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// What was typed, without blanks around it; `None` when nothing is left.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        Some(self.value(name).trim()).filter(|text| !text.is_empty())
    }

    /// Every choice of a field that can have several.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Whether a choice was made.
    #[must_use]
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.values(name).any(|one| one == value)
    }

    /// What is wrong with a field.
    #[must_use]
    pub fn error(&self, name: &str) -> Option<&str> {
        self.errors.get(name).map(String::as_str)
    }

    /// What is wrong with the whole.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// What to do about it.
    #[must_use]
    pub fn refusal_hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// How much a one-line field takes.
    #[must_use]
    pub fn length_max(&self, _name: &str) -> usize {
        LINE_CHARS_MAX
    }

    /// Whether the cursor begins here.
    #[must_use]
    pub fn autofocus(&self, name: &str) -> bool {
        self.errors.is_empty() && self.focus == Some(name)
    }

    /// Whether nothing is wrong so far.
    #[must_use]
    pub fn sound(&self) -> bool {
        self.errors.is_empty() && self.refusal.is_none()
    }

    /// Says what is wrong with a field; the first sentence stays.
    pub fn wrong(&mut self, name: &str, detail: impl Into<String>) {
        self.errors.entry(name.to_owned()).or_insert_with(|| sentence(&detail.into()));
    }

    /// Says what is wrong with the whole.
    pub fn refuse(&mut self, detail: impl Into<String>) {
        self.refusal.get_or_insert_with(|| sentence(&detail.into()));
    }

    /// A field that must be there, as its type; otherwise the field is marked.
    pub fn parse<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        if self.text(name).is_none() {
            self.wrong(name, "This is needed.");
            return None;
        }
        self.parse_optional(name)
    }

    /// A field that may be empty, as its type; text that cannot be understood marks the field.
    pub fn parse_optional<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        match self.text(name)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.wrong(name, error.to_string());
                None
            }
        }
    }

    /// A field that must not be empty, as text.
    pub fn needed(&mut self, name: &str) -> Option<String> {
        let text = self.text(name).map(str::to_owned);
        if text.is_none() {
            self.wrong(name, "This is needed.");
        }
        text
    }

    /// Takes a refusal of what the form asked for, so that it can be shown again with the answer's status; a refusal that
    /// no other typing would change becomes a page of its own.
    ///
    /// # Errors
    /// The refusal, where it is not about what was typed.
    pub fn take(&mut self, problem: impl Into<Problem>) -> Result<StatusCode, PageError> {
        let problem: Problem = problem.into();
        if !matches!(
            problem.code,
            Code::ValidationFailed
                | Code::Conflict
                | Code::NotEmpty
                | Code::IncompatibleChange
                | Code::PreconditionFailed
                | Code::QuotaExceeded
        ) {
            return Err(PageError::from(problem));
        }
        for error in &problem.errors {
            let field = error.pointer.trim_start_matches('/').split('/').next().unwrap_or_default();
            if self.values.iter().any(|(name, _)| name == field) {
                self.wrong(field, error.detail.clone());
            } else {
                self.refuse(error.detail.clone());
            }
        }
        if problem.errors.is_empty() {
            self.refuse(problem.detail.clone());
            self.hint = problem.hint.clone();
        }
        Ok(StatusCode::from_u16(problem.code.status()).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY))
    }
}

/// Capital letter and full stop, as a person expects under a field.
fn sentence(text: &str) -> String {
    let mut letters = text.trim().chars();
    let mut sentence: String = letters.next().map(|c| c.to_uppercase().chain(letters).collect()).unwrap_or_default();
    if !sentence.ends_with(['.', '?', '!', ':']) {
        sentence.push('.');
    }
    sentence
}

/// The browser's name for what a field holds, so that it can fill it in.
#[must_use]
pub fn autocomplete(name: &str) -> &'static str {
    match name {
        "email" => "username",
        "password" => "current-password",
        "new_password" => "new-password",
        "person_name" => "name",
        _ => "off",
    }
}

impl<S: Send + Sync> FromRequest<S> for Draft {
    type Rejection = PageError;

    async fn from_request(request: Request, state: &S) -> Result<Self, PageError> {
        let Form(values) = Form::<Vec<(String, String)>>::from_request(request, state).await?;
        if values.len() > FIELDS_MAX {
            return Err(Problem::new(Code::ValidationFailed, "The form has too many fields.").into());
        }
        Ok(Self { values, ..Self::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{AppName, Email};
    use crate::web::problem::FieldError;

    #[test]
    fn what_was_typed_is_kept_and_a_wrong_field_says_what_is_allowed() {
        let mut draft = Draft::new().with("name", "Check Out").with("email", " Ada@Example.com ");
        assert_eq!(draft.parse::<AppName>("name"), None);
        assert_eq!(draft.parse::<Email>("email").map(|e| e.to_string()).as_deref(), Some("ada@example.com"));
        assert_eq!(draft.value("name"), "Check Out");
        assert!(draft.error("name").unwrap().starts_with("An application name has"));
        assert!(!draft.sound());
    }

    #[test]
    fn an_empty_field_is_missing_only_where_it_is_needed() {
        let mut draft = Draft::new().with("a", "  ");
        assert_eq!(draft.parse_optional::<u32>("a"), None);
        assert!(draft.sound());
        assert_eq!(draft.needed("a"), None);
        assert_eq!(draft.error("a"), Some("This is needed."));
    }

    #[test]
    fn a_refusal_lands_at_its_field_or_above_the_form() {
        let mut draft = Draft::new().with("partitions", "0");
        let problem = Problem::new(Code::ValidationFailed, "no")
            .error(FieldError { item: None, pointer: "/partitions".into(), detail: "must be 1 or more".into() })
            .error(FieldError { item: None, pointer: "/else".into(), detail: "something else".into() });
        assert_eq!(draft.take(problem).unwrap(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(draft.error("partitions"), Some("Must be 1 or more."));
        assert_eq!(draft.refusal(), Some("Something else."));
    }

    #[test]
    fn a_refusal_that_typing_cannot_change_is_not_the_forms() {
        assert!(Draft::new().take(Problem::new(Code::Forbidden, "no")).is_err());
    }
}
