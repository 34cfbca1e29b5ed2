//! One task owns one QR login from its first token to its last possible acceptance.
//!
//! A token once shown may be accepted until it expires, whatever became of the login meanwhile. So a login that is
//! cancelled, expired or superseded is watched until then, and an authorization that arrives late is logged out.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{
    App, as_service, now,
    running::{Command, Seat},
};
use crate::{
    domain::{
        caller::Caller,
        error::{Error, Reason},
        event::{Kind, NewEvent},
        login::{ATTEMPTS_MAX, Failure, Login, QrToken, State},
        material::{Device, Material, Proxy},
        secret::Secret,
        session::{Custody, Event, LoginEnd, Session},
    },
    store::{self, Change, Expected, LeaseRule, MaterialChange, TicketRule},
    telegram::{
        self,
        qr::{Abandoned, Authorized, PasswordOutcome, QrLogin, Step},
    },
    telemetry::metrics::{self, LoginResult},
    tickets::CheckpointChange,
};

/// How long connecting and the first export may take.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long checking a password or logging out may take.
const CALL_LIMIT: Duration = Duration::from_secs(20);
/// How long one write to the store or the tickets may take.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// How long a login that has nothing to show yet waits for Telegram's flood control before it gives up.
const FLOOD_WAIT_BORNE: Duration = Duration::from_secs(5);
/// Pause between attempts at a write that did not succeed yet.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Runs the login to its end. Never fails: whatever goes wrong becomes the login's state.
pub(super) async fn run_qr(app: App, login: Login, device: Device, proxy: Option<Proxy>, mut seat: Seat) {
    let mut task = Task { app, login };
    let late = match task.connect(device, proxy, &mut seat.commands).await {
        Some(telegram) => Box::pin(task.drive(telegram, &mut seat.commands)).await,
        None => None,
    };
    // Nobody answers from here on; whoever asks must learn it now and not at their deadline.
    seat.commands.close();
    while seat.commands.try_recv().is_ok() {}
    if let Some(late) = late {
        task.watch_late(late).await;
    }
}

/// Ends a login that no process runs any more.
pub(super) async fn end_without_owner(app: &App, login: Login) -> Result<Login, Error> {
    let mut task = Task { app: app.clone(), login };
    task.end(State::Cancelled, LoginEnd::Cancelled).await;
    Ok(task.login)
}

impl App {
    /// Returns the session's row to where it was before the login, unless another login took over.
    pub(super) async fn return_row(&self, login: &Login, end: LoginEnd) {
        if let Err(error) = self.try_return_row(login, end).await {
            tracing::warn!(session.id = %login.key, error = %chain(&error), "Left a pending row to housekeeping");
        }
    }

    async fn try_return_row(&self, login: &Login, end: LoginEnd) -> Result<(), store::Error> {
        let caller = as_service(&login.subject, WRITE_LIMIT);
        let Some(mut session) = self.0.store.get(&caller, &login.key).await? else { return Ok(()) };
        if session.login_ticket.as_ref() != Some(&login.ticket.hash()) {
            return Ok(());
        }
        let mut events = Vec::new();
        if session.state.pending().is_some()
            && let Ok(moved) = session.apply(Event::LoginEnded(end), caller.now)
        {
            events.push(NewEvent::transition(moved, &login.subject));
        }
        session.login_ticket = None;
        let change = Change {
            expected: Expected::Revision(session.revision),
            session,
            material: MaterialChange::Keep,
            lease: LeaseRule::Ignore,
            login_ticket: TicketRule::MustBe(login.ticket.hash()),
            events,
        };
        match self.commit(&caller, change).await {
            Ok(_) | Err(store::Error::TicketMoved) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

struct Task {
    app: App,
    login: Login,
}

/// What the loop does next.
enum Flow {
    GoOn,
    /// The login is over; a shown token may still be accepted.
    Watch(Box<QrLogin>),
    Done,
}

impl Task {
    /// Connects, unless the login ends before that. Nobody can accept a code that was not shown yet.
    async fn connect(
        &mut self,
        device: Device,
        proxy: Option<Proxy>,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Option<QrLogin> {
        let app = self.app.clone();
        let alias = self.login.api_key_alias.clone();
        let mut connecting = std::pin::pin!(async move {
            let (_, key) = app.api_key(Some(&alias))?;
            let deadline = Instant::now() + START_LIMIT;
            app.0.telegram.start_qr(key.clone(), device, proxy, deadline).await.map_err(Error::from)
        });
        let stop = self.app.0.stop.clone();
        loop {
            tokio::select! {
                connected = &mut connecting => match connected {
                    Ok(telegram) => return Some(telegram),
                    Err(error) => {
                        self.end(State::Failed(Failure::of(&error)), LoginEnd::Failed).await;
                        return None;
                    }
                },
                command = commands.recv() => match command {
                    Some(Command::Password { answer, .. }) => {
                        let _ = answer.send(Err(no_password_awaited()));
                    }
                    Some(Command::Cancel { answer }) => {
                        self.end(State::Cancelled, LoginEnd::Cancelled).await;
                        let _ = answer.send(Ok(self.login.clone()));
                        return None;
                    }
                    Some(Command::Supersede) | None => return None,
                },
                () = stop.cancelled() => {
                    self.end(State::Cancelled, LoginEnd::Cancelled).await;
                    return None;
                }
            }
        }
    }

    /// Answers the login if it ended while a code that was shown may still be accepted.
    async fn drive(
        &mut self,
        mut telegram: QrLogin,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Option<QrLogin> {
        let until = Instant::now() + self.login.expire_time.since(now());
        let stop = self.app.0.stop.clone();
        loop {
            // Boxed, because a login waits most of its life, and should be small while it does.
            let flow = tokio::select! {
                step = telegram.next(until) => Box::pin(self.on_step(step, telegram, until)).await,
                command = commands.recv() => Box::pin(self.on_command(command, telegram)).await,
                () = stop.cancelled() => {
                    self.end(State::Cancelled, LoginEnd::Cancelled).await;
                    (Flow::Done, Some(telegram))
                }
            };
            match flow {
                (Flow::GoOn, Some(same)) => telegram = same,
                (Flow::Watch(late), _) => return Some(*late),
                (Flow::GoOn | Flow::Done, rest) => {
                    if let Some(rest) = rest {
                        rest.close().await;
                    }
                    return None;
                }
            }
        }
    }

    async fn on_step(
        &mut self,
        step: Result<Step, telegram::Error>,
        telegram: QrLogin,
        until: Instant,
    ) -> (Flow, Option<QrLogin>) {
        match step {
            Ok(Step::Token { url, expires_in }) => {
                let token = QrToken { url, expire_time: now() + expires_in };
                self.show(State::WaitingQrScan(token), telegram).await
            }
            Ok(Step::Migrated { dc }) => {
                self.login.migrated_to = Some(dc);
                let state = self.login.state.clone();
                self.show(state, telegram).await
            }
            Ok(Step::PasswordNeeded { hint }) => {
                self.note_password_step().await;
                self.show(State::WaitingPassword { hint, attempts_left: ATTEMPTS_MAX }, telegram).await
            }
            Ok(Step::Authorized(authorized)) => Box::pin(self.finish(*authorized, telegram)).await,
            Ok(Step::Nothing) if Instant::now() < until => (Flow::GoOn, Some(telegram)),
            Ok(Step::Nothing) => {
                self.end(State::Expired, LoginEnd::Expired).await;
                (Flow::Watch(Box::new(telegram)), None)
            }
            // The login waits it out by itself, unless there is nothing to look at meanwhile.
            Err(telegram::Error::FloodWait { retry_after }) if self.bears(retry_after) => {
                metrics::flood_wait(retry_after);
                (Flow::GoOn, Some(telegram))
            }
            Err(error) => {
                if let telegram::Error::FloodWait { retry_after } = &error {
                    metrics::flood_wait(*retry_after);
                }
                let error = Error::from(error);
                tracing::info!(session.id = %self.login.key, error = %chain(&error), "Login failed");
                self.end(State::Failed(Failure::of(&error)), LoginEnd::Failed).await;
                (Flow::Watch(Box::new(telegram)), None)
            }
        }
    }

    /// Whether a flood wait is no reason to give up: it is short, or a code is shown or a password awaited already.
    fn bears(&self, flood_wait: Duration) -> bool {
        flood_wait <= FLOOD_WAIT_BORNE || !matches!(self.login.state, State::Starting)
    }

    async fn on_command(
        &mut self,
        command: Option<Command>,
        mut telegram: QrLogin,
    ) -> (Flow, Option<QrLogin>) {
        match command {
            Some(Command::Password { password, answer }) => {
                let (flow, reply) = self.on_password(&password, &mut telegram).await;
                let (flow, rest) = match flow {
                    PasswordFlow::Waiting => (Flow::GoOn, Some(telegram)),
                    PasswordFlow::Authorized(authorized) => {
                        Box::pin(self.finish(*authorized, telegram)).await
                    }
                    PasswordFlow::Over => (Flow::Watch(Box::new(telegram)), None),
                };
                let reply =
                    reply.and_then(|()| self.login.state.end().map_or_else(|| Ok(self.login.clone()), Err));
                // Nobody may listen any more: the state tells the same.
                let _ = answer.send(reply);
                (flow, rest)
            }
            Some(Command::Cancel { answer }) => {
                self.end(State::Cancelled, LoginEnd::Cancelled).await;
                let _ = answer.send(Ok(self.login.clone()));
                (Flow::Watch(Box::new(telegram)), None)
            }
            Some(Command::Supersede) | None => {
                self.login.state = State::Superseded;
                self.count_end();
                (Flow::Watch(Box::new(telegram)), None)
            }
        }
    }

    async fn on_password(
        &mut self,
        password: &Secret,
        telegram: &mut QrLogin,
    ) -> (PasswordFlow, Result<(), Error>) {
        let State::WaitingPassword { hint, attempts_left } = self.login.state.clone() else {
            return (PasswordFlow::Waiting, Err(no_password_awaited()));
        };
        match telegram.password(password, Instant::now() + CALL_LIMIT).await {
            Ok(PasswordOutcome::Authorized(authorized)) => (PasswordFlow::Authorized(authorized), Ok(())),
            Ok(PasswordOutcome::NotAsked) => (PasswordFlow::Waiting, Err(no_password_awaited())),
            Ok(PasswordOutcome::Wrong) => {
                let attempts_left = attempts_left.saturating_sub(1);
                let wrong = Error::new(Reason::PasswordInvalid, "Telegram does not accept this password")
                    .fact("attempts_left", attempts_left);
                if attempts_left == 0 {
                    self.end(State::Failed(Failure::of(&wrong)), LoginEnd::Failed).await;
                    return (PasswordFlow::Over, Err(wrong));
                }
                self.login.state = State::WaitingPassword { hint, attempts_left };
                match self.publish().await {
                    Ok(()) => (PasswordFlow::Waiting, Err(wrong)),
                    Err(lost) => (PasswordFlow::Over, Err(lost)),
                }
            }
            // Telegram was away or asks to wait: the scan is not burnt for it.
            Err(error) => (PasswordFlow::Waiting, Err(error.into())),
        }
    }

    /// Publishes a state that waits for somebody; a login that was taken over is only watched from then on.
    async fn show(&mut self, state: State, telegram: QrLogin) -> (Flow, Option<QrLogin>) {
        self.login.state = state;
        match self.publish().await {
            Ok(()) => (Flow::GoOn, Some(telegram)),
            Err(_) => (Flow::Watch(Box::new(telegram)), None),
        }
    }

    /// Writes the ticket, again and again while the tickets are away, until the login is over.
    async fn publish(&mut self) -> Result<(), Error> {
        loop {
            match self.app.0.tickets.update(&self.login, CheckpointChange::Keep).await {
                Ok(stored) => {
                    self.login = stored;
                    return Ok(());
                }
                Err(error) if error.is_unavailable() && now() < self.login.expire_time => {
                    tracing::warn!(session.id = %self.login.key, error = %error, "Tickets are away; trying again");
                    if self.pause().await.is_break() {
                        return Err(error.into());
                    }
                }
                Err(error) => {
                    // A newer login took over, or the ticket is gone: show what the others see.
                    if let Ok(Some(stored)) = self.app.0.tickets.get(&self.login.ticket).await {
                        self.login = stored;
                    }
                    return Err(error.into());
                }
            }
        }
    }

    async fn note_password_step(&self) {
        let caller = as_service(&self.login.subject, WRITE_LIMIT);
        let noted: Result<(), Error> = async {
            let Some(mut session) = self.app.0.store.get(&caller, &self.login.key).await? else {
                return Ok(());
            };
            if session.login_ticket.as_ref() != Some(&self.login.ticket.hash())
                || session.state.pending().is_none()
            {
                return Ok(());
            }
            let moved = session.apply(Event::PasswordRequired, caller.now)?;
            let change = Change {
                expected: Expected::Revision(session.revision),
                session,
                material: MaterialChange::Keep,
                lease: LeaseRule::Ignore,
                login_ticket: TicketRule::MustBe(self.login.ticket.hash()),
                events: vec![NewEvent::transition(moved, &self.login.subject)],
            };
            self.app.commit(&caller, change).await?;
            Ok(())
        }
        .await;
        if let Err(error) = noted {
            // The login goes on: the row catches up at its end.
            tracing::warn!(session.id = %self.login.key, error = %chain(&error), "Row does not show the password step");
        }
    }

    /// Row first, ticket second.
    async fn end(&mut self, state: State, end: LoginEnd) {
        self.app.return_row(&self.login, end).await;
        self.login.state = state;
        self.count_end();
        if let Err(error) = self.publish().await {
            tracing::debug!(session.id = %self.login.key, error = %chain(&error), "The ticket had ended already");
        }
    }

    fn count_end(&self) {
        let result = match &self.login.state {
            State::Authorized { .. } => LoginResult::Authorized,
            State::Expired => LoginResult::Expired,
            State::Cancelled => LoginResult::Cancelled,
            State::Superseded => LoginResult::Superseded,
            State::Failed(_) => LoginResult::Failed,
            State::Starting
            | State::WaitingQrScan(_)
            | State::WaitingCode
            | State::WaitingPassword { .. } => return,
        };
        metrics::login_ended(self.login.method, result, now().since(self.login.create_time));
    }

    /// Seals what Telegram gave and writes it, or logs it out again.
    async fn finish(&mut self, authorized: Authorized, telegram: QrLogin) -> (Flow, Option<QrLogin>) {
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
            session.state = crate::domain::session::State::Authorized {
                reason: crate::domain::session::AuthorizedReason::AuthorizationSuccess,
            };
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

    /// Looks for a late acceptance until the last shown token is dead, and logs it out.
    async fn watch_late(&self, telegram: QrLogin) {
        let deadline = Instant::now() + telegram.acceptable_for() + CALL_LIMIT;
        let abandoned = tokio::select! {
            abandoned = telegram.abandon(deadline) => abandoned,
            () = self.app.0.stop.cancelled() => return,
        };
        match abandoned {
            Ok(Abandoned::Unused | Abandoned::PasswordMissing) => {}
            Ok(Abandoned::LoggedOut(_)) => {
                tracing::info!(session.id = %self.login.key, "Logged out an authorization that came after its login had ended");
            }
            Err(error) => {
                tracing::warn!(session.id = %self.login.key, error = %error, "An authorization may have come after its login had ended");
            }
        }
    }

    async fn log_out(&self, telegram: QrLogin) {
        if let Err(error) = telegram.log_out(Instant::now() + CALL_LIMIT).await {
            tracing::warn!(session.id = %self.login.key, error = %error, "Could not log out an unwanted authorization");
        }
    }

    async fn log_out_material(&self, material: &Material) {
        if let Err(error) = self.app.0.telegram.log_out(material, Instant::now() + CALL_LIMIT).await {
            tracing::warn!(session.id = %self.login.key, error = %error, "Could not log out an unwanted authorization");
        }
    }

    /// Waits before another attempt; breaks when the service stops.
    async fn pause(&self) -> std::ops::ControlFlow<()> {
        tokio::select! {
            () = tokio::time::sleep(RETRY_PAUSE) => std::ops::ControlFlow::Continue(()),
            () = self.app.0.stop.cancelled() => std::ops::ControlFlow::Break(()),
        }
    }
}

enum PasswordFlow {
    Waiting,
    Authorized(Box<Authorized>),
    Over,
}

fn no_password_awaited() -> Error {
    Error::new(Reason::LoginWrongState, "the login does not wait for a password")
}

/// The error and its causes on one line, for the log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
