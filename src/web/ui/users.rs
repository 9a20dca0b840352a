//! People with accounts, for administrators.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};

use crate::catalog::access::Administer;
use crate::catalog::model::User;
use crate::names::{Email, UserId};
use crate::web::confirm::Confirm;
use crate::web::form::{Draft, Filters};
use crate::web::page::{Flash, Frame, PageError, PageResult, redirect, render, render_as, render_secret};
use crate::web::problem::{Code, Problem};
use crate::web::state::WebState;
use crate::web::visit::Visit;

const HERE: &str = "/admin/users";
/// Accounts on one page.
const USERS_PER_PAGE: usize = 50;

pub fn router() -> Router<WebState> {
    Router::new()
        .route(HERE, get(list))
        .route("/admin/users/new", get(new).post(create))
        .route("/admin/users/password", post(reset_password))
        .route("/admin/users/disable", post(disable))
        .route("/admin/users/enable", post(enable))
        .route("/admin/users/admin", post(set_admin))
}

#[derive(Template)]
#[template(path = "users/list.html")]
struct UsersPage {
    frame: Frame,
    me: UserId,
    filters: Filters,
    users: Vec<User>,
    next: Option<String>,
    first: String,
}

async fn list(State(state): State<WebState>, visit: Visit, filters: Filters) -> PageResult {
    let grant = visit.authorize::<Administer>(&state, &())?;
    let page = state.catalog.users(&grant, filters.0.text("q"), &filters.page(USERS_PER_PAGE)?).await?;
    let (next, first) = (filters.next(HERE, page.next.as_deref()), filters.first(HERE));
    render(&UsersPage { frame: visit.frame, me: visit.user.id, filters, users: page.items, next, first })
}

#[derive(Template)]
#[template(path = "users/form.html")]
struct UserForm {
    frame: Frame,
    form: Draft,
}

async fn new(State(state): State<WebState>, visit: Visit) -> PageResult {
    visit.authorize::<Administer>(&state, &())?;
    render(&UserForm { frame: visit.frame, form: Draft::new().focused("email") })
}

/// A password that was made up, shown once.
#[derive(Template)]
#[template(path = "users/password.html")]
struct PasswordPage {
    frame: Frame,
    email: Email,
    password: String,
    made: bool,
}

async fn create(State(state): State<WebState>, visit: Visit, mut form: Draft) -> PageResult {
    let grant = visit.authorize::<Administer>(&state, &())?;
    let (email, name) = (form.parse::<Email>("email"), form.needed("person_name"));
    let (Some(email), Some(name)) = (email, name) else {
        return render_as(StatusCode::UNPROCESSABLE_ENTITY, &UserForm { frame: visit.frame, form });
    };
    match state.catalog.create_user(&grant, &email, &name, form.has("admin", "yes"), None).await {
        Ok((_, Some(password))) => {
            let password = password.expose().to_owned();
            render_secret(&PasswordPage { frame: visit.frame, email, password, made: true })
        }
        Ok((_, None)) => redirect(HERE).say(Flash::ok(format!("{email} has an account."))).into(),
        Err(error) => {
            let status = form.take(error)?;
            render_as(status, &UserForm { frame: visit.frame, form })
        }
    }
}

async fn reset_password(State(state): State<WebState>, visit: Visit, mut form: Draft) -> PageResult {
    let grant = visit.authorize::<Administer>(&state, &())?;
    let email = form.parse::<Email>("email").ok_or_else(nobody)?;
    let confirm = Confirm {
        title: format!("Give {email} a new password?"),
        text: "The present password stops working and every browser of this person is signed out. You get the new password to pass on."
            .to_owned(),
        points: Vec::new(),
        button: "Make a new password",
        back: HERE.to_owned(),
        type_name: None,
    };
    if let Some(question) = confirm.ask(&visit.frame, &mut form) {
        return question;
    }
    let password = state.catalog.reset_password(&grant, &email, None).await?.ok_or_else(nobody)?;
    let password = password.expose().to_owned();
    render_secret(&PasswordPage { frame: visit.frame, email, password, made: false })
}

fn nobody() -> Problem {
    Problem::new(Code::ValidationFailed, "The form names nobody.")
}

fn user_of(form: &mut Draft) -> Result<UserId, PageError> {
    Ok(form.parse::<UserId>("user").ok_or_else(nobody)?)
}

fn refused(mut form: Draft, problem: Problem) -> PageResult {
    form.take(problem)?;
    redirect(HERE).say(Flash::warn(form.refusal().unwrap_or("That was refused.").to_owned())).into()
}

async fn disable(State(state): State<WebState>, visit: Visit, mut form: Draft) -> PageResult {
    let grant = visit.authorize::<Administer>(&state, &())?;
    let id = user_of(&mut form)?;
    let email = form.value("email").to_owned();
    let confirm = Confirm {
        title: format!("Disable the account of {email}?"),
        text: "The person is signed out everywhere and their personal tokens are refused. Teams and what they made stay. You can enable it again."
            .to_owned(),
        points: Vec::new(),
        button: "Disable",
        back: HERE.to_owned(),
        type_name: None,
    };
    if let Some(question) = confirm.ask(&visit.frame, &mut form) {
        return question;
    }
    match state.catalog.set_disabled(&grant, id, true).await {
        Ok(user) => redirect(HERE).say(Flash::ok(format!("{} is disabled.", user.email))).into(),
        Err(error) => refused(form, error.into()),
    }
}

async fn enable(State(state): State<WebState>, visit: Visit, mut form: Draft) -> PageResult {
    let grant = visit.authorize::<Administer>(&state, &())?;
    let id = user_of(&mut form)?;
    match state.catalog.set_disabled(&grant, id, false).await {
        Ok(user) => redirect(HERE).say(Flash::ok(format!("{} can sign in again.", user.email))).into(),
        Err(error) => refused(form, error.into()),
    }
}

async fn set_admin(State(state): State<WebState>, visit: Visit, mut form: Draft) -> PageResult {
    let grant = visit.authorize::<Administer>(&state, &())?;
    let (id, admin) = (user_of(&mut form)?, form.has("admin", "yes"));
    let email = form.value("email").to_owned();
    let confirm = Confirm {
        title: if admin {
            format!("Make {email} an administrator?")
        } else {
            format!("{email} no longer an administrator?")
        },
        text: if admin {
            "Administrators may change everything on this instance and read every record."
        } else {
            "The person keeps the account and the teams."
        }
        .to_owned(),
        points: Vec::new(),
        button: "Yes",
        back: HERE.to_owned(),
        type_name: None,
    };
    if let Some(question) = confirm.ask(&visit.frame, &mut form) {
        return question;
    }
    match state.catalog.set_admin(&grant, id, admin).await {
        Ok(user) if admin => redirect(HERE).say(Flash::ok(format!("{} administers this instance.", user.email))).into(),
        Ok(user) => redirect(HERE).say(Flash::ok(format!("{} is no longer an administrator.", user.email))).into(),
        Err(error) => refused(form, error.into()),
    }
}
