//! Asks of one kind from many callers, served together: one transaction for whoever asks at the same time.
//!
//! Nobody waits for company. An ask that finds the desk free is served at once, alone; what arrives meanwhile is served
//! together as soon as that is done, or before, if it is much. A batch belongs to one authority, so that row-level
//! security decides for each ask as it would alone. (Leases have a desk of their own kind, which mixes what they ask.)

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::{
    domain::{
        caller::{Authority, Caller},
        time::Timestamp,
    },
    store::Error,
};

/// Asks served by one transaction at most.
const TOGETHER_MAX: usize = 256;
/// As many as wait before a second transaction is begun beside one that is under way.
const SOME: usize = 8;
/// How long a batch may take, whatever its callers allow.
const BATCH_LIMIT: Duration = Duration::from_secs(10);
/// How long asks under way are waited for when the database is closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// One ask and whom to tell.
pub(super) struct Ask<W, A> {
    pub(super) caller: Caller,
    pub(super) work: W,
    reply: oneshot::Sender<Result<A, Error>>,
}

impl<W, A> Ask<W, A> {
    /// Who hung up meanwhile asks again.
    pub(super) fn answer(self, answer: Result<A, Error>) {
        let _ = self.reply.send(answer);
    }

    /// Nobody waits for the answer any more, so nothing should be done.
    fn is_idle(&self) -> bool {
        self.reply.is_closed() || Instant::now() >= self.caller.deadline
    }
}

/// Asks of one authority.
pub(super) struct Batch<W, A> {
    pub(super) asks: Vec<Ask<W, A>>,
}

impl<W, A> Batch<W, A> {
    pub(super) fn is_alone(&self) -> bool {
        self.asks.len() == 1
    }

    /// Whom the database is to see, and until when.
    pub(super) fn caller(&self) -> Caller {
        let deadline = self.asks.iter().map(|ask| ask.caller.deadline).max().unwrap_or_else(Instant::now);
        let deadline = deadline.min(Instant::now() + BATCH_LIMIT);
        let authority = self.asks.first().map(|ask| ask.caller.authority.clone());
        Caller {
            authority: authority.unwrap_or(Authority::Service),
            ..Caller::as_service("", Timestamp::EPOCH, deadline)
        }
    }

    pub(super) fn one_by_one(self) -> impl Iterator<Item = Self> {
        self.asks.into_iter().map(|ask| Self { asks: vec![ask] })
    }

    pub(super) fn fail(self, error: &Error) {
        for ask in self.asks {
            ask.answer(Err(error.again()));
        }
    }
}

/// Where asks of one kind wait while others are served. Belongs to the store, whose clones share it.
pub(super) struct Desk<W, A> {
    clerks_max: usize,
    /// Short sections: taking and putting asks.
    waiting: Mutex<Waiting<W, A>>,
    pub(super) tasks: TaskTracker,
}

struct Waiting<W, A> {
    asks: VecDeque<Ask<W, A>>,
    clerks: usize,
}

impl<W, A> std::fmt::Debug for Desk<W, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = self.waiting();
        f.debug_struct("Desk").field("asks", &waiting.asks.len()).field("clerks", &waiting.clerks).finish()
    }
}

impl<W, A> Desk<W, A> {
    pub(super) fn new(clerks_max: usize) -> Self {
        let waiting = Mutex::new(Waiting { asks: VecDeque::new(), clerks: 0 });
        Self { clerks_max, waiting, tasks: TaskTracker::new() }
    }

    /// Waits for the asks under way, within a bound.
    pub(super) async fn close(&self) {
        self.tasks.close();
        if tokio::time::timeout(CLOSE_LIMIT, self.tasks.wait()).await.is_err() {
            tracing::warn!("Closed the database under imports that were still being served");
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<W, A>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an ask down. `true`: somebody has to come to serve it.
    pub(super) fn put(&self, caller: &Caller, work: W) -> (bool, oneshot::Receiver<Result<A, Error>>) {
        let (reply, answer) = oneshot::channel();
        let mut waiting = self.waiting();
        waiting.asks.push_back(Ask { caller: caller.clone(), work, reply });
        let come = match waiting.clerks {
            0 => true,
            clerks => clerks < self.clerks_max && waiting.asks.len() >= SOME,
        };
        if come {
            waiting.clerks += 1;
        }
        (come, answer)
    }

    /// What is to be served next; `None` ends the clerk that asked.
    pub(super) fn take(&self) -> Option<Batch<W, A>> {
        let mut waiting = self.waiting();
        waiting.asks.retain(|ask| !ask.is_idle());
        let Some(first) = waiting.asks.pop_front() else {
            waiting.clerks -= 1;
            return None;
        };
        let authority = first.caller.authority.clone();
        let mut asks = vec![first];
        let mut left = VecDeque::new();
        while let Some(ask) = waiting.asks.pop_front() {
            if asks.len() < TOGETHER_MAX && ask.caller.authority == authority {
                asks.push(ask);
            } else {
                left.push_back(ask);
            }
        }
        waiting.asks = left;
        Some(Batch { asks })
    }
}
