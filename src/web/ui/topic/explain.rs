//! Why an application may or may not use a topic: the authoriser's own answer, with the reason in words.

use std::sync::Arc;

use time::OffsetDateTime;

use super::quality;
use crate::catalog::Catalog;
use crate::catalog::access::{Actor, Consume, ManageTopic, Principal, Produce};
use crate::catalog::error::Denied;
use crate::catalog::model::{AccessGrant, AppState, Application, GrantTarget, Operation, Topic, TopicState};

/// The answer about one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub allowed: bool,
    /// `shipping may consume`
    pub title: String,
    /// The reason, and what would change it.
    pub why: String,
}

/// Asks the authoriser as the application itself, with a token that covers everything.
#[must_use]
pub fn verdicts(
    catalog: &Catalog,
    app: &Application,
    topic: &Topic,
    grants: &[AccessGrant],
    now: OffsetDateTime,
) -> Vec<Verdict> {
    let principal = Principal::App { id: app.id, name: app.name.clone(), team: app.team_id };
    let actor = Arc::new(Actor { principal, token: None, address: None, request_id: None });
    let name = &topic.name;
    let asked = [
        (Operation::Consume, catalog.authorize::<Consume>(&actor, name).err()),
        (Operation::Produce, catalog.authorize::<Produce>(&actor, name).err()),
        (Operation::Manage, catalog.authorize::<ManageTopic>(&actor, name).err()),
    ];
    asked.into_iter().map(|(operation, denied)| verdict(app, topic, grants, now, operation, denied.as_ref())).collect()
}

fn verdict(
    app: &Application,
    topic: &Topic,
    grants: &[AccessGrant],
    now: OffsetDateTime,
    operation: Operation,
    denied: Option<&Denied>,
) -> Verdict {
    let verb = quality::operation(operation);
    let why = match denied {
        None => allowed(app, topic, grants, now, operation),
        Some(denied) => refused(app, topic, grants, now, operation, denied),
    };
    let may = if denied.is_none() { "may" } else { "may not" };
    Verdict { allowed: denied.is_none(), title: format!("{} {may} {verb}", app.name), why }
}

fn given(grants: &[AccessGrant], app: &Application, operation: Operation) -> Vec<AccessGrant> {
    grants.iter().filter(|grant| grant.app_id == app.id && grant.operations.contains(&operation)).cloned().collect()
}

fn allowed(
    app: &Application,
    topic: &Topic,
    grants: &[AccessGrant],
    now: OffsetDateTime,
    operation: Operation,
) -> String {
    if app.id == topic.app_id {
        return "It owns the topic.".to_owned();
    }
    let live = |grant: &AccessGrant| grant.expires_at.is_none_or(|end| end > now);
    let Some(grant) = given(grants, app, operation).into_iter().find(live) else {
        return "The authoriser says so.".to_owned();
    };
    let on = match &grant.target {
        GrantTarget::Topic(_) => "on this topic".to_owned(),
        GrantTarget::Prefix { owner, prefix } => format!("on every topic {prefix}* of {owner}"),
    };
    let until = grant
        .expires_at
        .map_or_else(String::new, |end| format!(" It ends on {} {} {}.", end.day(), end.month(), end.year()));
    format!("A grant {on}, given by {}.{until}", grant.granted_by)
}

fn refused(
    app: &Application,
    topic: &Topic,
    grants: &[AccessGrant],
    now: OffsetDateTime,
    operation: Operation,
    denied: &Denied,
) -> String {
    if app.state == AppState::Suspended {
        return format!("{} is suspended: all its tokens are refused. Its team resumes it on its page.", app.name);
    }
    if topic.state == TopicState::Deleted || matches!(denied, Denied::TopicDeleted { .. }) {
        return "The topic is deleted. It can be restored.".to_owned();
    }
    if let Some(grant) = given(grants, app, operation).first()
        && let Some(end) = grant.expires_at.filter(|end| *end <= now)
    {
        return format!(
            "It had a grant, which ended on {} {} {}. Give it again below.",
            end.day(),
            end.month(),
            end.year()
        );
    }
    let held: Vec<_> = grants
        .iter()
        .filter(|grant| grant.app_id == app.id)
        .flat_map(|grant| grant.operations.iter().map(|operation| quality::operation(*operation)))
        .collect();
    let verb = quality::operation(operation);
    if held.is_empty() {
        format!(
            "It does not own the topic and nobody gave it {verb}. A member of the team {} can, on this page.",
            topic.team
        )
    } else {
        format!(
            "It may {}, but nobody gave it {verb}. A member of the team {} can, on this page.",
            held.join(" and "),
            topic.team
        )
    }
}
