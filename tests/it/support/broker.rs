//! A Kafka broker of a test's own, to be killed. `script/bed` starts and ends it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::wait::blocking;

/// A broker, which goes when this is dropped.
pub(crate) struct Broker {
    /// Its bootstrap address.
    pub(crate) address: String,
    dir: PathBuf,
}

impl Broker {
    pub(crate) async fn create() -> Broker {
        blocking(|| {
            let parent = std::env::var_os("ENTAIL_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
            let dir = tempfile::Builder::new().prefix("broker-").tempdir_in(parent).expect("a directory for the broker").keep();
            bed("start-kafka", &dir);
            let port = std::fs::read_to_string(dir.join("kafka/port")).expect("its port");
            Broker { address: format!("127.0.0.1:{}", port.trim()), dir }
        })
        .await
    }

    /// Ends it with SIGKILL.
    pub(crate) async fn kill(&self) {
        let dir = self.dir.clone();
        blocking(move || bed("kill-kafka", &dir)).await;
    }

    /// Starts it again, with what it held, on the same port.
    pub(crate) async fn start(&self) {
        let dir = self.dir.clone();
        blocking(move || bed("restart-kafka", &dir)).await;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        bed("kill-kafka", &self.dir);
        if std::env::var_os("ENTAIL_KEEP").is_none() {
            std::fs::remove_dir_all(&self.dir).unwrap_or_else(|error| eprintln!("{}: {error}", self.dir.display()));
        }
    }
}

fn bed(command: &str, dir: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("script/bed");
    // The server inherits what it is given, and would keep a pipe open.
    let status = Command::new(script).arg(command).arg(dir).stdin(Stdio::null()).stdout(Stdio::null()).status();
    assert!(status.expect("script/bed runs").success(), "script/bed {command} failed");
}
