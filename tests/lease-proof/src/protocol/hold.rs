//! What becomes of a lease after its grant: renewals, its release, and an operator's end of renewals.

use super::{Granted, LeaseId, Millis, Record, Session, Subject};

/// How a renewal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Renew {
    /// Its whole span again, from now.
    Renewed(Granted),
    /// Never granted to this caller, over, or released.
    NotHeld,
    /// The lease id is right, the epoch is not.
    EpochStale {
        /// The session's epoch now.
        current: i64,
    },
    /// An operator ended the renewals.
    Evicted,
    /// The session's state or custody changed; the lease runs out.
    NotLendable,
}

/// What a holder says of its connections when it gives the lease back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Release {
    /// All are closed and nothing of them is under way: the session is free at once.
    Closed,
    /// Some may be open: the session rests until the lease would have ended, and for the quiet gap.
    Unknown,
}

/// How a release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Released {
    /// Ended, now or earlier.
    Done,
    /// Never granted to this caller, or granted to somebody else since.
    NotHeld,
    /// The lease id is right, the epoch is not.
    EpochStale {
        /// The session's epoch now.
        current: i64,
    },
}

/// How an eviction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evict {
    /// The live lease is not renewed any more, by this eviction or an earlier one.
    Draining,
    /// Nobody holds it, or not under that epoch; nothing changed.
    NotHeld,
}

impl Session {
    /// Extends the caller's lease by the span it was granted for.
    pub fn renew(&mut self, lease_id: LeaseId, epoch: i64, subject: Subject, now: Millis) -> Renew {
        let (current, standing) = (self.epoch, self.standing);
        let Some(last) = self.of_caller(lease_id, subject).filter(|last| last.live(now).is_some()) else {
            return Renew::NotHeld;
        };
        if current != epoch {
            return Renew::EpochStale { current };
        }
        if last.evicted {
            return Renew::Evicted;
        }
        if !standing.allows(last.purpose) {
            return Renew::NotLendable;
        }
        last.expire_at = Some(now + last.ttl);
        Renew::Renewed(Granted { lease_id, epoch, ttl: last.ttl })
    }

    /// Ends the caller's lease. The word that everything is closed may come after a release that did not know, as
    /// long as nobody else got the session; repetitions change nothing.
    pub fn release(&mut self, lease_id: LeaseId, epoch: i64, subject: Subject, how: Release) -> Released {
        let current = self.epoch;
        let Some(last) = self.of_caller(lease_id, subject) else {
            return Released::NotHeld;
        };
        if current != epoch {
            return Released::EpochStale { current };
        }
        last.released = true;
        match how {
            Release::Closed => last.expire_at = None,
            Release::Unknown => {}
        }
        Released::Done
    }

    /// Ends the renewals of the live lease, or only of the one of `epoch`. It runs out, then the session rests: nobody
    /// can take it away.
    pub fn evict(&mut self, epoch: Option<i64>, now: Millis) -> Evict {
        let meant = epoch.is_none_or(|epoch| epoch == self.epoch);
        match self.last.as_mut().filter(|last| meant && last.live(now).is_some()) {
            Some(last) => {
                last.evicted = true;
                Evict::Draining
            }
            None => Evict::NotHeld,
        }
    }

    /// The last lease, if it has this id and is this caller's.
    fn of_caller(&mut self, lease_id: LeaseId, subject: Subject) -> Option<&mut Record> {
        self.last.as_mut().filter(|last| last.lease_id == lease_id && last.subject == subject)
    }
}
