//! Applications in the portal: registering, credentials, suspending, deleting.

use weir::catalog::model::Scope;

use crate::browser::Browser;
use crate::harness::Weir;

#[tokio::test]
async fn an_application_is_registered_and_gets_a_token_that_works() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    let browser = Browser::of(&weir, &ada).await;
    browser.open("/apps/new").await;
    browser.fill("name", "checkout").await;
    browser.fill("description", "Takes orders.").await;
    browser.click("main button.primary").await;
    assert_eq!(browser.path().await, "/apps/checkout");
    assert!(browser.text("main").await.contains("It has one owner."));
    browser.click("main [data-primary]").await;
    browser.fill("name", "ci").await;
    browser.click("#new button.primary").await;
    let secret = browser.text("#secret").await;
    assert!(secret.starts_with("weir_app_"), "{secret}");
    assert!(browser.text("figure pre").await.contains(&secret), "the curl is ready");
    let whoami = weir.anonymous().with_token(&secret).get("/v1/whoami").await.status(200);
    assert!(whoami.text().contains("checkout"));
    browser.open("/apps/checkout/tokens").await;
    assert!(!browser.text("body").await.contains(&secret), "it is shown once");
    browser.complains_about_nothing().await;
}

#[tokio::test]
async fn a_page_with_a_secret_is_kept_by_nobody() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    weir.application("checkout").await;
    let ada = ada.at_the_portal(&weir).await;
    let form = [("name", "ci"), ("scope", "records:produce"), ("life", "7")];
    let made = ada.submit("/apps/checkout/tokens", &form).await.status(200);
    assert_eq!(made.headers["cache-control"], "no-store");
}

#[tokio::test]
async fn rotating_keeps_the_old_token_for_as_long_as_was_chosen() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    let app = weir.application("checkout").await;
    let old = weir.token(&app, &[Scope::CatalogRead]).await;
    let ada = ada.at_the_portal(&weir).await;
    let action = |page: &str, what: &str| {
        let at = page.find(what).unwrap_or_else(|| panic!("{what} is offered: {page}"));
        let start = page[..at].rfind("action=\"").unwrap() + 8;
        page[start..at + what.len()].to_owned()
    };
    let page = ada.get("/apps/checkout/tokens").await.status(200).text();
    let made = ada.submit(&action(&page, "/rotate"), &[("overlap", "1")]).await.status(200).text();
    assert!(made.contains("works for one more hour"));
    old.get("/v1/whoami").await.status(200);
    let revoke = action(&page, "/revoke");
    assert!(ada.submit(&revoke, &[]).await.status(200).text().contains("Revoke the token"));
    old.get("/v1/whoami").await.status(200);
    ada.submit(&revoke, &[("confirmed", "yes")]).await.status(303);
    old.get("/v1/whoami").await.status(401);
}

#[tokio::test]
async fn a_form_that_is_wrong_keeps_what_was_typed() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    let ada = ada.at_the_portal(&weir).await;
    let form = [
        ("name", "checkout"),
        ("team", "payments"),
        ("description", "Takes <orders>"),
        ("owners", "ada@example.com\nnobody"),
        ("labels", "tier gold"),
    ];
    let page = ada.submit("/apps/new", &form).await.status(422).text();
    for kept in
        ["value=\"checkout\"", "Takes &#60;orders&#62;", "nobody", "tier gold", "id=\"e-owners\"", "id=\"e-labels\""]
    {
        assert!(page.contains(kept), "{kept} is not in {page}");
    }
    ada.get("/apps/checkout").await.status(404);
}

#[tokio::test]
async fn two_people_who_edit_at_once_do_not_overwrite_each_other() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    weir.application("checkout").await;
    let ada = ada.at_the_portal(&weir).await;
    let page = ada.get("/apps/checkout/edit").await.status(200).text();
    let start = page.find("name=\"revision\" value=\"").unwrap() + 23;
    let revision = page[start..].split('"').next().unwrap().to_owned();
    let edit = |text: &'static str| {
        [("team", "payments".to_owned()), ("description", text.to_owned()), ("revision", revision.clone())]
    };
    let send = async |fields: [(&'static str, String); 3]| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        ada.submit("/apps/checkout/edit", &fields).await
    };
    send(edit("first")).await.status(303);
    let second = send(edit("second")).await.status(412).text();
    assert!(second.contains("second"), "what was typed is kept");
    assert!(ada.get("/apps/checkout").await.text().contains("first"));
}

#[tokio::test]
async fn suspending_asks_first_and_can_be_taken_back() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    let app = weir.application("checkout").await;
    let token = weir.token(&app, &[Scope::CatalogRead]).await;
    let browser = Browser::of(&weir, &ada).await;
    browser.open("/apps/checkout").await;
    browser.click("form[action$='/suspend'] button").await;
    token.get("/v1/whoami").await.status(200);
    browser.click("main button.danger").await;
    assert!(browser.text(".toast").await.contains("checkout is suspended."));
    assert!(token.get("/v1/whoami").await.code >= 400);
    browser.click(".toast form button").await;
    token.get("/v1/whoami").await.status(200);
    assert!(!browser.text(".page-title").await.contains("suspended"));
}

#[tokio::test]
async fn an_application_that_owns_topics_is_not_deleted_and_says_which() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    weir.topic("orders").await;
    weir.application("empty").await;
    let ada = ada.at_the_portal(&weir).await;
    let blocked = ada.submit("/apps/checkout/delete", &[("confirmed", "yes")]).await.text();
    assert!(blocked.contains("href=\"/topics/orders\""));
    ada.submit("/apps/empty/delete", &[("confirmed", "yes"), ("confirm_name", "other")]).await.status(422);
    ada.get("/apps/empty").await.status(200);
    ada.submit("/apps/empty/delete", &[("confirmed", "yes"), ("confirm_name", "empty")]).await.status(303);
    ada.get("/apps/empty").await.status(404);
}

#[tokio::test]
async fn strangers_to_the_team_see_no_credentials() {
    let weir = Weir::start().await;
    let (ada, eve) = (weir.person("ada").await, weir.person("eve").await);
    weir.team("payments", &ada).await;
    weir.application("checkout").await;
    let eve = eve.at_the_portal(&weir).await;
    assert!(!eve.get("/apps/checkout").await.status(200).text().contains("Credentials"));
    eve.get("/apps/checkout/tokens").await.status(403);
    eve.submit("/apps/checkout/suspend", &[("confirmed", "yes")]).await.status(403);
    eve.get("/admin/users").await.status(403);
}
