//! Logins as callers see them: start one, follow it, answer it, end it.
//!
//! The durable row comes first, the ticket second, Telegram third. Whoever dies in between leaves a row that
//! housekeeping returns to where it was.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::stream::BoxStream;
use tokio::sync::oneshot;

use super::{
    App, login_task, new_ticket,
    running::{Command, Seat},
};
use crate::{
    domain::{
        caller::Caller,
        error::{Error, Reason},
        event::NewEvent,
        id::{RequestId, SessionKey, Ticket},
        login::{Login, Method, State},
        material::{Device, Proxy},
        secret::Secret,
        session::{Custody, Event, LoginEnd, Session},
    },
    store::{Change, Expected, LeaseRule, MaterialChange, TicketRule},
    telemetry::metrics,
    tickets::{Created, Watch},
};

/// How long before its caller's deadline a start answers with whatever state there is.
const ANSWER_MARGIN: Duration = Duration::from_millis(300);

/// How long a login that ended by its time can still be asked how it ended.
const READABLE_AFTER: Duration = Duration::from_secs(60);

/// A QR login that was asked for.
#[derive(Debug)]
pub struct StartQr {
    pub key: SessionKey,
    /// Only this account may sign in; without it, the account of the session's first login.
    pub expected_user: Option<i64>,
    pub api_key_alias: Option<String>,
    pub device: Option<Device>,
    pub proxy: Option<Proxy>,
    pub request_id: Option<RequestId>,
    /// Set on the session when the login succeeds; others stay.
    pub labels: BTreeMap<String, String>,
}

impl App {
    /// Starts a QR login, which supersedes an earlier one of the session, and answers once a code can be shown.
    ///
    /// # Errors
    /// `API_KEY_UNKNOWN`, `CUSTODY_LEGACY`, `RATE_LIMITED`, and what Telegram, the store or the tickets refuse.
    ///
    /// # Cancel safety
    /// Dropped midway, the login goes on in its task, or housekeeping returns the row to its former state.
    pub async fn start_qr_login(&self, caller: &Caller, request: StartQr) -> Result<Login, Error> {
        let app = self.clone();
        let begun = caller.clone();
        // Tracked, because a caller who hangs up between row and task would leave a login that nobody runs.
        let task = self.0.tasks.spawn(async move { app.begin_qr(&begun, request).await });
        let login = match task.await {
            Ok(login) => login?,
            Err(died) => {
                return Err(Error::new(Reason::Internal, "the login could not be started").caused_by(died));
            }
        };
        let shown = self.settled(caller, login, |state| !matches!(state, State::Starting)).await?;
        match (&shown.state, shown.state.end()) {
            (State::Failed(_), Some(error)) => Err(error),
            _ => Ok(shown),
        }
    }

    async fn begin_qr(&self, caller: &Caller, request: StartQr) -> Result<Login, Error> {
        let (alias, _) = self.api_key(request.api_key_alias.as_deref())?;
        let alias = alias.to_owned();
        if let Some(login) = self.repeated(caller, &request).await? {
            return Ok(login);
        }
        let ticket = new_ticket();
        let seat = Seat::take(self, &ticket)?;
        let login = self.register(caller, &request, &ticket, alias).await?;
        if login.ticket == ticket {
            let (device, proxy) = (request.device.unwrap_or_default(), request.proxy);
            self.0.tasks.spawn(login_task::run_qr(self.clone(), login.clone(), device, proxy, seat));
        }
        Ok(login)
    }

    /// The login that the same caller started by the same request before, if it is still there.
    async fn repeated(&self, caller: &Caller, request: &StartQr) -> Result<Option<Login>, Error> {
        let Some(id) = &request.request_id else { return Ok(None) };
        let active = self.0.tickets.active(&request.key).await?;
        Ok(active.filter(|login| login.request_id.as_ref() == Some(id) && login.subject == caller.subject))
    }

    /// Writes the row, then the ticket.
    async fn register(
        &self,
        caller: &Caller,
        request: &StartQr,
        ticket: &Ticket,
        api_key_alias: String,
    ) -> Result<Login, Error> {
        let session = self.pend(caller, &request.key, ticket).await?;
        let expected_user =
            request.expected_user.or(session.account.as_ref().map(|account| account.telegram_user_id));
        let login = Login {
            ticket: ticket.clone(),
            key: request.key.clone(),
            method: Method::Qr,
            state: State::Starting,
            create_time: caller.now,
            expire_time: caller.now + self.0.settings.ticket_ttl,
            expected_user,
            api_key_alias,
            subject: caller.subject.clone(),
            request_id: request.request_id.clone(),
            labels: request.labels.clone(),
            migrated_to: None,
            version: 0,
        };
        match self.0.tickets.create(&login, None, self.0.settings.ticket_ttl + READABLE_AFTER).await {
            Ok(Created::New { login, superseded }) => {
                metrics::qr_login_started();
                if let Some(old) = superseded {
                    // Not here: its owner notices when it next writes.
                    let _ = self.0.running.send(&old, Command::Supersede);
                }
                Ok(login)
            }
            Ok(Created::Existing(earlier)) => {
                // The same request, whose login has ended since: the row waits for nobody.
                self.return_row(&login, LoginEnd::Cancelled).await;
                Ok(earlier)
            }
            Err(error) => {
                self.return_row(&login, LoginEnd::Failed).await;
                Err(error.into())
            }
        }
    }

    /// Records in the session's row which login may write its outcome there.
    async fn pend(&self, caller: &Caller, key: &SessionKey, ticket: &Ticket) -> Result<Session, Error> {
        let stored = self.0.store.get(caller, key).await?;
        let (mut session, expected) = match stored {
            None => (
                Session::new(key.clone(), Custody::Service, self.0.settings.environment.clone(), caller.now),
                Expected::New,
            ),
            Some(session) => {
                let revision = session.revision;
                (session, Expected::Revision(revision))
            }
        };
        let mut events = Vec::new();
        if session.state.pending().is_some() {
            let ended = session.apply(Event::LoginEnded(LoginEnd::Cancelled), caller.now)?;
            events.push(NewEvent::transition(ended, &caller.subject).detail("superseded", true));
        }
        if session.state.is_usable() {
            if session.custody == Custody::Legacy {
                return Err(legacy_owns_it());
            }
            session.update_time = caller.now;
        } else {
            let started = session.apply(Event::QrStarted, caller.now)?;
            events.push(NewEvent::transition(started, &caller.subject));
        }
        session.login_ticket = Some(ticket.hash());
        let change = Change {
            session,
            expected,
            material: MaterialChange::Keep,
            lease: LeaseRule::Ignore,
            login_ticket: TicketRule::Any,
            events,
        };
        Ok(self.commit(caller, change).await?)
    }

    /// # Errors
    /// `TICKET_NOT_FOUND`, also for another tenant's.
    pub async fn get_login(&self, caller: &Caller, ticket: &Ticket) -> Result<Login, Error> {
        match self.0.tickets.get(ticket).await? {
            Some(login) if caller.sees(&login.key.tenant) => Ok(login),
            Some(_) => {
                metrics::tenant_denied();
                Err(Error::ticket_not_found())
            }
            None => Err(Error::ticket_not_found()),
        }
    }

    /// The login's states from now on, the present one first; ends after a final one.
    ///
    /// # Errors
    /// `TICKET_NOT_FOUND`, also for another tenant's.
    pub async fn watch_login(
        &self,
        caller: &Caller,
        ticket: &Ticket,
    ) -> Result<BoxStream<'static, Result<Login, Error>>, Error> {
        let watch = self.0.tickets.watch(ticket)?;
        let first = self.get_login(caller, ticket).await?;
        let done = first.state.is_final();
        let follow = Follow { app: self.clone(), watch, ticket: ticket.clone(), seen: first.version, done };
        let rest = futures::stream::unfold(follow, |mut follow| async move {
            let item = follow.next().await?;
            Some((item, follow))
        });
        use futures::StreamExt as _;
        Ok(futures::stream::once(async move { Ok(first) }).chain(rest).boxed())
    }

    /// Hands the account's password to the login and answers what Telegram said.
    ///
    /// # Errors
    /// `PASSWORD_INVALID` with the attempts left, `LOGIN_WRONG_STATE`, or how the login ended.
    pub async fn submit_password(
        &self,
        caller: &Caller,
        ticket: &Ticket,
        password: Secret,
    ) -> Result<Login, Error> {
        if password.is_empty() {
            return Err(Error::invalid("password", "must not be empty"));
        }
        self.get_login(caller, ticket).await?.require_password_step()?;
        let (answer, answered) = oneshot::channel();
        self.0.running.send(ticket, Command::Password { password, answer })?;
        reply(caller, answered).await
    }

    /// Ends the login. One that already ended stays as it is.
    ///
    /// # Errors
    /// `TICKET_NOT_FOUND`, `TICKETS_UNAVAILABLE`.
    pub async fn cancel_login(&self, caller: &Caller, ticket: &Ticket) -> Result<Login, Error> {
        let login = self.get_login(caller, ticket).await?;
        if login.state.is_final() {
            return Ok(login);
        }
        let (answer, answered) = oneshot::channel();
        match self.0.running.send(ticket, Command::Cancel { answer }) {
            Ok(()) => reply(caller, answered).await,
            Err(_) => login_task::end_without_owner(self, login).await,
        }
    }

    /// Waits for the login's end and answers it, however it ended; submits the password on the way if one is given.
    ///
    /// # Errors
    /// `PASSWORD_REQUIRED`, `PASSWORD_INVALID` for a wrong password, `DEADLINE_EXCEEDED` if the login is not over in time.
    pub async fn finalize_login(
        &self,
        caller: &Caller,
        ticket: &Ticket,
        password: Option<Secret>,
    ) -> Result<Login, Error> {
        let login = self.get_login(caller, ticket).await?;
        let wanted = |state: &State| state.is_final() || matches!(state, State::WaitingPassword { .. });
        let mut login = self.settled(caller, login, wanted).await?;
        if matches!(login.state, State::WaitingPassword { .. }) {
            let Some(password) = password else {
                return Err(Error::new(
                    Reason::PasswordRequired,
                    "the account has a two-step password; finalize again with it",
                ));
            };
            login = self.submit_password(caller, ticket, password).await?;
        }
        let login = self.settled(caller, login, State::is_final).await?;
        if login.state.is_final() { Ok(login) } else { Err(too_late()) }
    }

    /// The login once its state is wanted, or as it stands shortly before the caller's deadline.
    async fn settled(
        &self,
        caller: &Caller,
        mut login: Login,
        wanted: impl Fn(&State) -> bool,
    ) -> Result<Login, Error> {
        let mut watch = self.0.tickets.watch(&login.ticket)?;
        let until = caller.deadline.checked_sub(ANSWER_MARGIN).unwrap_or_else(Instant::now);
        loop {
            if let Some(fresh) = self.0.tickets.get(&login.ticket).await? {
                login = fresh;
            }
            if wanted(&login.state) || login.state.is_final() {
                return Ok(login);
            }
            if tokio::time::timeout_at(until.into(), watch.changed()).await.is_err() {
                return Ok(login);
            }
        }
    }
}

struct Follow {
    app: App,
    watch: Watch,
    ticket: Ticket,
    seen: u64,
    done: bool,
}

impl Follow {
    /// The next state that differs from the last one shown.
    async fn next(&mut self) -> Option<Result<Login, Error>> {
        while !self.done {
            tokio::select! {
                () = self.watch.changed() => {}
                () = self.app.0.stop.cancelled() => {
                    self.done = true;
                    return Some(Err(Error::new(Reason::TicketsUnavailable, "the server is stopping; watch again")
                        .retry_after(Duration::from_secs(1))));
                }
            }
            match self.app.0.tickets.get(&self.ticket).await {
                Ok(Some(login)) if login.version == self.seen => {}
                Ok(Some(login)) => {
                    self.seen = login.version;
                    self.done = login.state.is_final();
                    return Some(Ok(login));
                }
                Ok(None) => {
                    self.done = true;
                    return Some(Err(Error::new(
                        Reason::TicketExpired,
                        "the login expired; start a new one",
                    )));
                }
                Err(error) => {
                    self.done = true;
                    return Some(Err(error.into()));
                }
            }
        }
        None
    }
}

async fn reply(caller: &Caller, answered: oneshot::Receiver<Result<Login, Error>>) -> Result<Login, Error> {
    match tokio::time::timeout_at(caller.deadline.into(), answered).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => {
            Err(Error::new(Reason::LoginWrongState, "the login ended meanwhile; look at its state"))
        }
        Err(_) => Err(too_late()),
    }
}

fn too_late() -> Error {
    Error::new(Reason::DeadlineExceeded, "the deadline passed before the login was over; ask again")
}

fn legacy_owns_it() -> Error {
    Error::new(
        Reason::CustodyLegacy,
        "the legacy system owns this session; take custody first, after the legacy system stopped using it",
    )
}
