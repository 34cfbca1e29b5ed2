//! Workers with guards borrow one session over a network that delays, repeats and loses, while clocks drift,
//! processes crash and pause, operators evict and databases fail over.
//!
//! **Time** runs in ticks of the database's clock. A worker's clock may stand still for a tick (a stall): a clock
//! that runs slower, and equally a database whose clock jumps ahead. **Messages**: a request that was sent may be
//! carried out at any later time, any number of times, or never; an answer reaches only the call it answers, as
//! HTTP/2 has it, at any later time or never. So loss needs no event of its own.
//!
//! **What is no event, because it changes nothing here**: a restart of the service or of a database that keeps what
//! it committed. All state of the protocol is in the row; what they lose are messages.
//!
//! **Connected** is meant in two ways, because Telegram counts requests and the sandbox counts sockets:
//! - *open*: a line is open from its connect to its close, and beyond while something sent over it is under way
//!   (at most `Setup::travel` ticks). A process that is stopped cannot close its socket at its deadline.
//! - *sending*: something sent over a line is under way. What travels may arrive at any moment until then, and must
//!   not arrive after a newer lease has sent.

pub(crate) mod guard;
pub(crate) mod run;
pub(crate) mod setup;
mod steps;

use usm_lease_proof::protocol::{Granted, LeaseId, Millis, Release, Session, Subject};

/// A worker, by its place.
pub(crate) type Who = usize;

/// Everything there is at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) now: Millis,
    pub(crate) session: Session,
    /// The session before its last commit: what a replica has that lags by one.
    lagging: Option<Session>,
    pub(crate) workers: Vec<guard::Worker>,
    /// What Telegram sees.
    pub(crate) lines: Vec<Line>,
    /// Requests that were sent and may still be carried out.
    sent: Vec<Call>,
    /// The newest lease that ever sent something to Telegram.
    newest: i64,
    faults: setup::Faults,
    /// A holder was renewed although the session was not its own any more.
    pub(crate) misled: bool,
}

/// A connection to Telegram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Line {
    owner: Who,
    epoch: i64,
    open: bool,
    /// For how many ticks something sent over it may still arrive.
    under_way: u8,
}

/// A call to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Call {
    from: Who,
    /// Which of the worker's calls: its answer reaches this one only.
    number: u8,
    message: Message,
}

/// What a call says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Message {
    Acquire { request: u8 },
    Renew { lease_id: LeaseId, epoch: i64 },
    Release { lease_id: LeaseId, epoch: i64, how: Release },
}

/// What the service answers, as far as a guard acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Answer {
    Granted(Granted),
    Renewed(Granted),
    Lost,
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// A tick passes; the clock of one worker may miss it.
    Tick {
        stalled: Option<Who>,
    },
    /// A worker asks for the session.
    Ask(Who),
    /// It asks again under the same request id: the answer may have got lost.
    Repeat(Who),
    /// The service carries a request out.
    Serve(Call),
    /// An answer arrives.
    Learn(Who, Answer),
    Renew(Who),
    /// A worker looks at its deadline, and then acts on what it saw.
    Check(Who),
    Connect(Who),
    /// Sends after a look that was some time ago ([`setup::Check::Apart`]); else an open line sends all the time.
    Send(Who),
    /// Waits for the answers to all it sent, and closes.
    Close(Who),
    /// Closes with something under way.
    Cut(Who),
    Release(Who, Release),
    /// Its process is killed, and another one started.
    Crash(Who),
    /// Its process is stopped, and goes on later.
    Pause(Who),
    Resume(Who),
    Evict,
    /// A replica without the last commit becomes the database.
    FailOver,
}

impl State {
    /// At most one connection that is open or over which something is under way.
    pub(crate) fn one_line(&self) -> bool {
        self.lines.len() <= 1
    }

    /// Nothing of an older lease is under way after a newer one sent, and never something of two.
    pub(crate) fn one_sender(&self) -> bool {
        let mut sending = self.lines.iter().filter(|line| line.under_way > 0);
        match (sending.next(), sending.next()) {
            (None, _) => true,
            (Some(line), None) => line.epoch >= self.newest,
            (Some(_), Some(_)) => false,
        }
    }

    fn line_of(&mut self, who: Who) -> Option<&mut Line> {
        self.lines.iter_mut().find(|line| line.owner == who && line.open)
    }

    fn has_open(&self, who: Who) -> bool {
        self.lines.iter().any(|line| line.owner == who && line.open)
    }

    /// Whether Telegram may see anything of this worker's lease. It knows nothing of what a process before it left.
    fn has_line(&self, who: Who, epoch: i64) -> bool {
        self.lines.iter().any(|line| line.owner == who && line.epoch == epoch)
    }
}

/// The credentials of a worker.
fn subject(who: Who) -> Subject {
    Subject(who as u32)
}

/// The id that the service derives from a request.
fn lease_id(who: Who, request: u8) -> LeaseId {
    LeaseId(who as u128 * 100 + u128::from(request))
}
