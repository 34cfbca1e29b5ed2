//! Leases, on both databases.

use std::time::Duration;

use usm::{
    domain::{
        event::Kind,
        lease::{Drain, Purpose, Release},
        session::{Custody, RevokedReason, StaleReason, State},
    },
    store::{
        Error,
        events::EventFilter,
        leases::{Acquire, Released, Renew},
        sessions::{Expected, MaterialChange},
        settings,
    },
};

use super::{
    GAP, Place, change, first_page, granted, key, on_both, request, request_id, sealed, service, tenant,
};

on_both!(
    of_many_racers_one_gets_the_lease,
    a_lease_brings_material_and_is_seen_without_its_id,
    the_same_holder_waits_like_anyone,
    a_repeated_request_gets_the_same_lease,
    an_acknowledged_release_frees_at_once,
    an_unacknowledged_release_rests_until_expiry_and_gap,
    an_expired_lease_rests_for_the_gap,
    epochs_only_grow,
    a_renewal_extends_by_the_granted_span,
    only_its_holder_renews_and_releases,
    an_expired_lease_is_not_renewed,
    an_evicted_lease_runs_out,
    only_usable_sessions_of_ours_are_lent,
    inspection_takes_any_material_but_no_foreign_one,
    a_switched_off_feature_lends_nothing,
    leases_leave_the_revision_alone,
    the_log_tells_of_leases,
    a_dropped_request_leaves_no_half_lease,
    no_lease_id_reaches_the_database,
);

async fn of_many_racers_one_gets_the_lease(place: Place) {
    let session = place.authorized("acme", "a").await;
    let racers = (0..32).map(|number| {
        let (store, key) = (place.store.clone(), session.key.clone());
        tokio::spawn(async move { store.acquire(&service(), &request(&key, number)).await })
    });
    let mut won = 0;
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.expect("no panic").expect("answer") {
            Acquire::Granted(grant) => {
                assert_eq!(grant.lease.epoch, 1);
                won += 1;
            }
            Acquire::Busy { free_in, .. } => assert!(free_in > GAP),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(won, 1);
}

async fn a_lease_brings_material_and_is_seen_without_its_id(place: Place) {
    let session = place.authorized("acme", "a").await;
    let grant =
        granted(place.store.acquire(&tenant("acme"), &request(&session.key, 1)).await.expect("answer"));
    assert_eq!(grant.sealed, sealed(1));
    assert_eq!(grant.lease.ttl, Duration::from_secs(60));
    let seen = place.store.get(&tenant("acme"), &session.key).await.expect("read").expect("there");
    let lease = seen.lease.expect("leased");
    assert_eq!((lease.holder.as_str(), lease.epoch, lease.drain), ("worker-1", 1, None));
    assert!(lease.remaining > Duration::from_secs(50) && lease.remaining <= Duration::from_secs(60));
}

async fn the_same_holder_waits_like_anyone(place: Place) {
    let session = place.authorized("acme", "a").await;
    let request = request(&session.key, 1);
    granted(place.store.acquire(&service(), &request).await.expect("answer"));
    let again = place.store.acquire(&service(), &request).await.expect("answer");
    assert!(matches!(again, Acquire::Busy { .. }), "{again:?}");
}

async fn a_repeated_request_gets_the_same_lease(place: Place) {
    let session = place.authorized("acme", "a").await;
    let mut first = request(&session.key, 1);
    first.request_id = request_id();
    let grant = granted(place.store.acquire(&service(), &first).await.expect("answer"));
    place.pass(Duration::from_secs(20)).await;
    let again = granted(place.store.acquire(&service(), &first).await.expect("answer"));
    assert_eq!((again.lease.epoch, again.sealed.clone()), (grant.lease.epoch, sealed(1)));
    assert_eq!(again.lease.lease_id, grant.lease.lease_id);
    assert!(again.lease.ttl <= Duration::from_secs(40), "what remains, no more: {:?}", again.lease.ttl);
    let mut other_holder = request(&session.key, 2);
    other_holder.request_id = request_id();
    other_holder.lease_id = first.lease_id.clone();
    let refused = place.store.acquire(&service(), &other_holder).await.expect("answer");
    assert!(matches!(refused, Acquire::Busy { .. }), "{refused:?}");
    let refused = place.store.acquire(&tenant("acme"), &first).await.expect("answer");
    assert!(matches!(refused, Acquire::Busy { .. }), "another subject: {refused:?}");
    let mut other_id = first.clone();
    other_id.lease_id = request(&session.key, 9).lease_id;
    let refused = place.store.acquire(&service(), &other_id).await.expect("answer");
    assert!(matches!(refused, Acquire::Busy { .. }), "another lease id: {refused:?}");
    place.pass(Duration::from_secs(45)).await;
    let over = place.store.acquire(&service(), &first).await.expect("answer");
    assert!(matches!(over, Acquire::Busy { .. }), "its lease is over, the session rests: {over:?}");
}

async fn an_acknowledged_release_frees_at_once(place: Place) {
    let session = place.authorized("acme", "a").await;
    let lease =
        granted(place.store.acquire(&service(), &request(&session.key, 1)).await.expect("answer")).lease;
    for _ in 0..2 {
        let done = place
            .store
            .release(&service(), &lease.lease_id, 1, Release::ConnectionsClosed)
            .await
            .expect("answer");
        let Released::Done(ended) = done else { panic!("{done:?}") };
        assert!(ended.rest.is_none());
    }
    let next = granted(place.store.acquire(&service(), &request(&session.key, 2)).await.expect("answer"));
    assert_eq!(next.lease.epoch, 2);
    let late = place
        .store
        .release(&service(), &lease.lease_id, 1, Release::ConnectionsClosed)
        .await
        .expect("answer");
    assert!(matches!(late, Released::NotHeld), "{late:?}");
}

async fn an_unacknowledged_release_rests_until_expiry_and_gap(place: Place) {
    let session = place.authorized("acme", "a").await;
    let lease =
        granted(place.store.acquire(&service(), &request(&session.key, 1)).await.expect("answer")).lease;
    let done = place
        .store
        .release(&service(), &lease.lease_id, 1, Release::ConnectionsUnknown)
        .await
        .expect("answer");
    let Released::Done(released) = done else { panic!("{done:?}") };
    assert_eq!(released.rest.map(|lease| lease.remaining), Some(Duration::ZERO));
    let renewed = place.store.renew(&service(), &lease.lease_id, 1, None).await.expect("answer");
    assert!(matches!(renewed, Renew::NotHeld), "{renewed:?}");
    let busy = place.store.acquire(&service(), &request(&session.key, 2)).await.expect("answer");
    let Acquire::Busy { free_in, .. } = busy else { panic!("{busy:?}") };
    assert!(free_in > Duration::from_secs(60) && free_in <= Duration::from_secs(60) + GAP);
    // The holder closes its connections after all.
    place.store.release(&service(), &lease.lease_id, 1, Release::ConnectionsClosed).await.expect("answer");
    granted(place.store.acquire(&service(), &request(&session.key, 2)).await.expect("answer"));
}

async fn an_expired_lease_rests_for_the_gap(place: Place) {
    let session = place.authorized("acme", "a").await;
    granted(place.store.acquire(&service(), &request(&session.key, 1)).await.expect("answer"));
    place.pass(Duration::from_secs(61)).await;
    let seen = place.store.get(&service(), &session.key).await.expect("read").expect("there");
    assert_eq!(seen.lease.map(|lease| lease.remaining), Some(Duration::ZERO));
    let busy = place.store.acquire(&service(), &request(&session.key, 2)).await.expect("answer");
    let Acquire::Busy { free_in, .. } = busy else { panic!("{busy:?}") };
    assert!(free_in <= GAP && free_in > Duration::from_secs(5), "{free_in:?}");
    place.pass(GAP).await;
    let seen = place.store.get(&service(), &session.key).await.expect("read").expect("there");
    assert!(seen.lease.is_none());
    granted(place.store.acquire(&service(), &request(&session.key, 2)).await.expect("answer"));
}

async fn epochs_only_grow(place: Place) {
    let session = place.authorized("acme", "a").await;
    for expected in 1..=3_u8 {
        let lease =
            granted(place.store.acquire(&service(), &request(&session.key, expected)).await.expect("answer"))
                .lease;
        assert_eq!(lease.epoch, i64::from(expected));
        place
            .store
            .release(&service(), &lease.lease_id, lease.epoch, Release::ConnectionsClosed)
            .await
            .expect("answer");
    }
}

async fn a_renewal_extends_by_the_granted_span(place: Place) {
    let session = place.authorized("acme", "a").await;
    let lease =
        granted(place.store.acquire(&service(), &request(&session.key, 1)).await.expect("answer")).lease;
    place.pass(Duration::from_secs(50)).await;
    let renewed = place.store.renew(&service(), &lease.lease_id, 1, None).await.expect("answer");
    let Renew::Renewed { lease: renewed, .. } = renewed else { panic!("{renewed:?}") };
    assert_eq!(renewed.ttl, Duration::from_secs(60));
    assert_eq!((renewed.epoch, renewed.key, renewed.holder), (1, lease.key, lease.holder));
}

async fn only_its_holder_renews_and_releases(place: Place) {
    let session = place.authorized("acme", "a").await;
    let own = tenant("acme");
    let lease = granted(place.store.acquire(&own, &request(&session.key, 1)).await.expect("answer")).lease;
    for other in [service(), tenant("rival")] {
        let renewed = place.store.renew(&other, &lease.lease_id, 1, None).await.expect("answer");
        assert!(matches!(renewed, Renew::NotHeld), "{renewed:?}");
        let released = place
            .store
            .release(&other, &lease.lease_id, 1, Release::ConnectionsClosed)
            .await
            .expect("answer");
        assert!(matches!(released, Released::NotHeld), "{released:?}");
    }
    let renewed = place.store.renew(&own, &lease.lease_id, 7, None).await.expect("answer");
    assert!(matches!(renewed, Renew::EpochStale { current: 1 }), "{renewed:?}");
    let released =
        place.store.release(&own, &lease.lease_id, 0, Release::ConnectionsClosed).await.expect("answer");
    assert!(matches!(released, Released::EpochStale { current: 1 }), "{released:?}");
    let unknown = request(&session.key, 200).lease_id;
    let renewed = place.store.renew(&own, &unknown, 1, None).await.expect("answer");
    assert!(matches!(renewed, Renew::NotHeld), "{renewed:?}");
}

async fn an_expired_lease_is_not_renewed(place: Place) {
    let session = place.authorized("acme", "a").await;
    let lease =
        granted(place.store.acquire(&service(), &request(&session.key, 1)).await.expect("answer")).lease;
    place.pass(Duration::from_secs(60)).await;
    let renewed = place.store.renew(&service(), &lease.lease_id, 1, None).await.expect("answer");
    assert!(matches!(renewed, Renew::NotHeld), "{renewed:?}");
}

async fn an_evicted_lease_runs_out(place: Place) {
    let session = place.authorized("acme", "a").await;
    let idle =
        place.store.evict(&service(), &session.key, None, Drain::Evicted).await.expect("nothing to evict");
    assert!(idle.lease.is_none());
    let mut first = request(&session.key, 1);
    first.request_id = request_id();
    let lease = granted(place.store.acquire(&service(), &first).await.expect("answer")).lease;
    for _ in 0..2 {
        let evicted =
            place.store.evict(&service(), &session.key, None, Drain::Evicted).await.expect("evicted");
        assert!(evicted.lease.is_some_and(|lease| lease.drain == Some(Drain::Evicted)));
    }
    let renewed = place.store.renew(&service(), &lease.lease_id, 1, None).await.expect("answer");
    assert!(matches!(renewed, Renew::Evicted), "{renewed:?}");
    let again = place.store.acquire(&service(), &first).await.expect("answer");
    assert!(matches!(again, Acquire::Busy { .. }), "no second hand-out: {again:?}");
    let nobody = place.store.evict(&service(), &key("acme", "none"), None, Drain::Evicted).await;
    assert!(matches!(nobody, Err(Error::NotFound)), "{nobody:?}");
    place.store.release(&service(), &lease.lease_id, 1, Release::ConnectionsClosed).await.expect("answer");
    granted(place.store.acquire(&service(), &request(&session.key, 2)).await.expect("answer"));
}

async fn only_usable_sessions_of_ours_are_lent(place: Place) {
    let mut session = place.authorized("acme", "a").await;
    let overdue = State::Stale { reason: StaleReason::ValidationOverdue };
    let refused = [
        (State::Stale { reason: StaleReason::ValidationFailed }, Custody::Service),
        (State::Stale { reason: StaleReason::Restored }, Custody::Service),
        (State::Absent { reason: None }, Custody::Service),
        (overdue.clone(), Custody::Legacy),
    ];
    for (state, custody) in refused {
        (session.state, session.custody) = (state, custody);
        let expected = Expected::Revision(session.revision);
        session = place.store.commit(&service(), change(session, expected)).await.expect("written");
        let answer = place.store.acquire(&service(), &request(&session.key, 1)).await.expect("answer");
        assert!(matches!(answer, Acquire::NotLendable(_)), "{answer:?}");
    }
    (session.state, session.custody) = (overdue, Custody::Service);
    let expected = Expected::Revision(session.revision);
    let session = place.store.commit(&service(), change(session, expected)).await.expect("written");
    let lease =
        granted(place.store.acquire(&service(), &request(&session.key, 1)).await.expect("answer")).lease;
    place.raw("update telegram_sessions set state = 'STALE', state_reason = 'validation_failed'").await;
    let renewed = place.store.renew(&service(), &lease.lease_id, lease.epoch, None).await.expect("answer");
    assert!(matches!(renewed, Renew::NotLendable(_)), "{renewed:?}");
    place
        .store
        .release(&service(), &lease.lease_id, lease.epoch, Release::ConnectionsClosed)
        .await
        .expect("answer");
    place.raw("update telegram_sessions set state_reason = 'validation_overdue', environment = 'test'").await;
    let foreign = place.store.acquire(&service(), &request(&session.key, 2)).await.expect("answer");
    assert!(matches!(foreign, Acquire::NotLendable(_)), "{foreign:?}");
    let unknown = place.store.acquire(&service(), &request(&key("acme", "none"), 1)).await.expect("answer");
    assert!(matches!(unknown, Acquire::NotFound), "{unknown:?}");
}

async fn inspection_takes_any_material_but_no_foreign_one(place: Place) {
    let mut session = place.authorized("acme", "a").await;
    session.state = State::Revoked {
        reason: RevokedReason::ManualRevoke,
        log_out: usm::domain::session::LogOut::Pending,
    };
    let session =
        place.store.commit(&service(), change(session, Expected::Revision(1))).await.expect("revoked");
    let mut inspect = request(&session.key, 1);
    inspect.purpose = Purpose::Inspect;
    let lease = granted(place.store.acquire(&service(), &inspect).await.expect("answer")).lease;
    let renewed = place.store.renew(&service(), &lease.lease_id, 1, None).await.expect("answer");
    assert!(matches!(renewed, Renew::Renewed { lease: _, .. }), "{renewed:?}");
    place.store.release(&service(), &lease.lease_id, 1, Release::ConnectionsClosed).await.expect("answer");
    let mut wipe = change(session.clone(), Expected::Revision(2));
    wipe.material = MaterialChange::Wipe;
    place.store.commit(&service(), wipe).await.expect("wiped");
    let empty = place.store.acquire(&service(), &inspect).await.expect("answer");
    assert!(matches!(empty, Acquire::NotLendable(_)), "{empty:?}");
    let after = place.store.get(&service(), &session.key).await.expect("read").expect("there");
    assert_eq!((after.lease_epoch, after.lease.is_none()), (1, true), "the grant was taken back");
    place.authorized("acme", "theirs").await;
    place.raw("update telegram_sessions set custody = 'LEGACY'").await;
    let mut foreign = inspect.clone();
    foreign.key = key("acme", "theirs");
    let foreign = place.store.acquire(&service(), &foreign).await.expect("answer");
    assert!(matches!(foreign, Acquire::NotLendable(_)), "{foreign:?}");
}

async fn a_switched_off_feature_lends_nothing(place: Place) {
    let session = place.authorized("acme", "a").await;
    place.store.set_setting(&service(), settings::FEATURE, settings::FEATURE_OFF).await.expect("off");
    for caller in [service(), tenant("acme")] {
        let answer = place.store.acquire(&caller, &request(&session.key, 1)).await.expect("answer");
        assert!(matches!(answer, Acquire::Disabled), "{answer:?}");
    }
    place.store.set_setting(&service(), settings::FEATURE, settings::FEATURE_ON).await.expect("on");
    granted(place.store.acquire(&tenant("acme"), &request(&session.key, 1)).await.expect("answer"));
}

async fn leases_leave_the_revision_alone(place: Place) {
    let session = place.authorized("acme", "a").await;
    let lease =
        granted(place.store.acquire(&service(), &request(&session.key, 1)).await.expect("answer")).lease;
    let told = lease.acquire_time;
    place.store.renew(&service(), &lease.lease_id, 1, Some(told)).await.expect("answer");
    place.store.renew(&service(), &lease.lease_id, 1, None).await.expect("answer");
    place.store.release(&service(), &lease.lease_id, 1, Release::ConnectionsClosed).await.expect("answer");
    let after = place.store.get(&service(), &session.key).await.expect("read").expect("there");
    assert_eq!(after.revision, session.revision);
    let activity = after.last_activity_time.expect("a holder's word is activity");
    assert_eq!(activity, told, "and nothing else is");
    let kept = place.store.commit(&service(), change(session, Expected::Revision(1))).await.expect("written");
    assert_eq!(kept.last_activity_time, Some(activity), "a change that read an older time keeps the newer");
}

async fn the_log_tells_of_leases(place: Place) {
    let session = place.authorized("acme", "a").await;
    let own = tenant("acme");
    let lease = granted(place.store.acquire(&own, &request(&session.key, 1)).await.expect("answer")).lease;
    place.store.renew(&own, &lease.lease_id, 1, None).await.expect("answer");
    place.store.evict(&own, &session.key, None, Drain::Evicted).await.expect("evicted");
    place.store.release(&own, &lease.lease_id, 1, Release::ConnectionsClosed).await.expect("answer");
    place.store.release(&own, &lease.lease_id, 1, Release::ConnectionsClosed).await.expect("answer");
    let filter = EventFilter { key: Some(session.key), tenant: None };
    let events = place.store.events(&own, &filter, &first_page(20)).await.expect("events").items;
    let kinds: Vec<Kind> = events.iter().map(|event| event.kind).skip(1).collect();
    assert_eq!(kinds, [Kind::LeaseGranted, Kind::LeaseEvicted, Kind::LeaseReleased]);
    assert!(events.iter().skip(1).all(|event| event.actor == "user:acme"));
}

async fn a_dropped_request_leaves_no_half_lease(place: Place) {
    let session = place.authorized("acme", "a").await;
    // Given up at every point between the first query and the last.
    for step in 0..40_u64 {
        let limit = Duration::from_micros(step * 250);
        let request = request(&session.key, 1);
        let _ = tokio::time::timeout(limit, place.store.acquire(&service(), &request)).await;
        // Read in one statement: the end of the transaction may be under way still.
        let both = place
            .ask(
                "select lease_epoch || ' ' || (select count(*) from session_events where kind = 'lease_granted') \
                 from telegram_sessions",
            )
            .await;
        let (epoch, grants) = both.split_once(' ').expect("two numbers");
        assert_eq!(epoch, grants, "a grant and its event, or neither");
        let seen = place.store.get(&service(), &session.key).await.expect("read").expect("there");
        if seen.lease.is_some() {
            place
                .store
                .release(&service(), &request.lease_id, seen.lease_epoch, Release::ConnectionsClosed)
                .await
                .expect("answer");
        }
    }
}

async fn no_lease_id_reaches_the_database(place: Place) {
    let session = place.authorized("acme", "a").await;
    let lease =
        granted(place.store.acquire(&service(), &request(&session.key, 1)).await.expect("answer")).lease;
    let secret = lease.lease_id.expose_secret();
    let stored = place.ask("select lease_id_hash from telegram_sessions").await;
    assert_eq!(stored.len(), 64, "a SHA-256 in hexadecimal");
    assert_ne!(stored, secret);
    let told =
        place.ask("select cast(details as text) from session_events order by sequence desc limit 1").await;
    assert!(told.contains("worker-1") && !told.contains(secret), "{told}");
}
