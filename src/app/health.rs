//! How the service and what it depends on are doing.

use std::time::{Duration, Instant};

use super::{App, as_service};
use crate::domain::{caller::Caller, time::Timestamp};

/// How long a dependency may take to answer before it counts as down.
const CHECK_LIMIT: Duration = Duration::from_secs(1);

const GRANTS_OFF: &str =
    "FEATURE_UNIFIED_SESSION_MANAGER is off: nothing is lent, and custody goes to the legacy system";
const TICKETS_DOWN: &str = "no login can be started until the ticket store answers";

/// The whole picture.
#[derive(Debug)]
pub struct Health {
    /// Whether calls are served; Telegram being away does not change that.
    pub ready: bool,
    /// Whether anything is lent, as the database says now.
    pub enabled: bool,
    pub dependencies: Vec<Dependency>,
}

#[derive(Debug)]
pub struct Dependency {
    pub name: &'static str,
    pub state: Condition,
    /// How long the check took, if it was answered.
    pub latency: Option<Duration>,
    pub detail: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Up,
    Down,
    /// Switched off by an operator.
    Off,
}

/// Whether calls can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    Yes,
    /// They can, and nothing is lent: the feature is off.
    LendsNothing,
    No,
}

/// What this process is.
#[derive(Debug)]
pub struct Info {
    pub version: &'static str,
    pub environment: String,
    /// `postgres` or `sqlite`.
    pub database: &'static str,
    /// `redis` or `memory`.
    pub tickets: &'static str,
    pub start_time: Timestamp,
    /// Whether anything is lent at all.
    pub enabled: bool,
    /// Whether sessions are looked at without being asked about.
    pub validates: bool,
}

impl App {
    /// Asks every dependency, at most a second each and all at once.
    pub async fn health(&self, _caller: &Caller) -> Health {
        let deadline = Instant::now() + CHECK_LIMIT;
        let (store, tickets, telegram) = tokio::join!(
            timed(async { self.refresh_feature(&as_service("health", CHECK_LIMIT)).await.is_ok() }),
            timed(async { self.0.tickets.ping(deadline).await.is_ok() }),
            timed(async { self.0.telegram.reachable(deadline).await.is_ok() }),
        );
        let ready = store.0;
        let enabled = self.is_enabled();
        let grants = Dependency {
            name: "grants",
            state: if enabled { Condition::Up } else { Condition::Off },
            latency: None,
            detail: if enabled { "" } else { GRANTS_OFF },
        };
        let dependencies = vec![
            grants,
            dependency("store", store, "no session can be read, lent or changed until the database answers"),
            dependency("tickets", tickets, self.0.tickets.trouble().unwrap_or(TICKETS_DOWN)),
            dependency("telegram", telegram, "logins and validations wait until Telegram can be reached"),
        ];
        Health { ready, enabled, dependencies }
    }

    /// Whether calls can be served: the store answers. Independent of Telegram.
    pub async fn ready(&self) -> Ready {
        match self.refresh_feature(&as_service("health", CHECK_LIMIT)).await {
            Ok(()) if self.is_enabled() => Ready::Yes,
            Ok(()) => Ready::LendsNothing,
            Err(_) => Ready::No,
        }
    }

    pub fn info(&self) -> Info {
        Info {
            version: env!("CARGO_PKG_VERSION"),
            environment: self.0.settings.environment.as_str().to_owned(),
            database: self.0.store.backend().name(),
            tickets: self.0.tickets.name(),
            start_time: self.0.started,
            enabled: self.is_enabled(),
            validates: self.0.settings.validation.interval.is_some(),
        }
    }

    /// The caller under which a command of this program acts in its own process.
    pub fn local_caller(&self, user: &str, limit: Duration) -> Caller {
        as_service(&format!("cli:{user}"), limit)
    }
}

async fn timed(check: impl Future<Output = bool>) -> (bool, Duration) {
    let begun = Instant::now();
    let up = check.await;
    (up, begun.elapsed())
}

fn dependency(name: &'static str, (up, took): (bool, Duration), when_down: &'static str) -> Dependency {
    if up {
        Dependency { name, state: Condition::Up, latency: Some(took), detail: "" }
    } else {
        Dependency { name, state: Condition::Down, latency: None, detail: when_down }
    }
}
