//! What the loop waits for, each as a future that can be waited for again.

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::RunError;
use crate::change::{Record, TopicPartition};
use crate::source::{self, Extents};

/// The end of a task; without one, never.
pub(super) async fn finished<T>(task: Option<&mut JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

/// The moment at which the batch in flight rests.
pub(super) async fn rest(resting: &mut watch::Receiver<bool>) {
    drop(resting.wait_for(|rests| *rests).await);
}

/// The answer of the poll thread; without a question, never.
pub(super) async fn answered(answer: Option<&mut oneshot::Receiver<Extents>>) -> Extents {
    match answer {
        Some(answer) => answer.await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

pub(super) async fn next_marker(follower: &mut Option<&mut source::assigned::Follower>) -> Option<Record> {
    match follower {
        Some(follower) => follower.records.recv().await,
        None => None,
    }
}

pub(super) fn joined<T>(result: Result<T, tokio::task::JoinError>) -> Result<T, RunError> {
    result.map_err(|error| RunError::Client(format!("a task of the worker panicked: {error}")))
}

pub(super) fn names(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
