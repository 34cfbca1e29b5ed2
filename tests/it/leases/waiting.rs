//! When a session is free again.

use std::time::{Duration, Instant};

use usm_client::v1::{self, LeaseState};

use crate::support::{
    poll,
    world::{
        ANN, Plan, Shape, World, lease, on_both_shapes, on_both_shapes_at_once, pause, reason, refused,
        seconds, within,
    },
};

on_both_shapes!(
    an_unacknowledged_release_rests_as_if_the_lease_had_run_out,
    who_waits_gets_the_session_when_it_is_given_back,
);
on_both_shapes_at_once!(a_lease_nobody_renewed_ends_and_rests_before_the_next);

async fn an_unacknowledged_release_rests_as_if_the_lease_had_run_out(shape: Shape) {
    let world = World::planned(shape, Plan { quiet_gap: Duration::from_secs(2), ..Plan::default() }).await;
    world.lendable("bot", ANN).await;
    let (held, _) = world.lend("bot").await;
    let resting = world.release(&held, false).await.expect("released");
    assert_eq!(resting.state(), LeaseState::Quarantined);
    let busy = refused(world.acquire(lease("bot", "worker-2")).await);
    assert_eq!(reason(&busy), "SESSION_LEASED");
    // Whatever is still open was promised to close by the end of the lease.
    let told = pause(&busy).expect("when to ask again");
    assert!((Duration::from_secs(8)..=Duration::from_secs(12)).contains(&told), "{told:?}");
    let seen = world.session("bot").await.lease.expect("still shown");
    assert_eq!((seen.state(), seen.ttl.expect("set").seconds), (LeaseState::Quarantined, 0));
    assert_eq!(reason(&refused(world.renew(&held).await)), "LEASE_NOT_HELD");

    world.release(&held, true).await.expect("closed in the end");
    let (next, _) = world.lend("bot").await;
    assert!(next.epoch > held.epoch);
    world.stop().await;
}

async fn a_lease_nobody_renewed_ends_and_rests_before_the_next(shape: Shape) {
    let world = World::planned(shape, Plan { quiet_gap: Duration::from_secs(1), ..Plan::default() }).await;
    world.lendable("bot", ANN).await;
    let begun = Instant::now();
    let (held, _) = world.lend("bot").await;
    let request = v1::AcquireLeaseRequest { wait: seconds(15), ..lease("bot", "worker-2") };
    let next = world.acquire(request).await.expect("free in the end").lease.expect("a lease");
    assert!(begun.elapsed() >= Duration::from_secs(11), "ttl and gap: {:?}", begun.elapsed());
    assert!(next.epoch > held.epoch);
    for late in [world.renew(&held).await, world.release(&held, true).await] {
        let reason = reason(&refused(late));
        assert!(["LEASE_NOT_HELD", "LEASE_EPOCH_STALE"].contains(&reason.as_str()), "{reason}");
    }
    world.renew(&next).await.expect("the present holder is not disturbed");
    world.stop().await;
}

async fn who_waits_gets_the_session_when_it_is_given_back(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let (held, _) = world.lend("bot").await;
    let mut leases = world.leases.clone();
    let request = v1::AcquireLeaseRequest { wait: seconds(60), ..lease("bot", "worker-2") };
    let waiting = tokio::spawn(async move { leases.acquire_lease(request).await });
    let begun = Instant::now();
    let short = v1::AcquireLeaseRequest { wait: seconds(60), ..lease("bot", "worker-3") };
    let late = refused(world.leases.clone().acquire_lease(within(1, short)).await);
    assert_eq!(reason(&late), "SESSION_LEASED", "the deadline of the call bounds the wait");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(!waiting.is_finished());
    world.release(&held, true).await.expect("released");
    poll::until("the waiting worker has it", || async { waiting.is_finished().then_some(()) }).await;
    let next = waiting.await.expect("no panic").expect("granted").into_inner().lease.expect("a lease");
    assert_eq!(next.holder, "worker-2");
    world.stop().await;
}
