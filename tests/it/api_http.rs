//! What holds for every request: bad input, hostile input, headers, cross-site requests, connections that break off.

use std::io::Write as _;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Answer, Weir};

/// Sends bytes as they are and returns everything that comes back. A client that breaks off closes its half at once.
async fn raw(weir: &Weir, request: &[u8], breaks_off: bool) -> String {
    let mut stream = TcpStream::connect(weir.url("").replace("http://", "")).await.unwrap();
    stream.write_all(request).await.unwrap();
    if breaks_off {
        stream.shutdown().await.unwrap();
    }
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    // A connection that is reset has ended as well; one that stays open has not.
    assert!(read.is_ok(), "the connection was neither answered nor closed");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn put_raw(weir: &Weir, body: impl Into<reqwest::Body>) -> Answer {
    let ada = weir.person("ada").await;
    let request = ada.request(reqwest::Method::PUT, "/v1/teams/payments").header("content-type", "application/json");
    ada.send(request.body(body)).await
}

#[tokio::test]
async fn bodies_that_are_not_json_say_where() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    let put = |body: &'static [u8]| {
        let request =
            ada.request(reqwest::Method::PUT, "/v1/teams/payments").header("content-type", "application/json");
        ada.send(request.body(body))
    };
    for (body, said) in [
        (&b"{\"description\": }"[..], "line 1, column 17"),
        (b"", "empty"),
        (b"{} trailing", "line 1, column 4"),
        (b"{\"description\": \"\xff\"}", "UTF-8 at byte 17"),
        (b"{\"description\": \"unfinished", "line 1"),
    ] {
        let problem = put(body).await.problem(400, "malformed-json");
        assert!(problem["detail"].as_str().unwrap().contains(said), "{problem}");
        assert_eq!((&problem["retryable"], &problem["applied"]), (&json!(false), &json!("none")));
    }
    ada.get("/v1/teams/payments").await.problem(404, "not-found");
}

#[tokio::test]
async fn deep_and_large_bodies_are_bounded() {
    let weir = Weir::start().await;
    let deep =
        put_raw(&weir, format!("{}{}", "[".repeat(50_000), "]".repeat(50_000))).await.problem(400, "malformed-json");
    assert!(deep["detail"].as_str().unwrap().contains("32 levels"), "{deep}");

    let bob = weir.person("bob").await;
    let request = bob.request(reqwest::Method::PUT, "/v1/teams/payments").header("content-type", "application/json");
    let large = bob.send(request.body(format!("{{\"description\": \"{}\"}}", "x".repeat(300_000)))).await;
    assert_eq!(large.problem(413, "payload-too-large")["limit"], 262_144);
}

#[tokio::test]
async fn a_compressed_body_is_bounded_by_what_comes_out() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![b' '; 20_000_000]).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 30_000);

    let request = ada.request(reqwest::Method::PUT, "/v1/teams/payments").header("content-type", "application/json");
    ada.send(request.header("content-encoding", "gzip").body(bomb)).await.problem(413, "payload-too-large");
    let request = ada.request(reqwest::Method::PUT, "/v1/teams/payments").header("content-type", "application/json");
    ada.send(request.header("content-encoding", "rot13").body("{}")).await.problem(415, "unsupported-media-type");
}

#[tokio::test]
async fn unknown_fields_wrong_types_and_wrong_media_types_are_named() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    let typo = ada.put("/v1/teams/payments", &json!({"descripton": "x"})).await.problem(422, "unknown-field");
    assert_eq!(
        typo["errors"][0],
        json!({"pointer": "/descripton", "detail": "There is no field `descripton`. Did you mean `description`?"})
    );
    let wrong = ada.put("/v1/teams/payments", &json!({"description": 7})).await.problem(422, "validation-failed");
    assert_eq!(wrong["errors"][0]["pointer"], "/description");
    let form = ada.request(reqwest::Method::PUT, "/v1/teams/payments");
    let form = form.header("content-type", "application/x-www-form-urlencoded").body("description=x");
    let refused = ada.send(form).await.problem(415, "unsupported-media-type");
    assert_eq!(refused["accepted"], json!(["application/json"]));
    assert!(refused["hint"].as_str().unwrap().contains("-H 'Content-Type: application/json'"));
}

#[tokio::test]
async fn queries_are_read_strictly() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    for (query, said) in [
        ("limit=0", "`limit` takes a number from 1 to 1000."),
        ("limit=1001", "`limit` takes a number from 1 to 1000."),
        ("limit=ten", "`limit` takes a number, not `ten`."),
        ("limt=1", "There is no parameter `limt`. Did you mean `limit`?"),
        ("limit=1&limit=2", "`limit` is given more than once."),
        ("q=%ff", "`%ff` is not valid percent-encoded UTF-8."),
        ("q=%zz", "`%zz` is not valid percent-encoded UTF-8."),
    ] {
        let problem = ada.get(&format!("/v1/teams?{query}")).await.problem(400, "malformed-query");
        assert_eq!(problem["detail"], said);
    }
    ada.get("/v1/teams?cursor=%25%25%25").await.problem(400, "invalid-cursor");
    ada.get("/v1/topics?owner=Not-A-Name").await.problem(400, "malformed-query");
}

#[tokio::test]
async fn names_and_paths_that_cannot_be_are_refused_without_harm() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    let long = "x".repeat(250);
    for name in ["UPPER", "..%2f..%2fetc%2fpasswd", "a%00b", "a%0d%0aSet-Cookie:%20x=1", &long, "%C3%A9", "a%20b"] {
        let read = ada.get(&format!("/v1/topics/{name}")).await;
        assert_eq!(read.header("set-cookie"), "");
        read.problem(404, "not-found");
        let body = json!({"app": "checkout"});
        ada.put(&format!("/v1/topics/{name}"), &body).await.problem(422, "validation-failed");
    }
    ada.get("/v1/topics/%ff").await.problem(400, "malformed-path");
    for path in [
        "/v1",
        "/v1/",
        "/v1/nothing",
        "/v1/teams/",
        "/v1//teams",
        "/v1/topics/orders/records/../..",
        "/v1/topics/%2e%2e",
        "/v1/topics/../users",
    ] {
        let token = ada.secret();
        let line =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n");
        let answer = raw(&weir, line.as_bytes(), false).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        assert!(answer.contains("application/problem+json"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_method_that_an_address_does_not_take_is_told_which_it_takes() {
    let weir = Weir::start().await;
    let answer = weir.anonymous().delete("/v1/teams").await;
    assert!(answer.header("allow").contains("GET"), "{:?}", answer.headers);
    answer.problem(405, "method-not-allowed");
}

#[tokio::test]
async fn credentials_that_are_none_are_refused_with_a_challenge() {
    let weir = Weir::start().await;
    let answer = weir.get("/v1/whoami").await;
    assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"weir\"");
    assert!(answer.problem(401, "unauthenticated")["hint"].as_str().unwrap().contains("Authorization: Bearer"));

    let unknown = weir.anonymous().with_token("weir_app_0000000000000000000000000000000000000");
    unknown.get("/v1/whoami").await.problem(401, "unauthenticated");
    let ada = weir.person("ada").await;
    let basic = weir.anonymous().request(reqwest::Method::GET, "/v1/whoami").basic_auth("anything", Some(ada.secret()));
    weir.anonymous().send(basic).await.status(200);
    let twice = ada.request(reqwest::Method::GET, "/v1/whoami").header("authorization", "Bearer x");
    ada.send(twice).await.problem(400, "invalid-header");
    weir.get("/v1/whoami?access_token=x").await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn the_header_wins_over_the_cookie() {
    let weir = Weir::start().await;
    let (ada, bob) = (weir.person("ada").await, weir.person("bob").await);
    let session = ada.at_the_portal(&weir).await;
    assert_eq!(session.get("/v1/whoami").await.status(200).json()["principal"]["name"], "ada@example.com");
    let both = session.request(reqwest::Method::GET, "/v1/whoami").bearer_auth(bob.secret());
    assert_eq!(session.send(both).await.status(200).json()["principal"]["name"], "bob@example.com");
}

#[tokio::test]
async fn a_browser_on_another_site_changes_nothing() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    let session = ada.at_the_portal(&weir).await;
    let put = |name: &'static str, value: String| {
        let request = session.request(reqwest::Method::PUT, "/v1/teams/payments").header(name, value);
        session.send(request.json(&json!({})))
    };
    put("sec-fetch-site", "cross-site".to_owned()).await.problem(403, "csrf-rejected");
    put("sec-fetch-site", "same-site".to_owned()).await.problem(403, "csrf-rejected");
    put("origin", "https://evil.example".to_owned()).await.problem(403, "csrf-rejected");
    session.get("/v1/teams/payments").await.problem(404, "not-found");
    put("origin", weir.url("")).await.status(201);
    put("sec-fetch-site", "same-origin".to_owned()).await.status(200);
    let read = session.request(reqwest::Method::GET, "/v1/whoami").header("sec-fetch-site", "cross-site");
    session.send(read).await.status(200);
}

#[tokio::test]
async fn every_answer_carries_its_headers() {
    let weir = Weir::start().await;
    let mut ids = std::collections::BTreeSet::new();
    for path in ["/v1/status", "/v1/nothing", "/openapi.json", "/problems", "/livez"] {
        let answer = weir.get(path).await;
        assert!(answer.header("weir-request-id").starts_with("req_"), "{path}");
        assert!(ids.insert(answer.header("weir-request-id").to_owned()), "a request id names one request");
        assert!(answer.header("server").starts_with("weir/"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "same-origin", "{path}");
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("'nonce-"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
    }
    let refused = weir.get("/v1/nothing").await;
    let id = refused.header("weir-request-id").to_owned();
    assert_eq!(refused.problem(404, "not-found")["request_id"], id);
}

#[tokio::test]
async fn a_person_gets_a_page_and_a_program_gets_a_problem() {
    let weir = Weir::start().await;
    let ask = |path: &'static str| {
        let request = weir.anonymous().request(reqwest::Method::GET, path).header("accept", "text/html,*/*");
        weir.anonymous().send(request)
    };
    let page = ask("/nowhere").await.status(404);
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(page.text().contains("not-found") && page.text().contains(page.header("weir-request-id")));
    ask("/v1/nowhere").await.problem(404, "not-found");
    weir.get("/nowhere").await.problem(404, "not-found");
}

#[tokio::test]
async fn large_answers_are_compressed_for_clients_that_take_it() {
    let weir = Weir::start().await;
    let request = weir.anonymous().request(reqwest::Method::GET, "/openapi.json").header("accept-encoding", "gzip");
    let packed = weir.anonymous().send(request).await.status(200);
    assert_eq!(packed.header("content-encoding"), "gzip");
    let plain = weir.get("/openapi.json").await.status(200);
    assert!(packed.body.len() * 3 < plain.body.len());
}

#[tokio::test]
async fn a_request_that_breaks_off_changes_nothing_and_the_server_goes_on() {
    let weir = Weir::start().await;
    let ada = weir.person("ada").await;
    let head = format!(
        "PUT /v1/teams/payments HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: 100\r\n\r\n{{\"description\":",
        ada.secret()
    );
    let answer = raw(&weir, head.as_bytes(), true).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    for rubbish in ["\x16\x03\x01 not http", "GET / HTTP/9.9\r\n\r\n", "GET /\r\n\r\n", "\r\n\r\n\r\n"] {
        let answer = raw(&weir, rubbish.as_bytes(), true).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1."), "{answer}");
    }
    ada.get("/v1/teams/payments").await.problem(404, "not-found");
}
