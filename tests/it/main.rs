//! Integration tests, a module per capability. Most run in process; those under `live` need the servers that `script/test` starts.

mod cascade;
mod history;
mod in_process;
mod live;
mod support;
