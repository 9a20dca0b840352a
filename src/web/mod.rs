//! The faces: REST, SSE and the portal. A handler parses, calls one thing and answers.

pub mod problem;
