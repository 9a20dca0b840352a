//! The person's own account: looks, password, sessions.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum_extra::extract::CookieJar;

use crate::catalog::access::OwnAccount;
use crate::catalog::error::ChangeError;
use crate::catalog::model::{Session, User};
use crate::names::SessionId;
use crate::web::auth;
use crate::web::form::Draft;
use crate::web::page::{Flash, Frame, PageResult, Theme, Zone, redirect, render_as};
use crate::web::problem::{Code, Problem};
use crate::web::security::RequestContext;
use crate::web::state::WebState;
use crate::web::visit::Visit;

pub fn router() -> Router<WebState> {
    Router::new()
        .route("/account", get(show))
        .route("/account/password", post(change_password))
        .route("/account/sessions/end", post(end_session))
        .route("/account/sessions/end-others", post(end_others))
}

#[derive(Template)]
#[template(path = "account/page.html")]
struct AccountPage {
    frame: Frame,
    user: std::sync::Arc<User>,
    current: SessionId,
    sessions: Vec<Session>,
    form: Draft,
}

async fn page(state: &WebState, visit: Visit, form: Draft, status: StatusCode) -> PageResult {
    let grant = visit.authorize::<OwnAccount>(state, &())?;
    let sessions = state.catalog.sessions(&grant).await?;
    let (user, current) = (visit.user, visit.session.id);
    render_as(status, &AccountPage { frame: visit.frame, user, current, sessions, form })
}

async fn show(State(state): State<WebState>, visit: Visit) -> PageResult {
    page(&state, visit, Draft::new(), StatusCode::OK).await
}

async fn change_password(
    State(state): State<WebState>,
    visit: Visit,
    context: RequestContext,
    mut form: Draft,
) -> PageResult {
    let (present, new) = (form.value("password").to_owned(), form.value("new_password").to_owned());
    for (field, value) in [("password", &present), ("new_password", &new)] {
        if value.is_empty() {
            form.wrong(field, "This is needed.");
        }
    }
    if !form.sound() {
        return page(&state, visit, form, StatusCode::UNPROCESSABLE_ENTITY).await;
    }
    let grant = visit.authorize::<OwnAccount>(&state, &())?;
    match state.catalog.change_password(&grant, present, new, &visit.origin).await {
        Ok(signed_in) => {
            let jar = CookieJar::new().add(auth::session_cookie(signed_in.secret.expose(), &context));
            let said = Flash::ok("Your password is changed. Other browsers are signed out.");
            Ok((jar, redirect("/account").say(said)).into_response())
        }
        Err(ChangeError::Invalid { pointer, detail }) => {
            form.wrong(if pointer.contains("present") { "password" } else { "new_password" }, detail);
            page(&state, visit, form, StatusCode::UNPROCESSABLE_ENTITY).await
        }
        Err(error) => {
            let status = form.take(error)?;
            page(&state, visit, form, status).await
        }
    }
}

async fn end_session(State(state): State<WebState>, visit: Visit, mut form: Draft) -> PageResult {
    let missing = || Problem::new(Code::ValidationFailed, "The form names no session.");
    let id = form.parse::<SessionId>("session").ok_or_else(missing)?;
    let grant = visit.authorize::<OwnAccount>(&state, &())?;
    state.catalog.end_session(&grant, id).await?;
    redirect("/account").say(Flash::ok("That browser is signed out.")).into()
}

async fn end_others(State(state): State<WebState>, visit: Visit) -> PageResult {
    let grant = visit.authorize::<OwnAccount>(&state, &())?;
    let ended = state.catalog.sign_out_everywhere(&grant, Some(visit.session.id)).await?;
    let said = match ended {
        0 => "No other browser was signed in.".to_owned(),
        1 => "One other browser is signed out.".to_owned(),
        n => format!("{n} other browsers are signed out."),
    };
    redirect("/account").say(Flash::ok(said)).into()
}
