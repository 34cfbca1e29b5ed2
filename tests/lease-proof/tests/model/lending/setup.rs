//! What one exploration allows, and which safeguard it leaves out. Spans are ticks.

use usm_lease_proof::protocol::{Millis, Rules};

/// How often each fault may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    pub(crate) crashes: u8,
    pub(crate) pauses: u8,
    pub(crate) evictions: u8,
    pub(crate) failovers: u8,
    /// Ticks that workers' clocks miss, together.
    pub(crate) stalls: u8,
}

/// How the holder's own deadline is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// As the guard does: counted from before the call.
    FromBefore,
    /// Counted from when the answer came.
    FromAnswer,
    /// None: the holder goes on until the service tells it to stop.
    Ignored,
}

/// How a worker looks at its deadline before it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Nothing can come between the look and the sending.
    Atomic,
    /// The process may be stopped in between.
    Apart,
}

/// Which calls of a holder the service fences by lease id, subject and epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fence {
    All,
    NotRenewals,
    NotReleases,
}

/// When a holder says that its connections are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// When nothing it sent is under way any more.
    Careful,
    /// As soon as the socket is closed at its side.
    Hasty,
}

/// One exploration.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Where time ends.
    pub(crate) horizon: Millis,
    pub(crate) ttl: Millis,
    pub(crate) quiet_gap: Millis,
    /// What the guard keeps back of the ttl.
    pub(crate) margin: Millis,
    /// How long something sent to Telegram may be under way.
    pub(crate) travel: u8,
    /// Longest pause; `None` for any.
    pub(crate) pause_max: Option<u8>,
    /// Calls that each worker may make; one entry per worker.
    pub(crate) calls: Vec<u8>,
    pub(crate) faults: Faults,
    pub(crate) deadline: Deadline,
    pub(crate) check: Check,
    pub(crate) fence: Fence,
    pub(crate) word: Word,
}

impl Default for Setup {
    /// The protocol as it is, without faults of processes and clocks. The margin pays for one missed tick of a term,
    /// the quiet gap for what travels: two ticks after the one it was sent in.
    fn default() -> Self {
        Self {
            horizon: 7,
            ttl: 3,
            quiet_gap: 2,
            margin: 1,
            travel: 3,
            pause_max: None,
            calls: vec![2, 2],
            faults: Faults::default(),
            deadline: Deadline::FromBefore,
            check: Check::Atomic,
            fence: Fence::All,
            word: Word::Careful,
        }
    }
}

impl Setup {
    pub(crate) fn rules(&self) -> Rules {
        Rules { quiet_gap: self.quiet_gap, presence: 2, waiters_max: 4 }
    }
}
