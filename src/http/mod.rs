//! The HTTP edge: health, readiness and metrics, and the Mini App: its page and its routes.
//!
//! Turns requests into the domain's types and back, and decides nothing about sessions.

pub mod miniapp;
mod page;

use std::{future::Future, sync::Arc};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

pub use self::page::page;
use crate::{app::health::Ready, telemetry::metrics::Exporter};

/// Tells whether calls can be served.
#[derive(Clone)]
pub struct Readiness {
    check: Arc<dyn Fn() -> BoxFuture<'static, Ready> + Send + Sync>,
    draining: CancellationToken,
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readiness").field("draining", &self.draining.is_cancelled()).finish_non_exhaustive()
    }
}

impl Readiness {
    /// `check` asks the service; once `draining` is cancelled the answer is no without asking.
    pub fn new<F, A>(check: F, draining: CancellationToken) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Ready> + Send + 'static,
    {
        Self { check: Arc::new(move || Box::pin(check())), draining }
    }

    pub async fn ask(&self) -> Ready {
        if self.draining.is_cancelled() { Ready::No } else { (self.check)().await }
    }
}

/// `/healthz` and `/readyz`.
pub fn probes(readiness: Readiness) -> Router {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(readiness)
}

/// `/metrics`, and the probes for those who watch from there.
pub fn metrics(exporter: Exporter, readiness: Readiness) -> Router {
    let metrics = Router::new().route("/metrics", get(render)).with_state(exporter);
    probes(readiness).merge(metrics)
}

/// The process answers.
async fn healthz() -> &'static str {
    "ok\n"
}

/// The service can serve: database reachable, migrations current, keys readable. Independent of Telegram.
async fn readyz(State(readiness): State<Readiness>) -> impl IntoResponse {
    match readiness.ask().await {
        Ready::Yes => (StatusCode::OK, "ready\n"),
        Ready::LendsNothing => (
            StatusCode::OK,
            "ready\ngrants disabled: FEATURE_UNIFIED_SESSION_MANAGER is off, nothing is lent\n",
        ),
        Ready::No => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}

async fn render(State(exporter): State<Exporter>) -> impl IntoResponse {
    ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], exporter.render())
}
