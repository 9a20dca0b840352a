//! What orchestrators and monitoring see.

use weir::catalog::model::Scope;

use crate::harness::{Caller, Weir};

#[tokio::test]
async fn a_running_server_lives_and_is_ready() {
    let weir = Weir::start().await;
    assert_eq!(weir.get("/livez").await.status(200).text(), "ok\n");
    assert_eq!(weir.get("/readyz").await.status(200).json()["status"], "ready");
    let verbose = weir.get("/readyz?verbose").await.status(200).json();
    let checks = verbose["checks"].as_object().unwrap();
    assert_eq!(checks.keys().collect::<Vec<_>>(), ["log", "disk", "postgres"]);
    assert_eq!((&checks["log"], &checks["postgres"]), (&"ok".into(), &"ok".into()), "{verbose}");
}

#[tokio::test]
async fn metrics_need_a_token_for_them_and_show_what_happened() {
    let weir = Weir::start().await;
    let topic = weir.topic("orders").await;
    let app = weir.application("checkout").await;
    let writer = weir.token(&app, &[Scope::RecordsProduce]).await;
    writer.post(&format!("/v1/topics/{}/records", topic.name), &serde_json::json!({"n": 1})).await.status(201);
    weir.get("/metrics").await.problem(401, "unauthenticated");
    assert_eq!(writer.get("/metrics").await.code, 403);

    let admin = weir.admin().await;
    let text = admin.get("/metrics").await.status(200).text();
    for part in
        ["# HELP weir_connections ", "weir_ready 1", "weir_engine_records_total ", "weir_http_request_seconds_bucket{"]
    {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    let partitions = text.lines().find_map(|line| line.strip_prefix("weir_engine_partitions ")).unwrap();
    assert!(partitions.parse::<f64>().unwrap() >= 3.0);
}

#[tokio::test]
async fn the_second_listener_shows_metrics_and_nothing_else() {
    let weir =
        Weir::with().options(|options| options.metrics_listen = Some("127.0.0.1:0".parse().unwrap())).start().await;
    let address = weir.app().metrics_addr().unwrap();
    let operator = Caller::anonymous(&format!("http://{address}"));
    assert!(operator.get("/metrics").await.status(200).text().contains("weir_ready 1"));
    assert_eq!(operator.get("/livez").await.code, 200);
    assert_eq!(operator.get("/v1/status").await.code, 404);
    assert_eq!(operator.get("/").await.code, 404);
}
