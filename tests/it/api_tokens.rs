//! Tokens: made once, shown once, narrowed, rotated, revoked, expired; sessions; repeated requests.

use std::time::Duration;

use serde_json::json;
use weir::catalog::model::Scope;
use weir::clock::{ManualClock, Timestamp};

use crate::harness::{Caller, Weir};

async fn ada(weir: &Weir) -> crate::harness::Person {
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    weir.topic("orders").await;
    ada
}

fn with(weir: &Weir, answer: &serde_json::Value) -> Caller {
    weir.anonymous().with_token(answer["token"].as_str().unwrap())
}

#[tokio::test]
async fn a_token_is_shown_once_and_then_known_by_its_beginning() {
    let weir = Weir::start().await;
    let ada = ada(&weir).await;

    let body = json!({"name": "ci", "scopes": ["records:produce"], "topics": ["orders*"], "expires_in": "90d"});
    let made = ada.post("/v1/apps/checkout/tokens", &body).await.status(201);
    assert_eq!(made.header("cache-control"), "no-store");
    let made = made.json();
    let secret = made["token"].as_str().unwrap();
    assert!(secret.starts_with("weir_app_"), "{secret}");
    let listed = ada.get("/v1/apps/checkout/tokens").await.status(200);
    assert!(!listed.text().contains(secret));
    let token = &listed.json()["items"][0];
    assert_eq!(
        (&token["id"], &token["state"], &token["created_by"]),
        (&made["id"], &json!("active"), &json!("ada@example.com"))
    );
    assert!(secret.starts_with(token["prefix"].as_str().unwrap()));

    let whoami = with(&weir, &made).get("/v1/whoami").await.status(200).json();
    assert_eq!(whoami["principal"], json!({"type": "app", "name": "checkout"}));
    assert_eq!(whoami["token"]["scopes"], json!(["records:produce"]));
}

#[tokio::test]
async fn scopes_and_patterns_narrow_what_the_application_may() {
    let weir = Weir::start().await;
    let ada = ada(&weir).await;
    ada.put("/v1/topics/refunds", &json!({"app": "checkout"})).await.status(201);
    let body = json!({"name": "ci", "scopes": ["records:produce"], "topics": ["orders*"]});
    let narrow = with(&weir, &ada.post("/v1/apps/checkout/tokens", &body).await.status(201).json());

    narrow.post("/v1/topics/orders/records", &json!(1)).await.status(201);
    let refused = narrow.post("/v1/topics/refunds/records", &json!(1)).await.problem(403, "insufficient-scope");
    assert_eq!(refused["required"], json!({"topic": "refunds"}));
    let refused = narrow.get("/v1/topics/orders/records").await.problem(403, "insufficient-scope");
    assert_eq!(refused["required"], json!({"scope": "records:consume"}));
}

#[tokio::test]
async fn a_token_never_mints_a_stronger_one() {
    let weir = Weir::start().await;
    ada(&weir).await;
    let app = weir.application("checkout").await;
    let minter = weir.token(&app, &[Scope::TokensWrite, Scope::RecordsConsume]).await;

    minter.post("/v1/apps/checkout/tokens", &json!({"name": "a", "scopes": ["records:consume"]})).await.status(201);
    let stronger = json!({"name": "b", "scopes": ["records:produce"]});
    minter.post("/v1/apps/checkout/tokens", &stronger).await.problem(403, "insufficient-scope");
}

#[tokio::test]
async fn rotating_keeps_the_old_secret_for_the_overlap() {
    let clock = ManualClock::at(Timestamp(1_795_000_000_000));
    let weir = Weir::with().clock(&clock).start().await;
    let ada = ada(&weir).await;
    let old = ada
        .post("/v1/apps/checkout/tokens", &json!({"name": "ci", "scopes": ["catalog:read"]}))
        .await
        .status(201)
        .json();
    let path = format!("/v1/apps/checkout/tokens/{}/rotate", old["id"].as_str().unwrap());

    let new = ada.post(&path, &json!({"overlap": "1h"})).await.status(201).json();
    with(&weir, &old).get("/v1/whoami").await.status(200);
    with(&weir, &new).get("/v1/whoami").await.status(200);
    clock.advance(Duration::from_secs(3601));
    let ended = with(&weir, &old).get("/v1/whoami").await;
    assert!(ended.header("www-authenticate").contains("invalid_token"));
    ended.problem(401, "token-expired");
    with(&weir, &new).get("/v1/whoami").await.status(200);
}

#[tokio::test]
async fn a_revoked_token_is_refused_at_once() {
    let weir = Weir::start().await;
    let ada = ada(&weir).await;
    let made = ada
        .post("/v1/apps/checkout/tokens", &json!({"name": "ci", "scopes": ["catalog:read"]}))
        .await
        .status(201)
        .json();
    let caller = with(&weir, &made);
    caller.get("/v1/whoami").await.status(200);

    ada.delete(&format!("/v1/apps/checkout/tokens/{}", made["id"].as_str().unwrap())).await.status(204);
    caller.get("/v1/whoami").await.problem(401, "token-revoked");
    let listed = ada.get("/v1/apps/checkout/tokens").await.json();
    assert_eq!(listed["items"][0]["state"], "revoked");
}

#[tokio::test]
async fn people_make_tokens_of_their_own() {
    let weir = Weir::start().await;
    let ada = ada(&weir).await;
    let made = ada
        .post("/v1/me/tokens", &json!({"name": "laptop", "scopes": ["catalog:read"], "expires_in": "never"}))
        .await
        .status(201)
        .json();
    assert!(made["token"].as_str().unwrap().starts_with("weir_pat_"));
    assert_eq!(made["expires_at"], json!(null));
    let whoami = with(&weir, &made).get("/v1/whoami").await.status(200).json();
    assert_eq!(whoami["principal"], json!({"type": "user", "name": "ada@example.com"}));

    let id = made["id"].as_str().unwrap();
    let rotated = ada.post(&format!("/v1/me/tokens/{id}/rotate"), &json!({"overlap": "1m"})).await.status(201).json();
    ada.delete(&format!("/v1/me/tokens/{}", rotated["id"].as_str().unwrap())).await.status(204);
    with(&weir, &rotated).get("/v1/whoami").await.problem(401, "token-revoked");
}

#[tokio::test]
async fn bad_wishes_for_tokens_are_refused_with_the_field() {
    let weir = Weir::start().await;
    let ada = ada(&weir).await;
    let pointer = |body: serde_json::Value| {
        let ada = &ada;
        async move {
            let refused = ada.post("/v1/apps/checkout/tokens", &body).await.problem(422, "validation-failed");
            refused["errors"][0]["pointer"].as_str().unwrap_or_default().to_owned()
        }
    };
    assert_eq!(pointer(json!({"name": "a", "scopes": ["records:eat"]})).await, "/scopes/0");
    assert_eq!(pointer(json!({"name": "a", "scopes": ["catalog:read"], "expires_in": "soon"})).await, "/expires_in");
    assert_eq!(pointer(json!({"name": "", "scopes": ["catalog:read"]})).await, "/name");
    assert_eq!(pointer(json!({"name": "a", "scopes": []})).await, "/scopes");
}

#[tokio::test]
async fn sessions_are_listed_and_ended_from_a_session_only() {
    let weir = Weir::start().await;
    let ada = ada(&weir).await;
    let (here, there) = (ada.at_the_portal(&weir).await, ada.at_the_portal(&weir).await);

    ada.get("/v1/me/sessions").await.problem(403, "forbidden");
    let listed = here.get("/v1/me/sessions").await.status(200).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    there.get("/v1/whoami").await.status(200);
    for session in listed["items"].as_array().unwrap() {
        here.delete(&format!("/v1/me/sessions/{}", session["id"].as_str().unwrap())).await;
    }
    there.get("/v1/whoami").await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_repeated_post_gets_the_first_answer() {
    let weir = Weir::start().await;
    let (ada, bob) = (ada(&weir).await, weir.person("bob").await);
    let ask = |key: &'static str, message: &'static str| {
        let request = bob.request(reqwest::Method::POST, "/v1/teams/payments/join-requests");
        bob.send(request.header("idempotency-key", key).json(&json!({"message": message})))
    };

    let first = ask("\"k1\"", "please").await.status(201);
    let again = ask("k1", "please").await.status(201);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.json(), first.json());
    ask("k1", "pretty please").await.problem(422, "idempotency-key-reused");
    ask("k 1", "please").await.problem(400, "invalid-header");
    assert_eq!(ada.get("/v1/teams/payments/join-requests").await.json()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_repeated_post_does_not_show_a_secret_again() {
    let weir = Weir::start().await;
    let ada = ada(&weir).await;
    let make = || {
        let request = ada.request(reqwest::Method::POST, "/v1/apps/checkout/tokens").header("idempotency-key", "k");
        ada.send(request.json(&json!({"name": "ci", "scopes": ["catalog:read"]})))
    };

    let made = make().await.status(201).json();
    let refused = make().await.problem(409, "idempotency-replay-refused");
    assert_eq!(refused["id"], made["id"]);
    assert_eq!(ada.get("/v1/apps/checkout/tokens").await.json()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_post_that_still_runs_is_not_begun_again() {
    let weir = Weir::start().await;
    let ada = ada(&weir).await;
    let make = |name: &'static str| {
        let request = ada.request(reqwest::Method::POST, "/v1/apps/checkout/tokens").header("idempotency-key", "k");
        ada.send(request.json(&json!({"name": name, "scopes": ["catalog:read"]})))
    };

    let answers = futures_util::future::join_all((0..8).map(|_| make("ci"))).await;
    let made = answers.iter().filter(|answer| answer.code == 201).count();
    assert_eq!(made, 1, "one of them does it");
    for answer in answers.into_iter().filter(|answer| answer.code != 201) {
        let body = answer.status(409).json();
        if body["code"] == "idempotency-in-progress" {
            assert_eq!(body["retryable"], true);
        } else {
            assert_eq!(body["code"], "idempotency-replay-refused");
        }
    }
    assert_eq!(ada.get("/v1/apps/checkout/tokens").await.json()["items"].as_array().unwrap().len(), 1);
}
