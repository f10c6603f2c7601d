//! Foreign keys across services: the library behind the `entail` command.
//!
//! # Code map, in the order in which data flows
//!
//! | Module | Question it answers | Pure |
//! |---|---|---|
//! | [`error`], [`value`], [`backoff`] | what becomes of failed work; what a value and a key are; how long to wait | yes |
//! | [`rules`] | what is enforced | yes, but for reading files |
//! | [`graph`], [`diagram`], [`diff`] | which table hangs on which; the same as a picture; what a change of rules means | yes |
//! | [`change`] | what a record means | yes |
//! | [`plan`] | what a batch entails | yes |
//! | [`telemetry`], [`config`] | how this process logs and connects | |
//! | [`sink`] | databases behind one trait; the only SQL beside the ledger's | |
//! | [`databases`], [`model`] | the databases by service; rules bound to tables | |
//! | [`ledger`], [`newcomers`] | what each target database remembers; references that the group has not run with | |
//! | `resolve`, `apply` | child rows under lock, then the look-up; a plan applied | |
//! | [`watch`], [`engine`] | whether the databases still are what they were; one batch from events to durable rows | |
//! | `source`, [`dead_letter`] | the poll thread; records that can never succeed | |
//! | [`worker`], [`replay`] | the loop; the same stages over old records | |
//! | [`undo`], [`release`] | whole cascades, put back from the archive; what a latch holds back | |
//! | [`grants`], [`inspect`] | the least rights that rules need; what live servers say about the rules | |
//! | [`init`] | rules proposed from catalogs, names and values | |
//! | [`startup`], [`commands`] | from settings to an engine; the command line | |
//! | [`feed`], [`stage`] | a change feed for SQLite and an in-process broker, for the demo and tests | |
//! | [`scenario`] | what a test beside the rules says, and whether it holds | |
//! | [`demo`] | the story that `entail demo` tells, and its load | |
//!
//! # Invariants
//!
//! 1. Rows are read and locked before their root is looked up, and no plan is made without that look-up ([`plan::Collected`],
//!    [`plan::Verified`]).
//! 2. A row is touched by key *and* by the foreign key it was found by.
//! 3. Rows, archive and ledger of a database commit together, under the epoch of the partition.
//! 4. An offset moves only for what is durable in every database, or acknowledged as a dead letter.
//! 5. No identifier in SQL comes from an event or from the rules: the catalog's spelling is used ([`sink::TableRef`]).
//! 6. Nothing is deleted by negation, and an empty list makes no statement.

#![forbid(unsafe_code)]

mod apply;
pub mod backoff;
pub mod change;
pub mod commands;
pub mod config;
pub mod databases;
pub mod dead_letter;
pub mod demo;
pub mod diagram;
pub mod diff;
pub mod engine;
pub mod error;
pub mod feed;
pub mod grants;
pub mod graph;
pub mod init;
pub mod inspect;
pub mod ledger;
pub mod model;
pub mod newcomers;
pub mod plan;
pub mod release;
pub mod replay;
mod resolve;
pub mod rules;
pub mod scenario;
pub mod sink;
mod source;
pub mod stage;
pub mod startup;
pub mod telemetry;
pub mod undo;
pub mod value;
pub mod watch;
pub mod worker;
