//! The one door to every handler: the table of methods, room, credentials, and the end of the call.
//!
//! Nothing behind it has to ask whether a call is allowed; nothing before it knows what a call is about.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};

use crate::{
    app,
    auth::Authenticator,
    domain::error::{Error, Reason},
    grpc::{
        authenticated::Authenticated,
        deadline::{self, Bounded},
        policy::{self, Row, Serving, Shape, Who},
        status,
    },
    telemetry::layer::TraceId,
};

/// When somebody who found no room should try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How much is served at once.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Calls whose answer has not begun.
    pub requests_max: usize,
    /// Streams under way.
    pub streams_max: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct GateLayer {
    authenticator: Authenticator,
    requests: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    stop: CancellationToken,
}

impl GateLayer {
    /// `stop` ends streams when the replica does.
    pub(crate) fn new(authenticator: Authenticator, room: Room, stop: CancellationToken) -> Self {
        Self {
            authenticator,
            requests: Arc::new(Semaphore::new(room.requests_max)),
            streams: Arc::new(Semaphore::new(room.streams_max)),
            stop,
        }
    }

    /// What a call needs before its handler may see it.
    fn admit<B>(&self, request: &mut Request<B>) -> Result<Admitted, Error> {
        let row = policy::find(request.uri().path()).ok_or_else(status::unknown_method)?;
        let request_permit = room(&self.requests)?;
        let stream_permit = match row.shape {
            Shape::Unary => None,
            Shape::Stream | Shape::Held => Some(room(&self.streams)?),
        };
        let mut end = deadline::end(request.headers(), row.allowance);
        match row.who {
            Who::Open => {}
            Who::Anyone | Who::Scoped(_) => {
                // The one reading of the clock per call.
                let now = app::now();
                let credential = self.authenticator.authenticate(request.headers(), now)?;
                // What is followed for hours must not outlive the right to follow it.
                if let (Shape::Stream | Shape::Held, Some(expires)) =
                    (row.shape, credential.as_ref().and_then(|credential| credential.expires))
                {
                    end = end.min(tokio::time::Instant::now() + expires.since(now));
                }
                let trace = request.extensions().get::<TraceId>().map(|id| id.0.clone());
                let authenticated =
                    Authenticated::admit(credential, row, now, end.into_std(), trace.unwrap_or_default())?;
                request.extensions_mut().insert(authenticated);
            }
        }
        match row.serving {
            Serving::Served => {}
            // After the credentials: what is served and what is not looks alike to strangers.
            Serving::Later => return Err(status::later()),
        }
        Ok(Admitted { row, end, request_permit, stream_permit })
    }
}

struct Admitted {
    row: &'static Row,
    end: tokio::time::Instant,
    request_permit: OwnedSemaphorePermit,
    stream_permit: Option<OwnedSemaphorePermit>,
}

fn room(semaphore: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Error> {
    semaphore.clone().try_acquire_owned().map_err(|_| {
        Error::new(Reason::Overloaded, "this replica serves as many calls as it can; try again")
            .retry_after(RETRY_AFTER)
    })
}

#[derive(Clone, Debug)]
pub(crate) struct Gate<S> {
    inner: S,
    layer: GateLayer,
}

impl<S> tower::Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, layer: self.clone() }
    }
}

impl<S, B, R> tower::Service<Request<B>> for Gate<S>
where
    S: tower::Service<Request<B>, Response = Response<R>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Send + 'static,
    R: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    R::Error: Into<tonic::codegen::StdError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let admitted = match self.layer.admit(&mut request) {
            Ok(admitted) => admitted,
            Err(error) => {
                let answer = Status::from(error).into_http();
                return Box::pin(std::future::ready(Ok(answer)));
            }
        };
        // The service that was polled ready is the one to call.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let stop = self.layer.stop.clone();
        Box::pin(async move {
            let Admitted { row, end, request_permit, stream_permit } = admitted;
            let stop = match row.shape {
                Shape::Unary | Shape::Stream => stop,
                Shape::Held => CancellationToken::new(),
            };
            let call = async { Ok(told(inner.call(request).await?.map(Body::new))) };
            let answer = deadline::bound(end, call).await;
            drop(request_permit);
            match row.shape {
                Shape::Unary => answer,
                Shape::Stream | Shape::Held => answer
                    .map(|answer| answer.map(|body| Body::new(Bounded::new(body, end, stop, stream_permit)))),
            }
        })
    }
}

/// A message that is none, or too long, is refused before a handler sees it: it gets a reason here, like everything else.
fn told(answer: Response<Body>) -> Response<Body> {
    let Some(status) = Status::from_header_map(answer.headers()) else { return answer };
    if !status.details().is_empty() {
        return answer;
    }
    let message = status.message();
    let error = if message.contains("message length too large") {
        Error::new(Reason::MessageTooLarge, "the message is longer than this service takes or gives at once")
    } else if message.starts_with("failed to decode") {
        Error::invalid("message", "must be this method's message in the encoding of Protocol Buffers")
    } else {
        return answer;
    };
    Status::from(error).into_http()
}
