//! Use cases: what callers ask for, decided by the domain and carried out by the adapters.
//!
//! Names no framework of the edges; takes and returns domain types.

pub mod access;
mod clock;
pub mod custody;
pub mod endings;
pub mod export;
pub mod feature;
mod fingerprints;
pub mod health;
pub mod housekeeping;
pub mod import;
pub mod leases;
pub mod login_task;
pub mod logins;
pub mod mirror;
pub mod ownership;
mod replace;
mod running;
pub mod sessions;
mod tokens;
pub mod validation;
pub mod validator;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use clock::now;

use crate::{
    domain::{
        budget::Limit,
        caller::Caller,
        error::{Error, Reason},
        id::{LeaseId, SessionKey, Ticket, TicketHash},
        material::Material,
        session::{Environment, Session},
        time::Timestamp,
    },
    store::{self, Change, MaterialChange, Store},
    telegram::{ApiKey, Telegram},
    telemetry::metrics,
    tickets::Tickets,
    vault::Vault,
};

/// What an operator may choose about the use cases.
#[derive(Clone, Debug)]
pub struct Settings {
    pub environment: Environment,
    /// The span of a lease whose request names none.
    pub lease_ttl: Duration,
    /// The longest pause between two renewals that holders are advised to make.
    pub lease_heartbeat: Duration,
    /// How long a login may take, from start to end.
    pub ticket_ttl: Duration,
    /// The api_id/api_hash pairs by alias; never empty.
    pub api_keys: BTreeMap<String, ApiKey>,
    /// The alias for requests that name none.
    pub api_key_default: String,
    /// Logins that may run in this process at once.
    pub logins_max: usize,
    /// How many logins may be started, across replicas.
    pub login_limits: LoginLimits,
    /// When sessions are looked at without being asked about.
    pub validation: validator::Schedule,
    /// Where files are kept current for the legacy system; `None` keeps none.
    pub mirror: Option<mirror::Plan>,
}

/// The budgets of logins.
#[derive(Clone, Copy, Debug)]
pub struct LoginLimits {
    pub phone: Limit,
    pub api_id: Limit,
    pub tenant: Limit,
}

/// The service itself, without its edges. Clones share one service.
#[derive(Clone, Debug)]
pub struct App(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    tickets: Tickets,
    telegram: Telegram,
    vault: Vault,
    settings: Settings,
    running: running::Running,
    /// Owns every task a use case leaves behind.
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Cancelled when this replica begins to stop: whoever follows something here is to go elsewhere.
    draining: CancellationToken,
    /// Pending rows without a living login, and since when.
    suspects: Mutex<Suspects>,
    /// Log-outs of sessions that failed, and when they are tried again.
    rests: Mutex<HashMap<SessionKey, housekeeping::Rest>>,
    /// Those who wait here for sessions that are lent.
    wakes: leases::Wakes,
    /// Leases that streams of this process hold.
    held: leases::Held,
    /// Off: legacy owns the sessions and nothing is lent. What housekeeping last read; a grant asks the database.
    enabled: AtomicBool,
    started: Timestamp,
}

/// Rows and the logins they wait for.
type Suspects = HashMap<(SessionKey, Option<TicketHash>), Instant>;

/// What the use cases work with.
#[derive(Debug)]
pub struct Adapters {
    pub store: Store,
    pub tickets: Tickets,
    pub telegram: Telegram,
    pub vault: Vault,
}

impl App {
    pub fn new(adapters: Adapters, settings: Settings) -> Self {
        let Adapters { store, tickets, telegram, vault } = adapters;
        let running = running::Running::new(settings.logins_max);
        Self(Arc::new(Inner {
            store,
            tickets,
            telegram,
            vault,
            settings,
            running,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            draining: CancellationToken::new(),
            suspects: Mutex::default(),
            rests: Mutex::default(),
            wakes: leases::Wakes::default(),
            held: leases::Held::default(),
            enabled: AtomicBool::new(true),
            started: now(),
        }))
    }

    /// Stops background work and logins, and waits until their tasks are done or `grace` is over.
    ///
    /// # Cancel safety
    /// Dropped midway, tasks go on ending by themselves.
    pub async fn stop(&self, grace: Duration) {
        self.0.draining.cancel();
        self.0.stop.cancel();
        self.0.tasks.close();
        if tokio::time::timeout(grace, self.0.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.0.tasks.len(), "Gave up waiting for tasks at shutdown");
        }
        self.0.store.close().await;
    }

    /// Cancelled when this replica begins to stop; whoever begins to stop it cancels it.
    pub fn draining(&self) -> CancellationToken {
        self.0.draining.clone()
    }

    /// The Telegram this service talks to.
    pub fn telegram(&self) -> Telegram {
        self.0.telegram.clone()
    }

    /// Writes a change and counts the moves it makes.
    async fn commit(&self, caller: &Caller, change: Change) -> Result<Session, store::Error> {
        let moves: Vec<_> = change.events.iter().filter_map(|event| event.transition).collect();
        // Boxed, so that the many futures that commit stay small.
        let session = Box::pin(self.0.store.commit(caller, change)).await?;
        moves.iter().for_each(metrics::session_moved);
        if session.lease.is_none() {
            self.0.wakes.freed(&session.key);
        }
        Ok(session)
    }

    /// Seals material as the session's next version, and notes on the session what everybody may know of it.
    fn seal(&self, session: &mut Session, material: &Material) -> Result<MaterialChange, Error> {
        session.material_version += 1;
        session.dc_id = Some(material.home_dc);
        session.fingerprint = self.fingerprint_of(material);
        let sealed =
            self.0.vault.seal(&session.key, &session.environment, session.material_version, material)?;
        Ok(MaterialChange::Replace(sealed))
    }

    fn is_enabled(&self) -> bool {
        self.0.enabled.load(Ordering::Relaxed)
    }

    fn api_key(&self, alias: Option<&str>) -> Result<(&str, &ApiKey), Error> {
        let alias = alias.unwrap_or(&self.0.settings.api_key_default);
        self.0.settings.api_keys.get_key_value(alias).map(|(alias, key)| (alias.as_str(), key)).ok_or_else(
            || {
                Error::new(
                    Reason::ApiKeyUnknown,
                    "no api_id and api_hash are configured under that alias; set TELEGRAM_API_ID_<ALIAS> and \
                 TELEGRAM_API_HASH_<ALIAS>",
                )
                .fact("alias", alias)
            },
        )
    }
}

/// The service acting for itself, with a deadline of its own.
fn as_service(subject: &str, limit: Duration) -> Caller {
    Caller::as_service(subject, now(), Instant::now() + limit)
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes
}

fn new_ticket() -> Ticket {
    Ticket::from_random(random())
}

fn new_lease_id() -> LeaseId {
    LeaseId::from_random(random())
}
