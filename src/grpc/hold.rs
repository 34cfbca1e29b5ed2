//! `HoldLease`: one stream, one lease. The holder beats, the service renews and tells.
//!
//! Nothing runs beside the stream: dropped with its connection, it is a lease that is not renewed any more.

use std::time::{Duration, Instant};

use futures::stream::{self, BoxStream, StreamExt as _};
use tonic::{Status, Streaming};
use usm_client::v1::{self, hold_lease_request::Step as Said, hold_lease_response::Step as Told};

use super::{authenticated::Authenticated, convert, status};
use crate::{
    app::{
        App,
        leases::{
            Acquired,
            holding::{Beaten, Holding, Loss, News, Parting},
        },
    },
    domain::{caller::Caller, error::Error, lease::Drain},
};

/// How long the first message may take.
const FIRST_LIMIT: Duration = Duration::from_secs(10);
/// How long granting or attaching may take, beyond the wait that was asked for.
const BEGIN_LIMIT: Duration = Duration::from_secs(30);
/// How long a holder may stay after it was told that this replica stops.
const PARTING: Duration = Duration::from_secs(3);

pub(crate) type Responses = BoxStream<'static, Result<v1::HoldLeaseResponse, Status>>;

type Inbound = Streaming<v1::HoldLeaseRequest>;

/// The answers to a holder's stream.
pub(crate) fn responses(app: App, call: Authenticated, inbound: Inbound) -> Responses {
    let begin = State::Begin { app, call: Box::new(call) };
    stream::unfold((begin, inbound), |(state, mut inbound)| async move {
        let (answer, state) = match state {
            State::Begin { app, call } => Box::pin(begin_with(app, *call, &mut inbound)).await,
            State::Holding(hold) => Box::pin(hold.next(&mut inbound)).await?,
            State::Over => return None,
        };
        Some((answer.map_err(Status::from), (state, inbound)))
    })
    .boxed()
}

enum State {
    Begin { app: App, call: Box<Authenticated> },
    Holding(Box<Hold>),
    Over,
}

type Next = (Result<v1::HoldLeaseResponse, Error>, State);

struct Hold {
    holding: Holding,
    /// The end of the stream once this replica stops.
    parting: Option<Instant>,
}

async fn begin_with(app: App, call: Authenticated, inbound: &mut Inbound) -> Next {
    match first(app, call, inbound).await {
        Ok((answer, holding)) => (Ok(answer), State::Holding(Box::new(Hold { holding, parting: None }))),
        Err(error) => (Err(error), State::Over),
    }
}

async fn first(
    app: App,
    call: Authenticated,
    inbound: &mut Inbound,
) -> Result<(v1::HoldLeaseResponse, Holding), Error> {
    let said = match tokio::time::timeout(FIRST_LIMIT, inbound.message()).await {
        Ok(Ok(message)) => message.and_then(|message| message.step),
        Ok(Err(_)) => None,
        Err(_) => return Err(status::deadline_exceeded()),
    };
    match said {
        Some(Said::Acquire(request)) => {
            let (caller, acquire) = convert::lease::acquire(call, &request)?;
            let limited = until(&caller, acquire.wait + BEGIN_LIMIT);
            let Acquired { lease, material } = app.acquire_lease(&limited, acquire).await?;
            let holding = app.hold(&caller, lease);
            let material = convert::material::handout(material);
            Ok((told(&holding, Told::Granted(v1::Granted { material: Some(material) })), holding))
        }
        Some(Said::Attach(attach)) => {
            let (caller, id) = call.for_lease(&attach.lease_id)?;
            let holding = app.attach(&caller, &id, attach.epoch).await?;
            Ok((told(&holding, Told::Renewed(v1::Renewed { beat: 0 })), holding))
        }
        Some(Said::Beat(_) | Said::Release(_)) | None => {
            Err(Error::invalid("step", "must be acquire or attach in the first message"))
        }
    }
}

impl Hold {
    /// `None` ends the stream: the holder hung up.
    async fn next(mut self: Box<Self>, inbound: &mut Inbound) -> Option<Next> {
        loop {
            let parting = self.parting.unwrap_or_else(|| Instant::now() + PARTING);
            tokio::select! {
                news = self.holding.news() => return Some(self.tell(news)),
                said = inbound.message() => match said.ok().flatten().and_then(|message| message.step) {
                    Some(Said::Beat(beat)) => match Box::pin(self.beat(beat)).await {
                        Ok(Some(answer)) => return Some((Ok(answer), State::Holding(self))),
                        Ok(None) => {}
                        Err(news) => return Some(self.tell(news)),
                    },
                    Some(Said::Release(release)) => return Some(self.release(release).await),
                    Some(Said::Acquire(_) | Said::Attach(_)) => {
                        let error = Error::invalid("step", "must be beat or release after the first message");
                        return Some((Err(error), State::Over));
                    }
                    None => return None,
                },
                () = tokio::time::sleep_until(parting.into()), if self.parting.is_some() => {
                    return Some((Err(status::draining()), State::Over));
                }
            }
        }
    }

    /// `None` is no answer: the holder asks again, and counts nothing meanwhile.
    async fn beat(&mut self, beat: v1::HoldLeaseBeat) -> Result<Option<v1::HoldLeaseResponse>, News> {
        let activity = beat.last_activity_time.map(convert::time_given);
        match self.holding.beat(activity).await {
            Beaten::Renewed => Ok(Some(told(&self.holding, Told::Renewed(v1::Renewed { beat: beat.beat })))),
            Beaten::Told(news) => Err(news),
            Beaten::Unanswered(error) => {
                tracing::debug!(error.reason = ?error.reason, "A beat is not answered");
                Ok(None)
            }
        }
    }

    fn tell(mut self: Box<Self>, news: News) -> Next {
        match news {
            News::Draining { why, left } => {
                let (reason, left) = match why {
                    Parting::Drain(drain) => (drain_reason(drain), left),
                    Parting::Shutdown => {
                        self.parting = Some(Instant::now() + PARTING);
                        (v1::LeaseDrainReason::Shutdown, PARTING.min(left))
                    }
                };
                let draining =
                    v1::Draining { reason: reason.into(), deadline: Some(convert::duration(left)) };
                let mut lease = convert::lease::held(&self.holding.lease_now());
                if matches!(why, Parting::Drain(_)) {
                    lease.set_state(v1::LeaseState::Draining);
                }
                let answer =
                    v1::HoldLeaseResponse { lease: Some(lease), step: Some(Told::Draining(draining)) };
                (Ok(answer), State::Holding(self))
            }
            News::Lost(loss) => (Ok(lost(&self.holding, loss)), State::Over),
        }
    }

    async fn release(self: Box<Self>, release: v1::HoldLeaseRelease) -> Next {
        let answer = lost(&self.holding, Loss::Released);
        let how = convert::lease::release(release.connections_closed);
        (self.holding.release(how).await.map(|()| answer), State::Over)
    }
}

/// What was granted or extended just now, with its whole span: the holder counts from before it asked.
fn told(holding: &Holding, step: Told) -> v1::HoldLeaseResponse {
    v1::HoldLeaseResponse { lease: Some(convert::lease::held(holding.lease())), step: Some(step) }
}

fn lost(holding: &Holding, loss: Loss) -> v1::HoldLeaseResponse {
    let reason = match loss {
        Loss::Released => v1::LeaseLossReason::Released,
        Loss::EpochStale => v1::LeaseLossReason::EpochStale,
        Loss::Drained(Drain::Revoked) => v1::LeaseLossReason::Revoked,
        Loss::Drained(Drain::Evicted | Drain::Login) => v1::LeaseLossReason::Evicted,
        Loss::Expired => v1::LeaseLossReason::Expired,
    };
    let mut answer = told(holding, Told::Lost(v1::Lost { reason: reason.into() }));
    if let Some(lease) = &mut answer.lease {
        lease.ttl = None;
        lease.renew_after = None;
        lease.set_state(v1::LeaseState::Released);
    }
    answer
}

const fn drain_reason(drain: Drain) -> v1::LeaseDrainReason {
    match drain {
        Drain::Evicted => v1::LeaseDrainReason::Evicted,
        Drain::Login => v1::LeaseDrainReason::Login,
        Drain::Revoked => v1::LeaseDrainReason::Revoked,
    }
}

fn until(caller: &Caller, span: Duration) -> Caller {
    Caller { deadline: caller.deadline.min(Instant::now() + span), ..caller.clone() }
}
