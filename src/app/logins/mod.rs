//! Logins as callers see them: start one, follow it, answer it, end it.

mod start;

use std::time::{Duration, Instant};

use futures::stream::BoxStream;
use tokio::sync::oneshot;

pub use self::start::Start;
pub(super) use self::start::what_to_pause;
use super::{
    App,
    running::{Command, NotSent},
};
use crate::{
    domain::{
        caller::Caller,
        error::{Error, Reason},
        id::{RequestId, Ticket},
        login::{Ask, Login, State},
        secret::Secret,
    },
    telemetry::metrics,
    tickets::{Answer, Watch},
};

/// How long before its caller's deadline a start answers with whatever state there is.
const ANSWER_MARGIN: Duration = Duration::from_millis(300);

/// How long a login that ended by its time can still be asked how it ended, and looked after should its replica die.
pub(super) const READABLE_AFTER: Duration = Duration::from_secs(120);

impl App {
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

    /// Hands the account's password to the login and answers what Telegram said. A request that has a name is judged
    /// once.
    ///
    /// # Errors
    /// `PASSWORD_INVALID` with the attempts left, `LOGIN_WRONG_STATE`, or how the login ended.
    pub async fn submit_password(
        &self,
        caller: &Caller,
        ticket: &Ticket,
        password: Secret,
        request: Option<RequestId>,
    ) -> Result<Login, Error> {
        if password.is_empty() {
            return Err(Error::invalid("password", "must not be empty"));
        }
        self.get_login(caller, ticket).await?.require_password_step()?;
        self.ask(caller, ticket, Ask::Password { password, request }).await
    }

    /// Hands the code that the account's owner got to the login and answers what Telegram said.
    ///
    /// # Errors
    /// `CODE_INVALID` with the attempts left, `CODE_EXPIRED`, `LOGIN_WRONG_STATE`, or how the login ended.
    pub async fn submit_code(&self, caller: &Caller, ticket: &Ticket, code: Secret) -> Result<Login, Error> {
        if code.is_empty() {
            return Err(Error::invalid("code", "must not be empty"));
        }
        self.get_login(caller, ticket).await?.require_code_step()?;
        self.ask(caller, ticket, Ask::Code(code)).await
    }

    /// Has the code sent again, by the next way. A repeated request sends once.
    ///
    /// # Errors
    /// `RESEND_UNAVAILABLE`, with the time to wait if there is another way; `LOGIN_WRONG_STATE`, or how the login ended.
    pub async fn resend_code(
        &self,
        caller: &Caller,
        ticket: &Ticket,
        request: Option<RequestId>,
    ) -> Result<Login, Error> {
        let login = self.get_login(caller, ticket).await?;
        if login.has_resent_for(request.as_ref()) {
            return Ok(login);
        }
        login.require_code_step()?;
        if let Some(delivery) = &login.code_delivery {
            delivery.require_resend(caller.now)?;
        }
        self.ask(caller, ticket, Ask::Resend(request)).await
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
        match self.ask(caller, ticket, Ask::Cancel).await {
            // It ended by itself meanwhile.
            Err(error) => match self.get_login(caller, ticket).await {
                Ok(login) if login.state.is_final() => Ok(login),
                Ok(_) | Err(_) => Err(error),
            },
            answer => answer,
        }
    }

    /// Tells the login's task, wherever it runs, and answers the login as it stands then.
    async fn ask(&self, caller: &Caller, ticket: &Ticket, ask: Ask) -> Result<Login, Error> {
        let (answer, answered) = oneshot::channel();
        let command = Command::Ask { ask, answer };
        let ask = match self.0.running.send(&ticket.hash(), command) {
            Ok(()) => return reply(caller, answered).await,
            Err(NotSent::Elsewhere(Command::Ask { ask, .. })) => ask,
            Err(NotSent::Elsewhere(_) | NotSent::Busy) => return Err(busy()),
        };
        let until = caller.deadline.checked_sub(ANSWER_MARGIN).unwrap_or_else(Instant::now);
        let answer = self.0.tickets.ask(&ticket.hash(), &ask, until).await;
        match answer.map_err(Error::from).and_then(Answer::require) {
            Ok(()) => self.get_login(caller, ticket).await,
            // It may have ended while nobody took the request up.
            Err(error) => match self.get_login(caller, ticket).await?.state.end() {
                Some(end) if error.reason == Reason::TicketsUnavailable => Err(end),
                Some(_) | None => Err(error),
            },
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
        request: Option<RequestId>,
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
            login = match self.submit_password(caller, ticket, password, request).await {
                Ok(login) => login,
                // However the login ended is the answer, not how this password fared.
                Err(error) => match self.get_login(caller, ticket).await {
                    Ok(login) if login.state.is_final() => return Ok(login),
                    Ok(_) | Err(_) => return Err(error),
                },
            };
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

fn busy() -> Error {
    Error::new(Reason::RateLimited, "the login is busy with earlier requests; try again")
        .retry_after(Duration::from_secs(1))
}

fn too_late() -> Error {
    Error::new(Reason::DeadlineExceeded, "the deadline passed before the login was over; ask again")
}
