//! The one door to every route: room, the end of the call, its span and its count.
//!
//! Records the route and the status. Never a query, a header, a body or a peer.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures::FutureExt as _;
use http::{HeaderValue, header};
use http_body_util::BodyExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tracing::Instrument as _;

use super::{BODY_LENGTH_MAX, Edge, refusal::Refusal};
use crate::{
    app,
    domain::{
        error::{Error, Reason},
        time::Timestamp,
    },
    telemetry::{
        layer::web_span,
        metrics::{self, MiniAppRoute, Outcome},
    },
};

/// How long a body may take to come. It holds no place meanwhile, and nobody knows yet who sends it.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// When somebody who found no room should try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) edge: Edge,
    pub(super) route: MiniAppRoute,
}

/// A call that was let in.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// The one reading of the clock per call.
    pub(super) now: Timestamp,
    pub(super) deadline: std::time::Instant,
    pub(super) trace: String,
}

/// How long a route may take to begin its answer: the first two wait for Telegram.
const fn allowance(route: MiniAppRoute) -> Duration {
    match route {
        MiniAppRoute::Start | MiniAppRoute::Password => Duration::from_secs(60),
        MiniAppRoute::Status | MiniAppRoute::Events | MiniAppRoute::Cancel | MiniAppRoute::Callback => {
            Duration::from_secs(20)
        }
    }
}

/// The route's name in logs and traces.
pub(super) const fn path(route: MiniAppRoute) -> &'static str {
    match route {
        MiniAppRoute::Start => "/api/qr/start",
        MiniAppRoute::Status => "/api/qr/status",
        MiniAppRoute::Events => "/api/qr/events",
        MiniAppRoute::Password => "/api/qr/password",
        MiniAppRoute::Cancel => "/api/qr/cancel",
        MiniAppRoute::Callback => "/api/qr/callback",
    }
}

pub(super) async fn pass(State(door): State<Door>, request: Request, next: Next) -> Response {
    let Door { edge, route } = door;
    let (span, trace) = web_span(path(route), request.headers());
    let end = Instant::now() + allowance(route);
    let call = Call { now: app::now(), deadline: end.into_std(), trace };
    // Dropped with the future when the caller hangs up, which counts as failed.
    let mut counted = Counted { route, outcome: Outcome::Failed };
    let answer = async {
        let (mut request, _place) =
            match arrived(request).await.and_then(|it| Ok((it, place(&edge.0.requests)?))) {
                Ok(let_in) => let_in,
                Err(error) => return Refusal(error).into_response(),
            };
        request.extensions_mut().insert(call);
        let handled = AssertUnwindSafe(next.run(request)).catch_unwind();
        match tokio::time::timeout_at(end, handled).await {
            Ok(Ok(answer)) => answer,
            // The panic itself is in the log already, by the hook that telemetry sets.
            Ok(Err(_panic)) => {
                Refusal(Error::new(Reason::Internal, "the service failed on this call; its log tells more"))
                    .into_response()
            }
            Err(_elapsed) => {
                Refusal(Error::new(Reason::DeadlineExceeded, "not done in time; ask for the state"))
                    .into_response()
            }
        }
    };
    let mut answer = answer.instrument(span.clone()).await;
    span.record("http.response.status_code", answer.status().as_u16());
    if answer.status().is_success() {
        counted.outcome = Outcome::Ok;
    }
    // Codes and tokens are nobody's to keep.
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// The request with all of its body, or with more than a body may have: the handler refuses that to whom it knows.
///
/// # Errors
/// `ARGUMENT_INVALID` for a body that broke off, `DEADLINE_EXCEEDED` for one that takes too long.
async fn arrived(request: Request) -> Result<Request, Error> {
    let (head, mut body) = request.into_parts();
    let whole = async {
        let mut whole = Vec::new();
        while whole.len() <= BODY_LENGTH_MAX
            && let Some(frame) = body.frame().await
        {
            let frame = frame.map_err(|_| Error::invalid("body", "must come whole"))?;
            if let Some(data) = frame.data_ref() {
                whole.extend_from_slice(data);
            }
        }
        Ok::<_, Error>(whole)
    };
    match tokio::time::timeout(BODY_WITHIN, whole).await {
        Ok(whole) => Ok(Request::from_parts(head, Body::from(whole?))),
        Err(_elapsed) => {
            Err(Error::new(Reason::DeadlineExceeded, "the body did not come in time; send it again"))
        }
    }
}

/// Counts a call once, however it ends.
struct Counted {
    route: MiniAppRoute,
    outcome: Outcome,
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::miniapp_called(self.route, self.outcome);
    }
}

/// # Errors
/// `OVERLOADED` when all places are taken.
pub(super) fn place(room: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Error> {
    room.clone().try_acquire_owned().map_err(|_| {
        Error::new(Reason::Overloaded, "this replica serves as many calls as it can; try again")
            .retry_after(RETRY_AFTER)
    })
}
