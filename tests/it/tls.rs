//! Encryption: HTTP/2 by ALPN, a certificate of our own making, and a new one without a restart.

use std::path::Path;

use reqwest::{Certificate, Client, Version};
use weir::config::Options;

use crate::harness::{Weir, client_builder};

fn trusting(certificate: &Path) -> Client {
    let pem = std::fs::read(certificate).unwrap();
    client_builder().tls_certs_only([Certificate::from_pem(&pem).unwrap()]).build().unwrap()
}

fn development(options: &mut Options) {
    options.tls.dev = Some(true);
}

/// Writes a new pair for `localhost` and 127.0.0.1.
fn write_pair(cert: &Path, key: &Path) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let pair = rcgen::generate_simple_self_signed(names).unwrap();
    std::fs::write(key, pair.signing_key.serialize_pem()).unwrap();
    std::fs::write(cert, pair.cert.pem()).unwrap();
}

#[tokio::test]
async fn development_tls_speaks_http_2_to_those_who_trust_its_certificate() {
    let weir = Weir::with().options(development).start().await;
    let certificate = weir.app().certificate_file().unwrap().to_owned();
    assert!(weir.url("/").starts_with("https://127.0.0.1:"));
    let answer = trusting(&certificate).get(weir.url("/livez")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
    let stranger = client_builder().tls_certs_only([]).build().unwrap();
    assert!(stranger.get(weir.url("/livez")).send().await.is_err(), "nobody else trusts it");
}

#[tokio::test]
async fn a_client_that_knows_no_http_2_gets_http_1() {
    let weir = Weir::with().options(development).start().await;
    let pem = std::fs::read(weir.app().certificate_file().unwrap()).unwrap();
    let trust = [Certificate::from_pem(&pem).unwrap()];
    let client = client_builder().tls_certs_only(trust).http1_only().build().unwrap();
    let answer = client.get(weir.url("/livez")).send().await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_11);
    assert_eq!(answer.text().await.unwrap(), "ok\n");
}

#[tokio::test]
async fn http_2_without_encryption_works_for_clients_that_know_beforehand() {
    let weir = Weir::start().await;
    let client = client_builder().http2_prior_knowledge().build().unwrap();
    let answer = client.get(weir.url("/livez")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
}

#[tokio::test]
async fn a_new_certificate_is_taken_without_a_restart_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    write_pair(&cert, &key);
    let weir = Weir::with()
        .options(|options| {
            options.tls.cert = Some(cert.clone());
            options.tls.key = Some(key.clone());
        })
        .start()
        .await;
    let old = trusting(&cert);
    assert!(old.get(weir.url("/livez")).send().await.is_ok());

    std::fs::write(&cert, "not a certificate").unwrap();
    std::fs::write(&key, "not a key").unwrap();
    // A watcher that looked at the files by now has refused them; one that did not will find the next ones.
    let fresh = trusting_old_again(&weir, &old).await;
    assert!(fresh, "the old certificate stays in use");

    write_pair(&cert, &key);
    let new = trusting(&cert);
    let mut attempts = 0;
    while new.get(weir.url("/livez")).send().await.is_err() {
        attempts += 1;
        assert!(attempts < 100, "the new certificate is not taken");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Whether new connections are still accepted with the old certificate, for longer than the files go unwatched.
async fn trusting_old_again(weir: &Weir, old: &Client) -> bool {
    for _ in 0..15 {
        let request = old.get(weir.url("/livez")).header("connection", "close");
        if request.send().await.is_err() {
            return false;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    true
}
