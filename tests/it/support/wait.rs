//! Waiting for a condition, with a deadline that says what was waited for.

use std::time::Duration;

/// Asks every 50 ms until the condition gives a value. Panics with `what` when the deadline passes first.
pub(crate) async fn wait_for<T>(what: &str, deadline: Duration, condition: impl AsyncFnMut() -> Option<T>) -> T {
    within(deadline, condition).await.unwrap_or_else(|| panic!("waited {deadline:?} in vain for {what}"))
}

/// The same for those who have more to say when the deadline passes first.
pub(crate) async fn within<T>(deadline: Duration, mut condition: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let asked = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        loop {
            ticks.tick().await;
            if let Some(value) = condition().await {
                return value;
            }
        }
    };
    tokio::time::timeout(deadline, asked).await.ok()
}

/// Runs what blocks (subprocesses, Kafka clients and their drop) off the runtime's threads. A panic in it is the caller's.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
