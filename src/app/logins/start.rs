//! Starting a login: the budgets, then the durable row, then the ticket, then Telegram. Whoever dies in between leaves a
//! row that housekeeping returns to where it was.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{READABLE_AFTER, too_late};
use crate::{
    app::{
        App, login_task, new_ticket, ownership,
        running::{Command, Seat, Tenure},
    },
    domain::{
        budget::{Budget, Paused, Scope},
        caller::Caller,
        error::{Error, Reason},
        event::NewEvent,
        id::{RequestId, SessionKey, Ticket},
        login::{Login, Method, PhoneNumber, Proof, Repeatable, State, text_of},
        material::{Device, Proxy},
        secret::Secret,
        session::{Custody, Event, LoginEnd, Session},
    },
    store::{self, Change, Expected},
    telegram::{
        self,
        sign_in::{Way, checkpoint::Checkpoint},
    },
    telemetry::metrics,
    tickets::Created,
};

/// Attempts at a row that others change at the same time.
const PENDS_MAX: u32 = 5;
/// How long a request keeps its repetitions waiting at most, should its process die.
const RESERVED_FOR: Duration = Duration::from_secs(60);
/// Between two looks whether the request was served.
const RESERVATION_POLL: Duration = Duration::from_millis(50);

/// Who serves a request that may come several times.
enum Reserved {
    Earlier(Box<Login>),
    /// `None` for a request without a name.
    Mine(Option<Reservation>),
}

/// The right to start what a request asks for, given back when dropped: by then there is a login to be found, or none.
struct Reservation {
    app: App,
    name: String,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let (app, name) = (self.app.clone(), std::mem::take(&mut self.name));
        self.app.0.tasks.spawn(async move {
            if let Err(error) = app.0.tickets.forget_use(&name).await {
                tracing::debug!(error = %error, "A request stays reserved until its time is over");
            }
        });
    }
}

/// A login that was asked for.
#[derive(Debug)]
pub struct Start {
    pub key: SessionKey,
    /// What the account proves itself with.
    pub proof: Proof,
    /// Only this account may sign in; without it, the account of the session's first login.
    pub expected_user: Option<i64>,
    pub api_key_alias: Option<String>,
    pub device: Option<Device>,
    pub proxy: Option<Proxy>,
    pub request_id: Option<RequestId>,
    /// Set on the session when the login succeeds; others stay.
    pub labels: BTreeMap<String, String>,
}

/// What Telegram may ask to leave alone when a login of this kind is refused.
pub(in crate::app) fn what_to_pause(app: &App, login: &Login, number: Option<&Secret>) -> Paused {
    let number = number.and_then(PhoneNumber::of_digits);
    match number {
        Some(number) => Paused::Phone(app.0.vault.phone_hash(&number)),
        None => {
            let api_id = app.api_key(Some(&login.api_key_alias)).map_or(0, |(_, key)| key.api_id);
            Paused::Api(api_id, login.method)
        }
    }
}

/// The same, of a login that is about to begin.
fn what_a_refusal_pauses(app: &App, api_id: i32, proof: &Proof) -> Paused {
    match proof {
        Proof::Qr => Paused::Api(api_id, Method::Qr),
        Proof::Phone(number) => Paused::Phone(app.0.vault.phone_hash(number)),
        Proof::Bot(token) => Paused::Bot(token.bot_id().to_owned()),
    }
}

impl App {
    /// Starts a login, which supersedes an earlier one of the session, and answers once a code can be shown or given;
    /// for a bot, once it is over.
    ///
    /// # Errors
    /// `API_KEY_UNKNOWN`, `CUSTODY_LEGACY`, `RATE_LIMITED`, `LOGIN_BUDGET_EXHAUSTED`, and what Telegram, the store or
    /// the tickets refuse.
    ///
    /// # Cancel safety
    /// Dropped midway, the login goes on in its task, or housekeeping returns the row to its former state.
    pub async fn start_login(&self, caller: &Caller, request: Start) -> Result<Login, Error> {
        let app = self.clone();
        let begun = caller.clone();
        let method = request.proof.method();
        // Tracked, because a caller who hangs up between row and task would leave a login that nobody runs.
        let task = self.0.tasks.spawn(Box::pin(async move { app.begin(&begun, request).await }));
        let login = match task.await {
            Ok(login) => login?,
            Err(died) => {
                return Err(Error::new(Reason::Internal, "the login could not be started").caused_by(died));
            }
        };
        let wanted = |state: &State| match method {
            Method::Qr | Method::Phone => !matches!(state, State::Starting),
            Method::Bot => state.is_final(),
        };
        let shown = self.settled(caller, login, wanted).await?;
        match (&shown.state, shown.state.end()) {
            (State::Failed(_), Some(error)) => Err(error),
            _ => Ok(shown),
        }
    }

    async fn begin(&self, caller: &Caller, request: Start) -> Result<Login, Error> {
        if request.proxy.is_some() {
            return Err(telegram::Error::ProxyUnsupported.into());
        }
        let (alias, api_key) = self.api_key(request.api_key_alias.as_deref())?;
        let (alias, api_id) = (alias.to_owned(), api_key.api_id);
        let _reserved = match self.reserve(caller, &request).await? {
            Reserved::Earlier(login) => return Ok(*login),
            Reserved::Mine(reserved) => reserved,
        };
        self.0.running.require_room()?;
        let ticket = new_ticket();
        let tenure = if self.0.tickets.are_shared() { Tenure::Until(Instant::now()) } else { Tenure::Ever };
        let seat = Seat::take(self, &ticket, tenure)?;
        let way = self.way(&request).await?;
        let asked = Instant::now();
        let login = self.register(caller, &request, &ticket, (alias, api_id), &way).await?;
        if login.ticket == ticket {
            seat.announce(asked + ownership::FIRST_TENURE);
            let paused = what_a_refusal_pauses(self, api_id, &request.proof);
            self.0.tasks.spawn(login_task::run(self.clone(), login.clone(), way, paused, seat));
        }
        Ok(login)
    }

    /// How the attempt proves itself at Telegram. A session that was logged out before may sign in without a code.
    async fn way(&self, request: &Start) -> Result<Way, Error> {
        Ok(match &request.proof {
            Proof::Qr => Way::Qr,
            Proof::Bot(token) => Way::Bot { token: token.text().clone() },
            Proof::Phone(number) => Way::Phone {
                number: number.digits().clone(),
                future_auth_tokens: self.future_auth_tokens(&request.key).await,
            },
        })
    }

    /// Takes the login from the budgets it belongs to.
    async fn spend(&self, request: &Start, api_id: i32) -> Result<(), Error> {
        let limits = &self.0.settings.login_limits;
        let pauses = vec![what_a_refusal_pauses(self, api_id, &request.proof)];
        let mut budgets = vec![
            Budget { scope: Scope::Tenant(request.key.tenant.clone()), limit: limits.tenant },
            Budget { scope: Scope::Api(api_id), limit: limits.api_id },
        ];
        if let Proof::Phone(number) = &request.proof {
            let hash = self.0.vault.phone_hash(number);
            budgets.push(Budget { scope: Scope::Phone(hash), limit: limits.phone });
        }
        self.0.tickets.spend(&pauses, &budgets).await?.require()
    }

    /// The login that the same caller started by the same request before, or the right to start it: of repetitions that
    /// come at once one starts, and the others wait for it.
    async fn reserve(&self, caller: &Caller, request: &Start) -> Result<Reserved, Error> {
        let Some(id) = &request.request_id else { return Ok(Reserved::Mine(None)) };
        let same = Repeatable {
            id: id.clone(),
            subject: caller.subject.clone(),
            key: request.key.clone(),
            method: request.proof.method(),
        };
        loop {
            if let Some(login) = self.0.tickets.requested(&same).await? {
                if login.request_hash.as_ref() != Some(&self.request_hash(request)) {
                    return Err(Error::new(
                        Reason::RequestIdReused,
                        "the request_id started another login; make a new one",
                    ));
                }
                return Ok(Reserved::Earlier(Box::new(login)));
            }
            if self.0.tickets.use_once(&same.reservation(), RESERVED_FOR).await? {
                let reservation = Reservation { app: self.clone(), name: same.reservation() };
                return Ok(Reserved::Mine(Some(reservation)));
            }
            if Instant::now() + RESERVATION_POLL > caller.deadline {
                return Err(too_late());
            }
            tokio::time::sleep(RESERVATION_POLL).await;
        }
    }

    /// What the request asks for, so that its id is not taken for another's.
    fn request_hash(&self, request: &Start) -> String {
        let proof = match &request.proof {
            Proof::Qr => None,
            Proof::Phone(number) => Some(number.digits()),
            Proof::Bot(token) => Some(token.text()),
        };
        let device = request.device.as_ref().map(|device| format!("{device:?}")).unwrap_or_default();
        let expected = request.expected_user.map(i64::to_be_bytes);
        let expected = expected.as_ref().map_or(&[][..], |user| user);
        let alias = request.api_key_alias.as_deref().unwrap_or_default();
        let mut parts = vec![expected, alias.as_bytes(), device.as_bytes()];
        for (name, value) in &request.labels {
            parts.extend([name.as_bytes(), value.as_bytes()]);
        }
        self.0.vault.request_hash(proof, &parts)
    }

    /// Writes the row, then the ticket.
    async fn register(
        &self,
        caller: &Caller,
        request: &Start,
        ticket: &Ticket,
        (api_key_alias, api_id): (String, i32),
        way: &Way,
    ) -> Result<Login, Error> {
        let checkpoint = Checkpoint::before(way).to_bytes()?;
        let session = self.pend(caller, request, ticket, api_id).await?;
        let expected_user =
            request.expected_user.or(session.account.as_ref().map(|account| account.telegram_user_id));
        let login = Login {
            ticket: ticket.clone(),
            key: request.key.clone(),
            method: request.proof.method(),
            state: State::Starting,
            create_time: caller.now,
            expire_time: caller.now + self.0.settings.ticket_ttl,
            expected_user,
            api_key_alias,
            device: request.device.clone().unwrap_or_default(),
            subject: caller.subject.clone(),
            request_id: request.request_id.clone(),
            request_hash: request.request_id.as_ref().map(|_| self.request_hash(request)),
            labels: request.labels.clone(),
            migrated_to: None,
            code_delivery: None,
            password_request: None,
            resend_request: None,
            version: 0,
        };
        let ttl = self.0.settings.ticket_ttl + READABLE_AFTER;
        let created = match self.0.tickets.create(&login, Some(&checkpoint), session.revision, ttl).await {
            // It may have happened, and only the answer was lost.
            Err(error) if error.is_unavailable() => match self.0.tickets.get(ticket).await {
                Ok(Some(login)) => Ok(Created::New { login, superseded: None }),
                Ok(None) | Err(_) => Err(error),
            },
            created => created,
        };
        match created {
            Ok(Created::New { login, superseded }) => {
                if login.method == Method::Qr {
                    metrics::qr_login_started();
                }
                if let Some(old) = superseded {
                    // Not here: its owner notices within a second.
                    let _ = self.0.running.send(&old.hash(), Command::Supersede);
                }
                Ok(login)
            }
            Ok(Created::Late) => {
                // Its row names the newer one already.
                Err(Error::new(Reason::TicketSuperseded, text_of(Reason::TicketSuperseded)))
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

    /// Records in the session's row which login may write its outcome there. What others change at the same time is
    /// looked at again.
    async fn pend(
        &self,
        caller: &Caller,
        request: &Start,
        ticket: &Ticket,
        api_id: i32,
    ) -> Result<Session, Error> {
        let mut spent = false;
        for _ in 0..PENDS_MAX {
            let change = self.pending(caller, request, ticket).await?;
            // After what refuses the login anyway, before anything is written.
            if !std::mem::replace(&mut spent, true) {
                self.spend(request, api_id).await?;
            }
            match self.commit(caller, change).await {
                Err(store::Error::RevisionStale { .. } | store::Error::AlreadyExists) => {}
                done => return Ok(done?),
            }
        }
        Err(Error::new(Reason::StoreConflict, "the session changes too often at the moment; try again")
            .retry_after(Duration::from_secs(1)))
    }

    async fn pending(&self, caller: &Caller, request: &Start, ticket: &Ticket) -> Result<Change, Error> {
        let key = &request.key;
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
            let event = match request.proof.method() {
                Method::Qr => Event::QrStarted,
                Method::Phone | Method::Bot => Event::CodeStarted,
            };
            let started = session.apply(event, caller.now)?;
            events.push(NewEvent::transition(started, &caller.subject));
        }
        session.login_ticket = Some(ticket.hash());
        session.login_owner = Some(self.0.tickets.replica().clone());
        Ok(Change { expected, events, ..Change::of(session) })
    }
}

fn legacy_owns_it() -> Error {
    Error::new(
        Reason::CustodyLegacy,
        "the legacy system owns this session; take custody first, after the legacy system stopped using it",
    )
}
