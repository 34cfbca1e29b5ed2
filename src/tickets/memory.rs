//! Tickets in this process: nothing survives it, and nothing outside sees them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use zeroize::Zeroizing;

mod budget;

use super::{CheckpointChange, Created, Error, Watch, used::Used, watch::Watches};
use crate::domain::{
    budget::{Budget, Paused, Spent},
    id::{ReplicaId, SessionKey, Ticket, TicketHash},
    login::{Login, Repeatable, State},
};

/// How many tickets are kept at most, ended ones included.
const CAPACITY_DEFAULT: usize = 10_000;
/// How often old rows are looked for while there is room.
const SWEEP_AFTER: Duration = Duration::from_secs(1);

/// The in-process form.
#[derive(Debug)]
pub struct Memory {
    // Held for short map operations only, never across an await.
    rows: Mutex<Rows>,
    watches: Watches,
    budgets: budget::Budgets,
    replica: ReplicaId,
    used: Used,
    capacity: usize,
}

#[derive(Debug)]
struct Rows {
    by_ticket: HashMap<TicketHash, Row>,
    active: HashMap<SessionKey, TicketHash>,
    requests: HashMap<Repeatable, TicketHash>,
    swept: Instant,
}

#[derive(Debug)]
struct Row {
    login: Login,
    checkpoint: Option<Checkpoint>,
    /// Of the session's row that names the login.
    revision: i64,
    expires: Instant,
}

struct Checkpoint(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Checkpoint(..)")
    }
}

impl Checkpoint {
    fn of(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::with_capacity(CAPACITY_DEFAULT)
    }
}

impl Memory {
    /// Room for this many tickets; a further one is [`Error::Full`].
    pub fn with_capacity(capacity: usize) -> Self {
        let rows = Rows {
            by_ticket: HashMap::new(),
            active: HashMap::new(),
            requests: HashMap::new(),
            swept: Instant::now(),
        };
        Self {
            rows: Mutex::new(rows),
            watches: Watches::default(),
            used: Used::default(),
            budgets: budget::Budgets::default(),
            replica: ReplicaId::from_random(*uuid::Uuid::new_v4().as_bytes()),
            capacity,
        }
    }

    pub(super) fn replica(&self) -> &ReplicaId {
        &self.replica
    }

    pub(super) fn spend(&self, pauses: &[Paused], budgets: &[Budget]) -> Result<Spent, Error> {
        self.budgets.spend(pauses, budgets)
    }

    pub(super) fn pause(&self, paused: &Paused, span: Duration) -> Result<(), Error> {
        self.budgets.pause(paused, span)
    }

    /// Nothing is left to be done for the login.
    pub(super) fn retire(&self, ticket: &Ticket) {
        if let Some(row) = self.lock().by_ticket.get_mut(&ticket.hash()) {
            row.checkpoint = None;
        }
    }

    pub(super) fn create(
        &self,
        login: &Login,
        checkpoint: Option<&[u8]>,
        revision: i64,
        ttl: Duration,
    ) -> Result<Created, Error> {
        let now = Instant::now();
        let mut rows = self.lock();
        rows.sweep(now, self.capacity);
        let request = Repeatable::of(login);
        if let Some(existing) = request.as_ref().and_then(|request| rows.of_request(request, now)) {
            return Ok(Created::Existing(existing));
        }
        let hash = login.ticket.hash();
        if rows.live(&hash, now).is_some() {
            return Err(Error::Conflict);
        }
        if rows.by_ticket.len() >= self.capacity {
            return Err(Error::Full);
        }

        if rows.has_later(&login.key, revision, now) {
            return Ok(Created::Late);
        }
        let superseded = rows.supersede(&login.key, now);
        let login = Login { version: 1, ..login.clone() };
        let expires = now + ttl;
        rows.active.insert(login.key.clone(), hash.clone());
        if let Some(request) = request {
            rows.requests.insert(request, hash.clone());
        }
        let checkpoint = checkpoint.map(Checkpoint::of);
        rows.by_ticket.insert(hash.clone(), Row { login: login.clone(), checkpoint, revision, expires });
        drop(rows);

        self.watches.wake(&hash);
        if let Some(former) = &superseded {
            self.watches.wake(&former.hash());
        }
        Ok(Created::New { login, superseded })
    }

    pub(super) fn requested(&self, request: &Repeatable) -> Option<Login> {
        self.lock().of_request(request, Instant::now())
    }

    pub(super) fn get(&self, ticket: &Ticket) -> Option<Login> {
        self.lock().live(&ticket.hash(), Instant::now()).map(|row| row.login.clone())
    }

    pub(super) fn active(&self, key: &SessionKey) -> Option<Login> {
        let rows = self.lock();
        let hash = rows.active.get(key)?;
        rows.live(hash, Instant::now()).map(|row| row.login.clone())
    }

    pub(super) fn checkpoint(&self, ticket: &Ticket) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let rows = self.lock();
        let row = rows.live(&ticket.hash(), Instant::now()).ok_or(Error::NotFound)?;
        Ok(row.checkpoint.as_ref().map(|checkpoint| checkpoint.0.clone()))
    }

    pub(super) fn update(&self, login: &Login, checkpoint: CheckpointChange<'_>) -> Result<Login, Error> {
        let hash = login.ticket.hash();
        let mut rows = self.lock();
        let now = Instant::now();
        let row = rows.by_ticket.get_mut(&hash).filter(|row| row.expires > now).ok_or(Error::NotFound)?;
        if row.login.version != login.version || row.login.state.is_final() {
            return Err(Error::Conflict);
        }
        row.login = Login { version: login.version + 1, ..login.clone() };
        match checkpoint {
            CheckpointChange::Keep => {}
            CheckpointChange::Set(bytes) => row.checkpoint = Some(Checkpoint::of(bytes)),
            CheckpointChange::Clear => row.checkpoint = None,
        }
        let updated = row.login.clone();
        drop(rows);
        self.watches.wake(&hash);
        Ok(updated)
    }

    pub(super) fn watch(&self, ticket: &Ticket) -> Result<Watch, Error> {
        self.watches.begin(ticket.hash())
    }

    pub(super) fn use_once(&self, what: &str, ttl: Duration) -> Result<bool, Error> {
        self.used.note(what, ttl, Instant::now())
    }

    pub(super) fn forget_use(&self, what: &str) {
        self.used.forget(what);
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    fn live(&self, hash: &TicketHash, now: Instant) -> Option<&Row> {
        self.by_ticket.get(hash).filter(|row| row.expires > now)
    }

    fn of_request(&self, request: &Repeatable, now: Instant) -> Option<Login> {
        let hash = self.requests.get(request)?;
        self.live(hash, now).map(|row| row.login.clone())
    }

    /// Whether the active login of a session runs and wrote its row after this revision.
    fn has_later(&self, key: &SessionKey, revision: i64, now: Instant) -> bool {
        let active = self.active.get(key).and_then(|hash| self.live(hash, now));
        active.is_some_and(|row| !row.login.state.is_final() && row.revision > revision)
    }

    /// Ends the active login of a session, unless it has ended, and names it.
    fn supersede(&mut self, key: &SessionKey, now: Instant) -> Option<Ticket> {
        let hash = self.active.get(key)?;
        let row = self.by_ticket.get_mut(hash).filter(|row| row.expires > now)?;
        if row.login.state.is_final() {
            return None;
        }
        row.login.state = State::Superseded;
        row.login.version += 1;
        Some(row.login.ticket.clone())
    }

    /// Forgets rows whose time is over, now and then, and always before running out of room.
    fn sweep(&mut self, now: Instant, capacity: usize) {
        if self.by_ticket.len() < capacity && now.duration_since(self.swept) < SWEEP_AFTER {
            return;
        }
        self.swept = now;
        let Self { by_ticket, active, requests, .. } = self;
        by_ticket.retain(|_, row| row.expires > now);
        active.retain(|_, hash| by_ticket.contains_key(hash));
        requests.retain(|_, hash| by_ticket.contains_key(hash));
    }
}
