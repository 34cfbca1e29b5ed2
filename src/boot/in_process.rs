//! The same service inside another command's process: no socket, no background tasks, every call by the audited
//! caller `cli:<os user>`.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::{Error, app, edges, install_crypto};
use crate::{app::App, auth::Authenticator, config::Config};

/// Bytes under way between the command and the service.
const PIPE_LENGTH: usize = 256 * 1024;
/// How long the service may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A service that lives in this process.
pub struct InProcess {
    channel: Channel,
    app: App,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    #[cfg(feature = "sandbox")]
    sandbox: Option<super::Bundled>,
    _lock: Option<app::DataLock>,
}

impl std::fmt::Debug for InProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InProcess").finish_non_exhaustive()
    }
}

/// Starts the service for the commands of one user.
///
/// # Errors
/// As [`super::start`]; an embedded database that a server has open is refused.
pub async fn in_process(config: Config, user: &str) -> Result<InProcess, Error> {
    install_crypto();
    let lock = app::lock_database(&config.database.url)?;
    #[cfg(feature = "sandbox")]
    let (endpoint, sandbox) = super::endpoint(&config).await?;
    #[cfg(not(feature = "sandbox"))]
    let endpoint = super::endpoint(&config).await?;
    // On a database server the logins of running services are none of this process's business.
    let company = if lock.is_some() { app::Company::Alone } else { app::Company::Possible };
    let app = app::open(&config, endpoint, company).await?;
    let stop = CancellationToken::new();
    let authenticator = Authenticator::in_process(format!("cli:{user}"));
    let (routes, _health) = edges::grpc(&app, &config, authenticator, stop.clone()).build().await;
    let (client, server) = tokio::io::duplex(PIPE_LENGTH);
    let ended = stop.clone();
    let serving = tokio::spawn(async move {
        // Connections must not seem to be over after the one: the server would say goodbye on it.
        let incoming = tokio_stream::once(Ok::<_, std::io::Error>(server)).chain(tokio_stream::pending());
        let served = tonic::transport::Server::builder()
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, ended.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::debug!(error = %error, "The service in this process ended");
        }
    });
    let mut client = Some(client);
    let connector = tower::service_fn(move |_: http::Uri| {
        let taken = client.take();
        async move { taken.map(TokioIo::new).ok_or_else(|| std::io::Error::other("the one connection is taken")) }
    });
    let channel = Endpoint::from_static("http://in-process")
        .connect_with_connector(connector)
        .await
        .map_err(|error| Error::Serving(super::chain(&error)))?;
    Ok(InProcess {
        channel,
        app,
        stop,
        serving,
        #[cfg(feature = "sandbox")]
        sandbox,
        _lock: lock,
    })
}

impl InProcess {
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Ends the service after the calls under way.
    pub async fn stop(self) {
        drop(self.channel);
        self.stop.cancel();
        let mut serving = self.serving;
        if tokio::time::timeout(STOP_LIMIT, &mut serving).await.is_err() {
            serving.abort();
        }
        self.app.stop(STOP_LIMIT).await;
        #[cfg(feature = "sandbox")]
        if let Some(bundled) = self.sandbox {
            bundled.sandbox.stop().await;
        }
    }
}
