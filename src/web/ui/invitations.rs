//! An invitation's link: join the team with one's account, or by making one.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum_extra::extract::CookieJar;

use crate::catalog::error::ChangeError;
use crate::catalog::model::{Invitation, TeamRole};
use crate::web::auth::{self, Person, encode_query};
use crate::web::extract::Path;
use crate::web::form::Draft;
use crate::web::page::{Flash, Frame, PageResult, redirect, render_as};
use crate::web::security::RequestContext;
use crate::web::state::WebState;
use crate::web::visit::OriginOf;

pub fn router() -> Router<WebState> {
    Router::new().route("/invitations/{secret}", get(show).post(accept))
}

#[derive(Template)]
#[template(path = "invitations/page.html")]
struct InvitationPage {
    frame: Frame,
    form: Draft,
    /// `None`: unknown, used or ended.
    invitation: Option<Invitation>,
    /// The address of who is signed in.
    signed_in: Option<String>,
    sign_in: String,
}

impl InvitationPage {
    fn mine(&self, invitation: &Invitation) -> bool {
        self.signed_in.as_deref() == Some(invitation.email.as_str())
    }
}

async fn page(
    state: &WebState,
    frame: Frame,
    person: Option<&Person>,
    secret: &str,
    form: Draft,
    status: StatusCode,
) -> PageResult {
    let invitation = state.catalog.invitation(secret).await?;
    let status = if invitation.is_some() { status } else { StatusCode::NOT_FOUND };
    let signed_in = person.map(|person| person.user.email.to_string());
    let sign_in = format!("/sign-in?next={}", encode_query(&frame.path));
    render_as(status, &InvitationPage { frame, form, invitation, signed_in, sign_in })
}

async fn show(
    State(state): State<WebState>,
    frame: Frame,
    person: Option<Person>,
    Path(secret): Path<String>,
) -> PageResult {
    page(&state, frame, person.as_ref(), &secret, Draft::new().focused("person_name"), StatusCode::OK).await
}

async fn accept(
    State(state): State<WebState>,
    frame: Frame,
    person: Option<Person>,
    context: RequestContext,
    OriginOf(origin): OriginOf,
    Path(secret): Path<String>,
    mut form: Draft,
) -> PageResult {
    if let Some(person) = &person {
        return match state.catalog.accept_invitation(&person.actor, &secret).await {
            Ok(team) => redirect(format!("/teams/{team}")).say(Flash::ok(format!("You are now in {team}."))).into(),
            Err(ChangeError::NotFound { .. }) => {
                page(&state, frame, Some(person), &secret, form, StatusCode::NOT_FOUND).await
            }
            Err(error) => {
                let status = form.take(error)?;
                page(&state, frame, Some(person), &secret, form, status).await
            }
        };
    }
    auth::check_sign_in_transport(&context)?;
    let name = form.needed("person_name");
    let password = Some(form.value("new_password").to_owned()).filter(|password| !password.is_empty());
    if password.is_none() {
        form.wrong("new_password", "This is needed.");
    }
    let (Some(name), Some(password)) = (name, password) else {
        return page(&state, frame, None, &secret, form, StatusCode::UNPROCESSABLE_ENTITY).await;
    };
    match state.catalog.register_by_invitation(&secret, &name, password, &origin).await {
        Ok(signed_in) => {
            let cookie = auth::session_cookie(signed_in.secret.expose(), &context);
            let welcome = redirect("/").say(Flash::ok(format!("Welcome to Weir, {name}.")));
            Ok((CookieJar::new().add(cookie), welcome).into_response())
        }
        Err(ChangeError::NotFound { .. }) => page(&state, frame, None, &secret, form, StatusCode::NOT_FOUND).await,
        Err(ChangeError::Invalid { pointer, detail }) => {
            form.wrong(if pointer.ends_with("password") { "new_password" } else { "person_name" }, detail);
            page(&state, frame, None, &secret, form, StatusCode::UNPROCESSABLE_ENTITY).await
        }
        Err(error) => {
            let status = form.take(error)?;
            page(&state, frame, None, &secret, form, status).await
        }
    }
}
