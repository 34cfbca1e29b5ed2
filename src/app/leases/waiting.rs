//! Waiting for a session that is lent: in its queue, first come, first served.
//!
//! The place lies in the database, so that it outlives this replica; here somebody looks after it: is seen, asks when
//! it is its turn, and gives the place up. Replicas do not tell each other of releases, so the first in the queue asks
//! four times a second; a release through the same replica wakes it at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{App, leased};
use crate::{
    app::as_service,
    domain::{
        caller::Caller,
        error::{Error, Reason},
        id::{LeaseId, SessionKey},
        lease::{self, Purpose},
        session::Session,
    },
    store::{self, Grant, Place},
};

/// How often whoever waits is seen; several times within what counts as present.
const SEEN_STEP: Duration = Duration::from_secs(1);
/// How often the first in the queue asks.
const TURN_STEP: Duration = Duration::from_millis(250);
/// A caller that would not wait gives a probe of the service's own so long to yield.
const PROBE_PATIENCE: Duration = Duration::from_secs(3);
/// Kept back of the caller's deadline for the answer.
const ANSWER_MARGIN: Duration = Duration::from_millis(300);
/// How long giving up a place may take once its owner is gone.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// What those of this process who are after the same session tell each other.
#[derive(Debug, Default)]
pub(in crate::app) struct Wakes(Mutex<HashMap<SessionKey, Bells>>);

#[derive(Debug, Default)]
struct Bells {
    freed: Arc<Notify>,
    wanted: Arc<Notify>,
    listeners: usize,
}

impl Wakes {
    /// The session may be had now: whoever waits looks.
    pub(in crate::app) fn freed(&self, key: &SessionKey) {
        if let Some(bells) = self.lock().get(key) {
            bells.freed.notify_waiters();
        }
    }

    /// Somebody waits for the session: whoever has it for something that can wait gives way.
    pub(in crate::app) fn wanted(&self, key: &SessionKey) {
        if let Some(bells) = self.lock().get(key) {
            bells.wanted.notify_waiters();
        }
    }

    pub(in crate::app) fn listen(&self, key: &SessionKey) -> Listener<'_> {
        let mut wakes = self.lock();
        let bells = wakes.entry(key.clone()).or_default();
        bells.listeners += 1;
        let (freed, wanted) = (Arc::clone(&bells.freed), Arc::clone(&bells.wanted));
        Listener { wakes: self, key: key.clone(), freed, wanted }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SessionKey, Bells>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears of one session while it lives.
pub(in crate::app) struct Listener<'a> {
    wakes: &'a Wakes,
    key: SessionKey,
    freed: Arc<Notify>,
    pub(in crate::app) wanted: Arc<Notify>,
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        let mut wakes = self.wakes.lock();
        if let Some(bells) = wakes.get_mut(&self.key) {
            bells.listeners -= 1;
            if bells.listeners == 0 {
                wakes.remove(&self.key);
            }
        }
    }
}

/// Gives the place of a caller who hung up back, unless a retry could still find it.
struct Leaving<'a> {
    app: &'a App,
    caller: &'a Caller,
    lease: &'a LeaseId,
    on_drop: bool,
}

impl Leaving<'_> {
    async fn now(mut self) {
        self.on_drop = false;
        let caller = Caller { deadline: Instant::now() + LEAVE_LIMIT, ..self.caller.clone() };
        leave(self.app, &caller, self.lease).await;
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if self.on_drop {
            let (app, lease) = (self.app.clone(), self.lease.clone());
            let caller =
                Caller { authority: self.caller.authority.clone(), ..as_service("usm", LEAVE_LIMIT) };
            self.app.0.tasks.spawn(async move { leave(&app, &caller, &lease).await });
        }
    }
}

async fn leave(app: &App, caller: &Caller, lease: &LeaseId) {
    if let Err(error) = app.0.store.leave_queue(caller, lease).await {
        tracing::debug!(error = %error, "A place in a queue is given up when its time is over");
    }
}

impl App {
    /// How long a caller is kept waiting for a session that is busy.
    pub(super) fn patience(caller: &Caller, wait: Duration, session: &Session) -> Option<Instant> {
        let probed = session.lease.as_ref().is_some_and(|lease| lease.purpose == Purpose::Probe);
        let wait = if probed { wait.max(PROBE_PATIENCE) } else { wait };
        let latest = caller.deadline.checked_sub(ANSWER_MARGIN).unwrap_or(caller.deadline);
        (!wait.is_zero()).then(|| (Instant::now() + wait).min(latest))
    }

    /// Waits its turn for a session that was busy a moment ago.
    ///
    /// # Errors
    /// `SESSION_LEASED` when `until` is over, `WAIT_QUEUE_FULL`, `SERVICE_DRAINING` when this replica stops: the place
    /// is kept for a retry elsewhere; and what makes a session not lendable.
    pub(super) async fn wait_turn(
        &self,
        caller: &Caller,
        asked: &lease::Request,
        until: Instant,
    ) -> Result<Grant, Error> {
        let listener = self.0.wakes.listen(&asked.key);
        let leaving =
            Leaving { app: self, caller, lease: &asked.lease_id, on_drop: asked.request_id.is_none() };
        let mut turn = Turn::default();
        loop {
            let woken = listener.freed.notified();
            let first = self.look_after(caller, asked, until, &mut turn).await?;
            if first {
                match self.0.store.acquire(caller, asked).await? {
                    store::Acquire::Granted(grant) => return Ok(*grant),
                    busy @ store::Acquire::Busy { .. } => turn.busy = Some(self.not_granted(busy)),
                    refused => {
                        leaving.now().await;
                        return Err(self.not_granted(refused));
                    }
                }
            }
            if Instant::now() >= until {
                leaving.now().await;
                return Err(turn.busy.unwrap_or_else(after_others));
            }
            let step = if first { TURN_STEP } else { SEEN_STEP };
            tokio::select! {
                () = woken => turn.seen = None,
                () = tokio::time::sleep_until((Instant::now() + step).min(until).into()) => {}
                () = self.0.draining.cancelled() => {
                    return Err(Error::new(Reason::ServiceDraining, "this replica stops; call again").retry_after(TURN_STEP));
                }
            }
        }
    }

    /// Takes a place or is seen at it, when it is time. Answers whether it is this one's turn.
    async fn look_after(
        &self,
        caller: &Caller,
        asked: &lease::Request,
        until: Instant,
        turn: &mut Turn,
    ) -> Result<bool, Error> {
        if turn.seen.is_none_or(|seen| seen.elapsed() >= SEEN_STEP) {
            let left = until.saturating_duration_since(Instant::now());
            match self.0.store.queue(caller, &asked.key, &asked.lease_id, left).await? {
                Place::After(ahead) => turn.ahead = ahead,
                Place::None => return Err(self.no_place(caller, asked).await),
            }
            if turn.seen.replace(Instant::now()).is_none() {
                self.0.wakes.wanted(&asked.key);
            }
        }
        Ok(turn.ahead == 0)
    }

    /// Why there was no place: too many have one, or the session is not what it was.
    async fn no_place(&self, caller: &Caller, asked: &lease::Request) -> Error {
        match self.get_session(caller, &asked.key).await {
            Ok(session) => {
                let full = Error::new(
                    Reason::WaitQueueFull,
                    "as many wait for this session as may; try again later",
                );
                let free_in = session.lease.as_ref().map(|lease| lease.free_in).unwrap_or_default();
                full.retry_after(free_in.max(SEEN_STEP))
            }
            Err(error) => error,
        }
    }
}

#[derive(Default)]
struct Turn {
    seen: Option<Instant>,
    /// How many come first; nobody knows before it was first seen.
    ahead: u64,
    /// What the last attempt was answered.
    busy: Option<Error>,
}

/// The refusal of a session that is busy, or of whoever came after others.
pub(super) fn busy(session: &Session, free_in: Duration) -> Error {
    match &session.lease {
        Some(_) => leased(session, free_in.max(TURN_STEP)),
        None => after_others(),
    }
}

fn after_others() -> Error {
    Error::new(
        Reason::SessionLeased,
        "nobody holds the session, but others wait for it who came first; ask with a wait, or a longer one",
    )
    .retry_after(SEEN_STEP)
}
