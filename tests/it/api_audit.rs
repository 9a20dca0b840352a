//! The audit, accounts, and what an instance says about itself.

use serde_json::json;

use crate::harness::Weir;

#[tokio::test]
async fn every_change_leaves_a_line_with_who_what_and_by_which_request() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    let made = ada.put("/v1/teams/payments", &json!({"description": "a"})).await.status(201);
    ada.put("/v1/teams/payments", &json!({"description": "b"})).await.status(200);

    let lines = ada.get("/v1/audit?resource=team/payments&action=team.*").await.status(200).json();
    let of = |action: &str| {
        let mut lines = lines["items"].as_array().unwrap().iter();
        lines.find(|line| line["action"] == action).unwrap_or_else(|| panic!("no {action}: {lines:?}")).clone()
    };
    assert_eq!(of("team.create")["request_id"], made.header("weir-request-id"));
    let update = of("team.update");
    assert_eq!((&update["actor"], &update["resource"]), (&json!("ada@example.com"), &json!("team/payments")));
    assert_eq!((&update["before"]["description"], &update["after"]["description"]), (&json!("a"), &json!("b")));
    assert_eq!(update["ip"], "127.0.0.1");
    assert!(update["via_token"].is_string());
}

#[tokio::test]
async fn people_read_what_concerns_them_and_administrators_read_everything() {
    let weir = Weir::start().await;
    let (ada, sue, admin) = (weir.person("ada").await, weir.person("sue").await, weir.admin().await);
    ada.put("/v1/teams/payments", &json!({})).await.status(201);
    sue.put("/v1/teams/sales", &json!({})).await.status(201);

    assert_eq!(sue.get("/v1/audit?resource=team/payments").await.status(200).json()["items"], json!([]));
    let everything = admin.get("/v1/audit?resource=team/payments&action=team.create").await.json();
    assert_eq!(everything["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_audit_is_filtered_and_read_page_by_page() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    weir.application("checkout").await;
    for n in 0..5 {
        ada.put(&format!("/v1/topics/t{n}"), &json!({"app": "checkout"})).await.status(201);
    }
    let mut path = "/v1/audit?app=checkout&action=topic.*&limit=2".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = ada.get(&path).await.status(200);
        seen.extend(page.json()["items"].as_array().unwrap().iter().map(|line| line["resource"].clone()));
        let Some(link) = page.header("link").strip_prefix('<') else { break };
        path = link.split_once('>').unwrap().0.to_owned();
    }
    assert_eq!(seen, ["topic/t4", "topic/t3", "topic/t2", "topic/t1", "topic/t0"]);
    assert_eq!(ada.get("/v1/audit?until=2020-01-01T00:00:00Z").await.json()["items"], json!([]));
    ada.get("/v1/audit?since=yesterday").await.problem(400, "malformed-query");
}

#[tokio::test]
async fn administrators_make_disable_and_reset_accounts() {
    let weir = Weir::start().await;
    let admin = weir.admin().await;
    let made = admin.post("/v1/users", &json!({"email": "New@Example.com", "name": "New"})).await.status(201).json();
    assert_eq!(made["email"], "new@example.com");
    assert!(made["password"].as_str().unwrap().len() >= 12);
    admin.post("/v1/users", &json!({"email": "new@example.com"})).await.problem(409, "conflict");
    admin.post("/v1/users", &json!({"email": "not an address"})).await.problem(422, "validation-failed");

    let bob = weir.person("bob").await;
    let path = format!("/v1/users/{}", bob.id);
    let patch = |body| admin.send(admin.request(reqwest::Method::PATCH, &path).json(&body));
    assert_eq!(patch(json!({"disabled": true})).await.status(200).json()["disabled"], true);
    bob.get("/v1/whoami").await.problem(401, "unauthenticated");
    patch(json!({"disabled": false})).await.status(200);
    bob.get("/v1/whoami").await.status(200);
    patch(json!({})).await.problem(422, "validation-failed");
    let reset = admin.post(&format!("{path}/reset-password"), &json!({})).await.status(200);
    assert_eq!(reset.header("cache-control"), "no-store");
    let found = admin.get("/v1/users?q=bob").await.status(200).json();
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_status_says_what_clients_must_know() {
    let weir = Weir::start().await;
    let status = weir.get("/v1/status").await.status(200).json();
    let engine = weir.app().engine().capabilities();
    assert_eq!(
        (&status["engine"]["name"], &status["engine"]["durable"]),
        (&json!(engine.name), &json!(engine.durable))
    );
    assert_eq!(status["limits"]["control_body_bytes"], 262_144);
    assert_eq!(weir.get("/v1/status").await.header("server"), format!("weir/{}", status["version"].as_str().unwrap()));
}
