//! Databases as the rest sees them: one trait for a database, one for a transaction in it.
//!
//! A driver is thin: a pool, transactions, what the catalog says, and the class of each error. SQL text is made in [`statement`] and in the
//! ledger, from names that the catalog reported ([`TableRef`]) and from binds; a driver adds nothing to it. Every result column is text, so
//! that no driver converts a key (H54, H59). A third database is one more file beside `postgres.rs` and `sqlite.rs`, and its dialect.

use async_trait::async_trait;

use crate::error::Disposition;
use crate::rules::TableName;

mod catalog;
mod connect;
pub mod facts;
pub(crate) mod image;
mod postgres;
pub(crate) mod spelling;
mod sqlite;
pub mod statement;

pub use catalog::{Column, ForeignKey, NativeAction, ReplicaIdentity, TableRef};
pub use connect::{Access, ConnectError, Endpoint, Location};
pub use statement::{Bind, Dialect, Statement};

/// One row of a result: texts, `None` for NULL, in the order of the statement's columns.
pub type Row = Vec<Option<String>>;

/// A database: a pool of connections to one primary.
#[async_trait]
pub trait Database: Send + Sync {
    /// How SQL is written for it.
    fn dialect(&self) -> Dialect;

    /// Whether the server answers by itself, with its own words if it does not: a pool would wait, and say that it waited.
    async fn reach(&self) -> Result<(), SinkError> {
        Ok(())
    }

    /// A text that names this database for good: another server, a restored copy or another file has another one.
    async fn identity(&self) -> Result<String, SinkError>;

    /// What the catalog says of a table; `None` if there is none of that name, or the role cannot see it.
    async fn table(&self, name: &TableName) -> Result<Option<TableRef>, SinkError>;

    /// What the catalog says of some tables, in their order.
    async fn tables(&self, names: &[TableName]) -> Result<Vec<Option<TableRef>>, SinkError> {
        let mut tables = Vec::with_capacity(names.len());
        for name in names {
            tables.push(self.table(name).await?);
        }
        Ok(tables)
    }

    /// All native foreign keys of this database, by the names of tables.
    async fn foreign_keys(&self) -> Result<Vec<ForeignKey>, SinkError>;

    /// Opens a transaction that may write. Rows that it reads with a locking statement stay locked to its end.
    async fn begin(&self) -> Result<Box<dyn Session>, SinkError>;

    /// Runs one reading statement in a fresh snapshot, outside any open transaction, on the primary.
    async fn read(&self, statement: &Statement) -> Result<Vec<Row>, SinkError>;

    /// Where the database's own log ends now: whatever was committed before this call stands before it. `None` if it has no log that a
    /// connector follows.
    async fn log_end(&self) -> Result<Option<u64>, SinkError>;

    /// Writes a marker into the log, so that an idle connector has something to send behind what it sent.
    async fn mark(&self) -> Result<(), SinkError>;

    /// Brings the ledger's tables to this program's version. A repeat does nothing.
    async fn migrate(&self) -> Result<(), SinkError>;

    /// Closes all connections.
    async fn close(&self);
}

/// An open transaction. Dropping it rolls back.
#[async_trait]
pub trait Session: Send {
    /// Runs a statement and returns its rows.
    async fn query(&mut self, statement: &Statement) -> Result<Vec<Row>, SinkError>;

    /// Runs a statement and returns how many rows it touched.
    async fn execute(&mut self, statement: &Statement) -> Result<u64, SinkError>;

    /// Commits. After an error nobody knows whether the work is durable: the ledger does.
    async fn commit(self: Box<Self>) -> Result<(), SinkError>;

    /// Rolls back; errors mean the server has done so itself.
    async fn rollback(self: Box<Self>);
}

/// What kind of trouble a database reported. By SQLSTATE or result code, never by text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The connection could not be made or was lost, or the server is shutting down or starting.
    Connection,
    /// Deadlock, serialization failure, lock or statement timeout, busy file.
    Contention,
    /// Out of disk, memory or connections.
    Resources,
    /// The server is a standby or read-only.
    ReadOnly,
    /// A constraint refused the rows. Its name, if the server gave one.
    Constraint(ConstraintKind, Option<String>),
    /// A value does not fit its type.
    Value,
    /// The role lacks a privilege, or row security would have filtered rows (H65).
    Privilege,
    /// A table or column is not there.
    UnknownObject,
    /// A password or user was refused.
    Authentication,
    /// Anything else, by the server's code.
    Other(String),
}

/// Which kind of constraint refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConstraintKind {
    /// A NULL in a NOT NULL column.
    NotNull,
    /// A native foreign key.
    ForeignKey,
    /// A unique key.
    Unique,
    /// A check, or any other.
    Check,
    /// What a trigger raises.
    Trigger,
}

/// A limit of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `limits.rows_per_event`.
    RowsPerEvent,
    /// `limits.rows`.
    Rows,
}

impl Limit {
    /// The word for it in latches.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::RowsPerEvent => "rows-per-event",
            Self::Rows => "rows",
        }
    }
}

/// Its name in the rules.
impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::RowsPerEvent => "limits.rows_per_event",
            Self::Rows => "limits.rows",
        })
    }
}

/// An error of a database.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The database itself reported or caused it. Never quotes row values (H98).
    #[error("{what}: {detail}")]
    Database {
        /// What was attempted, in words.
        what: String,
        /// The class of the error.
        fault: Fault,
        /// The server's code and, where it is harmless, its message.
        detail: String,
    },
    /// The answer does not have the form that the statement guarantees; never read as "nothing there" (H68).
    #[error("{what}: expected {expected}, got {got}")]
    Answer {
        /// What was attempted, in words.
        what: String,
        /// What the statement guarantees.
        expected: String,
        /// What came.
        got: String,
    },
    /// Another worker owns this partition now (H31): roll back, drop its work.
    #[error("fenced: another worker owns {partition} in database `{database}`")]
    Fenced {
        /// The database whose ledger said so.
        database: String,
        /// The partition lost.
        partition: String,
    },
    /// A worker of this group that started later runs other rules (H77).
    #[error("another worker of this group has started with other rules (database `{database}`)")]
    OtherRules {
        /// The database whose ledger said so.
        database: String,
    },
    /// The ledger is missing or of another version.
    #[error("database `{database}` has no entail ledger of this version")]
    NoLedger {
        /// The database.
        database: String,
    },
    /// The ledger is that of a later release (H77).
    #[error("database `{database}` has the ledger of a later release: version {version}, and this program knows {known}")]
    LaterLedger {
        /// The database.
        database: String,
        /// Its ledger's version.
        version: i64,
        /// This program's.
        known: i64,
    },
    /// The default that a reference would write names no living parent (H110).
    #[error("the default of reference `{reference}` names no living parent")]
    DefaultWithoutParent {
        /// The reference.
        reference: String,
    },
    /// More rows would change than a limit allows, with those that native keys change along (H79).
    #[error("with the rows that follow natively by `{reference}`, `{limit}` would be exceeded")]
    Exceeded {
        /// The limit.
        limit: Limit,
        /// The native key.
        reference: String,
    },
    /// A row whose key is NULL in part, or cannot be read exactly; or one that goes, and what rows below may point at cannot.
    #[error("a row of {table} has a key that cannot be read exactly, so it can neither be changed nor passed over")]
    Unnamed {
        /// The table.
        table: String,
    },
    /// A person has paused what this work needs.
    #[error("paused: {why}")]
    Paused {
        /// The reason given.
        why: String,
    },
    /// The log of a database that is asked for parents ends before where it ended already: it was restored, or is another one (H15).
    #[error("the log of database `{database}` ends at {now}, and had been at {before}: it was restored or failed over, and may lack rows")]
    Rewound {
        /// The database.
        database: String,
        /// Where it had ended.
        before: u64,
        /// Where it ends.
        now: u64,
    },
    /// Columns that are used are not those that the rules were bound to any more (H74).
    #[error("the columns {columns} of {table} have changed")]
    Drifted {
        /// The table.
        table: String,
        /// Their names.
        columns: String,
    },
    /// A table has other columns, or other native foreign keys lead to it, than when the rules were bound; all that is used is as it was (H64, H74).
    #[error("{table} in database `{database}`, or a native foreign key that leads to it, was altered")]
    Reshaped {
        /// The database.
        database: String,
        /// The table.
        table: String,
    },
    /// The rules do not fit a table as it is now, and no reference leads there that could be shut.
    #[error("the rules cannot be bound to {table} as it is now: {why}")]
    Unbindable {
        /// The table.
        table: String,
        /// What stands against it.
        why: String,
    },
    /// A look-up was answered by a server that is not the primary (H66).
    #[error("the server is a standby, not a primary")]
    Standby,
    /// Between us and the server stands something that does not keep a session (H71).
    #[error("the url leads to a pooler, not to the server: it {why}")]
    Pooled {
        /// What it does.
        why: String,
    },
    /// What the database did is not what the plan said: a trigger or rule stands between (H64).
    #[error("{what}: {expected} rows planned, {got} done; does a trigger or rule stand in the way?")]
    Swallowed {
        /// The step.
        what: String,
        /// Rows planned.
        expected: usize,
        /// Rows done.
        got: usize,
    },
}

impl SinkError {
    /// What happens to the work. The whole table is in a test below.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Database { fault, .. } => match fault {
                Fault::Connection | Fault::Contention | Fault::Resources | Fault::ReadOnly | Fault::Authentication | Fault::Other(_) => {
                    Disposition::Retry
                }
                Fault::Constraint(..) | Fault::Value => Disposition::DeadLetter,
                Fault::Privilege | Fault::UnknownObject => Disposition::Halt,
            },
            Self::Standby | Self::Pooled { .. } | Self::Answer { .. } | Self::Paused { .. } | Self::Reshaped { .. } => Disposition::Retry,
            Self::Fenced { .. }
            | Self::OtherRules { .. }
            | Self::NoLedger { .. }
            | Self::LaterLedger { .. }
            | Self::Swallowed { .. }
            | Self::Unnamed { .. }
            | Self::Exceeded { .. }
            | Self::Rewound { .. }
            | Self::Drifted { .. }
            | Self::Unbindable { .. }
            | Self::DefaultWithoutParent { .. } => Disposition::Halt,
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Database { fault, .. } => match fault {
                Fault::Connection => "is the server up, and is the url right: host and port, or the file's path?",
                Fault::Authentication => "check user, password and database in the url",
                Fault::Contention | Fault::Resources => "the work is tried again",
                Fault::ReadOnly => "point the url at the primary",
                Fault::Constraint(ConstraintKind::Trigger, _) => "a trigger of the target table refuses it; once it does not, it is done",
                Fault::Constraint(..) => "the target table has a constraint that the event's row does not meet",
                Fault::Value => "the event's value does not fit the target's column type",
                Fault::Privilege => "see the grants in the README; row security must not apply to this role",
                Fault::UnknownObject => "the schema changed: compare it with the rules",
                Fault::Other(_) => "the work is tried again; look the code up in the server's manual",
            },
            Self::Answer { .. } => "the work is tried again",
            Self::Reshaped { .. } => "the rules are bound to it anew; do it once more",
            Self::Fenced { .. } => "another worker has taken over; this one drops the partition",
            Self::OtherRules { .. } => "the later worker's rules count: give this one the same rules, or stop the other, and start again",
            Self::NoLedger { .. } => "run `entail migrate`, or `entail run --migrate`",
            Self::LaterLedger { .. } => "run that release, or a later one; ledgers are not taken back",
            Self::DefaultWithoutParent { .. } => "create the parent that the column's default names, or change the default or the rule",
            Self::Exceeded { .. } => "`entail release` shows what would go, and lets it go",
            Self::Unnamed { .. } => "give the row a whole key, or name another unique key of the table in the rules",
            Self::Paused { .. } => "`entail resume` goes on",
            Self::Drifted { .. } => "compare the rules with the table, start the workers again, then `entail release`",
            Self::Unbindable { .. } => "mend what `entail check` tells of, and start the workers again",
            Self::Rewound { .. } => "bring its rows up to date, look for children whose parents it lost, then `entail release`",
            Self::Standby => "point the url at the primary, never at a replica or a read pool",
            Self::Pooled { .. } => "name the server itself in the url: its host and port",
            Self::Swallowed { .. } => "look at the triggers and rules of the table",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_the_class_that_the_readme_says() {
        let class = |fault| SinkError::Database { what: String::new(), fault, detail: String::new() }.disposition();
        let retry =
            [Fault::Connection, Fault::Contention, Fault::Resources, Fault::ReadOnly, Fault::Authentication, Fault::Other("XX000".into())];
        for fault in retry {
            assert_eq!(class(fault.clone()), Disposition::Retry, "{fault:?}");
        }
        let dead = [
            Fault::Constraint(ConstraintKind::NotNull, None),
            Fault::Constraint(ConstraintKind::ForeignKey, None),
            Fault::Constraint(ConstraintKind::Unique, None),
            Fault::Constraint(ConstraintKind::Check, None),
            Fault::Constraint(ConstraintKind::Trigger, None),
            Fault::Value,
        ];
        for fault in dead {
            assert_eq!(class(fault.clone()), Disposition::DeadLetter, "{fault:?}");
        }
        for fault in [Fault::Privilege, Fault::UnknownObject] {
            assert_eq!(class(fault.clone()), Disposition::Halt, "{fault:?}");
        }
    }
}
