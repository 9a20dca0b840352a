//! With PostgreSQL away, records flow: for the running server, for one that starts, and with its local copy of the
//! catalog damaged or gone as soon as the database is back.

use std::path::Path;

use serde_json::json;
use weir::embedded_postgres::{Options, PrivatePostgres};

use crate::harness::Caller;
use crate::process::{Server, create_token, weir};

const RECORDS: &str = "/v1/topics/orders/records";

fn postgres(dir: &Path) -> PrivatePostgres {
    PrivatePostgres::start(&Options::new(dir)).unwrap()
}

fn command(data: &Path, database: &str) -> std::process::Command {
    let mut command = weir(data);
    command.env("DATABASE_URL", database);
    command
}

async fn write(app: &Caller, n: u64) {
    app.post(RECORDS, &json!({ "n": n })).await.status(201);
}

async fn numbers(app: &Caller) -> Vec<u64> {
    let page = app.get(&format!("{RECORDS}?from=earliest&limit=1000")).await.status(200).json();
    page["records"].as_array().unwrap().iter().map(|record| record["value"]["n"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_flow_while_postgresql_is_away_and_the_local_view_may_be_lost() {
    let (data, database) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let running = postgres(database.path());
    let url = running.url();
    let made = command(data.path(), &url).args(["admin", "create-user", "ada@example.com", "--admin"]).output();
    assert!(made.unwrap().status.success());
    let token = create_token(command(data.path(), &url));
    let server = Server::start(command(data.path(), &url));
    let ada = server.caller().with_token(&token);
    ada.put("/v1/teams/payments", &json!({})).await.status(201);
    ada.put("/v1/apps/checkout", &json!({"team": "payments"})).await.status(201);
    ada.put("/v1/topics/orders", &json!({"app": "checkout"})).await.status(201);
    let scopes = json!({"name": "till", "scopes": ["records:produce", "records:consume"], "expires_in": "1h"});
    let made = ada.post("/v1/apps/checkout/tokens", &scopes).await.status(201).json();
    let app_token = made["token"].as_str().unwrap().to_owned();
    let app = server.caller().with_token(&app_token);
    write(&app, 0).await;

    running.stop();
    write(&app, 1).await;
    assert_eq!(numbers(&app).await, [0, 1], "the running server needs no database for records");
    let refused = ada.put("/v1/teams/late", &json!({})).await;
    assert_eq!(refused.problem(503, "unavailable")["applied"], "none");
    assert_eq!(app.get("/readyz").await.status(200).json()["status"], "degraded");
    drop(server);

    let server = Server::start(command(data.path(), &url));
    assert!(server.greeting.contains("PostgreSQL cannot be reached"), "{}", server.greeting);
    let app = server.caller().with_token(&app_token);
    write(&app, 2).await;
    assert_eq!(numbers(&app).await, [0, 1, 2], "nor does one that starts");
    let stranger = server.caller().with_token("weir_app_0000000000000000000000000000000000000");
    stranger.get(RECORDS).await.status(401);
    drop(server);

    for (n, lose) in [(3, damage as fn(&Path)), (4, remove)] {
        lose(&data.path().join("view"));
        let running = postgres(database.path());
        let server = Server::start(command(data.path(), &running.url()));
        let app = server.caller().with_token(&app_token);
        write(&app, n).await;
        assert_eq!(numbers(&app).await, (0..=n).collect::<Vec<_>>(), "a lost copy costs a reload");
        drop(server);
    }
}

/// Writes nonsense over every file.
fn damage(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let length = std::fs::metadata(&path).unwrap().len();
            std::fs::write(&path, vec![0xa5; usize::try_from(length).unwrap()]).unwrap();
        }
    }
}

fn remove(folder: &Path) {
    std::fs::remove_dir_all(folder).unwrap();
}
