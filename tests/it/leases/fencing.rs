//! Who may act on a lease: its holder, under its epoch, until somebody asks them to stop.

use tonic::Code;
use usm_client::v1::{self, LeaseState, lease_service_client::LeaseServiceClient};

use crate::support::{
    server::{Client, token_of},
    world::{ANN, Shape, TENANT, World, fact, lease, on_both_shapes, reason, refused},
};

on_both_shapes!(
    an_older_epoch_is_refused,
    nobody_else_can_renew_or_release_a_lease,
    an_evicted_holder_is_not_renewed_and_keeps_the_session_until_it_lets_go,
    a_release_is_idempotent_until_the_next_grant,
);

async fn an_older_epoch_is_refused(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let (held, _) = world.lend("bot").await;
    let older = v1::Lease { epoch: held.epoch - 1, ..held.clone() };
    for stale in [world.renew(&older).await, world.release(&older, true).await] {
        let stale = refused(stale);
        assert_eq!((stale.code(), reason(&stale).as_str()), (Code::Aborted, "LEASE_EPOCH_STALE"));
        assert_eq!(fact(&stale, "current_epoch"), Some(held.epoch.to_string()));
    }
    for id in ["", "0", &"0".repeat(32), &"z".repeat(32), &"a".repeat(4096)] {
        let unknown = v1::Lease { lease_id: (*id).to_owned(), ..held.clone() };
        for refusal in [world.renew(&unknown).await, world.release(&unknown, true).await] {
            assert_eq!(reason(&refused(refusal)), "LEASE_NOT_HELD");
        }
    }
    world.renew(&held).await.expect("the holder's own still stands");
    world.stop().await;
}

async fn as_somebody(leases: &LeaseServiceClient<Client>, held: &v1::Lease) -> [tonic::Status; 2] {
    let (lease_id, epoch) = (held.lease_id.clone(), held.epoch);
    let renewal = v1::RenewLeaseRequest { lease_id: lease_id.clone(), epoch, ..Default::default() };
    let release = v1::ReleaseLeaseRequest { lease_id, epoch, connections_closed: true, ..Default::default() };
    let mut leases = leases.clone();
    [refused(leases.renew_lease(renewal).await), refused(leases.release_lease(release).await)]
}

async fn nobody_else_can_renew_or_release_a_lease(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let (held, _) = world.lend("bot").await;
    let never = v1::Lease { lease_id: "0".repeat(32), ..held.clone() };
    // Somebody of the same tenant who learnt the id, and somebody of another.
    for token in [token_of("colleague", TENANT), token_of("stranger", "globex")] {
        let leases = world.server.leases(&token).await;
        let (known, unknown) = (as_somebody(&leases, &held).await, as_somebody(&leases, &never).await);
        for (known, unknown) in known.iter().zip(&unknown) {
            assert_eq!(reason(known), "LEASE_NOT_HELD");
            assert_eq!((known.code(), known.message()), (unknown.code(), unknown.message()));
            assert_eq!(known.details(), unknown.details());
        }
    }
    let stranger = world.server.leases(&token_of("stranger", "globex")).await;
    let foreign = refused(stranger.clone().acquire_lease(lease("bot", "thief")).await);
    let missing = refused(stranger.clone().acquire_lease(lease("none", "thief")).await);
    assert_eq!(reason(&foreign), "SESSION_NOT_FOUND");
    assert_eq!((foreign.message(), foreign.details()), (missing.message(), missing.details()));
    world.renew(&held).await.expect("the holder is not disturbed");
    world.stop().await;
}

async fn an_evicted_holder_is_not_renewed_and_keeps_the_session_until_it_lets_go(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let evict = || v1::EvictLeaseRequest {
        tenant_id: TENANT.to_owned(),
        app_id: "bot".to_owned(),
        ..Default::default()
    };
    let nobody = refused(world.leases.clone().evict_lease(evict()).await);
    assert_eq!(reason(&nobody), "LEASE_NOT_HELD");

    let request =
        v1::AcquireLeaseRequest { request_id: uuid::Uuid::new_v4().to_string(), ..lease("bot", "worker-1") };
    let held = world.acquire(request.clone()).await.expect("granted").lease.expect("a lease");
    for _ in 0..2 {
        let seen = world.leases.clone().evict_lease(evict()).await.expect("as often as asked").into_inner();
        assert_eq!(seen.lease.expect("a lease").state(), LeaseState::Draining);
    }
    let stop = refused(world.renew(&held).await);
    assert_eq!(reason(&stop), "LEASE_DRAINING");
    assert_eq!(reason(&refused(world.acquire(request).await)), "SESSION_LEASED", "nor by asking again");
    let thief = refused(world.acquire(lease("bot", "worker-2")).await);
    assert_eq!(reason(&thief), "SESSION_LEASED", "a live lease is never taken away");

    world.release(&held, true).await.expect("released");
    let (next, _) = world.lend("bot").await;
    assert!(next.epoch > held.epoch);
    world.renew(&next).await.expect("the next holder is not evicted");
    world.stop().await;
}

async fn a_release_is_idempotent_until_the_next_grant(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let (held, _) = world.lend("bot").await;
    for _ in 0..2 {
        world.release(&held, true).await.expect("as often as asked");
    }
    assert_eq!(reason(&refused(world.renew(&held).await)), "LEASE_NOT_HELD");
    let (next, _) = world.lend("bot").await;
    let late = reason(&refused(world.release(&held, true).await));
    assert!(["LEASE_NOT_HELD", "LEASE_EPOCH_STALE"].contains(&late.as_str()), "{late}");
    world.renew(&next).await.expect("the next holder keeps it");
    world.stop().await;
}
