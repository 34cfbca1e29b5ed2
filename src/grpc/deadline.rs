//! The end of every call: DEADLINE_EXCEEDED for single answers and streams alike.
//!
//! tonic's own timeout answers CANCELLED and forgets a stream once its headers are out.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Response};
use http_body::Frame;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, body::Body};

use crate::{
    domain::error::Error,
    grpc::{policy::Allowance, status},
};

/// tonic arms its own timer from the same header, outside of ours; the answer must be the first of the two, also on a
/// machine that is busy: a fiftieth of the time, within these bounds.
const EARLY_MIN: Duration = Duration::from_millis(3);
const EARLY_MAX: Duration = Duration::from_millis(20);

/// The end of a call that starts now, from the caller's wish and the method's allowance.
pub(crate) fn end(headers: &HeaderMap, allowance: Allowance) -> Instant {
    let wish = headers.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse);
    let span = match wish {
        None => allowance.default,
        Some(wish) if wish <= allowance.max => wish.saturating_sub((wish / 50).clamp(EARLY_MIN, EARLY_MAX)),
        Some(_) => allowance.max,
    };
    Instant::now() + span
}

/// `1H`, `2M`, `3S`, `4m`, `5u` or `6n`: at most eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let unit = text.chars().last().filter(char::is_ascii)?;
    let digits = &text[..text.len() - 1];
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(number * 3600)),
        'M' => Some(Duration::from_secs(number * 60)),
        'S' => Some(Duration::from_secs(number)),
        'm' => Some(Duration::from_millis(number)),
        'u' => Some(Duration::from_micros(number)),
        'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Runs the call until its end. What must finish beyond it runs in tasks of its own.
pub(crate) async fn bound<E>(
    end: Instant,
    call: impl Future<Output = Result<Response<Body>, E>>,
) -> Result<Response<Body>, E> {
    match tokio::time::timeout_at(end, call).await {
        Ok(answer) => answer,
        Err(_elapsed) => Ok(Status::from(status::deadline_exceeded()).into_http()),
    }
}

/// A stream that ends with its deadline, or when the replica stops.
pub(crate) struct Bounded {
    body: Body,
    sleep: Pin<Box<Sleep>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    over: bool,
    /// Whatever the stream occupies until it ends.
    _held: Box<dyn Send + 'static>,
}

impl Bounded {
    pub(crate) fn new(body: Body, end: Instant, stop: CancellationToken, held: impl Send + 'static) -> Self {
        Self {
            body,
            sleep: Box::pin(tokio::time::sleep_until(end)),
            stop: Box::pin(stop.cancelled_owned()),
            over: false,
            _held: Box::new(held),
        }
    }

    fn end_with(&mut self, error: Error) -> Poll<Option<Result<Frame<bytes::Bytes>, Status>>> {
        self.over = true;
        let mut trailers = HeaderMap::new();
        let status = Status::from(error);
        match status.add_header(&mut trailers) {
            Ok(()) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Err(status) => Poll::Ready(Some(Err(status))),
        }
    }
}

impl http_body::Body for Bounded {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        // What is ready goes out first: the last step of a login must not lose to the clock. But a stream that
        // is always ready must not outlive its end either, so the timer is looked at after one frame at most.
        if self.sleep.deadline() > Instant::now()
            && let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx)
        {
            return Poll::Ready(frame);
        }
        if self.sleep.as_mut().poll(cx).is_ready() {
            return self.end_with(status::deadline_exceeded());
        }
        if self.stop.as_mut().poll(cx).is_ready() {
            return self.end_with(status::draining());
        }
        Poll::Pending
    }

    /// A refusal has no body, which its headers must say: some clients take anything after them for a broken stream.
    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    const ALLOWANCE: Allowance = Allowance { default: Duration::from_secs(10), max: Duration::from_secs(60) };

    fn wish(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().expect("a header"));
        headers
    }

    #[test]
    fn wishes_are_read_as_the_protocol_writes_them() {
        assert_eq!(parse("2S"), Some(Duration::from_secs(2)));
        assert_eq!(parse("150m"), Some(Duration::from_millis(150)));
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "S", "-1S", "1", "1s", "100000000S", "1 S", "1ж"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_wish_beyond_the_allowance_is_capped() {
        let span = |headers: HeaderMap| {
            let before = Instant::now();
            let end = end(&headers, ALLOWANCE);
            (end - before).as_secs_f64().round()
        };
        assert_eq!(span(HeaderMap::new()), 10.0);
        assert_eq!(span(wish("5S")), 5.0);
        assert_eq!(span(wish("9H")), 60.0);
        assert_eq!(span(wish("nonsense")), 10.0);
    }

    #[tokio::test]
    async fn a_call_that_never_answers_ends_with_deadline_exceeded() {
        let end = Instant::now() + Duration::from_millis(20);
        let never = std::future::pending::<Result<Response<Body>, std::convert::Infallible>>();
        let answer = bound(end, never).await.expect("an answer");
        let status = Status::from_header_map(answer.headers()).expect("a status");
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    }

    fn silent() -> Body {
        let first = Frame::data(bytes::Bytes::from_static(b"x"));
        let frames = futures::StreamExt::chain(
            futures::stream::iter([Ok::<_, Status>(first)]),
            futures::stream::pending(),
        );
        Body::new(StreamBody::new(frames))
    }

    async fn trailers_of(mut body: Bounded) -> (usize, Option<Status>) {
        let mut frames = 0;
        while let Some(Ok(frame)) = body.frame().await {
            if let Some(trailers) = frame.trailers_ref() {
                return (frames, Status::from_header_map(trailers));
            }
            frames += 1;
        }
        (frames, None)
    }

    #[tokio::test]
    async fn a_refusal_ends_with_its_headers() {
        let end = Instant::now() + Duration::from_secs(3600);
        let refusal = Status::not_found("no").into_http::<Body>();
        let body = Bounded::new(refusal.into_body(), end, CancellationToken::new(), ());
        assert!(http_body::Body::is_end_stream(&body));
        assert!(!http_body::Body::is_end_stream(&Bounded::new(silent(), end, CancellationToken::new(), ())));
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_deadline() {
        let end = Instant::now() + Duration::from_millis(20);
        let (frames, status) = trailers_of(Bounded::new(silent(), end, CancellationToken::new(), ())).await;
        assert_eq!(frames, 1);
        assert_eq!(status.map(|status| status.code()), Some(tonic::Code::DeadlineExceeded));
    }

    #[tokio::test]
    async fn a_stream_ends_when_the_replica_stops() {
        let stop = CancellationToken::new();
        stop.cancel();
        let end = Instant::now() + Duration::from_secs(3600);
        let (frames, status) = trailers_of(Bounded::new(silent(), end, stop, ())).await;
        assert_eq!(frames, 1);
        assert_eq!(status.map(|status| status.code()), Some(tonic::Code::Unavailable));
    }
}
