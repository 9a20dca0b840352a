//! Topics: registration, change, deletion, restoring, purging, lists.

use serde_json::json;
use weir::catalog::model::{Scope, Visibility};

use crate::harness::{Person, Weir};

async fn ada_of_payments(weir: &Weir) -> Person {
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    weir.application("checkout").await;
    ada
}

#[tokio::test]
async fn a_topic_takes_records_when_its_creation_is_answered() {
    let weir = Weir::start().await;
    let ada = ada_of_payments(&weir).await;
    let body = json!({"app": "checkout", "description": "One event per order", "partitions": 6,
        "retention": {"time": "48h", "bytes_per_partition": 1_000_000_000_i64}, "labels": {"domain": "sales"}});

    let made = ada.put("/v1/topics/orders", &body).await.status(201);
    assert_eq!(made.header("weir-result"), "created");
    ada.post("/v1/topics/orders/records", &json!({"total": 1})).await.status(201);
    let topic = made.json();
    assert_eq!(topic["retention"], json!({"time": "2d", "bytes_per_partition": 1_000_000_000_i64}));
    assert_eq!((&topic["team"], &topic["status"]["ready"]), (&json!("payments"), &json!(true)));
    assert_eq!(topic["generation"].as_str().unwrap().len(), 8);
}

#[tokio::test]
async fn offsets_and_stats_are_shown_on_request() {
    let weir = Weir::start().await;
    let ada = ada_of_payments(&weir).await;
    ada.put("/v1/topics/orders", &json!({"app": "checkout", "partitions": 1})).await.status(201);
    for n in 0..3 {
        ada.post("/v1/topics/orders/records", &json!({"n": n})).await.status(201);
    }

    assert_eq!(ada.get("/v1/topics/orders").await.json().get("offsets"), None);
    let topic = ada.get("/v1/topics/orders?include=offsets,stats").await.status(200).json();
    assert_eq!(topic["offsets"], json!([{"partition": 0, "earliest": 0, "next": 3}]));
    assert_eq!(topic["stats"]["records"], 3);
    ada.get("/v1/topics/orders?include=consumers").await.problem(400, "malformed-query");
}

#[tokio::test]
async fn partitions_grow_with_a_warning_and_never_shrink() {
    let weir = Weir::start().await;
    let ada = ada_of_payments(&weir).await;
    ada.put("/v1/topics/orders", &json!({"app": "checkout", "partitions": 6})).await.status(201);

    let plan = ada
        .put("/v1/topics/orders?dry_run=true", &json!({"app": "checkout", "partitions": 12}))
        .await
        .status(200)
        .json();
    assert_eq!(
        (&plan["changes"][0]["path"], &plan["changes"][0]["risk"]),
        (&json!("/partitions"), &json!("disruptive"))
    );
    let refused = ada.put("/v1/topics/orders", &json!({"app": "checkout", "partitions": 3})).await;
    refused.problem(422, "incompatible-change");
    let kept = ada.put("/v1/topics/orders", &json!({"app": "checkout"})).await.status(200);
    assert_eq!((kept.header("weir-result"), &kept.json()["partitions"]), ("unchanged", &json!(6)));

    ada.put("/v1/topics/orders", &json!({"app": "checkout", "partitions": 8})).await.status(200);
    ada.post("/v1/topics/orders/records?partition=7", &json!(1)).await.status(201);
}

#[tokio::test]
async fn a_patch_changes_what_it_names() {
    let weir = Weir::start().await;
    let ada = ada_of_payments(&weir).await;
    ada.put("/v1/topics/orders", &json!({"app": "checkout", "classification": "restricted"})).await.status(201);
    let patch =
        |body: serde_json::Value| ada.send(ada.request(reqwest::Method::PATCH, "/v1/topics/orders").json(&body));

    let topic = patch(json!({"retention": {"time": "forever"}})).await.status(200).json();
    assert_eq!((&topic["retention"]["time"], &topic["classification"]), (&json!("forever"), &json!("restricted")));
    let topic = patch(json!({"retention": null})).await.status(200).json();
    assert_eq!(topic["retention"]["time"], "7d");
    let refused = patch(json!({"retention": {"time": "a week"}})).await.problem(422, "validation-failed");
    assert_eq!(refused["errors"][0]["pointer"], "/retention/time");
    patch(json!([1])).await.problem(422, "validation-failed");
}

#[tokio::test]
async fn a_topic_with_records_is_deleted_by_its_entity_tag_only_and_can_be_restored() {
    let weir = Weir::start().await;
    let ada = ada_of_payments(&weir).await;
    let tag = ada.put("/v1/topics/orders", &json!({"app": "checkout"})).await.status(201).header("etag").to_owned();
    ada.post("/v1/topics/orders/records", &json!({"total": 1})).await.status(201);

    let refused = ada.delete("/v1/topics/orders").await.problem(428, "precondition-required");
    assert_eq!(refused["current"], tag);
    let stale = ada.request(reqwest::Method::DELETE, "/v1/topics/orders").header("if-match", "\"r1\"");
    ada.send(stale).await.problem(412, "precondition-failed");
    let named = ada.request(reqwest::Method::DELETE, "/v1/topics/orders").header("if-match", &tag);
    let deleted = ada.send(named).await.status(202).json();
    assert_eq!(deleted["state"], "deleted");

    let gone = ada.post("/v1/topics/orders/records", &json!(1)).await.problem(410, "topic-deleted");
    assert_eq!(gone["restore"], "/v1/topics/orders/restore");
    ada.put("/v1/topics/orders", &json!({"app": "checkout"})).await.problem(410, "topic-deleted");
    let listed = ada.get("/v1/topics?state=deleted").await.status(200).json();
    assert_eq!(listed["items"][0]["name"], "orders");

    ada.post("/v1/topics/orders/restore", &json!({})).await.status(200);
    let records = ada.get("/v1/topics/orders/records").await.status(200).json();
    assert_eq!(records["records"][0]["value"], json!({"total": 1}), "nothing was lost");
}

#[tokio::test]
async fn purging_removes_the_records_and_frees_the_name() {
    let weir = Weir::start().await;
    let ada = ada_of_payments(&weir).await;
    let first = ada.put("/v1/topics/orders", &json!({"app": "checkout"})).await.status(201).json();
    ada.post("/v1/topics/orders/purge", &json!({})).await.problem(409, "conflict");
    ada.delete("/v1/topics/orders").await.status(202);
    ada.post("/v1/topics/orders/purge", &json!({})).await.status(204);

    ada.get("/v1/topics/orders").await.problem(404, "not-found");
    let second = ada.put("/v1/topics/orders", &json!({"app": "checkout"})).await.status(201).json();
    assert_ne!(second["generation"], first["generation"]);
}

#[tokio::test]
async fn a_name_is_taken_once_even_by_a_topic_one_cannot_see() {
    let weir = Weir::start().await;
    let ada = ada_of_payments(&weir).await;
    let sue = weir.person("sue").await;
    let sales = weir.team("sales", &sue).await;
    weir.application_of(&sales, "crm").await;
    let app = weir.application("checkout").await;
    weir.topic_with(&app, "secrets", |spec| spec.visibility = Visibility::Team).await;

    sue.get("/v1/topics/secrets").await.problem(404, "not-found");
    sue.put("/v1/topics/secrets", &json!({"app": "crm"})).await.problem(409, "conflict");
    assert_eq!(sue.get("/v1/topics?q=secrets").await.json()["items"], json!([]));
    ada.get("/v1/topics/secrets").await.status(200);
}

#[tokio::test]
async fn topics_are_found_by_words_owner_label_and_reader() {
    let weir = Weir::start().await;
    let ada = ada_of_payments(&weir).await;
    let shipping = weir.application("shipping").await;
    ada.put(
        "/v1/topics/orders",
        &json!({"app": "checkout", "description": "accepted baskets", "labels": {"domain": "sales"}}),
    )
    .await
    .status(201);
    ada.put("/v1/topics/parcels", &json!({"app": "shipping"})).await.status(201);
    ada.put("/v1/topics/orders/access/shipping", &json!({"role": "consumer"})).await.status(201);
    let found = |query: &'static str| {
        let ada = &ada;
        async move {
            let page = ada.get(&format!("/v1/topics?{query}")).await.status(200).json();
            page["items"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        }
    };

    assert_eq!(found("q=BASKETS").await, ["orders"]);
    assert_eq!(found("owner=shipping").await, ["parcels"]);
    assert_eq!(found("label=domain%3Dsales").await, ["orders"]);
    assert_eq!(found("label=domain%3Dhr").await, Vec::<String>::new());
    assert_eq!(found("readable_by=shipping").await, ["orders", "parcels"]);
    assert_eq!(found("team=payments&classification=internal").await, ["orders", "parcels"]);
    ada.get("/v1/topics?label=domain").await.problem(400, "malformed-query");
    drop(shipping);
}

#[tokio::test]
async fn an_application_manages_its_own_topics_with_the_scope_for_it() {
    let weir = Weir::start().await;
    weir.topic("orders").await;
    let app = weir.application("checkout").await;
    let deployer = weir.token(&app, &[Scope::TopicsWrite, Scope::CatalogRead]).await;
    let reader = weir.token(&app, &[Scope::CatalogRead]).await;

    deployer.put("/v1/topics/orders.v2", &json!({"app": "checkout"})).await.status(201);
    let refused =
        reader.put("/v1/topics/orders.v3", &json!({"app": "checkout"})).await.problem(403, "insufficient-scope");
    assert_eq!(refused["required"], json!({"scope": "topics:write"}));
}
