//! Behaviour of the whole program: real HTTP, real PostgreSQL, real engine.
//!
//! One binary, because linking is what costs; one module a subject. `harness` is the vocabulary, start there.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

#[expect(unused_imports, reason = "the vocabulary is there before the tests that speak it")]
mod harness;

mod browser;

mod access;
mod api_access;
mod api_apps;
mod api_audit;
mod api_docs;
mod api_failures;
mod api_http;
mod api_teams;
mod api_tokens;
mod api_topics;
mod demo;
mod docker;
mod health;
mod kill;
mod operators;
mod process;
mod produce;
mod provision;
mod read;
mod readme;
mod retention;
mod stream;
mod tidy;
mod tls;
mod ui_apps;
mod ui_first_event;
mod ui_look;
mod ui_sign_in;
mod ui_teams;
mod ui_topics;
mod without_database;
