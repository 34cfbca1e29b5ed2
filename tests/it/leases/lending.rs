//! Taking a lease and giving it back.

use std::time::Duration;

use usm::domain::material::Format;
use usm_client::v1::{self, LeaseState, SessionEventKind};

use crate::support::{
    telegram::soon,
    world::{ANN, Shape, TENANT, World, fact, lease, on_both_shapes, pause, reason, refused},
};

on_both_shapes!(
    a_lease_brings_the_material_and_all_that_belongs_to_it,
    a_second_worker_is_refused_and_told_when_to_ask_again,
    sixteen_racers_have_one_winner,
    a_repeated_request_gets_the_same_lease,
    leases_are_listed_without_their_ids,
);

async fn a_lease_brings_the_material_and_all_that_belongs_to_it(shape: Shape) {
    let world = World::start(shape).await;
    let given = world.lendable("bot", ANN).await;
    let (lease, material) = world.lend("bot").await;
    assert_eq!(lease.lease_id.len(), 32);
    assert_eq!((lease.tenant_id.as_str(), lease.app_id.as_str()), (TENANT, "bot"));
    assert_eq!((lease.holder.as_str(), lease.state()), ("worker-1", LeaseState::Held));
    assert!(lease.epoch > 0 && lease.acquire_time.is_some());
    let (ttl, renew) = (lease.ttl.expect("set"), lease.renew_after.expect("set"));
    assert_eq!((ttl.seconds, renew.seconds), (10, 3));

    assert_eq!(material.format(), v1::SessionFormat::Raw);
    assert_eq!((material.dc_id, material.material_version), (2, 1));
    assert_eq!(material.environment, "sandbox");
    assert_eq!(material.api_id, 1, "a Telethon string names none, so the service's own counts");
    let device = material.device.expect("belongs to the authorization");
    assert!(!device.device_model.is_empty() && !device.app_version.is_empty());
    let lent = world.parsed(&material.data, Format::Raw).await;
    assert_eq!(lent.keys[&2].auth_key, given.keys[&2].auth_key);
    let proof = world.sandbox.telegram().probe(&lent, soon()).await.expect("it works");
    assert_eq!(proof.account.telegram_user_id, ANN);

    let seen = world.session("bot").await.lease.expect("everybody sees who holds it");
    assert_eq!((seen.holder.as_str(), seen.epoch), ("worker-1", lease.epoch));
    assert_eq!((seen.lease_id.as_str(), seen.state()), ("", LeaseState::Held));
    let renewed = world.renew(&lease).await.expect("renewed");
    assert_eq!((renewed.epoch, renewed.ttl.expect("set").seconds), (lease.epoch, 10));
    let released = world.release(&lease, true).await.expect("released");
    assert_eq!(released.state(), LeaseState::Released);
    let told: Vec<_> = world.events("bot").await.into_iter().map(|(kind, _)| kind).collect();
    assert!(
        told.contains(&SessionEventKind::LeaseGranted) && told.contains(&SessionEventKind::LeaseReleased)
    );
    world.stop().await;
}

async fn a_second_worker_is_refused_and_told_when_to_ask_again(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let (first, _) = world.lend("bot").await;
    // No re-entry: the same holder waits like anyone.
    for holder in ["worker-2", "worker-1"] {
        let busy = refused(world.acquire(lease("bot", holder)).await);
        assert_eq!((busy.code(), reason(&busy).as_str()), (tonic::Code::Aborted, "SESSION_LEASED"));
        let told = pause(&busy).expect("when to ask again");
        assert!((Duration::from_secs(5)..=Duration::from_secs(11)).contains(&told), "{told:?}");
        assert_eq!(fact(&busy, "holder").as_deref(), Some("worker-1"));
        assert!(!format!("{busy:?}").contains(&first.lease_id));
    }
    world.release(&first, true).await.expect("released");
    let (second, _) = world.lend("bot").await;
    assert!(second.epoch > first.epoch && second.lease_id != first.lease_id);
    world.stop().await;
}

async fn sixteen_racers_have_one_winner(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    for round in 0..3 {
        let race = (0..16).map(|n| world.acquire(lease("bot", &format!("worker-{n}"))));
        let (won, lost): (Vec<_>, Vec<_>) =
            futures::future::join_all(race).await.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 15), "round {round}");
        for loser in lost {
            assert_eq!(reason(&refused(loser)), "SESSION_LEASED");
        }
        for winner in won {
            let lease = winner.expect("partitioned").lease.expect("a lease");
            world.release(&lease, true).await.expect("released");
        }
    }
    world.stop().await;
}

async fn a_repeated_request_gets_the_same_lease(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let request =
        v1::AcquireLeaseRequest { request_id: uuid::Uuid::new_v4().to_string(), ..lease("bot", "worker-1") };
    let first = world.acquire(request.clone()).await.expect("granted");
    let again = world.acquire(request.clone()).await.expect("the answer may have got lost");
    let (one, two) = (first.lease.expect("a lease"), again.lease.expect("a lease"));
    assert_eq!((&one.lease_id, one.epoch), (&two.lease_id, two.epoch));
    let (whole, left) = (one.ttl.expect("set"), two.ttl.expect("set"));
    assert!((left.seconds, left.nanos) <= (whole.seconds, whole.nanos), "what is left: {left:?}");
    assert_eq!(first.material.expect("material").data, again.material.expect("material").data);

    let other = v1::AcquireLeaseRequest { holder: "worker-2".to_owned(), ..request.clone() };
    assert_eq!(reason(&refused(world.acquire(other).await)), "SESSION_LEASED", "another holder's request");
    world.release(&one, true).await.expect("released");
    let later = world.acquire(request).await.expect("granted anew").lease.expect("a lease");
    assert!(later.epoch > one.epoch);
    world.stop().await;
}

async fn leases_are_listed_without_their_ids(shape: Shape) {
    let world = World::start(shape).await;
    for (app, user) in [("a", ANN), ("b", ANN), ("c", ANN)] {
        world.lendable(app, user).await;
    }
    let (_, _) = (world.lend("a").await, world.lend("c").await);
    let request = v1::ListLeasesRequest { tenant_id: TENANT.to_owned(), ..Default::default() };
    let listed = world.leases.clone().list_leases(request).await.expect("listed").into_inner().leases;
    let names: Vec<_> = listed.iter().map(|lease| lease.app_id.as_str()).collect();
    assert_eq!(names, ["a", "c"]);
    assert!(listed.iter().all(|lease| lease.lease_id.is_empty() && lease.holder == "worker-1"));

    let ask = |app: &str| v1::GetLeaseRequest { tenant_id: TENANT.to_owned(), app_id: app.to_owned() };
    let one = world.leases.clone().get_lease(ask("a")).await.expect("held").into_inner().lease;
    assert_eq!(one.expect("a lease").lease_id, "");
    assert_eq!(reason(&refused(world.leases.clone().get_lease(ask("b")).await)), "LEASE_NOT_HELD");
    assert_eq!(reason(&refused(world.leases.clone().get_lease(ask("z")).await)), "SESSION_NOT_FOUND");
    world.stop().await;
}
