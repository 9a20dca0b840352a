//! Who is asking, what they want, and the value that proves they may.
//!
//! [`Grant<A>`] cannot be made outside this module: a function that takes a `&Grant<Produce>` cannot be called by somebody
//! who was not authorised to produce (invariant I5). Which right an action needs is in [`super::rights`].

use std::net::IpAddr;
use std::sync::Arc;

use time::OffsetDateTime;

use super::error::Denied;
use super::model::{Application, Scope, Team, Topic};
use super::rights;
use super::view::View;
use crate::names::{AppId, AppName, Email, TeamId, TeamName, TokenId, TopicName, UserId};

/// An authenticated principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A person, by session or personal token. `admin` is what was true at authentication; decisions look it up again.
    User { id: UserId, email: Email, admin: bool },
    /// An application, by its token.
    App { id: AppId, name: AppName, team: TeamId },
    /// The operator at the command line, and Weir itself.
    System,
}

/// The token a request came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUse {
    pub id: TokenId,
    pub name: String,
    pub scopes: Vec<Scope>,
    /// Patterns as in [`super::model::Token::topics`].
    pub topics: Vec<String>,
    pub expires_at: Option<OffsetDateTime>,
}

/// Who is asking, by which credential, from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    pub principal: Principal,
    /// `None` for a portal session.
    pub token: Option<Arc<TokenUse>>,
    pub address: Option<IpAddr>,
    pub request_id: Option<String>,
}

impl Actor {
    /// The operator at the command line, and Weir itself: may do everything, is called `system` in the audit.
    #[must_use]
    pub fn system() -> Arc<Self> {
        Arc::new(Self { principal: Principal::System, token: None, address: None, request_id: None })
    }

    /// What the audit calls the actor.
    #[must_use]
    pub fn label(&self) -> &str {
        match &self.principal {
            Principal::User { email, .. } => email.as_str(),
            Principal::App { name, .. } => name.as_str(),
            Principal::System => "system",
        }
    }

    /// The person's identifier, if it is a person.
    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        match &self.principal {
            Principal::User { id, .. } => Some(*id),
            Principal::App { .. } | Principal::System => None,
        }
    }

    /// The application's name, if it is one.
    #[must_use]
    pub fn app(&self) -> Option<&AppName> {
        match &self.principal {
            Principal::App { name, .. } => Some(name),
            Principal::User { .. } | Principal::System => None,
        }
    }
}

/// What a token proves: an [`Actor`] without the circumstances of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenActorParts {
    pub principal: Principal,
    pub token: Arc<TokenUse>,
}

mod sealed {
    pub trait Sealed {}
}

/// Something one may be allowed to do; the target names on what, the resource is what was found under the name.
pub trait Action: sealed::Sealed + Send + Sync + Sized + 'static {
    /// How the action is asked for.
    type Target: ?Sized;
    /// What the action is about.
    type Resource: Clone + Send + Sync;

    /// Decides. A pure function of the snapshot, the actor and the time.
    #[doc(hidden)]
    fn decide(view: &View, actor: &Actor, now: OffsetDateTime, target: &Self::Target)
    -> Result<Self::Resource, Denied>;
}

/// Makes the proof, or says why not.
pub(super) fn authorize<A: Action>(
    view: &View,
    actor: &Arc<Actor>,
    now: OffsetDateTime,
    target: &A::Target,
) -> Result<Grant<A>, Denied> {
    let resource = A::decide(view, actor, now, target)?;
    Ok(Grant { actor: Arc::clone(actor), resource })
}

macro_rules! action {
    ($(#[$doc:meta])* $name:ident($target:ty) on $resource:ty: $decide:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name;
        impl sealed::Sealed for $name {}
        impl Action for $name {
            type Target = $target;
            type Resource = $resource;

            fn decide(view: &View, actor: &Actor, now: OffsetDateTime, target: &$target) -> Result<$resource, Denied> {
                $decide(view, actor, now, target)
            }
        }
    };
}

/// A topic that is to be made or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicTarget {
    pub name: TopicName,
    /// The owner it is to have.
    pub app: AppName,
}

/// What [`PutTopic`] allows: to make the topic under the application, or to change the one that exists.
#[derive(Debug, Clone)]
pub struct TopicPut {
    pub name: TopicName,
    pub existing: Option<Arc<Topic>>,
    pub app: Arc<Application>,
}

/// An application that is to be made or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppTarget {
    pub name: AppName,
    /// The team it is to be of.
    pub team: TeamName,
}

/// What [`PutApp`] allows.
#[derive(Debug, Clone)]
pub struct AppPut {
    pub name: AppName,
    pub existing: Option<Arc<Application>>,
    pub team: Arc<Team>,
}

/// What [`PutTeam`] allows.
#[derive(Debug, Clone)]
pub struct TeamPut {
    pub name: TeamName,
    pub existing: Option<Arc<Team>>,
}

/// Which part of the audit may be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditSight {
    Everything,
    /// What these teams own, and what the person did.
    Person {
        user: UserId,
        teams: Vec<TeamId>,
    },
    /// What concerns the application.
    App(AppId),
}

action!(
    /// Append records to a topic.
    Produce(TopicName) on Arc<Topic>: rights::produce
);
action!(
    /// Read a topic's records.
    Consume(TopicName) on Arc<Topic>: rights::consume
);
action!(
    /// Delete, restore or purge a topic; the topic may be deleted.
    ManageTopic(TopicName) on Arc<Topic>: rights::manage_topic
);
action!(
    /// Give and take access to one topic.
    ShareTopic(TopicName) on Arc<Topic>: rights::share_topic
);
action!(
    /// Give and take access to prefixes of an application's topics.
    SharePrefix(AppName) on Arc<Application>: rights::share_prefix
);
action!(
    /// Make or change a topic.
    PutTopic(TopicTarget) on TopicPut: rights::put_topic
);
action!(
    /// Make or change an application.
    PutApp(AppTarget) on AppPut: rights::put_app
);
action!(
    /// Suspend, resume or delete an application.
    ManageApp(AppName) on Arc<Application>: rights::manage_app
);
action!(
    /// See, make, rotate and revoke an application's tokens.
    ManageAppTokens(AppName) on Arc<Application>: rights::manage_app_tokens
);
action!(
    /// Make a team or change its description.
    PutTeam(TeamName) on TeamPut: rights::put_team
);
action!(
    /// Invite, admit, promote and remove people.
    ManageTeam(TeamName) on Arc<Team>: rights::manage_team
);
action!(
    /// Ask to join a team, or leave it.
    JoinTeam(TeamName) on Arc<Team>: rights::join_team
);
action!(
    /// See, make, rotate and revoke one's personal tokens.
    OwnTokens(()) on UserId: rights::own_tokens
);
action!(
    /// Change one's password, see and end one's sessions. By a portal session only, never by token.
    OwnAccount(()) on UserId: rights::own_account
);
action!(
    /// Read the catalog, as far as it is visible to the actor.
    ReadCatalog(()) on (): rights::read_catalog
);
action!(
    /// Read the audit, as far as it concerns the actor.
    ReadAudit(()) on AuditSight: rights::read_audit
);
action!(
    /// Read the instance's metrics.
    ReadMetrics(()) on (): rights::read_metrics
);
action!(
    /// Administer the instance: accounts, and everything else.
    Administer(()) on (): rights::administer
);

/// Proof that the actor may do `A` on the resource, at the moment it was made.
#[derive(Debug, Clone)]
pub struct Grant<A: Action> {
    actor: Arc<Actor>,
    resource: A::Resource,
}

impl<A: Action> Grant<A> {
    /// Who was authorised.
    #[must_use]
    pub fn actor(&self) -> &Arc<Actor> {
        &self.actor
    }

    /// On what.
    #[must_use]
    pub fn resource(&self) -> &A::Resource {
        &self.resource
    }
}
