//! One session's row and queue, and the operations on them. Every operation takes the database's time of the
//! statement that decides, in milliseconds, and either changes the value or tells why it does not.
//!
//! Knows no clock, no task and no wire; whoever calls it says what time it is and carries answers and faults.

mod acquire;
mod hold;
mod id;
mod queue;
mod row;

pub use acquire::{Acquire, Ask, Granted};
pub use hold::{Evict, Release, Released, Renew};
pub use id::{Holder, LeaseId, RequestId, Subject};
pub use queue::{Place, Queue, Waiter};
pub use row::{Phase, Record};

/// A point on the database's clock, or a span of it, in milliseconds.
pub type Millis = i64;

/// What an operator sets, and what the service fixes for all sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    /// Rest of a session after a lease that nobody released as closed (`USM_LEASE_QUIET_GAP`).
    pub quiet_gap: Millis,
    /// How long a waiter counts as present after it was last seen.
    pub presence: Millis,
    /// Most waiters of one session.
    pub waiters_max: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self { quiet_gap: 15_000, presence: 5_000, waiters_max: 100 }
    }
}

/// What a session is borrowed for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// A worker connects.
    #[default]
    Lend,
    /// The service itself asks or ends the authorization because somebody wants it to; it minds no queue.
    Inspect,
    /// The service looks after the authorization on its own account. It never goes before a worker that waits.
    Probe,
}

/// Whether the session's state and custody let a worker have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Authorized, and in the service's custody.
    #[default]
    Usable,
    /// In the service's custody, with material that no worker may use. The service itself may.
    Unusable,
    /// In other hands, or empty: nobody gets it.
    Foreign,
}

impl Standing {
    fn allows(self, purpose: Purpose) -> bool {
        match (self, purpose) {
            (Self::Usable, Purpose::Lend | Purpose::Inspect | Purpose::Probe)
            | (Self::Unusable, Purpose::Inspect | Purpose::Probe) => true,
            (Self::Unusable, Purpose::Lend)
            | (Self::Foreign, Purpose::Lend | Purpose::Inspect | Purpose::Probe) => false,
        }
    }
}

/// All that is known of one session's leases: everything is here, so a service that restarts forgets nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Session {
    /// Number of grants so far. It only grows.
    pub epoch: i64,
    /// The last lease, live or over; `None` before the first.
    pub last: Option<Record>,
    /// Who waits, in the order of arrival.
    pub queue: Queue,
    /// Whether it may be lent at all.
    pub standing: Standing,
}
