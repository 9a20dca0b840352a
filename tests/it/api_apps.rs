//! Applications: registration, change, suspension, removal.

use serde_json::json;
use weir::catalog::model::Scope;

use crate::harness::Weir;

#[tokio::test]
async fn a_member_registers_an_application_and_reads_it_back() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    let body = json!({"team": "payments", "description": "Checkout service", "owners": ["Ada@example.com"],
        "contacts": {"slack": "#checkout"}, "repository": "https://git.example.com/checkout", "labels": {"lang": "rust"}});

    let made = ada.put("/v1/apps/checkout", &body).await.status(201);
    assert_eq!((made.header("weir-result"), made.header("location")), ("created", "/v1/apps/checkout"));
    let app = ada.get("/v1/apps/checkout").await.status(200).json();
    assert_eq!((&app["owners"], &app["status"]), (&json!(["ada@example.com"]), &json!("active")));
    assert_eq!(app["quality"], json!(["fewer than two human owners"]));
    let stamp = app["created_at"].as_str().unwrap();
    assert!(stamp.len() == 24 && stamp.ends_with('Z'), "RFC 3339 in UTC with milliseconds: {stamp}");
}

#[tokio::test]
async fn a_merge_patch_changes_what_it_names_and_null_resets() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    ada.put("/v1/apps/checkout", &json!({"team": "payments", "description": "a", "labels": {"x": "1", "y": "2"}}))
        .await
        .status(201);

    let request = ada.request(reqwest::Method::PATCH, "/v1/apps/checkout");
    let patch = r#"{"description": "b", "labels": {"x": null}}"#;
    let request = request.header("content-type", "application/merge-patch+json").body(patch);
    let patched = ada.send(request).await.status(200);
    assert_eq!(patched.header("weir-result"), "updated");
    assert_eq!(patched.json()["description"], "b");
    assert_eq!(patched.json()["labels"], json!({"y": "2"}));

    let typo =
        ada.send(ada.request(reqwest::Method::PATCH, "/v1/apps/checkout").json(&json!({"descripton": "c"}))).await;
    let refused = typo.problem(422, "unknown-field");
    assert_eq!(refused["detail"], "There is no field `descripton`. Did you mean `description`?");
}

#[tokio::test]
async fn entity_tags_keep_two_people_from_overwriting_each_other() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    let first = ada.put("/v1/apps/checkout", &json!({"team": "payments"})).await.status(201).header("etag").to_owned();
    let put = |tag: &str, text: &str| {
        let body = json!({"team": "payments", "description": text});
        ada.send(ada.request(reqwest::Method::PUT, "/v1/apps/checkout").header("if-match", tag).json(&body))
    };

    let second = put(&first, "mine").await.status(200).header("etag").to_owned();
    let lost = put(&first, "yours").await.problem(412, "precondition-failed");
    assert_eq!(lost["current"], second);

    let unchanged =
        ada.send(ada.request(reqwest::Method::GET, "/v1/apps/checkout").header("if-none-match", &second)).await;
    assert_eq!((unchanged.code, unchanged.header("etag"), unchanged.body.len()), (304, second.as_str(), 0));
    let create_only = ada.request(reqwest::Method::PUT, "/v1/apps/checkout").header("if-none-match", "*");
    ada.send(create_only.json(&json!({"team": "payments"}))).await.problem(412, "precondition-failed");
    let change_only = ada.request(reqwest::Method::PUT, "/v1/apps/new-one").header("if-match", "*");
    ada.send(change_only.json(&json!({"team": "payments"}))).await.problem(412, "precondition-failed");
}

#[tokio::test]
async fn a_suspended_application_is_refused_until_it_is_resumed() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    let app = weir.application("checkout").await;
    let token = weir.token(&app, &[Scope::CatalogRead]).await;
    token.get("/v1/whoami").await.status(200);

    let suspended = ada.post("/v1/apps/checkout/suspend", &json!({"reason": "floods"})).await.status(200).json();
    assert_eq!(suspended["status"], "suspended");
    let refused = token.get("/v1/whoami").await.problem(403, "app-suspended");
    assert_eq!(refused["app"], "checkout");

    ada.post("/v1/apps/checkout/resume", &json!({})).await.status(200);
    token.get("/v1/whoami").await.status(200);
}

#[tokio::test]
async fn an_application_that_owns_topics_is_not_removed() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    weir.topic("orders").await;

    let refused = ada.delete("/v1/apps/checkout").await.problem(409, "not-empty");
    assert_eq!(refused["blocking"], json!(["topic/orders"]));
    ada.get("/v1/apps/checkout").await.status(200);
}

#[tokio::test]
async fn lists_are_filtered_and_read_page_by_page() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    weir.team("payments", &ada).await;
    let sales = weir.team("sales", &weir.person("sue").await).await;
    for name in ["a1", "a2", "a3"] {
        weir.application(name).await;
    }
    weir.application_of(&sales, "b1").await;

    let first = ada.get("/v1/apps?team=payments&limit=2").await.status(200);
    let link = first.header("link").to_owned();
    let names = |page: &serde_json::Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|app| app["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&first.json()), ["a1", "a2"]);
    let next = link.strip_prefix('<').unwrap().split_once(">; rel=\"next\"").unwrap().0;
    let last = ada.get(next).await.status(200);
    assert_eq!(names(&last.json()), ["a3"]);
    assert_eq!((&last.json()["next"], last.header("link")), (&json!(null), ""));
    assert_eq!(names(&ada.get("/v1/apps?mine=true&q=A3").await.json()), ["a3"]);
    assert_eq!(names(&ada.get("/v1/apps?status=suspended").await.json()), Vec::<String>::new());
}
