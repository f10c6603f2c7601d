//! How a session with a server begins: what is set for it, and whether whoever answers keeps that.

use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::fail;
use crate::sink::connect::ConnectError;
use crate::sink::{Fault, SinkError};

/// How long a connection may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// Session settings. Timeouts bound every statement on the server's side (nothing here is ever cancelled from outside, H70); the others fix
/// the text form of values (dates, bytes, floats) and make row security an error rather than a filter (H65). Statements are planned for the
/// lists of keys that they get: a plan made once for any list, on a ledger that was still empty, compares every row with every key. None is
/// compiled: that takes a second where the catalog is asked, for an answer of two milliseconds. Written as the server shows them.
const SESSION: [(&str, &str); 12] = [
    ("statement_timeout", "1min"),
    ("lock_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "2min"),
    ("row_security", "off"),
    ("datestyle", "ISO"),
    ("intervalstyle", "postgres"),
    ("lc_monetary", "C"),
    ("timezone", "UTC"),
    ("bytea_output", "hex"),
    // As the driver sets it itself.
    ("extra_float_digits", "2"),
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

/// A connection whose settings were dropped on the way would take row security for a filter, and a parent that it hides for one that is gone. What
/// it lacks is kept for whoever waits for a connection: the pool goes on trying, and says in the end only that it has waited.
pub(super) async fn settled(connection: &mut PgConnection, refused: &Refused) -> Result<(), sqlx::Error> {
    let (_, lacks) = ask(connection).await?;
    let why = (!lacks.is_empty()).then(|| drops(&lacks));
    refused.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&why);
    why.map_or(Ok(()), |why| Err(sqlx::Error::Configuration(why.into())))
}

/// Why the last connection was not used.
pub(super) type Refused = Arc<Mutex<Option<String>>>;

/// Whether a server answers, and is one: a pooler that gives each transaction another session keeps neither settings nor prepared statements (H71).
pub(super) async fn reach(options: &PgConnectOptions) -> Result<(), SinkError> {
    match tokio::time::timeout(TIMEOUT, look(options)).await {
        Ok(looked) => looked,
        Err(_) => Err(failed(&sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer")))),
    }
}

async fn look(options: &PgConnectOptions) -> Result<(), SinkError> {
    let mut one = connect(options).await?;
    let (first, lacks) = ask(&mut one).await.map_err(|error| failed(&error))?;
    if !lacks.is_empty() {
        return Err(SinkError::Pooled { why: drops(&lacks) });
    }
    // Of sessions that go from hand to hand, either this one gets another now, or a second connection gets the same.
    let again = process(&mut one).await.map_err(|error| failed(&error))?;
    let second = match connect(options).await {
        Ok(mut other) => {
            let second = process(&mut other).await.map_err(|error| failed(&error))?;
            drop(other.close().await);
            Some(second)
        }
        // A role may be allowed one connection: then nobody can tell.
        Err(SinkError::Database { fault: Fault::Resources, .. }) => None,
        Err(error) => return Err(error),
    };
    // Whether the server hears of it does not matter: it was asked.
    drop(one.close().await);
    let changes = first != again || second.is_some_and(|second| second == first);
    if changes { Err(SinkError::Pooled { why: "gives one session's transactions to several of the server's".to_owned() }) } else { Ok(()) }
}

fn failed(error: &sqlx::Error) -> SinkError {
    fail("connecting", error)
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, SinkError> {
    match PgConnection::connect_with(options).await {
        Err(sqlx::Error::Database(error)) if takes_no_settings(error.as_ref()) => {
            Err(SinkError::Pooled { why: format!("takes no settings: {}", error.message()) })
        }
        connected => connected.map_err(|error| failed(&error)),
    }
}

/// What poolers and proxies say: pgbouncer the first, others the second.
fn takes_no_settings(error: &dyn DatabaseError) -> bool {
    error.message().contains("startup parameter") || error.code().is_some_and(|code| code == "0A000")
}

/// The server's process behind the connection, and the settings that are not as they were asked for.
async fn ask(connection: &mut PgConnection) -> Result<(String, String), sqlx::Error> {
    let asked: Vec<String> = SESSION.iter().map(|(name, value)| format!("('{name}', '{value}')")).collect();
    let sql = format!(
        "SELECT pg_backend_pid()::text, coalesce(string_agg(s.name, ', ' ORDER BY s.name), '') FROM (VALUES {}) AS s(name, value)
        WHERE split_part(current_setting(s.name), ',', 1) <> s.value",
        asked.join(", ")
    );
    let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(connection).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// The server's process behind the connection. No prepared statement, which a pooler might not know.
async fn process(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::raw_sql("SELECT pg_backend_pid()::text").fetch_one(connection).await?.try_get(0)
}

fn drops(settings: &str) -> String {
    format!("drops what is set for a session: {settings}")
}
