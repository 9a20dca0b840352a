//! Who looks at a page: the signed-in person together with the frame around the page.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use super::auth::Person;
use super::page::{Frame, FramePerson};
use super::problem::Problem;
use super::security::RequestContext;
use super::state::WebState;
use crate::catalog::Origin;
use crate::catalog::access::{Action, Actor, Grant, ReadCatalog};
use crate::catalog::error::Denied;
use crate::catalog::model::{Session, User};
use crate::gateway::SessionUse;

/// Characters of a `User-Agent` that are kept with a session.
const USER_AGENT_CHARS_MAX: usize = 300;

/// A signed-in person's look at a page. Others are sent to the sign-in page and come back afterwards.
#[derive(Debug, Clone)]
pub struct Visit {
    pub actor: Arc<Actor>,
    pub user: Arc<User>,
    pub session: Session,
    /// The session, for what is to end with it.
    pub session_use: SessionUse,
    pub frame: Frame,
    pub origin: Origin,
}

impl Visit {
    /// Proof that the person may do `A`.
    ///
    /// # Errors
    /// Why not.
    pub fn authorize<A: Action>(&self, state: &WebState, target: &A::Target) -> Result<Grant<A>, Denied> {
        state.catalog.authorize::<A>(&self.actor, target)
    }

    /// Whether the person may do `A`: decides which buttons a page shows, never what a handler does.
    #[must_use]
    pub fn may<A: Action>(&self, state: &WebState, target: &A::Target) -> bool {
        self.authorize::<A>(state, target).is_ok()
    }

    /// Proof that the person may look around.
    ///
    /// # Errors
    /// The account has been disabled in the meantime.
    pub fn reading(&self, state: &WebState) -> Result<Grant<ReadCatalog>, Denied> {
        self.authorize(state, &())
    }
}

impl FromRequestParts<WebState> for Visit {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Response> {
        let person = <Person as FromRequestParts<WebState>>::from_request_parts(parts, state).await?;
        let session_use = person.session_use();
        let Person { actor, user, session, .. } = person;
        let mut frame = Frame::from_request_parts(parts, state).await.map_err(IntoResponse::into_response)?;
        frame.person = Some(FramePerson { email: user.email.to_string(), name: user.name.clone(), admin: user.admin });
        let OriginOf(origin) = OriginOf::from_request_parts(parts, state).await.map_err(IntoResponse::into_response)?;
        Ok(Self { actor, user, session, session_use, frame, origin })
    }
}

/// Where a request came from, for sessions and the audit.
#[derive(Debug, Clone)]
pub struct OriginOf(pub Origin);

impl FromRequestParts<WebState> for OriginOf {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Problem> {
        let context = <RequestContext as FromRequestParts<WebState>>::from_request_parts(parts, state).await?;
        let agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        Ok(Self(Origin {
            address: context.address,
            user_agent: agent.map(|text| text.chars().take(USER_AGENT_CHARS_MAX).collect()),
            request_id: Some(context.id.to_string()),
        }))
    }
}

/// The frame of a page for strangers; [`Visit`] fills in the person.
impl FromRequestParts<WebState> for Frame {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Problem> {
        let context = <RequestContext as FromRequestParts<WebState>>::from_request_parts(parts, state).await?;
        let mut frame = Self::of(&parts.headers, &parts.uri, state.clock.now_datetime());
        frame.nonce = context.nonce.to_string();
        frame.base_url = match &state.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => address(parts, context.https),
        };
        Ok(frame)
    }
}

/// How the browser reached us; it is shown to that browser only.
fn address(parts: &Parts, https: bool) -> String {
    let named = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let host = parts.uri.authority().map(ToString::to_string).or(named);
    let plain = |host: &String| {
        host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'))
    };
    let host = host.filter(plain).unwrap_or_else(|| "localhost".to_owned());
    format!("{}://{host}", if https { "https" } else { "http" })
}
