//! The Rust client's guard against the real service.

use std::time::Duration;

use tokio::time::timeout;
use usm::domain::material::Format;
use usm_client::{Client, Connections, Credentials, LeaseGuard, Loss, v1};

use crate::support::{
    server::service_token,
    telegram::soon,
    world::{
        ANN, Shape, TENANT, World, lease, on_both_shapes, on_both_shapes_at_once, reason, refused, seconds,
    },
};

on_both_shapes!(
    a_guard_lends_a_session_that_works_and_gives_it_back,
    a_guard_tells_its_worker_that_it_was_evicted,
);
on_both_shapes_at_once!(a_guard_keeps_its_lease_longer_than_it_was_granted_for);

async fn client(world: &World) -> Client {
    let credentials = Credentials::bearer(&service_token()).expect("a token");
    Client::connect(&world.server.url(""), credentials).await.expect("connects")
}

async fn a_guard_lends_a_session_that_works_and_gives_it_back(shape: Shape) {
    let world = World::start(shape).await;
    world.log_in("bot", ANN).await;
    let client = client(&world).await;
    let (guard, material) = LeaseGuard::acquire(&client, lease("bot", "worker-1")).await.expect("granted");
    let material = world.parsed(&material.data, Format::Raw).await;
    world.sandbox.telegram().probe(&material, soon()).await.expect("it works");
    assert!(guard.lease().lease_id.is_empty(), "the id stays inside");
    assert!(guard.remaining() <= Duration::from_secs(10));

    let busy = LeaseGuard::acquire(&client, lease("bot", "worker-2")).await.expect_err("held");
    let refusal = busy.refusal().expect("refused by the service");
    assert_eq!(refusal.known_reason(), v1::ErrorReason::SessionLeased);
    assert!(refusal.retry_after.is_some());
    let ended = guard.release(Connections::Closed).await.expect("released");
    assert_eq!(ended.state(), v1::LeaseState::Released);
    let (next, _) = LeaseGuard::acquire(&client, lease("bot", "worker-2")).await.expect("free at once");
    assert!(next.epoch() > ended.epoch);
    world.stop().await;
}

async fn a_guard_keeps_its_lease_longer_than_it_was_granted_for(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let client = client(&world).await;
    let (guard, _) = LeaseGuard::acquire(&client, lease("bot", "worker-1")).await.expect("granted");
    let until = guard.deadline();
    let waiting = v1::AcquireLeaseRequest { wait: seconds(12), ..lease("bot", "worker-2") };
    assert_eq!(reason(&refused(world.acquire(waiting).await)), "SESSION_LEASED", "the guard outlives 10 s");
    assert!(guard.deadline() > until && guard.loss().is_none());

    // Dropped, it sends nothing: the lease runs out and rests.
    drop(guard);
    let busy = refused(world.acquire(lease("bot", "worker-2")).await);
    assert_eq!(reason(&busy), "SESSION_LEASED");
    world.stop().await;
}

async fn a_guard_tells_its_worker_that_it_was_evicted(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let client = client(&world).await;
    let (guard, _) = LeaseGuard::acquire(&client, lease("bot", "worker-1")).await.expect("granted");
    let request = v1::EvictLeaseRequest {
        tenant_id: TENANT.to_owned(),
        app_id: "bot".to_owned(),
        ..Default::default()
    };
    client.leases().evict_lease(request).await.expect("evicted");
    timeout(Duration::from_secs(10), guard.lost()).await.expect("told at once, or with the next renewal");
    match guard.loss() {
        Some(Loss::Draining(reason)) => assert_eq!(reason, v1::LeaseDrainReason::Evicted),
        // The eviction came before the guard had its stream.
        Some(Loss::Refused(refusal)) => assert_eq!(refusal.known_reason(), v1::ErrorReason::LeaseDraining),
        other => panic!("{other:?}"),
    }
    assert!(guard.remaining() > Duration::ZERO, "time to close the connections");
    guard.release(Connections::Closed).await.expect("released");
    world.lend("bot").await;
    world.stop().await;
}
