//! Integration tests, a module per capability. Most run in process; those under `live` need the servers that `script/test` starts.

#![allow(clippy::indexing_slicing, reason = "a test that misses what it looks for should panic")]

mod cascade;
mod demo;
mod guards;
mod history;
mod in_process;
mod layout;
mod live;
mod support;
