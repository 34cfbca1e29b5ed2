//! A lease that renews itself, and tells in time when it cannot.
//!
//! The guard counts its deadline on its own monotonic clock from before each call was sent. One task owns the
//! renewals; it ends with the guard. Dropping the guard stops renewing and sends nothing: the service then waits for
//! the lease to expire, and for the quiet gap, before it lends the session again.

mod activity;
mod call;
mod loss;
mod renewal;
mod report;
mod stream;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use zeroize::Zeroizing;

use self::activity::Activity;
use self::call::{incomplete, repeat, span, within};
use self::loss::End;
pub use self::loss::Loss;
use self::renewal::{Hold, Renewal, keep};
pub use self::report::Advice;
use crate::term::{STOP_BEFORE, Term};
use crate::{Client, Error, Refusal, v1};

/// Time an acquire gets beyond its `wait`, and a release in all.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait in the session's queue, as the contract has it.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// Whether a worker closed what it had opened with the material of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// The holder's word that no connection of this session is open any more: the session is free at once.
    ///
    /// Also at Telegram: what was closed here may still be open there, so wait for its end of each connection.
    Closed,
    /// The holder cannot tell: the session rests until the lease would have expired, and for the quiet gap.
    Unknown,
}

/// Holds a lease: renews it in the background and tells when its time is over.
pub struct LeaseGuard {
    client: Client,
    hold: Hold,
    lease: v1::Lease,
    term: watch::Receiver<Term>,
    end: Arc<End>,
    activity: Arc<Activity>,
    // Stops the renewals when the guard goes, however it goes.
    _stop: DropGuard,
}

impl LeaseGuard {
    /// Borrows a session and keeps it. The material is to be kept in memory only, and dropped with the guard.
    ///
    /// Answers that get lost are asked for again under one `request_id`, which is chosen here if the request has none.
    /// A lease that was waited for is renewed before it is handed out: its time counts from before the call was sent,
    /// and the wait would be taken off it.
    ///
    /// # Errors
    /// [`Error::Refused`]: what `AcquireLease` answers, for example `SESSION_LEASED` with `retry_after`.
    ///
    /// # Cancel safety
    /// Dropped midway, a lease may have been granted that nobody uses; it expires by itself.
    pub async fn acquire(
        client: &Client,
        request: v1::AcquireLeaseRequest,
    ) -> Result<(Self, v1::SessionMaterial), Error> {
        Self::acquire_stopping_before(client, request, STOP_BEFORE).await
    }

    /// As [`LeaseGuard::acquire`], with another span than [`STOP_BEFORE`] between the signal of [`LeaseGuard::lost`]
    /// and the deadline; a third of the granted time at most.
    ///
    /// # Errors
    /// Those of [`LeaseGuard::acquire`].
    pub async fn acquire_stopping_before(
        client: &Client,
        mut request: v1::AcquireLeaseRequest,
        stop_before: Duration,
    ) -> Result<(Self, v1::SessionMaterial), Error> {
        if request.request_id.is_empty() {
            request.request_id = uuid::Uuid::new_v4().to_string();
        }
        let until = Instant::now() + span(request.wait).unwrap_or_default().min(WAIT_MAX) + CALL_TIMEOUT;
        let attempt = |until| acquire_once(client, request.clone(), until);
        let (sent, response) = repeat(until, &request.request_id, attempt).await?;
        let (mut lease, material) = match (response.lease, response.material) {
            (Some(lease), Some(material)) if !lease.lease_id.is_empty() => (lease, material),
            _ => return Err(incomplete("the answer has no lease or no material")),
        };
        let term = Term::granted(sent, span(lease.ttl), span(lease.renew_after), stop_before)
            .ok_or_else(|| incomplete("the answer grants no time"))?;
        let hold = Hold { lease_id: Zeroizing::new(std::mem::take(&mut lease.lease_id)), epoch: lease.epoch };
        let end = Arc::new(End::default());
        let activity = Arc::new(Activity::default());
        let stop = CancellationToken::new();
        let (sender, receiver) = watch::channel(term);
        let renewal = Renewal {
            client: client.clone(),
            hold: hold.clone(),
            stop_before,
            term: sender,
            activity: Arc::clone(&activity),
        };
        if Instant::now() >= term.renew_at {
            // It was granted some time during a long wait, and by this clock may be over already.
            let until = Instant::now() + CALL_TIMEOUT;
            repeat(until, &renewal.hold.lease_id, |until| renewal.renew(until)).await?;
        }
        tokio::spawn(keep(renewal, stop.clone(), Arc::clone(&end)));
        let guard = Self {
            client: client.clone(),
            hold,
            lease,
            term: receiver,
            end,
            activity,
            _stop: stop.drop_guard(),
        };
        Ok((guard, material))
    }

    /// The lease as it was granted, without its id.
    pub fn lease(&self) -> &v1::Lease {
        &self.lease
    }

    /// Fencing number of the lease.
    pub fn epoch(&self) -> i64 {
        self.hold.epoch
    }

    /// The instant at which every connection must be closed. Renewals move it.
    pub fn deadline(&self) -> Instant {
        self.term.borrow().deadline
    }

    /// Time left until [`LeaseGuard::deadline`].
    pub fn remaining(&self) -> Duration {
        self.deadline().saturating_duration_since(Instant::now())
    }

    /// Telegram answered just now: the next renewal tells the service, once, which spares a probe.
    pub fn note_activity(&self) {
        self.activity.note();
    }

    /// Completes when the worker must close its connections: the service wants the session back or says that the
    /// lease is over, renewals failed until [`STOP_BEFORE`] before the deadline, or the guard is gone. The future is
    /// independent of the guard, and may be dropped at any time.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        self.end.lost.clone().cancelled_owned()
    }

    /// The same signal as a token of its own: cancelling it does not touch the lease.
    pub fn lost_token(&self) -> CancellationToken {
        self.end.lost.child_token()
    }

    /// Why the lease is over; `None` while it lives.
    pub fn loss(&self) -> Option<Loss> {
        self.end.loss()
    }

    /// Gives the lease back. Close every connection of the session first, and say so.
    ///
    /// # Errors
    /// [`Error::Refused`], for example `LEASE_NOT_HELD` after it expired. The renewals have stopped in any case.
    ///
    /// # Cancel safety
    /// Dropped midway, the lease is released or expires by itself.
    pub async fn release(self, connections: Connections) -> Result<v1::Lease, Error> {
        let Self { client, hold, _stop, .. } = self;
        drop(_stop);
        let request = v1::ReleaseLeaseRequest {
            lease_id: hold.lease_id.to_string(),
            epoch: hold.epoch,
            connections_closed: connections == Connections::Closed,
            request_id: uuid::Uuid::new_v4().to_string(),
        };
        let until = Instant::now() + CALL_TIMEOUT;
        let response =
            repeat(until, &hold.lease_id, |until| {
                let (mut leases, request) = (client.leases(), request.clone());
                async move {
                    within(until, request, async move |request| leases.release_lease(request).await).await
                }
            })
            .await?;
        response.lease.ok_or_else(|| incomplete("the answer has no lease"))
    }
}

impl fmt::Debug for LeaseGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseGuard")
            .field("tenant_id", &self.lease.tenant_id)
            .field("app_id", &self.lease.app_id)
            .field("epoch", &self.hold.epoch)
            .field("remaining", &self.remaining())
            .field("loss", &self.loss())
            .finish_non_exhaustive()
    }
}

async fn acquire_once(
    client: &Client,
    mut request: v1::AcquireLeaseRequest,
    until: Instant,
) -> Result<(Instant, v1::AcquireLeaseResponse), Refusal> {
    let sent = Instant::now();
    // A repetition keeps its place in the queue, but must not wait longer than the caller wanted.
    let left = until.saturating_duration_since(sent).saturating_sub(CALL_TIMEOUT);
    if let Some(wait) = span(request.wait) {
        request.wait = prost_types::Duration::try_from(wait.min(left)).ok();
    }
    let mut leases = client.leases();
    let response = within(until, request, async move |request| leases.acquire_lease(request).await).await?;
    Ok((sent, response))
}
