//! The columns of the last lease, and what a moment makes of them. Expiry is no event: it is a comparison with the
//! time of whoever asks.

use super::{Holder, LeaseId, Millis, Purpose, RequestId, Rules, Session, Subject};

/// The last lease of a session, as its row has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// Names the lease to its holder.
    pub lease_id: LeaseId,
    /// Who has it, by its own word.
    pub holder: Holder,
    /// Who has it, by its credentials.
    pub subject: Subject,
    /// The request that it answered.
    pub request_id: Option<RequestId>,
    /// What for.
    pub purpose: Purpose,
    /// End of the lease; `None` once its holder closed everything.
    pub expire_at: Option<Millis>,
    /// The span each renewal grants.
    pub ttl: Millis,
    /// No more renewals.
    pub evicted: bool,
    /// Its holder gave it back.
    pub released: bool,
}

impl Record {
    /// What remains of the holder's own time; `None` once it released or its time is over.
    pub fn live(&self, now: Millis) -> Option<Millis> {
        let expire_at = self.expire_at?;
        (!self.released && expire_at > now).then(|| expire_at - now)
    }
}

/// What a session is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nobody has it, nobody may still be connected.
    Free,
    /// Its holder may be connected, for this long unless it renews.
    Held {
        /// What remains of the lease.
        remaining: Millis,
    },
    /// No holder, but perhaps a connection that nobody closed.
    Resting {
        /// Until the session is free.
        free_in: Millis,
    },
}

impl Session {
    /// The session at a moment.
    pub fn phase(&self, now: Millis, rules: &Rules) -> Phase {
        let Some((record, expire_at)) = self.last.as_ref().and_then(|last| Some((last, last.expire_at?)))
        else {
            return Phase::Free;
        };
        let free_in = expire_at + rules.quiet_gap - now;
        match record.live(now) {
            Some(remaining) => Phase::Held { remaining },
            None if free_in > 0 => Phase::Resting { free_in },
            None => Phase::Free,
        }
    }

    /// How long until the session is free by itself, from its end or the rest after it.
    pub(super) fn free_in(&self, now: Millis, rules: &Rules) -> Option<Millis> {
        let expire_at = self.last.as_ref()?.expire_at?;
        Some(expire_at + rules.quiet_gap - now).filter(|free_in| *free_in > 0)
    }
}
