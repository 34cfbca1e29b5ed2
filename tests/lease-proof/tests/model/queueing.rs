//! Callers wait in the session's queue while replicas die and the service itself wants a look.
//!
//! A caller that waits is looked after once a tick, by whichever replica has its call; one whose replica died is not,
//! until the caller repeats the call elsewhere. A holder gives back at once, later, or never.

use stateright::{Model, Property};
use usm_lease_proof::protocol::{
    Acquire, Ask, Holder, LeaseId, Millis, Phase, Purpose, Release, RequestId, Rules, Session, Subject,
};

pub(crate) const IN_ORDER: &str = "who came first is served first";
pub(crate) const PROBE_LAST: &str = "the service's own look waits for workers";
pub(crate) const GRANTED: &str = "a free session that somebody wants is granted soon";

/// What the service does, or fails to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Kept,
    /// Whoever looks first gets it.
    NoQueue,
    ProbeFirst,
}

/// One exploration.
#[derive(Clone, Debug)]
pub(crate) struct Queueing {
    pub(crate) callers: usize,
    pub(crate) horizon: Millis,
    pub(crate) ttl: Millis,
    /// How long a caller waits at most.
    pub(crate) patience: Millis,
    pub(crate) rules: Rules,
    /// Replicas that die with a call in their hands.
    pub(crate) deaths: u8,
    /// For how many ticks a free session may stay unused.
    pub(crate) unused_max: Millis,
    pub(crate) order: Order,
}

impl Default for Queueing {
    fn default() -> Self {
        Self {
            callers: 3,
            horizon: 7,
            ttl: 2,
            patience: 6,
            rules: Rules { quiet_gap: 1, presence: 2, waiters_max: 3 },
            deaths: 1,
            unused_max: 2,
            order: Order::Kept,
        }
    }
}

/// Everything there is at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    now: Millis,
    session: Session,
    callers: Vec<Caller>,
    /// Who came, in order.
    arrivals: Vec<usize>,
    /// Replicas that may still die.
    deaths: u8,
    probed: bool,
    /// For how many ticks the session has been free although somebody who was looked after wanted it.
    unused: Millis,
    overtaken: bool,
    probe_first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Caller {
    Away,
    /// Waits until then; whether it was looked after in this tick.
    Waits {
        until: Millis,
        looked: bool,
    },
    /// The replica that had its call is dead.
    Orphan {
        until: Millis,
    },
    Holds,
    Gone,
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Tick,
    Arrive(usize),
    /// The replica that has the call asks for the session again.
    Look(usize),
    /// The replica dies.
    Orphan(usize),
    /// The caller repeats its call to another replica.
    Repeat(usize),
    GiveBack(usize),
    /// The service wants the session for itself.
    Probe,
}

fn ask(caller: usize, ttl: Millis, purpose: Purpose) -> Ask {
    Ask {
        lease_id: LeaseId(caller as u128),
        holder: Holder(caller as u32),
        subject: Subject(0),
        request_id: Some(RequestId(caller as u128)),
        ttl,
        purpose,
        queued: true,
    }
}

impl Model for Queueing {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            now: 0,
            session: Session::default(),
            callers: vec![Caller::Away; self.callers],
            arrivals: Vec::new(),
            deaths: self.deaths,
            probed: false,
            unused: 0,
            overtaken: false,
            probe_first: false,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let unlooked = |caller: &Caller| matches!(caller, Caller::Waits { looked: false, .. });
        if state.now < self.horizon && !state.callers.iter().any(unlooked) {
            steps.push(Step::Tick);
        }
        if !state.probed {
            steps.push(Step::Probe);
        }
        for (who, caller) in state.callers.iter().enumerate() {
            match caller {
                // Which of those that are away comes first makes no difference.
                Caller::Away if who == state.arrivals.len() => steps.push(Step::Arrive(who)),
                Caller::Away => {}
                Caller::Waits { looked, .. } => {
                    if !looked {
                        steps.push(Step::Look(who));
                    }
                    if state.deaths > 0 {
                        steps.push(Step::Orphan(who));
                    }
                }
                Caller::Orphan { .. } => steps.push(Step::Repeat(who)),
                Caller::Holds => steps.push(Step::GiveBack(who)),
                Caller::Gone => {}
            }
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        match step {
            Step::Tick => self.tick(&mut next),
            Step::Arrive(who) => {
                next.arrivals.push(who);
                self.look(&mut next, who, state.now + self.patience);
            }
            Step::Look(who) => match state.callers[who] {
                Caller::Waits { until, .. } => self.look(&mut next, who, until),
                Caller::Away | Caller::Orphan { .. } | Caller::Holds | Caller::Gone => return None,
            },
            Step::Orphan(who) => match state.callers[who] {
                Caller::Waits { until, .. } => {
                    next.deaths -= 1;
                    next.callers[who] = Caller::Orphan { until };
                }
                Caller::Away | Caller::Orphan { .. } | Caller::Holds | Caller::Gone => return None,
            },
            Step::Repeat(who) => match state.callers[who] {
                Caller::Orphan { until } => self.look(&mut next, who, until),
                Caller::Away | Caller::Waits { .. } | Caller::Holds | Caller::Gone => return None,
            },
            Step::GiveBack(who) => {
                let id = LeaseId(who as u128);
                next.session.release(id, state.session.epoch, Subject(0), Release::Closed);
                next.callers[who] = Caller::Gone;
            }
            Step::Probe => self.probe(&mut next),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(IN_ORDER, |_, state: &State| !state.overtaken),
            Property::always(PROBE_LAST, |_, state: &State| !state.probe_first),
            Property::always(GRANTED, |model: &Self, state: &State| state.unused <= model.unused_max),
            Property::sometimes("all are served", |_, state: &State| {
                state.callers.iter().all(|caller| matches!(caller, Caller::Holds | Caller::Gone))
                    && state.session.epoch >= state.callers.len() as i64
            }),
            Property::sometimes("the service gets its look", |_, state: &State| {
                state.session.last.as_ref().is_some_and(|last| last.purpose == Purpose::Probe)
            }),
        ]
    }
}

impl Queueing {
    /// One look of a replica after a call: a place in the queue, then an attempt.
    fn look(&self, state: &mut State, who: usize, until: Millis) {
        let now = state.now;
        let ask = ask(who, self.ttl, Purpose::Lend);
        if self.order != Order::NoQueue {
            state.session.queue.enter(ask.lease_id, until - now, now, &self.rules);
        }
        state.callers[who] = match state.session.acquire(&ask, now, &self.rules) {
            Acquire::Granted(_) => {
                state.unused = 0;
                let before = state.arrivals.iter().take_while(|other| **other != who);
                let waits = |other: &usize| matches!(state.callers[*other], Caller::Waits { .. });
                state.overtaken |= before.copied().any(|other| waits(&other));
                Caller::Holds
            }
            Acquire::Busy { .. } | Acquire::Behind { .. } | Acquire::NotLendable => {
                Caller::Waits { until, looked: true }
            }
        };
    }

    fn probe(&self, state: &mut State) {
        state.probed = true;
        let ask = ask(self.callers, self.ttl, Purpose::Probe);
        let before = state.session.epoch;
        if self.order == Order::ProbeFirst {
            let queue = std::mem::take(&mut state.session.queue);
            state.session.acquire(&ask, state.now, &self.rules);
            state.session.queue = queue;
        } else {
            state.session.acquire(&ask, state.now, &self.rules);
        }
        let waits = state.callers.iter().any(|caller| matches!(caller, Caller::Waits { .. }));
        state.probe_first |= waits && state.session.epoch > before;
    }

    fn tick(&self, state: &mut State) {
        let wanted = state.callers.iter().any(|caller| matches!(caller, Caller::Waits { .. }));
        let free = state.session.phase(state.now, &self.rules) == Phase::Free;
        state.unused = if wanted && free { state.unused + 1 } else { 0 };
        state.now += 1;
        for (who, caller) in state.callers.iter_mut().enumerate() {
            match *caller {
                Caller::Waits { until, .. } | Caller::Orphan { until } if until <= state.now => {
                    state.session.queue.leave(LeaseId(who as u128));
                    *caller = Caller::Gone;
                }
                Caller::Waits { until, .. } => *caller = Caller::Waits { until, looked: false },
                Caller::Away | Caller::Orphan { .. } | Caller::Holds | Caller::Gone => {}
            }
        }
    }
}
