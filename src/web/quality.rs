//! What an application still lacks to be run well: shown where its people look, never a reason to refuse anything.

use crate::catalog::model::{AppState, Application};

/// Human owners an application should have, so that one can be away.
pub const OWNERS_WANTED: usize = 2;

/// Something that should be put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// The class of its sign: `warn` or `danger`.
    pub kind: &'static str,
    pub text: &'static str,
    /// Where it can be put right.
    pub fix: Option<String>,
}

/// The issues of an application, the gravest first.
#[must_use]
pub fn of_app(app: &Application) -> Vec<Issue> {
    let edit = |field: &str| Some(format!("/apps/{}/edit#f-{field}", app.name));
    let issue = |kind, text, fix| Issue { kind, text, fix };
    let mut issues = Vec::new();
    if app.state == AppState::Suspended {
        issues.push(issue("danger", "It is suspended: its tokens are refused and its streams have ended.", None));
    }
    match app.owners.len() {
        0 => issues.push(issue("warn", "It has no owner. Name two people who answer for it.", edit("owners"))),
        n if n < OWNERS_WANTED => {
            issues.push(issue("warn", "It has one owner. Name a second, so that one can be away.", edit("owners")));
        }
        _ => {}
    }
    if app.description.is_empty() {
        issues.push(issue("warn", "It has no description.", edit("description")));
    }
    if app.contacts.is_empty() {
        issues.push(issue("warn", "It has no contact, such as a chat channel or a pager.", edit("contacts")));
    }
    issues
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use crate::names::{AppId, TeamId};

    fn app(owners: usize) -> Application {
        let at = time::macros::datetime!(2026-11-22 12:00 UTC);
        Application {
            id: AppId::new(),
            name: "checkout".parse().unwrap(),
            team: "payments".parse().unwrap(),
            team_id: TeamId::new(),
            description: "Takes orders".into(),
            owners: (0..owners).map(|n| format!("p{n}@example.com").parse().unwrap()).collect(),
            contacts: BTreeMap::from([("slack".into(), "#checkout".into())]),
            repository: None,
            runbook: None,
            labels: BTreeMap::new(),
            state: AppState::Active,
            created_at: at,
            updated_at: at,
            revision: 1,
        }
    }

    #[test]
    fn an_application_with_fewer_than_two_owners_has_an_issue() {
        assert_eq!(of_app(&app(2)), []);
        assert_eq!(of_app(&app(1))[0].fix.as_deref(), Some("/apps/checkout/edit#f-owners"));
        assert!(of_app(&app(0))[0].text.starts_with("It has no owner"));
    }

    #[test]
    fn what_stops_it_comes_first() {
        let suspended = Application { state: AppState::Suspended, ..app(0) };
        assert_eq!(of_app(&suspended)[0].kind, "danger");
    }
}
