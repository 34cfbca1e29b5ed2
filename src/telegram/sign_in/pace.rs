//! When to try again: the wait doubles from one second to a minute, with jitter, and a flood wait is kept.

use std::time::{Duration, Instant};

const DELAY_MIN: Duration = Duration::from_secs(1);
const DELAY_MAX: Duration = Duration::from_secs(60);
const JITTER_MAX_MILLIS: u64 = 250;

#[derive(Debug, Default)]
pub(super) struct Pace {
    failures: u32,
    not_before: Option<Instant>,
    flooded_until: Option<Instant>,
}

impl Pace {
    /// The time to wait for, if it has not come yet.
    pub(super) fn hold(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|until| now < *until)
    }

    /// Waits longer after each failure in a row.
    pub(super) fn failed(&mut self, now: Instant) {
        let delay = DELAY_MIN.saturating_mul(1 << self.failures.min(6)).min(DELAY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.wait(now + delay + jitter());
    }

    /// Not before `until`, whatever else is going on.
    pub(super) fn wait(&mut self, until: Instant) {
        self.not_before = Some(self.not_before.map_or(until, |held| held.max(until)));
    }

    /// Telegram asked to wait that long.
    pub(super) fn flood(&mut self, until: Instant) {
        self.flooded_until = Some(self.flooded_until.map_or(until, |held| held.max(until)));
        self.wait(until);
    }

    /// What is left of the time that Telegram asked to wait.
    pub(super) fn flooded(&self, now: Instant) -> Option<Duration> {
        self.flooded_until.and_then(|until| until.checked_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// What failed had worked long enough for a fresh start.
    pub(super) fn recovered(&mut self) {
        self.failures = 0;
    }
}

fn jitter() -> Duration {
    let mut byte = [0];
    // Without randomness there is no jitter, which is no reason to fail.
    let _ = getrandom::fill(&mut byte);
    Duration::from_millis(u64::from(byte[0]) * JITTER_MAX_MILLIS / 255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_to_a_minute_and_starts_over_after_recovery() {
        let now = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.hold(now), None);
        for (failure, seconds) in [1, 2, 4, 8, 16, 32, 60, 60].into_iter().enumerate() {
            pace.failed(now);
            let wait = pace.hold(now).unwrap() - now;
            let least = Duration::from_secs(seconds);
            assert!((least..=least + Duration::from_millis(250)).contains(&wait), "{failure}: {wait:?}");
        }
        pace.recovered();
        let later = now + Duration::from_secs(100);
        assert_eq!(pace.hold(later), None);
        pace.failed(later);
        assert!(pace.hold(later).unwrap() < later + Duration::from_secs(2));
    }

    #[test]
    fn a_flood_wait_outlasts_a_shorter_one() {
        let now = Instant::now();
        let mut pace = Pace::default();
        pace.wait(now + Duration::from_secs(30));
        pace.failed(now);
        assert_eq!(pace.hold(now), Some(now + Duration::from_secs(30)));
    }
}
