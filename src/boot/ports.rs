//! The two ports: everything on the main one, metrics on a plain one of its own; and the order in which they close.

use std::{io, net::SocketAddr, time::Duration};

use axum::{Router, extract::Request, http::StatusCode, response::IntoResponse};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{self, Server, server::TcpIncoming},
};

use crate::{
    grpc::{self, Health, Serving},
    telemetry::metrics::Exporter,
};

/// How often a silent connection is asked whether it is still there. Without it a peer that went away while the
/// server stops would hold up the end.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls under way on one connection.
const STREAMS_PER_CONNECTION: u32 = 256;
/// How often histograms are folded together.
const FOLD_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}")]
    Bind {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the main port failed")]
    Main(#[source] transport::Error),
}

/// Listening sockets, before anybody answers on them.
#[derive(Debug)]
pub struct Ports {
    main: TcpListener,
    metrics: Option<TcpListener>,
}

/// How long the end may take.
#[derive(Clone, Copy, Debug)]
pub struct Closing {
    /// Between telling load balancers and refusing calls.
    pub delay: Duration,
    /// For calls under way.
    pub grace: Duration,
}

/// What answers on the ports.
#[derive(Debug)]
pub struct Served {
    pub grpc: Routes,
    pub health: Health,
    /// Pages and probes of the main port.
    pub web: Router,
    /// What the metrics port answers, and where it counts.
    pub metrics: Option<(Router, Exporter)>,
    /// Cancelled first: readiness turns to no.
    pub draining: CancellationToken,
    /// Cancelled next: streams end.
    pub stop_streams: CancellationToken,
}

impl Ports {
    /// # Errors
    /// An address that is taken or not of this machine.
    pub async fn bind(main: SocketAddr, metrics: Option<SocketAddr>) -> Result<Self, Error> {
        let main = listen(main).await?;
        let metrics = match metrics {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        Ok(Self { main, metrics })
    }

    /// Where the main port ended up; differs from what was asked for by the port 0.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn main_address(&self) -> io::Result<SocketAddr> {
        self.main.local_addr()
    }

    /// # Errors
    /// When the system does not tell.
    pub fn metrics_address(&self) -> io::Result<Option<SocketAddr>> {
        self.metrics.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// Serves until `shutdown` is cancelled and then closes in order: not ready, a delay for load balancers, streams
    /// ended, calls under way finished, and what is left after the grace dropped.
    ///
    /// # Errors
    /// When the main port fails while it should serve.
    ///
    /// # Cancel safety
    /// Dropped midway, connections are closed at once.
    pub async fn serve(
        self,
        served: Served,
        shutdown: CancellationToken,
        closing: Closing,
    ) -> Result<(), Error> {
        let Served { grpc, health, web, metrics, draining, stop_streams } = served;
        let end_of_metrics = CancellationToken::new();
        let watched = serve_metrics(self.metrics.zip(metrics), end_of_metrics.clone());

        let refuse = CancellationToken::new();
        let incoming = TcpIncoming::from(self.main).with_nodelay(Some(true));
        let main = Server::builder()
            .accept_http1(true)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .tcp_keepalive(Some(KEEPALIVE_INTERVAL))
            .max_concurrent_streams(Some(STREAMS_PER_CONNECTION))
            .add_routes(one_port(web, grpc))
            .serve_with_incoming_shutdown(incoming, refuse.clone().cancelled_owned());

        let close = async {
            shutdown.cancelled().await;
            draining.cancel();
            health.tell(Serving::No).await;
            tokio::time::sleep(closing.delay).await;
            stop_streams.cancel();
            refuse.cancel();
            tokio::time::sleep(closing.grace).await;
        };
        let serving = async {
            health.tell(Serving::Yes).await;
            let done = tokio::select! {
                // First, so that an end in time is not mistaken for one that took too long.
                biased;
                done = main => done.map_err(Error::Main),
                () = close => {
                    tracing::warn!("Dropped calls that were still under way after the grace period");
                    Ok(())
                }
            };
            end_of_metrics.cancel();
            done
        };
        let (done, ()) = tokio::join!(serving, watched);
        done
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Bind { address, source })
}

/// gRPC, gRPC-Web, pages and probes on one port. What nobody serves is told in the words of whoever asks.
fn one_port(web: Router, grpc: Routes) -> Routes {
    let app = web.merge(grpc.into_axum_router().reset_fallback()).fallback(nobody);
    Routes::from(app)
}

async fn nobody(request: Request) -> axum::response::Response {
    let kind = request.headers().get("content-type");
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        grpc::server::unknown_service().into_response()
    } else {
        StatusCode::NOT_FOUND.into_response()
    }
}

/// The metrics port, and the upkeep of what it shows.
async fn serve_metrics(port: Option<(TcpListener, (Router, Exporter))>, end: CancellationToken) {
    let Some((listener, (router, exporter))) = port else {
        return;
    };
    let fold = async {
        let mut tick = tokio::time::interval(FOLD_INTERVAL);
        loop {
            tick.tick().await;
            exporter.fold();
        }
    };
    // No graceful end: a scrape that is cut off is repeated by whoever scrapes.
    tokio::select! {
        () = end.cancelled() => {}
        () = fold => {}
        done = axum::serve(listener, router) => {
            if let Err(error) = done {
                tracing::error!("The metrics port failed: {error}");
            }
            end.cancelled().await;
        }
    }
}
