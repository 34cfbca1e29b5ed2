//! Leases over several replicas: what one was told, the other knows.

use std::time::Duration;

use usm_client::v1::{
    self, LeaseDrainReason, hold_lease_request::Step as Say, hold_lease_response::Step as Told,
};

use super::holding::Stream;
use crate::{
    support::{
        poll,
        world::{ANN, BOB, TENANT, lease, reason, refused, seconds},
    },
    takeover::Replicas,
};

fn waiting(holder: &str, request_id: &str) -> v1::AcquireLeaseRequest {
    v1::AcquireLeaseRequest { wait: seconds(60), request_id: request_id.to_owned(), ..lease("bot", holder) }
}

#[tokio::test]
async fn a_place_in_the_queue_survives_the_replica_it_was_taken_at() {
    let mut replicas = Replicas::start(&[]).await;
    replicas.second.lendable("bot", ANN).await;
    let (held, _) = replicas.second.lend("bot").await;
    let request_id = uuid::Uuid::new_v4().to_string();
    let first = {
        let (mut leases, request) = (replicas.first.leases.clone(), waiting("first", &request_id));
        tokio::spawn(async move { leases.acquire_lease(request).await })
    };
    // A probe of the queue: whoever is not the first is told so when the session is free.
    poll::until("the first has its place", || async { (replicas.places().await == 1).then_some(()) }).await;
    let second = {
        let (mut leases, request) = (replicas.second.leases.clone(), waiting("second", ""));
        tokio::spawn(async move { leases.acquire_lease(request).await })
    };
    poll::until("the second has its place", || async { (replicas.places().await == 2).then_some(()) }).await;
    replicas.kill_first();
    first.await.expect("no panic").expect_err("its replica is gone");
    let retry = {
        let (mut leases, request) = (replicas.second.leases.clone(), waiting("first", &request_id));
        tokio::spawn(async move { leases.acquire_lease(request).await })
    };
    replicas.second.release(&held, true).await.expect("released");
    let granted = retry.await.expect("no panic").expect("its turn").into_inner().lease.expect("a lease");
    assert_eq!(granted.holder, "first");
    assert!(!second.is_finished(), "the second came later");
    replicas.second.release(&granted, true).await.expect("released");
    let granted = second.await.expect("no panic").expect("its turn").into_inner().lease.expect("a lease");
    assert_eq!((granted.holder.as_str(), granted.epoch), ("second", held.epoch + 2));
    assert_eq!(replicas.places().await, 0);
}

#[tokio::test]
async fn what_another_replica_was_told_reaches_the_holders_stream() {
    let replicas = Replicas::start(&[]).await;
    replicas.first.lendable("bot", ANN).await;
    replicas.first.lendable("other", BOB).await;
    let mut stream = Stream::open(&replicas.first, Say::Acquire(lease("bot", "worker-1"))).await;
    let mut calm = Stream::open(&replicas.first, Say::Acquire(lease("other", "worker-2"))).await;
    let (held, _) = stream.told().await;
    calm.told().await;
    let evict = v1::EvictLeaseRequest {
        tenant_id: TENANT.to_owned(),
        app_id: "bot".to_owned(),
        ..Default::default()
    };
    replicas.second.leases.clone().evict_lease(evict).await.expect("evicted");
    let (_, step) = tokio::time::timeout(Duration::from_secs(5), stream.told()).await.expect("told in time");
    let Told::Draining(told) = step else { panic!("{step:?}") };
    assert_eq!(told.reason(), LeaseDrainReason::Evicted);
    assert_eq!(reason(&refused(replicas.second.renew(&held).await)), "LEASE_DRAINING");
    calm.beat(1).await;
    assert_eq!(calm.told().await.1, Told::Renewed(v1::Renewed { beat: 1 }), "others are not concerned");
}
