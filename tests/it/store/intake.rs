//! Imports that are looked up and written together: each is judged by its own row.

use std::collections::BTreeSet;

use futures::future::join_all;
use sqlx::Connection as _;
use usm::{
    domain::{
        event::{NewEvent, Transition},
        fingerprint::Fingerprint,
        session::{AuthorizedReason, State, StateName},
    },
    store::{
        Error,
        sessions::{Change, Expected, MaterialChange},
    },
};

use super::{Place, Raw, absent, change, key, on_both, sealed, service, tenant};

on_both!(
    imports_of_one_moment_are_each_judged_by_their_own_row,
    what_is_looked_up_at_once_is_told_to_each,
    a_tenant_takes_in_its_own_alone,
    large_material_goes_in_too,
);

/// A new session as an import makes it, of an authorization that is called as it is.
pub(super) fn imported(tenant: &str, app: &str) -> Change {
    of_authorization(tenant, app, &format!("{tenant}/{app}"))
}

fn of_authorization(tenant: &str, app: &str, authorization: &str) -> Change {
    let mut session = absent(tenant, app);
    session.state = State::Authorized { reason: AuthorizedReason::Imported };
    session.material_version = 1;
    session.dc_id = Some(2);
    session.fingerprint = Some(print(authorization));
    session.labels.insert("team".to_owned(), "a \"b\" \u{1f4a5} $q$".to_owned());
    let moved = Transition { from: StateName::Absent, to: StateName::Authorized, reason: "imported" };
    let mut change = change(session, Expected::New);
    change.material = MaterialChange::Replace(sealed(1));
    change.events = vec![NewEvent::transition(moved, "somebody").detail("format", "raw")];
    change
}

fn print(authorization: &str) -> Fingerprint {
    Fingerprint::from_stored(format!("print of {authorization}"))
}

async fn imports_of_one_moment_are_each_judged_by_their_own_row(place: Place) {
    let store = &place.store;
    store.commit(&service(), imported("acme", "there")).await.expect("stored");
    let mut changes: Vec<_> = (0..100).map(|number| imported("acme", &format!("new-{number}"))).collect();
    // A name that is taken, an authorization that is taken, and two of one kind among themselves.
    changes.push(of_authorization("acme", "there", "other"));
    changes.push(of_authorization("acme", "elsewhere", "acme/there"));
    changes.push(of_authorization("acme", "new-7", "seven"));
    changes.push(of_authorization("globex", "copy", "acme/new-8"));
    let caller = service();
    let answers = join_all(changes.iter().map(|change| store.take_in(&caller, change.clone()))).await;
    let (mut made, mut refused) = (BTreeSet::new(), 0);
    for (change, answer) in changes.iter().zip(answers) {
        match answer {
            Ok(session) => {
                assert_eq!(session.key, change.session.key);
                assert_eq!((session.revision, &session.labels), (1, &change.session.labels));
                assert_eq!(session.fingerprint, change.session.fingerprint);
                assert!(made.insert(session.key.clone()), "{} twice", session.key);
                let material = store.material(&caller, &session.key).await.expect("read");
                assert_eq!(material, Some(sealed(1)));
            }
            Err(Error::AlreadyExists) => refused += 1,
            Err(error) => panic!("{}: {error}", change.session.key),
        }
    }
    assert_eq!((made.len(), refused), (100, 4));
    let events = place
        .ask("select cast(count(*) as text) from session_events where reason = 'imported' and actor = 'somebody'")
        .await;
    assert_eq!(events, "101", "one for each that is there");
    // The row is what a single commit writes.
    let one = store.get(&caller, &key("acme", "new-1")).await.expect("read").expect("there");
    let alone = store.get(&caller, &key("acme", "there")).await.expect("read").expect("there");
    assert_eq!((one.custody, one.state, one.lease_epoch), (alone.custody, alone.state, alone.lease_epoch));
    store.close().await;
}

async fn what_is_looked_up_at_once_is_told_to_each(place: Place) {
    let store = &place.store;
    for (tenant, app) in [("acme", "a"), ("globex", "b")] {
        store.commit(&service(), imported(tenant, app)).await.expect("stored");
    }
    let asks = [
        (service(), key("acme", "a"), "acme/a", true, None),
        (service(), key("acme", "new"), "nothing", false, None),
        (service(), key("acme", "new"), "globex/b", false, Some(key("globex", "b"))),
        (service(), key("globex", "b"), "acme/a", true, Some(key("acme", "a"))),
        // A tenant sees its own sessions; that the authorization is held is for the service to know.
        (tenant("acme"), key("acme", "a"), "globex/b", true, Some(key("globex", "b"))),
        (tenant("acme"), key("globex", "b"), "nothing", false, None),
    ];
    for _ in 0..5 {
        let looks = asks.iter().map(|(caller, key, it, ..)| store.look_up(caller, key, Some(print(it))));
        for (looked, (_, key, _, there, elsewhere)) in join_all(looks).await.into_iter().zip(&asks) {
            let looked = looked.expect("an answer");
            assert_eq!(looked.session.map(|session| session.key), there.then(|| key.clone()));
            assert_eq!(looked.elsewhere, *elsewhere);
        }
    }
    store.close().await;
}

async fn a_tenant_takes_in_its_own_alone(place: Place) {
    let store = &place.store;
    let (own, foreign) = (imported("acme", "own"), imported("globex", "foreign"));
    let caller = tenant("acme");
    let answers = join_all([store.take_in(&caller, own), store.take_in(&caller, foreign)]).await;
    assert!(matches!(answers.as_slice(), [Ok(_), Err(Error::NotFound)]), "{answers:?}");
    assert_eq!(store.get(&service(), &key("globex", "foreign")).await.expect("read").map(|_| ()), None);
    store.close().await;
}

async fn large_material_goes_in_too(place: Place) {
    let store = &place.store;
    let mut large = imported("acme", "large");
    let mut bytes = sealed(1);
    bytes.bytes = vec![7; 300_000];
    large.material = MaterialChange::Replace(bytes.clone());
    let caller = service();
    let answers = join_all([
        store.take_in(&caller, imported("acme", "a")),
        store.take_in(&caller, large),
        store.take_in(&caller, imported("acme", "b")),
    ])
    .await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let kept = store.material(&caller, &key("acme", "large")).await.expect("read");
    assert_eq!(kept, Some(bytes));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_somebody_holds_keeps_only_its_own_import_waiting() {
    let place = Place::postgres().await;
    let Raw::Postgres(database) = &place.raw else { panic!("on PostgreSQL") };
    // Somebody inserts the same name and does not commit yet.
    let mut other = database.connect("postgres").await;
    let mut held = other.begin().await.expect("begun");
    sqlx::raw_sql(
        "insert into public.telegram_sessions (tenant_id, app_id, state, state_reason, custody, environment, \
         revision, material_version, labels, create_time, update_time) \
         values ('acme', 'held', 'ABSENT', '', 'SERVICE', 'sandbox', 1, 0, '{}', 0, 0)",
    )
    .execute(&mut *held)
    .await
    .expect("inserted");
    let (store, caller) = (&place.store, service());
    let waiting = tokio::spawn({
        let (store, caller) = (store.clone(), caller.clone());
        async move { store.take_in(&caller, imported("acme", "held")).await }
    });
    let others: Vec<_> = (0..40).map(|number| format!("free-{number}")).collect();
    let kept = join_all(others.iter().map(|app| store.take_in(&caller, imported("acme", app)))).await;
    assert!(kept.iter().all(Result::is_ok), "{kept:?}");
    assert!(!waiting.is_finished(), "it waits for the one who came first");
    held.rollback().await.expect("rolled back");
    waiting.await.expect("no panic").expect("free now");
    store.close().await;
}
