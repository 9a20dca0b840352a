//! An application's credentials: making a token that is shown once, rotating it, ending it.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};

use crate::catalog::TopicQuery;
use crate::catalog::access::ManageAppTokens;
use crate::catalog::model::{Application, Scope, Token};
use crate::catalog::page::PageRequest;
use crate::names::{AppName, TokenId};
use crate::web::confirm::Confirm;
use crate::web::extract::Path;
use crate::web::form::Draft;
use crate::web::page::{Flash, Frame, PageError, PageResult, redirect, render_as, render_secret};
use crate::web::problem::{Code, Problem};
use crate::web::state::WebState;
use crate::web::token_form::{self, TokenState};
use crate::web::visit::Visit;

pub fn router() -> Router<WebState> {
    Router::new()
        .route("/apps/{app}/tokens", get(show).post(create))
        .route("/apps/{app}/tokens/{token}/rotate", post(rotate))
        .route("/apps/{app}/tokens/{token}/revoke", post(revoke))
}

/// What the tabs need.
struct Head {
    app: Arc<Application>,
    tab: &'static str,
    manages: bool,
    tokens: bool,
}

#[derive(Template)]
#[template(path = "apps/tokens.html")]
struct TokensPage {
    frame: Frame,
    head: Head,
    tokens: Vec<Token>,
    form: Draft,
    scopes: &'static [(Scope, &'static str)],
}

impl TokensPage {
    fn state(&self, token: &Token) -> TokenState {
        token_form::state(token, self.frame.now)
    }

    fn action(&self) -> String {
        format!("/apps/{}/tokens", self.head.app.name)
    }
}

async fn page(state: &WebState, visit: Visit, name: &AppName, form: Draft, status: StatusCode) -> PageResult {
    let grant = visit.authorize::<ManageAppTokens>(state, name)?;
    let tokens = state.catalog.tokens_of_app(&grant).await?;
    let head = Head { app: Arc::clone(grant.resource()), tab: "tokens", manages: true, tokens: true };
    render_as(status, &TokensPage { frame: visit.frame, head, tokens, form, scopes: token_form::APP_SCOPES })
}

async fn show(State(state): State<WebState>, visit: Visit, Path(name): Path<AppName>) -> PageResult {
    page(&state, visit, &name, token_form::empty(), StatusCode::OK).await
}

#[derive(Template)]
#[template(path = "apps/token_made.html")]
struct MadePage {
    frame: Frame,
    app: AppName,
    token: Token,
    secret: String,
    commands: Vec<(&'static str, String)>,
    /// When the token before this one ends.
    old_ends: Option<String>,
}

async fn create(State(state): State<WebState>, visit: Visit, Path(name): Path<AppName>, mut form: Draft) -> PageResult {
    let grant = visit.authorize::<ManageAppTokens>(&state, &name)?;
    let Some(spec) = token_form::spec(&mut form, visit.frame.now) else {
        return page(&state, visit, &name, form, StatusCode::UNPROCESSABLE_ENTITY).await;
    };
    let mut tx = state.catalog.begin(&visit.actor).await?;
    let (token, secret) = match tx.create_app_token(&grant, &spec).await {
        Ok(made) => made,
        Err(error) => {
            let status = form.take(error)?;
            return page(&state, visit, &name, form, status).await;
        }
    };
    tx.commit().await?;
    made(&state, visit, name, token, secret.expose(), None)
}

fn made(
    state: &WebState,
    visit: Visit,
    app: AppName,
    token: Token,
    secret: &str,
    old_ends: Option<String>,
) -> PageResult {
    let query = TopicQuery { app: Some(app.clone()), ..TopicQuery::default() };
    let own = state.catalog.topics(&visit.reading(state)?, &query, &PageRequest::first(1)).items;
    let topic = own.first().map_or("TOPIC", |topic| topic.name.as_str());
    let commands = token_form::commands(&token, secret, &visit.frame.base_url, topic);
    render_secret(&MadePage { frame: visit.frame, app, token, secret: secret.to_owned(), commands, old_ends })
}

async fn token_of(state: &WebState, visit: &Visit, name: &AppName, id: TokenId) -> Result<Token, PageError> {
    let grant = visit.authorize::<ManageAppTokens>(state, name)?;
    let found = state.catalog.tokens_of_app(&grant).await?.into_iter().find(|token| token.id == id);
    Ok(found.ok_or_else(|| Problem::new(Code::NotFound, format!("{name} has no such token.")))?)
}

async fn rotate(
    State(state): State<WebState>,
    visit: Visit,
    Path((name, id)): Path<(AppName, TokenId)>,
    form: Draft,
) -> PageResult {
    let old = token_of(&state, &visit, &name, id).await?;
    let grant = visit.authorize::<ManageAppTokens>(&state, &name)?;
    let overlap = token_form::overlap(&form);
    let mut tx = state.catalog.begin(&visit.actor).await?;
    let (token, secret) = tx.rotate_app_token(&grant, id, overlap).await?;
    tx.commit().await?;
    let ends = token_form::ends_in(&old, overlap);
    made(&state, visit, name, token, secret.expose(), Some(ends))
}

async fn revoke(
    State(state): State<WebState>,
    visit: Visit,
    Path((name, id)): Path<(AppName, TokenId)>,
    mut form: Draft,
) -> PageResult {
    let grant = visit.authorize::<ManageAppTokens>(&state, &name)?;
    let token = token_of(&state, &visit, &name, id).await?;
    let confirm = Confirm {
        title: format!("Revoke the token “{}”?", token.name),
        text: "Requests with it are refused at once and its open streams end within a second. It cannot be taken back."
            .to_owned(),
        points: token_form::last_use(&token, &visit.frame),
        button: "Revoke",
        back: format!("/apps/{name}/tokens"),
        type_name: None,
    };
    if let Some(question) = confirm.ask(&visit.frame, &mut form) {
        return question;
    }
    let mut tx = state.catalog.begin(&visit.actor).await?;
    tx.revoke_app_token(&grant, id).await?;
    tx.commit().await?;
    let said = Flash::ok(format!("The token “{}” no longer works.", token.name));
    redirect(format!("/apps/{name}/tokens")).say(said).into()
}
