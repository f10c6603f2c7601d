//! Foreign keys across services.

#![forbid(unsafe_code)]

mod apply;
pub mod backoff;
pub mod change;
pub mod commands;
pub mod config;
pub mod databases;
pub mod dead_letter;
pub mod engine;
pub mod error;
pub mod feed;
pub mod graph;
pub mod ledger;
pub mod model;
pub mod plan;
pub mod replay;
mod resolve;
pub mod rules;
pub mod sink;
mod source;
pub mod stage;
pub mod startup;
pub mod telemetry;
pub mod value;
pub mod worker;
