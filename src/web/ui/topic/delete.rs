//! Deleting a topic, taking that back, and purging it: each says first what depends on the topic.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;

use super::head::{Head, Tab};
use super::{figures, quality};
use crate::catalog::access::ManageTopic;
use crate::catalog::model::{AccessGrant, Topic};
use crate::catalog::put::Precondition;
use crate::names::TopicName;
use crate::web::extract::Path;
use crate::web::form::Draft;
use crate::web::page::{Flash, Frame, PageError, PageResult, redirect, render_as};
use crate::web::state::WebState;
use crate::web::ui::records::units;
use crate::web::visit::Visit;

/// An application that will notice.
struct Party {
    app: String,
    team: String,
    operations: String,
}

#[derive(Template)]
#[template(path = "topic/delete.html")]
struct DeletePage {
    frame: Frame,
    topic: Topic,
    purging: bool,
    records: String,
    parties: Vec<Party>,
    form: Draft,
}

/// `GET /topics/{t}/delete`: the question, for a deleted topic that of purging.
pub async fn confirm(State(state): State<WebState>, visit: Visit, Path(name): Path<TopicName>) -> PageResult {
    question(&state, visit, &name, Draft::new().with("confirm", ""), StatusCode::OK)
}

fn question(state: &WebState, visit: Visit, name: &TopicName, form: Draft, status: StatusCode) -> PageResult {
    let head = Head::load(state, &visit, name, Tab::Config)?;
    let grant = visit.authorize::<ManageTopic>(state, name)?;
    let figures = figures::of(state, &head.topic);
    let view = state.catalog.view();
    let now = visit.frame.now;
    let party = |grant: &AccessGrant| Party {
        app: grant.app.to_string(),
        team: view.app(&grant.app).map(|app| app.team.to_string()).unwrap_or_default(),
        operations: grant.operations.iter().map(|one| quality::operation(*one)).collect::<Vec<_>>().join(", "),
    };
    let live = |grant: &&AccessGrant| grant.expires_at.is_none_or(|end| end > now);
    let records = match figures.events() {
        0 => "It holds no events.".to_owned(),
        1 => format!("It holds one event, {}.", units::bytes(figures.stored_bytes)),
        events => format!("It holds {} events, {}.", units::count(events), units::bytes(figures.stored_bytes)),
    };
    let page = DeletePage {
        frame: visit.frame,
        purging: head.deleted(),
        records,
        parties: head.grants.iter().filter(live).map(party).collect(),
        topic: Topic::clone(grant.resource()),
        form,
    };
    render_as(status, &page)
}

/// The name as it was typed must be the topic's.
fn typed(form: &mut Draft, name: &TopicName) -> bool {
    let same = form.value("confirm").trim() == name.as_str();
    if !same {
        form.wrong("confirm", format!("Type {name}, exactly."));
    }
    same
}

fn precondition(form: &Draft) -> Precondition {
    form.value("revision").parse().map_or(Precondition::None, Precondition::IfMatch)
}

/// `POST /topics/{t}/delete`
pub async fn delete(
    State(state): State<WebState>,
    visit: Visit,
    Path(name): Path<TopicName>,
    mut form: Draft,
) -> PageResult {
    if !typed(&mut form, &name) {
        return question(&state, visit, &name, form, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let grant = visit.authorize::<ManageTopic>(&state, &name)?;
    let mut tx = state.catalog.begin(&visit.actor).await?;
    match tx.delete_topic(&grant, precondition(&form)).await {
        Ok(_) => {
            tx.commit().await?;
            let flash = Flash::ok(format!("{name} is deleted. It can be restored for 30 days."));
            redirect(format!("/topics/{name}")).say(flash.undo(format!("/topics/{name}/restore"))).into()
        }
        Err(error) => {
            let status = form.take(error)?;
            question(&state, visit, &name, form, status)
        }
    }
}

/// `POST /topics/{t}/restore`
pub async fn restore(State(state): State<WebState>, visit: Visit, Path(name): Path<TopicName>) -> PageResult {
    let grant = visit.authorize::<ManageTopic>(&state, &name)?;
    let mut tx = state.catalog.begin(&visit.actor).await?;
    tx.restore_topic(&grant).await?;
    tx.commit().await?;
    redirect(format!("/topics/{name}")).say(Flash::ok(format!("{name} is back, with its events."))).into()
}

/// `POST /topics/{t}/purge`
pub async fn purge(
    State(state): State<WebState>,
    visit: Visit,
    Path(name): Path<TopicName>,
    mut form: Draft,
) -> PageResult {
    if !typed(&mut form, &name) {
        return question(&state, visit, &name, form, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let grant = visit.authorize::<ManageTopic>(&state, &name)?;
    let mut tx = state.catalog.begin(&visit.actor).await?;
    tx.purge_topic(&grant).await.map_err(PageError::from)?;
    tx.commit().await?;
    if let Err(error) = state.provision.purge().await {
        // The catalog has let go of it; the reconciler frees the space.
        tracing::warn!(%error, topic = %name, "the records of a purged topic are still there");
    }
    redirect("/topics?state=deleted").say(Flash::ok(format!("{name} is gone, and its name is free."))).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_topics_own_name_confirms() {
        let name: TopicName = "orders".parse().expect("a topic name");
        assert!(typed(&mut Draft::new().with("confirm", " orders "), &name));
        let mut wrong = Draft::new().with("confirm", "order");
        assert!(!typed(&mut wrong, &name) && wrong.error("confirm").is_some());
    }
}
