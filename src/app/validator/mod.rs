//! Looking after sessions by schedule: each that gave no proof of life for a while is asked about, by taking its
//! lease, and what was silent for too long becomes STALE.
//!
//! Replicas do this side by side without a leader. They share one pace and the pauses that Telegram asked for in the
//! database; whoever takes a time for a look looks at the first session of its list that is still to be looked at.
//! If the process dies anywhere, a lease runs out and nothing else is left.

mod lines;
mod look;
mod silence;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use self::lines::Lines;
use super::{App, as_service, random};
use crate::{
    domain::{caller::Caller, error::Error, validation::SECOND_LOOK},
    store::{paces::Pace, validation::Due},
};

/// Who the audit log names, and whom a lease's view shows.
const ACTOR: &str = "usm:validator";
/// How long one question to the store may take.
const STORE_LIMIT: Duration = Duration::from_secs(10);
/// A round goes on for so long, then the list is read anew.
const ROUND_MAX: Duration = Duration::from_secs(10);
/// The longest rest between two rounds that found little to do.
const IDLE_MAX: Duration = Duration::from_secs(15);
const IDLE_MIN: Duration = Duration::from_millis(100);
/// How far ahead a time for a look is taken at least.
const AHEAD_MIN: Duration = Duration::from_secs(1);
/// Looks of one replica that may be under way at once: enough for its share of the rate while answers take a second.
const LOOKS_MIN: usize = 8;
const LOOKS_MAX: usize = 64;
/// Sessions listed at once.
const LIST_MIN: u64 = 50;
const LIST_MAX: u64 = 1_000;
/// A service that could not do its rounds for so long has not watched, and judges no silence from before.
const BLIND_MAX: Duration = Duration::from_secs(60);

/// When sessions are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Sessions are looked at that gave no proof of life for so long; `None` looks at none.
    pub interval: Option<Duration>,
    /// Those that gave none for so long become STALE.
    pub stale_threshold: Duration,
    /// Between two looks, of all replicas together.
    pub step: Duration,
    /// Between a refusal and the look that believes it.
    pub second_look: Duration,
}

impl Schedule {
    /// `rate` is in looks per second.
    pub fn new(interval: Option<Duration>, stale_threshold: Duration, rate: f64) -> Self {
        // Rounded up to what the database's clock counts in: the rate is a limit.
        let step = Duration::from_secs_f64((1000.0 / rate).ceil() / 1000.0);
        Self { interval, stale_threshold, step, second_look: SECOND_LOOK }
    }

    /// Looks in this span, at the full rate.
    fn looks_in(&self, span: Duration) -> u64 {
        u64::try_from(span.as_millis() / self.step.as_millis().max(1)).unwrap_or(u64::MAX)
    }
}

impl App {
    /// Looks after sessions until the service stops.
    pub fn watch_over_sessions(&self) {
        let schedule = self.0.settings.validation;
        let Some(interval) = schedule.interval else { return };
        let looks = usize::try_from(schedule.looks_in(Duration::from_secs(1))).unwrap_or(LOOKS_MAX);
        let validator = Validator {
            app: self.clone(),
            schedule,
            interval,
            lines: Arc::new(Lines::new(Instant::now())),
            room: Arc::new(Semaphore::new(looks.clamp(LOOKS_MIN, LOOKS_MAX))),
        };
        self.0.tasks.spawn(async move { validator.run().await });
    }
}

/// Clones share what is known of the data centres.
#[derive(Clone)]
struct Validator {
    app: App,
    schedule: Schedule,
    interval: Duration,
    lines: Arc<Lines>,
    room: Arc<Semaphore>,
}

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// There is more to do.
    More,
    Done,
}

impl Validator {
    async fn run(&self) {
        let stop = self.app.0.stop.clone();
        // Not all replicas of one start at once.
        let mut pause = jittered(self.idle());
        let mut watched = Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            pause = jittered(self.idle());
            if !self.app.is_enabled() {
                continue;
            }
            if watched.elapsed() > BLIND_MAX.max(self.idle() * 2) {
                self.lines.begin(Instant::now());
            }
            let done = tokio::select! {
                done = Box::pin(self.round()) => done,
                () = stop.cancelled() => return,
            };
            match done {
                Ok(Round::More) => (pause, watched) = (Duration::ZERO, Instant::now()),
                Ok(Round::Done) => watched = Instant::now(),
                Err(error) => {
                    tracing::warn!(error.reason = ?error.reason, error = %error, "Sessions are looked after later");
                }
            }
        }
    }

    async fn round(&self) -> Result<Round, Error> {
        let until = Instant::now() + ROUND_MAX;
        let silence = self.tend().await?;
        let limit = self.schedule.looks_in(ROUND_MAX).clamp(LIST_MIN, LIST_MAX);
        let resting = self.lines.resting(Instant::now());
        let store = &self.app.0.store;
        let list = store.candidates(&self.caller(), &self.due(), &resting, limit).await?;
        let full = u64::try_from(list.len()).is_ok_and(|found| found == limit);
        let (mut taken, mut looked) = (false, false);
        for candidate in list {
            if Instant::now() >= until {
                return Ok(Round::More);
            }
            let Ok(permit) = self.room.clone().acquire_owned().await else { break };
            let Some(call) = self.lines.admit(candidate.dc, Instant::now()) else { continue };
            if !taken {
                self.take_a_time().await?;
            }
            let (validator, key) = (self.clone(), candidate.key);
            // In a task of its own: a grant must not be forgotten halfway when the service stops.
            let look = Box::pin(async move { validator.take_up(key, call, permit).await });
            // A time that nobody was looked at in is good for the next one on the list.
            taken = !self.app.finish(look).await?;
            looked |= !taken;
        }
        // A list of which nobody could be looked at is not read again at once.
        Ok(if silence == Round::More || (full && looked) { Round::More } else { Round::Done })
    }

    /// Waits for the next time that no other replica has taken.
    async fn take_a_time(&self) -> Result<(), Error> {
        let step = self.schedule.step;
        loop {
            let store = &self.app.0.store;
            match store.reserve(&self.caller(), Pace::Probes, step, step.max(AHEAD_MIN)).await? {
                Some(until) => {
                    tokio::time::sleep(until).await;
                    return Ok(());
                }
                None => tokio::time::sleep(jittered(step)).await,
            }
        }
    }

    fn caller(&self) -> Caller {
        as_service(ACTOR, STORE_LIMIT)
    }

    fn due(&self) -> Due {
        Due { silent_for: self.interval, second_look: self.schedule.second_look }
    }

    fn idle(&self) -> Duration {
        (self.interval / 20).clamp(IDLE_MIN, IDLE_MAX)
    }
}

/// Between three and five quarters of it, so that replicas do not march in step.
fn jittered(span: Duration) -> Duration {
    let [random] = random::<1>();
    span * 3 / 4 + span * u32::from(random) / 512
}
