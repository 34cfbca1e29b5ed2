//! The logins whose tasks live in this process, and the way to speak to them.

use std::{collections::HashMap, sync::Mutex};

use tokio::sync::{mpsc, oneshot};

use super::App;
use crate::domain::{
    error::{Error, Reason},
    id::{Ticket, TicketHash},
    login::Login,
    secret::Secret,
};

/// Commands that wait for one login's task; more are refused.
const COMMANDS_MAX: usize = 4;

/// What somebody wants of a running login.
#[derive(Debug)]
pub(super) enum Command {
    Password {
        password: Secret,
        answer: oneshot::Sender<Result<Login, Error>>,
    },
    Cancel {
        answer: oneshot::Sender<Result<Login, Error>>,
    },
    /// A newer login of the same session took over.
    Supersede,
}

/// Std mutex: held for single map operations only.
#[derive(Debug)]
pub(super) struct Running {
    logins: Mutex<HashMap<TicketHash, mpsc::Sender<Command>>>,
    max: usize,
}

impl Running {
    pub(super) fn new(max: usize) -> Self {
        Self { logins: Mutex::default(), max }
    }

    /// # Errors
    /// `RATE_LIMITED` when as many logins run here as may.
    fn admit(&self, ticket: &Ticket) -> Result<mpsc::Receiver<Command>, Error> {
        let mut logins = self.lock();
        if logins.len() >= self.max {
            return Err(Error::new(Reason::RateLimited, "too many logins run at once; try again later")
                .retry_after(std::time::Duration::from_secs(10)));
        }
        let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
        logins.insert(ticket.hash(), sender);
        Ok(receiver)
    }

    fn dismiss(&self, ticket: &Ticket) {
        self.lock().remove(&ticket.hash());
    }

    /// # Errors
    /// `TICKETS_UNAVAILABLE` when the login does not run here, `RATE_LIMITED` when too much waits for it.
    pub(super) fn send(&self, ticket: &Ticket, command: Command) -> Result<(), Error> {
        let sender = self.lock().get(&ticket.hash()).cloned();
        let Some(sender) = sender else { return Err(elsewhere()) };
        sender.try_send(command).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => {
                Error::new(Reason::RateLimited, "the login is busy with earlier requests; try again")
                    .retry_after(std::time::Duration::from_secs(1))
            }
            mpsc::error::TrySendError::Closed(_) => elsewhere(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TicketHash, mpsc::Sender<Command>>> {
        self.logins.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A login's place among the running ones, given up when dropped, also by a task that dies.
pub(super) struct Seat {
    app: App,
    ticket: Ticket,
    pub(super) commands: mpsc::Receiver<Command>,
}

impl Seat {
    /// # Errors
    /// `RATE_LIMITED` when as many logins run here as may.
    pub(super) fn take(app: &App, ticket: &Ticket) -> Result<Self, Error> {
        let commands = app.0.running.admit(ticket)?;
        Ok(Self { app: app.clone(), ticket: ticket.clone(), commands })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.app.0.running.dismiss(&self.ticket);
    }
}

fn elsewhere() -> Error {
    Error::new(Reason::TicketsUnavailable, "no running process owns this login; start a new one")
}
