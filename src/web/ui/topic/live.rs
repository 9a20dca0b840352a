//! The page of the live tail. The rows come from [`crate::web::ui::tail`].

use askama::Template;
use axum::extract::State;
use serde::Deserialize;

use super::head::{DeniedView, Head, Tab};
use crate::catalog::access::Consume;
use crate::names::TopicName;
use crate::web::auth::encode_query;
use crate::web::extract::{Path, Query};
use crate::web::page::{Frame, PageResult, render};
use crate::web::state::WebState;
use crate::web::ui::records::reading::TOKEN_VARIABLE;
use crate::web::ui::records::snippets::Target;
use crate::web::visit::Visit;

/// Where to begin.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Args {
    from: String,
}

#[derive(Template)]
#[template(path = "topic/live.html")]
struct LivePage {
    frame: Frame,
    head: Head,
    denied: Option<DeniedView>,
    /// Where the rows come from.
    tail: String,
    curl: String,
}

/// `GET /topics/{t}/live`
pub async fn page(
    State(state): State<WebState>,
    visit: Visit,
    Path(name): Path<TopicName>,
    Query(args): Query<Args>,
) -> PageResult {
    let head = Head::load(&state, &visit, &name, Tab::Events)?;
    let denied = visit.authorize::<Consume>(&state, &name).err();
    let from = if args.from.is_empty() { "-20" } else { &args.from };
    let target = Target { base_url: &visit.frame.base_url, topic: &name, app: None, token: TOKEN_VARIABLE };
    let page = LivePage {
        denied: denied.map(|denied| DeniedView::of(&state.catalog, &head, &denied)),
        tail: format!("/ui/topics/{name}/tail?from={}", encode_query(from)),
        curl: target.tail(),
        frame: visit.frame,
        head,
    };
    render(&page)
}
