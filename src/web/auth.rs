//! Who is asking: tokens in `Authorization`, a session cookie from the portal. If both arrive, the header wins.

use std::sync::Arc;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::extract::bad_header;
use super::paths;
use super::problem::{Code, Problem};
use super::security::RequestContext;
use super::state::WebState;
use crate::catalog::access::{Actor, Principal};
use crate::catalog::model::{Secret, Session, User};
use crate::gateway::SessionUse;

/// Longest credential that is looked at, in bytes.
const CREDENTIAL_BYTES_MAX: usize = 1024;

/// An authenticated caller, by token or by session. Refuses with 401.
#[derive(Debug, Clone)]
pub struct Caller(pub Arc<Actor>);

/// A caller if there is one; a wrong credential is refused all the same.
#[derive(Debug, Clone)]
pub struct MaybeCaller(pub Option<Arc<Actor>>);

/// A signed-in person at the portal. Others are sent to the sign-in page and come back afterwards.
#[derive(Debug, Clone)]
pub struct Person {
    pub actor: Arc<Actor>,
    pub user: Arc<User>,
    pub session: Session,
    /// What the cookie holds.
    pub secret: Secret,
}

impl Person {
    /// The session, for what is to end with it.
    #[must_use]
    pub fn session_use(&self) -> SessionUse {
        SessionUse { until: self.session.expires_at, secret: self.secret.clone() }
    }
}

impl FromRequestParts<WebState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Problem> {
        let MaybeCaller(actor) = MaybeCaller::from_request_parts(parts, state).await?;
        actor.map(Self).ok_or_else(|| unauthenticated("The request has no credential."))
    }
}

impl FromRequestParts<WebState> for MaybeCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Problem> {
        let context = <RequestContext as FromRequestParts<WebState>>::from_request_parts(parts, state).await?;
        if let Some(secret) = presented_token(&parts.headers)? {
            let found = state.catalog.authenticate_token(&secret, context.address)?;
            let actor = actor(found.principal, Some(found.token), &context);
            return Ok(Self(Some(Arc::new(actor))));
        }
        let person = session_of(parts, state, &context).await?;
        Ok(Self(person.map(|person| person.actor)))
    }
}

impl FromRequestParts<WebState> for Person {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Response> {
        <Self as OptionalFromRequestParts<WebState>>::from_request_parts(parts, state)
            .await
            .map_err(IntoResponse::into_response)?
            .ok_or_else(|| to_sign_in(parts))
    }
}

impl OptionalFromRequestParts<WebState> for Person {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Option<Self>, Problem> {
        let context = <RequestContext as FromRequestParts<WebState>>::from_request_parts(parts, state).await?;
        session_of(parts, state, &context).await
    }
}

fn actor(
    principal: Principal,
    token: Option<Arc<crate::catalog::access::TokenUse>>,
    context: &RequestContext,
) -> Actor {
    Actor { principal, token, address: context.address, request_id: Some(context.id.to_string()) }
}

async fn session_of(parts: &Parts, state: &WebState, context: &RequestContext) -> Result<Option<Person>, Problem> {
    let jar = CookieJar::from_headers(&parts.headers);
    let Some(cookie) = jar.get(session_cookie_name(context.https)) else { return Ok(None) };
    if cookie.value().len() > CREDENTIAL_BYTES_MAX {
        return Ok(None);
    }
    let Some((session, user)) = state.catalog.session(cookie.value()).await? else { return Ok(None) };
    let principal = Principal::User { id: user.id, email: user.email.clone(), admin: user.admin };
    let secret = Secret::new(cookie.value().to_owned());
    Ok(Some(Person { actor: Arc::new(actor(principal, None, context)), user, session, secret }))
}

/// The sign-in page, with the way back; htmx is told by its own header, since it would follow a redirect silently.
fn to_sign_in(parts: &Parts) -> Response {
    let here = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let htmx = parts.headers.contains_key("hx-request");
    let target = if parts.method == Method::GET && !htmx && here != "/" {
        format!("{}?next={}", paths::SIGN_IN, encode_query(here))
    } else {
        paths::SIGN_IN.to_owned()
    };
    match (htmx, HeaderValue::try_from(&target)) {
        (true, Ok(target)) => (StatusCode::OK, [("hx-redirect", target)]).into_response(),
        _ => Redirect::to(&target).into_response(),
    }
}

/// Percent-encodes a value for a query string.
#[must_use]
pub fn encode_query(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// A 401 that says how to authenticate.
#[must_use]
pub fn unauthenticated(detail: &str) -> Problem {
    Problem::new(Code::Unauthenticated, detail)
        .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"weir\""))
        .hint("curl -H \"Authorization: Bearer $T\" …; make a token on your account page, /account/tokens")
}

/// The token of `Authorization: Bearer TOKEN` or `Authorization: Basic base64(anything:TOKEN)`.
fn presented_token(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad_header(&header::AUTHORIZATION, "may be sent once only"));
    }
    let takes = || bad_header(&header::AUTHORIZATION, "takes `Bearer TOKEN`, or `Basic` with the token as password");
    let text = value.to_str().map_err(|_| takes())?;
    if text.len() > CREDENTIAL_BYTES_MAX {
        return Err(takes());
    }
    let (scheme, credential) = text.trim().split_once(' ').ok_or_else(takes)?;
    let credential = credential.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Some(credential.to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(takes());
    }
    let decoded = STANDARD.decode(credential).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(takes)?;
    let (_, password) = decoded.split_once(':').ok_or_else(takes)?;
    Ok(Some(password.to_owned()))
}

/// Name of the session cookie. The `__Host-` prefix makes browsers refuse it from other hosts and over plain HTTP.
#[must_use]
pub fn session_cookie_name(https: bool) -> &'static str {
    if https { "__Host-weir_session" } else { "weir_session" }
}

/// Whether a password or session may travel on this connection (decision 15).
pub fn check_sign_in_transport(context: &RequestContext) -> Result<(), Problem> {
    if context.https || context.loopback() {
        return Ok(());
    }
    Err(Problem::new(Code::Forbidden, "Signing in over plain HTTP from another machine would show your password to the network.")
        .hint("Start Weir with --tls-cert and --tls-key (or --dev-tls), or put a proxy with HTTPS before it and name it in trusted_proxies."))
}

/// The cookie that carries a session.
#[must_use]
pub fn session_cookie(secret: &str, context: &RequestContext) -> Cookie<'static> {
    Cookie::build((session_cookie_name(context.https), secret.to_owned()))
        .path("/")
        .http_only(true)
        .secure(context.https)
        .same_site(SameSite::Lax)
        .build()
}

/// The cookie that ends a session in the browser.
#[must_use]
pub fn session_cookie_removal(context: &RequestContext) -> Cookie<'static> {
    let mut cookie = session_cookie("", context);
    cookie.make_removal();
    cookie
}

/// The secret of the session cookie, for signing out.
#[must_use]
pub fn session_secret(headers: &HeaderMap, context: &RequestContext) -> Option<String> {
    CookieJar::from_headers(headers).get(session_cookie_name(context.https)).map(|cookie| cookie.value().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(value: &'static str) -> Result<Option<String>, Code> {
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]);
        presented_token(&headers).map_err(|problem| problem.code)
    }

    #[test]
    fn tokens_come_as_bearer_or_as_the_password_of_basic() {
        assert_eq!(token("Bearer weir_app_x"), Ok(Some("weir_app_x".to_owned())));
        assert_eq!(token("bearer  weir_app_x "), Ok(Some("weir_app_x".to_owned())));
        assert_eq!(token("Basic dXNlcjp3ZWlyX2FwcF94"), Ok(Some("weir_app_x".to_owned())));
        for bad in ["weir_app_x", "Digest a=b", "Basic ???", "Basic dXNlcg==", "Bearer"] {
            assert_eq!(token(bad), Err(Code::InvalidHeader), "{bad}");
        }
    }

    #[test]
    fn a_second_authorization_header_is_refused() {
        let mut headers = HeaderMap::new();
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert_eq!(presented_token(&headers).unwrap_err().code, Code::InvalidHeader);
    }

    #[test]
    fn the_way_back_is_encoded() {
        assert_eq!(encode_query("/topics?q=a b&x=é"), "/topics%3Fq%3Da%20b%26x%3D%C3%A9");
    }
}
