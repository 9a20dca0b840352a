//! What holds for every page: it fits narrow screens, the browser has nothing to complain about, dark is dark, keys work.

use weir::catalog::model::Scope;

use crate::browser::Browser;
use crate::harness::{Person, Weir};

/// The narrowest screen that pages are made for.
const NARROW: u32 = 360;

/// Every page without a name in it, and those of one team and application.
const PAGES: &[&str] = &[
    "/",
    "/apps",
    "/apps?mine=yes&q=nothing",
    "/apps/new",
    "/apps/checkout",
    "/apps/checkout/edit",
    "/apps/checkout/tokens",
    "/apps/checkout/access",
    "/apps/checkout/activity",
    "/teams",
    "/teams/new",
    "/teams/payments",
    "/teams/payments/edit",
    "/account",
    "/account/tokens",
    "/audit",
    "/admin/users",
    "/admin/users/new",
];

async fn airport() -> (Weir, Person) {
    let weir = Weir::start().await;
    let admin = weir.admin().await;
    weir.team("payments", &admin).await;
    let long = "an-application-with-a-name-as-long-as-names-can-possibly-be-xyz";
    weir.application(long).await;
    weir.topic(&format!("orders.{}", "very-long-name.".repeat(12))).await;
    let checkout = weir.application("checkout").await;
    let scopes: Vec<_> = Scope::ALL.iter().copied().filter(|scope| *scope != Scope::Admin).collect();
    weir.token(&checkout, &scopes).await;
    (weir, admin)
}

#[tokio::test]
async fn every_page_fits_a_narrow_screen_and_breaks_no_policy() {
    let (weir, admin) = airport().await;
    let browser = Browser::of(&weir, &admin).await;
    for width in [NARROW, 768, 1280] {
        browser.width(width).await;
        for page in PAGES {
            browser.open(page).await;
            let fits = browser.eval("return [document.documentElement.scrollWidth, innerWidth]").await;
            assert!(fits[0].as_i64() <= fits[1].as_i64(), "{page} is {fits} wide at {width}");
            assert_ne!(browser.text("h1").await, "", "{page}");
            browser.complains_about_nothing().await;
        }
    }
}

#[tokio::test]
async fn dark_follows_the_system_until_the_person_chooses() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    let browser = Browser::of(&weir, &ada).await;
    let dark = "const c = getComputedStyle(document.body).backgroundColor.match(/\\d+/g); return Number(c[0]) < 60";
    browser.prefers("dark").await;
    browser.open("/account").await;
    assert_eq!(browser.eval(dark).await, true);
    browser.click("[data-theme-choice][value=light]").await;
    assert_eq!(browser.eval(dark).await, false);
    browser.open("/teams").await;
    assert_eq!(browser.eval(dark).await, false, "the server knows the choice");
    browser.prefers("light").await;
    browser.scripts(false).await;
    browser.open("/account").await;
    browser.click("[data-theme-choice][value=dark]").await;
    browser.scripts(true).await;
    browser.open("/account").await;
    assert_eq!(browser.eval(dark).await, true, "the choice needs no script");
}

#[tokio::test]
async fn the_portal_is_used_by_keyboard() {
    let (weir, admin) = airport().await;
    let browser = Browser::of(&weir, &admin).await;
    browser.open("/").await;
    browser.press("ga").await;
    browser.until("location.pathname === '/apps'").await;
    browser.press("j").await;
    browser.until("document.activeElement.matches('[data-row] a.name')").await;
    browser.press("/").await;
    browser.until("document.activeElement.matches('[data-search]')").await;
    browser.press("check").await;
    browser.until("document.querySelectorAll('#apps tbody tr').length === 1").await;
    assert_eq!(browser.path().await, "/apps?q=check", "the filter is in the address");
    browser.open("/apps").await;
    browser.press("?").await;
    browser.until("document.querySelector('#shortcuts').open").await;
    browser.complains_about_nothing().await;
}

#[tokio::test]
async fn times_are_relative_with_the_absolute_time_at_hand() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    let browser = Browser::of(&weir, &ada).await;
    browser.open("/account").await;
    let time = browser.element("main time").await;
    assert!(time.text().await.unwrap().contains("ago") || time.text().await.unwrap() == "just now");
    browser.click("[data-zone-choice][value=utc]").await;
    assert!(time.attr("title").await.unwrap().unwrap().ends_with("UTC"));
}

#[tokio::test]
async fn what_is_not_there_is_a_page_with_a_way_on() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    let browser = Browser::of(&weir, &ada).await;
    browser.open("/apps/nothing").await;
    assert!(browser.text("main").await.contains("not-found"));
    browser.click("main a.button.primary").await;
    assert_eq!(browser.path().await, "/apps");
}

#[tokio::test]
async fn a_page_says_nothing_to_caches_and_frames() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await.at_the_portal(&weir).await;
    let page = ada.get("/").await.status(200);
    assert!(page.headers["cache-control"].to_str().unwrap().starts_with("private"));
    let policy = page.headers["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"));
    assert!(!page.text().contains(" onclick=") && !page.text().contains(" style="));
}
