//! Signing in and out, the first run, and what keeps other sites out.

use crate::browser::Browser;
use crate::harness::Weir;

#[tokio::test]
async fn a_person_signs_in_where_they_wanted_to_go_and_out_again() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    let browser = Browser::stranger(&weir).await;
    browser.open("/teams?mine=yes").await;
    assert_eq!(browser.path().await, "/sign-in?next=/teams%3Fmine%3Dyes");
    browser.fill("email", "ADA@example.com").await;
    browser.fill("password", &ada.password).await;
    browser.click("main button").await;
    assert_eq!(browser.path().await, "/teams?mine=yes");
    browser.click("[aria-label='Sign out']").await;
    assert_eq!(browser.path().await, "/sign-in");
    assert!(browser.text(".toast").await.contains("You are signed out."));
    browser.open("/teams").await;
    assert!(browser.path().await.starts_with("/sign-in"));
    browser.complains_about_nothing().await;
}

#[tokio::test]
async fn a_wrong_password_is_told_at_the_form_which_keeps_the_address() {
    let weir = Weir::start().await;
    weir.person("ada").await;
    let form = [("email", "ada@example.com"), ("password", "not the password"), ("next", "/apps")];
    let answer = weir.anonymous().submit("/sign-in", &form).await.status(422);
    assert!(answer.text().contains("The e-mail address or the password is wrong."));
    assert!(answer.text().contains("value=\"ada@example.com\""));
    assert!(answer.text().contains("name=\"next\" value=\"/apps\""));
    assert!(!answer.text().contains("not the password"));
    assert!(answer.headers.get("set-cookie").is_none());
}

#[tokio::test]
async fn guessing_is_slowed_down() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    let mut last = 422;
    for _ in 0..40 {
        let form = [("email", "ada@example.com"), ("password", "guess")];
        last = weir.anonymous().submit("/sign-in", &form).await.code;
        if last == 429 {
            break;
        }
    }
    assert_eq!(last, 429);
    let right = [("email", "ada@example.com"), ("password", ada.password.as_str())];
    let refused = weir.anonymous().submit("/sign-in", &right).await.status(429);
    assert!(refused.text().contains("Too many attempts."));
}

#[tokio::test]
async fn nobody_is_sent_to_another_site_after_signing_in() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    for next in ["//evil.example", "https://evil.example", "/\\evil.example"] {
        let form = [("email", "ada@example.com"), ("password", ada.password.as_str()), ("next", next)];
        let answer = weir.anonymous().submit("/sign-in", &form).await.status(303);
        assert_eq!(answer.headers["location"], "/", "{next}");
    }
}

#[tokio::test]
async fn the_set_up_link_makes_the_first_administrator_once() {
    let weir = Weir::start().await;
    let link = weir.app().setup_link().await.unwrap().unwrap();
    let path = link.strip_prefix(&weir.url("")).unwrap().to_owned();
    weir.get("/setup?token=wrong").await.status(404);
    let browser = Browser::stranger(&weir).await;
    browser.open("/sign-in").await;
    assert!(browser.text("main").await.contains("set-up link"));
    browser.open(&path).await;
    browser.fill("email", "grace@example.com").await;
    browser.fill("person_name", "Grace Hopper").await;
    browser.fill("new_password", "a bug in the relay").await;
    browser.click("main button").await;
    browser.open("/admin/users").await;
    assert!(browser.text("main").await.contains("grace@example.com"));
    let again = weir.get(&path).await.status(404);
    assert!(again.text().contains("set up already"));
}

#[tokio::test]
async fn a_form_that_another_site_sends_is_refused() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await.at_the_portal(&weir).await;
    let form = "name=evil-team&description=";
    let post = |headers: &[(&'static str, &'static str)]| {
        let mut request = ada.request(reqwest::Method::POST, "/teams/new");
        request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        ada.send(request)
    };
    post(&[("sec-fetch-site", "cross-site")]).await.status(403);
    post(&[("origin", "https://evil.example")]).await.status(403);
    ada.get("/teams/evil-team").await.status(404);
    post(&[("sec-fetch-site", "same-origin")]).await.status(303);
}

#[tokio::test]
async fn a_session_ends_for_every_other_browser_when_the_password_changes() {
    let weir = Weir::start().await;
    let person = weir.person("ada").await;
    let (here, there) = (person.at_the_portal(&weir).await, person.at_the_portal(&weir).await);
    let short = [("password", person.password.as_str()), ("new_password", "short")];
    let refused = here.submit("/account/password", &short).await.status(422);
    assert!(refused.text().contains("id=\"e-new_password\""));
    let wrong = [("password", "wrong"), ("new_password", "a much longer passphrase")];
    here.submit("/account/password", &wrong).await.status(422);
    let right = [("password", person.password.as_str()), ("new_password", "a much longer passphrase")];
    here.submit("/account/password", &right).await.status(303);
    assert_eq!(there.get("/account").await.code, 303);
}
