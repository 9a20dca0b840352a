//! The broker: what Weir promises about records, and the engines that keep the promise.
//!
//! The broker knows topics by [`TopicId`](crate::names::TopicId) and tenants by an opaque id. It never learns who owns a
//! topic or who may read it; that is the catalog's, and `gateway` is where the two meet.

pub mod engine;
pub mod record;

pub mod embedded;
pub mod memory;

mod compaction;
pub mod idempotency;
mod log;
pub use self::log::inspect;
pub mod producers;

pub mod disk;

#[cfg(test)]
mod compact_tests;
#[cfg(test)]
pub(crate) mod conformance;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod relaxed_tests;
#[cfg(test)]
mod retention_tests;
#[cfg(test)]
mod scrub_tests;
