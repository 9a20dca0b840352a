//! The first event in sixty seconds, as a newcomer does it: with the command that the page shows.

use std::process::Stdio;

use crate::browser::Browser;
use crate::harness::Weir;

#[tokio::test]
async fn a_newcomer_pastes_the_command_and_the_pane_turns_green() {
    let weir = Weir::start().await;
    let newcomer = weir.person("nora.new").await;
    let browser = Browser::of(&weir, &newcomer).await;
    browser.open("/start").await;
    assert_eq!(browser.eval("return document.querySelector('[name=app]').value").await, "nora-new-app");
    browser.click("main .button.primary").await;
    browser.until("document.querySelector('#send-command pre') !== null").await;
    assert_eq!(browser.path().await, "/start", "it is one page");
    assert!(browser.text("main").await.contains("sandbox.nora-new.hello"));
    let command = browser.text("#send-command pre").await;
    let answer = tokio::process::Command::new("sh").args(["-c", &command]).stdin(Stdio::null()).output().await.unwrap();
    assert!(answer.status.success(), "{command}\n{}", String::from_utf8_lossy(&answer.stderr));
    assert!(String::from_utf8_lossy(&answer.stdout).contains("\"offset\":0"), "{answer:?}");
    browser.until("document.querySelector('#pane .arrived') !== null").await;
    let pane = browser.text("#pane").await;
    assert!(pane.contains("It arrived.") && pane.contains("Offset 0") && pane.contains("ms later"), "{pane}");
    browser.complains_about_nothing().await;

    let token = command.split("Bearer ").nth(1).unwrap().split('"').next().unwrap();
    let scoped = weir.anonymous().with_token(token);
    assert_eq!(
        scoped.put("/v1/topics/sandbox.nora-new.more", &serde_json::json!({"app": "nora-new-app"})).await.code,
        403
    );
}

#[tokio::test]
async fn the_page_works_without_scripts_and_is_the_same_the_second_time() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    let portal = ada.at_the_portal(&weir).await;
    let first = portal.submit("/start", &[("app", "ada-app")]).await.status(200);
    assert_eq!(first.headers["cache-control"], "no-store");
    assert!(first.text().contains("Bearer weir_app_"));
    let again = portal.get("/start").await.status(200).text();
    assert!(again.contains("Show commands with a new token") && !again.contains("weir_app_"), "a token is shown once");
    portal.submit("/start", &[("app", "ada-app")]).await.status(200);
    let view = weir.catalog().view();
    assert_eq!(view.topics().count(), 1, "the sandbox is made once");
    assert_eq!(view.teams().count(), 1);
    portal.submit("/start/send", &[("topic", "sandbox.ada.hello")]).await.status(303);
    assert!(portal.get("/topics/sandbox.ada.hello/events").await.text().contains("hello"));
}

#[tokio::test]
async fn an_application_of_somebody_else_is_refused_at_its_field() {
    let weir = Weir::start().await;
    weir.application("checkout").await;
    let eve = weir.person("eve").await.at_the_portal(&weir).await;
    let refused = eve.submit("/start", &[("app", "checkout")]).await;
    assert_eq!(refused.code, 422);
    assert!(refused.text().contains("choose another name"));
}
