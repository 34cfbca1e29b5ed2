//! The logins whose tasks live in this process, the way to speak to them, and for how long each may be sure to be
//! the only one that runs its login.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot, watch};

use super::App;
use crate::domain::{
    error::{Error, Reason},
    id::{Ticket, TicketHash},
    login::{Ask, Login},
};

/// Commands that wait for one login's task; more are refused.
const COMMANDS_MAX: usize = 4;

/// What a running login is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Somebody wants something of it.
    Ask { ask: Ask, answer: oneshot::Sender<Result<Login, Error>> },
    /// A newer login of the same session took over.
    Supersede,
    /// The tickets have lost it.
    Forgotten,
}

/// Whether a task may act for its login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tenure {
    /// Nobody else can run it.
    Ever,
    /// Nobody else runs it before then.
    Until(Instant),
    /// Somebody else runs it now, or may.
    Over,
}

/// Why a tenure is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lapse {
    /// Neither tickets nor store could confirm it in time.
    Unsure,
    /// Another replica has the login.
    Over,
}

/// Std mutex: held for single map operations only.
#[derive(Debug)]
pub(super) struct Running {
    logins: Mutex<HashMap<TicketHash, Entry>>,
    numbers: AtomicU64,
    max: usize,
}

#[derive(Debug)]
struct Entry {
    ticket: Ticket,
    commands: mpsc::Sender<Command>,
    tenure: watch::Sender<Tenure>,
    /// Whether the tickets know it already.
    announced: bool,
    /// Tells one entry of a login from a later one.
    number: u64,
}

impl Running {
    pub(super) fn new(max: usize) -> Self {
        Self { logins: Mutex::default(), numbers: AtomicU64::new(0), max }
    }

    /// # Errors
    /// `RATE_LIMITED` when as many logins run here as may, or when this one does already.
    fn admit(&self, ticket: &Ticket, tenure: Tenure) -> Result<(Places, u64), Error> {
        let mut logins = self.lock();
        if logins.len() >= self.max || logins.contains_key(&ticket.hash()) {
            return Err(full());
        }
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let (sender, tenure) = watch::channel(tenure);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        logins.insert(
            ticket.hash(),
            Entry { ticket: ticket.clone(), commands, tenure: sender, announced: false, number },
        );
        Ok(((receiver, tenure), number))
    }

    fn dismiss(&self, ticket: &Ticket, number: u64) {
        let mut logins = self.lock();
        if logins.get(&ticket.hash()).is_some_and(|entry| entry.number == number) {
            logins.remove(&ticket.hash());
        }
    }

    /// Whether the login runs here.
    pub(super) fn runs(&self, ticket: &TicketHash) -> bool {
        self.lock().contains_key(ticket)
    }

    /// # Errors
    /// `RATE_LIMITED` when as many logins run here as may.
    pub(super) fn require_room(&self) -> Result<(), Error> {
        if self.has_room() { Ok(()) } else { Err(full()) }
    }

    /// Whether there is room for one more.
    pub(super) fn has_room(&self) -> bool {
        self.lock().len() < self.max
    }

    /// # Errors
    /// [`NotSent`]: it runs elsewhere, or too much waits for it.
    pub(super) fn send(&self, ticket: &TicketHash, command: Command) -> Result<(), NotSent> {
        let sender = self.lock().get(ticket).map(|entry| entry.commands.clone());
        let Some(sender) = sender else { return Err(NotSent::Elsewhere(command)) };
        sender.try_send(command).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => NotSent::Busy,
            mpsc::error::TrySendError::Closed(command) => NotSent::Elsewhere(command),
        })
    }

    /// Those whose tenure somebody has to confirm.
    pub(super) fn tickets(&self) -> Vec<Ticket> {
        self.lock().values().filter(|entry| entry.announced).map(|entry| entry.ticket.clone()).collect()
    }

    /// Nobody else runs the login before `until`.
    pub(super) fn confirm(&self, ticket: &TicketHash, until: Instant) {
        self.tell(ticket, |tenure| match tenure {
            Tenure::Ever | Tenure::Over => false,
            Tenure::Until(known) if *known >= until => false,
            Tenure::Until(known) => {
                *known = until;
                true
            }
        });
    }

    /// Another replica has the login.
    pub(super) fn end_tenure(&self, ticket: &TicketHash) {
        self.tell(ticket, |tenure| {
            *tenure = Tenure::Over;
            true
        });
    }

    fn tell(&self, ticket: &TicketHash, change: impl FnOnce(&mut Tenure) -> bool) {
        if let Some(entry) = self.lock().get(ticket) {
            entry.tenure.send_if_modified(change);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TicketHash, Entry>> {
        self.logins.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn full() -> Error {
    Error::new(Reason::RateLimited, "too many logins run at once; try again later")
        .retry_after(Duration::from_secs(10))
}

type Places = (mpsc::Receiver<Command>, watch::Receiver<Tenure>);

/// Why a login's task was not told.
#[derive(Debug)]
pub(super) enum NotSent {
    /// It does not run here; the command comes back.
    Elsewhere(Command),
    /// Too much waits for it.
    Busy,
}

/// A login's place among the running ones, given up when dropped, also by a task that dies.
pub(super) struct Seat {
    app: App,
    ticket: Ticket,
    number: u64,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) tenure: Watched,
}

impl Seat {
    /// # Errors
    /// `RATE_LIMITED` when as many logins run here as may.
    pub(super) fn take(app: &App, ticket: &Ticket, tenure: Tenure) -> Result<Self, Error> {
        let ((commands, tenure), number) = app.0.running.admit(ticket, tenure)?;
        Ok(Self { app: app.clone(), ticket: ticket.clone(), number, commands, tenure: Watched(tenure) })
    }

    /// The tickets know the login, which nobody else runs before `until`.
    pub(super) fn announce(&self, until: Instant) {
        let running = &self.app.0.running;
        if let Some(entry) = running.lock().get_mut(&self.ticket.hash()) {
            entry.announced = true;
        }
        running.confirm(&self.ticket.hash(), until);
    }

    /// Nobody listens any more: whoever asks learns it now and not at their deadline.
    pub(super) fn close(&mut self) {
        self.commands.close();
        while self.commands.try_recv().is_ok() {}
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.app.0.running.dismiss(&self.ticket, self.number);
    }
}

/// A tenure as its task sees it.
pub(super) struct Watched(watch::Receiver<Tenure>);

impl Watched {
    /// Returns when the task may not act any more.
    ///
    /// # Cancel safety
    /// Nothing is lost: the next call looks again.
    pub(super) async fn lapse(&mut self) -> Lapse {
        loop {
            let tenure = *self.0.borrow_and_update();
            let changed = match tenure {
                Tenure::Over => return Lapse::Over,
                Tenure::Ever => self.0.changed().await,
                Tenure::Until(until) => match tokio::time::timeout_at(until.into(), self.0.changed()).await {
                    Err(_elapsed) => return Lapse::Unsure,
                    Ok(changed) => changed,
                },
            };
            if changed.is_err() {
                return Lapse::Over;
            }
        }
    }

    /// Returns when the task may act, or never will.
    pub(super) async fn settled(&mut self) -> Result<(), Lapse> {
        loop {
            match *self.0.borrow_and_update() {
                Tenure::Over => return Err(Lapse::Over),
                Tenure::Ever => return Ok(()),
                Tenure::Until(until) if Instant::now() < until => return Ok(()),
                Tenure::Until(_) => {}
            }
            if self.0.changed().await.is_err() {
                return Err(Lapse::Over);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(byte: u8) -> Ticket {
        Ticket::from_random([byte; 32])
    }

    #[tokio::test]
    async fn a_tenure_lapses_by_time_and_comes_back_by_confirmation() {
        let running = Running::new(1);
        let soon = Instant::now() + Duration::from_millis(20);
        let ((_commands, tenure), _) = running.admit(&ticket(1), Tenure::Until(soon)).unwrap();
        let mut tenure = Watched(tenure);
        assert_eq!(tenure.lapse().await, Lapse::Unsure);
        running.confirm(&ticket(1).hash(), Instant::now() + Duration::from_secs(60));
        assert_eq!(tenure.settled().await, Ok(()));
        running.confirm(&ticket(1).hash(), soon);
        assert_eq!(tenure.settled().await, Ok(()), "an older confirmation takes nothing back");
        running.end_tenure(&ticket(1).hash());
        assert_eq!(tenure.lapse().await, Lapse::Over);
        running.confirm(&ticket(1).hash(), Instant::now() + Duration::from_secs(60));
        assert_eq!(tenure.settled().await, Err(Lapse::Over), "what is over stays over");
    }

    #[tokio::test]
    async fn there_is_room_for_so_many_and_the_rest_is_elsewhere() {
        let running = Running::new(1);
        let held = running.admit(&ticket(1), Tenure::Ever).unwrap();
        assert!(!running.has_room());
        assert_eq!(running.admit(&ticket(2), Tenure::Ever).unwrap_err().reason, Reason::RateLimited);
        let elsewhere = running.send(&ticket(2).hash(), Command::Supersede);
        assert!(matches!(elsewhere, Err(NotSent::Elsewhere(Command::Supersede))));
        for _ in 0..COMMANDS_MAX {
            running.send(&ticket(1).hash(), Command::Supersede).unwrap();
        }
        assert!(matches!(running.send(&ticket(1).hash(), Command::Supersede), Err(NotSent::Busy)));
        let number = held.1;
        running.dismiss(&ticket(1), number + 1);
        assert!(running.runs(&ticket(1).hash()), "another entry's end is not this one's");
        running.dismiss(&ticket(1), number);
        assert!(running.has_room());
    }
}
