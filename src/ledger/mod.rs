//! The bookkeeping tables in each target database: types, and the SQL that reads and writes them.
//!
//! Written in the transaction of the rows, by the worker that holds the epoch. One SQL text serves both dialects; what differs is in
//! `statement`. Documented for operators in `migrations/`.

use crate::change::SourcePosition;
use crate::sink::statement::Bind;
use crate::sink::{Database, Row, Session, SinkError, Statement};
use crate::value::{Cell, Key};

mod archive;
mod checked;
mod clock;
mod expiry;
mod known;
mod latches;
mod moves;
mod operations;
mod pending;
mod progress;
mod purge;
mod rows;
mod standing;
mod undone;

pub use archive::{
    Archived, Below, Choice, Images, Left, Stump, Told, Uprooted, archived, cascades, cascades_below, cascades_beside, images_of, left,
    left_to_undo, mark_undone, removed, uprooted,
};
pub use checked::{Checked, checked, note_checked};
pub use clock::{Clock, clock};
pub use expiry::{expire_images, expire_moves};
pub use known::{Known, forget_references, known_references, note_references, promote};
pub use latches::{EVERYTHING, GAP, Latch, PAUSE, PAUSED, charge, latches, latches_now, release, shut, windows};
pub use moves::{arrivals, halves, leave, moves, note_arrivals, note_moves, set_moves, supersede};
pub use operations::{allow, allowances, count_shadow, decide, last_decision, pause, resume, spend};
pub use pending::{Pending, PendingKind, adopt, park, pending, pending_by_key, settle};
pub use progress::{ANEW, Reached, Taken, advance, identity, pin_identity, progress, renew_identity, replace_identity, take};
pub use purge::{Purge, purge, to_purge};
pub use rows::{AuditLine, ReplicaRow, audit, note_replica_rows, note_shape, replica_rows, rows_of};
pub use standing::{Done, Held, Progress, Standing, parked, standing};
pub use undone::{UndoneRoot, forget_undone, hold, spare, undone};

/// The tables that this program writes, in every database that keeps a ledger.
pub const TABLES: &[&str] = &[
    "entail_allowances",
    "entail_archive",
    "entail_cascades",
    "entail_checked",
    "entail_decisions",
    "entail_identity",
    "entail_latches",
    "entail_moves",
    "entail_pending",
    "entail_progress",
    "entail_references",
    "entail_replica_rows",
    "entail_shadow",
    "entail_shapes",
    "entail_undone",
    "entail_windows",
];
/// The table that says of which version they are: only `migrate` writes it.
pub const VERSIONS: &str = "entail_migrations";
/// The version that this program reads and writes: the number of its last migration.
const VERSION: i64 = 10;

/// The version of a partition's ownership: an older one can commit nothing (H31).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub i64);

/// Whose ledger: every table is keyed by the consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The consumer group.
    pub group: String,
    /// Fingerprint of the rules that this worker runs.
    pub rules: String,
}

/// A key as it stands in the ledger: a JSON list of texts.
#[must_use]
pub fn key_text(key: &Key) -> String {
    parts_text(key.parts())
}

/// The parts of a key, in the same form.
pub(crate) fn parts_text(parts: &[String]) -> String {
    serde_json::to_string(parts).expect("texts are always JSON")
}

/// A key as it stands in the ledger.
pub(crate) fn read_key(text: &str) -> Option<Key> {
    key_of(read_list(text))
}

fn read_list(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_default()
}

/// A key as a person writes it: a JSON list of texts, or texts parted by commas.
#[must_use]
pub fn parse_key(text: &str) -> Option<Key> {
    if text.starts_with('[') {
        return read_key(text);
    }
    key_of(text.split(',').map(str::to_owned).collect()).filter(|_| !text.is_empty())
}

fn key_of(parts: Vec<String>) -> Option<Key> {
    let cells: Vec<Cell> = parts.into_iter().map(Cell::Value).collect();
    Key::from_cells(&cells)
}

fn source_text(source: Option<&SourcePosition>) -> String {
    source.map(ToString::to_string).unwrap_or_default()
}

fn read_source(text: &str) -> Option<SourcePosition> {
    text.parse().ok()
}

fn text(value: impl Into<String>) -> Bind {
    Bind::Text(Some(value.into()))
}

fn int(value: u64) -> Bind {
    Bind::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

fn some<T: Into<String>>(values: impl IntoIterator<Item = T>) -> Vec<Option<String>> {
    values.into_iter().map(|value| Some(value.into())).collect()
}

fn cell(row: &Row, index: usize) -> &str {
    row.get(index).and_then(Option::as_deref).unwrap_or_default()
}

fn number(what: &str, row: &Row, index: usize) -> Result<i64, SinkError> {
    cell(row, index).parse().map_err(|_| SinkError::Answer {
        what: what.to_owned(),
        expected: "a whole number".to_owned(),
        got: "something else".to_owned(),
    })
}

/// Whether the ledger is there, in this program's version.
///
/// # Errors
/// [`SinkError::NoLedger`] or [`SinkError::LaterLedger`], or those of the database.
pub async fn exists(database: &dyn Database, name: &str) -> Result<(), SinkError> {
    let sql = "SELECT CAST(max(version) AS TEXT) FROM entail_migrations WHERE success";
    let version = match database.read(&Statement::fixed("reading the ledger's version", sql, Vec::new())).await {
        Ok(rows) => rows.first().map(|row| cell(row, 0).to_owned()).unwrap_or_default(),
        Err(SinkError::Database { fault: crate::sink::Fault::UnknownObject, .. }) => String::new(),
        Err(other) => return Err(other),
    };
    match version.parse::<i64>() {
        Ok(VERSION) => Ok(()),
        Ok(version) if version > VERSION => Err(SinkError::LaterLedger { database: name.to_owned(), version, known: VERSION }),
        _ => Err(SinkError::NoLedger { database: name.to_owned() }),
    }
}

async fn query(session: &mut dyn Session, statement: Option<Statement>) -> Result<Vec<Row>, SinkError> {
    match statement {
        Some(statement) => session.query(&statement).await,
        None => Ok(Vec::new()),
    }
}

async fn execute(session: &mut dyn Session, statement: Option<Statement>) -> Result<(), SinkError> {
    match statement {
        Some(statement) => session.execute(&statement).await.map(drop),
        None => Ok(()),
    }
}
