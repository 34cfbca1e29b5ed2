//! Whether it makes sense to call somebody: after failures in a row calls rest, longer each time, until one of them
//! gets an answer.

use std::time::{Duration, Instant};

/// Failures in a row after which calls rest.
const FAILURES_MAX: u32 = 5;
/// The first rest and the longest; each that ended in vain is followed by one of twice its length.
const PAUSE_MIN: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// A trial whose end nobody told by then is forgotten, and another one may be made: longer than any call takes.
const TRIAL_MAX: Duration = Duration::from_secs(90);

/// Calls to one peer, as far as they are known to work.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    /// Counts changes of the state, so that a call is judged by the state it began in.
    round: u64,
    /// Since when the peer was there, as far as anybody can tell.
    whole_since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
        pause: Duration,
    },
    /// One call tries, and is given up for lost at `until`.
    HalfOpen {
        until: Instant,
        pause: Duration,
    },
}

/// The state without its data, the better one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Closed,
    HalfOpen,
    Open,
}

/// Leave for one call. Its outcome is told to the breaker that gave it.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Pass(u64);

impl Breaker {
    /// Nothing is known against the peer.
    pub fn new(now: Instant) -> Self {
        Self { state: State::Closed { failures: 0 }, round: 0, whole_since: now }
    }

    /// Leave for a call, unless calls rest.
    pub fn admit(&mut self, now: Instant) -> Option<Pass> {
        match self.state {
            State::Closed { .. } => Some(Pass(self.round)),
            State::Open { until, pause } | State::HalfOpen { until, pause } if now >= until => {
                self.enter(State::HalfOpen { until: now + TRIAL_MAX, pause });
                Some(Pass(self.round))
            }
            State::Open { .. } | State::HalfOpen { .. } => None,
        }
    }

    /// The peer answered, whatever it said. This also counts when the call began before calls were held back.
    pub fn answered(&mut self, now: Instant) {
        match self.state {
            State::Closed { .. } => self.state = State::Closed { failures: 0 },
            State::Open { .. } | State::HalfOpen { .. } => {
                self.enter(State::Closed { failures: 0 });
                self.whole_since = now;
            }
        }
    }

    /// The call got no answer.
    pub fn failed(&mut self, pass: &Pass, now: Instant) {
        if pass.0 != self.round {
            return;
        }
        match self.state {
            State::Closed { failures } if failures + 1 < FAILURES_MAX => {
                self.state = State::Closed { failures: failures + 1 };
            }
            State::Closed { .. } => {
                self.enter(State::Open { until: now + PAUSE_MIN, pause: PAUSE_MIN });
            }
            State::HalfOpen { pause, .. } => {
                let pause = pause.saturating_mul(2).min(PAUSE_MAX);
                self.enter(State::Open { until: now + pause, pause });
            }
            // A round that is open has given no pass.
            State::Open { .. } => {}
        }
    }

    /// The call was not made after all; if it was the trial, another one may be made at once.
    pub fn given_up(&mut self, pass: &Pass, now: Instant) {
        match self.state {
            State::HalfOpen { pause, .. } if pass.0 == self.round => {
                self.enter(State::Open { until: now, pause });
            }
            State::HalfOpen { .. } | State::Closed { .. } | State::Open { .. } => {}
        }
    }

    pub fn level(&self) -> Level {
        match self.state {
            State::Closed { .. } => Level::Closed,
            State::HalfOpen { .. } => Level::HalfOpen,
            State::Open { .. } => Level::Open,
        }
    }

    /// Whether calls rest now.
    pub fn rests(&self, now: Instant) -> bool {
        match self.state {
            State::Closed { .. } => false,
            State::Open { until, .. } | State::HalfOpen { until, .. } => now < until,
        }
    }

    /// Since when every outage, if there was any, is over; `None` while one may be going on.
    pub fn whole_since(&self) -> Option<Instant> {
        match self.state {
            State::Closed { failures: 0 } => Some(self.whole_since),
            State::Closed { .. } | State::Open { .. } | State::HalfOpen { .. } => None,
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.round += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A breaker that has just opened, and when.
    fn opened() -> (Breaker, Instant) {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        for _ in 0..FAILURES_MAX {
            let pass = breaker.admit(now).expect("closed");
            breaker.failed(&pass, now);
        }
        (breaker, now)
    }

    #[test]
    fn failures_in_a_row_hold_calls_back() {
        let (mut breaker, now) = opened();
        assert_eq!((breaker.level(), breaker.whole_since()), (Level::Open, None));
        assert!(breaker.rests(now + PAUSE_MIN - SECOND));
        assert_eq!(breaker.admit(now + PAUSE_MIN - SECOND), None);
    }

    #[test]
    fn an_answer_in_between_begins_the_count_anew() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        for _ in 0..4 * FAILURES_MAX {
            for _ in 1..FAILURES_MAX {
                let pass = breaker.admit(now).expect("closed");
                breaker.failed(&pass, now);
                assert_eq!(breaker.whole_since(), None, "in doubt");
            }
            breaker.answered(now);
            assert_eq!(breaker.whole_since(), Some(now), "never out");
        }
    }

    #[test]
    fn after_the_pause_one_call_tries() {
        let (mut breaker, now) = opened();
        let later = now + PAUSE_MIN;
        let trial = breaker.admit(later).expect("the trial");
        assert_eq!(breaker.level(), Level::HalfOpen);
        assert_eq!(breaker.admit(later), None);
        breaker.given_up(&trial, later);
        let trial = breaker.admit(later).expect("another one");
        breaker.failed(&trial, later);
        assert_eq!(breaker.admit(later + PAUSE_MIN * 2 - SECOND), None, "twice as long");
        let after = later + PAUSE_MIN * 2;
        let _trial = breaker.admit(after).expect("the trial");
        breaker.answered(after);
        assert_eq!((breaker.level(), breaker.whole_since()), (Level::Closed, Some(after)));
    }

    #[test]
    fn a_trial_that_is_never_told_of_does_not_block_for_ever() {
        let (mut breaker, now) = opened();
        let _lost = breaker.admit(now + PAUSE_MIN).expect("the trial");
        assert!(breaker.rests(now + PAUSE_MIN + TRIAL_MAX - SECOND));
        assert!(breaker.admit(now + PAUSE_MIN + TRIAL_MAX).is_some());
    }

    #[test]
    fn a_call_from_before_the_outage_does_not_lengthen_it() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        let passes: Vec<Pass> = (0..FAILURES_MAX + 3).map(|_| breaker.admit(now).expect("closed")).collect();
        for pass in &passes {
            breaker.failed(pass, now);
        }
        let trial = breaker.admit(now + PAUSE_MIN).expect("the first pause is the shortest");
        breaker.failed(&passes[0], now + PAUSE_MIN);
        assert_eq!(breaker.level(), Level::HalfOpen);
        breaker.failed(&trial, now + PAUSE_MIN);
        assert_eq!(breaker.level(), Level::Open);
    }

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Wait(u16),
        Admit,
        Answer,
        Fail(u8),
        GiveUp(u8),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (0_u16..400).prop_map(Act::Wait),
            Just(Act::Admit),
            Just(Act::Admit),
            Just(Act::Answer),
            any::<u8>().prop_map(Act::Fail),
            any::<u8>().prop_map(Act::Fail),
            any::<u8>().prop_map(Act::GiveUp),
        ]
    }

    proptest! {
        /// Whatever comes in whatever order: calls are never blocked for longer than the longest pause and a lost
        /// trial, only failures hold them back, and an answer always lets them through.
        #[test]
        fn it_never_locks_up_and_never_opens_without_reason(acts in prop::collection::vec(act(), 0..200)) {
            let mut now = Instant::now();
            let mut breaker = Breaker::new(now);
            let mut passes = Vec::new();
            let mut failures = 0;
            for act in acts {
                let before = breaker.level();
                match act {
                    Act::Wait(seconds) => now += SECOND * u32::from(seconds),
                    Act::Admit => {
                        let rests = breaker.rests(now);
                        let pass = breaker.admit(now);
                        prop_assert_eq!(pass.is_none(), rests);
                        passes.extend(pass);
                    }
                    Act::Answer => {
                        breaker.answered(now);
                        failures = 0;
                        prop_assert_eq!(breaker.level(), Level::Closed);
                        prop_assert!(breaker.admit(now).is_some());
                        prop_assert!(breaker.whole_since().is_some());
                    }
                    Act::Fail(which) if !passes.is_empty() => {
                        let pass = passes.swap_remove(usize::from(which) % passes.len());
                        breaker.failed(&pass, now);
                        failures += 1;
                    }
                    Act::GiveUp(which) if !passes.is_empty() => {
                        let pass = passes.swap_remove(usize::from(which) % passes.len());
                        breaker.given_up(&pass, now);
                    }
                    Act::Fail(_) | Act::GiveUp(_) => {}
                }
                if before == Level::Closed && breaker.level() != Level::Closed {
                    prop_assert!(failures >= FAILURES_MAX);
                }
                prop_assert!(!breaker.rests(now + PAUSE_MAX.max(TRIAL_MAX)));
                if breaker.rests(now) {
                    prop_assert!(breaker.whole_since().is_none());
                }
            }
        }
    }
}
