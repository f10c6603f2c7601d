//! How a session with a server begins: what is set for it, and whether whoever answers keeps that.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::fail;
use crate::sink::SinkError;
use crate::sink::connect::ConnectError;

/// How long a connection may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// Session settings. Timeouts bound every statement on the server's side (nothing here is ever cancelled from outside, H70); the others fix
/// the text form of values (dates, bytes, floats) and make row security an error rather than a filter (H65). Statements are planned for the
/// lists of keys that they get: a plan made once for any list, on a ledger that was still empty, compares every row with every key. None is
/// compiled: that takes a second where the catalog is asked, for an answer of two milliseconds.
const SESSION: [(&str, &str); 12] = [
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
    ("jit", "off"),
];

/// Without `sslmode` in the url: plain text to a loopback address, verified TLS to any other (H99).
pub(super) fn options(url: &str) -> Result<PgConnectOptions, ConnectError> {
    let mut options = PgConnectOptions::from_str(url).map_err(|_| ConnectError::Url { driver: "PostgreSQL" })?;
    if !url.contains("sslmode=") && !url.contains("ssl-mode=") {
        let loopback = matches!(options.get_host(), "localhost" | "127.0.0.1" | "::1" | "[::1]") || options.get_socket().is_some();
        options = options.ssl_mode(if loopback { PgSslMode::Disable } else { PgSslMode::VerifyFull });
    }
    // Whoever names the process in the url finds it by that name in the server's views.
    let options = if url.contains("application_name=") { options } else { options.application_name("entail") };
    Ok(options.options(SESSION))
}

/// A connection whose settings were dropped on the way would take row security for a filter, and a parent that it hides for one that is gone.
pub(super) async fn settled(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let (_, dropped) = ask(connection).await?;
    if dropped.is_empty() { Ok(()) } else { Err(sqlx::Error::Configuration(pooled(&dropped).into())) }
}

/// Whether a server answers, and is one: a pooler that gives each transaction another session keeps neither settings nor prepared statements (H71).
pub(super) async fn reach(options: &PgConnectOptions) -> Result<(), SinkError> {
    let failed = |error| fail("connecting", &error);
    let (mut one, mut other) = (connect(options).await?, connect(options).await?);
    let (first, dropped) = ask(&mut one).await.map_err(failed)?;
    if !dropped.is_empty() {
        return Err(pooled(&dropped));
    }
    // What the first one let go of goes to the other, if it goes to anybody; and that one holds it.
    let second = process(&mut other, "BEGIN; SELECT pg_backend_pid()::text").await.map_err(failed)?;
    let again = process(&mut one, "SELECT pg_backend_pid()::text").await.map_err(failed)?;
    // Whether the server hears of it does not matter: both were asked.
    drop((one.close().await, other.close().await));
    let changes = first != again || first == second;
    if changes { Err(SinkError::Pooled { why: "gives one session's transactions to several of the server's".to_owned() }) } else { Ok(()) }
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, SinkError> {
    let late = |_| sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer"));
    match tokio::time::timeout(TIMEOUT, PgConnection::connect_with(options)).await.map_err(late).flatten() {
        Err(sqlx::Error::Database(error)) if takes_no_settings(error.as_ref()) => {
            Err(SinkError::Pooled { why: format!("takes no settings: {}", error.message()) })
        }
        connected => connected.map_err(|error| fail("connecting", &error)),
    }
}

/// What poolers and proxies say: pgbouncer the first, others the second.
fn takes_no_settings(error: &dyn DatabaseError) -> bool {
    error.message().contains("startup parameter") || error.code().is_some_and(|code| code == "0A000")
}

/// The server's process behind the connection, and the settings that it did not get.
async fn ask(connection: &mut PgConnection) -> Result<(String, String), sqlx::Error> {
    let names: Vec<String> = SESSION.iter().map(|(name, _)| format!("'{name}'")).collect();
    let sql = format!(
        "SELECT pg_backend_pid()::text, coalesce(string_agg(s.name, ', ' ORDER BY s.name), '') FROM pg_catalog.pg_settings AS s
        WHERE lower(s.name) IN ({}) AND (s.source IN ('client', 'session')) IS FALSE",
        names.join(", ")
    );
    let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(connection).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// The server's process behind the connection. No prepared statement, which a pooler might not know.
async fn process(connection: &mut PgConnection, sql: &'static str) -> Result<String, sqlx::Error> {
    sqlx::raw_sql(sql).fetch_one(connection).await?.try_get(0)
}

fn pooled(dropped: &str) -> SinkError {
    SinkError::Pooled { why: format!("drops what is set for a session: {dropped}") }
}
