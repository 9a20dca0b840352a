//! Access: grants on topics and prefixes, and explaining why (not).

use std::time::Duration;

use serde_json::json;
use weir::catalog::model::Scope;
use weir::clock::{ManualClock, Timestamp};

use crate::harness::{Person, Weir};

async fn world(weir: &Weir) -> Person {
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    weir.topic("orders").await;
    let sue = weir.person("sue").await;
    let sales = weir.team("sales", &sue).await;
    weir.application_of(&sales, "shipping").await;
    ada
}

#[tokio::test]
async fn a_grant_lets_an_application_read_and_its_end_takes_effect_at_once() {
    let weir = Weir::start().await;
    let ada = world(&weir).await;
    let shipping = weir.token(&"shipping".parse().unwrap(), &[Scope::RecordsConsume]).await;
    let refused = shipping.get("/v1/topics/orders/records").await.problem(403, "forbidden");
    assert_eq!(refused["required"], json!({"operation": "consume", "topic": "orders"}));
    assert_eq!(refused["request_access"], "/topics/orders/access?app=shipping");

    let made = ada.put("/v1/topics/orders/access/shipping", &json!({"role": "consumer"})).await.status(201);
    assert_eq!(
        (&made.json()["operations"], &made.json()["granted_by"]),
        (&json!(["consume"]), &json!("ada@example.com"))
    );
    shipping.get("/v1/topics/orders/records").await.status(200);
    let listed = ada.get("/v1/topics/orders/access").await.status(200).json();
    assert_eq!((&listed["items"][0]["app"], &listed["items"][0]["role"]), (&json!("shipping"), &json!("consumer")));
    assert_eq!(ada.get("/v1/apps/shipping/access").await.json()["items"][0]["topic"], "orders");

    ada.delete("/v1/topics/orders/access/shipping").await.status(204);
    shipping.get("/v1/topics/orders/records").await.problem(403, "forbidden");
    ada.delete("/v1/topics/orders/access/shipping").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_grant_ends_by_itself() {
    let clock = ManualClock::at(Timestamp(1_795_000_000_000));
    let weir = Weir::with().clock(&clock).start().await;
    let ada = world(&weir).await;
    let shipping = weir.token(&"shipping".parse().unwrap(), &[Scope::RecordsConsume]).await;
    let end = weir.now() + Duration::from_secs(3600);
    let end = end.format(&time::format_description::well_known::Rfc3339).unwrap();

    ada.put("/v1/topics/orders/access/shipping", &json!({"operations": ["consume"], "expires_at": end}))
        .await
        .status(201);
    shipping.get("/v1/topics/orders/records").await.status(200);
    clock.advance(Duration::from_secs(3601));
    shipping.get("/v1/topics/orders/records").await.problem(403, "forbidden");
}

#[tokio::test]
async fn a_prefix_grant_covers_topics_made_later() {
    let weir = Weir::start().await;
    let ada = world(&weir).await;
    let shipping = weir.token(&"shipping".parse().unwrap(), &[Scope::RecordsConsume]).await;
    let path = "/v1/apps/checkout/prefixes/invoices./access/shipping";

    ada.put(path, &json!({"operations": ["consume", "produce"]})).await.status(201);
    ada.put("/v1/topics/invoices.paid", &json!({"app": "checkout"})).await.status(201);
    shipping.get("/v1/topics/invoices.paid/records").await.status(200);
    shipping.get("/v1/topics/orders/records").await.problem(403, "forbidden");
    let listed = ada.get("/v1/apps/checkout/prefixes").await.status(200).json();
    assert_eq!(
        (&listed["items"][0]["prefix"], &listed["items"][0]["owner"]),
        (&json!("invoices."), &json!("checkout"))
    );
    ada.delete(path).await.status(204);
    shipping.get("/v1/topics/invoices.paid/records").await.problem(403, "forbidden");
}

#[tokio::test]
async fn a_grant_says_which_operations_one_way_or_the_other() {
    let weir = Weir::start().await;
    let ada = world(&weir).await;
    let path = "/v1/topics/orders/access/shipping";

    ada.put(path, &json!({})).await.problem(422, "validation-failed");
    ada.put(path, &json!({"role": "consumer", "operations": ["produce"]})).await.problem(422, "validation-failed");
    ada.put(path, &json!({"role": "reader"})).await.problem(422, "validation-failed");
    ada.put("/v1/topics/orders/access/nobody", &json!({"role": "consumer"})).await.problem(404, "not-found");
    ada.put(path, &json!({"operations": ["consume", "produce", "consume"]})).await.status(201);
    let again = ada.put(path, &json!({"operations": ["produce", "consume"]})).await.status(200);
    assert_eq!(again.header("weir-result"), "unchanged");
}

#[tokio::test]
async fn a_check_explains_why_and_what_would_help() {
    let weir = Weir::start().await;
    let ada = world(&weir).await;
    let ask = |app: &'static str| {
        let body = json!({"app": app, "topic": "orders", "action": "consume"});
        let ada = &ada;
        async move { ada.post("/v1/access/check", &body).await.status(200).json() }
    };

    let no = ask("shipping").await;
    assert_eq!((&no["allowed"], &no["why"]), (&json!(false), &json!("shipping holds no grant to consume orders")));
    let how = no["how"].as_str().unwrap();
    assert!(how.contains("/v1/topics/orders/access/shipping") && how.contains("team payments"), "{how}");

    ada.put("/v1/topics/orders/access/shipping", &json!({"role": "consumer"})).await.status(201);
    let yes = ask("shipping").await;
    assert_eq!(yes, json!({"allowed": true, "why": "shipping holds a grant (consume), given by ada@example.com"}));
    assert_eq!(ask("checkout").await["why"], "checkout owns the topic");
    ada.post("/v1/access/check", &json!({"topic": "nothing", "action": "consume"})).await.problem(404, "not-found");
}
