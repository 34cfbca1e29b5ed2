//! One call to the service: with a deadline of its own, and repeated while its answer gets lost. Knows no lease.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{Code, Request};
use tracing::debug;

use crate::term::backoff;
use crate::{Error, Refusal};

/// Most calls that one request makes when answers get lost.
const ATTEMPTS_MAX: u32 = 4;
/// A call that ends this close to its deadline ended because of it.
const DEADLINE_GRAIN: Duration = Duration::from_millis(20);

/// One call with a deadline that the server learns and that holds here even if it does not answer at all.
pub(super) async fn within<Q, A>(
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
pub(super) async fn repeat<A, F: Future<Output = Result<A, Refusal>>>(
    until: Instant,
    name: &str,
    call: impl Fn(Instant) -> F,
) -> Result<A, Error> {
    let mut failures = 0;
    loop {
        match call(until).await {
            Ok(answer) => return Ok(answer),
            Err(refusal) if !refusal.is_transient() => return Err(refusal.into()),
            Err(refusal) => {
                let at = Instant::now() + backoff(failures, refusal.retry_after, jitter(name, failures));
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

pub(super) fn span(duration: Option<prost_types::Duration>) -> Option<Duration> {
    duration.and_then(|duration| Duration::try_from(duration).ok())
}

pub(super) fn incomplete(message: &str) -> Error {
    Refusal { code: Code::Internal, message: message.into(), ..Refusal::timeout() }.into()
}

/// A number of [0, 1) that differs between leases and attempts, so that holders do not ask all at once. It follows from
/// its arguments, so that a run under simulated time can be repeated; nothing rests on its quality.
pub(super) fn jitter(name: &str, attempt: u32) -> f64 {
    let mut hasher = DefaultHasher::new();
    (name, attempt).hash(&mut hasher);
    (hasher.finish() >> 32) as f64 / (u64::from(u32::MAX) + 1) as f64
}
