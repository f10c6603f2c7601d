//! SQLite: pool, transactions, catalog, result codes to [`Fault`].
//!
//! A writing transaction begins IMMEDIATE: it holds the file's one write lock, which is the row lock of this database (H21, H72).

use std::str::FromStr as _;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Row as _, Sqlite as Driver, Transaction};

use super::catalog::{Column, ForeignKey, NativeAction, ReplicaIdentity, TableRef};
use super::connect::{Access, ConnectError, migrator};
use super::statement::{self, quote};
use super::{Bind, ConstraintKind, Database, Dialect, Fault, Row, Session, SinkError, Statement};
use crate::rules::TableName;
use crate::value::{ColumnType, IntType};

/// How long a writer waits for another writer of the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections of one worker to one file: one writer, look-ups beside it.
const MAX_CONNECTIONS: u32 = 4;

pub(super) struct Sqlite {
    pool: SqlitePool,
    path: String,
}

impl Sqlite {
    /// Opens a pool on an existing file.
    pub(super) fn open(url: &str, access: Access) -> Result<Self, ConnectError> {
        let options = SqliteConnectOptions::from_str(url).map_err(|_| ConnectError::Url { driver: "SQLite" })?;
        let path = std::path::absolute(options.get_filename()).unwrap_or_else(|_| options.get_filename().to_owned());
        let options = match access {
            Access::Write => options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full),
            Access::Read => options.read_only(true),
        };
        let options = options.create_if_missing(false).foreign_keys(true).busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new().max_connections(MAX_CONNECTIONS).connect_lazy_with(options);
        Ok(Self { pool, path: path.display().to_string() })
    }
}

fn prepare(statement: &Statement) -> Query<'_, Driver, SqliteArguments> {
    let mut query = sqlx::query(AssertSqlSafe(statement.sql.clone()));
    for bind in &statement.binds {
        query = match bind {
            Bind::Text(text) => query.bind(text.as_deref()),
            Bind::Int(number) => query.bind(number),
            Bind::Texts(texts) => query.bind(serde_json::to_string(texts).expect("texts are always JSON")),
            Bind::Bytes(bytes) => query.bind(bytes),
        };
    }
    query
}

fn texts(what: &str, row: &SqliteRow) -> Result<Row, SinkError> {
    (0..row.len()).map(|index| row.try_get(index).map_err(|error| fail(what, &error))).collect()
}

#[async_trait]
impl Database for Sqlite {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    async fn identity(&self) -> Result<String, SinkError> {
        // A file has no identity but its place; the read proves that it is a database.
        let what = format!("opening `{}`", self.path);
        sqlx::query("SELECT count(*) FROM sqlite_schema").fetch_one(&self.pool).await.map_err(|error| fail(&what, &error))?;
        Ok(format!("sqlite:{}", self.path))
    }

    async fn table(&self, name: &TableName) -> Result<Option<TableRef>, SinkError> {
        let what = format!("reading the catalog for {name}");
        if name.schema.as_deref().is_some_and(|schema| schema != "main") {
            return Ok(None);
        }
        let found =
            sqlx::query("SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main' AND name = $1 AND type IN ('table', 'view')");
        let found = found.bind(&name.table).fetch_optional(&self.pool).await.map_err(|error| fail(&what, &error))?;
        let Some(found) = found else { return Ok(None) };
        let read = |found: &SqliteRow| Ok((found.try_get(0)?, found.try_get(1)?, found.try_get(2)?));
        let (table, table_type, without_rowid): (String, String, i64) = read(&found).map_err(|error| fail(&what, &error))?;
        let columns = sqlx::query(COLUMNS).bind(&table).fetch_all(&self.pool).await.map_err(|error| fail(&what, &error))?;
        let columns = columns.iter().map(column).collect::<Result<Vec<_>, _>>().map_err(|error| fail(&what, &error))?;
        let mut primary_key: Vec<(i64, String)> =
            columns.iter().filter(|(_, place)| *place > 0).map(|(column, place)| (*place, column.name.clone())).collect();
        primary_key.sort();
        let primary_key: Vec<String> = primary_key.into_iter().map(|(_, name)| name).collect();
        let indexes = self.indexes(&table).await.map_err(|error| fail(&what, &error))?;
        let mut unique: Vec<Vec<String>> = indexes.iter().filter(|(unique, _)| *unique).map(|(_, columns)| columns.clone()).collect();
        let mut all: Vec<Vec<String>> = indexes.into_iter().map(|(_, columns)| columns).collect();
        if !primary_key.is_empty() {
            unique.push(primary_key.clone());
            all.push(primary_key.clone());
        }
        let mark = format!("SELECT {}", statement::mark(Dialect::Sqlite, "$1"));
        let mark = sqlx::query(AssertSqlSafe(mark)).bind(&table).fetch_one(&self.pool).await;
        let mark = mark.and_then(|row| row.try_get(0)).map_err(|error| fail(&what, &error))?;
        let is_free = |name: &&str| columns.iter().all(|(column, _)| !column.name.eq_ignore_ascii_case(name));
        let rowid = ["rowid", "_rowid_", "oid"].into_iter().find(is_free).filter(|_| without_rowid == 0);
        Ok(Some(TableRef {
            schema: "main".to_owned(),
            quoted: quote(&table),
            name: table,
            columns: columns.into_iter().map(|(column, _)| column).collect(),
            primary_key,
            unique,
            indexes: all,
            replica_identity: ReplicaIdentity::Full,
            is_table: table_type == "table",
            rowid,
            has_heirs: false,
            mark,
        }))
    }

    async fn foreign_keys(&self) -> Result<Vec<ForeignKey>, SinkError> {
        let what = "reading native foreign keys";
        let rows = sqlx::query(FOREIGN_KEYS).fetch_all(&self.pool).await.map_err(|error| fail(what, &error))?;
        let rows = rows.iter().map(KeyPart::read).collect::<Result<Vec<_>, _>>().map_err(|error| fail(what, &error))?;
        let mut keys: Vec<(i64, ForeignKey)> = Vec::new();
        for part in rows {
            let mut parent_column = part.parent_column;
            if parent_column.is_none() {
                // REFERENCES parent without columns: its primary key.
                let parent = self.table(&TableName { schema: None, table: part.parent.clone() }).await?;
                parent_column = parent.and_then(|parent| parent.primary_key.get(part.sequence).cloned());
            }
            let Some(parent_column) = parent_column else { continue };
            match keys.last_mut() {
                Some((id, key)) if *id == part.id && key.child.table == part.child => {
                    key.sets.push(part.column.clone());
                    key.columns.push(part.column);
                    key.parent_columns.push(parent_column);
                    key.bytewise &= part.bytewise;
                }
                _ => keys.push((
                    part.id,
                    ForeignKey {
                        name: format!("{}#{}", part.child, part.id),
                        child: TableName { schema: Some("main".to_owned()), table: part.child },
                        columns: vec![part.column.clone()],
                        sets: vec![part.column],
                        parent: TableName { schema: Some("main".to_owned()), table: part.parent },
                        parent_columns: vec![parent_column],
                        bytewise: part.bytewise,
                        on_delete: part.on_delete,
                        on_update: part.on_update,
                    },
                )),
            }
        }
        Ok(keys.into_iter().map(|(_, key)| key).collect())
    }

    async fn begin(&self) -> Result<Box<dyn Session>, SinkError> {
        // IMMEDIATE: a read transaction that upgrades later would fail at once with SQLITE_BUSY (H72).
        let transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(|error| fail("opening a transaction", &error))?;
        Ok(Box::new(SqliteSession { transaction }))
    }

    async fn read(&self, statement: &Statement) -> Result<Vec<Row>, SinkError> {
        let rows = prepare(statement).fetch_all(&self.pool).await.map_err(|error| fail(&statement.what, &error))?;
        rows.iter().map(|row| texts(&statement.what, row)).collect()
    }

    async fn log_end(&self) -> Result<Option<u64>, SinkError> {
        // The log of the change feed: its sequence grows in commit order, as the file has one writer at a time.
        let what = "reading the end of the change feed's log";
        let row = sqlx::query("SELECT seq FROM sqlite_sequence WHERE name = 'entail_changes'").fetch_optional(&self.pool).await;
        match row {
            Ok(Some(row)) => {
                let end: i64 = row.try_get(0).map_err(|error| fail(what, &error))?;
                Ok(u64::try_from(end).ok())
            }
            Ok(None) => Ok(Some(0)),
            // No such table: nothing follows this file.
            Err(error) if fault(&error).0 == Fault::UnknownObject => Ok(None),
            Err(error) => Err(fail(what, &error)),
        }
    }

    async fn mark(&self) -> Result<(), SinkError> {
        // The change feed sends a marker by itself while it is idle.
        Ok(())
    }

    async fn migrate(&self) -> Result<(), SinkError> {
        migrator(Dialect::Sqlite).run(&self.pool).await.map_err(|error| super::connect::migration_failed(&error, fault))
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

impl Sqlite {
    /// (unique, columns) of every index over whole columns that is not partial.
    async fn indexes(&self, table: &str) -> Result<Vec<(bool, Vec<String>)>, sqlx::Error> {
        let rows = sqlx::query(INDEXES).bind(table).fetch_all(&self.pool).await?;
        let mut indexes: Vec<(String, bool, Vec<String>)> = Vec::new();
        for row in rows {
            let (name, unique, column): (String, i64, Option<String>) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let column = column.unwrap_or_default();
            match indexes.last_mut() {
                Some((last, _, columns)) if *last == name => columns.push(column),
                _ => indexes.push((name, unique == 1, vec![column])),
            }
        }
        Ok(indexes.into_iter().map(|(_, unique, columns)| (unique, columns)).collect())
    }
}

struct SqliteSession {
    transaction: Transaction<'static, Driver>,
}

#[async_trait]
impl Session for SqliteSession {
    async fn query(&mut self, statement: &Statement) -> Result<Vec<Row>, SinkError> {
        let rows = prepare(statement).fetch_all(&mut *self.transaction).await.map_err(|error| fail(&statement.what, &error))?;
        rows.iter().map(|row| texts(&statement.what, row)).collect()
    }

    async fn execute(&mut self, statement: &Statement) -> Result<u64, SinkError> {
        let done = prepare(statement).execute(&mut *self.transaction).await.map_err(|error| fail(&statement.what, &error))?;
        Ok(done.rows_affected())
    }

    async fn commit(self: Box<Self>) -> Result<(), SinkError> {
        self.transaction.commit().await.map_err(|error| fail("committing", &error))
    }

    async fn rollback(self: Box<Self>) {
        drop(self.transaction.rollback().await);
    }
}

/// What SQLite says of all its foreign keys.
const FOREIGN_KEY: &str = "FOREIGN KEY constraint failed";

#[expect(clippy::wildcard_enum_match_arm, reason = "sqlx may add errors; those of the client are tried again")]
fn fault(error: &sqlx::Error) -> (Fault, String) {
    let Some(database) = error.as_database_error() else {
        return match error {
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                (Fault::Connection, error.to_string())
            }
            other => (Fault::Other("client".to_owned()), other.to_string()),
        };
    };
    let code: u32 = database.code().and_then(|code| code.parse().ok()).unwrap_or(0);
    // Extended codes carry the primary code in their low byte (sqlite.org/rescode.html).
    let fault = match (code, code & 0xff) {
        (1299, _) => Fault::Constraint(ConstraintKind::NotNull, None),
        (787, _) => Fault::Constraint(ConstraintKind::ForeignKey, None),
        // RESTRICT is a trigger of its own making; what others raise is their text.
        (1811, _) if database.message() == FOREIGN_KEY => Fault::Constraint(ConstraintKind::ForeignKey, None),
        (1811, _) => Fault::Constraint(ConstraintKind::Trigger, None),
        (2067 | 1555 | 2579, _) => Fault::Constraint(ConstraintKind::Unique, None),
        (_, 19) => Fault::Constraint(ConstraintKind::Check, None),
        (_, 5 | 6) => Fault::Contention,
        (_, 7 | 10 | 13) => Fault::Resources,
        (_, 8) => Fault::ReadOnly,
        (_, 14 | 26) => Fault::Connection,
        (_, 20 | 18) => Fault::Value,
        (_, 3 | 23) => Fault::Privilege,
        (_, 1 | 17) => Fault::UnknownObject,
        _ => Fault::Other(code.to_string()),
    };
    // SQLite's own messages name tables and columns, never values.
    let message = if matches!(fault, Fault::Constraint(ConstraintKind::Trigger, _)) { "in a trigger" } else { database.message() };
    let detail = format!("{message} (code {code})");
    (fault, detail)
}

fn fail(what: &str, error: &sqlx::Error) -> SinkError {
    let (fault, detail) = fault(error);
    SinkError::Database { what: what.to_owned(), fault, detail }
}

const COLUMNS: &str = "SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo($1) WHERE hidden <> 1 ORDER BY cid";

const INDEXES: &str = "SELECT l.name, l.\"unique\", i.name FROM pragma_index_list($1) AS l JOIN pragma_index_info(l.name) AS i
    WHERE l.partial = 0 ORDER BY l.seq, i.seqno";

// A native key compares as the parent's columns do, and its unique index says how (sqlite.org/foreignkeys.html).
const FOREIGN_KEYS: &str = "SELECT m.name, f.id, f.seq, f.\"table\", f.\"from\", f.\"to\", f.on_delete, f.on_update,
        EXISTS (SELECT 1 FROM pragma_index_list(f.\"table\") AS l JOIN pragma_index_xinfo(l.name) AS x
                WHERE l.\"unique\" AND NOT l.partial AND x.key AND x.coll <> 'BINARY'
                AND (l.origin <> 'c' OR 0 = (SELECT count(*) FROM pragma_index_list(f.\"table\") AS o JOIN pragma_index_info(o.name) AS oi
                    WHERE o.origin <> 'c' AND oi.name = f.\"to\" COLLATE NOCASE))
                AND CASE WHEN f.\"to\" IS NULL THEN l.origin = 'pk' ELSE x.name = f.\"to\" COLLATE NOCASE END)
    FROM sqlite_schema AS m JOIN pragma_foreign_key_list(m.name) AS f WHERE m.type = 'table' ORDER BY m.name, f.id, f.seq";

struct KeyPart {
    child: String,
    id: i64,
    sequence: usize,
    parent: String,
    column: String,
    parent_column: Option<String>,
    on_delete: NativeAction,
    on_update: NativeAction,
    bytewise: bool,
}

impl KeyPart {
    fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let sequence: i64 = row.try_get(2)?;
        let action = |place: usize| {
            row.try_get(place).map(|words: String| match words.as_str() {
                "CASCADE" => NativeAction::Cascade,
                "SET NULL" => NativeAction::SetNull,
                "SET DEFAULT" => NativeAction::SetDefault,
                "RESTRICT" => NativeAction::Restrict,
                _ => NativeAction::NoAction,
            })
        };
        Ok(Self {
            child: row.try_get(0)?,
            id: row.try_get(1)?,
            sequence: usize::try_from(sequence).unwrap_or(0),
            parent: row.try_get(3)?,
            column: row.try_get(4)?,
            parent_column: row.try_get(5)?,
            on_delete: action(6)?,
            on_update: action(7)?,
            bytewise: row.try_get::<i64, _>(8)? == 0,
        })
    }
}

fn column(row: &SqliteRow) -> Result<(Column, i64), sqlx::Error> {
    let (declared, not_null, place, hidden): (String, i64, i64, i64) = (row.try_get(1)?, row.try_get(2)?, row.try_get(4)?, row.try_get(5)?);
    Ok((
        Column {
            name: row.try_get(0)?,
            mark: String::new(),
            kind: kind(&declared),
            cast: String::new(),
            nullable: not_null == 0 && place == 0,
            default: row.try_get(3)?,
            generated: hidden != 0,
            identity: false,
            // Our comparisons say COLLATE BINARY themselves; the catalog does not tell the column's own.
            bytewise: true,
            // A declared type has an affinity, by which a text is compared as what is stored.
            distinct: !declared.is_empty(),
        },
        place,
    ))
}

/// The type of a declared type, by SQLite's rules of affinity (sqlite.org/datatype3.html), plus the names that carry more meaning.
fn kind(declared: &str) -> ColumnType {
    let name = declared.to_ascii_uppercase();
    let has = |part: &str| name.contains(part);
    if has("INT") {
        ColumnType::Int(IntType { bits: 64, unsigned: false })
    } else if has("CHAR") || has("CLOB") || has("TEXT") {
        ColumnType::Text
    } else if has("BLOB") {
        ColumnType::Bytes
    } else if has("REAL") || has("FLOA") || has("DOUB") {
        ColumnType::Float
    } else if has("BOOL") {
        ColumnType::Bool
    } else {
        ColumnType::Other(if name.is_empty() { "untyped".to_owned() } else { declared.to_owned() })
    }
}
