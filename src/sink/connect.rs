//! From a url to a database; and the ledger's migrations, which ship inside the binary.

use std::borrow::Cow;
use std::sync::Arc;

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnectOptions;

use super::postgres::Postgres;
use super::sqlite::Sqlite;
use super::{Database, Dialect, Fault, SinkError};

/// What a database is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Rows and ledger are written.
    Write,
    /// Parents only: looked up, never written.
    Read,
}

/// Where a database is. The url holds a secret: neither printed nor compared in public.
#[derive(Clone)]
pub struct Location {
    /// `postgres://…` or `sqlite:…`.
    pub url: String,
    /// What it is for.
    pub access: Access,
}

impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Location").field("url", &"…").field("access", &self.access).finish()
    }
}

/// Why a url cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The scheme is none of ours.
    #[error("the url begins with none of `postgres://`, `postgresql://`, `sqlite:`")]
    Scheme,
    /// The driver cannot read it.
    #[error("not a {driver} url")]
    Url {
        /// The driver's name.
        driver: &'static str,
    },
}

/// Where a server is, for a person or for another program; no secret is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The user.
    pub user: String,
    /// The database.
    pub database: String,
}

impl Location {
    /// Where the server is; `None` for a file, or if the url cannot be read.
    #[must_use]
    pub fn endpoint(&self) -> Option<Endpoint> {
        let scheme = self.url.split_once(':').map(|(scheme, _)| scheme)?;
        let options: PgConnectOptions = self.url.parse().ok().filter(|_| ["postgres", "postgresql"].contains(&scheme))?;
        let (host, user) = (options.get_host().to_owned(), options.get_username().to_owned());
        let database = options.get_database().unwrap_or(&user).to_owned();
        Some(Endpoint { host, port: options.get_port(), user, database })
    }

    /// Opens a pool. Connects when first used.
    ///
    /// # Errors
    /// If the url is not one of a database that we know.
    pub fn open(&self) -> Result<Arc<dyn Database>, ConnectError> {
        match self.url.split_once(':') {
            Some(("postgres" | "postgresql", _)) => Ok(Arc::new(Postgres::open(&self.url)?)),
            Some(("sqlite", _)) => Ok(Arc::new(Sqlite::open(&self.url, self.access)?)),
            _ => Err(ConnectError::Scheme),
        }
    }
}

/// The ledger's migrations for a dialect, kept in a table of our own name: the service may use sqlx's default table itself.
pub(super) fn migrator(dialect: Dialect) -> Migrator {
    let texts = match dialect {
        Dialect::Postgres => [
            include_str!("../../migrations/postgres/0001_ledger.sql"),
            include_str!("../../migrations/postgres/0002_beside.sql"),
            include_str!("../../migrations/postgres/0003_undo.sql"),
            include_str!("../../migrations/postgres/0004_operations.sql"),
            include_str!("../../migrations/postgres/0005_references.sql"),
            include_str!("../../migrations/postgres/0006_last_record.sql"),
            include_str!("../../migrations/postgres/0007_transactions.sql"),
            include_str!("../../migrations/postgres/0008_checked.sql"),
            include_str!("../../migrations/postgres/0009_expiry.sql"),
            include_str!("../../migrations/postgres/0010_left.sql"),
        ],
        Dialect::Sqlite => [
            include_str!("../../migrations/sqlite/0001_ledger.sql"),
            include_str!("../../migrations/sqlite/0002_beside.sql"),
            include_str!("../../migrations/sqlite/0003_undo.sql"),
            include_str!("../../migrations/sqlite/0004_operations.sql"),
            include_str!("../../migrations/sqlite/0005_references.sql"),
            include_str!("../../migrations/sqlite/0006_last_record.sql"),
            include_str!("../../migrations/sqlite/0007_transactions.sql"),
            include_str!("../../migrations/sqlite/0008_checked.sql"),
            include_str!("../../migrations/sqlite/0009_expiry.sql"),
            include_str!("../../migrations/sqlite/0010_left.sql"),
        ],
    };
    let migrations = (1i64..)
        .zip(["ledger", "beside", "undo", "operations", "references", "last_record", "transactions", "checked", "expiry", "left"])
        .zip(texts)
        .map(|((version, name), sql)| Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false));
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.dangerous_set_table_name("entail_migrations");
    migrator
}

#[expect(clippy::wildcard_enum_match_arm, reason = "sqlx may add errors; what is not a database's is ours")]
pub(super) fn migration_failed(error: &MigrateError, fault: fn(&sqlx::Error) -> (Fault, String)) -> SinkError {
    let (fault, detail) = match error {
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => fault(cause),
        other => (Fault::Other("migrate".to_owned()), other.to_string()),
    };
    SinkError::Database { what: "migrating the ledger".to_owned(), fault, detail }
}
