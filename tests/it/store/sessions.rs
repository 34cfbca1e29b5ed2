//! Sessions, material, events and settings, on both databases.

use std::collections::BTreeMap;

use usm::{
    domain::{
        event::{Kind, NewEvent, Transition},
        fingerprint::Fingerprint,
        id::{ReplicaId, TicketHash},
        lease::{Drain, Filter},
        session::{
            AbsentReason, Account, AuthorizedReason, Custody, LogOut, Pending, Rest, RevokedReason,
            StaleReason, State, StateName,
        },
        time::Timestamp,
    },
    store::{
        Error, LeaseFilter, SessionFilter,
        events::EventFilter,
        sessions::{Expected, LeaseRule, MaterialChange, TicketRule},
    },
};

use super::{
    GAP, Place, absent, change, first_page, granted, key, next_page, now, on_both, request, sealed, service,
    tenant,
};

on_both!(
    a_session_comes_back_as_it_was_written,
    every_state_comes_back,
    a_key_is_taken_once,
    an_old_revision_is_refused,
    a_change_raises_the_revision_and_writes_its_events,
    a_newer_login_keeps_the_older_from_writing,
    material_is_replaced_and_wiped,
    material_of_another_version_is_refused,
    a_refused_change_leaves_nothing_behind,
    another_tenants_session_is_as_none,
    pages_follow_each_other,
    filters_choose_exactly,
    a_token_of_another_list_is_refused,
    a_deleted_session_leaves_its_events,
    a_leased_session_is_not_deleted,
    no_change_under_a_live_lease_when_it_matters,
    events_come_in_order_and_by_page,
    settings_are_kept,
    a_row_nobody_could_have_written_is_an_error,
    a_past_deadline_is_told,
    many_writers_of_one_session_lose_but_one,
);

async fn a_session_comes_back_as_it_was_written(place: Place) {
    let mut wanted = absent("acme", "app-1");
    wanted.state = State::Authorized { reason: AuthorizedReason::Minted };
    wanted.custody = Custody::Legacy;
    wanted.account = Some(Account { telegram_user_id: i64::MAX, username: None, is_bot: true });
    wanted.dc_id = Some(5);
    wanted.api_key_alias = Some("MASTER".to_owned());
    wanted.fingerprint = Some(Fingerprint::from_stored("ab".repeat(32)));
    wanted.legacy_fingerprint = Some("00:1:2".to_owned());
    wanted.login_ticket = Some(TicketHash::from_stored("cd".repeat(32)));
    wanted.labels = BTreeMap::from([("région".to_owned(), "\"quoted\" 'text' \\".to_owned())]);
    wanted.last_validated_time = Some(Timestamp::from_millis(5));
    wanted.last_activity_time = Some(Timestamp::from_millis(6));
    let written =
        place.store.commit(&service(), change(wanted.clone(), Expected::New)).await.expect("written");
    wanted.revision = 1;
    assert_eq!(format!("{written:?}"), format!("{wanted:?}"));
    let read = place.store.get(&service(), &wanted.key).await.expect("read").expect("there");
    assert_eq!(format!("{read:?}"), format!("{wanted:?}"));
}

async fn every_state_comes_back(place: Place) {
    let states = [
        State::Absent { reason: None },
        State::Absent { reason: Some(AbsentReason::Reset) },
        State::PendingQr(Pending { before: Rest::Absent { reason: None } }),
        State::PendingCode(Pending { before: Rest::Stale { reason: StaleReason::Restored } }),
        State::PendingPassword(Pending {
            before: Rest::Revoked { reason: RevokedReason::Banned, log_out: LogOut::Pending },
        }),
        State::Authorized { reason: AuthorizedReason::ValidationSuccess },
        State::Stale { reason: StaleReason::ValidationOverdue },
        State::Revoked { reason: RevokedReason::ManualRevoke, log_out: LogOut::Done },
        State::Absent { reason: None },
    ];
    let mut session =
        place.store.commit(&service(), change(absent("acme", "a"), Expected::New)).await.expect("new");
    for state in states {
        let expected = Expected::Revision(session.revision);
        session.state = state.clone();
        session = place.store.commit(&service(), change(session, expected)).await.expect("written");
        assert_eq!(session.state, state);
        let read = place.store.get(&service(), &session.key).await.expect("read").expect("there");
        assert_eq!(read.state, state);
    }
}

async fn a_key_is_taken_once(place: Place) {
    place.store.commit(&service(), change(absent("acme", "a"), Expected::New)).await.expect("new");
    let again = place.store.commit(&service(), change(absent("acme", "a"), Expected::New)).await;
    assert!(matches!(again, Err(Error::AlreadyExists)), "{again:?}");
}

async fn an_old_revision_is_refused(place: Place) {
    let session =
        place.store.commit(&service(), change(absent("acme", "a"), Expected::New)).await.expect("new");
    let write = || change(session.clone(), Expected::Revision(1));
    assert_eq!(place.store.commit(&service(), write()).await.expect("second").revision, 2);
    let stale = place.store.commit(&service(), write()).await;
    assert!(matches!(stale, Err(Error::RevisionStale { current: 2 })), "{stale:?}");
    let unknown = change(absent("acme", "none"), Expected::Revision(1));
    let unknown = place.store.commit(&service(), unknown).await;
    assert!(matches!(unknown, Err(Error::NotFound)), "{unknown:?}");
}

async fn a_change_raises_the_revision_and_writes_its_events(place: Place) {
    let mut new = change(absent("acme", "a"), Expected::New);
    new.events = vec![
        NewEvent::transition(
            Transition { from: StateName::Absent, to: StateName::PendingQr, reason: "qr_started" },
            "user:ann",
        ),
        NewEvent::of(Kind::CustodyTaken, "user:ann").detail("epoch", 3),
    ];
    place.store.commit(&service(), new).await.expect("new");
    let filter = EventFilter { key: Some(key("acme", "a")), tenant: None };
    let page = place.store.events(&service(), &filter, &first_page(10)).await.expect("events");
    assert_eq!(page.next_token, "");
    let [moved, taken] = page.items.as_slice() else { panic!("two events: {page:?}") };
    assert!(moved.sequence < taken.sequence);
    assert_eq!(moved.kind, Kind::Transition);
    assert_eq!((moved.from, moved.to), (Some(StateName::Absent), Some(StateName::PendingQr)));
    assert_eq!((moved.reason.as_str(), moved.actor.as_str(), moved.time), ("qr_started", "user:ann", now()));
    assert_eq!(taken.kind, Kind::CustodyTaken);
    assert_eq!(taken.details, [("epoch".to_owned(), "3".to_owned())]);
}

async fn a_newer_login_keeps_the_older_from_writing(place: Place) {
    let ticket = |byte: &str| TicketHash::from_stored(byte.repeat(32));
    let replica = |name: &str| ReplicaId::from_stored(name.to_owned());
    let must_be =
        |byte: &str, owner: &str| TicketRule::MustBe { ticket: ticket(byte), owner: replica(owner) };
    let mut session = absent("acme", "a");
    session.login_ticket = Some(ticket("aa"));
    session.login_owner = Some(replica("r1"));
    let session = place.store.commit(&service(), change(session, Expected::New)).await.expect("new");
    let mut finish = change(session.clone(), Expected::Revision(session.revision));
    finish.login_ticket = must_be("bb", "r1");
    let refused = place.store.commit(&service(), finish.clone()).await;
    assert!(matches!(refused, Err(Error::TicketMoved)), "{refused:?}");
    finish.login_ticket = must_be("aa", "r2");
    let refused = place.store.commit(&service(), finish.clone()).await;
    assert!(matches!(refused, Err(Error::TicketMoved)), "another replica runs it: {refused:?}");
    assert_eq!(place.store.logins_of(&service(), &replica("r1")).await.expect("read"), [ticket("aa")]);
    assert_eq!(place.store.logins_of(&service(), &replica("r2")).await.expect("read"), []);
    finish.login_ticket = must_be("aa", "r1");
    finish.session.forget_login();
    place.store.commit(&service(), finish).await.expect("its own ticket");
    assert_eq!(place.store.logins_of(&service(), &replica("r1")).await.expect("read"), []);
}

async fn material_is_replaced_and_wiped(place: Place) {
    let session = place.authorized("acme", "a").await;
    let read = || async { place.store.material(&service(), &key("acme", "a")).await.expect("read") };
    assert_eq!(read().await, Some(sealed(1)));
    let mut next = change(session.clone(), Expected::Revision(session.revision));
    next.session.material_version = 2;
    next.material = MaterialChange::Replace(sealed(2));
    let session = place.store.commit(&service(), next).await.expect("replaced");
    assert_eq!(read().await, Some(sealed(2)));
    let mut wipe = change(session.clone(), Expected::Revision(session.revision));
    wipe.material = MaterialChange::Wipe;
    place.store.commit(&service(), wipe).await.expect("wiped");
    assert_eq!(read().await, None);
}

async fn material_of_another_version_is_refused(place: Place) {
    let mut new = change(absent("acme", "a"), Expected::New);
    new.material = MaterialChange::Replace(sealed(9));
    let refused = place.store.commit(&service(), new).await;
    assert!(matches!(refused, Err(Error::Contradiction { .. })), "{refused:?}");
    assert!(place.store.get(&service(), &key("acme", "a")).await.expect("read").is_none());
}

async fn a_refused_change_leaves_nothing_behind(place: Place) {
    let session = place.authorized("acme", "a").await;
    let before =
        place.store.events(&service(), &EventFilter::default(), &first_page(50)).await.expect("events");
    let mut stale = change(session, Expected::Revision(77));
    stale.session.material_version = 2;
    stale.material = MaterialChange::Replace(sealed(2));
    place.store.commit(&service(), stale).await.expect_err("stale");
    let after =
        place.store.events(&service(), &EventFilter::default(), &first_page(50)).await.expect("events");
    assert_eq!(before.items.len(), after.items.len());
    assert_eq!(place.store.material(&service(), &key("acme", "a")).await.expect("read"), Some(sealed(1)));
}

async fn another_tenants_session_is_as_none(place: Place) {
    let session = place.authorized("acme", "a").await;
    let (theirs, own) = (tenant("rival"), tenant("acme"));
    let key = session.key.clone();
    assert!(place.store.get(&own, &key).await.expect("read").is_some());
    assert!(place.store.get(&theirs, &key).await.expect("read").is_none());
    assert!(place.store.material(&theirs, &key).await.expect("read").is_none());
    let page = place.store.list(&theirs, &SessionFilter::default(), &first_page(10)).await.expect("list");
    assert!(page.items.is_empty());
    let events = place.store.events(&theirs, &EventFilter::default(), &first_page(10)).await.expect("events");
    assert!(events.items.is_empty());
    let written = place.store.commit(&theirs, change(session.clone(), Expected::Revision(1))).await;
    assert!(matches!(written, Err(Error::NotFound)), "{written:?}");
    let planted = place.store.commit(&theirs, change(absent("acme", "b"), Expected::New)).await;
    assert!(matches!(planted, Err(Error::NotFound)), "{planted:?}");
    let removed =
        place.store.delete(&theirs, &key, 1, &LeaseRule::NoneLive, NewEvent::of(Kind::Deleted, "x")).await;
    assert!(matches!(removed, Err(Error::NotFound)), "{removed:?}");
    let evicted = place.store.evict(&theirs, &key, None, Drain::Evicted).await;
    assert!(matches!(evicted, Err(Error::NotFound)), "{evicted:?}");
    let acquired = place.store.acquire(&theirs, &request(&key, 1)).await.expect("answer");
    assert!(matches!(acquired, usm::store::leases::Acquire::NotFound), "{acquired:?}");
}

async fn pages_follow_each_other(place: Place) {
    for (tenant, app) in [("b", "2"), ("a", "Z"), ("a", "a"), ("b", "1"), ("a", "B")] {
        place.store.commit(&service(), change(absent(tenant, app), Expected::New)).await.expect("new");
    }
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = place
            .store
            .list(&service(), &SessionFilter::default(), &next_page(2, &token))
            .await
            .expect("page");
        assert!(page.items.len() <= 2);
        seen.extend(page.items.into_iter().map(|session| session.key.to_string()));
        token = page.next_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["a/B", "a/Z", "a/a", "b/1", "b/2"]);
}

async fn filters_choose_exactly(place: Place) {
    let mut legacy = absent("a", "legacy");
    legacy.custody = Custody::Legacy;
    legacy.labels =
        BTreeMap::from([("team".to_owned(), "x".to_owned()), ("it's".to_owned(), "\"".to_owned())]);
    place.store.commit(&service(), change(legacy, Expected::New)).await.expect("new");
    let usable = place.authorized("a", "usable").await;
    place.authorized("b", "other").await;
    let found = |filter: SessionFilter| {
        let store = place.store.clone();
        async move {
            let page = store.list(&service(), &filter, &first_page(10)).await.expect("list");
            page.items.iter().map(|session| session.key.to_string()).collect::<Vec<_>>()
        }
    };
    let tenant = Some(usable.key.tenant.clone());
    assert_eq!(
        found(SessionFilter { tenant: tenant.clone(), ..Default::default() }).await,
        ["a/legacy", "a/usable"]
    );
    let states = vec![StateName::Authorized, StateName::Stale];
    assert_eq!(found(SessionFilter { tenant, states, ..Default::default() }).await, ["a/usable"]);
    assert_eq!(
        found(SessionFilter { custody: Some(Custody::Legacy), ..Default::default() }).await,
        ["a/legacy"]
    );
    let labels = BTreeMap::from([("team".to_owned(), "x".to_owned()), ("it's".to_owned(), "\"".to_owned())]);
    assert_eq!(found(SessionFilter { labels, ..Default::default() }).await, ["a/legacy"]);
    let labels = BTreeMap::from([("team".to_owned(), "y".to_owned())]);
    assert!(found(SessionFilter { labels, ..Default::default() }).await.is_empty());
    let leased = SessionFilter { lease: LeaseFilter::Leased(Filter::default()), ..Default::default() };
    assert!(found(leased.clone()).await.is_empty());
    granted(place.store.acquire(&service(), &request(&usable.key, 1)).await.expect("answer"));
    assert_eq!(found(leased).await, ["a/usable"]);
}

async fn a_token_of_another_list_is_refused(place: Place) {
    let page = usm::domain::page::PageRequest { size: 5, after: Some("no key".to_owned()) };
    let list = place.store.list(&service(), &SessionFilter::default(), &page).await;
    assert!(matches!(list, Err(Error::PageToken)), "{list:?}");
    let events = place.store.events(&service(), &EventFilter::default(), &page).await;
    assert!(matches!(events, Err(Error::PageToken)), "{events:?}");
}

async fn a_deleted_session_leaves_its_events(place: Place) {
    let session = place.authorized("acme", "a").await;
    let gone = || NewEvent::of(Kind::Deleted, "service_role");
    let stale = place.store.delete(&service(), &session.key, 9, &LeaseRule::NoneLive, gone()).await;
    assert!(matches!(stale, Err(Error::RevisionStale { current: 1 })), "{stale:?}");
    place.store.delete(&service(), &session.key, 1, &LeaseRule::NoneLive, gone()).await.expect("deleted");
    assert!(place.store.get(&service(), &session.key).await.expect("read").is_none());
    assert!(place.store.material(&service(), &session.key).await.expect("read").is_none());
    let filter = EventFilter { key: Some(session.key.clone()), tenant: None };
    let events = place.store.events(&service(), &filter, &first_page(10)).await.expect("events");
    assert_eq!(events.items.last().map(|event| event.kind), Some(Kind::Deleted));
    let again = place.store.delete(&service(), &session.key, 1, &LeaseRule::NoneLive, gone()).await;
    assert!(matches!(again, Err(Error::NotFound)), "{again:?}");
}

async fn a_leased_session_is_not_deleted(place: Place) {
    let session = place.authorized("acme", "a").await;
    granted(place.store.acquire(&service(), &request(&session.key, 1)).await.expect("answer"));
    let gone = || NewEvent::of(Kind::Deleted, "service_role");
    let refused = place.store.delete(&service(), &session.key, 1, &LeaseRule::NoneLive, gone()).await;
    assert!(matches!(refused, Err(Error::Leased { remaining }) if remaining > GAP), "{refused:?}");
    place.pass(std::time::Duration::from_secs(70)).await;
    let resting = place.store.delete(&service(), &session.key, 1, &LeaseRule::NoneLive, gone()).await;
    assert!(matches!(resting, Err(Error::Leased { remaining }) if remaining <= GAP), "{resting:?}");
    place.pass(GAP).await;
    place
        .store
        .delete(&service(), &session.key, 1, &LeaseRule::NoneLive, gone())
        .await
        .expect("deleted after the gap");
}

async fn no_change_under_a_live_lease_when_it_matters(place: Place) {
    let session = place.authorized("acme", "a").await;
    let grant = granted(place.store.acquire(&service(), &request(&session.key, 1)).await.expect("answer"));
    let mut swap = change(session.clone(), Expected::Revision(1));
    swap.lease = LeaseRule::NoneLive;
    let refused = place.store.commit(&service(), swap.clone()).await;
    assert!(matches!(refused, Err(Error::Leased { .. })), "{refused:?}");
    let harmless =
        place.store.commit(&service(), change(session, Expected::Revision(1))).await.expect("labels");
    assert_eq!(harmless.lease.map(|lease| lease.epoch), Some(1), "a change beside the lease leaves it");
    place.pass(std::time::Duration::from_secs(60) + GAP).await;
    swap.expected = Expected::Revision(2);
    let swapped = place.store.commit(&service(), swap).await.expect("the lease is over");
    assert_eq!((swapped.lease_epoch, swapped.lease.is_none()), (2, true));
    let renewed = place.store.renew(&service(), &grant.lease.lease_id, 1, None).await.expect("answer");
    assert!(matches!(renewed, usm::store::leases::Renew::NotHeld), "{renewed:?}");
}

async fn events_come_in_order_and_by_page(place: Place) {
    for app in ["a", "b", "c"] {
        place.store.commit(&service(), change(absent("acme", app), Expected::New)).await.expect("new");
    }
    place.store.commit(&service(), change(absent("rival", "x"), Expected::New)).await.expect("new");
    let filter = EventFilter { key: None, tenant: Some(key("acme", "a").tenant) };
    let first = place.store.events(&tenant("acme"), &filter, &first_page(2)).await.expect("page");
    assert_eq!(first.items.len(), 2);
    let second =
        place.store.events(&tenant("acme"), &filter, &next_page(2, &first.next_token)).await.expect("page");
    assert_eq!((second.items.len(), second.next_token.as_str()), (1, ""));
    assert!(first.items[1].sequence < second.items[0].sequence);
}

async fn settings_are_kept(place: Place) {
    assert_eq!(place.store.setting(&service(), "x").await.expect("read"), None);
    place.store.set_setting(&service(), "x", "1").await.expect("written");
    place.store.set_setting(&service(), "x", "2").await.expect("written");
    assert_eq!(place.store.setting(&tenant("acme"), "x").await.expect("read").as_deref(), Some("2"));
}

async fn a_row_nobody_could_have_written_is_an_error(place: Place) {
    let session = place.authorized("acme", "a").await;
    for (column, value) in [("state", "NOVEL"), ("state_reason", "novel"), ("custody", "NOBODY")] {
        place.raw("update telegram_sessions set state = 'AUTHORIZED', state_reason = 'imported'").await;
        place.raw(&format!("update telegram_sessions set {column} = '{value}'")).await;
        let read = place.store.get(&service(), &session.key).await;
        assert!(matches!(read, Err(Error::Corrupt { .. })), "{column}: {read:?}");
    }
}

async fn a_past_deadline_is_told(place: Place) {
    let mut late = service();
    late.deadline = std::time::Instant::now();
    let read = place.store.get(&late, &key("acme", "a")).await;
    assert!(matches!(read, Err(Error::Timeout { .. })), "{read:?}");
}

async fn many_writers_of_one_session_lose_but_one(place: Place) {
    let session = place.authorized("acme", "a").await;
    let writers = (0..16).map(|_| {
        let (store, session) = (place.store.clone(), session.clone());
        tokio::spawn(async move { store.commit(&service(), change(session, Expected::Revision(1))).await })
    });
    let mut won = 0;
    for writer in writers.collect::<Vec<_>>() {
        match writer.await.expect("no panic") {
            Ok(session) => won += session.revision - 1,
            Err(Error::RevisionStale { current: 2 }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(won, 1);
}
