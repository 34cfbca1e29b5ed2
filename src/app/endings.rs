//! Ending sessions: revoke, reset, delete. Telegram first, the wipe second: a row that is gone cannot log out.

use std::time::Instant;

use super::{
    App,
    running::{Command, NotSent},
    validation::{Borrowed, CALL_LIMIT},
};
use crate::{
    domain::{
        caller::Caller,
        error::{Error, Reason},
        event::{Kind, NewEvent},
        id::SessionKey,
        login::Ask,
        material::FutureAuthToken,
        session::{Custody, Event, LogOut, Session, State},
    },
    store::{Change, LeaseRule, MaterialChange},
};

impl App {
    /// Logs the session out at Telegram and wipes its material. While Telegram is away the session is revoked all the
    /// same, and the log-out is repeated until it succeeds.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`, `SESSION_WRONG_STATE`, `SESSION_LEASED`: evict the lease and wait; `CUSTODY_LEGACY`.
    pub async fn revoke_session(
        &self,
        caller: &Caller,
        key: &SessionKey,
        revision: Option<i64>,
    ) -> Result<Session, Error> {
        let app = self.clone();
        let (caller, key) = (caller.clone(), key.clone());
        self.finish(Box::pin(async move { app.revoke(&caller, &key, revision).await })).await
    }

    async fn revoke(
        &self,
        caller: &Caller,
        key: &SessionKey,
        revision: Option<i64>,
    ) -> Result<Session, Error> {
        let session = self.get_at(caller, key, revision).await?;
        session.state.next(Event::ManuallyRevoked(LogOut::Done))?;
        if session.state.pending().is_some() {
            return self.revoke_pending(caller, session).await;
        }
        if session.custody == Custody::Legacy {
            return Err(Error::new(
                Reason::CustodyLegacy,
                "the legacy system owns this session; revoke it there, or take custody first",
            ));
        }
        let Borrowed { lease, mut session, material } = self.borrow(caller, key).await?;
        let deadline = Instant::now() + CALL_LIMIT;
        let (log_out, wipe, token) = match self.0.telegram.log_out(&material, deadline).await {
            Ok(token) => (LogOut::Done, MaterialChange::Wipe, token),
            Err(error) => {
                tracing::warn!(session.id = %key, error = %error, "Revoked with the log-out still to come");
                (LogOut::Pending, MaterialChange::Keep, None)
            }
        };
        let future_auth_tokens = self.with_token(&session, token).await;
        let moved = session.apply(Event::ManuallyRevoked(log_out), caller.now)?;
        let change = Change {
            material: wipe,
            lease: LeaseRule::EndMine { lease_id: lease.lease_id.clone(), epoch: lease.epoch },
            future_auth_tokens,
            events: vec![NewEvent::transition(moved, &caller.subject).detail("log_out", log_out.name())],
            ..Change::of(session)
        };
        Ok(self.commit(caller, change).await?)
    }

    /// A session whose login runs: the login ends too. Older material, if there is any, is logged out by housekeeping.
    async fn revoke_pending(&self, caller: &Caller, mut session: Session) -> Result<Session, Error> {
        let log_out = if self.0.store.material(caller, &session.key).await?.is_some() {
            LogOut::Pending
        } else {
            LogOut::Done
        };
        let moved = session.apply(Event::ManuallyRevoked(log_out), caller.now)?;
        session.forget_login();
        let key = session.key.clone();
        let change =
            Change { events: vec![NewEvent::transition(moved, &caller.subject)], ..Change::of(session) };
        let revoked = self.commit(caller, change).await?;
        self.cancel_active(key).await;
        Ok(revoked)
    }

    /// Ends the login of a session whose row does not wait for it any more, wherever it runs. One that is not reached
    /// ends at its next write.
    async fn cancel_active(&self, key: SessionKey) {
        let Ok(Some(login)) = self.0.tickets.active(&key).await else { return };
        let (answer, _unheard) = tokio::sync::oneshot::channel();
        let hash = login.ticket.hash();
        if let Err(NotSent::Elsewhere(Command::Ask { ask, .. })) =
            self.0.running.send(&hash, Command::Ask { ask: Ask::Cancel, answer })
            && !login.state.is_final()
        {
            let app = self.clone();
            self.0.tasks.spawn(async move {
                let until = Instant::now() + CALL_LIMIT;
                if let Err(error) = app.0.tickets.ask(&hash, &ask, until).await {
                    tracing::debug!(session.id = %key, error = %error, "A login that is not wanted ends at its next write");
                }
            });
        }
    }

    /// Forgets the material of a session that is lost or doubtful, so that the name can be used anew.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`, `SESSION_WRONG_STATE` unless REVOKED or STALE, `SESSION_LEASED`, `TELEGRAM_UNAVAILABLE`
    /// while the authorization may be alive and cannot be logged out.
    pub async fn reset_session(
        &self,
        caller: &Caller,
        key: &SessionKey,
        revision: Option<i64>,
    ) -> Result<Session, Error> {
        let app = self.clone();
        let (caller, key) = (caller.clone(), key.clone());
        self.finish(Box::pin(async move { app.reset(&caller, &key, revision).await })).await
    }

    async fn reset(
        &self,
        caller: &Caller,
        key: &SessionKey,
        revision: Option<i64>,
    ) -> Result<Session, Error> {
        let session = self.get_at(caller, key, revision).await?;
        session.state.next(Event::Reset)?;
        let (mut session, lease, token) = self.log_out_first(caller, session).await?;
        let future_auth_tokens = self.with_token(&session, token).await;
        let moved = session.apply(Event::Reset, caller.now)?;
        session.fingerprint = None;
        session.legacy_fingerprint = None;
        session.dc_id = None;
        session.last_validated_time = None;
        let change = Change {
            material: MaterialChange::Wipe,
            lease,
            future_auth_tokens,
            events: vec![NewEvent::transition(moved, &caller.subject)],
            ..Change::of(session)
        };
        Ok(self.commit(caller, change).await?)
    }

    /// Removes the session and answers it as it last was. Its audit log stays.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`, `SESSION_LEASED`, `TELEGRAM_UNAVAILABLE` while the authorization is alive and cannot be
    /// logged out: revoke it first, or try again.
    pub async fn delete_session(
        &self,
        caller: &Caller,
        key: &SessionKey,
        revision: Option<i64>,
    ) -> Result<Session, Error> {
        let app = self.clone();
        let (caller, key) = (caller.clone(), key.clone());
        self.finish(Box::pin(async move {
            let session = app.get_at(&caller, &key, revision).await?;
            let (session, lease, _) = app.log_out_first(&caller, session).await?;
            let event = NewEvent::of(Kind::Deleted, &caller.subject).detail("reason", "deleted_by_operator");
            app.0.store.delete(&caller, &key, session.revision, &lease, event).await?;
            if session.login_ticket.is_some() {
                app.cancel_active(key).await;
            }
            Ok(session)
        }))
        .await
    }

    /// Makes sure that no living authorization of this service is left behind, and tells under which lease rule the
    /// session may be written afterwards.
    async fn log_out_first(
        &self,
        caller: &Caller,
        session: Session,
    ) -> Result<(Session, LeaseRule, Option<FutureAuthToken>), Error> {
        let none_live = LeaseRule::NoneLive;
        let alive = may_be_alive(&session.state);
        // In legacy custody our copy goes and the legacy system's authorization stays as it is.
        if !alive || session.custody == Custody::Legacy || session.material_version == 0 {
            return Ok((session, none_live, None));
        }
        let borrowed = self.borrow(caller, &session.key).await?;
        match self.0.telegram.log_out(&borrowed.material, Instant::now() + CALL_LIMIT).await {
            Ok(token) => {
                let Borrowed { lease, session, .. } = borrowed;
                let mine = LeaseRule::EndMine { lease_id: lease.lease_id, epoch: lease.epoch };
                Ok((session, mine, token))
            }
            Err(error) => {
                self.give_back(caller, &borrowed.lease).await;
                Err(error.into())
            }
        }
    }

    /// Repeats the log-out of a session that was revoked while Telegram was away.
    pub(super) async fn log_out_pending(&self, caller: &Caller, key: &SessionKey) -> Result<(), Error> {
        let Borrowed { lease, mut session, material } = self.borrow(caller, key).await?;
        let token = match self.0.telegram.log_out(&material, Instant::now() + CALL_LIMIT).await {
            Ok(token) => token,
            Err(error) => {
                self.give_back(caller, &lease).await;
                return Err(error.into());
            }
        };
        let future_auth_tokens = self.with_token(&session, token).await;
        let moved = session.apply(Event::LoggedOut, caller.now)?;
        let change = Change {
            material: MaterialChange::Wipe,
            lease: LeaseRule::EndMine { lease_id: lease.lease_id.clone(), epoch: lease.epoch },
            future_auth_tokens,
            events: vec![NewEvent::transition(moved, &caller.subject)],
            ..Change::of(session)
        };
        self.commit(caller, change).await?;
        Ok(())
    }
}

/// Whether the material, if there is any, may be of an authorization that Telegram has not ended. Beside a login it is
/// that of the state before.
fn may_be_alive(state: &State) -> bool {
    match state {
        State::Authorized { .. } | State::Stale { .. } | State::Revoked { log_out: LogOut::Pending, .. } => {
            true
        }
        State::PendingQr(pending) | State::PendingCode(pending) | State::PendingPassword(pending) => {
            may_be_alive(&pending.before.clone().into())
        }
        State::Absent { .. } | State::Revoked { log_out: LogOut::Done, .. } => false,
    }
}
