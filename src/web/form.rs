//! A form as a person sent it: what was typed, and what is wrong with it, for showing it again.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::auth::encode_query;
use super::extract::{Form, Query};
use super::page::PageError;
use super::problem::{Code, Problem};
use crate::catalog::page::{BadCursor, PageRequest};

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

    /// The lines of a field, without blanks and empty ones, each as its type; a line that cannot be understood marks it.
    pub fn lines<T: FromStr<Err: Display>>(&mut self, name: &str) -> Vec<T> {
        let parsed: Vec<_> =
            self.value(name).split(['\n', ',']).map(str::trim).filter(|l| !l.is_empty()).map(str::parse).collect();
        let mut values = Vec::new();
        for line in parsed {
            match line {
                Ok(value) => values.push(value),
                Err(error) => self.wrong(name, T::Err::to_string(&error)),
            }
        }
        values
    }

    /// A field of `key: value` lines.
    pub fn pairs(&mut self, name: &str) -> BTreeMap<String, String> {
        let mut pairs = BTreeMap::new();
        let lines: Vec<String> = self.value(name).lines().map(|line| line.trim().to_owned()).collect();
        for line in lines.iter().filter(|line| !line.is_empty()) {
            match line.split_once([':', '=']) {
                Some((key, value)) if !key.trim().is_empty() && !value.trim().is_empty() => {
                    pairs.insert(key.trim().to_owned(), value.trim().to_owned());
                }
                _ => self.wrong(name, format!("“{line}” is not of the form key: value")),
            }
        }
        pairs
    }

    /// Everything that was typed, for carrying it over a confirmation.
    pub fn entries(&self) -> impl Iterator<Item = &(String, String)> {
        self.values.iter()
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
        let Form(values) = Form::<Sent>::from_request(request, state).await?;
        Ok(values.into())
    }
}

/// Names with their values, as the extractors give them.
type Sent = BTreeMap<String, Vec<String>>;

impl From<Sent> for Draft {
    fn from(sent: Sent) -> Self {
        let values =
            sent.into_iter().flat_map(|(name, values)| values.into_iter().map(move |value| (name.clone(), value)));
        Self { values: values.collect(), ..Self::default() }
    }
}

/// The query of a list: what is searched for, and which page.
#[derive(Debug, Clone, Default)]
pub struct Filters(pub Draft);

impl Filters {
    /// The value of a filter; empty when it is not set.
    #[must_use]
    pub fn value(&self, name: &str) -> &str {
        self.0.value(name)
    }

    /// Whether a filter has this value.
    #[must_use]
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.0.value(name) == value
    }

    /// Whether anything is filtered.
    #[must_use]
    pub fn any(&self) -> bool {
        self.0.values.iter().any(|(name, value)| name != "cursor" && !value.trim().is_empty())
    }

    /// Which page, `limit` lines long.
    ///
    /// # Errors
    /// The cursor is not one of ours.
    pub fn page(&self, limit: usize) -> Result<PageRequest, BadCursor> {
        PageRequest::new(Some(limit), self.0.text("cursor"))
    }

    /// The address of a page with these filters and another value of one of them.
    #[must_use]
    pub fn href(&self, path: &str, name: &str, value: &str) -> String {
        let kept = self.0.values.iter().filter(|(n, v)| n != name && n != "cursor" && !v.trim().is_empty());
        let kept = kept.map(|(n, v)| (n.as_str(), v.as_str()));
        let pairs = kept.chain([(name, value)].into_iter().filter(|(_, value)| !value.is_empty()));
        let query: Vec<_> = pairs.map(|(n, v)| format!("{}={}", encode_query(n), encode_query(v))).collect();
        if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
    }

    /// The address of the next page.
    #[must_use]
    pub fn next(&self, path: &str, cursor: Option<&str>) -> Option<String> {
        cursor.map(|cursor| self.href(path, "cursor", cursor))
    }

    /// The address of the first page, where this is not it.
    #[must_use]
    pub fn first(&self, path: &str) -> String {
        if self.0.text("cursor").is_some() { self.href(path, "cursor", "") } else { String::new() }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Filters {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, PageError> {
        let Query(values) = Query::<Sent>::from_request_parts(parts, state).await?;
        Ok(Self(values.into()))
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
    fn lists_and_pairs_are_one_a_line() {
        let mut draft = Draft::new()
            .with("owners", "ada@x.org\r\n\r\nBob@x.org, cy@x.org")
            .with("labels", "tier: gold\nurl = https://a:1");
        let owners: Vec<Email> = draft.lines("owners");
        assert_eq!(owners.iter().map(Email::as_str).collect::<Vec<_>>(), ["ada@x.org", "bob@x.org", "cy@x.org"]);
        assert_eq!(
            draft.pairs("labels").into_iter().collect::<Vec<_>>(),
            [("tier".into(), "gold".into()), ("url".into(), "https://a:1".into())]
        );
        assert!(draft.sound());
        assert!(Draft::new().with("labels", "tier").pairs("labels").is_empty());
        let mut bad = Draft::new().with("owners", "nobody");
        assert!(bad.lines::<Email>("owners").is_empty() && !bad.sound());
    }

    #[test]
    fn the_next_page_keeps_the_filters() {
        let filters = Filters(Draft::new().with("q", "a b").with("mine", "").with("cursor", "x"));
        assert_eq!(filters.next("/apps", Some("yz")).as_deref(), Some("/apps?q=a%20b&cursor=yz"));
        assert_eq!(filters.first("/apps"), "/apps?q=a%20b");
        assert_eq!(filters.href("/apps", "q", ""), "/apps");
    }

    #[test]
    fn a_refusal_that_typing_cannot_change_is_not_the_forms() {
        assert!(Draft::new().take(Problem::new(Code::Forbidden, "no")).is_err());
    }
}
