//! What others see of a login: its ticket, and with it what another replica needs to go on.

use std::time::Duration;

use super::{Flow, Task, WRITE_LIMIT, chain};
use crate::{
    app::{as_service, logins::READABLE_AFTER, now},
    domain::{error::Error, login::State, session::LoginEnd},
    telegram::sign_in::SignIn,
    tickets::{self, CheckpointChange, Restored},
};

/// Attempts to write a login that somebody else, or an answer that was lost, has changed.
const WRITES_MAX: u32 = 3;

/// What the ticket is to a task that could not write it.
enum CaughtUp {
    /// It goes on from the version that is there.
    ToWrite,
    /// Somebody ended the login.
    Ended,
}

impl Task {
    /// Shows a state that waits for somebody, and keeps what another replica needs. While the tickets are away the login
    /// goes on all the same.
    pub(super) async fn show(&mut self, state: State, sign_in: &SignIn) -> Flow {
        self.login.state = state;
        match sign_in.checkpoint().to_bytes() {
            Ok(checkpoint) => {
                self.saved &= *checkpoint == *self.checkpoint;
                self.checkpoint = checkpoint;
            }
            Err(error) => {
                tracing::error!(session.id = %self.login.key, error = %chain(&error), "A login cannot be kept for other replicas");
            }
        }
        self.publish().await
    }

    /// Shows the login as it stands.
    pub(super) async fn publish(&mut self) -> Flow {
        for _ in 0..WRITES_MAX {
            let change = if self.saved {
                CheckpointChange::Keep
            } else {
                CheckpointChange::Set(self.checkpoint.as_slice())
            };
            let error = match self.app.0.tickets.update(&self.login, change).await {
                Ok(stored) => {
                    self.login = stored;
                    (self.saved, self.unpublished) = (true, false);
                    return Flow::GoOn;
                }
                Err(error) => error,
            };
            match error {
                tickets::Error::NotFound => return self.restore().await,
                tickets::Error::NotOwner => return Flow::Left,
                // An earlier write whose answer was lost, or a newer login that took over.
                tickets::Error::Conflict => match self.catch_up().await {
                    Ok(CaughtUp::ToWrite) => {}
                    Ok(CaughtUp::Ended) => return Flow::Watch,
                    Err(error) => return self.later(&error),
                },
                error if error.is_unavailable() => return self.later(&error),
                error => {
                    tracing::error!(session.id = %self.login.key, error = %chain(&error), "A login cannot be shown");
                    return Flow::GoOn;
                }
            }
        }
        self.unpublished = true;
        Flow::GoOn
    }

    fn later(&mut self, error: &tickets::Error) -> Flow {
        if !self.unpublished {
            tracing::warn!(session.id = %self.login.key, error = %chain(error), "Tickets are away; a login goes on unseen");
        }
        self.unpublished = true;
        Flow::GoOn
    }

    /// Reads the ticket after a write that did not fit it. Only an end that somebody else wrote counts; otherwise this
    /// task knows better than the ticket.
    async fn catch_up(&mut self) -> Result<CaughtUp, tickets::Error> {
        let Some(stored) = self.app.0.tickets.get(&self.login.ticket).await? else {
            return Ok(CaughtUp::ToWrite);
        };
        if stored.state.is_final() {
            self.login = stored;
            return Ok(CaughtUp::Ended);
        }
        self.login.version = stored.version;
        Ok(CaughtUp::ToWrite)
    }

    /// The tickets forgot the login. Its row decides whether it is still wanted.
    pub(super) async fn restore(&mut self) -> Flow {
        if !self.app.0.tickets.are_shared() {
            return Flow::Watch;
        }
        let caller = as_service(&self.login.subject, WRITE_LIMIT);
        let row = match self.app.0.store.get(&caller, &self.login.key).await {
            Ok(row) => row,
            Err(error) => {
                tracing::warn!(session.id = %self.login.key, error = %chain(&error), "A forgotten login is looked at again");
                self.unpublished = true;
                return Flow::GoOn;
            }
        };
        let wanted = row.is_some_and(|row| {
            row.login_ticket.as_ref() == Some(&self.login.ticket.hash())
                && row.login_owner.as_ref() == Some(self.app.0.tickets.replica())
        });
        if !wanted {
            self.login.state = State::Superseded;
            self.count_end();
            return Flow::Watch;
        }
        let ttl = self.login.expire_time.since(now()) + READABLE_AFTER;
        match self.app.0.tickets.restore(&self.login, Some(&self.checkpoint), ttl).await {
            Ok(Restored::Restored | Restored::There) => {
                tracing::info!(session.id = %self.login.key, "Put back a login that the tickets had lost");
                // What was to be shown when it was missed, is.
                (self.saved, self.unpublished) = (false, true);
                Flow::GoOn
            }
            Ok(Restored::Superseded) => {
                self.end_row(LoginEnd::Cancelled).await;
                self.login.state = State::Superseded;
                self.count_end();
                Flow::Watch
            }
            Err(error) => {
                tracing::debug!(session.id = %self.login.key, error = %chain(&error), "A lost login is put back later");
                self.unpublished = true;
                Flow::GoOn
            }
        }
    }

    /// Row first, ticket second.
    pub(super) async fn end(&mut self, state: State, end: LoginEnd) {
        self.end_row(end).await;
        self.login.state = state;
        self.count_end();
        if let Err(error) = self.publish_end().await {
            tracing::debug!(session.id = %self.login.key, error = %chain(&error), "The ticket had ended already");
        }
    }

    pub(super) async fn end_row(&self, end: LoginEnd) {
        self.app.return_row(&self.login, end).await;
    }

    /// Writes how the login ended, again and again while the tickets are away, as long as anybody could ask.
    pub(super) async fn publish_end(&mut self) -> Result<(), Error> {
        loop {
            let error = match self.app.0.tickets.update(&self.login, CheckpointChange::Keep).await {
                Ok(stored) => {
                    self.login = stored;
                    return Ok(());
                }
                Err(tickets::Error::Conflict) => match self.catch_up().await {
                    Ok(CaughtUp::ToWrite) => continue,
                    Ok(CaughtUp::Ended) => return Ok(()),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if !error.is_unavailable() || now() >= self.last_question() {
                return Err(error.into());
            }
            tracing::warn!(session.id = %self.login.key, error = %chain(&error), "Tickets are away; trying again");
            if self.pause().await.is_break() {
                return Err(error.into());
            }
        }
    }

    fn last_question(&self) -> crate::domain::time::Timestamp {
        self.login.expire_time + READABLE_AFTER.saturating_sub(Duration::from_secs(1))
    }
}
