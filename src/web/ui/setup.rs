//! First run: the link that Weir prints makes the first administrator.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum_extra::extract::CookieJar;

use crate::catalog::error::ChangeError;
use crate::web::auth;
use crate::web::form::{Draft, Filters};
use crate::web::page::{Flash, Frame, PageResult, redirect, render_as};
use crate::web::paths;
use crate::web::security::RequestContext;
use crate::web::state::WebState;
use crate::web::visit::OriginOf;

pub fn router() -> Router<WebState> {
    Router::new().route(paths::SETUP, get(show).post(set_up))
}

#[derive(Template)]
#[template(path = "setup/page.html")]
struct SetupPage {
    frame: Frame,
    form: Draft,
    /// The link is the right one.
    valid: bool,
    /// There is an administrator already.
    done: bool,
}

async fn page(state: &WebState, frame: Frame, form: Draft, status: StatusCode) -> PageResult {
    let done = !state.catalog.setup_needed().await?;
    let valid = !done && state.catalog.setup_link_valid(form.value("token")).await?;
    let status = if valid { status } else { StatusCode::NOT_FOUND };
    render_as(status, &SetupPage { frame, form, valid, done })
}

async fn show(
    State(state): State<WebState>,
    frame: Frame,
    context: RequestContext,
    Filters(query): Filters,
) -> PageResult {
    auth::check_sign_in_transport(&context)?;
    let form = Draft::new().with("token", query.value("token")).focused("email");
    page(&state, frame, form, StatusCode::OK).await
}

async fn set_up(
    State(state): State<WebState>,
    frame: Frame,
    context: RequestContext,
    OriginOf(origin): OriginOf,
    mut form: Draft,
) -> PageResult {
    auth::check_sign_in_transport(&context)?;
    let (email, name) = (form.needed("email"), form.needed("person_name"));
    let password = Some(form.value("new_password").to_owned()).filter(|password| !password.is_empty());
    if password.is_none() {
        form.wrong("new_password", "This is needed.");
    }
    let (Some(email), Some(name), Some(password)) = (email, name, password) else {
        return page(&state, frame, form, StatusCode::UNPROCESSABLE_ENTITY).await;
    };
    match state.catalog.setup(form.value("token"), &email, &name, password, &origin).await {
        Ok(signed_in) => {
            let cookie = auth::session_cookie(signed_in.secret.expose(), &context);
            let welcome = redirect("/start").say(Flash::ok(format!("Welcome, {name}. You administer this instance.")));
            Ok((CookieJar::new().add(cookie), welcome).into_response())
        }
        Err(ChangeError::NotFound { .. }) => page(&state, frame, form, StatusCode::NOT_FOUND).await,
        Err(ChangeError::Invalid { pointer, detail }) => {
            form.wrong(field_of(&pointer), detail);
            page(&state, frame, form, StatusCode::UNPROCESSABLE_ENTITY).await
        }
        Err(error) => {
            let status = form.take(error)?;
            page(&state, frame, form, status).await
        }
    }
}

/// The form's name for what the catalog calls `/password` or `/name`.
fn field_of(pointer: &str) -> &'static str {
    match pointer.trim_start_matches('/') {
        "password" => "new_password",
        "name" => "person_name",
        _ => "email",
    }
}
