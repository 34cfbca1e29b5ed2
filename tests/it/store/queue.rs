//! Who waits for a session, on both databases.

use std::time::Duration;

use usm::{
    domain::{
        id::LeaseId,
        lease::{Purpose, Release, Request},
    },
    store::{Place as Standing, leases::Acquire},
};

use super::{Place, granted, key, on_both, request, service, tenant};

on_both!(
    whoever_came_first_is_served_first,
    a_place_is_kept_for_whoever_comes_back,
    a_probe_gives_way_to_whoever_waits,
    a_queue_is_bounded,
    a_queue_is_its_tenants,
    one_session_has_many_askers_and_one_lease,
    a_grant_among_others_ends_its_place,
);

const WAIT: Duration = Duration::from_secs(60);

fn waiter(number: u8) -> LeaseId {
    LeaseId::from_random([number; 16])
}

fn queued(key: &usm::domain::id::SessionKey, number: u8) -> Request {
    Request { queued: true, ..request(key, number) }
}

async fn whoever_came_first_is_served_first(place: Place) {
    let key = place.authorized("acme", "a").await.key;
    let caller = service();
    for (number, ahead) in [(1, 0), (2, 1), (3, 2), (2, 1)] {
        let standing = place.store.queue(&caller, &key, &waiter(number), WAIT).await.expect("a place");
        assert_eq!(standing, Standing::After(ahead));
    }
    // The session is free, and still nobody may pass: neither a newcomer nor the second.
    for early in [request(&key, 9), queued(&key, 2), queued(&key, 3)] {
        let answer = place.store.acquire(&caller, &early).await.expect("an answer");
        assert!(matches!(answer, Acquire::Busy { free_in: Duration::ZERO, .. }), "{answer:?}");
    }
    let inspection = Request { purpose: Purpose::Inspect, ..request(&key, 8) };
    let inspected = granted(place.store.acquire(&caller, &inspection).await.expect("an answer"));
    let lease = inspected.lease;
    place
        .store
        .release(&caller, &lease.lease_id, lease.epoch, Release::ConnectionsClosed)
        .await
        .expect("ended");
    for number in [1, 2, 3] {
        let lease = granted(place.store.acquire(&caller, &queued(&key, number)).await.expect("answer")).lease;
        place
            .store
            .release(&caller, &lease.lease_id, lease.epoch, Release::ConnectionsClosed)
            .await
            .expect("ended");
    }
    granted(place.store.acquire(&caller, &request(&key, 9)).await.expect("nobody waits any more"));
}

async fn a_place_is_kept_for_whoever_comes_back(place: Place) {
    let key = place.authorized("acme", "a").await.key;
    let caller = service();
    for number in [1, 2] {
        place.store.queue(&caller, &key, &waiter(number), WAIT).await.expect("a place");
    }
    // The first is not seen for a while: its replica died.
    place.pass(Duration::from_secs(4)).await;
    place.store.queue(&caller, &key, &waiter(2), WAIT).await.expect("seen");
    let early = place.store.acquire(&caller, &queued(&key, 2)).await.expect("an answer");
    assert!(matches!(early, Acquire::Busy { .. }), "{early:?}");
    place.pass(Duration::from_secs(2)).await;
    let lease = granted(place.store.acquire(&caller, &queued(&key, 2)).await.expect("not held up")).lease;
    // Back again, it still comes before those who came after it.
    place.store.queue(&caller, &key, &waiter(3), WAIT).await.expect("a place");
    let back = place.store.queue(&caller, &key, &waiter(1), WAIT).await.expect("its place");
    assert_eq!(back, Standing::After(0));
    place
        .store
        .release(&caller, &lease.lease_id, lease.epoch, Release::ConnectionsClosed)
        .await
        .expect("ended");
    let answer = place.store.acquire(&caller, &queued(&key, 3)).await.expect("an answer");
    assert!(matches!(answer, Acquire::Busy { .. }), "{answer:?}");
    place.store.leave_queue(&caller, &waiter(1)).await.expect("left");
    granted(place.store.acquire(&caller, &queued(&key, 3)).await.expect("its turn"));
}

async fn a_probe_gives_way_to_whoever_waits(place: Place) {
    let key = place.authorized("acme", "a").await.key;
    let caller = service();
    let probe = Request { purpose: Purpose::Probe, ..request(&key, 8) };
    assert!(!place.store.is_wanted(&caller, &key).await.expect("an answer"));
    place.store.queue(&caller, &key, &waiter(1), WAIT).await.expect("a place");
    assert!(place.store.is_wanted(&caller, &key).await.expect("an answer"));
    let answer = place.store.acquire(&caller, &probe).await.expect("an answer");
    assert!(matches!(answer, Acquire::Busy { .. }), "{answer:?}");
    place.store.leave_queue(&caller, &waiter(1)).await.expect("left");
    granted(place.store.acquire(&caller, &probe).await.expect("nobody waits"));
}

async fn a_queue_is_bounded(place: Place) {
    let key = place.authorized("acme", "a").await.key;
    for number in 0..100 {
        let standing = place.store.queue(&service(), &key, &waiter(number), WAIT).await.expect("an answer");
        assert_eq!(standing, Standing::After(number.into()));
    }
    let late = place.store.queue(&service(), &key, &waiter(200), WAIT).await.expect("an answer");
    assert_eq!(late, Standing::None);
    let known = place.store.queue(&service(), &key, &waiter(42), WAIT).await.expect("an answer");
    assert_eq!(known, Standing::After(42), "whoever has a place keeps it");
}

async fn a_queue_is_its_tenants(place: Place) {
    let key_of_acme = place.authorized("acme", "a").await.key;
    let foreign =
        place.store.queue(&tenant("globex"), &key_of_acme, &waiter(1), WAIT).await.expect("an answer");
    assert_eq!(foreign, Standing::None);
    let missing =
        place.store.queue(&service(), &key("acme", "none"), &waiter(1), WAIT).await.expect("an answer");
    assert_eq!(missing, Standing::None);
    place.store.queue(&tenant("acme"), &key_of_acme, &waiter(1), WAIT).await.expect("a place");
    place.store.leave_queue(&tenant("globex"), &waiter(1)).await.expect("nothing to leave");
    assert!(place.store.is_wanted(&service(), &key_of_acme).await.expect("an answer"));
}

/// Many at once, so that they are served together: for one session, and each for their own.
async fn one_session_has_many_askers_and_one_lease(place: Place) {
    let contested = place.authorized("acme", "contested").await.key;
    let mut own = Vec::new();
    for number in 0..40_u8 {
        own.push(place.authorized("acme", &format!("own-{number}")).await.key);
    }
    let ask = |key: usm::domain::id::SessionKey, number: u8| {
        let store = place.store.clone();
        tokio::spawn(async move {
            let asked = Request { lease_id: LeaseId::from_random([number; 16]), ..request(&key, number) };
            store.acquire(&service(), &asked).await.expect("an answer")
        })
    };
    let contest: Vec<_> = (100..140).map(|number| ask(contested.clone(), number)).collect();
    let each: Vec<_> = own.iter().zip(0..).map(|(key, number)| ask(key.clone(), number)).collect();
    let mut winners = 0;
    for one in contest {
        match one.await.expect("no panic") {
            Acquire::Granted(grant) => {
                assert_eq!((grant.lease.epoch, &grant.lease.key), (1, &contested));
                winners += 1;
            }
            answer => assert!(matches!(answer, Acquire::Busy { .. }), "{answer:?}"),
        }
    }
    assert_eq!(winners, 1);
    for (one, key) in each.into_iter().zip(&own) {
        let lease = granted(one.await.expect("no panic")).lease;
        assert_eq!((&lease.key, lease.epoch), (key, 1), "everybody gets their own");
    }
}

/// Served together with those who did not wait, whoever waited leaves no place behind.
async fn a_grant_among_others_ends_its_place(place: Place) {
    let (mut waited, mut asks) = (Vec::new(), Vec::new());
    for number in 0..40_u8 {
        let key = place.authorized("acme", &format!("own-{number}")).await.key;
        let asked = if number % 4 == 0 {
            place.store.queue(&service(), &key, &waiter(number), WAIT).await.expect("a place");
            waited.push(key.clone());
            queued(&key, number)
        } else {
            request(&key, number)
        };
        asks.push(asked);
    }
    let asked: Vec<_> = asks
        .into_iter()
        .map(|asked| {
            let store = place.store.clone();
            tokio::spawn(async move { store.acquire(&service(), &asked).await.expect("an answer") })
        })
        .collect();
    for one in asked {
        granted(one.await.expect("no panic"));
    }
    for key in &waited {
        assert!(!place.store.is_wanted(&service(), key).await.expect("an answer"), "{key}");
    }
}
