//! The same service inside another command's process: no socket, no background tasks, every call by the audited
//! caller `cli:<os user>`.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::{Error, app, edge, install_crypto};
use crate::{app::App, config::Config, grpc::auth::Authenticator};

/// Bytes under way between the command and the service.
const PIPE_LENGTH: usize = 256 * 1024;
/// How long the service may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A service that lives in this process.
#[derive(Debug)]
pub struct InProcess {
    channel: Channel,
    app: App,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    _lock: Option<app::DataLock>,
}

/// Starts the service for the commands of one user.
///
/// # Errors
/// As [`super::start`]; an embedded database that a server has open is refused.
pub async fn in_process(config: Config, user: &str) -> Result<InProcess, Error> {
    install_crypto();
    let endpoint = app::endpoint(&config.telegram.endpoint).await?.ok_or_else(|| Error::Endpoint {
        what: "the bundled sandbox runs inside `usm serve --sandbox`; speak to that with --server".to_owned(),
    })?;
    let (app, lock) = app::open(&config, endpoint).await?;
    let stop = CancellationToken::new();
    let authenticator = Authenticator::in_process(format!("cli:{user}"));
    let (routes, _health) = edge(&app, &config, authenticator, stop.clone()).build().await;
    let (client, server) = tokio::io::duplex(PIPE_LENGTH);
    let ended = stop.clone();
    let serving = tokio::spawn(async move {
        let incoming = tokio_stream::once(Ok::<_, std::io::Error>(server));
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
    Ok(InProcess { channel, app, stop, serving, _lock: lock })
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
    }
}
