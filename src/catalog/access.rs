//! Who is asking, what they want, and the value that proves they may.
//!
//! [`Grant<A>`] cannot be made outside this module: a function that takes a `&Grant<Produce>` cannot be called by somebody
//! who was not authorised to produce (invariant I5).

use std::net::IpAddr;
use std::sync::Arc;

use time::OffsetDateTime;

use super::model::{Scope, Topic};
use crate::names::{AppId, AppName, Email, TeamId, TokenId, UserId};

/// An authenticated principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A person, by session or personal token.
    User { id: UserId, email: Email, admin: bool },
    /// An application, by its token.
    App { id: AppId, name: AppName, team: TeamId },
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
    pub token: Option<TokenUse>,
    pub address: Option<IpAddr>,
    pub request_id: Option<String>,
}

mod sealed {
    pub trait Sealed {}
}

/// Something one may be allowed to do; the resource says on what.
pub trait Action: sealed::Sealed + Send + Sync + 'static {
    /// What the action is about.
    type Resource: Clone + Send + Sync;
}

macro_rules! action {
    ($(#[$doc:meta])* $name:ident on $resource:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name;
        impl sealed::Sealed for $name {}
        impl Action for $name {
            type Resource = $resource;
        }
    };
}

action!(
    /// Append records to a topic.
    Produce on Arc<Topic>
);
action!(
    /// Read a topic's records.
    Consume on Arc<Topic>
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
