//! Asking over HTTP, and what came back.

use std::sync::OnceLock;

use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;

use super::Events;

/// Somebody who calls, with or without a credential.
#[derive(Debug, Clone)]
pub struct Caller {
    base: String,
    credential: Credential,
    http: Client,
}

#[derive(Debug, Clone)]
enum Credential {
    None,
    Token(String),
    Session(String),
}

impl Caller {
    pub fn anonymous(base: &str) -> Self {
        Self { base: base.to_owned(), credential: Credential::None, http: client_builder().build().unwrap() }
    }

    pub fn with_token(&self, token: &str) -> Self {
        Self { credential: Credential::Token(token.to_owned()), ..self.clone() }
    }

    pub fn with_session(&self, secret: &str) -> Self {
        Self { credential: Credential::Session(secret.to_owned()), ..self.clone() }
    }

    /// The token, to put into a command line or a header of one's own.
    pub fn secret(&self) -> &str {
        match &self.credential {
            Credential::Token(secret) | Credential::Session(secret) => secret,
            Credential::None => "",
        }
    }

    /// A request with the credential, to be completed and sent with [`Self::send`].
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.credential {
            Credential::None => request,
            Credential::Token(token) => request.bearer_auth(token),
            Credential::Session(secret) => request.header("cookie", format!("weir_session={secret}")),
        }
    }

    pub async fn send(&self, request: RequestBuilder) -> Answer {
        Answer::of(request.send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// A body of any type.
    pub async fn post_as(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.send(self.request(Method::POST, path).header("content-type", content_type).body(body)).await
    }

    /// A form, as a page sends it.
    pub async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body = fields.iter().map(|(k, v)| format!("{}={}", encode(k), encode(v))).collect::<Vec<_>>().join("&");
        self.post_as(path, "application/x-www-form-urlencoded", body).await
    }

    /// Opens a Server-Sent Events stream.
    pub async fn events(&self, path: &str) -> Events {
        Events::open(self.request(Method::GET, path)).await
    }
}

fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// A client that follows no redirect: where one leads is part of the answer.
pub fn client_builder() -> reqwest::ClientBuilder {
    static PROVIDER: OnceLock<()> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        // Somebody else in this process may have chosen the same before.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy()
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    async fn of(response: reqwest::Response) -> Self {
        let (code, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.unwrap().to_vec();
        Self { code, headers, body }
    }

    /// Insists on a status; shows the body otherwise.
    #[track_caller]
    pub fn status(self, code: u16) -> Self {
        assert_eq!(self.code, code, "{}", self.text());
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {}", self.text()))
    }

    /// The lines of an NDJSON body.
    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("no JSON ({e}): {l}"))).collect()
    }

    /// A header's text; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Insists on a refusal of the catalogue and returns its body.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Value {
        let answer = self.status(status);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{}", answer.text());
        let body = answer.json();
        assert_eq!(body["code"], code, "{body}");
        body
    }
}
