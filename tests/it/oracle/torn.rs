//! A worker that dies at one of its commits: databases that fail from there on, until they are healed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};

use async_trait::async_trait;
use entail::rules::TableName;
use entail::sink::{Database, Dialect, Fault, ForeignKey, Row, Session, SinkError, Statement, TableRef};

/// How many more commits the worker lives to see; below zero it lives for ever.
const FOR_EVER: i64 = -1;

/// When the worker dies.
#[derive(Debug)]
pub(super) struct Fate {
    commits: AtomicI64,
    /// Whether the database still does the last one: then only the answer is lost.
    is_behind: AtomicBool,
    /// It dies behind the first commit that removes rows, whichever that is.
    at_removal: AtomicBool,
}

impl Default for Fate {
    fn default() -> Self {
        Self { commits: AtomicI64::new(FOR_EVER), is_behind: false.into(), at_removal: false.into() }
    }
}

impl Fate {
    /// The worker dies at its so manieth commit from now on, counted from one.
    pub(super) fn doom(&self, commit: u8, is_behind: bool) {
        self.is_behind.store(is_behind, SeqCst);
        self.commits.store(commit.into(), SeqCst);
    }

    /// The worker dies behind the first commit that removes rows.
    pub(super) fn doom_at_removal(&self) {
        self.at_removal.store(true, SeqCst);
    }

    /// Another worker may live. Returns whether the last one died.
    pub(super) fn heal(&self) -> bool {
        self.at_removal.store(false, SeqCst);
        self.commits.swap(FOR_EVER, SeqCst) == 0
    }

    fn is_dead(&self) -> Result<(), SinkError> {
        if self.commits.load(SeqCst) == 0 { Err(dead()) } else { Ok(()) }
    }

    /// One more commit. Returns whether the worker dies of it.
    fn is_last(&self) -> bool {
        self.commits.load(SeqCst) > 0 && self.commits.fetch_sub(1, SeqCst) == 1
    }
}

fn dead() -> SinkError {
    SinkError::Database { what: "killed".to_owned(), fault: Fault::Connection, detail: "by the test".to_owned() }
}

pub(super) struct Torn {
    pub(super) database: Arc<dyn Database>,
    pub(super) fate: Arc<Fate>,
}

#[async_trait]
impl Database for Torn {
    fn dialect(&self) -> Dialect {
        self.database.dialect()
    }

    async fn identity(&self) -> Result<String, SinkError> {
        self.database.identity().await
    }

    async fn table(&self, name: &TableName) -> Result<Option<TableRef>, SinkError> {
        self.database.table(name).await
    }

    async fn foreign_keys(&self) -> Result<Vec<ForeignKey>, SinkError> {
        self.database.foreign_keys().await
    }

    async fn begin(&self) -> Result<Box<dyn Session>, SinkError> {
        self.fate.is_dead()?;
        Ok(Box::new(TornSession { session: self.database.begin().await?, fate: Arc::clone(&self.fate), removes: false }))
    }

    async fn read(&self, statement: &Statement) -> Result<Vec<Row>, SinkError> {
        self.fate.is_dead()?;
        self.database.read(statement).await
    }

    async fn log_end(&self) -> Result<Option<u64>, SinkError> {
        self.fate.is_dead()?;
        self.database.log_end().await
    }

    async fn mark(&self) -> Result<(), SinkError> {
        self.fate.is_dead()?;
        self.database.mark().await
    }

    async fn migrate(&self) -> Result<(), SinkError> {
        self.database.migrate().await
    }

    async fn close(&self) {
        self.database.close().await;
    }
}

struct TornSession {
    session: Box<dyn Session>,
    fate: Arc<Fate>,
    removes: bool,
}

#[async_trait]
impl Session for TornSession {
    async fn query(&mut self, statement: &Statement) -> Result<Vec<Row>, SinkError> {
        self.fate.is_dead()?;
        self.session.query(statement).await
    }

    async fn execute(&mut self, statement: &Statement) -> Result<u64, SinkError> {
        self.fate.is_dead()?;
        let rows = self.session.execute(statement).await?;
        self.removes |= rows > 0 && statement.what().starts_with("deleting rows");
        Ok(rows)
    }

    async fn commit(self: Box<Self>) -> Result<(), SinkError> {
        self.fate.is_dead()?;
        if self.removes && self.fate.at_removal.load(SeqCst) {
            self.fate.doom(1, true);
        }
        if !self.fate.is_last() {
            return self.session.commit().await;
        }
        if self.fate.is_behind.load(SeqCst) {
            self.session.commit().await?;
        } else {
            self.session.rollback().await;
        }
        Err(dead())
    }

    async fn rollback(self: Box<Self>) {
        self.session.rollback().await;
    }
}
