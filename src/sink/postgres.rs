//! PostgreSQL: pool, transactions, catalog, SQLSTATE to [`Fault`].

use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgDatabaseError, PgPool, PgPoolOptions, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres as Driver, Row as _, Transaction};

use super::catalog::{ForeignKey, TableRef};
use super::connect::{ConnectError, migrator};
use super::{Bind, ConstraintKind, Database, Dialect, Fault, Row, Session, SinkError, Statement};
use crate::rules::TableName;

mod catalog;
mod connection;

use connection::Refused;

/// Connections of one worker to one database: one writing transaction, look-ups beside it, the catalog.
const MAX_CONNECTIONS: u32 = 4;

pub(super) struct Postgres {
    pool: PgPool,
    options: PgConnectOptions,
    refused: Refused,
}

impl Postgres {
    /// Opens a pool; connects when first used.
    pub(super) fn open(url: &str) -> Result<Self, ConnectError> {
        let options = connection::options(url)?;
        let pool = PgPoolOptions::new().max_connections(MAX_CONNECTIONS).acquire_timeout(connection::TIMEOUT);
        let refused = Refused::default();
        let told = Arc::clone(&refused);
        let pool = pool.after_connect(move |connection, _| {
            let told = Arc::clone(&told);
            Box::pin(async move { connection::settled(connection, &told).await })
        });
        Ok(Self { pool: pool.connect_lazy_with(options.clone()), options, refused })
    }

    /// An error, or why there was no connection in time.
    fn fail(&self, what: &str, error: &sqlx::Error) -> SinkError {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match (error, &*refused) {
            (sqlx::Error::PoolTimedOut, Some(why)) => SinkError::Pooled { why: why.clone() },
            _ => fail(what, error),
        }
    }
}

fn prepare(statement: &Statement) -> Query<'_, Driver, PgArguments> {
    let mut query = sqlx::query(AssertSqlSafe(statement.sql.clone()));
    for bind in &statement.binds {
        query = match bind {
            Bind::Text(text) => query.bind(text.as_deref()),
            Bind::Int(number) => query.bind(number),
            Bind::Texts(texts) => query.bind(texts),
            Bind::Bytes(bytes) => query.bind(bytes),
        };
    }
    query
}

fn texts(what: &str, row: &PgRow) -> Result<Row, SinkError> {
    (0..row.len()).map(|index| row.try_get(index).map_err(|error| fail(what, &error))).collect()
}

#[async_trait]
impl Database for Postgres {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    async fn reach(&self) -> Result<(), SinkError> {
        connection::reach(&self.options).await
    }

    async fn identity(&self) -> Result<String, SinkError> {
        let what = "reading the identity of the server";
        let row = sqlx::query(
            "SELECT (SELECT system_identifier::text FROM pg_control_system()) || '/' || oid::text || '/' || datname::text
             FROM pg_database WHERE datname = current_database()",
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|error| fail(what, &error))?;
        row.try_get::<String, _>(0).map(|id| format!("postgres:{id}")).map_err(|error| fail(what, &error))
    }

    async fn table(&self, name: &TableName) -> Result<Option<TableRef>, SinkError> {
        Ok(self.tables(std::slice::from_ref(name)).await?.pop().flatten())
    }

    async fn tables(&self, names: &[TableName]) -> Result<Vec<Option<TableRef>>, SinkError> {
        catalog::tables(&self.pool, names).await
    }

    async fn foreign_keys(&self) -> Result<Vec<ForeignKey>, SinkError> {
        catalog::foreign_keys(&self.pool).await
    }

    async fn begin(&self) -> Result<Box<dyn Session>, SinkError> {
        // Whatever the role's default is: a look-up must see what was committed before it (H2).
        let transaction = self
            .pool
            .begin_with("BEGIN ISOLATION LEVEL READ COMMITTED")
            .await
            .map_err(|error| self.fail("opening a transaction", &error))?;
        Ok(Box::new(PostgresSession { transaction }))
    }

    async fn read(&self, statement: &Statement) -> Result<Vec<Row>, SinkError> {
        let rows = prepare(statement).fetch_all(&self.pool).await.map_err(|error| self.fail(&statement.what, &error))?;
        rows.iter().map(|row| texts(&statement.what, row)).collect()
    }

    async fn log_end(&self) -> Result<Option<u64>, SinkError> {
        let what = "reading the end of the write-ahead log";
        let row = sqlx::query("SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8").fetch_one(&self.pool).await;
        let end: i64 = row.and_then(|row| row.try_get(0)).map_err(|error| fail(what, &error))?;
        Ok(u64::try_from(end).ok())
    }

    async fn mark(&self) -> Result<(), SinkError> {
        let sql = "SELECT pg_logical_emit_message(true, 'entail', '')";
        sqlx::query(sql).fetch_one(&self.pool).await.map(|_| ()).map_err(|error| fail("writing a marker into the log", &error))
    }

    async fn migrate(&self) -> Result<(), SinkError> {
        migrator(Dialect::Postgres).run(&self.pool).await.map_err(|error| super::connect::migration_failed(&error, fault))
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

struct PostgresSession {
    transaction: Transaction<'static, Driver>,
}

#[async_trait]
impl Session for PostgresSession {
    async fn query(&mut self, statement: &Statement) -> Result<Vec<Row>, SinkError> {
        let rows = prepare(statement).fetch_all(&mut *self.transaction).await.map_err(|error| fail_within(&statement.what, &error))?;
        rows.iter().map(|row| texts(&statement.what, row)).collect()
    }

    async fn execute(&mut self, statement: &Statement) -> Result<u64, SinkError> {
        let done = prepare(statement).execute(&mut *self.transaction).await.map_err(|error| fail_within(&statement.what, &error))?;
        Ok(done.rows_affected())
    }

    async fn commit(self: Box<Self>) -> Result<(), SinkError> {
        self.transaction.commit().await.map_err(|error| fail_within("committing", &error))
    }

    async fn rollback(self: Box<Self>) {
        // An error here means that the server is gone or has rolled back by itself: the same outcome.
        drop(self.transaction.rollback().await);
    }
}

/// The class of an error and its code, without row values.
#[expect(clippy::wildcard_enum_match_arm, reason = "sqlx may add errors; those of the client are tried again")]
fn fault(error: &sqlx::Error) -> (Fault, String) {
    let Some(database) = error.as_database_error() else {
        return match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => (Fault::Connection, error.to_string()),
            other => (Fault::Other("client".to_owned()), other.to_string()),
        };
    };
    let code = database.code().unwrap_or_default().into_owned();
    let constraint = database.constraint().map(str::to_owned);
    let fault = match code.as_str() {
        "40001" | "40P01" | "55P03" | "57014" | "25P03" | "25P04" => Fault::Contention,
        "25006" => Fault::ReadOnly,
        "23502" => Fault::Constraint(ConstraintKind::NotNull, constraint),
        "23503" => Fault::Constraint(ConstraintKind::ForeignKey, constraint),
        "23505" => Fault::Constraint(ConstraintKind::Unique, constraint),
        "42501" => Fault::Privilege,
        "58030" => Fault::Resources,
        "3D000" => Fault::Authentication,
        _ => match code.get(..2).unwrap_or_default() {
            "08" | "57" => Fault::Connection,
            "53" => Fault::Resources,
            "23" => Fault::Constraint(ConstraintKind::Check, constraint),
            "22" => Fault::Value,
            "28" => Fault::Authentication,
            "42" | "3F" => Fault::UnknownObject,
            _ => Fault::Other(code.clone()),
        },
    };
    // Messages of classes 22 and 23 may quote values.
    let detail = match (&fault, database.table()) {
        (Fault::Value, _) => format!("SQLSTATE {code}"),
        (Fault::Constraint(_, name), table) => {
            format!("SQLSTATE {code}, table {}, constraint {}", table.unwrap_or("?"), name.as_deref().unwrap_or("?"))
        }
        _ => format!("{} (SQLSTATE {code})", database.message()),
    };
    (fault, detail)
}

/// The same within a transaction, where triggers run: what one raises, or stumbles over, meets the same row each time. It may quote values.
fn fail_within(what: &str, error: &sqlx::Error) -> SinkError {
    let told = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    match (fail(what, error), told) {
        (SinkError::Database { what, fault, .. }, Some(told)) if is_of_trigger(told) => {
            let place = told.r#where().and_then(|context| context.lines().find(|line| line.starts_with("PL/pgSQL function")));
            let detail = format!("SQLSTATE {}, {}", told.code(), place.unwrap_or("in a trigger"));
            let passes = matches!(fault, Fault::Connection | Fault::Contention | Fault::Resources | Fault::ReadOnly);
            let fault = if passes { fault } else { Fault::Constraint(ConstraintKind::Trigger, None) };
            SinkError::Database { what, fault, detail }
        }
        (other, _) => other,
    }
}

/// Classes 09, 27 and P0 are those of triggers and their language; `RAISE` may give any other code.
fn is_of_trigger(error: &PgDatabaseError) -> bool {
    let class = error.code().get(..2).unwrap_or_default();
    ["09", "27", "P0"].contains(&class) || error.routine() == Some("exec_stmt_raise")
}

fn fail(what: &str, error: &sqlx::Error) -> SinkError {
    let (fault, detail) = fault(error);
    SinkError::Database { what: what.to_owned(), fault, detail }
}
