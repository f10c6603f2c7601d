//! Integration tests, a module per capability. Most run in process; `faults` and `replay` need the servers that `script/test` starts.

#![allow(clippy::indexing_slicing, reason = "a test that misses what it looks for should panic")]
#![allow(clippy::wildcard_enum_match_arm, clippy::type_complexity, reason = "tables of cases, read once and from top to bottom")]

mod acls;
mod altered;
mod cascade;
mod check;
mod copies;
mod counted;
mod demo;
mod drill;
mod edges;
mod expiry;
mod fail_points;
mod faults;
mod gaps;
mod guards;
mod halts;
mod history;
mod in_process;
mod init;
mod key_changes;
mod key_corpus;
mod large;
mod latches;
mod layout;
mod ledger;
mod live;
mod masses;
mod model;
mod native_updates;
mod newcomers;
mod odd_tables;
mod oracle;
mod other_values;
mod outages;
mod parked;
mod poolers;
mod proof;
mod rebalance;
mod released;
mod replay;
mod rescued;
mod rewound;
mod scenarios;
mod support;
mod torture;
mod two_roots;
mod undo;
mod undo_again;
mod undo_beside;
mod undo_lives;
mod undo_rings;
mod undo_roots;
mod unique_keys;
mod unnamed;
