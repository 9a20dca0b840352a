//! The catalog: who owns what and who may do what, kept in PostgreSQL.

pub mod access;
pub mod model;
