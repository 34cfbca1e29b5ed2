//! What others see of a login: its ticket, and with it what another replica needs to go on.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::{Flow, Task, WRITE_LIMIT, chain};
use crate::{
    app::{as_service, logins::READABLE_AFTER, now},
    domain::{error::Error, login::State, session::LoginEnd},
    telegram::sign_in::SignIn,
    tickets::{self, CheckpointChange, Restored},
};

impl Task {
    /// Shows a state that waits for somebody. While the tickets are away the login goes on all the same.
    pub(super) async fn show(&mut self, state: State, sign_in: &SignIn) -> Flow {
        self.login.state = state;
        self.show_again(sign_in).await
    }

    /// Shows what the tickets did not take before.
    pub(super) async fn show_again(&mut self, sign_in: &SignIn) -> Flow {
        let checkpoint = match sign_in.checkpoint().to_bytes() {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(session.id = %self.login.key, error = %chain(&error), "A login cannot be kept for other replicas");
                return Flow::GoOn;
            }
        };
        let hash: [u8; 32] = Sha256::digest(checkpoint.as_slice()).into();
        let known = self.saved == Some(hash);
        let change =
            if known { CheckpointChange::Keep } else { CheckpointChange::Set(checkpoint.as_slice()) };
        match self.app.0.tickets.update(&self.login, change).await {
            Ok(stored) => {
                self.login = stored;
                self.saved = Some(hash);
                self.unpublished = false;
                Flow::GoOn
            }
            Err(error) if error.is_unavailable() => {
                if !self.unpublished {
                    tracing::warn!(session.id = %self.login.key, error = %chain(&error), "Tickets are away; a login goes on unseen");
                }
                self.unpublished = true;
                Flow::GoOn
            }
            Err(tickets::Error::NotFound) => self.restore(sign_in).await,
            Err(tickets::Error::NotOwner) => Flow::Left,
            Err(error) => {
                // A newer login took over: show what the others see.
                tracing::debug!(session.id = %self.login.key, error = %chain(&error), "A login changed elsewhere");
                self.read_again().await;
                Flow::Watch
            }
        }
    }

    /// The tickets forgot the login. Its row decides whether it is still wanted.
    pub(super) async fn restore(&mut self, sign_in: &SignIn) -> Flow {
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
        let checkpoint = sign_in.checkpoint().to_bytes().ok();
        let bytes = checkpoint.as_ref().map(|bytes| bytes.as_slice());
        match self.app.0.tickets.restore(&self.login, bytes, ttl).await {
            Ok(Restored::Restored | Restored::There) => {
                tracing::info!(session.id = %self.login.key, "Put back a login that the tickets had lost");
                self.saved = None;
                // What was to be shown when it was missed, is.
                self.unpublished = true;
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
            match self.app.0.tickets.update(&self.login, CheckpointChange::Keep).await {
                Ok(stored) => {
                    self.login = stored;
                    return Ok(());
                }
                Err(error) if error.is_unavailable() && now() < self.last_question() => {
                    tracing::warn!(session.id = %self.login.key, error = %chain(&error), "Tickets are away; trying again");
                    if self.pause().await.is_break() {
                        return Err(error.into());
                    }
                }
                Err(error) => {
                    // A newer login took over, or the ticket is gone: show what the others see.
                    self.read_again().await;
                    return Err(error.into());
                }
            }
        }
    }

    fn last_question(&self) -> crate::domain::time::Timestamp {
        self.login.expire_time + READABLE_AFTER.saturating_sub(Duration::from_secs(1))
    }

    async fn read_again(&mut self) {
        if let Ok(Some(stored)) = self.app.0.tickets.get(&self.login.ticket).await {
            self.login = stored;
        }
    }
}
