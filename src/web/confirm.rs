//! The question before something that hurts: a page of its own, so that it needs no script.
//!
//! The first POST, without `confirmed`, is answered with the question; its form sends everything again with `confirmed`.

use askama::Template;
use axum::http::StatusCode;

use super::form::Draft;
use super::page::{Frame, PageResult, render, render_as};

/// What is asked.
#[derive(Debug, Clone)]
pub struct Confirm {
    pub title: String,
    /// What will happen, in sentences.
    pub text: String,
    /// What it will hit, one line each.
    pub points: Vec<String>,
    pub button: &'static str,
    /// Where "Cancel" leads.
    pub back: String,
    /// A name that has to be typed, where nothing can bring it back.
    pub type_name: Option<String>,
}

#[derive(Template)]
#[template(path = "confirm.html")]
struct ConfirmPage<'a> {
    frame: Frame,
    ask: &'a Confirm,
    form: &'a Draft,
}

impl Confirm {
    /// `None` when the person has said yes; otherwise the page that asks. The form posts to the page's own address.
    #[must_use]
    pub fn ask(&self, frame: &Frame, form: &mut Draft) -> Option<PageResult> {
        if form.text("confirmed").is_none() {
            return Some(render(&ConfirmPage { frame: frame.clone(), ask: self, form }));
        }
        let name = self.type_name.as_deref()?;
        if form.text("confirm_name") == Some(name) {
            return None;
        }
        form.wrong("confirm_name", format!("Type {name} to go on"));
        Some(render_as(StatusCode::UNPROCESSABLE_ENTITY, &ConfirmPage { frame: frame.clone(), ask: self, form }))
    }

    /// What the question sends again.
    fn carried<'f>(&self, form: &'f Draft) -> impl Iterator<Item = &'f (String, String)> {
        form.entries().filter(|(name, _)| !matches!(name.as_str(), "confirmed" | "confirm_name"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::page::Frame;
    use axum::http::HeaderMap;

    fn ask(form: &mut Draft, type_name: Option<&str>) -> Option<u16> {
        let frame = Frame::of(
            &HeaderMap::new(),
            &"/apps/a/delete".parse().unwrap(),
            time::macros::datetime!(2026-11-22 12:00 UTC),
        );
        let confirm = Confirm {
            title: "Delete a?".into(),
            text: String::new(),
            points: Vec::new(),
            button: "Delete",
            back: "/apps/a".into(),
            type_name: type_name.map(str::to_owned),
        };
        confirm.ask(&frame, form).map(|answer| answer.unwrap().status().as_u16())
    }

    #[test]
    fn nothing_happens_before_the_question_is_answered() {
        assert_eq!(ask(&mut Draft::new(), None), Some(200));
        assert_eq!(ask(&mut Draft::new().with("confirmed", "yes"), None), None);
    }

    #[test]
    fn a_name_that_has_to_be_typed_must_be_right() {
        assert_eq!(ask(&mut Draft::new().with("confirmed", "yes").with("confirm_name", "b"), Some("a")), Some(422));
        assert_eq!(ask(&mut Draft::new().with("confirmed", "yes").with("confirm_name", " a "), Some("a")), None);
    }
}
