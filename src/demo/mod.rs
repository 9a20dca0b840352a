//! An airport as a demo company: real data, real grants, departures replayed live.

pub mod company;
pub mod dataset;
pub mod replay;
