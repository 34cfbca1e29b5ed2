//! The fake's side of `HoldLease`: opens streams as a test tells it, answers what the holder says, and pushes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};
use usm_client::v1::{self, hold_lease_request::Step as Said, hold_lease_response::Step};

use crate::fake::{Answer, Call, Fake, lease};

type Pushes = mpsc::UnboundedSender<Result<v1::HoldLeaseResponse, Status>>;
pub(crate) type Heard = UnboundedReceiverStream<Result<v1::HoldLeaseResponse, Status>>;

/// What the fake knows of streams.
#[derive(Clone, Default)]
pub(crate) struct Streams {
    served: bool,
    /// What the next openings are answered with. `Grant` opens, as every further one.
    openings: Arc<Mutex<VecDeque<Answer>>>,
    /// What the next messages are answered with; every further one with 90 s.
    answers: Arc<Mutex<VecDeque<Answer>>>,
    open: Arc<Mutex<Vec<Pushes>>>,
}

impl Fake {
    /// Serves streams and answers each message with a grant of 90 s.
    pub(crate) fn streaming() -> Self {
        let mut fake = Self::default();
        fake.streams.served = true;
        fake
    }

    pub(crate) fn then_open(&self, openings: impl IntoIterator<Item = Answer>) {
        self.streams.openings.lock().unwrap().extend(openings);
    }

    pub(crate) fn then_hear(&self, answers: impl IntoIterator<Item = Answer>) {
        self.streams.answers.lock().unwrap().extend(answers);
    }

    /// Says something on every open stream, beside a lease of ten minutes.
    pub(crate) fn push(&self, step: Step) {
        self.push_about(lease(Duration::from_secs(600)), step);
    }

    pub(crate) fn push_about(&self, lease: v1::Lease, step: Step) {
        let response = v1::HoldLeaseResponse { lease: Some(lease), step: Some(step) };
        self.streams.open.lock().unwrap().retain(|stream| stream.send(Ok(response.clone())).is_ok());
    }

    pub(crate) fn push_draining(&self, reason: i32) {
        let deadline = prost_types::Duration::try_from(Duration::from_secs(10)).ok();
        self.push(Step::Draining(v1::Draining { reason, deadline }));
    }

    /// Ends every open stream: with a status, or as if all had been said.
    pub(crate) fn end_streams(&self, status: Option<Status>) {
        for stream in self.streams.open.lock().unwrap().drain(..) {
            if let Some(status) = &status {
                let _ = stream.send(Err(status.clone()));
            }
        }
    }

    pub(crate) async fn open_stream(
        &self,
        request: Request<Streaming<v1::HoldLeaseRequest>>,
    ) -> Result<Heard, Status> {
        self.record(Call { authorization: fake_authorization(&request), ..Call::now("hold") });
        if !self.streams.served {
            return Err(Status::unimplemented("the fake serves no streams"));
        }
        let opening = self.streams.openings.lock().unwrap().pop_front();
        match opening {
            None | Some(Answer::Grant(_)) => {}
            Some(Answer::Late(delay, _)) => tokio::time::sleep(delay).await,
            Some(Answer::Refuse(code, reason, retry_after)) => {
                return Err(refusal(code, reason, retry_after));
            }
            Some(Answer::Silence) => std::future::pending().await,
        }
        let (pushes, heard) = mpsc::unbounded_channel();
        self.streams.open.lock().unwrap().push(pushes.clone());
        // Weak: whoever ends the streams drops the last sender.
        let pushes = pushes.downgrade();
        let (fake, mut said) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(message)) = said.message().await {
                fake.hear(message, &pushes);
            }
            fake.record(Call::now("left"));
        });
        Ok(UnboundedReceiverStream::new(heard))
    }

    fn hear(&self, message: v1::HoldLeaseRequest, pushes: &mpsc::WeakUnboundedSender<Pushed>) {
        let (method, beat, activity) = match message.step {
            Some(Said::Attach(_)) => ("attach", 0, None),
            Some(Said::Beat(beat)) => ("beat", beat.beat, beat.last_activity_time),
            Some(Said::Acquire(_) | Said::Release(_)) | None => ("other", 0, None),
        };
        self.record(Call { beat, activity, ..Call::now(method) });
        let next = self.streams.answers.lock().unwrap().pop_front();
        let (delay, answer) = match next.unwrap_or(Answer::Grant(Duration::from_secs(90))) {
            Answer::Grant(ttl) => (Duration::ZERO, Ok(renewed(beat, ttl))),
            Answer::Late(delay, ttl) => (delay, Ok(renewed(beat, ttl))),
            Answer::Refuse(code, reason, retry_after) => {
                (Duration::ZERO, Err(refusal(code, reason, retry_after)))
            }
            Answer::Silence => return,
        };
        let pushes = pushes.clone();
        tokio::spawn(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            if let Some(pushes) = pushes.upgrade() {
                // A holder that has left hears nothing.
                let _ = pushes.send(answer);
            }
        });
    }
}

type Pushed = Result<v1::HoldLeaseResponse, Status>;

pub(crate) fn renewed(beat: i64, ttl: Duration) -> v1::HoldLeaseResponse {
    v1::HoldLeaseResponse { lease: Some(lease(ttl)), step: Some(Step::Renewed(v1::Renewed { beat })) }
}

pub(crate) fn refusal(code: Code, reason: &str, retry_after: Option<Duration>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "usm", []);
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    Status::with_error_details(code, "the fake refuses", details)
}

pub(crate) fn fake_authorization<T>(request: &Request<T>) -> String {
    let text = request.metadata().get("authorization").map(|text| text.to_str().unwrap().to_owned());
    text.unwrap_or_default()
}

impl Call {
    pub(crate) fn now(method: &'static str) -> Self {
        Self {
            method,
            at: Instant::now(),
            request_id: String::new(),
            connections_closed: false,
            authorization: String::new(),
            beat: 0,
            activity: None,
        }
    }
}
