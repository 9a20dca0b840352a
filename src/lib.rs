//! Weir: one home for a company's event streams.
//!
//! Read the modules in this order; each may use the ones below it, never the ones above (see `ARCHITECTURE.md`).

pub mod app;
pub mod cli;
pub mod demo;

pub mod web;

pub mod gateway;
pub mod provision;

pub mod catalog;

pub mod broker;

pub mod embedded_postgres;

pub mod config;
pub mod telemetry;

pub mod clock;
pub mod names;

/// The schema of the catalog's database, in steps.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();

/// A record's bytes are allocated by one thread and freed by another, for which the system's allocator takes locks.
/// See `docs/decisions/0006-what-single-records-cost.md`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
