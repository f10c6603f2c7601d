//! Foreign keys across services.

#![forbid(unsafe_code)]

mod apply;
pub mod backoff;
pub mod change;
pub mod databases;
pub mod engine;
pub mod error;
pub mod graph;
pub mod ledger;
pub mod model;
pub mod plan;
mod resolve;
pub mod rules;
pub mod sink;
pub mod value;
