//! Topics in the portal: finding, making, changing, reading, following live, sharing, deleting.

use serde_json::json;
use weir::catalog::model::{Operation, Scope, TopicState, Visibility};

use crate::browser::Browser;
use crate::harness::{Caller, Person, Weir};

/// Foreign text that would run if anything were not escaped.
const XSS: &str = "<img src=x onerror=window.pwned=1><script>window.pwned=1</script>\"'`${1}";

/// A topic `orders` of the application `checkout` of a team that ada is in.
async fn orders(weir: &Weir) -> (Person, Caller) {
    let ada = weir.person("ada").await;
    let team = weir.team("payments", &ada).await;
    let app = weir.application_of(&team, "checkout").await;
    weir.topic_with(&app, "orders", |spec| spec.partitions = 2).await;
    let token = weir.token(&app, &[Scope::RecordsProduce, Scope::RecordsConsume]).await;
    (ada, token)
}

async fn send(token: &Caller, key: &str, value: &serde_json::Value) {
    token.post(&format!("/v1/topics/orders/records?key={key}"), value).await.status(201);
}

#[tokio::test]
async fn the_live_view_shows_an_event_that_was_sent_over_http() {
    let weir = Weir::start().await;
    let (ada, token) = orders(&weir).await;
    send(&token, "before", &json!({"n": 0})).await;
    let browser = Browser::of(&weir, &ada).await;
    browser.open("/topics/orders/live").await;
    browser.until("document.querySelector('[data-live-state]').dataset.liveState === 'live'").await;
    browser.until("document.querySelectorAll('[data-event]').length === 1").await;
    send(&token, "o-1", &json!({"total": 12.5})).await;
    browser.until("document.querySelectorAll('[data-event]').length === 2").await;
    let newest = browser.text("[data-event] summary").await;
    assert!(newest.contains("o-1") && newest.contains("12.5"), "{newest}");
    browser.complains_about_nothing().await;
}

#[tokio::test]
async fn pausing_and_resuming_the_live_view_loses_nothing() {
    let weir = Weir::start().await;
    let (ada, token) = orders(&weir).await;
    let browser = Browser::of(&weir, &ada).await;
    browser.open("/topics/orders/live").await;
    browser.until("document.querySelector('[data-live-state]').dataset.liveState === 'live'").await;
    send(&token, "first", &json!(0)).await;
    browser.until("document.querySelectorAll('[data-event]').length === 1").await;
    browser.click("[data-live-pause]").await;
    // More than the view shows in a second, so that sampling would lose some.
    let lines = (1..=60).map(|n| format!("{{\"n\":{n}}}\n")).collect::<String>();
    token.post_as("/v1/topics/orders/records", "application/x-ndjson", lines).await.status(200);
    assert_eq!(browser.eval("return document.querySelectorAll('[data-event]').length").await, 1, "it is paused");
    browser.click("[data-live-pause]").await;
    browser.until("document.querySelectorAll('[data-event]').length === 61").await;
    let positions = "return new Set([...document.querySelectorAll('[data-event]')].map(e => e.dataset.event)).size";
    assert_eq!(browser.eval(positions).await, 61, "and nothing came twice");
    browser.complains_about_nothing().await;
}

#[tokio::test]
async fn the_live_view_says_in_words_why_it_ended() {
    let weir = Weir::start().await;
    let (ada, _) = orders(&weir).await;
    let browser = Browser::of(&weir, &ada).await;
    browser.open("/topics/orders/live").await;
    browser.until("document.querySelector('[data-live-state]').dataset.liveState === 'live'").await;
    let portal = ada.at_the_portal(&weir).await;
    portal.submit("/topics/orders/delete", &[("confirm", "orders")]).await.status(303);
    browser.until("document.querySelector('[data-live-state]').dataset.liveState === 'ended'").await;
    assert!(browser.text("[data-live-words]").await.contains("deleted"));
}

#[tokio::test]
async fn what_others_wrote_is_inert_on_every_page() {
    let weir = Weir::start().await;
    let (ada, token) = orders(&weir).await;
    let app = "checkout".parse().unwrap();
    let description = format!(
        "# {XSS}\n\n[link](javascript:window.pwned=1) [web](https://x.example/\"onclick=\"window.pwned=1)\n\n{XSS}"
    );
    weir.topic_with(&app, "evil", |spec| spec.description = description).await;
    let body = json!([{"key": XSS, "value": {"text": XSS, "line": "\u{2028}\r\n</pre>"}, "headers": {"h": XSS}}]);
    token.post("/v1/topics/evil/records?as=record", &body).await;
    token.post_as("/v1/topics/evil/records", "text/plain", XSS).await;
    let browser = Browser::of(&weir, &ada).await;
    let pages = [
        "/topics",
        "/topics/evil",
        "/topics/evil/events",
        "/topics/evil/live",
        "/topics/evil/p/0/o/0",
        "/topics/evil/edit",
        "/topics/evil/config",
        "/topics/evil/history",
        "/topics?q=%3Cscript%3Ewindow.pwned%3D1%3C/script%3E",
    ];
    for page in pages {
        browser.open(page).await;
        if page.ends_with("/live") {
            browser.until("document.querySelectorAll('[data-event]').length === 2").await;
        }
        assert_eq!(browser.eval("return window.pwned === undefined").await, true, "{page}");
        assert_eq!(
            browser.eval("return document.querySelectorAll('main img, main a[href^=javascript]').length").await,
            0,
            "{page}"
        );
        browser.complains_about_nothing().await;
    }
    browser.open("/topics/evil/events").await;
    browser.click("[data-event] summary").await;
    assert!(browser.text("[data-event] pre").await.contains("onerror"), "it is shown as text");
}

#[tokio::test]
async fn the_pages_of_a_topic_fit_a_narrow_screen_and_work_without_complaints() {
    let weir = Weir::start().await;
    let (ada, token) = orders(&weir).await;
    let long = "a-word-without-end-".repeat(12);
    send(&token, &long, &json!({"text": long})).await;
    let name = format!("orders.{}", "very-long-name.".repeat(12).trim_end_matches('.'));
    weir.topic_with(&"checkout".parse().unwrap(), &name, |_| {}).await;
    let browser = Browser::of(&weir, &ada).await;
    let topic_pages = [
        "",
        "/events",
        "/live",
        "/access",
        "/config",
        "/history",
        "/use",
        "/edit",
        "/delete",
        "/p/0/o/0",
        "/access?app=checkout",
    ];
    let of = |topic: &str| topic_pages.iter().map(|page| format!("/topics/{topic}{page}")).collect::<Vec<_>>();
    let pages =
        [of("orders"), of(&name), vec!["/topics".to_owned(), "/topics/new".to_owned(), "/start".to_owned()]].concat();
    for width in [360, 1280] {
        browser.width(width).await;
        for page in &pages {
            browser.open(page).await;
            let fits = browser.eval("return [document.documentElement.scrollWidth, innerWidth]").await;
            assert!(fits[0].as_i64() <= fits[1].as_i64(), "{page} is {fits} wide at {width}");
            let complaints = browser.complaints().await;
            let of_concern: Vec<_> = complaints.iter().filter(|line| !line.contains("404")).collect();
            assert!(of_concern.is_empty(), "{page}: {of_concern:?}");
        }
    }
}

#[tokio::test]
async fn a_topic_is_made_reviewed_and_changed_without_scripts() {
    let weir = Weir::start().await;
    let (ada, _) = orders(&weir).await;
    let browser = Browser::of(&weir, &ada).await;
    browser.scripts(false).await;
    browser.open("/topics/new").await;
    browser.fill("name", "Refunds!").await;
    browser.click("#topic-form button").await;
    assert!(browser.text("#e-name").await.starts_with("A topic name has"));
    browser.fill("name", "orders").await;
    browser.click("#topic-form button").await;
    assert_eq!(browser.text("#e-name").await, "The name orders is taken.");
    browser.fill("name", "refunds").await;
    browser.fill("description", "# Refunds\n\nOne event a refund.").await;
    browser.click("#topic-form button").await;
    assert_eq!(browser.path().await, "/topics/refunds");
    assert!(browser.text(".prose").await.contains("One event a refund."));

    browser.open("/topics/refunds/edit").await;
    browser.fill("partitions", "6").await;
    browser.click("#topic-form button").await;
    assert!(browser.text("main").await.contains("Nothing has been changed yet."));
    assert!(browser.text("tbody").await.contains("disruptive"), "{}", browser.text("tbody").await);
    let view = weir.catalog().view();
    assert_eq!(view.topic(&"refunds".parse().unwrap()).unwrap().partitions, 3);
    browser.click("main .button.primary, main .button.solid").await;
    assert_eq!(browser.path().await, "/topics/refunds/config");
    let view = weir.catalog().view();
    assert_eq!(view.topic(&"refunds".parse().unwrap()).unwrap().partitions, 6);
    browser.open("/topics/refunds/history").await;
    assert!(browser.text(".history").await.contains("changed the topic"));
}

#[tokio::test]
async fn events_are_read_with_a_line_that_says_what_was_looked_at() {
    let weir = Weir::start().await;
    let (ada, token) = orders(&weir).await;
    let portal = ada.at_the_portal(&weir).await;
    assert!(portal.get("/topics/orders/events").await.status(200).text().contains("The topic holds no events."));
    let lines = (0..130).map(|n| format!("{{\"key\":\"k{}\",\"value\":{n}}}\n", n % 10)).collect::<String>();
    token.post_as("/v1/topics/orders/records?as=record", "application/x-ndjson", lines).await.status(200);
    let newest = portal.get("/topics/orders/events").await.text();
    assert!(newest.contains("The newest 50 events. 80 before them were not looked at."), "{newest}");
    let keyed = portal.get("/topics/orders/events?key=k3").await.text();
    assert!(keyed.contains("Looked at 130 events for the key k3: 13 found."), "{keyed}");
    let first = portal.get("/topics/orders/events?show=earliest").await.text();
    assert!(first.contains("Stopped because the page is full: 30 to the end."), "{first}");
    let next = first.split("rel=\"next\" href=\"").nth(1).unwrap().split('"').next().unwrap().replace("&#38;", "&");
    let rest = portal.get(&next).await.text();
    assert_eq!(rest.matches("data-event=").count(), 30);
    assert!(portal.get("/topics/orders/events?show=offset&at=3").await.text().contains("choose which"));
    assert_eq!(portal.get("/topics/orders/p/0/o/99999").await.code, 404);
    let audit = portal.get("/topics/orders/history").await.text();
    assert!(audit.contains("looked at an event") || audit.contains("events in the portal"));
}

#[tokio::test]
async fn an_event_is_sent_from_the_page_and_its_address_shows_it() {
    let weir = Weir::start().await;
    let (ada, _) = orders(&weir).await;
    let portal = ada.at_the_portal(&weir).await;
    let wrong = portal.submit("/topics/orders/events", &[("value", "{"), ("kind", "json")]).await;
    assert_eq!(wrong.code, 422);
    assert!(wrong.text().contains("This is not JSON"));
    let fields = [("value", "{\r\n \"a\": 1}"), ("kind", "json"), ("key", "o-9"), ("headers", "source: portal")];
    let sent = portal.submit("/topics/orders/events", &fields).await.status(303);
    let place = sent.headers["location"].to_str().unwrap().to_owned();
    let page = portal.get(place.trim_end_matches("#send")).await.text();
    let link = page.split("href=\"/topics/orders/p/").nth(1).unwrap().split('"').next().unwrap();
    let one = portal.get(&format!("/topics/orders/p/{link}")).await.status(200).text();
    assert!(one.contains("o-9") && one.contains("portal"), "{one}");
}

#[tokio::test]
async fn access_is_given_explained_taken_and_given_back() {
    let weir = Weir::start().await;
    let (ada, _) = orders(&weir).await;
    let bob = weir.person("bob").await;
    let logistics = weir.team("logistics", &bob).await;
    weir.application_of(&logistics, "shipping").await;
    let (portal, stranger) = (ada.at_the_portal(&weir).await, bob.at_the_portal(&weir).await);
    let refused = stranger.get("/topics/orders/events").await.status(200).text();
    assert!(
        refused.contains("You may not read the events of this topic") && refused.contains("ada@example.com"),
        "{refused}"
    );
    let why = portal.get("/topics/orders/access?app=shipping").await.text();
    assert!(why.contains("shipping may not consume"), "{why}");
    portal
        .submit("/topics/orders/access", &[("app", "shipping"), ("operation", "consume"), ("expires", "30")])
        .await
        .status(303);
    assert!(!stranger.get("/topics/orders/events").await.text().contains("You may not read"));
    let why = portal.get("/topics/orders/access?app=shipping").await.text();
    assert!(
        why.contains("shipping may consume") && why.contains("A grant on this topic, given by ada@example.com"),
        "{why}"
    );
    portal.submit("/topics/orders/access/shipping/revoke", &[("prefix", "")]).await.status(303);
    assert!(stranger.get("/topics/orders/events").await.text().contains("You may not read"));
    portal.submit("/topics/orders/access/shipping/restore?operations=consume", &[]).await.status(303);
    assert!(!stranger.get("/topics/orders/events").await.text().contains("You may not read"));
    assert_eq!(
        stranger.submit("/topics/orders/access", &[("app", "shipping"), ("operation", "produce")]).await.code,
        403
    );
}

#[tokio::test]
async fn a_topic_is_deleted_by_its_name_restored_and_purged() {
    let weir = Weir::start().await;
    let (ada, token) = orders(&weir).await;
    let bob = weir.person("bob").await;
    let logistics = weir.team("logistics", &bob).await;
    let shipping = weir.application_of(&logistics, "shipping").await;
    let topic = weir.catalog().view().topic(&"orders".parse().unwrap()).unwrap().clone();
    weir.allow(&shipping, &topic, &[Operation::Consume]).await;
    send(&token, "a", &json!(1)).await;
    let portal = ada.at_the_portal(&weir).await;
    let question = portal.get("/topics/orders/delete").await.status(200).text();
    assert!(question.contains("shipping") && question.contains("It holds one event"), "{question}");
    assert_eq!(portal.submit("/topics/orders/delete", &[("confirm", "order")]).await.code, 422);
    portal.submit("/topics/orders/delete", &[("confirm", "orders")]).await.status(303);
    assert_eq!(weir.catalog().view().topic(&topic.name).unwrap().state, TopicState::Deleted);
    assert!(portal.get("/topics?state=deleted").await.text().contains("orders"));
    portal.submit("/topics/orders/restore", &[]).await.status(303);
    assert!(portal.get("/topics/orders/events").await.text().contains("data-event="), "with its events");
    portal.submit("/topics/orders/delete", &[("confirm", "orders")]).await.status(303);
    portal.submit("/topics/orders/purge", &[("confirm", "orders")]).await.status(303);
    assert!(weir.catalog().view().topic(&topic.name).is_none());
}

#[tokio::test]
async fn the_list_is_searched_while_one_types_and_hides_what_is_hidden() {
    let weir = Weir::start().await;
    let (ada, _) = orders(&weir).await;
    let app = "checkout".parse().unwrap();
    weir.topic_with(&app, "refunds", |spec| spec.visibility = Visibility::Team).await;
    let browser = Browser::of(&weir, &ada).await;
    browser.open("/topics").await;
    assert!(browser.text("tbody").await.contains("refunds"));
    browser.fill("q", "ord").await;
    browser.until("document.querySelectorAll('tbody tr').length === 1").await;
    browser.until("location.search.includes('q=ord')").await;
    browser.press("\u{e007}").await;
    assert!(browser.text("tbody").await.contains("orders"));
    browser.complains_about_nothing().await;
    let stranger = weir.person("eve").await.at_the_portal(&weir).await;
    assert!(!stranger.get("/topics?q=refunds").await.text().contains("/topics/refunds"));
    assert_eq!(stranger.get("/topics/refunds").await.code, 404);
    assert!(stranger.get("/ui/topics/refunds/tail").await.text().contains("weir.end-fatal"));
}
