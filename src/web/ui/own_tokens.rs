//! Personal tokens: for the command line and scripts of one person.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};

use crate::catalog::access::OwnTokens;
use crate::catalog::model::{Scope, Token};
use crate::names::TokenId;
use crate::web::confirm::Confirm;
use crate::web::extract::Path;
use crate::web::form::Draft;
use crate::web::page::{Flash, Frame, PageError, PageResult, redirect, render_as, render_secret};
use crate::web::problem::{Code, Problem};
use crate::web::state::WebState;
use crate::web::token_form::{self, TokenState};
use crate::web::visit::Visit;

const HERE: &str = "/account/tokens";

pub fn router() -> Router<WebState> {
    Router::new()
        .route(HERE, get(show).post(create))
        .route("/account/tokens/{token}/rotate", post(rotate))
        .route("/account/tokens/{token}/revoke", post(revoke))
}

#[derive(Template)]
#[template(path = "account/tokens.html")]
struct TokensPage {
    frame: Frame,
    tokens: Vec<Token>,
    form: Draft,
    scopes: Vec<(Scope, &'static str)>,
}

impl TokensPage {
    fn state(&self, token: &Token) -> TokenState {
        token_form::state(token, self.frame.now)
    }

    fn action(&self) -> &'static str {
        HERE
    }
}

async fn page(state: &WebState, visit: Visit, form: Draft, status: StatusCode) -> PageResult {
    let grant = visit.authorize::<OwnTokens>(state, &())?;
    let tokens = state.catalog.tokens_of_user(&grant).await?;
    let offered = |(scope, _): &(Scope, &str)| *scope != Scope::Admin || visit.user.admin;
    let scopes = token_form::OWN_SCOPES.iter().copied().filter(offered).collect();
    render_as(status, &TokensPage { frame: visit.frame, tokens, form, scopes })
}

async fn show(State(state): State<WebState>, visit: Visit) -> PageResult {
    page(&state, visit, token_form::empty().with("scope", Scope::CatalogRead.as_str()), StatusCode::OK).await
}

#[derive(Template)]
#[template(path = "account/token_made.html")]
struct MadePage {
    frame: Frame,
    token: Token,
    secret: String,
    commands: Vec<(&'static str, String)>,
    old_ends: Option<String>,
}

fn made(visit: Visit, token: Token, secret: &str, old_ends: Option<String>) -> PageResult {
    let commands = token_form::commands(&token, secret, &visit.frame.base_url, "TOPIC");
    render_secret(&MadePage { frame: visit.frame, token, secret: secret.to_owned(), commands, old_ends })
}

async fn create(State(state): State<WebState>, visit: Visit, mut form: Draft) -> PageResult {
    let grant = visit.authorize::<OwnTokens>(&state, &())?;
    let Some(spec) = token_form::spec(&mut form, visit.frame.now) else {
        return page(&state, visit, form, StatusCode::UNPROCESSABLE_ENTITY).await;
    };
    let mut tx = state.catalog.begin(&visit.actor).await?;
    let (token, secret) = match tx.create_own_token(&grant, &spec).await {
        Ok(made) => made,
        Err(error) => {
            let status = form.take(error)?;
            return page(&state, visit, form, status).await;
        }
    };
    tx.commit().await?;
    made(visit, token, secret.expose(), None)
}

async fn token_of(state: &WebState, visit: &Visit, id: TokenId) -> Result<Token, PageError> {
    let grant = visit.authorize::<OwnTokens>(state, &())?;
    let found = state.catalog.tokens_of_user(&grant).await?.into_iter().find(|token| token.id == id);
    Ok(found.ok_or_else(|| Problem::new(Code::NotFound, "You have no such token."))?)
}

async fn rotate(State(state): State<WebState>, visit: Visit, Path(id): Path<TokenId>, form: Draft) -> PageResult {
    let old = token_of(&state, &visit, id).await?;
    let grant = visit.authorize::<OwnTokens>(&state, &())?;
    let overlap = token_form::overlap(&form);
    let mut tx = state.catalog.begin(&visit.actor).await?;
    let (token, secret) = tx.rotate_own_token(&grant, id, overlap).await?;
    tx.commit().await?;
    made(visit, token, secret.expose(), Some(token_form::ends_in(&old, overlap)))
}

async fn revoke(State(state): State<WebState>, visit: Visit, Path(id): Path<TokenId>, mut form: Draft) -> PageResult {
    let token = token_of(&state, &visit, id).await?;
    let confirm = Confirm {
        title: format!("Revoke your token “{}”?", token.name),
        text: "Requests with it are refused at once and its open streams end within a second. It cannot be taken back."
            .to_owned(),
        points: token_form::last_use(&token, &visit.frame),
        button: "Revoke",
        back: HERE.to_owned(),
        type_name: None,
    };
    if let Some(question) = confirm.ask(&visit.frame, &mut form) {
        return question;
    }
    let grant = visit.authorize::<OwnTokens>(&state, &())?;
    let mut tx = state.catalog.begin(&visit.actor).await?;
    tx.revoke_own_token(&grant, id).await?;
    tx.commit().await?;
    redirect(HERE).say(Flash::ok(format!("The token “{}” no longer works.", token.name))).into()
}
