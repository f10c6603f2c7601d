//! PostgreSQL: statements on the shared server, and servers of a test's own.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::bed::postgres_programs;
use super::wait::{blocking, wait_for};

/// A connection to the database at this URL.
pub(crate) async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap_or_else(|error| panic!("connecting to {url}: {error}"))
}

/// Runs one or more statements, without arguments, on a connection of its own.
pub(crate) async fn execute(url: &str, statements: &str) {
    let mut connection = connect(url).await;
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await.unwrap_or_else(|error| panic!("{statements}: {error}"));
}

/// Drops the databases, whoever uses them. A slot that a stopping connector still holds is waited for.
pub(crate) async fn drop_databases(server: &str, databases: &[String]) {
    let mut connection = connect(server).await;
    for name in databases {
        wait_for(&format!("database {name} to be dropped"), Duration::from_secs(30), async || {
            let busy = sqlx::query("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = $1 AND active");
            busy.bind(name).execute(&mut connection).await.ok()?;
            let statement = AssertSqlSafe(format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"));
            sqlx::query(statement).execute(&mut connection).await.ok()
        })
        .await;
    }
}

/// A port of 127.0.0.1 on which nothing listens. Another process may take it before the caller does.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port of loopback");
    listener.local_addr().expect("a bound listener has an address").port()
}

/// A server of a test's own, to stop and to crash. It ends, and its directory goes, when this is dropped.
pub(crate) struct Cluster(Server);

impl Cluster {
    /// Makes one, with `wal_level=logical`, and starts it. Takes two to three seconds.
    pub(crate) async fn create() -> Cluster {
        blocking(|| Cluster(Server::create())).await
    }

    /// The URL of a database here; `postgres` is always there.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.0.port)
    }

    /// Starts it again, on the same port, and returns when it takes connections.
    pub(crate) async fn start(&self) {
        let server = self.0.clone();
        blocking(move || assert!(server.start(), "the cluster did not start: {}", server.log())).await;
    }

    /// Shuts it down in order: open transactions are rolled back, connections closed.
    pub(crate) async fn stop(&self) {
        let server = self.0.clone();
        blocking(move || server.stop("fast")).await;
    }

    /// Keeps a copy of it as it is now; it is stopped for that moment.
    pub(crate) async fn keep_copy(&self) {
        self.stop().await;
        let server = self.0.clone();
        blocking(move || server.copy("data", "copy")).await;
        self.start().await;
    }

    /// Goes back to the copy, as a restore from a backup does.
    pub(crate) async fn restore_copy(&self) {
        self.stop().await;
        let server = self.0.clone();
        blocking(move || server.copy("copy", "data")).await;
        self.start().await;
    }

    /// Makes it a standby that waits for a primary, for good.
    pub(crate) async fn become_standby(&self) {
        self.stop().await;
        let server = self.0.clone();
        blocking(move || server.run("touch", &[&server.path("data/standby.signal")])).await;
        self.start().await;
    }

    /// Ends it as a power cut does. `start` then recovers from the log.
    pub(crate) async fn crash(&self) {
        let server = self.0.clone();
        blocking(move || server.stop("immediate")).await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        program("pg_ctl", &["stop", "-D", &self.0.path("data"), "-m", "immediate", "-w"]);
        if std::env::var_os("ENTAIL_KEEP").is_none() {
            // What cannot be removed goes with the bed.
            std::fs::remove_dir_all(&self.0.dir).unwrap_or_else(|error| eprintln!("{}: {error}", self.0.dir.display()));
        }
    }
}

/// A directory with `data` and `log`, and the port that is served from it.
#[derive(Clone)]
struct Server {
    dir: PathBuf,
    port: u16,
}

impl Server {
    fn create() -> Server {
        let parent = std::env::var_os("ENTAIL_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let dir = tempfile::Builder::new().prefix("cluster-").tempdir_in(parent).expect("a directory for the cluster").keep();
        // The server may run as another user.
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).expect("our own directory");
        let mut server = Server { dir, port: 0 };
        server.run("initdb", &["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-D", &server.path("data")]);
        server.configure().expect("the cluster's configuration");
        // A free port may be taken before the server binds it.
        let started = (0..3).any(|_| {
            server.port = free_port();
            server.start()
        });
        assert!(started, "the cluster did not start: {}", server.log());
        server
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_string_lossy().into_owned()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn configure(&self) -> std::io::Result<()> {
        let settings = "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nwal_level = logical\nfsync = off\n";
        let mut file = std::fs::OpenOptions::new().append(true).open(self.path("data/postgresql.conf"))?;
        file.write_all(settings.as_bytes())
    }

    fn start(&self) -> bool {
        let port = format!("-p {}", self.port);
        program("pg_ctl", &["start", "-D", &self.path("data"), "-l", &self.path("log"), "-w", "-t", "60", "-o", &port]).status.success()
    }

    fn stop(&self, mode: &str) {
        self.run("pg_ctl", &["stop", "-D", &self.path("data"), "-m", mode, "-w", "-t", "60"]);
    }

    fn copy(&self, from: &str, to: &str) {
        drop(std::fs::remove_dir_all(self.path(to)));
        let copied = Command::new("cp").args(["-a", &self.path(from), &self.path(to)]).status();
        assert!(copied.expect("`cp` is there").success(), "the cluster's directory is copied");
    }

    fn run(&self, name: &str, arguments: &[&str]) {
        let output = program(name, arguments);
        assert!(output.status.success(), "{name}: {}{}", String::from_utf8_lossy(&output.stderr), self.log());
    }
}

/// One of PostgreSQL's programs, which refuse to run as root.
fn program(name: &str, arguments: &[&str]) -> Output {
    let path = if name == "touch" { PathBuf::from(name) } else { postgres_programs().join(name) };
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|this| this.uid() == 0);
    let mut command = if is_root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(path);
        command
    } else {
        Command::new(path)
    };
    // A server that inherited the pipe would keep `output` waiting, hence `-l` wherever one is started.
    command.args(arguments).current_dir("/").output().unwrap_or_else(|error| panic!("{name}: {error}"))
}
