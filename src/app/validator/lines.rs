//! What this replica knows of each data centre: whether it answers, and since when.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    domain::breaker::{Breaker, Level, Pass},
    telemetry::metrics,
};

/// The lines to the data centres. Locked for a moment at a time, never across an await.
#[derive(Debug)]
pub(super) struct Lines(Mutex<Known>);

#[derive(Debug)]
struct Known {
    /// Since when this replica watches.
    since: Instant,
    dcs: BTreeMap<i32, Line>,
}

#[derive(Debug)]
struct Line {
    breaker: Breaker,
    /// When the data centre last answered.
    heard: Option<Instant>,
}

/// One call to a data centre; dropped untold, it was not made.
#[derive(Debug)]
pub(super) struct Call {
    lines: Arc<Lines>,
    dc: i32,
    pass: Pass,
    told: bool,
}

impl Lines {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Known { since: now, dcs: BTreeMap::new() }))
    }

    /// Begins to watch anew: what was before is no proof of anything.
    pub(super) fn begin(&self, now: Instant) {
        *self.known() = Known { since: now, dcs: BTreeMap::new() };
        metrics::breaker(Level::Closed);
    }

    /// Leave for a call, unless calls to the data centre rest.
    pub(super) fn admit(self: &Arc<Self>, dc: i32, now: Instant) -> Option<Call> {
        let pass = self.with(dc, |line| line.breaker.admit(now))?;
        Some(Call { lines: self.clone(), dc, pass, told: false })
    }

    /// The data centres that are not to be called now.
    pub(super) fn resting(&self, now: Instant) -> Vec<i32> {
        let known = self.known();
        known.dcs.iter().filter(|(_, line)| line.breaker.rests(now)).map(|(dc, _)| *dc).collect()
    }

    /// Whether the data centre answered within this span.
    pub(super) fn heard_within(&self, dc: i32, span: Duration, now: Instant) -> bool {
        self.with(dc, |line| line.heard).is_some_and(|heard| now.saturating_duration_since(heard) <= span)
    }

    /// Whether this replica has watched the data centre for so long without an outage.
    pub(super) fn whole_for(&self, dc: i32, span: Duration, now: Instant) -> bool {
        let since = self.with(dc, |line| line.breaker.whole_since());
        since.is_some_and(|since| now.saturating_duration_since(since) >= span)
    }

    fn with<T>(&self, dc: i32, act: impl FnOnce(&mut Line) -> T) -> T {
        let mut known = self.known();
        let since = known.since;
        let line = known.dcs.entry(dc).or_insert_with(|| Line { breaker: Breaker::new(since), heard: None });
        let before = line.breaker.level();
        let done = act(line);
        let after = line.breaker.level();
        if before != after {
            told(dc, after);
            let worst = known.dcs.values().map(|line| line.breaker.level()).max().unwrap_or(Level::Closed);
            metrics::breaker(worst);
        }
        done
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    /// The data centre answered, whatever it said.
    pub(super) fn answered(mut self, now: Instant) {
        self.told = true;
        self.lines.with(self.dc, |line| {
            line.breaker.answered(now);
            line.heard = Some(now);
        });
    }

    /// There was no answer.
    pub(super) fn failed(mut self, now: Instant) {
        self.told = true;
        self.lines.with(self.dc, |line| line.breaker.failed(&self.pass, now));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.told {
            self.lines.with(self.dc, |line| line.breaker.given_up(&self.pass, Instant::now()));
        }
    }
}

fn told(dc: i32, level: Level) {
    match level {
        Level::Closed => tracing::info!(dc, "Telegram answers again"),
        Level::HalfOpen => tracing::debug!(dc, "Trying whether Telegram answers again"),
        Level::Open => tracing::warn!(dc, "Telegram does not answer; sessions are not looked at for a while"),
    }
}
