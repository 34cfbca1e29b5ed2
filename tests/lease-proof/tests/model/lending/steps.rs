//! What each step changes.

use usm_lease_proof::protocol::{Acquire, Ask, Granted, Holder, Purpose, Release, Renew, RequestId};

use super::{
    Answer, Call, Line, Message, State, Step, Who, lease_id,
    setup::{Check, Fence, Setup},
    subject,
};

impl Setup {
    pub(super) fn apply(&self, state: &mut State, step: Step) {
        match step {
            Step::Tick { stalled } => tick(state, stalled),
            Step::Ask(who) => {
                state.workers[who].held = None;
                state.workers[who].request += 1;
                self.send(state, who, Message::Acquire { request: state.workers[who].request });
            }
            Step::Repeat(who) => {
                self.send(state, who, Message::Acquire { request: state.workers[who].request });
            }
            Step::Serve(call) => self.serve(state, call),
            Step::Learn(who, answer) => state.workers[who].learn(answer, self),
            Step::Renew(who) => {
                if let Some(held) = &state.workers[who].held {
                    let message = Message::Renew { lease_id: held.lease_id, epoch: held.epoch };
                    self.send(state, who, message);
                }
            }
            Step::Release(who, how) => self.release(state, who, how),
            Step::Check(who) => {
                if let Some(held) = &mut state.workers[who].held {
                    held.checked = true;
                }
            }
            Step::Connect(who) | Step::Send(who) => self.transmit(state, who),
            Step::Close(who) => {
                if let Some(line) = state.line_of(who) {
                    line.under_way = 0;
                }
                close(state, who);
            }
            Step::Cut(who) => close(state, who),
            Step::Crash(who) => {
                state.faults.crashes -= 1;
                // The system closes what the process had open; what it sent goes on.
                close(state, who);
                let worker = &mut state.workers[who];
                (worker.held, worker.waiting, worker.paused) = (None, None, None);
            }
            Step::Pause(who) => {
                state.faults.pauses -= 1;
                state.workers[who].paused = Some(0);
            }
            Step::Resume(who) => state.workers[who].paused = None,
            Step::Evict => {
                state.faults.evictions -= 1;
                self.commit(state, |state| {
                    state.session.evict(None, state.now);
                });
            }
            Step::FailOver => {
                state.faults.failovers -= 1;
                if let Some(lagging) = state.lagging.take() {
                    state.session = lagging;
                }
            }
        }
        self.chatter(state);
    }

    /// Whoever may send does so all the time: nothing is worse than that.
    fn chatter(&self, state: &mut State) {
        if self.check == Check::Apart {
            return;
        }
        for line in state.lines.iter_mut().filter(|line| line.open) {
            let worker = &state.workers[line.owner];
            if worker.runs() && worker.held.as_ref().is_some_and(|held| self.in_time(held)) {
                line.under_way = self.travel;
                state.newest = state.newest.max(line.epoch);
            }
        }
    }

    fn send(&self, state: &mut State, from: Who, message: Message) {
        let number = state.workers[from].call();
        state.sent.push(Call { from, number, message });
        state.sent.sort_unstable();
    }

    fn release(&self, state: &mut State, who: Who, how: Release) {
        let Some(held) = &mut state.workers[who].held else { return };
        let message = Message::Release { lease_id: held.lease_id, epoch: held.epoch, how };
        (held.ending, held.checked) = (true, false);
        self.send(state, who, message);
        // Its answer tells the holder nothing that it needs.
        state.workers[who].waiting = None;
        if how == Release::Closed {
            state.workers[who].held = None;
        }
    }

    fn transmit(&self, state: &mut State, who: Who) {
        let Some(held) = &mut state.workers[who].held else { return };
        held.checked = false;
        let epoch = held.epoch;
        state.newest = state.newest.max(epoch);
        match state.line_of(who) {
            Some(line) => line.under_way = self.travel,
            None => state.lines.push(Line { owner: who, epoch, open: true, under_way: self.travel }),
        }
    }

    /// A commit, after which a lagging replica has what was before.
    fn commit(&self, state: &mut State, change: impl FnOnce(&mut State)) {
        let before = (state.faults.failovers > 0).then(|| state.session.clone());
        change(state);
        if before.as_ref().is_some_and(|before| *before != state.session) {
            state.lagging = before;
        }
    }

    fn serve(&self, state: &mut State, call: Call) {
        self.commit(state, |state| {
            let answer = self.answer(state, &call);
            let Some(waiting) = &mut state.workers[call.from].waiting else { return };
            if waiting.number == call.number
                && answer.is_some_and(|answer| !waiting.answers.contains(&answer))
            {
                waiting.answers.extend(answer);
                waiting.answers.sort_unstable();
            }
        });
    }

    fn answer(&self, state: &mut State, call: &Call) -> Option<Answer> {
        let (from, now) = (call.from, state.now);
        let current =
            state.session.last.as_ref().map(|last| (last.lease_id, state.session.epoch, last.subject));
        match call.message {
            Message::Acquire { request } => {
                let ask = Ask {
                    lease_id: lease_id(from, request),
                    holder: Holder(from as u32),
                    subject: subject(from),
                    request_id: Some(RequestId(request.into())),
                    ttl: self.ttl,
                    purpose: Purpose::Lend,
                    queued: false,
                };
                match state.session.acquire(&ask, now, &self.rules()) {
                    Acquire::Granted(granted) => Some(Answer::Granted(granted)),
                    // It asks again, as after a lost answer.
                    Acquire::Busy { .. } | Acquire::Behind { .. } | Acquire::NotLendable => None,
                }
            }
            Message::Renew { lease_id, epoch } => {
                let own = (lease_id, epoch, subject(from));
                let named = if self.fence == Fence::NotRenewals { current.unwrap_or(own) } else { own };
                match state.session.renew(named.0, named.1, named.2, now) {
                    Renew::Renewed(granted) => {
                        state.misled |= current != Some(own);
                        // A service that does not look whose lease it is answers as it was asked.
                        Some(Answer::Renewed(Granted { lease_id, epoch, ..granted }))
                    }
                    Renew::NotHeld | Renew::EpochStale { .. } | Renew::Evicted | Renew::NotLendable => {
                        Some(Answer::Lost)
                    }
                }
            }
            Message::Release { lease_id, epoch, how } => {
                let own = (lease_id, epoch, subject(from));
                let named = if self.fence == Fence::NotReleases { current.unwrap_or(own) } else { own };
                state.session.release(named.0, named.1, named.2, how);
                None
            }
        }
    }
}

fn tick(state: &mut State, stalled: Option<Who>) {
    state.now += 1;
    if stalled.is_some() {
        state.faults.stalls -= 1;
    }
    for (who, worker) in state.workers.iter_mut().enumerate() {
        if stalled != Some(who) {
            worker.tick();
        }
        worker.paused = worker.paused.map(|ticks| ticks.saturating_add(1));
    }
    for line in &mut state.lines {
        line.under_way = line.under_way.saturating_sub(1);
    }
    state.lines.retain(|line| line.open || line.under_way > 0);
}

/// Nothing more goes out; what was sent may still arrive.
fn close(state: &mut State, who: Who) {
    if let Some(held) = &mut state.workers[who].held {
        held.checked = false;
    }
    if let Some(line) = state.line_of(who) {
        line.open = false;
    }
    state.lines.retain(|line| line.open || line.under_way > 0);
}
