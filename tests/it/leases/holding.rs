//! Leases that live as long as their stream beats.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use usm_client::v1::{
    self, LeaseDrainReason, LeaseLossReason, LeaseState, SessionState, hold_lease_request::Step as Say,
    hold_lease_response::Step as Told, report_session_request::Answer,
};

use crate::support::{
    poll,
    world::{
        ANN, Shape, TENANT, World, lease, on_both_shapes, on_both_shapes_at_once, reason, refused, seconds,
    },
};

on_both_shapes!(
    a_stream_is_granted_renewed_and_released,
    a_lease_is_taken_into_a_stream,
    an_evicted_holder_is_told_without_asking,
    a_holder_is_told_that_the_session_ended,
    a_broken_stream_is_no_renewal_and_nothing_else,
    a_stream_begins_with_a_lease,
    a_replica_that_stops_sends_its_holders_elsewhere,
);
on_both_shapes_at_once!(a_stream_that_does_not_beat_loses_its_lease);

const PATIENCE: Duration = Duration::from_secs(20);

/// A holder's stream.
pub(super) struct Stream {
    say: mpsc::Sender<v1::HoldLeaseRequest>,
    hear: Streaming<v1::HoldLeaseResponse>,
}

impl Stream {
    pub(super) async fn open<S>(world: &World<S>, first: Say) -> Self {
        let (say, messages) = mpsc::channel(16);
        say.send(v1::HoldLeaseRequest { step: Some(first) }).await.expect("room");
        let hear = world.leases.clone().hold_lease(ReceiverStream::new(messages)).await;
        Self { say, hear: hear.expect("a stream").into_inner() }
    }

    async fn say(&self, step: Say) {
        self.say.send(v1::HoldLeaseRequest { step: Some(step) }).await.expect("the stream is open");
    }

    pub(super) async fn beat(&self, beat: i64) {
        self.say(Say::Beat(v1::HoldLeaseBeat { beat, last_activity_time: None })).await;
    }

    async fn next(&mut self) -> Result<Option<v1::HoldLeaseResponse>, Status> {
        tokio::time::timeout(PATIENCE, self.hear.message()).await.expect("an answer in time")
    }

    pub(super) async fn told(&mut self) -> (v1::Lease, Told) {
        let answer = self.next().await.expect("no refusal").expect("a message");
        (answer.lease.expect("a lease"), answer.step.expect("a step"))
    }

    async fn is_over(&mut self) -> bool {
        matches!(self.next().await, Ok(None))
    }
}

fn attach(lease: &v1::Lease) -> Say {
    Say::Attach(v1::HoldLeaseAttach { lease_id: lease.lease_id.clone(), epoch: lease.epoch })
}

async fn a_stream_is_granted_renewed_and_released(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let mut stream = Stream::open(&world, Say::Acquire(lease("bot", "worker-1"))).await;
    let (held, granted) = stream.told().await;
    let Told::Granted(v1::Granted { material: Some(material) }) = granted else { panic!("{granted:?}") };
    assert!(!material.data.is_empty() && !held.lease_id.is_empty());
    assert_eq!(reason(&refused(world.acquire(lease("bot", "worker-2")).await)), "SESSION_LEASED");
    for number in 1..=20 {
        stream.beat(number).await;
        let (renewed, step) = stream.told().await;
        assert_eq!(step, Told::Renewed(v1::Renewed { beat: number }));
        assert_eq!(
            (renewed.epoch, renewed.ttl, renewed.lease_id.clone()),
            (held.epoch, seconds(10), held.lease_id.clone())
        );
    }
    stream.say(Say::Release(v1::HoldLeaseRelease { connections_closed: true })).await;
    let (_, step) = stream.told().await;
    assert_eq!(step, Told::Lost(v1::Lost { reason: LeaseLossReason::Released.into() }));
    assert!(stream.is_over().await);
    let (next, _) = world.lend("bot").await;
    assert_eq!(next.epoch, held.epoch + 1);
    world.stop().await;
}

async fn a_lease_is_taken_into_a_stream(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let (held, _) = world.lend("bot").await;
    let mut stream = Stream::open(&world, attach(&held)).await;
    let (attached, step) = stream.told().await;
    assert_eq!(step, Told::Renewed(v1::Renewed { beat: 0 }));
    assert_eq!((attached.epoch, &attached.lease_id), (held.epoch, &held.lease_id));

    let other = v1::Lease { lease_id: "0".repeat(32), ..held.clone() };
    let older = v1::Lease { epoch: held.epoch + 1, ..held.clone() };
    for (lease, expected) in [(other, "LEASE_NOT_HELD"), (older, "LEASE_EPOCH_STALE")] {
        let refusal = refused(Stream::open(&world, attach(&lease)).await.next().await);
        assert_eq!(reason(&refusal), expected);
    }
    stream.beat(1).await;
    assert_eq!(stream.told().await.1, Told::Renewed(v1::Renewed { beat: 1 }));
    world.stop().await;
}

async fn an_evicted_holder_is_told_without_asking(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let mut stream = Stream::open(&world, Say::Acquire(lease("bot", "worker-1"))).await;
    let (held, _) = stream.told().await;
    let evict = v1::EvictLeaseRequest {
        tenant_id: TENANT.to_owned(),
        app_id: "bot".to_owned(),
        epoch: held.epoch + 1,
        ..Default::default()
    };
    let other = refused(world.leases.clone().evict_lease(evict.clone()).await);
    assert_eq!(reason(&other), "LEASE_EPOCH_STALE");
    let evict = v1::EvictLeaseRequest { epoch: held.epoch, ..evict };
    world.leases.clone().evict_lease(evict).await.expect("evicted");
    let begun = Instant::now();
    let (draining, step) = stream.told().await;
    let Told::Draining(told) = step else { panic!("{step:?}") };
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!((told.reason(), draining.state()), (LeaseDrainReason::Evicted, LeaseState::Draining));
    assert!(told.deadline.is_some_and(|left| (1..=10).contains(&left.seconds)), "{:?}", told.deadline);
    stream.beat(1).await;
    assert!(matches!(stream.told().await.1, Told::Draining(_)), "a beat extends nothing any more");
    stream.say(Say::Release(v1::HoldLeaseRelease { connections_closed: true })).await;
    assert!(matches!(stream.told().await.1, Told::Lost(_)));
    world.lend("bot").await;
    world.stop().await;
}

async fn a_holder_is_told_that_the_session_ended(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let mut stream = Stream::open(&world, Say::Acquire(lease("bot", "worker-1"))).await;
    let (held, _) = stream.told().await;
    let error =
        v1::TelegramError { code: 406, message: "AUTH_KEY_DUPLICATED".to_owned(), ..Default::default() };
    let report = v1::ReportSessionRequest {
        lease_id: held.lease_id.clone(),
        epoch: held.epoch,
        answer: Some(Answer::Error(error)),
        ..Default::default()
    };
    world.leases.clone().report_session(report).await.expect("reported");
    let (_, step) = stream.told().await;
    let Told::Draining(told) = step else { panic!("{step:?}") };
    assert_eq!(told.reason(), LeaseDrainReason::Revoked);
    assert_eq!(world.session("bot").await.state(), SessionState::Revoked);
    world.stop().await;
}

async fn a_broken_stream_is_no_renewal_and_nothing_else(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let mut stream = Stream::open(&world, Say::Acquire(lease("bot", "worker-1"))).await;
    let (held, _) = stream.told().await;
    drop(stream);
    assert_eq!(reason(&refused(world.acquire(lease("bot", "worker-2")).await)), "SESSION_LEASED");
    world.renew(&held).await.expect("the lease is its holder's still");
    let mut again = Stream::open(&world, attach(&held)).await;
    assert_eq!(again.told().await.1, Told::Renewed(v1::Renewed { beat: 0 }));
    world.stop().await;
}

async fn a_stream_begins_with_a_lease(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let beat = Say::Beat(v1::HoldLeaseBeat::default());
    let refusal = refused(Stream::open(&world, beat).await.next().await);
    assert_eq!((refusal.code(), reason(&refusal).as_str()), (Code::InvalidArgument, "ARGUMENT_INVALID"));
    let foreign = v1::AcquireLeaseRequest { tenant_id: "globex".to_owned(), ..lease("bot", "thief") };
    let refusal = refused(Stream::open(&world, Say::Acquire(foreign)).await.next().await);
    assert_eq!(reason(&refusal), "SESSION_NOT_FOUND");

    let mut stream = Stream::open(&world, Say::Acquire(lease("bot", "worker-1"))).await;
    let (held, _) = stream.told().await;
    stream.say(attach(&held)).await;
    assert_eq!(reason(&refused(stream.next().await)), "ARGUMENT_INVALID", "one stream, one lease");
    world.stop().await;
}

async fn a_replica_that_stops_sends_its_holders_elsewhere(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let mut stream = Stream::open(&world, Say::Acquire(lease("bot", "worker-1"))).await;
    stream.told().await;
    let begun = Instant::now();
    let stopping = tokio::spawn(world.stop());
    let (_, step) = stream.told().await;
    let Told::Draining(told) = step else { panic!("{step:?}") };
    assert_eq!(told.reason(), LeaseDrainReason::Shutdown);
    stream.beat(1).await;
    assert_eq!(stream.told().await.1, Told::Renewed(v1::Renewed { beat: 1 }), "the lease itself goes on");
    assert_eq!(reason(&refused(stream.next().await)), "SERVICE_DRAINING");
    stopping.await.expect("stopped");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

async fn a_stream_that_does_not_beat_loses_its_lease(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let mut stream = Stream::open(&world, Say::Acquire(lease("bot", "worker-1"))).await;
    let (held, _) = stream.told().await;
    let (_, step) = stream.told().await;
    assert_eq!(step, Told::Lost(v1::Lost { reason: LeaseLossReason::Expired.into() }));
    assert!(stream.is_over().await);
    assert_eq!(reason(&refused(world.renew(&held).await)), "LEASE_NOT_HELD");
    poll::until("the gap is over", || async { world.acquire(lease("bot", "worker-2")).await.ok() }).await;
    world.stop().await;
}
