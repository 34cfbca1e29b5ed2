//! One task owns one login from its first key to its last possible acceptance.
//!
//! A code once shown may be accepted until it expires, whatever became of the login meanwhile. So a login that is
//! cancelled, expired or superseded is watched until then, and an authorization that arrives late is logged out.
//!
//! Where replicas share their logins, the task acts only while its tenure is sure. It keeps with the ticket what another
//! replica needs to go on, before anything depends on it, and leaves the login when the process stops.

mod answers;
mod begin;
mod outcome;
mod publish;
mod row;
mod takeover;

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use zeroize::Zeroizing;

pub(super) use takeover::take_over;

use super::{
    App, now,
    running::{Command, Lapse, Seat},
};
use crate::{
    domain::{
        budget::Paused,
        error::Error,
        login::{ATTEMPTS_MAX, Ask, CodeDelivery, Failure, Login, QrToken, State},
        session::LoginEnd,
    },
    telegram::{
        self,
        sign_in::{Abandoned, Authorized, SentCode, SignIn, Step, Way, checkpoint::Checkpoint},
    },
    telemetry::metrics::{self, LoginResult},
};

/// How long connecting and the first step may take.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long checking a password or a code, or logging out may take.
const CALL_LIMIT: Duration = Duration::from_secs(20);
/// How long one write to the store or the tickets may take.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// How long a login that has nothing to show yet waits for Telegram's flood control before it gives up.
const FLOOD_WAIT_BORNE: Duration = Duration::from_secs(5);
/// Pause between attempts at a write that did not succeed yet.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long after its time a login whose fate depends on a store that is away is still kept.
const STORE_PATIENCE: Duration = Duration::from_secs(600);

/// Runs a new login to its end. Never fails: whatever goes wrong becomes the login's state.
pub(super) async fn run(app: App, login: Login, way: Way, paused: Paused, mut seat: Seat) {
    let checkpoint = Checkpoint::before(&way).to_bytes().unwrap_or_default();
    let mut task = Task::new(app, login, paused, checkpoint);
    let end = match Box::pin(task.connect(way, &mut seat)).await {
        Ok(sign_in) => Box::pin(task.drive(*sign_in, &mut seat)).await,
        Err(end) => end,
    };
    // What comes last is large, and would lie in the task from the first.
    Box::pin(task.leave(end, seat)).await;
}

struct Task {
    app: App,
    login: Login,
    /// What to leave alone for a while should Telegram ask for it.
    paused: Paused,
    /// What another replica would go on with.
    checkpoint: Zeroizing<Vec<u8>>,
    /// Whether the ticket holds that, as far as this process knows.
    saved: bool,
    /// The tickets were away when there was something to show.
    unpublished: bool,
    /// What Telegram gave, while somebody still works with the material whose place it takes.
    accepted: Option<Box<Authorized>>,
}

/// What a login waited for.
enum Happened {
    Step(Result<Step, telegram::Error>),
    /// It is time to see whether an accepted login has its place now.
    Place,
    Told(Command),
    Stop,
}

/// What the loop does next.
enum Flow {
    GoOn,
    /// The login is over; a shown code may still be accepted.
    Watch,
    Done,
    /// Another replica goes on with it.
    Left,
}

/// How the loop ended.
enum End {
    Watch(Box<SignIn>),
    /// It was accepted, and is not wanted any more.
    Unwanted(Box<Authorized>),
    Done,
    Left,
}

impl Task {
    /// `checkpoint` is what the ticket holds.
    fn new(app: App, login: Login, paused: Paused, checkpoint: Zeroizing<Vec<u8>>) -> Self {
        Self { app, login, paused, checkpoint, saved: true, unpublished: false, accepted: None }
    }

    async fn drive(&mut self, mut sign_in: SignIn, seat: &mut Seat) -> End {
        let until = Instant::now() + self.login.expire_time.since(now());
        loop {
            let Seat { commands, tenure, .. } = &mut *seat;
            // Boxed, because a login waits most of its life, and should be small while it does. Whatever is under way
            // when the tenure lapses is dropped: the attempt is in doubt then, and looks before it goes on.
            let flow = tokio::select! {
                // First: a process that stood still must not act on what waited for it meanwhile.
                biased;
                lapse = tenure.lapse() => Box::pin(self.on_lapse(lapse, &mut sign_in, seat)).await,
                flow = Box::pin(self.turn(&mut sign_in, commands, until)) => flow,
            };
            match flow {
                Flow::GoOn => {}
                Flow::Watch => {
                    return match self.accepted.take() {
                        Some(accepted) => End::Unwanted(accepted),
                        None => End::Watch(Box::new(sign_in)),
                    };
                }
                Flow::Done => {
                    sign_in.close().await;
                    return End::Done;
                }
                Flow::Left => {
                    sign_in.close().await;
                    return End::Left;
                }
            }
        }
    }

    /// Waits for something to happen, and deals with it. What concerns the ticket alone does not interrupt what
    /// Telegram was asked.
    async fn turn(
        &mut self,
        sign_in: &mut SignIn,
        commands: &mut tokio::sync::mpsc::Receiver<Command>,
        until: Instant,
    ) -> Flow {
        let stop = self.app.0.stop.clone();
        let accepted = self.accepted.is_some();
        let happened = {
            let mut next = std::pin::pin!(async {
                if accepted {
                    tokio::time::sleep(RETRY_PAUSE).await;
                    return Happened::Place;
                }
                Happened::Step(sign_in.next(until).await)
            });
            loop {
                let of_the_ticket = tokio::select! {
                    happened = &mut next => break happened,
                    command = commands.recv() => match command {
                        Some(Command::Forgotten) => Box::pin(self.restore()).await,
                        Some(command) => break Happened::Told(command),
                        // Its seat is gone, and with it whatever this task was for.
                        None => return Flow::Left,
                    },
                    () = tokio::time::sleep(RETRY_PAUSE), if self.unpublished => {
                        Box::pin(self.publish()).await
                    }
                    () = stop.cancelled() => break Happened::Stop,
                };
                match of_the_ticket {
                    Flow::GoOn => {}
                    over => return over,
                }
            }
        };
        match happened {
            Happened::Step(step) => Box::pin(self.on_step(step, sign_in, until)).await,
            Happened::Place => match self.accepted.take() {
                Some(authorized) => Box::pin(self.settle(authorized, sign_in)).await,
                None => Flow::GoOn,
            },
            Happened::Told(command) => Box::pin(self.on_command(command, sign_in)).await,
            Happened::Stop => Box::pin(self.on_stop(sign_in)).await,
        }
    }

    async fn on_step(
        &mut self,
        step: Result<Step, telegram::Error>,
        sign_in: &mut SignIn,
        until: Instant,
    ) -> Flow {
        match step {
            Ok(Step::Token { url, expires_in }) => {
                let token = QrToken { url, expire_time: now() + expires_in };
                self.show(State::WaitingQrScan(token), sign_in).await
            }
            Ok(Step::Migrated { dc }) => {
                self.login.migrated_to = Some(dc);
                let state = self.login.state.clone();
                self.show(state, sign_in).await
            }
            Ok(Step::CodeSent(sent)) => {
                self.login.code_delivery = Some(delivery(sent));
                self.show(State::WaitingCode { attempts_left: ATTEMPTS_MAX }, sign_in).await
            }
            Ok(Step::PasswordNeeded { hint }) => {
                self.note_password_step().await;
                // Asked again after another replica took over, the attempts are not given anew.
                let attempts_left = match &self.login.state {
                    State::WaitingPassword { attempts_left, .. } => *attempts_left,
                    _ => ATTEMPTS_MAX,
                };
                self.show(State::WaitingPassword { hint, attempts_left }, sign_in).await
            }
            Ok(Step::Authorized(authorized)) => Box::pin(self.finish(authorized, sign_in)).await,
            Ok(Step::Nothing) if Instant::now() < until => Flow::GoOn,
            Ok(Step::Nothing) => {
                self.end(State::Expired, LoginEnd::Expired).await;
                Flow::Watch
            }
            // The login waits it out by itself, unless there is nothing to look at meanwhile.
            Err(telegram::Error::FloodWait { retry_after }) if self.bears(retry_after) => {
                metrics::flood_wait(retry_after);
                Flow::GoOn
            }
            Err(error) => {
                self.fail(error).await;
                Flow::Watch
            }
        }
    }

    /// Ends the login because of what Telegram answered.
    async fn fail(&mut self, error: telegram::Error) {
        if let telegram::Error::FloodWait { retry_after } = &error {
            self.remember_pause(*retry_after).await;
        }
        let error = begin::refusal(error);
        tracing::info!(session.id = %self.login.key, error = %chain(&error), "Login failed");
        self.end(State::Failed(Failure::of(&error)), LoginEnd::Failed).await;
    }

    /// Telegram asked to wait, which concerns other logins too.
    async fn remember_pause(&self, span: Duration) {
        metrics::flood_wait(span);
        if let Err(error) = self.app.0.tickets.pause(&self.paused, span).await {
            tracing::warn!(error = %chain(&error), "A pause that Telegram asked for is not remembered");
        }
    }

    /// Whether a flood wait is no reason to give up: it is short, or a code is shown or a password awaited already.
    fn bears(&self, flood_wait: Duration) -> bool {
        flood_wait <= FLOOD_WAIT_BORNE || !matches!(self.login.state, State::Starting)
    }

    async fn on_command(&mut self, command: Command, sign_in: &mut SignIn) -> Flow {
        match command {
            Command::Ask { ask, answer } => self.on_ask(ask, answer, sign_in).await,
            Command::Supersede => {
                self.login.state = State::Superseded;
                self.count_end();
                Flow::Watch
            }
            Command::Forgotten => self.restore().await,
        }
    }

    async fn on_ask(
        &mut self,
        ask: Ask,
        answer: oneshot::Sender<Result<Login, Error>>,
        sign_in: &mut SignIn,
    ) -> Flow {
        let (flow, reply) = match ask {
            Ask::Password { password, request } => self.on_password(&password, request, sign_in).await,
            Ask::Code(code) => self.on_code(&code, sign_in).await,
            Ask::Resend(request) => self.on_resend(request, sign_in).await,
            Ask::Cancel => {
                self.end(State::Cancelled, LoginEnd::Cancelled).await;
                // Nobody may listen any more: the state tells the same.
                let _ = answer.send(Ok(self.login.clone()));
                return Flow::Watch;
            }
        };
        let reply = reply.and_then(|()| self.login.state.end().map_or_else(|| Ok(self.login.clone()), Err));
        let _ = answer.send(reply);
        flow
    }

    /// The process stops: another replica goes on where logins are shared, else the login ends.
    async fn on_stop(&mut self, sign_in: &mut SignIn) -> Flow {
        if self.app.0.tickets.are_shared() {
            sign_in.pause().await;
            self.let_go().await;
            return Flow::Left;
        }
        self.end(State::Cancelled, LoginEnd::Cancelled).await;
        if self.accepted.is_some() { Flow::Watch } else { Flow::Done }
    }

    /// Stops acting, and goes on once it is sure again that nobody else does.
    async fn on_lapse(&mut self, lapse: Lapse, sign_in: &mut SignIn, seat: &mut Seat) -> Flow {
        sign_in.pause().await;
        if lapse == Lapse::Over {
            tracing::info!(session.id = %self.login.key, "Another replica goes on with a login");
            return Flow::Left;
        }
        // Cut short while it told how the login ended, which is decided all the same.
        match &self.login.state {
            State::Authorized { .. } => {
                let _ = self.publish_end().await;
                return Flow::Done;
            }
            state if state.is_final() => {
                let _ = self.publish_end().await;
                return Flow::Watch;
            }
            _ => {}
        }
        tracing::warn!(session.id = %self.login.key, "A login rests: neither tickets nor store confirm that it is run here");
        let patience = self.login.expire_time.since(now()) + STORE_PATIENCE;
        let stop = self.app.0.stop.clone();
        tokio::select! {
            settled = tokio::time::timeout(patience, seat.tenure.settled()) => match settled {
                Ok(Ok(())) => Flow::GoOn,
                Ok(Err(_)) | Err(_) => Flow::Left,
            },
            () = stop.cancelled() => Flow::Left,
        }
    }

    /// What is left to do once nobody can answer the login any more.
    async fn leave(self, end: End, mut seat: Seat) {
        seat.close();
        match end {
            End::Watch(sign_in) => self.watch_late(*sign_in).await,
            // With the ticket goes the key: it stays until somebody could end what it opens.
            End::Unwanted(authorized) => {
                if self.app.end_authorization(&self.login, &authorized.material).await {
                    self.retire().await;
                }
            }
            End::Done => self.retire().await,
            End::Left => {}
        }
    }

    /// Looks for a late acceptance until the last shown code is dead, and logs it out.
    async fn watch_late(&self, sign_in: SignIn) {
        let deadline = Instant::now() + sign_in.acceptable_for() + CALL_LIMIT;
        let abandoned = tokio::select! {
            abandoned = sign_in.abandon(deadline) => abandoned,
            () = self.app.0.stop.cancelled() => return self.let_go().await,
        };
        match abandoned {
            Ok(Abandoned::Unused | Abandoned::PasswordMissing) => {}
            Ok(Abandoned::LoggedOut(_)) => {
                tracing::info!(session.id = %self.login.key, "Logged out an authorization that came after its login had ended");
            }
            Err(error) => {
                // Whoever finds the ticket when this tenure is over looks once more.
                tracing::warn!(session.id = %self.login.key, error = %error, "An authorization may have come after its login had ended");
                return;
            }
        }
        self.retire().await;
    }

    async fn let_go(&self) {
        if let Err(error) = self.app.0.tickets.let_go(&self.login.ticket).await {
            tracing::debug!(session.id = %self.login.key, error = %chain(&error), "A login is found by others when its tenure is over");
        }
    }

    async fn retire(&self) {
        if let Err(error) = self.app.0.tickets.retire(&self.login.ticket).await {
            tracing::debug!(session.id = %self.login.key, error = %chain(&error), "A login that is over is looked at once more");
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
            | State::WaitingCode { .. }
            | State::WaitingPassword { .. } => return,
        };
        metrics::login_ended(self.login.method, result, now().since(self.login.create_time));
    }

    /// Waits before another attempt; breaks when the service stops.
    async fn pause(&self) -> std::ops::ControlFlow<()> {
        tokio::select! {
            () = tokio::time::sleep(RETRY_PAUSE) => std::ops::ControlFlow::Continue(()),
            () = self.app.0.stop.cancelled() => std::ops::ControlFlow::Break(()),
        }
    }
}

fn delivery(sent: SentCode) -> CodeDelivery {
    let SentCode { way, next_way, resend_after, length, hint } = sent;
    CodeDelivery { way, next_way, resend_time: resend_after.map(|span| now() + span), length, hint }
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
