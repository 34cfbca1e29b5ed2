//! One replica of the service: the calls of a holder, answered by the reference protocol over the shared row.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};
use usm_client::v1::{self, lease_service_server};
use usm_lease_proof::protocol::{
    Acquire, Ask, Granted, Holder, LeaseId, Millis, Place, Purpose, Release, Released, Renew, RequestId,
    Subject,
};

use crate::{
    chance::Chance,
    stream,
    world::{Inner, World},
};

/// How often a waiting call looks again.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(crate) struct Replica {
    pub(crate) world: World,
    pub(crate) chance: Chance,
    /// Whether it serves HoldLease.
    pub(crate) streams: bool,
}

impl Replica {
    /// One statement: it waits for its turn, is carried out at once, and its answer takes its time.
    pub(crate) async fn statement<T>(&self, decide: impl FnOnce(&mut Inner) -> T) -> Result<T, Status> {
        sleep(self.chance.span(0..40)).await;
        let decided = {
            let mut inner = self.world.lock();
            if !inner.reachable {
                return Err(refusal(Code::Unavailable, "STORE_UNAVAILABLE", None));
            }
            decide(&mut inner)
        };
        let slow = self.chance.percent(5);
        sleep(self.chance.span(if slow { 500..4_000 } else { 0..40 })).await;
        Ok(decided)
    }

    fn attempt(inner: &mut Inner, ask: &Ask) -> Result<Granted, Status> {
        let (now, rules) = (inner.now, inner.rules);
        match inner.session.acquire(ask, now, &rules) {
            Acquire::Granted(granted) => Ok(granted),
            Acquire::Busy { free_in } => Err(leased(free_in)),
            Acquire::Behind { .. } => Err(leased(0)),
            Acquire::NotLendable => Err(refusal(Code::FailedPrecondition, "SESSION_WRONG_STATE", None)),
        }
    }

    /// A place in the queue, and an attempt if it is the first one.
    fn look(inner: &mut Inner, ask: &Ask, until: Millis) -> Result<Granted, Status> {
        let (now, rules) = (inner.now, inner.rules);
        match inner.session.queue.enter(ask.lease_id, (until - now).max(0), now, &rules) {
            Place::After(0) => Self::attempt(inner, ask),
            Place::After(_) => Err(leased(0)),
            Place::None => Err(refusal(Code::ResourceExhausted, "WAIT_QUEUE_FULL", None)),
        }
    }

    /// The service's own look at the session, now and then: under a lease of its own, like anybody.
    pub(crate) async fn probe(self, name: String) {
        loop {
            sleep(self.chance.span(10_000..60_000)).await;
            let ask = Ask {
                lease_id: LeaseId(u128::from(self.chance.number())),
                holder: Holder(number(&name) as u32),
                subject: Subject(0),
                request_id: None,
                ttl: 10_000,
                purpose: Purpose::Probe,
                queued: false,
            };
            let begun = Instant::now();
            let Ok(Ok(granted)) = self.statement(|inner| Self::attempt(inner, &ask)).await else {
                continue;
            };
            // It leaves long before its lease ends, or does not begin.
            if begun.elapsed() < Duration::from_secs(5) {
                let connection = self.world.connect(format!("{name}#{}", granted.epoch));
                sleep(self.chance.span(100..3_000)).await;
                connection.close();
            }
            let end = |inner: &mut Inner| {
                inner.session.release(ask.lease_id, granted.epoch, ask.subject, Release::Closed)
            };
            // Not heard: it runs out.
            let _ = self.statement(end).await;
        }
    }
}

fn number(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn refusal(code: Code, reason: &str, retry_after: Option<Duration>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "usm", []);
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    Status::with_error_details(code, "the lease is refused", details)
}

fn leased(free_in: Millis) -> Status {
    let free_in = Duration::from_millis(free_in.unsigned_abs());
    refusal(Code::FailedPrecondition, "SESSION_LEASED", Some(free_in))
}

pub(crate) fn not_held() -> Status {
    refusal(Code::FailedPrecondition, "LEASE_NOT_HELD", None)
}

/// Whose credentials a call carries: here the bearer is the worker's name.
fn subject<T>(request: &Request<T>) -> Result<Subject, Status> {
    let bearer = request.metadata().get("authorization").and_then(|text| text.to_str().ok());
    let bearer = bearer.ok_or_else(|| Status::unauthenticated("no bearer"))?;
    Ok(Subject(number(bearer) as u32))
}

fn millis(span: Option<&prost_types::Duration>) -> Millis {
    span.map_or(0, |span| span.seconds * 1_000 + i64::from(span.nanos) / 1_000_000)
}

fn seconds(span: Millis) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(Duration::from_millis(span.unsigned_abs())).ok()
}

pub(crate) fn lease(granted: Granted, holder: &str) -> v1::Lease {
    v1::Lease {
        lease_id: granted.lease_id.0.to_string(),
        holder: holder.into(),
        epoch: granted.epoch,
        ttl: seconds(granted.ttl),
        renew_after: seconds(granted.ttl / 3),
        state: v1::LeaseState::Held.into(),
        ..Default::default()
    }
}

pub(crate) fn lease_id(text: &str) -> Result<LeaseId, Status> {
    text.parse().map(LeaseId).map_err(|_| not_held())
}

type Answered<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl lease_service_server::LeaseService for Replica {
    async fn acquire_lease(
        &self,
        request: Request<v1::AcquireLeaseRequest>,
    ) -> Answered<v1::AcquireLeaseResponse> {
        let subject = subject(&request)?;
        let message = request.into_inner();
        let request_id = u128::from(number(&message.request_id));
        let ask = Ask {
            lease_id: LeaseId(request_id << 32 | u128::from(subject.0)),
            holder: Holder(number(&message.holder) as u32),
            subject,
            request_id: Some(RequestId(request_id)),
            ttl: millis(message.ttl.as_ref()),
            purpose: Purpose::Lend,
            queued: true,
        };
        let wait = millis(message.wait.as_ref());
        let until = self.world.lock().now + wait;
        let give_up = Instant::now() + Duration::from_millis(wait.unsigned_abs());
        loop {
            let waits = wait > 0;
            let look = |inner: &mut Inner| {
                if waits { Self::look(inner, &ask, until) } else { Self::attempt(inner, &ask) }
            };
            match self.statement(look).await? {
                Ok(granted) => {
                    let (lease, material) = (lease(granted, &message.holder), v1::SessionMaterial::default());
                    let answer = v1::AcquireLeaseResponse { lease: Some(lease), material: Some(material) };
                    return Ok(Response::new(answer));
                }
                Err(refused) if Instant::now() >= give_up => {
                    self.statement(|inner| inner.session.queue.leave(ask.lease_id)).await?;
                    return Err(refused);
                }
                Err(_) => sleep(LOOK).await,
            }
        }
    }

    async fn renew_lease(&self, request: Request<v1::RenewLeaseRequest>) -> Answered<v1::RenewLeaseResponse> {
        let subject = subject(&request)?;
        let message = request.into_inner();
        let id = lease_id(&message.lease_id)?;
        let renewed =
            self.statement(|inner| inner.session.renew(id, message.epoch, subject, inner.now)).await?;
        match renewed {
            Renew::Renewed(granted) => {
                Ok(Response::new(v1::RenewLeaseResponse { lease: Some(lease(granted, "")) }))
            }
            Renew::NotHeld | Renew::NotLendable => Err(not_held()),
            Renew::EpochStale { .. } => Err(refusal(Code::Aborted, "LEASE_EPOCH_STALE", None)),
            Renew::Evicted => Err(refusal(Code::FailedPrecondition, "LEASE_DRAINING", None)),
        }
    }

    async fn release_lease(
        &self,
        request: Request<v1::ReleaseLeaseRequest>,
    ) -> Answered<v1::ReleaseLeaseResponse> {
        let subject = subject(&request)?;
        let message = request.into_inner();
        let id = lease_id(&message.lease_id)?;
        let how = if message.connections_closed { Release::Closed } else { Release::Unknown };
        match self.statement(|inner| inner.session.release(id, message.epoch, subject, how)).await? {
            Released::Done => {
                let lease = v1::Lease { epoch: message.epoch, ..Default::default() };
                Ok(Response::new(v1::ReleaseLeaseResponse { lease: Some(lease) }))
            }
            Released::NotHeld => Err(not_held()),
            Released::EpochStale { .. } => Err(refusal(Code::Aborted, "LEASE_EPOCH_STALE", None)),
        }
    }

    type HoldLeaseStream = ReceiverStream<Result<v1::HoldLeaseResponse, Status>>;

    async fn hold_lease(
        &self,
        request: Request<tonic::Streaming<v1::HoldLeaseRequest>>,
    ) -> Answered<Self::HoldLeaseStream> {
        if !self.streams {
            return Err(not_simulated());
        }
        let subject = subject(&request)?;
        let (say, said) = mpsc::channel(4);
        tokio::spawn(stream::hold(self.clone(), subject, request.into_inner(), say));
        Ok(Response::new(ReceiverStream::new(said)))
    }

    async fn save_session(&self, _: Request<v1::SaveSessionRequest>) -> Answered<v1::SaveSessionResponse> {
        Err(not_simulated())
    }

    async fn report_session(
        &self,
        _: Request<v1::ReportSessionRequest>,
    ) -> Answered<v1::ReportSessionResponse> {
        Err(not_simulated())
    }

    async fn get_lease(&self, _: Request<v1::GetLeaseRequest>) -> Answered<v1::GetLeaseResponse> {
        Err(not_simulated())
    }

    async fn list_leases(&self, _: Request<v1::ListLeasesRequest>) -> Answered<v1::ListLeasesResponse> {
        Err(not_simulated())
    }

    async fn evict_lease(&self, _: Request<v1::EvictLeaseRequest>) -> Answered<v1::EvictLeaseResponse> {
        Err(not_simulated())
    }
}

fn not_simulated() -> Status {
    Status::unimplemented("the simulation has no such call")
}
