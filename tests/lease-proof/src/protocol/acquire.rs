//! The grant: at most one of any number of requests gets the session.

use super::{Holder, LeaseId, Millis, Purpose, Record, RequestId, Rules, Session, Subject};

/// A request for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ask {
    /// The id that the lease gets; the same for a repetition of the same request.
    pub lease_id: LeaseId,
    /// Who asks, by its own word.
    pub holder: Holder,
    /// Who asks, by its credentials.
    pub subject: Subject,
    /// Without one, no repetition is known.
    pub request_id: Option<RequestId>,
    /// The span asked for.
    pub ttl: Millis,
    /// What for.
    pub purpose: Purpose,
    /// It may have a place in the queue, which a grant ends.
    pub queued: bool,
}

/// A lease as its holder learns it, by a grant or a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Granted {
    /// Names the lease.
    pub lease_id: LeaseId,
    /// Larger than that of any earlier lease.
    pub epoch: i64,
    /// What the holder may count, from before it asked.
    pub ttl: Millis,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Acquire {
    /// A new lease, or the live one that this very request got before, with what remains of it.
    Granted(Granted),
    /// Somebody holds it, or it rests.
    Busy {
        /// Free by itself after this long, unless renewed.
        free_in: Millis,
    },
    /// It is free, but others came first. The store answers this as busy, free in no time.
    Behind {
        /// How many.
        ahead: usize,
    },
    /// State or custody does not allow it.
    NotLendable,
}

impl Session {
    /// Grants the session, if it is free and nobody who is present came first.
    pub fn acquire(&mut self, ask: &Ask, now: Millis, rules: &Rules) -> Acquire {
        if !self.standing.allows(ask.purpose) {
            return Acquire::NotLendable;
        }
        if let Some(free_in) = self.free_in(now, rules) {
            return match self.repeated(ask, now) {
                Some(granted) => Acquire::Granted(granted),
                None => Acquire::Busy { free_in },
            };
        }
        let ahead = match ask.purpose {
            Purpose::Lend | Purpose::Probe => self.queue.ahead_of(ask.lease_id, now, rules),
            Purpose::Inspect => 0,
        };
        if ahead > 0 {
            return Acquire::Behind { ahead };
        }
        if ask.queued {
            self.queue.leave(ask.lease_id);
        }
        self.epoch += 1;
        self.last = Some(Record {
            lease_id: ask.lease_id,
            holder: ask.holder,
            subject: ask.subject,
            request_id: ask.request_id,
            purpose: ask.purpose,
            expire_at: Some(now + ask.ttl),
            ttl: ask.ttl,
            evicted: false,
            released: false,
        });
        Acquire::Granted(Granted { lease_id: ask.lease_id, epoch: self.epoch, ttl: ask.ttl })
    }

    /// The live lease that the same request got before. Eviction ends that too.
    fn repeated(&self, ask: &Ask, now: Millis) -> Option<Granted> {
        let last = self.last.as_ref()?;
        let same = ask.request_id.is_some()
            && last.request_id == ask.request_id
            && last.subject == ask.subject
            && last.holder == ask.holder
            && last.purpose == ask.purpose
            && last.lease_id == ask.lease_id;
        let ttl = last.live(now).filter(|_| same && !last.evicted)?;
        Some(Granted { lease_id: last.lease_id, epoch: self.epoch, ttl })
    }
}
