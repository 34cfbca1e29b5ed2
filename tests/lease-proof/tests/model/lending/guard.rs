//! A worker and its guard, as the Rust guard has it: one call at a time, a deadline counted on its own clock.

use usm_lease_proof::protocol::{Granted, LeaseId, Millis};

use super::{
    Answer,
    setup::{Deadline, Setup},
};

/// One worker process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Worker {
    /// Its current request for the session; a new one for each lease.
    pub(super) request: u8,
    /// Calls made so far.
    pub(super) calls: u8,
    pub(super) waiting: Option<Waiting>,
    pub(super) held: Option<Held>,
    /// For how long its process has been stopped.
    pub(super) paused: Option<u8>,
}

/// The call whose answer it waits for; answers to earlier ones reach nobody.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Waiting {
    pub(super) number: u8,
    /// Ticks of its own clock since before it sent the call.
    pub(super) since: Millis,
    /// What may arrive: a request that was carried out twice has two answers, one of which comes first.
    pub(super) answers: Vec<Answer>,
}

/// A lease in its guard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Held {
    pub(super) lease_id: LeaseId,
    pub(super) epoch: i64,
    /// Ticks of its own clock until its deadline.
    pub(super) left: Millis,
    /// No more renewals: it was told to stop, or gave the lease back without knowing of its connections.
    pub(super) ending: bool,
    /// Its answer came when its time was over by this clock, though it may have been granted just now: renewed first,
    /// or not used.
    pub(super) late: bool,
    /// It looked at its deadline, and there was time.
    pub(super) checked: bool,
}

impl Worker {
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_none() && self.waiting.is_none()
    }

    /// Whether it may ask for another lease: it has none, or its time is over, or the answer takes this long.
    pub(super) fn is_done(&self, patience: Millis) -> bool {
        match &self.held {
            None => self.waiting.as_ref().is_none_or(|waiting| waiting.since >= patience),
            Some(held) => held.left == 0,
        }
    }

    /// Whether the last call has had time to fail.
    pub(super) fn may_call_again(&self) -> bool {
        self.waiting.as_ref().is_none_or(|waiting| waiting.since > 0)
    }

    pub(super) fn runs(&self) -> bool {
        self.paused.is_none()
    }

    /// Sends a call and waits for its answer alone.
    pub(super) fn call(&mut self) -> u8 {
        self.calls += 1;
        self.waiting = Some(Waiting { number: self.calls, since: 0, answers: Vec::new() });
        self.calls
    }

    /// A tick of its own clock.
    pub(super) fn tick(&mut self) {
        if let Some(waiting) = &mut self.waiting {
            waiting.since += 1;
        }
        if let Some(held) = &mut self.held {
            held.left = (held.left - 1).max(0);
        }
    }

    /// Takes an answer to the call it waits for.
    pub(super) fn learn(&mut self, answer: Answer, setup: &Setup) {
        let Some(waiting) = self.waiting.take() else { return };
        let left = |granted: Granted| match setup.deadline {
            Deadline::FromBefore => granted.ttl - setup.margin - waiting.since,
            Deadline::FromAnswer | Deadline::Ignored => granted.ttl - setup.margin,
        };
        match (answer, &mut self.held) {
            (Answer::Granted(granted), None) => {
                self.held = Some(Held {
                    lease_id: granted.lease_id,
                    epoch: granted.epoch,
                    left: left(granted).max(0),
                    ending: false,
                    late: left(granted) <= 0,
                    checked: false,
                });
            }
            // What arrives after its deadline moves it no more, and another lease's renewal is none of its own.
            (Answer::Renewed(granted), Some(held))
                if granted.epoch == held.epoch
                    && (held.left > 0 || held.late || setup.deadline == Deadline::Ignored) =>
            {
                (held.left, held.late) = (left(granted).max(0), false);
            }
            (Answer::Lost, Some(held)) => (held.ending, held.checked) = (true, false),
            (Answer::Granted(_) | Answer::Renewed(_) | Answer::Lost, _) => {}
        }
    }
}
