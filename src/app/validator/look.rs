//! One look at one session, broken off as soon as somebody waits for it.

use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::{ACTOR, Validator, lines::Call};
use crate::{
    app::{
        as_service,
        validation::{Borrowed, CALL_LIMIT},
    },
    domain::{
        error::{Error, Reason},
        id::SessionKey,
        lease::Purpose,
        session::State,
    },
    store::paces::Pace,
    telegram::{self, probe::Proof},
    telemetry::metrics::{self, Validation},
};

/// How often a look asks whether somebody waits for its session.
const WANTED_STEP: Duration = Duration::from_millis(250);
/// For a look from beginning to end: the conversation, and noting what it brought.
const LOOK_LIMIT: Duration = Duration::from_secs(40);
/// How long a session that a look said nothing about is left alone at least, so that it does not keep others waiting.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

impl Validator {
    /// Takes the session and looks at it in a task of its own; `false` when it is not to be looked at any more, or is
    /// somebody else's now.
    pub(super) async fn take_up(
        &self,
        key: SessionKey,
        call: Call,
        permit: OwnedSemaphorePermit,
    ) -> Result<bool, Error> {
        let app = &self.app;
        if !app.is_enabled() || !app.0.store.is_due(&self.caller(), &key, &self.due()).await? {
            return Ok(false);
        }
        let borrowed = match app.borrow_as(&self.caller(), &key, ACTOR, Purpose::Probe).await {
            Ok(borrowed) => borrowed,
            Err(error) => {
                tracing::debug!(session.id = %key, error = %error, "A session is looked at later");
                if error.reason != Reason::SessionLeased {
                    self.leave_alone(&key, self.interval).await;
                }
                return Ok(false);
            }
        };
        let validator = self.clone();
        app.0.tasks.spawn(async move {
            validator.look(borrowed, call).await;
            drop(permit);
        });
        Ok(true)
    }

    async fn look(&self, borrowed: Borrowed, call: Call) {
        let app = &self.app;
        let caller = as_service(ACTOR, LOOK_LIMIT);
        let key = borrowed.session.key.clone();
        let seen = match borrowed.session.state {
            State::Authorized { .. } | State::Stale { .. } => {
                let deadline = Instant::now() + CALL_LIMIT;
                let asked = Box::pin(app.0.telegram.probe(&borrowed.material, deadline));
                // What is not answered is dropped, and its socket closed, before anything else happens.
                tokio::select! {
                    biased;
                    () = app.0.stop.cancelled() => None,
                    () = self.wanted(&key) => None,
                    seen = asked => Some(seen),
                }
            }
            // Moved since it was listed.
            State::Absent { .. }
            | State::PendingQr(_)
            | State::PendingCode(_)
            | State::PendingPassword(_)
            | State::Revoked { .. } => None,
        };
        let Some(seen) = seen else {
            app.give_back(&caller, &borrowed.lease).await;
            metrics::validated(Validation::BrokenOff);
            return;
        };
        told(call, &seen);
        if let Ok(Proof { authorization: Some(authorization), .. }) = &seen {
            tracing::debug!(
                session.id = %key,
                unconfirmed = authorization.unconfirmed,
                ttl_days = authorization.ttl_days,
                "Telegram lists the authorization of a session"
            );
        }
        let found = match app.record(&caller, borrowed, &seen).await {
            Ok(recorded) => recorded.found,
            Err(error) if error.reason == Reason::AccountMismatch => {
                tracing::warn!(session.id = %key, "The key of a session belongs to another account");
                Validation::Mismatch
            }
            Err(error) => {
                tracing::debug!(session.id = %key, error = %error, "What a look found is not noted");
                Validation::Undecided
            }
        };
        match found {
            Validation::Alive | Validation::Doubtful | Validation::Ended | Validation::FloodWait => {}
            Validation::Unavailable | Validation::BrokenOff => {
                self.leave_alone(&key, AGAIN_AFTER.min(self.interval)).await;
            }
            Validation::Mismatch | Validation::Undecided => self.leave_alone(&key, self.interval).await,
        }
    }

    /// Returns once somebody waits for the session.
    async fn wanted(&self, key: &SessionKey) {
        let listener = self.app.0.wakes.listen(key);
        loop {
            // Whoever begins to wait at this replica says so; those at others are found in the queue.
            tokio::select! {
                () = listener.wanted.notified() => {}
                () = tokio::time::sleep(WANTED_STEP) => {}
            }
            match self.app.0.store.is_wanted(&self.caller(), key).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(session.id = %key, error = %error, "Nobody knows whether the session is waited for");
                }
            }
        }
    }

    /// No look at the session for so long, by any replica.
    async fn leave_alone(&self, key: &SessionKey, span: Duration) {
        if let Err(error) = self.app.0.store.pause(&self.caller(), Pace::Session(key), span).await {
            tracing::debug!(session.id = %key, error = %error, "A session may be looked at again soon");
        }
    }
}

/// What the answer says about the data centre: any answer is one, unless it never was Telegram's.
fn told(call: Call, seen: &Result<Proof, telegram::Error>) {
    match seen {
        Err(error) if error.is_transient() => call.failed(Instant::now()),
        Err(telegram::Error::Untrusted { .. }) => call.failed(Instant::now()),
        // Nobody was called.
        Err(telegram::Error::ProxyUnsupported | telegram::Error::DcUnknown { .. }) => drop(call),
        Ok(_) | Err(_) => call.answered(Instant::now()),
    }
}
