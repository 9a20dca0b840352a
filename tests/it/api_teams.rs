//! Teams, their members, and the two ways in.

use serde_json::json;
use weir::catalog::access::Actor;

use crate::harness::Weir;

#[tokio::test]
async fn who_makes_a_team_becomes_its_maintainer() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;

    let made = ada.put("/v1/teams/payments", &json!({"description": "Takes the money"})).await.status(201);
    assert_eq!(made.header("weir-result"), "created");
    assert_eq!(made.header("location"), "/v1/teams/payments");
    assert_eq!(made.header("etag"), format!("\"r{}\"", made.json()["revision"]));

    let members = ada.get("/v1/teams/payments/members").await.status(200).json();
    assert_eq!(members["items"][0]["email"], "ada@example.com");
    assert_eq!(members["items"][0]["role"], "maintainer");
    let team = ada.get("/v1/teams/payments").await.status(200).json();
    assert_eq!((&team["members"], &team["applications"]), (&json!(1), &json!(0)));
}

#[tokio::test]
async fn putting_the_same_team_again_changes_nothing_and_says_so() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    let body = json!({"description": "Takes the money"});
    let first = ada.put("/v1/teams/payments", &body).await.status(201);

    let again = ada.put("/v1/teams/payments", &body).await.status(200);
    assert_eq!(again.header("weir-result"), "unchanged");
    assert_eq!(again.header("etag"), first.header("etag"));

    let other = ada.put("/v1/teams/payments", &json!({"description": "Gives it back"})).await.status(200);
    assert_eq!(other.header("weir-result"), "updated");
    assert_ne!(other.header("etag"), first.header("etag"));
}

#[tokio::test]
async fn a_person_asks_to_join_and_a_maintainer_lets_them_in() {
    let weir = Weir::start().await;
    let (ada, bob) = (weir.person("ada").await, weir.person("bob").await);
    weir.team("payments", &ada).await;

    bob.post("/v1/teams/payments/join-requests", &json!({"message": "I take over"})).await.status(201);
    let open = ada.get("/v1/teams/payments/join-requests").await.status(200).json();
    assert_eq!(
        (&open["items"][0]["email"], &open["items"][0]["message"]),
        (&json!("bob@example.com"), &json!("I take over"))
    );
    bob.post("/v1/teams/payments/join-requests/bob@example.com/approve", &json!({})).await.problem(403, "forbidden");

    ada.post("/v1/teams/payments/join-requests/bob@example.com/approve", &json!({})).await.status(204);
    let members = ada.get("/v1/teams/payments/members").await.json();
    assert_eq!(members["items"][1]["email"], "bob@example.com");
    assert_eq!(ada.get("/v1/teams/payments/join-requests").await.json()["items"], json!([]));
}

#[tokio::test]
async fn an_invitation_is_accepted_by_the_person_it_was_made_for_and_works_once() {
    let weir = Weir::start().await;
    let (ada, bob, eve) = (weir.person("ada").await, weir.person("bob").await, weir.person("eve").await);
    weir.team("payments", &ada).await;

    let invited =
        ada.post("/v1/teams/payments/invitations", &json!({"email": "bob@example.com"})).await.status(201).json();
    let secret = invited["secret"].as_str().unwrap();
    let listed = ada.get("/v1/teams/payments/invitations").await.status(200).json();
    assert_eq!(listed["items"][0]["id"], invited["id"]);
    assert_eq!(listed["items"][0].get("secret"), None, "the secret is shown once");

    assert!(eve.post("/v1/invitations/accept", &json!({"secret": secret})).await.code >= 400);
    let reader = bob.post("/v1/me/tokens", &json!({"name": "t", "scopes": ["catalog:read"]})).await.status(201).json();
    let reader = weir.anonymous().with_token(reader["token"].as_str().unwrap());
    let narrow =
        reader.post("/v1/invitations/accept", &json!({"secret": secret})).await.problem(403, "insufficient-scope");
    assert_eq!(narrow["required"], json!({"scope": "apps:write"}));
    let joined = bob.post("/v1/invitations/accept", &json!({"secret": secret})).await.status(200).json();
    assert_eq!(joined["team"], "payments");
    assert!(bob.post("/v1/invitations/accept", &json!({"secret": secret})).await.code >= 400, "a link works once");
}

#[tokio::test]
async fn the_last_maintainer_stays_while_there_are_others() {
    let weir = Weir::start().await;
    let (ada, bob) = (weir.person("ada").await, weir.person("bob").await);
    let team = weir.team("payments", &ada).await;
    weir.join(&team, &bob, weir::catalog::model::TeamRole::Member).await;

    ada.delete("/v1/teams/payments/members/ada@example.com").await.problem(409, "conflict");
    ada.put("/v1/teams/payments/members/bob@example.com", &json!({"role": "maintainer"})).await.status(200);
    ada.delete("/v1/teams/payments/members/ada@example.com").await.status(204);
    ada.put("/v1/teams/payments", &json!({})).await.problem(403, "forbidden");
}

#[tokio::test]
async fn a_team_with_applications_is_not_removed() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    weir.application("checkout").await;

    let refused = ada.delete("/v1/teams/payments").await.problem(409, "not-empty");
    assert_eq!(refused["blocking"], json!(["app/checkout"]));
    ada.delete("/v1/apps/checkout").await.status(204);
    ada.delete("/v1/teams/payments").await.status(204);
    ada.get("/v1/teams/payments").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_dry_run_says_what_would_happen_and_changes_nothing() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;

    let plan = ada.put("/v1/teams/payments?dry_run=True", &json!({})).await.status(200).json();
    assert_eq!((&plan["dry_run"], &plan["result"]), (&json!(true), &json!("created")));
    ada.get("/v1/teams/payments").await.problem(404, "not-found");

    ada.put("/v1/teams/payments", &json!({"description": "a"})).await.status(201);
    let plan = ada.put("/v1/teams/payments?dry_run", &json!({"description": "b"})).await.status(200).json();
    assert_eq!(plan["changes"], json!([{"path": "/description", "from": "a", "to": "b", "risk": "safe"}]));
    let plan = ada.delete("/v1/teams/payments?dry_run=1").await.status(200).json();
    assert_eq!(plan["result"], "deleted");
    assert_eq!(ada.get("/v1/teams/payments").await.status(200).json()["description"], "a");
}

#[tokio::test]
async fn who_may_not_remove_a_member_is_told_so_without_waiting_for_a_writer() {
    let weir = Weir::start().await;
    let (ada, eve) = (weir.person("ada").await, weir.person("eve").await);
    weir.team("payments", &ada).await;
    let writer = weir.catalog().begin(&Actor::system()).await.unwrap();
    eve.delete("/v1/teams/payments/members/ada@example.com").await.problem(403, "forbidden");
    drop(writer);
}
