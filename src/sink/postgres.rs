//! PostgreSQL: pool, transactions, catalog, SQLSTATE to [`Fault`].

use std::str::FromStr as _;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions, PgRow, PgSslMode};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres as Driver, Row as _, Transaction};

use super::catalog::{Column, ForeignKey, NativeAction, ReplicaIdentity, TableRef};
use super::connect::{ConnectError, migrator};
use super::statement::{self, quote};
use super::{Bind, ConstraintKind, Database, Dialect, Fault, Row, Session, SinkError, Statement};
use crate::rules::TableName;
use crate::value::{ColumnType, IntType};

/// Connections of one worker to one database: one writing transaction, look-ups beside it, the catalog.
const MAX_CONNECTIONS: u32 = 4;
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Session settings. Timeouts bound every statement on the server's side (nothing here is ever cancelled from outside, H70); the others fix
/// the text form of values (dates, bytes, floats) and make row security an error rather than a filter (H65). Statements are planned for the
/// lists of keys that they get: a plan made once for any list, on a ledger that was still empty, compares every row with every key.
const SESSION: [(&str, &str); 11] = [
    ("statement_timeout", "60s"),
    ("lock_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "120s"),
    ("row_security", "off"),
    ("datestyle", "ISO"),
    ("intervalstyle", "postgres"),
    ("lc_monetary", "C"),
    ("timezone", "UTC"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
    ("plan_cache_mode", "force_custom_plan"),
];

pub(super) struct Postgres {
    pool: PgPool,
}

impl Postgres {
    /// Opens a pool; connects when first used. Without `sslmode` in the url: plain text to a loopback address, verified TLS to any other (H99).
    pub(super) fn open(url: &str) -> Result<Self, ConnectError> {
        let mut options = PgConnectOptions::from_str(url).map_err(|_| ConnectError::Url { driver: "PostgreSQL" })?;
        if !url.contains("sslmode=") && !url.contains("ssl-mode=") {
            let loopback = matches!(options.get_host(), "localhost" | "127.0.0.1" | "::1" | "[::1]") || options.get_socket().is_some();
            options = options.ssl_mode(if loopback { PgSslMode::Disable } else { PgSslMode::VerifyFull });
        }
        // Whoever names the process in the url finds it by that name in the server's views.
        let options = if url.contains("application_name=") { options } else { options.application_name("entail") }.options(SESSION);
        let pool = PgPoolOptions::new().max_connections(MAX_CONNECTIONS).acquire_timeout(CONNECT_TIMEOUT).connect_lazy_with(options);
        Ok(Self { pool })
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
        let what = format!("reading the catalog for {name}");
        let qualified = match &name.schema {
            Some(schema) => format!("{}.{}", quote(schema), quote(&name.table)),
            None => quote(&name.table),
        };
        let found = sqlx::query(AssertSqlSafe(table_sql()))
            .bind(qualified)
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| fail(&what, &error))?;
        let Some(found) = found else { return Ok(None) };
        let get = |index: usize| found.try_get::<String, _>(index).map_err(|error| fail(&what, &error));
        let (schema, table, kind, identity) = (get(1)?, get(2)?, get(3)?, get(4)?);
        let oid: i64 = found.try_get(0).map_err(|error| fail(&what, &error))?;
        let columns = sqlx::query(COLUMNS).bind(oid).fetch_all(&self.pool).await.map_err(|error| fail(&what, &error))?;
        let columns = columns.iter().map(column).collect::<Result<Vec<_>, _>>().map_err(|error| fail(&what, &error))?;
        let indexes = sqlx::query(INDEXES).bind(oid).fetch_all(&self.pool).await.map_err(|error| fail(&what, &error))?;
        let indexes = indexes.iter().map(Index::read).collect::<Result<Vec<_>, _>>().map_err(|error| fail(&what, &error))?;
        let primary_key = indexes.iter().find(|index| index.primary).map(|index| index.columns.clone()).unwrap_or_default();
        let replica_identity = match identity.as_str() {
            "f" => ReplicaIdentity::Full,
            "n" => ReplicaIdentity::Nothing,
            "i" => {
                ReplicaIdentity::Columns(indexes.iter().find(|index| index.identity).map(|index| index.columns.clone()).unwrap_or_default())
            }
            _ if primary_key.is_empty() => ReplicaIdentity::Nothing,
            _ => ReplicaIdentity::PrimaryKey,
        };
        Ok(Some(TableRef {
            quoted: format!("{}.{}", quote(&schema), quote(&table)),
            schema,
            name: table,
            columns,
            primary_key,
            unique: indexes.iter().filter(|index| index.unique).map(|index| index.columns.clone()).collect(),
            indexes: indexes.into_iter().filter(|index| index.whole).map(|index| index.columns).collect(),
            replica_identity,
            is_table: matches!(kind.as_str(), "r" | "p"),
            rowid: None,
            has_heirs: found.try_get(6).map_err(|error| fail(&what, &error))?,
            mark: get(5)?,
        }))
    }

    async fn foreign_keys(&self) -> Result<Vec<ForeignKey>, SinkError> {
        let what = "reading native foreign keys";
        let rows = sqlx::query(FOREIGN_KEYS).fetch_all(&self.pool).await.map_err(|error| fail(what, &error))?;
        rows.iter().map(foreign_key).collect::<Result<_, _>>().map_err(|error| fail(what, &error))
    }

    async fn begin(&self) -> Result<Box<dyn Session>, SinkError> {
        // Whatever the role's default is: a look-up must see what was committed before it (H2).
        let transaction =
            self.pool.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await.map_err(|error| fail("opening a transaction", &error))?;
        Ok(Box::new(PostgresSession { transaction }))
    }

    async fn read(&self, statement: &Statement) -> Result<Vec<Row>, SinkError> {
        let rows = prepare(statement).fetch_all(&self.pool).await.map_err(|error| fail(&statement.what, &error))?;
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

fn fail(what: &str, error: &sqlx::Error) -> SinkError {
    let (fault, detail) = fault(error);
    SinkError::Database { what: what.to_owned(), fault, detail }
}

fn table_sql() -> String {
    format!(
        "SELECT c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, c.relreplident::text, {}, {}
        FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)",
        statement::mark(Dialect::Postgres, "c.oid"),
        statement::has_heirs("c.oid")
    )
}

// Domains are followed to their base type (three levels are plenty).
const COLUMNS: &str = "SELECT a.attname::text, b.typname::text, bn.nspname::text, a.atttypmod::int8, NOT a.attnotnull,
        CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
        a.attgenerated <> '', a.attidentity = 'a', coalesce(co.collisdeterministic, true),
        a.attnum::text || ':' || a.atttypid::text || ':' || a.attcollation::text,
        b.typtype = 'e' OR bn.nspname = 'pg_catalog' AND b.typname IN ('inet', 'cidr', 'macaddr', 'macaddr8', 'oid', 'bit', 'varbit')
    FROM pg_catalog.pg_attribute AS a
    JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
    LEFT JOIN pg_catalog.pg_type AS t2 ON t.typtype = 'd' AND t2.oid = t.typbasetype
    LEFT JOIN pg_catalog.pg_type AS t3 ON t2.typtype = 'd' AND t3.oid = t2.typbasetype
    JOIN pg_catalog.pg_type AS b ON b.oid = coalesce(t3.oid, t2.oid, t.oid)
    JOIN pg_catalog.pg_namespace AS bn ON bn.oid = b.typnamespace
    LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    LEFT JOIN pg_catalog.pg_collation AS co ON co.oid = a.attcollation
    WHERE a.attrelid = $1::int8::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

const INDEXES: &str =
    "SELECT i.indisprimary, i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL, i.indisreplident,
        i.indpred IS NULL AND i.indisvalid,
        array(SELECT coalesce(a.attname::text, '') FROM generate_series(0, i.indnkeyatts - 1) AS n
              LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[n] AND a.attnum > 0 ORDER BY n)
    FROM pg_catalog.pg_index AS i WHERE i.indrelid = $1::int8::oid";

// `confdelsetcols` is there since PostgreSQL 15, and null where SET NULL lists no columns; `conenforced` since 18.
const FOREIGN_KEYS: &str =
    "SELECT c.conname::text, cn.nspname::text, cr.relname::text, pn.nspname::text, pr.relname::text, c.confdeltype::text,
        array(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY AS k(n, o)
              JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.n ORDER BY k.o),
        array(SELECT a.attname::text FROM unnest(c.confkey) WITH ORDINALITY AS k(n, o)
              JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.confrelid AND a.attnum = k.n ORDER BY k.o),
        array(SELECT a.attname::text
              FROM jsonb_array_elements_text(CASE jsonb_typeof(to_jsonb(c) -> 'confdelsetcols') WHEN 'array' THEN to_jsonb(c) -> 'confdelsetcols'
                                             ELSE '[]' END) AS k(n)
              JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.n::int2),
        c.confupdtype::text
    FROM pg_catalog.pg_constraint AS c
    JOIN pg_catalog.pg_class AS cr ON cr.oid = c.conrelid JOIN pg_catalog.pg_namespace AS cn ON cn.oid = cr.relnamespace
    JOIN pg_catalog.pg_class AS pr ON pr.oid = c.confrelid JOIN pg_catalog.pg_namespace AS pn ON pn.oid = pr.relnamespace
    WHERE c.contype = 'f' AND c.conparentid = 0 AND coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true) ORDER BY c.conname, c.oid";

struct Index {
    primary: bool,
    unique: bool,
    identity: bool,
    whole: bool,
    columns: Vec<String>,
}

impl Index {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            primary: row.try_get(0)?,
            unique: row.try_get(1)?,
            identity: row.try_get(2)?,
            whole: row.try_get(3)?,
            columns: row.try_get(4)?,
        })
    }
}

fn column(row: &PgRow) -> Result<Column, sqlx::Error> {
    let (type_name, type_schema): (String, String) = (row.try_get(1)?, row.try_get(2)?);
    let modifier: i64 = row.try_get(3)?;
    Ok(Column {
        name: row.try_get(0)?,
        mark: row.try_get(9)?,
        kind: if type_schema == "pg_catalog" { kind(&type_name, modifier) } else { ColumnType::Other(type_name.clone()) },
        cast: format!("{}.{}", quote(&type_schema), quote(&type_name)),
        nullable: row.try_get(4)?,
        default: row.try_get(5)?,
        generated: row.try_get(6)?,
        identity: row.try_get(7)?,
        bytewise: row.try_get(8)?,
        distinct: row.try_get(10)?,
    })
}

fn kind(type_name: &str, modifier: i64) -> ColumnType {
    let precision = u8::try_from(modifier).unwrap_or(6);
    let int = |bits| ColumnType::Int(IntType { bits, unsigned: false });
    match type_name {
        "bool" => ColumnType::Bool,
        "int2" => int(16),
        "int4" => int(32),
        "int8" => int(64),
        // The modifier of numeric(p,s) holds the scale in its low 11 bits, plus 4 (numeric.c).
        "numeric" => ColumnType::Decimal { scale: (modifier >= 4).then(|| u16::try_from((modifier - 4) & 0x7ff).unwrap_or(0)) },
        "float4" | "float8" => ColumnType::Float,
        "text" | "varchar" | "name" => ColumnType::Text,
        "bpchar" => ColumnType::Char,
        "uuid" => ColumnType::Uuid,
        "bytea" => ColumnType::Bytes,
        "date" => ColumnType::Date,
        "time" => ColumnType::Time { precision },
        "timestamp" => ColumnType::Timestamp { precision },
        "timestamptz" => ColumnType::TimestampTz { precision },
        "json" | "jsonb" => ColumnType::Json,
        other => ColumnType::Other(other.to_owned()),
    }
}

fn foreign_key(row: &PgRow) -> Result<ForeignKey, sqlx::Error> {
    let action = |place: usize| {
        row.try_get(place).map(|letter: String| match letter.as_str() {
            "c" => NativeAction::Cascade,
            "n" => NativeAction::SetNull,
            "d" => NativeAction::SetDefault,
            "r" => NativeAction::Restrict,
            _ => NativeAction::NoAction,
        })
    };
    let (columns, listed): (Vec<String>, Vec<String>) = (row.try_get(6)?, row.try_get(8)?);
    Ok(ForeignKey {
        sets: if listed.is_empty() { columns.clone() } else { listed },
        name: row.try_get(0)?,
        child: TableName { schema: row.try_get(1)?, table: row.try_get(2)? },
        columns,
        parent: TableName { schema: row.try_get(3)?, table: row.try_get(4)? },
        parent_columns: row.try_get(7)?,
        bytewise: true,
        on_delete: action(5)?,
        on_update: action(9)?,
    })
}
