//! Theme and time zone of this browser, for browsers that run no script (with one, `weir.js` keeps them).

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use crate::web::form::Draft;
use crate::web::page::{keep_preferences, redirect};
use crate::web::state::WebState;

pub fn router() -> Router<WebState> {
    Router::new().route("/preferences", post(keep))
}

async fn keep(form: Draft) -> Response {
    let mut response = redirect(form.text("back").unwrap_or("/")).into_response();
    keep_preferences(response.headers_mut(), form.text("theme"), form.text("zone"));
    response
}
