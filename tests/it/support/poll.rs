//! Waiting for a state instead of for a while.

use std::time::{Duration, Instant};

/// How long a state may take to come true before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Asks until `look` finds something.
///
/// # Panics
/// When nothing was found within [`PATIENCE`], naming `what` was waited for.
pub(crate) async fn until<T, F>(what: &str, look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    until_at_most(PATIENCE, what, look).await
}

/// The same for what takes its time.
///
/// # Panics
/// When nothing was found within `patience`.
pub(crate) async fn until_at_most<T, F>(patience: Duration, what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < patience, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
