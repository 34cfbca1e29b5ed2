//! What lies outside the hosts: the database with the session's row, and Telegram, which keeps a ledger.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use usm_lease_proof::protocol::{Millis, Rules, Session};

/// How long something sent to Telegram may be under way after its sender closed without waiting for answers.
pub(crate) const TRAVEL: Millis = 2_000;

/// Database and Telegram, as every host sees them.
#[derive(Clone, Debug)]
pub(crate) struct World(Arc<Mutex<Inner>>);

#[derive(Debug)]
pub(crate) struct Inner {
    /// The database's clock.
    pub(crate) now: Millis,
    pub(crate) rules: Rules,
    pub(crate) session: Session,
    /// Whether the database answers.
    pub(crate) reachable: bool,
    lines: Vec<Line>,
    /// What happened, in order.
    pub(crate) ledger: Vec<Entry>,
    /// The first time that two were connected at once.
    pub(crate) overlap: Option<String>,
}

#[derive(Debug)]
struct Line {
    number: usize,
    owner: String,
    /// When the last of it is gone; `None` while it is open.
    gone_at: Option<Millis>,
}

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) at: Millis,
    pub(crate) what: String,
}

impl World {
    pub(crate) fn new(quiet_gap: Millis) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            now: 0,
            rules: Rules { quiet_gap, ..Rules::default() },
            session: Session::default(),
            reachable: true,
            lines: Vec::new(),
            ledger: Vec::new(),
            overlap: None,
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, what: String) {
        self.lock().note(what);
    }

    /// Opens a connection to Telegram under a lease.
    pub(crate) fn connect(&self, owner: String) -> Connection {
        let mut inner = self.lock();
        let now = inner.now;
        inner.lines.retain(|line| line.gone_at.is_none_or(|gone_at| gone_at > now));
        inner.note(format!("{owner} connects"));
        if let Some(other) = inner.lines.first() {
            let state = if other.gone_at.is_some() { "something under way" } else { "a connection" };
            let overlap = format!("at {now} ms {owner} connects while {} has {state}", other.owner);
            inner.overlap.get_or_insert(overlap);
        }
        let number = inner.ledger.len();
        inner.lines.push(Line { number, owner: owner.clone(), gone_at: None });
        Connection { world: self.clone(), number, owner }
    }
}

impl Inner {
    fn note(&mut self, what: String) {
        self.ledger.push(Entry { at: self.now, what });
    }

    pub(crate) fn grants(&self) -> i64 {
        self.session.epoch
    }
}

/// An open connection. Dropped, as when its process dies, it leaves something under way.
#[derive(Debug)]
pub(crate) struct Connection {
    world: World,
    number: usize,
    owner: String,
}

impl Connection {
    /// Closes after every answer has come: nothing is left.
    pub(crate) fn close(self) {
        self.world.lock().lines.retain(|line| line.number != self.number);
        self.world.note(format!("{} closes", self.owner));
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut inner = self.world.lock();
        let gone_at = inner.now + TRAVEL;
        if let Some(line) = inner.lines.iter_mut().find(|line| line.number == self.number) {
            line.gone_at = Some(gone_at);
            inner.note(format!("{} is cut off", self.owner));
        }
    }
}
