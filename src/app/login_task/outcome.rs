//! The end of a login that somebody accepted: the authorization is kept, sealed, or logged out again.

use std::time::Instant;

use super::{CALL_LIMIT, Flow, STORE_PATIENCE, Task, WRITE_LIMIT, chain};
use crate::{
    app::{App, as_service, now},
    domain::{
        caller::Caller,
        error::{Error, Reason},
        event::{Kind, NewEvent},
        lease::Drain,
        login::{Failure, Login, State, text_of},
        material::{FutureAuthToken, Material},
        session::{AuthorizedReason, Custody, Event, LoginEnd, Session, State as SessionState},
    },
    store::{Change, LeaseRule, NewLogOut},
    telegram::sign_in::{Authorized, SignIn},
};

/// What became of an authorization.
enum Kept {
    Yes,
    /// Another replica has the login, and with it the authorization.
    ByAnother,
    /// The login is not wanted any more, or cannot be kept.
    No(Error),
    /// The store does not tell.
    Unknown(Error),
    /// Somebody works with the former material yet.
    NotYet,
    /// The process stops while the authorization waits for its place.
    Unfinished,
}

impl Task {
    /// Seals what Telegram gave and writes it, or logs it out again.
    pub(super) async fn finish(&mut self, authorized: Box<Authorized>, sign_in: &mut SignIn) -> Flow {
        // The connection ends before anybody can be lent the key.
        sign_in.pause().await;
        let scanned = authorized.account.telegram_user_id;
        if self.login.expected_user.is_some_and(|expected| expected != scanned) {
            return self.refuse_account(&authorized.material).await;
        }
        self.settle(authorized, sign_in).await
    }

    /// Gives the authorization its place, or has it wait where the login can still be cancelled.
    pub(super) async fn settle(&mut self, authorized: Box<Authorized>, sign_in: &SignIn) -> Flow {
        match self.keep(&authorized).await {
            Kept::Yes => {
                self.succeed(authorized.account.telegram_user_id).await;
                Flow::Done
            }
            Kept::NotYet => {
                self.accepted = Some(authorized);
                if matches!(self.login.state, State::Starting) {
                    return Flow::GoOn;
                }
                tracing::info!(session.id = %self.login.key, "An accepted login waits for the session's lease to end");
                self.show(State::Starting, sign_in).await
            }
            Kept::ByAnother => Flow::Left,
            Kept::No(error) => {
                tracing::warn!(session.id = %self.login.key, error = %chain(&error), "Logging out an authorization that could not be kept");
                let ended = self.app.end_authorization(&self.login, &authorized.material).await;
                self.end(State::Failed(Failure::of(&error)), LoginEnd::Failed).await;
                // With the ticket goes the key: it stays until somebody could end what it opens.
                if ended { Flow::Done } else { Flow::Left }
            }
            Kept::Unfinished => {
                self.let_go().await;
                Flow::Left
            }
            Kept::Unknown(error) => {
                // Ending it could end a session that was committed; whoever finds the ticket finds out.
                tracing::error!(session.id = %self.login.key, error = %chain(&error), "Nobody knows whether an authorization was kept");
                Flow::Left
            }
        }
    }

    /// The row says that the login succeeded: so does the ticket.
    pub(super) async fn succeed(&mut self, telegram_user_id: i64) {
        self.login.state = State::Authorized { telegram_user_id };
        self.count_end();
        if let Err(error) = self.publish_end().await {
            tracing::warn!(session.id = %self.login.key, error = %chain(&error), "Ticket does not show the success");
        }
    }

    async fn refuse_account(&mut self, material: &Material) -> Flow {
        let caller = as_service(&self.login.subject, WRITE_LIMIT);
        if let Ok(Some(session)) = self.app.0.store.get(&caller, &self.login.key).await {
            let change = Change {
                login_ticket: self.app.mine(&self.login),
                events: vec![NewEvent::of(Kind::AccountMismatch, &self.login.subject)],
                ..Change::of(session)
            };
            if let Err(error) = self.app.commit(&caller, change).await {
                tracing::warn!(session.id = %self.login.key, error = %error, "Account mismatch is not in the audit log");
            }
        }
        let ended = self.app.end_authorization(&self.login, material).await;
        let mismatch = Error::new(Reason::AccountMismatch, text_of(Reason::AccountMismatch));
        self.end(State::Failed(Failure::of(&mismatch)), LoginEnd::Failed).await;
        if ended { Flow::Done } else { Flow::Left }
    }

    /// Tries until the ticket ends: a store that is away may come back. A live lease of the old material may end too, but
    /// takes its time.
    async fn keep(&self, authorized: &Authorized) -> Kept {
        loop {
            let error = match self.try_keep(authorized).await {
                Ok(kept) => return kept,
                Err(error) => error,
            };
            let unknown = matches!(error.reason, Reason::StoreUnavailable | Reason::DeadlineExceeded);
            let passing = match error.reason {
                Reason::StoreUnavailable | Reason::DeadlineExceeded => {
                    now() < self.login.expire_time + STORE_PATIENCE
                }
                Reason::SessionLeased | Reason::RevisionStale | Reason::TicketSuperseded => {
                    now() < self.login.expire_time
                }
                _ => false,
            };
            if passing && error.reason == Reason::SessionLeased {
                self.ask_back().await;
                return Kept::NotYet;
            }
            if passing && self.pause().await.is_continue() {
                continue;
            }
            return match (unknown, passing && self.app.0.tickets.are_shared()) {
                (true, _) => Kept::Unknown(error),
                // Only a stop ends what may still pass, and another replica goes on waiting.
                (false, true) => Kept::Unfinished,
                (false, false) => Kept::No(error),
            };
        }
    }

    /// Lets a holder who listens know that new material waits for the old to be given back.
    async fn ask_back(&self) {
        let caller = as_service(&self.login.subject, WRITE_LIMIT);
        if let Err(error) = self.app.0.store.ask_back(&caller, &self.login.key, Drain::Login).await {
            tracing::debug!(session.id = %self.login.key, error = %error, "The holder is asked again");
        }
    }

    async fn try_keep(&self, authorized: &Authorized) -> Result<Kept, Error> {
        let app = &self.app.0;
        let caller = as_service(&self.login.subject, WRITE_LIMIT);
        let Some(mut session) = app.store.get(&caller, &self.login.key).await? else {
            let gone = Error::new(Reason::SessionNotFound, "the session was deleted while its login ran");
            return Ok(Kept::No(gone));
        };
        if !self.app.is_mine(&session, &self.login) {
            return Ok(self.lost(&session, &authorized.material));
        }
        // Whose session it is may have become known while the login ran.
        let known = session.account.as_ref().map(|account| account.telegram_user_id);
        if self.login.expected_user.is_none()
            && known.is_some_and(|it| it != authorized.account.telegram_user_id)
        {
            let other = Error::new(Reason::AccountMismatch, text_of(Reason::AccountMismatch));
            return Ok(Kept::No(other));
        }
        let beside = session.state.pending().is_none();
        let old = self.app.own_material(&caller, &session).await?;
        let mut events = Vec::new();
        if beside {
            if !session.state.is_usable() {
                let changed =
                    Error::new(Reason::SessionWrongState, "the session changed while its login ran");
                return Ok(Kept::No(changed));
            }
            session.state = SessionState::Authorized { reason: AuthorizedReason::AuthorizationSuccess };
            events.push(NewEvent::of(Kind::MaterialReplaced, &self.login.subject));
        } else {
            let moved = session.apply(Event::TelegramAuthorized, caller.now)?;
            events.push(NewEvent::transition(moved, &self.login.subject));
        }
        let token = authorized.future_auth_token.clone();
        let future_auth_tokens = self.app.with_token(&session, token).await;
        let material = self.app.seal(&mut session, &authorized.material)?;
        // Off, the legacy system gets it, as it gets all others.
        session.custody = if self.app.is_enabled() { Custody::Service } else { Custody::Legacy };
        session.account = Some(authorized.account.clone());
        session.api_key_alias = Some(self.login.api_key_alias.clone());
        session.last_validated_time = Some(caller.now);
        session.forget_login();
        session.labels.extend(self.login.labels.clone());
        let log_out = old.as_ref().map(|(noted, _)| noted.clone());
        let change = Change {
            material,
            lease: LeaseRule::NoneLive,
            login_ticket: self.app.mine(&self.login),
            log_out,
            future_auth_tokens,
            events,
            ..Change::of(session)
        };
        let session = self.app.commit(&caller, change).await?;
        if let Some((noted, old)) = old {
            self.app.end_noted(&session, noted.id, &old).await;
        }
        Ok(Kept::Yes)
    }

    /// The row names another login, another replica, or none: whose is the authorization now?
    fn lost(&self, session: &Session, material: &Material) -> Kept {
        let kept = session.fingerprint.is_some()
            && session.fingerprint == self.app.0.vault.fingerprint(material)
            && session.material_version > 0;
        if kept {
            // The answer to an earlier attempt was lost, and it had succeeded.
            return Kept::Yes;
        }
        if session.login_ticket.as_ref() == Some(&self.login.ticket.hash()) {
            return Kept::ByAnother;
        }
        Kept::No(Error::new(
            Reason::TicketSuperseded,
            "a newer login of this session took over; follow that one",
        ))
    }
}

impl App {
    /// The material that the new one takes the place of, if its authorization is this service's to end. One that
    /// cannot be opened any more cannot be ended either, and does not stand in the way of a new login.
    pub(in crate::app) async fn own_material(
        &self,
        caller: &Caller,
        session: &Session,
    ) -> Result<Option<(NewLogOut, Material)>, Error> {
        if session.custody == Custody::Legacy || session.material_version == 0 {
            return Ok(None);
        }
        let app = &self.0;
        let Some(sealed) = app.store.material(caller, &session.key).await? else { return Ok(None) };
        match app.vault.unseal(&session.key, &session.environment, &sealed) {
            Ok(material) => Ok(Some((NewLogOut { id: uuid::Uuid::new_v4(), sealed }, material))),
            Err(error) => {
                tracing::warn!(session.id = %session.key, error = %error, "The former authorization is left to its owner");
                Ok(None)
            }
        }
    }

    /// Ends an authorization that no row holds; notes it for housekeeping while Telegram does not listen. `false` if
    /// neither could be done.
    pub(in crate::app) async fn end_authorization(&self, login: &Login, material: &Material) -> bool {
        let Err(error) = self.0.telegram.log_out(material, Instant::now() + CALL_LIMIT).await else {
            return true;
        };
        tracing::warn!(session.id = %login.key, error = %error, "An unwanted authorization is logged out later");
        let environment = &self.0.settings.environment;
        // Version 0 is no session's: what is sealed so opens as nobody's material.
        let noted = match self.0.vault.seal(&login.key, environment, 0, material) {
            Ok(sealed) => {
                let caller = as_service(&login.subject, WRITE_LIMIT);
                let noted = NewLogOut { id: uuid::Uuid::new_v4(), sealed };
                self.0.store.note_log_out(&caller, &login.key, environment, &noted).await.map_err(Error::from)
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = &noted {
            tracing::error!(session.id = %login.key, error = %chain(error), "An unwanted authorization lives on; its owner can end it among their devices");
        }
        noted.is_ok()
    }

    /// Ends an authorization that was noted when its session got a new one. What fails is repeated by housekeeping.
    pub(in crate::app) async fn end_noted(&self, session: &Session, id: uuid::Uuid, material: &Material) {
        match self.0.telegram.log_out(material, Instant::now() + CALL_LIMIT).await {
            Ok(token) => self.ended(&session.key, id, token).await,
            Err(error) => {
                tracing::warn!(session.id = %session.key, error = %error, "The former authorization is logged out later");
            }
        }
    }

    /// Forgets a log-out that is done, and keeps what Telegram gave for it.
    pub(in crate::app) async fn ended(
        &self,
        key: &crate::domain::id::SessionKey,
        id: uuid::Uuid,
        token: Option<FutureAuthToken>,
    ) {
        let caller = as_service("usm:log-outs", WRITE_LIMIT);
        self.keep_token(&caller, key, token).await;
        if let Err(error) = self.0.store.forget_log_out(&caller, id).await {
            tracing::debug!(session.id = %key, error = %error, "A log-out that is done is repeated once more");
        }
    }
}
