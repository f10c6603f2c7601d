//! A database that does as told at chosen moments: run statements in between, fail, or fail after having committed.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use entail::rules::TableName;
use entail::sink::{Database, Dialect, Fault, ForeignKey, Row, Session, SinkError, Statement, TableRef};
use tokio::sync::Notify;

/// What happens at a moment.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// These statements are committed by somebody else first.
    Interleave(Vec<String>),
    /// The connection is lost before the statement runs.
    Fail,
    /// Somebody else holds what the statement needs.
    Contend,
    /// A commit succeeds, and its reply is lost.
    LoseReply,
    /// This statement runs first, within the transaction.
    InTransaction(String),
    /// It waits here until it is let go.
    Hold(Arc<Gate>),
}

/// Where something waits.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    pub(crate) reached: Notify,
    pub(crate) go: Notify,
}

/// A moment: the statement whose description begins like this, for the nth time (from 1). `begin` and `commit` are the moments of a transaction's.
#[derive(Debug, Clone)]
pub(crate) struct Cue {
    pub(crate) at: &'static str,
    pub(crate) nth: usize,
    pub(crate) act: Act,
}

/// Wraps a database.
pub(crate) struct Scripted {
    inner: Arc<dyn Database>,
    script: Arc<Script>,
}

/// Runs statements as somebody else would.
pub(crate) type Meddler = Box<dyn Fn(Vec<String>) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

pub(crate) struct Script {
    cues: Mutex<Vec<Cue>>,
    meddler: Meddler,
}

impl Script {
    pub(crate) fn new(cues: Vec<Cue>, meddler: Meddler) -> Arc<Script> {
        Arc::new(Script { cues: Mutex::new(cues), meddler })
    }

    pub(crate) fn cue(&self, cue: Cue) {
        self.cues.lock().expect("no panic").push(cue);
    }

    /// Whether every cue was met: a fault that never fired proves nothing.
    pub(crate) fn is_played(&self) -> bool {
        self.cues.lock().expect("no panic").is_empty()
    }

    fn next(&self, what: &str) -> Option<Act> {
        let mut cues = self.cues.lock().expect("no panic");
        let place = cues.iter().position(|cue| what.starts_with(cue.at) && !matches!(cue.act, Act::InTransaction(_)))?;
        let cue = cues.get_mut(place)?;
        cue.nth -= 1;
        (cue.nth == 0).then(|| cues.remove(place).act)
    }

    /// A statement that is to run within the transaction now.
    fn within(&self, what: &str) -> Option<String> {
        let mut cues = self.cues.lock().expect("no panic");
        let place = cues.iter().position(|cue| what.starts_with(cue.at) && matches!(cue.act, Act::InTransaction(_)))?;
        cues[place].nth -= 1;
        if cues[place].nth > 0 {
            return None;
        }
        match cues.remove(place).act {
            Act::InTransaction(sql) => Some(sql),
            _ => None,
        }
    }

    async fn play(&self, what: &str) -> Result<bool, SinkError> {
        match self.next(what) {
            None => Ok(false),
            Some(Act::Interleave(statements)) => {
                (self.meddler)(statements).await;
                Ok(false)
            }
            Some(Act::Fail) => Err(lost(what)),
            Some(Act::Contend) => Err(fault(what, Fault::Contention)),
            Some(Act::LoseReply) => Ok(true),
            Some(Act::Hold(gate)) => {
                gate.reached.notify_one();
                gate.go.notified().await;
                Ok(false)
            }
            Some(Act::InTransaction(_)) => panic!("not in a transaction: {what}"),
        }
    }
}

fn lost(what: &str) -> SinkError {
    fault(what, Fault::Connection)
}

fn fault(what: &str, fault: Fault) -> SinkError {
    SinkError::Database { what: what.to_owned(), fault, detail: "made by the test".to_owned() }
}

impl Scripted {
    pub(crate) fn wrap(inner: Arc<dyn Database>, script: Arc<Script>) -> Arc<dyn Database> {
        Arc::new(Scripted { inner, script })
    }
}

#[async_trait]
impl Database for Scripted {
    fn dialect(&self) -> Dialect {
        self.inner.dialect()
    }
    async fn identity(&self) -> Result<String, SinkError> {
        self.inner.identity().await
    }
    async fn table(&self, name: &TableName) -> Result<Option<TableRef>, SinkError> {
        self.inner.table(name).await
    }
    async fn foreign_keys(&self) -> Result<Vec<ForeignKey>, SinkError> {
        self.inner.foreign_keys().await
    }
    async fn begin(&self) -> Result<Box<dyn Session>, SinkError> {
        self.script.play("begin").await?;
        Ok(Box::new(ScriptedSession { inner: self.inner.begin().await?, script: Arc::clone(&self.script) }))
    }
    async fn read(&self, statement: &Statement) -> Result<Vec<Row>, SinkError> {
        self.script.play(statement.what()).await?;
        self.inner.read(statement).await
    }
    async fn log_end(&self) -> Result<Option<u64>, SinkError> {
        self.inner.log_end().await
    }
    async fn mark(&self) -> Result<(), SinkError> {
        self.inner.mark().await
    }
    async fn migrate(&self) -> Result<(), SinkError> {
        self.inner.migrate().await
    }
    async fn close(&self) {
        self.inner.close().await;
    }
}

struct ScriptedSession {
    inner: Box<dyn Session>,
    script: Arc<Script>,
}

#[async_trait]
impl Session for ScriptedSession {
    async fn query(&mut self, statement: &Statement) -> Result<Vec<Row>, SinkError> {
        if let Some(sql) = self.script.within(statement.what()) {
            self.inner.execute(&Statement::fixed("what the test says", &sql, Vec::new())).await?;
        }
        self.script.play(statement.what()).await?;
        self.inner.query(statement).await
    }
    async fn execute(&mut self, statement: &Statement) -> Result<u64, SinkError> {
        self.script.play(statement.what()).await?;
        self.inner.execute(statement).await
    }
    async fn commit(self: Box<Self>) -> Result<(), SinkError> {
        let loses_reply = self.script.play("commit").await?;
        self.inner.commit().await?;
        if loses_reply { Err(lost("commit")) } else { Ok(()) }
    }
    async fn rollback(self: Box<Self>) {
        self.inner.rollback().await;
    }
}
