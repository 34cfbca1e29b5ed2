//! The stream that keeps a lease: attaches, beats, and hears what the service says in between.
//!
//! A beat counts only when its own answer comes, and from before it was sent. A stream that is silent, breaks or says
//! what nobody asked extends nothing and ends nothing. At most one beat is unanswered.

use prost_types::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::loss::Loss;
use super::renewal::{Renewal, Reopening};
use crate::v1::{self, hold_lease_request::Step as Say, hold_lease_response::Step};
use crate::{Refusal, v1::LeaseDrainReason};

/// Messages that wait to be sent; one more means that nobody takes them.
const UNSENT_MAX: usize = 2;

/// How a stream was left.
pub(super) enum Left {
    /// The lease is over or must not be used any more.
    Over(Loss),
    /// The replica stops; another one goes on with the lease.
    Shutdown,
    /// The service does not know streams.
    Unserved,
    /// It broke, was refused or fell silent.
    Broken(Refusal),
}

impl From<Status> for Left {
    fn from(status: Status) -> Self {
        let refusal = Refusal::from(status);
        if refusal.names_end_of_lease() {
            Self::Over(Loss::Refused(Box::new(refusal)))
        } else if refusal.code == Code::Unimplemented {
            Self::Unserved
        } else {
            Self::Broken(refusal)
        }
    }
}

/// An open stream.
struct Stream<'a> {
    renewal: &'a Renewal,
    say: mpsc::Sender<v1::HoldLeaseRequest>,
    hear: Streaming<v1::HoldLeaseResponse>,
    /// Number of the last beat; 0 is `attach`.
    beat: i64,
    /// The beat whose answer is awaited.
    asked: Option<Asked>,
}

struct Asked {
    sent: Instant,
    /// An answer later than this is not waited for.
    until: Instant,
    activity: Option<Timestamp>,
}

impl Renewal {
    /// Opens a stream and keeps the lease over it until it is of no use any more.
    pub(super) async fn hold_open(&self, reopening: &mut Reopening) -> Left {
        match self.attach().await {
            Ok(mut stream) => {
                let left = stream.follow(reopening).await;
                self.activity.put_back(stream.asked.and_then(|asked| asked.activity));
                left
            }
            Err(left) => left,
        }
    }

    async fn attach(&self) -> Result<Stream<'_>, Left> {
        let (say, said) = mpsc::channel(UNSENT_MAX);
        let attach = v1::HoldLeaseAttach { lease_id: self.hold.lease_id.to_string(), epoch: self.hold.epoch };
        let sent = Instant::now();
        let until = self.term().answer_by(sent);
        say.try_send(v1::HoldLeaseRequest { step: Some(Say::Attach(attach)) })
            .map_err(|_| Left::Broken(Refusal::timeout()))?;
        let mut leases = self.client.leases();
        // No deadline travels with it: it would end the stream in the middle of the lease.
        let opened = timeout_at(until, leases.hold_lease(ReceiverStream::new(said)))
            .await
            .map_err(|_| Left::Broken(Refusal::timeout()))??;
        let asked = Some(Asked { sent, until, activity: None });
        Ok(Stream { renewal: self, say, hear: opened.into_inner(), beat: 0, asked })
    }
}

impl Stream<'_> {
    async fn follow(&mut self, reopening: &mut Reopening) -> Left {
        loop {
            let (term, now) = (self.renewal.term(), Instant::now());
            let until = match &self.asked {
                Some(asked) => asked.until,
                None if now >= term.renew_at => match self.say_beat(now) {
                    Ok(until) => until,
                    Err(left) => return left,
                },
                None => term.renew_at,
            };
            let heard = match timeout_at(until.min(term.lost_at), self.hear.message()).await {
                Ok(Ok(Some(response))) => self.take(response, reopening),
                Ok(Ok(None)) => Err(Left::Broken(Status::unavailable("the stream ended").into())),
                Ok(Err(status)) => Err(status.into()),
                // Time for the next beat, or too late for an answer.
                Err(_) => Ok(()),
            };
            if let Err(left) = heard {
                return left;
            }
            if self.asked.as_ref().is_some_and(|asked| Instant::now() >= asked.until) {
                return Left::Broken(Refusal::timeout());
            }
        }
    }

    /// Tells until when its answer is awaited.
    fn say_beat(&mut self, now: Instant) -> Result<Instant, Left> {
        let activity = self.renewal.activity.take();
        let asked = Asked { sent: now, until: self.renewal.term().answer_by(now), activity };
        let until = self.asked.insert(asked).until;
        self.beat += 1;
        let beat = v1::HoldLeaseBeat { last_activity_time: activity, beat: self.beat };
        self.say
            .try_send(v1::HoldLeaseRequest { step: Some(Say::Beat(beat)) })
            .map_err(|_| Left::Broken(Refusal::timeout()))?;
        Ok(until)
    }

    fn take(&mut self, response: v1::HoldLeaseResponse, reopening: &mut Reopening) -> Result<(), Left> {
        match response.step {
            Some(Step::Renewed(renewed)) if renewed.beat == self.beat => {
                let Some(asked) = &self.asked else { return Ok(()) };
                self.renewal.extend(asked.sent, response.lease).map_err(Left::Broken)?;
                self.asked = None;
                if self.beat > 0 {
                    reopening.served();
                }
                Ok(())
            }
            Some(Step::Draining(draining)) => Err(match draining.reason() {
                LeaseDrainReason::Shutdown => Left::Shutdown,
                reason @ (LeaseDrainReason::Unspecified
                | LeaseDrainReason::Evicted
                | LeaseDrainReason::Login
                | LeaseDrainReason::Revoked) => Left::Over(Loss::Draining(reason)),
            }),
            Some(Step::Lost(lost)) => Err(Left::Over(Loss::Ended(lost.reason()))),
            // An answer that nobody awaits, or a step that this version does not know.
            Some(Step::Renewed(_) | Step::Granted(_)) | None => Ok(()),
        }
    }
}
