//! The test bed: real servers (`bed`, `connect`, `kafka`, `postgres`), how to wait for them (`wait`), and entail on top of them or without them.

// What no test needs at the moment stays for the next one.
#![allow(dead_code, reason = "a bed offers more than each set of tests uses")]

pub(crate) mod bed;
pub(crate) mod broker;
pub(crate) mod connect;
pub(crate) mod engine;
pub(crate) mod kafka;
pub(crate) mod local;
pub(crate) mod members;
pub(crate) mod pooler;
pub(crate) mod postgres;
pub(crate) mod proxy;
pub(crate) mod repeat;
pub(crate) mod scripted;
pub(crate) mod wait;
pub(crate) mod worker;
pub(crate) mod world;
