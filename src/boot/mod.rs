//! Builds the service from its settings and runs it.
//!
//! May name everything. Starting and stopping have an order; both are written down here and nowhere else.

mod app;
mod in_process;
mod secrets;

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub use self::{
    in_process::{InProcess, in_process},
    secrets::jwt_secret,
};
use crate::{
    app::{App, now},
    config::{self, Config},
    domain::{secret::Secret, time::Timestamp},
    grpc::{self, auth},
    http,
    shutdown::Signals,
    store, telemetry, tickets, vault,
};

/// How long finding the address of a configured host may take.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);
/// Silent connections are asked whether they live, so that none of them holds up the end.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);
const KEEPALIVE_LIMIT: Duration = Duration::from_secs(10);
/// Streams that may run at once beside the calls.
const STREAMS_MAX: usize = 10_000;
/// Between two foldings of what the metrics gathered.
const FOLD_EVERY: Duration = Duration::from_secs(5);

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
    #[error("cannot listen on {address}: {source}; name another address with --listen or --metrics-listen")]
    Listen { address: SocketAddr, source: io::Error },
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
    health: grpc::Health,
    /// Ends streams.
    streams: CancellationToken,
    /// Ends the listeners.
    listeners: CancellationToken,
    serving: Vec<JoinHandle<Result<(), String>>>,
    telemetry: telemetry::Telemetry,
    /// Last, because fields are dropped in order: the embedded database is closed before another may open it.
    _lock: Option<app::DataLock>,
    #[cfg(feature = "sandbox")]
    sandbox: Option<usm_sandbox::Sandbox>,
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
    let listener = bind(config.listen.main).await?;
    let metrics_listener = match config.listen.metrics {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    #[cfg(feature = "sandbox")]
    let (endpoint, sandbox) = endpoint(&config).await?;
    #[cfg(not(feature = "sandbox"))]
    let endpoint = endpoint(&config).await?;
    let (app, lock) = app::open(&config, endpoint).await?;
    app.keep_house();
    let streams = CancellationToken::new();
    let listeners = CancellationToken::new();
    let authenticator = auth::Authenticator::new(
        &jwt_secret(&config)?,
        config.credentials.anon_key.as_ref(),
        config.credentials.service_role_key.as_ref(),
    );
    let (routes, health) = edge(&app, &config, authenticator, streams.clone()).build().await;
    let address = local_address(&listener)?;
    let metrics_address = metrics_listener.as_ref().map(local_address).transpose()?;
    let mut serving = vec![tokio::spawn(serve(listener, http::main(app.clone(), routes), listeners.clone()))];
    if let Some(listener) = metrics_listener {
        let exporter = telemetry.exporter();
        let router = http::metrics(app.clone(), exporter.clone());
        serving.push(tokio::spawn(serve(listener, router, listeners.clone())));
        serving.push(tokio::spawn(fold(exporter, listeners.clone())));
    }
    health.tell(grpc::Serving::Yes).await;
    Ok(Server {
        app,
        config,
        address,
        metrics_address,
        health,
        streams,
        listeners,
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
        let metrics = self.metrics_address.map(|address| format!(", metrics http://{address}/metrics")).unwrap_or_default();
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
        self.sandbox.as_ref().map(usm_sandbox::Sandbox::ready_line)
    }

    #[cfg(feature = "sandbox")]
    pub fn sandbox_admin(&self) -> Option<SocketAddr> {
        self.sandbox.as_ref().map(usm_sandbox::Sandbox::admin)
    }

    /// Serves until a signal asks to stop, then stops in order. A second signal ends it at once.
    ///
    /// # Errors
    /// [`Error::Serving`] when a listener fails.
    pub async fn run(mut self, signals: &mut Signals) -> Result<(), Error> {
        let failed = tokio::select! {
            name = signals.next() => {
                tracing::info!(signal = name, "Stopping");
                None
            }
            failed = first_end(&mut self.serving) => Some(failed),
        };
        tokio::select! {
            () = self.stop() => {}
            name = signals.next() => tracing::warn!(signal = name, "Ended before the stop was complete"),
        }
        match failed {
            Some(what) => Err(Error::Serving(what)),
            None => Ok(()),
        }
    }

    /// Not ready, then a moment for load balancers, then no more streams, then the calls under way, then the tasks.
    pub async fn stop(self) {
        let limits = &self.config.limits;
        self.health.tell(grpc::Serving::No).await;
        tokio::time::sleep(limits.shutdown_delay).await;
        self.streams.cancel();
        self.listeners.cancel();
        let deadline = tokio::time::Instant::now() + limits.shutdown_grace;
        for mut task in self.serving {
            if !task.is_finished() && tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                tracing::warn!("Gave up on calls that did not end in time");
                task.abort();
            }
        }
        self.app.stop(deadline.saturating_duration_since(tokio::time::Instant::now()).max(Duration::from_secs(1))).await;
        #[cfg(feature = "sandbox")]
        if let Some(sandbox) = self.sandbox {
            sandbox.stop().await;
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

fn edge(app: &App, config: &Config, authenticator: auth::Authenticator, stop: CancellationToken) -> grpc::Edge {
    grpc::Edge {
        app: app.clone(),
        authenticator,
        room: grpc::Room { requests_max: config.limits.requests_max, streams_max: STREAMS_MAX },
        message_size_max: config.limits.message_size_max,
        reflection: match config.listen.reflection {
            config::Reflection::Served => grpc::Reflection::Served,
            config::Reflection::Hidden => grpc::Reflection::Hidden,
        },
        facts: grpc::Facts {
            quiet_gap: config.leases.quiet_gap,
            ticket_ttl: config.logins.ticket_ttl,
            material_size_max: i64::try_from(crate::app::import::DATA_LENGTH_MAX).unwrap_or(i64::MAX),
        },
        cors_origins: config.listen.cors_origins.iter().filter_map(|origin| origin.parse().ok()).collect(),
        stop,
    }
}

/// One provider of cryptography for every TLS connection. A second call finds it installed, which is as good.
fn install_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[cfg(feature = "sandbox")]
async fn endpoint(
    config: &Config,
) -> Result<(crate::telegram::endpoint::Endpoint, Option<usm_sandbox::Sandbox>), Error> {
    if let Some(endpoint) = app::endpoint(&config.telegram.endpoint).await? {
        return Ok((endpoint, None));
    }
    let persist = config.data_dir.join("sandbox.json");
    secrets::private_folder(&persist)?;
    let settings = usm_sandbox::Config { persist: Some(persist), ..usm_sandbox::Config::default() };
    let sandbox = usm_sandbox::Sandbox::start(settings).await?;
    let endpoint = crate::telegram::endpoint::Endpoint::sandbox(2, sandbox.dcs().clone(), &[sandbox.public_key_pem()])
        .map_err(|error| Error::Endpoint { what: error.to_string() })?;
    Ok((endpoint, Some(sandbox)))
}

#[cfg(not(feature = "sandbox"))]
async fn endpoint(config: &Config) -> Result<crate::telegram::endpoint::Endpoint, Error> {
    app::endpoint(&config.telegram.endpoint)
        .await?
        .ok_or_else(|| Error::Endpoint { what: "this build has no sandbox".to_owned() })
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, Error> {
    listener.local_addr().map_err(|error| Error::Serving(error.to_string()))
}

async fn serve(listener: TcpListener, routes: tonic::service::Routes, stop: CancellationToken) -> Result<(), String> {
    tonic::transport::Server::builder()
        .accept_http1(true)
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_LIMIT))
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            tokio_stream::wrappers::TcpListenerStream::new(listener),
            stop.cancelled_owned(),
        )
        .await
        .map_err(|error| chain(&error))
}

async fn fold(exporter: telemetry::metrics::Exporter, stop: CancellationToken) -> Result<(), String> {
    loop {
        tokio::select! {
            () = tokio::time::sleep(FOLD_EVERY) => exporter.fold(),
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// What the first of the tasks to end has to say; none of them should.
async fn first_end(tasks: &mut [JoinHandle<Result<(), String>>]) -> String {
    let (ended, _, _) = futures::future::select_all(tasks.iter_mut()).await;
    match ended {
        Ok(Ok(())) => "a listener ended by itself".to_owned(),
        Ok(Err(what)) => what,
        Err(died) => died.to_string(),
    }
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
