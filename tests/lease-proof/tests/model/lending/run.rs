//! The model as the checker wants it: where it begins, what is allowed next, and what must always hold.

use stateright::{Model, Property};
use usm_lease_proof::protocol::{Phase, Release, Session};

use super::{
    Message, State, Step, Who,
    guard::{Held, Worker},
    setup::{Check, Deadline, Fence, Setup, Word},
};

pub(crate) const ONE_LINE: &str = "at most one holder has a connection";
pub(crate) const ONE_SENDER: &str = "at most one holder sends";
pub(crate) const NOT_MISLED: &str = "only the session's holder is renewed";

impl Model for Setup {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            now: 0,
            session: Session::default(),
            lagging: None,
            workers: vec![Worker::default(); self.calls.len()],
            lines: Vec::new(),
            sent: Vec::new(),
            newest: 0,
            faults: self.faults,
            misled: false,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        self.time(state, steps);
        steps.extend(state.sent.iter().map(|call| Step::Serve(*call)));
        for who in 0..self.calls.len() {
            self.process(state, who, steps);
            if state.workers[who].runs() {
                self.calls(state, who, steps);
                self.connection(state, who, steps);
            }
        }
        let faults = &state.faults;
        if faults.evictions > 0 && state.session.last.is_some() {
            steps.push(Step::Evict);
        }
        if faults.failovers > 0 && state.lagging.is_some() {
            steps.push(Step::FailOver);
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        self.apply(&mut next, step);
        self.forget(&mut next);
        // Nothing changed: not worth a second look.
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_LINE, |_, state: &State| state.one_line()),
            Property::always(ONE_SENDER, |_, state: &State| state.one_sender()),
            Property::always(NOT_MISLED, |_, state: &State| !state.misled),
            // What never gets that far proves nothing.
            Property::sometimes("a session is handed on", |_, state: &State| {
                state.session.epoch >= 2 && state.lines.first().is_some_and(|line| line.epoch >= 2)
            }),
        ]
    }
}

impl Setup {
    /// A guard that runs closes its line at its deadline, and sends at once after its look: no tick passes before.
    /// One that is stopped does neither.
    fn time(&self, state: &State, steps: &mut Vec<Step>) {
        let overdue = |who: Who| {
            let worker = &state.workers[who];
            match worker.paused {
                Some(ticks) => self.pause_max.is_some_and(|most| ticks >= most),
                None => {
                    let over = worker.held.as_ref().is_none_or(|held| held.left == 0);
                    let acts = worker.held.as_ref().is_some_and(|held| held.checked);
                    acts || (self.deadline != Deadline::Ignored && over && state.has_open(who))
                }
            }
        };
        // Time before the first request, and another first worker, would show nothing new.
        if state.now >= self.horizon || state.workers[0].calls == 0 || (0..self.calls.len()).any(overdue) {
            return;
        }
        steps.push(Step::Tick { stalled: None });
        if state.faults.stalls > 0 {
            let counts =
                |who: &Who| state.workers[*who].held.is_some() || state.workers[*who].waiting.is_some();
            let stalled = (0..self.calls.len()).filter(counts);
            steps.extend(stalled.map(|who| Step::Tick { stalled: Some(who) }));
        }
    }

    fn process(&self, state: &State, who: Who, steps: &mut Vec<Step>) {
        let (worker, faults) = (&state.workers[who], &state.faults);
        if !worker.runs() {
            steps.push(Step::Resume(who));
        } else if faults.pauses > 0 && !worker.is_idle() {
            steps.push(Step::Pause(who));
        }
        if faults.crashes > 0 && !worker.is_idle() {
            steps.push(Step::Crash(who));
        }
    }

    fn calls(&self, state: &State, who: Who, steps: &mut Vec<Step>) {
        let worker = &state.workers[who];
        if let Some(waiting) = &worker.waiting {
            steps.extend(waiting.answers.iter().map(|answer| Step::Learn(who, *answer)));
        }
        let first = state.workers[0].calls == 0;
        if worker.calls >= self.calls[who] || (first && who > 0) {
            return;
        }
        if worker.is_done(self.ttl - self.margin) && !state.has_open(who) {
            steps.push(Step::Ask(who));
        }
        let Some(held) = &worker.held else {
            if !worker.is_idle() && worker.may_call_again() {
                steps.push(Step::Repeat(who));
            }
            return;
        };
        if !held.ending && (held.left > 0 || held.late) && worker.may_call_again() {
            steps.push(Step::Renew(who));
            steps.push(Step::Release(who, Release::Unknown));
        }
        let closed = match self.word {
            Word::Careful => !state.has_line(who, held.epoch),
            Word::Hasty => !state.has_open(who),
        };
        if closed {
            steps.push(Step::Release(who, Release::Closed));
        }
    }

    fn connection(&self, state: &State, who: Who, steps: &mut Vec<Step>) {
        let Some(held) = &state.workers[who].held else { return };
        if state.has_open(who) {
            steps.push(Step::Close(who));
            // Before it has to, a holder cuts a call short only if it cares for nothing.
            if held.left == 0 || held.ending || self.word == Word::Hasty {
                steps.push(Step::Cut(who));
            }
        }
        let connects = !held.ending && !state.has_line(who, held.epoch);
        let ready = match self.check {
            Check::Atomic => self.in_time(held),
            Check::Apart => held.checked,
        };
        if connects && ready {
            steps.push(Step::Connect(who));
        }
        if self.check == Check::Apart && (connects || state.has_open(who)) {
            if !held.checked && self.in_time(held) {
                steps.push(Step::Check(who));
            } else if held.checked && !connects {
                steps.push(Step::Send(who));
            }
        }
    }

    pub(super) fn in_time(&self, held: &Held) -> bool {
        held.left > 0 || self.deadline == Deadline::Ignored
    }

    /// Drops what cannot matter any more, so that states that differ in nothing else are one: how a lease ended once
    /// the session is free, calls about a lease that is over, and by how much an answer is late that grants no time.
    fn forget(&self, state: &mut State) {
        if state.session.phase(state.now, &self.rules()) == Phase::Free
            && let Some(last) = &mut state.session.last
        {
            (last.expire_at, last.released, last.evicted) = (None, true, false);
        }
        if self.deadline == Deadline::FromBefore {
            let late = self.ttl - self.margin;
            for worker in state.workers.iter_mut().filter(|worker| worker.held.is_none()) {
                if let Some(waiting) = &mut worker.waiting {
                    waiting.since = waiting.since.min(late);
                }
            }
        }
        if self.fence != Fence::All || self.faults.failovers > 0 {
            return;
        }
        let (epoch, workers) = (state.session.epoch, &state.workers);
        state.sent.retain(|call| match call.message {
            Message::Acquire { .. } => true,
            Message::Renew { epoch: of, .. } | Message::Release { epoch: of, .. } => {
                let waiting = workers[call.from].waiting.as_ref();
                of == epoch || waiting.is_some_and(|waiting| waiting.number == call.number)
            }
        });
    }
}
