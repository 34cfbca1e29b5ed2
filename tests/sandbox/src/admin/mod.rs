//! The admin interface: JSON over HTTP, so that any language can drive a sandbox.
//!
//! Bodies are read as JSON whatever their content type says. Unknown members are refused, so that a typing error in a
//! test does not pass for success.

mod faults;
mod keys;
mod logins;
mod observe;
mod parse;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::shared::Shared;

/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// The answer to an admin call.
type Outcome = Result<axum::Json<Value>, Failure>;

/// Why an admin call changed nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The request does not make sense.
    Bad(String),
    /// It makes sense, but not in the present state.
    Conflict(String),
}

impl Failure {
    fn bad(text: impl Into<String>) -> Self {
        Self::Bad(text.into())
    }

    fn conflict(text: impl Into<String>) -> Self {
        Self::Conflict(text.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Bad(text) => (StatusCode::BAD_REQUEST, text),
            Self::Conflict(text) => (StatusCode::CONFLICT, text),
        };
        (status, axum::Json(json!({ "error": text }))).into_response()
    }
}

/// Answers admin calls until the sandbox stops.
pub(crate) async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    let router = routes(shared.clone());
    let ended = {
        let shared = shared.clone();
        async move { shared.stopping.cancelled().await }
    };
    // Not graceful: a keep-alive connection of a test must not hold up the end.
    tokio::select! {
        served = axum::serve(listener, router) => if let Err(error) = served {
            tracing::error!(error = &error as &dyn std::error::Error, "sandbox admin interface ended");
        },
        () = ended => {}
    }
}

fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/state", get(observe::state))
        .route("/public_key", get(keys::public_key))
        .route("/users", get(users::list).post(users::put))
        .route("/user_state", post(users::set_state))
        .route("/scan", post(logins::scan))
        .route("/codes", get(logins::codes))
        .route("/tokens", get(logins::tokens))
        .route("/mint", post(keys::mint))
        .route("/keys", get(keys::list))
        .route("/revoke", post(keys::revoke))
        .route("/kick", post(keys::kick))
        .route("/fault", post(faults::order))
        .route("/faults_clear", post(faults::clear))
        .route("/push", post(logins::push))
        .route("/calls", get(observe::calls))
        .route("/conns", get(observe::conns))
        .route("/events", get(observe::events))
        .route("/calls_clear", post(observe::clear))
        .route("/config", post(observe::config))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(shared)
}

async fn unknown(State(_): State<Arc<Shared>>, request: Request) -> Response {
    let text = format!("no call {} {}", request.method(), request.uri().path());
    (StatusCode::NOT_FOUND, axum::Json(json!({ "error": text }))).into_response()
}

/// Makes sure that a change is on the disk before the caller is told of it.
async fn saved(shared: &Shared, answer: Value) -> Outcome {
    let revision = shared.world().revision;
    if let Some(keeper) = &shared.keeper
        && !keeper.saved(revision).await
    {
        return Err(Failure::conflict("the change is made but could not be written to the persist file"));
    }
    Ok(axum::Json(answer))
}
