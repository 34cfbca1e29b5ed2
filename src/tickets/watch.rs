//! Who waits for which ticket in this process.
//!
//! A watch tells *that* something may have changed, never what: the reader reads again. So a wake that was one too
//! many does no harm, and one wake stands for any number of changes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::Error;
use crate::domain::id::TicketHash;

/// How many watches a process keeps at most.
const WATCHES_MAX: usize = 100_000;
/// A watch wakes at least this often, so that the end of a ticket's time, which nobody announces, is noticed.
const RECHECK_AFTER: Duration = Duration::from_secs(5);

type Senders = HashMap<TicketHash, watch::Sender<u64>>;

/// All watches of a process, by ticket.
#[derive(Clone, Debug, Default)]
pub(super) struct Watches {
    // Held for map operations only, never across an await.
    senders: Arc<Mutex<Senders>>,
}

impl Watches {
    pub(super) fn begin(&self, hash: TicketHash) -> Result<Watch, Error> {
        let mut senders = self.lock();
        // A session's readers are few, so counting tickets bounds the map; readers are bounded by their calls.
        if senders.len() >= WATCHES_MAX && !senders.contains_key(&hash) {
            return Err(Error::Full);
        }
        let changes = senders.entry(hash.clone()).or_insert_with(|| watch::channel(0).0).subscribe();
        drop(senders);
        Ok(Watch { changes: Some(changes), hash, watches: self.clone() })
    }

    /// Wakes whoever watches this ticket.
    pub(super) fn wake(&self, hash: &TicketHash) {
        if let Some(sender) = self.lock().get(hash) {
            sender.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Wakes everybody: news may have been lost.
    pub(super) fn wake_all(&self) {
        for sender in self.lock().values() {
            sender.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Senders> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for changes of one login.
#[derive(Debug)]
pub struct Watch {
    /// Always there until the drop.
    changes: Option<watch::Receiver<u64>>,
    hash: TicketHash,
    watches: Watches,
}

impl Watch {
    /// Returns when the login may have changed since the last return, and every few seconds without a reason:
    /// read it again then.
    ///
    /// # Cancel safety
    /// A dropped wait loses nothing: the next one returns at once if there was a change.
    pub async fn changed(&mut self) {
        if let Some(changes) = &mut self.changes {
            // Either end of the wait means the same to the caller; the sender lives as long as this watch.
            let _ = tokio::time::timeout(RECHECK_AFTER, changes.changed()).await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut senders = self.watches.lock();
        // Under the lock, so that nobody begins to watch between the count and the removal.
        self.changes = None;
        if senders.get(&self.hash).is_some_and(|sender| sender.receiver_count() == 0) {
            senders.remove(&self.hash);
        }
    }
}
