//! How long a holder may go on, counted on its own clock. Pure arithmetic: reads no clock.
//!
//! A span counts from **before** the call that granted it was sent, while the service counts from its commit, which
//! is later: so the holder always stops first, with no clock in common.

use std::time::Duration;

use tokio::time::Instant;

/// Time a holder gets, by default, between the signal and its deadline to close its connections. Short leases give at
/// most a third of their span.
pub const STOP_BEFORE: Duration = Duration::from_secs(5);
/// Kept back from the granted span for clocks that do not run equally fast; at most a twentieth of it.
const MARGIN_MAX: Duration = Duration::from_secs(1);
/// One renewal gets at most this long to be answered; short leases give at most a sixth of their span.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);
const ATTEMPT_MIN: Duration = Duration::from_millis(200);
/// No span is taken as longer than this, whatever the answer says.
const TTL_MAX: Duration = Duration::from_secs(24 * 3600);

/// The instants that follow from one grant or renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// When to renew.
    pub(crate) renew_at: Instant,
    /// When to tell the worker to stop, if no renewal came through.
    pub(crate) lost_at: Instant,
    /// When every connection must be closed.
    pub(crate) deadline: Instant,
    /// How long one attempt to renew may take.
    pub(crate) attempt: Duration,
}

impl Term {
    /// From the instant before the call was sent and the spans of the answer. `None` if the answer grants no time.
    pub(crate) fn granted(
        sent: Instant,
        ttl: Option<Duration>,
        renew_after: Option<Duration>,
        stop_before: Duration,
    ) -> Option<Self> {
        let ttl = ttl.filter(|ttl| !ttl.is_zero())?.min(TTL_MAX);
        let deadline = sent + ttl - MARGIN_MAX.min(ttl / 20);
        let lost_at = deadline - stop_before.min(ttl / 3);
        let renew_after = renew_after.filter(|after| !after.is_zero()).unwrap_or(ttl / 3);
        // Half-way at the latest, whatever was advised: renewals need room for a second attempt.
        let renew_at = sent + renew_after.min(ttl / 2);
        Some(Self { renew_at, lost_at, deadline, attempt: (ttl / 6).clamp(ATTEMPT_MIN, ATTEMPT_MAX) })
    }

    /// Until when the answer to something said on a stream is awaited. At most half the time that is left: the other
    /// half is for a call without the stream.
    pub(crate) fn answer_by(&self, sent: Instant) -> Instant {
        sent + self.attempt.min(self.lost_at.saturating_duration_since(sent) / 2)
    }
}

/// The wait before attempt `failures + 1`: doubling from a quarter of a second to two, never shorter than the service
/// asked for. `jitter` is a number of [0, 1).
pub(crate) fn backoff(failures: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
    let base = Duration::from_millis(250).saturating_mul(1 << failures.min(3)).min(Duration::from_secs(2));
    let spread = base.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
    spread.max(retry_after.unwrap_or_default())
}

/// The wait before a stream is opened again: as [`backoff`], from one second to a minute, since single calls do its
/// work meanwhile.
pub(crate) fn reopening(failures: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
    let base = Duration::from_secs(1).saturating_mul(1 << failures.min(6)).min(Duration::from_secs(60));
    let spread = base.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
    spread.max(retry_after.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn term(sent: Instant, ttl: u32, renew_after: Option<u32>) -> Term {
        Term::granted(sent, Some(SECOND * ttl), renew_after.map(|after| SECOND * after), STOP_BEFORE).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_lies_before_what_was_granted_and_the_signal_before_the_deadline() {
        let sent = Instant::now();
        let term = term(sent, 90, Some(30));
        assert_eq!(term.renew_at, sent + SECOND * 30);
        assert_eq!(term.deadline, sent + SECOND * 89);
        assert_eq!(term.lost_at, sent + SECOND * 84);
        assert_eq!(term.attempt, SECOND * 5);
    }

    #[tokio::test(start_paused = true)]
    async fn short_leases_keep_their_proportions() {
        let sent = Instant::now();
        for ttl in [1, 2, 10, 11, 45, 600] {
            let term = term(sent, ttl, None);
            let end = sent + SECOND * ttl;
            assert!(sent < term.renew_at && term.renew_at < term.lost_at, "{ttl}");
            assert!(term.lost_at < term.deadline && term.deadline < end, "{ttl}");
            assert!(term.renew_at + term.attempt <= term.lost_at, "{ttl}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_without_time_grants_none() {
        let sent = Instant::now();
        assert_eq!(Term::granted(sent, None, None, STOP_BEFORE), None);
        assert_eq!(Term::granted(sent, Some(Duration::ZERO), None, STOP_BEFORE), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_renewal_advice_is_not_followed() {
        let sent = Instant::now();
        assert_eq!(term(sent, 90, Some(89)).renew_at, sent + SECOND * 45);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_leaves_time_for_a_call_without_it() {
        let sent = Instant::now();
        assert_eq!(term(sent, 90, None).answer_by(sent), sent + SECOND * 5);
        for ttl in [1, 2, 10, 600] {
            let term = term(sent, ttl, Some(ttl));
            let by = term.answer_by(term.renew_at);
            assert!(by - term.renew_at <= term.lost_at - by, "{ttl}");
        }
    }

    #[test]
    fn waits_grow_and_obey_the_service() {
        assert_eq!(backoff(0, None, 0.0), Duration::from_millis(125));
        assert_eq!(backoff(0, None, 1.0), Duration::from_millis(250));
        assert_eq!(backoff(30, None, 1.0), SECOND * 2);
        assert_eq!(backoff(0, Some(SECOND * 9), 0.5), SECOND * 9);
        assert_eq!(reopening(0, None, 0.0), SECOND / 2);
        assert_eq!(reopening(30, None, 1.0), SECOND * 60);
        assert_eq!(reopening(0, Some(SECOND * 90), 0.5), SECOND * 90);
    }
}
