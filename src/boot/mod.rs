//! Builds the service from its settings and runs it.
//!
//! May name everything. Starting and stopping have an order; both are written down here and nowhere else.

mod app;
mod edges;
mod in_process;
pub mod ports;
mod secrets;

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::ports::{Closing, Ports, Served};
pub use self::{
    app::DataLock,
    in_process::{InProcess, in_process},
    secrets::jwt_secret,
};
use crate::{
    app::{App, now, ownership::TakeOver},
    auth,
    config::{Config, DatabaseUrl},
    domain::{secret::Secret, time::Timestamp},
    http,
    shutdown::Signals,
    store, telemetry, tickets, vault,
};

/// How long finding the address of a configured host may take.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);
/// Kept for tasks after the calls' own grace period.
const TASKS_GRACE: Duration = Duration::from_secs(2);

/// Why the service does not start, with the way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the key ring cannot be used: {0}")]
    Keys(#[from] vault::KeyRingError),
    #[error("the token secret {} cannot be used: {source}", path.display())]
    Secret { path: PathBuf, source: io::Error },
    #[error("the folder {} cannot be made: {source}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("another process has {} open; speak to that server with --server, or stop it first", path.display())]
    InUse { path: PathBuf },
    #[error("the database cannot be used: {}", chain(.0))]
    Store(#[from] store::Error),
    #[error("the ticket store cannot be used: {0}")]
    Tickets(#[from] tickets::SetupError),
    #[error("the Telegram endpoint cannot be used: {what}")]
    Endpoint { what: String },
    #[cfg(feature = "sandbox")]
    #[error("the Telegram sandbox does not start: {}", chain(.0))]
    Sandbox(#[from] usm_sandbox::Error),
    #[error("{0}")]
    Start(#[from] crate::domain::error::Error),
    #[error("{}; name another address with --listen or --metrics-listen", chain(.0))]
    Ports(#[from] ports::Error),
    #[error("metrics cannot be counted: {0}")]
    Metrics(String),
    #[error("telemetry does not start: {}", chain(.0))]
    Telemetry(#[from] telemetry::Error),
    #[error("the server failed: {0}")]
    Serving(String),
    #[error("no token can be made: {0}")]
    Token(#[from] auth::OrderError),
}

/// A service that runs.
pub struct Server {
    app: App,
    config: Config,
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    shutdown: CancellationToken,
    serving: JoinHandle<Result<(), ports::Error>>,
    telemetry: telemetry::Telemetry,
    /// Last, because fields are dropped in order: the embedded database is closed before another may open it.
    _lock: Option<app::DataLock>,
    #[cfg(feature = "sandbox")]
    sandbox: Option<Bundled>,
}

/// The bundled sandbox and its file, which no other process may have.
#[cfg(feature = "sandbox")]
struct Bundled {
    sandbox: usm_sandbox::Sandbox,
    _lock: DataLock,
}

/// Keeps an embedded database to this process, such as while it is migrated. `None` for a database server.
///
/// # Errors
/// [`Error::InUse`] while another process has it, [`Error::Folder`].
pub fn lock_database(url: &DatabaseUrl) -> Result<Option<DataLock>, Error> {
    app::lock_database(url)
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Starts the service; returns once it answers.
///
/// # Errors
/// What keeps it from starting. Nothing is left running then.
pub async fn start(config: Config) -> Result<Server, Error> {
    install_crypto();
    let telemetry = telemetry::init(&config.telemetry)?;
    // Listen first: of two servers on one address the second must not touch the database.
    let ports = Ports::bind(config.listen.main, config.listen.metrics).await?;
    let told = |error: io::Error| Error::Serving(error.to_string());
    let (address, metrics_address) =
        (ports.main_address().map_err(told)?, ports.metrics_address().map_err(told)?);
    let exporter = telemetry::metrics::install().map_err(|error| Error::Metrics(error.to_string()))?;
    let lock = app::lock_database(&config.database.url)?;
    #[cfg(feature = "sandbox")]
    let (endpoint, sandbox) = endpoint(&config).await?;
    #[cfg(not(feature = "sandbox"))]
    let endpoint = endpoint(&config).await?;
    let authenticator = auth::Authenticator::new(
        &jwt_secret(&config)?,
        config.credentials.anon_key.as_ref(),
        config.credentials.service_role_key.as_ref(),
    );
    let app = app::open(&config, endpoint, app::Company::Alone).await?;
    app.keep_house();
    app.hand_over_sessions();
    app.keep_mirror();
    app.watch_leases();
    app.watch_over_sessions();
    app.share_logins(TakeOver::Yes);
    let (shutdown, draining) = <(CancellationToken, CancellationToken)>::default();
    let streams = app.draining();
    let (routes, health) = edges::grpc(&app, &config, authenticator.clone(), streams.clone()).build().await;
    let asked = app.clone();
    let readiness = http::Readiness::new(
        move || {
            let app = asked.clone();
            async move { app.ready().await }
        },
        draining.clone(),
    );
    let miniapp = http::miniapp::routes(edges::miniapp(&app, &config, authenticator, streams.clone()));
    let served = Served {
        grpc: routes,
        health,
        web: http::probes(readiness.clone()).merge(http::page()).merge(miniapp),
        metrics: metrics_address.map(|_| (http::metrics(exporter.clone(), readiness), exporter)),
        draining,
        stop_streams: streams,
    };
    let closing = Closing { delay: config.limits.shutdown_delay, grace: config.limits.shutdown_grace };
    let serving = tokio::spawn(ports.serve(served, shutdown.clone(), closing));
    Ok(Server {
        app,
        config,
        address,
        metrics_address,
        shutdown,
        serving,
        telemetry,
        _lock: lock,
        #[cfg(feature = "sandbox")]
        sandbox,
    })
}

impl Server {
    /// Where gRPC, gRPC-Web and HTTP are served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// The one line that tells where the service is.
    pub fn ready_line(&self) -> String {
        let metrics = self
            .metrics_address
            .map(|address| format!(", metrics http://{address}/metrics"))
            .unwrap_or_default();
        let info = self.app.info();
        format!(
            "usm {} serves http://{} ({}, {} tickets, telegram {}){metrics}",
            info.version, self.address, info.database, info.tickets, info.environment
        )
    }

    /// A token for everything, signed with this service's secret.
    ///
    /// # Errors
    /// [`Error::Token`], [`Error::Secret`].
    pub fn service_token(&self, subject: &str, ttl: Duration) -> Result<Secret, Error> {
        service_token(&jwt_secret(&self.config)?, subject, ttl, now())
    }

    /// The Telegram this service talks to, for a worker in the same program.
    pub fn telegram(&self) -> crate::telegram::Telegram {
        self.app.telegram()
    }

    #[cfg(feature = "sandbox")]
    pub fn sandbox_line(&self) -> Option<serde_json::Value> {
        self.sandbox.as_ref().map(|bundled| bundled.sandbox.ready_line())
    }

    #[cfg(feature = "sandbox")]
    pub fn sandbox_admin(&self) -> Option<SocketAddr> {
        self.sandbox.as_ref().map(|bundled| bundled.sandbox.admin())
    }

    /// Serves until a signal asks to stop, then stops in order. A second signal ends it at once.
    ///
    /// # Errors
    /// [`Error::Ports`] when the main port fails.
    pub async fn run(mut self, signals: &mut Signals) -> Result<(), Error> {
        let failed = tokio::select! {
            name = signals.next() => {
                tracing::info!(signal = name, "Stopping");
                None
            }
            ended = &mut self.serving => Some(ended),
        };
        match failed {
            Some(Ok(Ok(()))) => Err(Error::Serving("the main port ended by itself".to_owned())),
            Some(Ok(Err(error))) => Err(error.into()),
            Some(Err(died)) => Err(Error::Serving(died.to_string())),
            None => {
                tokio::select! {
                    () = self.stop() => {}
                    name = signals.next() => tracing::warn!(signal = name, "Ended before the stop was complete"),
                }
                Ok(())
            }
        }
    }

    /// The calls under way end first, then what they left running, then what all of it stands on.
    pub async fn stop(self) {
        self.shutdown.cancel();
        match self.serving.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("The main port failed at its end: {}", chain(&error)),
            Err(died) => tracing::warn!("The main port failed at its end: {died}"),
        }
        self.app.stop(TASKS_GRACE).await;
        #[cfg(feature = "sandbox")]
        if let Some(bundled) = self.sandbox {
            bundled.sandbox.stop().await;
        }
        self.telemetry.close().await;
    }
}

/// The token of whoever may read the secret that a server on this machine made.
pub fn local_token(config: &Config, user: &str) -> Option<String> {
    let secret = secrets::existing_jwt_secret(config)?;
    let token = service_token(&secret, &format!("cli:{user}"), Duration::from_secs(900), now()).ok()?;
    Some(token.expose_secret().to_owned())
}

fn service_token(secret: &Secret, subject: &str, ttl: Duration, now: Timestamp) -> Result<Secret, Error> {
    let order = auth::Order {
        role: auth::Role::ServiceRole,
        tenant: None,
        scopes: None,
        subject: Some(subject.to_owned()),
        ttl,
    };
    Ok(auth::issue(secret, &order, now)?)
}

/// One provider of cryptography for every TLS connection. A second call finds it installed, which is as good.
fn install_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[cfg(feature = "sandbox")]
async fn endpoint(config: &Config) -> Result<(crate::telegram::endpoint::Endpoint, Option<Bundled>), Error> {
    if let Some(endpoint) = app::endpoint(&config.telegram.endpoint).await? {
        return Ok((endpoint, None));
    }
    let persist = config.data_dir.join("sandbox.json");
    let lock = DataLock::take(&persist)?;
    let settings = usm_sandbox::Config { persist: Some(persist), ..usm_sandbox::Config::default() };
    let sandbox = usm_sandbox::Sandbox::start(settings).await?;
    let endpoint =
        crate::telegram::endpoint::Endpoint::sandbox(2, sandbox.dcs().clone(), &[sandbox.public_key_pem()])
            .map_err(|error| Error::Endpoint { what: error.to_string() })?;
    Ok((endpoint, Some(Bundled { sandbox, _lock: lock })))
}

#[cfg(not(feature = "sandbox"))]
async fn endpoint(config: &Config) -> Result<crate::telegram::endpoint::Endpoint, Error> {
    app::endpoint(&config.telegram.endpoint)
        .await?
        .ok_or_else(|| Error::Endpoint { what: "this build has no sandbox".to_owned() })
}

/// An error and its causes on one line.
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
