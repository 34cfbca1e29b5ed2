//! A lease that renews itself, and tells in time when it cannot.
//!
//! The guard counts its deadline on its own monotonic clock from before each call was sent. One task owns the
//! renewals; it ends with the guard. Dropping the guard stops renewing and sends nothing: the service then waits for
//! the lease to expire, and for the quiet gap, before it lends the session again.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Request};
use tracing::{debug, warn};
use zeroize::Zeroizing;

use crate::term::{STOP_BEFORE, Term, backoff};
use crate::{Client, Error, Refusal, v1};

/// Time an acquire gets beyond its `wait`, and a release in all.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Most calls that one acquire or release makes when answers get lost.
const ATTEMPTS_MAX: u32 = 4;
/// A call that ends this close to its deadline ended because of it.
const DEADLINE_GRAIN: Duration = Duration::from_millis(20);
/// Longest wait in the session's queue, as the contract has it.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// Whether a worker closed what it had opened with the material of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// The holder's word that no connection of this session is open any more: the session is free at once.
    Closed,
    /// The holder cannot tell: the quiet gap runs first.
    Unknown,
}

/// Why a lease is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// No renewal came through in time.
    #[error("no renewal came through in time")]
    Expired,
    /// The service said so, for example with `LEASE_NOT_HELD`, `LEASE_EPOCH_STALE` or `LEASE_DRAINING`.
    #[error("the service ended it")]
    Refused(#[source] Box<Refusal>),
    /// The guard was dropped or released.
    #[error("its guard is gone")]
    Dropped,
}

/// Holds a lease: renews it in the background and tells when its time is over.
pub struct LeaseGuard {
    client: Client,
    hold: Hold,
    lease: v1::Lease,
    term: watch::Receiver<Term>,
    lost: CancellationToken,
    loss: Arc<Mutex<Option<Loss>>>,
    // Stops the renewals when the guard goes, however it goes.
    _stop: DropGuard,
}

/// What renewals and the release name the lease by.
#[derive(Clone)]
struct Hold {
    lease_id: Zeroizing<String>,
    epoch: i64,
}

impl LeaseGuard {
    /// Borrows a session and keeps it. The material is to be kept in memory only, and dropped with the guard.
    ///
    /// Answers that get lost are asked for again under one `request_id`, which is chosen here if the request has none.
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
        let (sent, response) = repeat(until, |until| acquire_once(client, request.clone(), until)).await?;
        let (mut lease, material) = match (response.lease, response.material) {
            (Some(lease), Some(material)) if !lease.lease_id.is_empty() => (lease, material),
            _ => return Err(incomplete("the answer has no lease or no material")),
        };
        let term = Term::granted(sent, span(lease.ttl), span(lease.renew_after), stop_before)
            .ok_or_else(|| incomplete("the answer grants no time"))?;
        let hold = Hold { lease_id: Zeroizing::new(std::mem::take(&mut lease.lease_id)), epoch: lease.epoch };
        let lost = CancellationToken::new();
        let loss = Arc::new(Mutex::new(None));
        let stop = CancellationToken::new();
        let (sender, receiver) = watch::channel(term);
        let renewal = Renewal { client: client.clone(), hold: hold.clone(), stop_before, term: sender };
        tokio::spawn(keep(renewal, stop.clone(), lost.clone(), Arc::clone(&loss)));
        let guard = Self {
            client: client.clone(),
            hold,
            lease,
            term: receiver,
            lost,
            loss,
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

    /// Completes when the worker must close its connections: renewals were refused, or failed until
    /// [`STOP_BEFORE`] before the deadline, or the guard is gone. The future is independent of the guard.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        self.lost.clone().cancelled_owned()
    }

    /// The same signal as a token of its own: cancelling it does not touch the lease.
    pub fn lost_token(&self) -> CancellationToken {
        self.lost.child_token()
    }

    /// Why the lease is over; `None` while it lives.
    pub fn loss(&self) -> Option<Loss> {
        self.loss.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
            repeat(until, |until| {
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

/// What the task that renews works with.
struct Renewal {
    client: Client,
    hold: Hold,
    stop_before: Duration,
    term: watch::Sender<Term>,
}

impl Renewal {
    fn term(&self) -> Term {
        *self.term.borrow()
    }

    /// Renews whenever it is time, until the lease is over.
    async fn run(&self) -> Loss {
        let mut next = self.term().renew_at;
        let mut failures = 0;
        loop {
            let term = self.term();
            sleep_until(next.min(term.lost_at)).await;
            if Instant::now() >= term.lost_at {
                return Loss::Expired;
            }
            match self.renew(term).await {
                Ok(term) => {
                    self.term.send_replace(term);
                    (next, failures) = (term.renew_at, 0);
                }
                Err(refusal) if refusal.ends_lease() => return Loss::Refused(Box::new(refusal)),
                Err(refusal) => {
                    let wait = backoff(failures, refusal.retry_after, jitter());
                    warn!(error.reason = %refusal, lease.epoch = self.hold.epoch, "A renewal failed, another follows");
                    next = Instant::now() + wait;
                    failures += 1;
                }
            }
        }
    }

    async fn renew(&self, term: Term) -> Result<Term, Refusal> {
        let request = v1::RenewLeaseRequest {
            lease_id: self.hold.lease_id.to_string(),
            epoch: self.hold.epoch,
            last_activity_time: None,
            request_id: uuid::Uuid::new_v4().to_string(),
        };
        let mut leases = self.client.leases();
        let sent = Instant::now();
        let until = (sent + term.attempt).min(term.lost_at);
        let response = within(until, request, async move |request| leases.renew_lease(request).await).await?;
        response
            .lease
            .filter(|lease| lease.epoch == self.hold.epoch)
            .and_then(|lease| Term::granted(sent, span(lease.ttl), span(lease.renew_after), self.stop_before))
            .ok_or_else(|| Refusal { message: "the answer grants no time".into(), ..Refusal::timeout() })
    }
}

/// Owns the renewals; whatever ends them, the worker is told.
async fn keep(
    renewal: Renewal,
    stop: CancellationToken,
    lost: CancellationToken,
    loss: Arc<Mutex<Option<Loss>>>,
) {
    // Cancels `lost` even if the task is dropped with its runtime.
    let _told = lost.drop_guard();
    let end = tokio::select! {
        biased;
        () = stop.cancelled() => Loss::Dropped,
        end = renewal.run() => end,
    };
    if end != Loss::Dropped {
        warn!(error.reason = %end, lease.epoch = renewal.hold.epoch, "The lease is lost");
    }
    *loss.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
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

/// One call with a deadline that the server learns and that holds here even if it does not answer at all.
async fn within<Q, A>(
    until: Instant,
    message: Q,
    call: impl AsyncFnOnce(Request<Q>) -> Result<tonic::Response<A>, tonic::Status>,
) -> Result<A, Refusal> {
    let mut request = Request::new(message);
    request.set_timeout(until.saturating_duration_since(Instant::now()));
    let answer = timeout_at(until, call(request)).await.map_err(|_| Refusal::timeout())?;
    answer.map(tonic::Response::into_inner).map_err(|status| {
        // A server without deadlines of its own calls the end of ours a cancellation.
        let over = Instant::now() + DEADLINE_GRAIN >= until;
        if over && status.code() == Code::Cancelled { Refusal::timeout() } else { status.into() }
    })
}

/// Repeats a call that is safe to repeat while its answer gets lost, within a deadline.
async fn repeat<A, F: Future<Output = Result<A, Refusal>>>(
    until: Instant,
    call: impl Fn(Instant) -> F,
) -> Result<A, Error> {
    let mut failures = 0;
    loop {
        match call(until).await {
            Ok(answer) => return Ok(answer),
            Err(refusal) if !refusal.is_transient() => return Err(refusal.into()),
            Err(refusal) => {
                let at = Instant::now() + backoff(failures, refusal.retry_after, jitter());
                failures += 1;
                if failures >= ATTEMPTS_MAX || at >= until {
                    return Err(refusal.into());
                }
                debug!(error.reason = %refusal, "An answer got lost, the call is repeated");
                sleep_until(at).await;
            }
        }
    }
}

fn span(duration: Option<prost_types::Duration>) -> Option<Duration> {
    duration.and_then(|duration| Duration::try_from(duration).ok())
}

fn incomplete(message: &str) -> Error {
    Refusal { code: Code::Internal, message: message.into(), ..Refusal::timeout() }.into()
}

/// A number of [0, 1) that differs between processes and calls; nothing rests on its quality.
fn jitter() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}
