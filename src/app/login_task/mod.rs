//! One task owns one QR login from its first token to its last possible acceptance.
//!
//! A token once shown may be accepted until it expires, whatever became of the login meanwhile. So a login that is
//! cancelled, expired or superseded is watched until then, and an authorization that arrives late is logged out.

mod outcome;
mod row;

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{
    App, now,
    running::{Command, Seat},
};
use crate::{
    domain::{
        error::{Error, Reason},
        login::{ATTEMPTS_MAX, Failure, Login, QrToken, State},
        material::{Device, Proxy},
        secret::Secret,
        session::LoginEnd,
    },
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
    let late = match Box::pin(task.connect(device, proxy, &mut seat.commands)).await {
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
