//! The task that renews one lease: over a stream while there is one, by single calls while there is none.
//!
//! It alone moves the term. No trouble with the stream ends a lease: what the service says in so many words does, or
//! the time that ran out.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use zeroize::Zeroizing;

use super::activity::Activity;
use super::call::{jitter, span, within};
use super::loss::{End, Loss};
use super::stream::Left;
use crate::term::{Term, backoff, reopening};
use crate::{Client, Refusal, v1};

/// What the calls of a holder name the lease by.
#[derive(Clone)]
pub(super) struct Hold {
    pub(super) lease_id: Zeroizing<String>,
    pub(super) epoch: i64,
}

/// What the task works with.
pub(super) struct Renewal {
    pub(super) client: Client,
    pub(super) hold: Hold,
    pub(super) stop_before: Duration,
    pub(super) term: watch::Sender<Term>,
    pub(super) activity: Arc<Activity>,
}

/// When to open the next stream.
pub(super) struct Reopening {
    /// `None`: never.
    at: Option<Instant>,
    failures: u32,
}

impl Reopening {
    /// The stream has kept the lease: the next trouble is a new one.
    pub(super) fn served(&mut self) {
        self.failures = 0;
    }

    fn after_trouble(&mut self, name: &str, retry_after: Option<Duration>) {
        self.at = Some(Instant::now() + reopening(self.failures, retry_after, jitter(name, self.failures)));
        self.failures = self.failures.saturating_add(1);
    }
}

/// Owns the renewals; whatever ends them, the worker is told.
pub(super) async fn keep(renewal: Renewal, stop: CancellationToken, end: Arc<End>) {
    // Cancels `lost` even if the task is dropped with its runtime.
    let _told = end.lost.clone().drop_guard();
    let loss = tokio::select! {
        biased;
        () = stop.cancelled() => Loss::Dropped,
        // Another call of the holder was told so.
        () = end.lost.cancelled() => return,
        loss = renewal.run() => loss,
    };
    end.come(loss, renewal.hold.epoch);
}

impl Renewal {
    pub(super) fn term(&self) -> Term {
        *self.term.borrow()
    }

    /// Renews whenever it is time, until the lease is over.
    async fn run(&self) -> Loss {
        let mut due = self.term().renew_at;
        let mut failures = 0;
        let mut reopening = Reopening { at: Some(Instant::now()), failures: 0 };
        loop {
            let (term, now) = (self.term(), Instant::now());
            if now >= term.lost_at {
                return Loss::Expired;
            }
            if now >= due {
                match self.renew((now + term.attempt).min(term.lost_at)).await {
                    Ok(()) => (due, failures) = (self.term().renew_at, 0),
                    Err(refusal) if refusal.ends_lease() => return Loss::Refused(Box::new(refusal)),
                    Err(refusal) => {
                        warn!(error.reason = %refusal, lease.epoch = self.hold.epoch, "A renewal failed, another follows");
                        due = Instant::now()
                            + backoff(failures, refusal.retry_after, jitter(&self.hold.lease_id, failures));
                        failures += 1;
                    }
                }
            } else if reopening.at.is_some_and(|at| now >= at) {
                if let Some(loss) = self.stream(&mut reopening).await {
                    return loss;
                }
                if self.term() != term {
                    (due, failures) = (self.term().renew_at, 0);
                }
            } else {
                sleep_until(reopening.at.unwrap_or(due).min(due).min(term.lost_at)).await;
            }
        }
    }

    /// Renews over a stream as long as there is one.
    async fn stream(&self, reopening: &mut Reopening) -> Option<Loss> {
        let epoch = self.hold.epoch;
        match self.hold_open(reopening).await {
            Left::Over(loss) => return Some(loss),
            Left::Unserved => {
                debug!(lease.epoch = epoch, "The service has no streams, single calls renew the lease");
                reopening.at = None;
            }
            Left::Shutdown => {
                debug!(lease.epoch = epoch, "The replica stops, the lease goes on");
                reopening.after_trouble(&self.hold.lease_id, None);
            }
            Left::Broken(refusal) => {
                debug!(error.reason = %refusal, lease.epoch = epoch, "The stream broke, the lease goes on");
                reopening.after_trouble(&self.hold.lease_id, refusal.retry_after);
            }
        }
        None
    }

    /// One renewal by a single call.
    pub(super) async fn renew(&self, until: Instant) -> Result<(), Refusal> {
        let activity = self.activity.take();
        let request = v1::RenewLeaseRequest {
            lease_id: self.hold.lease_id.to_string(),
            epoch: self.hold.epoch,
            last_activity_time: activity,
            request_id: uuid::Uuid::new_v4().to_string(),
        };
        let mut leases = self.client.leases();
        let sent = Instant::now();
        let renewed = within(until, request, async move |request| leases.renew_lease(request).await).await;
        renewed.and_then(|response| self.extend(sent, response.lease)).inspect_err(|_| {
            self.activity.put_back(activity);
        })
    }

    /// Takes the term that an answer grants, counted from before its question was sent.
    pub(super) fn extend(&self, sent: Instant, lease: Option<v1::Lease>) -> Result<(), Refusal> {
        let term = lease
            .filter(|lease| lease.epoch == self.hold.epoch)
            .and_then(|lease| Term::granted(sent, span(lease.ttl), span(lease.renew_after), self.stop_before))
            .ok_or_else(|| Refusal { message: "the answer grants no time".into(), ..Refusal::timeout() })?;
        self.term.send_replace(term);
        Ok(())
    }
}
