//! Watches calls from the outside: one span and one count for each, whatever becomes of it.
//!
//! Records the method, the code and the time. Never an argument, a header or a peer.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use opentelemetry::{propagation::Extractor, trace::TraceContextExt as _};
use tonic::{Code, Status, body::Body};
use tracing::{Instrument as _, Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::telemetry::metrics;

/// Puts a span around each call and counts its answer.
#[derive(Clone, Copy, Debug)]
pub struct ObserveLayer {
    /// The name of a path in logs and metrics, from a closed table.
    pub method_of: fn(&str) -> &'static str,
}

#[derive(Clone, Debug)]
pub struct Observe<S> {
    inner: S,
    method_of: fn(&str) -> &'static str,
}

/// Names a call in logs and traces, also for those who have no collector: 32 hexadecimal digits.
#[derive(Clone, Debug)]
pub struct TraceId(pub String);

impl<S> tower::Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe { inner, method_of: self.method_of }
    }
}

impl<S, B, R> tower::Service<Request<B>> for Observe<S>
where
    S: tower::Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    R::Error: Into<tonic::codegen::StdError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let method = (self.method_of)(request.uri().path());
        let (span, trace) = span(method, request.headers());
        request.extensions_mut().insert(TraceId(trace));
        let answered = Answered { method, start: Instant::now(), span: span.clone(), told: false };
        let call = span.in_scope(|| self.inner.call(request));
        Box::pin(
            async move {
                // Dropped with the future when the caller hangs up, which counts as CANCELLED.
                let mut answered = answered;
                let response = call.await?;
                if let Some(code) = code_in(response.headers()) {
                    answered.tell(code);
                }
                Ok(response.map(|body| Body::new(Watched { body: Body::new(body), answered })))
            }
            .instrument(span),
        )
    }
}

fn span(method: &'static str, headers: &HeaderMap) -> (Span, String) {
    let span = tracing::info_span!(
        "rpc",
        otel.name = method,
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.method = method,
        rpc.grpc.status = Empty,
        trace.id = Empty,
    );
    let trace = continue_trace(&span, headers);
    (span, trace)
}

/// The span around a call of a page or of its back end, and the name of the call in logs and traces.
pub fn web_span(route: &'static str, headers: &HeaderMap) -> (Span, String) {
    let span = tracing::info_span!(
        "http",
        otel.name = route,
        otel.kind = "server",
        http.route = route,
        http.response.status_code = Empty,
        trace.id = Empty,
    );
    let trace = continue_trace(&span, headers);
    (span, trace)
}

/// Takes over the caller's trace context, and names the trace on the span.
fn continue_trace(span: &Span, headers: &HeaderMap) -> String {
    let parent =
        opentelemetry::global::get_text_map_propagator(|propagator| propagator.extract(&Headers(headers)));
    let given = parent.span().span_context().trace_id();
    // Without a collector there is no layer to take the parent, and nothing is lost by that.
    let _untraced = span.set_parent(parent);
    let own = span.context().span().span_context().trace_id();
    let trace = [own, given]
        .into_iter()
        .find(|id| *id != opentelemetry::TraceId::INVALID)
        .map_or_else(|| uuid::Uuid::new_v4().simple().to_string(), |id| id.to_string());
    span.record("trace.id", trace.as_str());
    trace
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// The code in headers or trailers; `None` where there is none yet.
fn code_in(headers: &HeaderMap) -> Option<Code> {
    Status::from_header_map(headers).map(|status| status.code())
}

/// The count that every call gets exactly once.
struct Answered {
    method: &'static str,
    start: Instant,
    span: Span,
    told: bool,
}

impl Answered {
    fn tell(&mut self, code: Code) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let took = self.start.elapsed();
        metrics::rpc_answered(self.method, code_name(code), took);
        self.span.record("rpc.grpc.status", code_name(code));
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.span.in_scope(|| {
            tracing::debug!(duration_ms, "Answered {} with {}", self.method, code_name(code));
        });
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.tell(Code::Cancelled);
    }
}

/// An answer that tells its code when it ends.
struct Watched {
    body: Body,
    answered: Answered,
}

impl http_body::Body for Watched {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, Status>>> {
        let span = self.answered.span.clone();
        let _entered = span.enter();
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(code) = frame.trailers_ref().and_then(code_in) {
                    self.answered.tell(code);
                }
            }
            Some(Err(status)) => self.answered.tell(status.code()),
            None => self.answered.tell(Code::Ok),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// The code as the gRPC specification writes it.
pub const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
