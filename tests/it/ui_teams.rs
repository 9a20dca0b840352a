//! Teams in the portal: making one, inviting, joining, leaving.

use crate::browser::Browser;
use crate::harness::Weir;

#[tokio::test]
async fn a_team_is_made_an_invitation_sent_and_accepted_by_a_newcomer() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    let browser = Browser::of(&weir, &ada).await;
    browser.open("/teams").await;
    browser.press("c").await;
    browser.until("location.pathname === '/teams/new'").await;
    browser.fill("name", "Gate Control").await;
    browser.click("main button.primary").await;
    assert!(browser.text("#e-name").await.starts_with("A team name has"), "the error stands at the field");
    assert!(browser.complaints().await.iter().all(|line| line.contains("422")), "the refusal is told in the console");
    browser.fill("name", "gate-control").await;
    browser.click("main button.primary").await;
    assert_eq!(browser.path().await, "/teams/gate-control");
    browser.fill("email", "bob@example.com").await;
    browser.click("form[action$='/invitations'] button").await;
    let link = browser.text(".notice pre").await;
    browser.complains_about_nothing().await;

    let newcomer = Browser::stranger(&weir).await;
    newcomer.open(link.strip_prefix(&weir.url("")).unwrap()).await;
    newcomer.fill("person_name", "Bob").await;
    newcomer.fill("new_password", "a long enough passphrase").await;
    newcomer.click("main button").await;
    assert_eq!(newcomer.path().await, "/");
    newcomer.open("/teams/gate-control").await;
    assert!(newcomer.text(".page-title").await.contains("you are a member"));
    newcomer.open(link.strip_prefix(&weir.url("")).unwrap()).await;
    assert!(newcomer.text("main").await.contains("does not work"), "the link works once");
}

#[tokio::test]
async fn who_asks_to_join_is_let_in_from_the_home_page_without_scripts() {
    let weir = Weir::start().await;
    let (ada, bob) = (weir.person("ada").await, weir.person("bob").await);
    weir.team("payments", &ada).await;
    let (ada, bob) = (ada.at_the_portal(&weir).await, bob.at_the_portal(&weir).await);
    bob.submit("/teams/payments/join", &[("message", "I <b>care</b> for checkout")]).await.status(303);
    let home = ada.get("/").await.status(200).text();
    assert!(home.contains("wants to join") && home.contains("I &#60;b&#62;care"), "{home}");
    let decision = [("email", "bob@example.com"), ("decision", "admit"), ("back", "/")];
    assert_eq!(ada.submit("/teams/payments/requests", &decision).await.status(303).headers["location"], "/");
    assert!(bob.get("/teams/payments").await.text().contains("you are a member"));
}

#[tokio::test]
async fn leaving_asks_first_and_the_last_maintainer_stays_while_there_are_others() {
    let weir = Weir::start().await;
    let (ada, bob) = (weir.person("ada").await, weir.person("bob").await);
    let team = weir.team("payments", &ada).await;
    weir.join(&team, &bob, weir::catalog::model::TeamRole::Member).await;
    let (ada, bob) = (ada.at_the_portal(&weir).await, bob.at_the_portal(&weir).await);
    let question = bob.submit("/teams/payments/leave", &[]).await.status(200).text();
    assert!(question.contains("Leave the team payments?"));
    assert!(bob.get("/teams/payments").await.text().contains("you are a member"), "asking changes nothing");
    let refused = ada.submit("/teams/payments/leave", &[("confirmed", "yes")]).await.status(303);
    assert_eq!(refused.headers["location"], "/teams/payments");
    assert!(ada.get("/teams/payments").await.text().contains("you maintain it"));
    bob.submit("/teams/payments/leave", &[("confirmed", "yes")]).await.status(303);
    assert!(bob.get("/teams/payments").await.text().contains("Ask to join"));
}

#[tokio::test]
async fn a_member_sees_no_buttons_of_maintainers_and_cannot_use_them() {
    let weir = Weir::start().await;
    let (ada, bob) = (weir.person("ada").await, weir.person("bob").await);
    let team = weir.team("payments", &ada).await;
    weir.join(&team, &bob, weir::catalog::model::TeamRole::Member).await;
    let bob = bob.at_the_portal(&weir).await;
    assert!(!bob.get("/teams/payments").await.text().contains("Make an invitation link"));
    bob.submit("/teams/payments/invitations", &[("email", "eve@example.com"), ("role", "maintainer")])
        .await
        .status(403);
    bob.submit("/teams/payments/members/role", &[("email", "bob@example.com"), ("role", "maintainer")])
        .await
        .status(403);
}
