//! When Telegram last answered the holder, until the service has heard of it.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use prost_types::Timestamp;

/// News for the service, by the wall clock, as the service's own records are. Nothing of the lease's time rests on it.
#[derive(Debug, Default)]
pub(super) struct Activity {
    // A section of one assignment, never held across an await.
    fresh: Mutex<Option<Timestamp>>,
}

impl Activity {
    #[allow(clippy::disallowed_methods, reason = "the edge at which this crate reads the wall clock")]
    pub(super) fn note(&self) {
        self.set(|_| Some(SystemTime::now().into()));
    }

    /// What the service has not heard yet. Only the call that takes it tells it.
    pub(super) fn take(&self) -> Option<Timestamp> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The call that took it got no answer. What was noted since stands.
    pub(super) fn put_back(&self, untold: Option<Timestamp>) {
        self.set(|fresh| fresh.or(untold));
    }

    fn set(&self, change: impl FnOnce(Option<Timestamp>) -> Option<Timestamp>) {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        *fresh = change(fresh.take());
    }
}
