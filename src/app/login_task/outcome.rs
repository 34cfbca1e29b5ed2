//! The end of a login that somebody accepted: the authorization is kept, sealed, or logged out again.

use std::time::Instant;

use super::{CALL_LIMIT, Flow, Task, WRITE_LIMIT, chain};
use crate::{
    app::{as_service, now},
    domain::{
        caller::Caller,
        error::{Error, Reason},
        event::{Kind, NewEvent},
        login::{Failure, State},
        material::Material,
        session::{AuthorizedReason, Custody, Event, LoginEnd, Session, State as SessionState},
    },
    store::{Change, Expected, LeaseRule, MaterialChange, TicketRule},
    telegram::qr::{Authorized, QrLogin},
};

impl Task {
    /// Seals what Telegram gave and writes it, or logs it out again.
    pub(super) async fn finish(
        &mut self,
        authorized: Authorized,
        telegram: QrLogin,
    ) -> (Flow, Option<QrLogin>) {
        let scanned = authorized.account.telegram_user_id;
        if self.login.expected_user.is_some_and(|expected| expected != scanned) {
            self.refuse_account().await;
            self.log_out(telegram).await;
            return (Flow::Done, None);
        }
        // The connection ends before anybody can be lent the key.
        let log_out_again = authorized.material.clone();
        telegram.close().await;
        match self.write_authorized(&authorized).await {
            Ok(()) => {
                self.login.state = State::Authorized { telegram_user_id: scanned };
                self.count_end();
                if let Err(error) = self.publish().await {
                    tracing::warn!(session.id = %self.login.key, error = %chain(&error), "Ticket does not show the success");
                }
            }
            Err(error) => {
                tracing::warn!(session.id = %self.login.key, error = %chain(&error), "Logging out an authorization that could not be kept");
                self.log_out_material(&log_out_again).await;
                self.end(State::Failed(Failure::of(&error)), LoginEnd::Failed).await;
            }
        }
        (Flow::Done, None)
    }

    async fn refuse_account(&mut self) {
        let caller = as_service(&self.login.subject, WRITE_LIMIT);
        if let Ok(Some(session)) = self.app.0.store.get(&caller, &self.login.key).await {
            let change = Change {
                expected: Expected::Revision(session.revision),
                session,
                material: MaterialChange::Keep,
                lease: LeaseRule::Ignore,
                login_ticket: TicketRule::MustBe(self.login.ticket.hash()),
                events: vec![NewEvent::of(Kind::AccountMismatch, &self.login.subject)],
            };
            if let Err(error) = self.app.commit(&caller, change).await {
                tracing::warn!(session.id = %self.login.key, error = %error, "Account mismatch is not in the audit log");
            }
        }
        let mismatch = Error::new(Reason::AccountMismatch, "another account than the expected one signed in");
        self.end(State::Failed(Failure::of(&mismatch)), LoginEnd::Failed).await;
    }

    /// Tries until the ticket ends: a live lease of the old material, or a store that is away, may pass.
    async fn write_authorized(&self, authorized: &Authorized) -> Result<(), Error> {
        loop {
            let error = match self.try_write_authorized(authorized).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let passing = match error.reason {
                Reason::StoreUnavailable
                | Reason::SessionLeased
                | Reason::RevisionStale
                | Reason::DeadlineExceeded => now() < self.login.expire_time,
                _ => false,
            };
            if !passing || self.pause().await.is_break() {
                return Err(error);
            }
        }
    }

    async fn try_write_authorized(&self, authorized: &Authorized) -> Result<(), Error> {
        let app = &self.app.0;
        let caller = as_service(&self.login.subject, WRITE_LIMIT);
        let Some(mut session) = app.store.get(&caller, &self.login.key).await? else {
            return Err(Error::new(Reason::SessionNotFound, "the session was deleted while its login ran"));
        };
        let beside = session.state.pending().is_none();
        let old = self.own_material(&caller, &session).await?;
        let mut events = Vec::new();
        if beside {
            if !session.state.is_usable() {
                return Err(Error::new(Reason::SessionWrongState, "the session changed while its login ran"));
            }
            session.state = SessionState::Authorized { reason: AuthorizedReason::AuthorizationSuccess };
            events.push(NewEvent::of(Kind::MaterialReplaced, &self.login.subject));
        } else {
            let moved = session.apply(Event::TelegramAuthorized, caller.now)?;
            events.push(NewEvent::transition(moved, &self.login.subject));
        }
        let material = self.app.seal(&mut session, &authorized.material)?;
        session.custody = Custody::Service;
        session.account = Some(authorized.account.clone());
        session.api_key_alias = Some(self.login.api_key_alias.clone());
        session.last_validated_time = Some(caller.now);
        session.login_ticket = None;
        session.labels.extend(self.login.labels.clone());
        let change = Change {
            expected: Expected::Revision(session.revision),
            session,
            material,
            lease: LeaseRule::NoneLive,
            login_ticket: TicketRule::MustBe(self.login.ticket.hash()),
            events,
        };
        self.app.commit(&caller, change).await?;
        if let Some(old) = old {
            self.log_out_material(&old).await;
        }
        Ok(())
    }

    /// The material that the new one takes the place of, if its authorization is this service's to end. One that
    /// cannot be opened any more cannot be ended either, and does not stand in the way of a new login.
    async fn own_material(&self, caller: &Caller, session: &Session) -> Result<Option<Material>, Error> {
        if session.custody == Custody::Legacy || session.material_version == 0 {
            return Ok(None);
        }
        let app = &self.app.0;
        let Some(sealed) = app.store.material(caller, &session.key).await? else { return Ok(None) };
        match app.vault.unseal(&session.key, &session.environment, &sealed) {
            Ok(material) => Ok(Some(material)),
            Err(error) => {
                tracing::warn!(session.id = %session.key, error = %error, "The former authorization is left to its owner");
                Ok(None)
            }
        }
    }

    async fn log_out_material(&self, material: &Material) {
        if let Err(error) = self.app.0.telegram.log_out(material, Instant::now() + CALL_LIMIT).await {
            tracing::warn!(session.id = %self.login.key, error = %error, "Could not log out an unwanted authorization");
        }
    }
}
