//! Signing in and out.

use askama::Template;
use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum_extra::extract::CookieJar;
use serde::Deserialize;

use crate::catalog::error::SignInError;
use crate::web::auth::{self, Person};
use crate::web::extract::Query;
use crate::web::form::Draft;
use crate::web::page::{Flash, Frame, PageResult, redirect, render_as};
use crate::web::paths::{self, safe_next};
use crate::web::security::RequestContext;
use crate::web::state::WebState;
use crate::web::visit::OriginOf;

use axum::extract::State;

pub fn router() -> Router<WebState> {
    Router::new().route(paths::SIGN_IN, get(show).post(sign_in)).route("/sign-out", post(sign_out))
}

#[derive(Template)]
#[template(path = "sign_in/page.html")]
struct SignInPage {
    frame: Frame,
    form: Draft,
    next: String,
    /// Why a password must not be typed here.
    refused: Option<String>,
    /// Nobody can sign in yet: the set-up link comes first.
    setup_needed: bool,
}

#[derive(Debug, Deserialize)]
struct Next {
    next: Option<String>,
}

async fn show(
    State(state): State<WebState>,
    frame: Frame,
    person: Option<Person>,
    context: RequestContext,
    Query(Next { next }): Query<Next>,
) -> PageResult {
    let next = safe_next(next.as_deref());
    if person.is_some() {
        return redirect(next).into();
    }
    let setup_needed = state.catalog.setup_needed().await?;
    let form = Draft::new().focused("email");
    page(StatusCode::OK, frame, form, next, &context, setup_needed)
}

fn page(
    status: StatusCode,
    frame: Frame,
    form: Draft,
    next: &str,
    context: &RequestContext,
    setup_needed: bool,
) -> PageResult {
    let refused = auth::check_sign_in_transport(context).err();
    let refused =
        refused.map(|problem| [Some(problem.detail), problem.hint].into_iter().flatten().collect::<Vec<_>>().join(" "));
    render_as(status, &SignInPage { frame, form, next: next.to_owned(), refused, setup_needed })
}

async fn sign_in(
    State(state): State<WebState>,
    frame: Frame,
    context: RequestContext,
    OriginOf(origin): OriginOf,
    mut form: Draft,
) -> PageResult {
    auth::check_sign_in_transport(&context)?;
    let next = safe_next(form.text("next")).to_owned();
    let (email, password) = (form.needed("email"), form.needed("password"));
    let (Some(email), Some(password)) = (email, password) else {
        return page(StatusCode::UNPROCESSABLE_ENTITY, frame, form, &next, &context, false);
    };
    let status = match state.catalog.sign_in(&email, password, &origin).await {
        Ok(signed_in) => {
            let cookie = auth::session_cookie(signed_in.secret.expose(), &context);
            return Ok((CookieJar::new().add(cookie), redirect(next)).into_response());
        }
        Err(SignInError::Wrong) => {
            form.refuse("The e-mail address or the password is wrong.");
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Err(SignInError::Disabled) => {
            form.refuse("This account is disabled. An administrator can enable it again.");
            StatusCode::FORBIDDEN
        }
        Err(SignInError::Throttled { retry_after }) => {
            form.refuse(format!("Too many attempts. Try again in {} seconds.", retry_after.as_secs().max(1)));
            StatusCode::TOO_MANY_REQUESTS
        }
        Err(SignInError::Catalog(error)) => return Err(error.into()),
    };
    page(status, frame, form.focused("password"), &next, &context, false)
}

async fn sign_out(State(state): State<WebState>, context: RequestContext, headers: HeaderMap) -> PageResult {
    if let Some(secret) = auth::session_secret(&headers, &context) {
        state.catalog.sign_out(&secret).await?;
    }
    let jar = CookieJar::new().add(auth::session_cookie_removal(&context));
    Ok((jar, redirect(paths::SIGN_IN).say(Flash::ok("You are signed out."))).into_response())
}
