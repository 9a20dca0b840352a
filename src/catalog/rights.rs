//! The rules: which principal may do what. Pure functions over the snapshot, so that the portal, REST and streams answer
//! alike, with and without the database.
//!
//! A right is what the principal's role gives, cut down to the token's scopes and topic patterns. What the actor may not
//! know of is [`Denied::NotFound`]; what it may know of and not do is [`Denied::Forbidden`].

use std::sync::Arc;

use time::OffsetDateTime;

use super::access::{Actor, AppPut, AppTarget, AuditSight, Principal, TeamPut, TopicPut, TopicTarget};
use super::error::{AuthError, Denied, Kind, MissingScope, Required};
use super::model::{
    AccessGrant, AppState, Application, GrantTarget, Operation, Scope, Team, TeamRole, Topic, TopicState, User,
    Visibility,
};
use super::view::View;
use crate::names::{AppName, TeamId, TeamName, TopicName, TopicPrefix, UserId};

/// The principal as the snapshot knows it now.
#[derive(Debug, Clone, Copy)]
enum Who<'a> {
    System,
    Person(&'a User),
    App(&'a Application),
}

/// An actor whose credential still holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing<'a> {
    view: &'a View,
    actor: &'a Actor,
    now: OffsetDateTime,
    who: Who<'a>,
}

impl<'a> Standing<'a> {
    /// Looks the principal and the token up again: either may have ended since it was presented.
    pub fn of(view: &'a View, actor: &'a Actor, now: OffsetDateTime) -> Result<Self, Denied> {
        if let Some(token) = &actor.token {
            let row = view.token(token.id).ok_or(AuthError::Revoked)?;
            token_holds(&row.token, now)?;
        }
        let who = match &actor.principal {
            Principal::System => Who::System,
            Principal::User { id, .. } => Who::Person(person(view, *id)?),
            Principal::App { id, name, .. } => {
                let app = view.app(name).filter(|app| app.id == *id).ok_or(AuthError::Revoked)?;
                if app.state == AppState::Suspended {
                    return Err(Denied::AppSuspended { app: app.name.clone() });
                }
                Who::App(app)
            }
        };
        Ok(Self { view, actor, now, who })
    }

    fn has_scope(&self, scope: Scope) -> bool {
        let Some(token) = &self.actor.token else { return true };
        token.scopes.iter().any(|has| *has == scope || *has == Scope::Admin)
    }

    fn scope(&self, scope: Scope) -> Result<(), Denied> {
        if self.has_scope(scope) {
            Ok(())
        } else {
            Err(Denied::InsufficientScope { missing: MissingScope::Scope(scope) })
        }
    }

    fn pattern(&self, topic: &TopicName) -> Result<(), Denied> {
        let covered = self.actor.token.as_ref().is_none_or(|token| any_pattern(&token.topics, topic.as_str()));
        if covered { Ok(()) } else { Err(Denied::InsufficientScope { missing: MissingScope::Topic(topic.clone()) }) }
    }

    /// An administrator, by a credential that carries the power.
    fn is_admin(&self) -> bool {
        match self.who {
            Who::System => true,
            Who::Person(user) => user.admin && self.has_scope(Scope::Admin),
            Who::App(_) => false,
        }
    }

    fn role(&self, team: TeamId) -> Option<TeamRole> {
        match self.who {
            Who::Person(user) => self.view.role(user.id, team),
            Who::System | Who::App(_) => None,
        }
    }

    fn required(&self, required: Required) -> Denied {
        Denied::Forbidden { required, app: self.actor.app().cloned() }
    }

    /// Whether the actor may know that the topic exists.
    pub fn sees(&self, topic: &Topic) -> bool {
        if topic.visibility == Visibility::Company || self.is_admin() || self.role(topic.team_id).is_some() {
            return true;
        }
        match self.who {
            Who::App(app) if app.team_id == topic.team_id => true,
            Who::System => true,
            Who::App(_) | Who::Person(_) => Operation::ALL.iter().any(|operation| self.granted(topic, *operation)),
        }
    }

    /// Whether the actor may know of a grant: both sides do, and who may know of a topic that it is about.
    pub fn sees_grant(&self, grant: &AccessGrant) -> bool {
        let (owner, prefix) = match &grant.target {
            GrantTarget::Topic(topic) => return self.view.topic(topic).is_some_and(|topic| self.sees(topic)),
            GrantTarget::Prefix { owner, prefix } => (owner, prefix),
        };
        let mut sides = [owner, &grant.app].into_iter().filter_map(|side| self.view.app(side));
        sides.any(|side| self.acts_for(side).is_ok())
            || self
                .view
                .topics_with_prefix(prefix.as_str())
                .any(|topic| topic.app == *owner && topic.state == TopicState::Active && self.sees(topic))
    }

    /// Whether a live grant gives the operation to the application, or to an application of the person's teams.
    fn granted(&self, topic: &Topic, operation: Operation) -> bool {
        self.view.grants_on(topic).filter(|grant| View::gives(grant, operation, self.now)).any(|grant| match self.who {
            Who::System => true,
            Who::App(app) => grant.app_id == app.id,
            Who::Person(user) => {
                let holder = self.view.app(&grant.app).filter(|app| app.state == AppState::Active);
                holder.is_some_and(|app| self.view.role(user.id, app.team_id).is_some())
            }
        })
    }

    /// Whether the role alone, without regard to the token, gives the operation.
    fn may(&self, topic: &Topic, operation: Operation) -> bool {
        let owner = match self.who {
            Who::App(app) => app.id == topic.app_id,
            Who::System | Who::Person(_) => self.is_admin() || self.role(topic.team_id).is_some(),
        };
        owner || self.granted(topic, operation)
    }

    fn visible_topic(&self, name: &TopicName) -> Result<&'a Arc<Topic>, Denied> {
        let hidden = || Denied::NotFound { kind: Kind::Topic, name: name.to_string() };
        self.view.topic(name).filter(|topic| self.sees(topic)).ok_or_else(hidden)
    }

    /// The topic, deleted or not, if the actor has the operation on it by role, scope and pattern.
    fn topic(&self, name: &TopicName, operation: Operation, scope: Scope) -> Result<&'a Arc<Topic>, Denied> {
        let topic = self.visible_topic(name)?;
        if !self.may(topic, operation) {
            return Err(self.required(Required::Operation { topic: name.clone(), operation }));
        }
        self.scope(scope)?;
        self.pattern(name)?;
        Ok(topic)
    }

    fn app(&self, name: &AppName) -> Result<&'a Arc<Application>, Denied> {
        self.view.app(name).ok_or_else(|| Denied::NotFound { kind: Kind::Application, name: name.to_string() })
    }

    fn team(&self, name: &TeamName) -> Result<&'a Arc<Team>, Denied> {
        self.view.team(name).ok_or_else(|| Denied::NotFound { kind: Kind::Team, name: name.to_string() })
    }

    /// To act for an application: its team's members, and the application itself.
    fn acts_for(&self, app: &Application) -> Result<(), Denied> {
        let itself = matches!(self.who, Who::App(me) if me.id == app.id);
        if itself { Ok(()) } else { self.member(app.team_id, &app.team) }
    }

    fn member(&self, id: TeamId, name: &TeamName) -> Result<(), Denied> {
        if self.is_admin() || self.role(id).is_some() {
            Ok(())
        } else {
            Err(self.required(Required::Member { team: name.clone() }))
        }
    }

    fn maintainer(&self, team: &Team) -> Result<(), Denied> {
        if self.is_admin() || self.role(team.id) == Some(TeamRole::Maintainer) {
            Ok(())
        } else {
            Err(self.required(Required::Maintainer { team: team.name.clone() }))
        }
    }

    fn a_person(&self) -> Result<UserId, Denied> {
        match self.who {
            Who::Person(user) => Ok(user.id),
            Who::System | Who::App(_) => Err(self.required(Required::Person)),
        }
    }

    fn not_an_app(&self) -> Result<(), Denied> {
        if matches!(self.who, Who::App(_)) { Err(self.required(Required::Person)) } else { Ok(()) }
    }
}

/// Whether a token can still be used.
pub(super) fn token_holds(token: &super::model::Token, now: OffsetDateTime) -> Result<(), AuthError> {
    if token.revoked_at.is_some() {
        return Err(AuthError::Revoked);
    }
    match token.expires_at {
        Some(at) if at <= now => Err(AuthError::Expired { at }),
        _ => Ok(()),
    }
}

/// The account, if it can be used.
pub(super) fn person(view: &View, id: UserId) -> Result<&Arc<User>, AuthError> {
    let user = view.user(id).ok_or(AuthError::Unknown)?;
    if user.disabled { Err(AuthError::Disabled) } else { Ok(user) }
}

/// Whether one of the patterns covers the name; no pattern at all covers every name.
pub(super) fn any_pattern(patterns: &[String], name: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| one_pattern(pattern, name))
}

fn one_pattern(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

/// Whether everything that `narrow` covers is covered by one of `wide`.
pub(super) fn pattern_within(narrow: &str, wide: &[String]) -> bool {
    wide.is_empty()
        || wide.iter().any(|wide| match (narrow.strip_suffix('*'), wide.strip_suffix('*')) {
            (Some(narrow), Some(wide)) => narrow.starts_with(wide),
            (Some(_), None) => false,
            (None, _) => one_pattern(wide, narrow),
        })
}

fn living(topic: &Arc<Topic>) -> Result<Arc<Topic>, Denied> {
    match topic.state {
        TopicState::Active => Ok(Arc::clone(topic)),
        TopicState::Deleted => Err(Denied::TopicDeleted {
            topic: topic.name.clone(),
            purge_after: topic.purge_after.unwrap_or(OffsetDateTime::UNIX_EPOCH),
        }),
    }
}

pub(super) fn produce(view: &View, actor: &Actor, now: OffsetDateTime, name: &TopicName) -> Result<Arc<Topic>, Denied> {
    living(Standing::of(view, actor, now)?.topic(name, Operation::Produce, Scope::RecordsProduce)?)
}

pub(super) fn consume(view: &View, actor: &Actor, now: OffsetDateTime, name: &TopicName) -> Result<Arc<Topic>, Denied> {
    living(Standing::of(view, actor, now)?.topic(name, Operation::Consume, Scope::RecordsConsume)?)
}

pub(super) fn manage_topic(
    view: &View,
    actor: &Actor,
    now: OffsetDateTime,
    name: &TopicName,
) -> Result<Arc<Topic>, Denied> {
    Standing::of(view, actor, now)?.topic(name, Operation::Manage, Scope::TopicsWrite).map(Arc::clone)
}

pub(super) fn share_topic(
    view: &View,
    actor: &Actor,
    now: OffsetDateTime,
    name: &TopicName,
) -> Result<Arc<Topic>, Denied> {
    living(Standing::of(view, actor, now)?.topic(name, Operation::Manage, Scope::AccessWrite)?)
}

/// Whether the actor is on the side of the topic's owner, rather than holding a grant.
pub(super) fn owns_topic(view: &View, actor: &Actor, now: OffsetDateTime, topic: &Topic) -> Result<(), Denied> {
    let standing = Standing::of(view, actor, now)?;
    standing.acts_for(standing.app(&topic.app)?)
}

pub(super) fn share_prefix(
    view: &View,
    actor: &Actor,
    now: OffsetDateTime,
    name: &AppName,
) -> Result<Arc<Application>, Denied> {
    let standing = Standing::of(view, actor, now)?;
    let app = standing.app(name)?;
    standing.acts_for(app)?;
    standing.scope(Scope::AccessWrite)?;
    Ok(Arc::clone(app))
}

/// Whether the actor's token covers every topic that a prefix may ever cover.
pub(super) fn covers_prefix(actor: &Actor, prefix: &TopicPrefix) -> Result<(), Denied> {
    let within = |patterns: &[String]| pattern_within(&format!("{prefix}*"), patterns);
    if actor.token.as_ref().is_none_or(|token| within(&token.topics)) {
        Ok(())
    } else {
        Err(Denied::InsufficientScope { missing: MissingScope::Prefix(prefix.clone()) })
    }
}

/// A topic to look at: a deleted one is shown to those who may restore it.
pub(super) fn read_topic(
    view: &View,
    actor: &Actor,
    now: OffsetDateTime,
    name: &TopicName,
) -> Result<Arc<Topic>, Denied> {
    let standing = Standing::of(view, actor, now)?;
    let topic = standing.visible_topic(name)?;
    if standing.may(topic, Operation::Manage) { Ok(Arc::clone(topic)) } else { living(topic) }
}

pub(super) fn put_topic(
    view: &View,
    actor: &Actor,
    now: OffsetDateTime,
    target: &TopicTarget,
) -> Result<TopicPut, Denied> {
    let standing = Standing::of(view, actor, now)?;
    let app = standing.app(&target.app)?;
    // A hidden topic is treated as if it did not exist; the change itself then finds that the name is taken.
    let existing = match standing.visible_topic(&target.name) {
        Ok(_) => Some(living(standing.topic(&target.name, Operation::Manage, Scope::TopicsWrite)?)?),
        Err(_) => None,
    };
    if existing.as_ref().is_none_or(|topic| topic.app_id != app.id) {
        standing.acts_for(app)?;
        // To give a topic away is for the one whose it is: who may manage it could take it otherwise.
        if let Some(topic) = &existing {
            standing.acts_for(standing.app(&topic.app)?)?;
        }
    }
    standing.scope(Scope::TopicsWrite)?;
    standing.pattern(&target.name)?;
    Ok(TopicPut { name: target.name.clone(), existing, app: Arc::clone(app) })
}

pub(super) fn put_app(view: &View, actor: &Actor, now: OffsetDateTime, target: &AppTarget) -> Result<AppPut, Denied> {
    let standing = Standing::of(view, actor, now)?;
    let team = standing.team(&target.team)?;
    let existing = view.app(&target.name);
    match existing {
        Some(app) => standing.acts_for(app)?,
        None => standing.not_an_app()?,
    }
    if existing.is_none_or(|app| app.team_id != team.id) {
        standing.member(team.id, &team.name)?;
    }
    standing.scope(Scope::AppsWrite)?;
    Ok(AppPut { name: target.name.clone(), existing: existing.map(Arc::clone), team: Arc::clone(team) })
}

pub(super) fn manage_app(
    view: &View,
    actor: &Actor,
    now: OffsetDateTime,
    name: &AppName,
) -> Result<Arc<Application>, Denied> {
    let standing = Standing::of(view, actor, now)?;
    let app = standing.app(name)?;
    standing.not_an_app()?;
    standing.member(app.team_id, &app.team)?;
    standing.scope(Scope::AppsWrite)?;
    Ok(Arc::clone(app))
}

pub(super) fn manage_app_tokens(
    view: &View,
    actor: &Actor,
    now: OffsetDateTime,
    name: &AppName,
) -> Result<Arc<Application>, Denied> {
    let standing = Standing::of(view, actor, now)?;
    let app = standing.app(name)?;
    standing.acts_for(app)?;
    standing.scope(Scope::TokensWrite)?;
    Ok(Arc::clone(app))
}

pub(super) fn put_team(view: &View, actor: &Actor, now: OffsetDateTime, name: &TeamName) -> Result<TeamPut, Denied> {
    let standing = Standing::of(view, actor, now)?;
    let existing = view.team(name);
    standing.not_an_app()?;
    if let Some(team) = existing {
        standing.maintainer(team)?;
    }
    standing.scope(Scope::AppsWrite)?;
    Ok(TeamPut { name: name.clone(), existing: existing.map(Arc::clone) })
}

pub(super) fn manage_team(
    view: &View,
    actor: &Actor,
    now: OffsetDateTime,
    name: &TeamName,
) -> Result<Arc<Team>, Denied> {
    let standing = Standing::of(view, actor, now)?;
    let team = standing.team(name)?;
    standing.maintainer(team)?;
    standing.scope(Scope::AppsWrite)?;
    Ok(Arc::clone(team))
}

pub(super) fn join_team(view: &View, actor: &Actor, now: OffsetDateTime, name: &TeamName) -> Result<Arc<Team>, Denied> {
    let standing = Standing::of(view, actor, now)?;
    let team = standing.team(name)?;
    standing.a_person()?;
    standing.scope(Scope::AppsWrite)?;
    Ok(Arc::clone(team))
}

pub(super) fn own_tokens(view: &View, actor: &Actor, now: OffsetDateTime, _: &()) -> Result<UserId, Denied> {
    let standing = Standing::of(view, actor, now)?;
    let user = standing.a_person()?;
    standing.scope(Scope::TokensWrite)?;
    Ok(user)
}

pub(super) fn own_account(view: &View, actor: &Actor, now: OffsetDateTime, _: &()) -> Result<UserId, Denied> {
    let standing = Standing::of(view, actor, now)?;
    let user = standing.a_person()?;
    if actor.token.is_some() { Err(standing.required(Required::Person)) } else { Ok(user) }
}

pub(super) fn read_catalog(view: &View, actor: &Actor, now: OffsetDateTime, _: &()) -> Result<(), Denied> {
    Standing::of(view, actor, now)?.scope(Scope::CatalogRead)
}

pub(super) fn read_audit(view: &View, actor: &Actor, now: OffsetDateTime, _: &()) -> Result<AuditSight, Denied> {
    let standing = Standing::of(view, actor, now)?;
    standing.scope(Scope::AuditRead)?;
    Ok(match standing.who {
        _ if standing.is_admin() => AuditSight::Everything,
        Who::System => AuditSight::Everything,
        Who::App(app) => AuditSight::App(app.id),
        Who::Person(user) => AuditSight::Person {
            user: user.id,
            teams: view.teams().filter(|team| view.role(user.id, team.id).is_some()).map(|team| team.id).collect(),
        },
    })
}

/// By token the scope is needed, which only an administrator can put on one; a person must also be an administrator still.
pub(super) fn read_metrics(view: &View, actor: &Actor, now: OffsetDateTime, _: &()) -> Result<(), Denied> {
    let standing = Standing::of(view, actor, now)?;
    if actor.token.is_some() {
        return match standing.who {
            Who::Person(user) if !user.admin => Err(standing.required(Required::Admin)),
            _ => standing.scope(Scope::MetricsRead),
        };
    }
    administer(view, actor, now, &())
}

pub(super) fn administer(view: &View, actor: &Actor, now: OffsetDateTime, _: &()) -> Result<(), Denied> {
    let standing = Standing::of(view, actor, now)?;
    if standing.is_admin() {
        return Ok(());
    }
    match standing.who {
        Who::Person(user) if user.admin => standing.scope(Scope::Admin),
        _ => Err(standing.required(Required::Admin)),
    }
}
