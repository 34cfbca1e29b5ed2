//! A server that dies: requests end in time, and go on when it is back.

use std::time::{Duration, Instant};

use usm::{
    domain::secret::Secret,
    store::{Error, Store, migrate, sessions::Expected},
};

use super::{absent, change, key, options, service};
use crate::support::{
    poll,
    postgres::{Cluster, OWNER, PROGRAM},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_unavailable_in_time_and_loses_nothing() {
    let cluster = Cluster::start().await;
    cluster.make_roles().await;
    cluster.admin("postgres", &format!("create database usm owner {OWNER}")).await;
    migrate::up(&Secret::new(cluster.url(OWNER, "usm")), Some(PROGRAM)).await.expect("up");
    let store = Store::open(options(Secret::new(cluster.url(PROGRAM, "usm")))).await.expect("opens");
    store.commit(&service(), change(absent("acme", "a"), Expected::New)).await.expect("new");
    cluster.kill();
    for patience in [Duration::from_millis(300), Duration::from_secs(10)] {
        let mut caller = service();
        caller.deadline = Instant::now() + patience;
        let begun = Instant::now();
        let answer = store.get(&caller, &key("acme", "a")).await;
        assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
        // A busy machine wakes a little late.
        assert!(begun.elapsed() < patience + Duration::from_secs(1), "after {:?}", begun.elapsed());
    }
    let ping = store.ping(Instant::now() + Duration::from_millis(300)).await;
    assert!(matches!(ping, Err(Error::Unavailable { .. })), "{ping:?}");
    cluster.restart().await;
    let back = poll::until("the store answers again", || async {
        store.get(&service(), &key("acme", "a")).await.ok()
    })
    .await;
    assert_eq!(back.expect("what was committed is there").revision, 1);
    store.ping(Instant::now() + Duration::from_secs(5)).await.expect("answers");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_waits_ends_at_the_deadline() {
    let place = super::Place::postgres().await;
    let session = place.authorized("acme", "a").await;
    let super::Raw::Postgres(database) = &place.raw else { panic!("on PostgreSQL") };
    let mut blocker = database.connect("postgres").await;
    sqlx::raw_sql("begin; select 1 from public.telegram_sessions for update")
        .execute(&mut blocker)
        .await
        .expect("locks");
    let mut caller = service();
    caller.deadline = Instant::now() + Duration::from_millis(400);
    let answer = place.store.commit(&caller, change(session.clone(), Expected::Revision(1))).await;
    assert!(matches!(answer, Err(Error::Timeout { .. })), "{answer:?}");
    sqlx::raw_sql("rollback").execute(&mut blocker).await.expect("lets go");
    place
        .store
        .commit(&service(), change(session, Expected::Revision(1)))
        .await
        .expect("nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_free_connection_is_unavailable_in_time() {
    let database = crate::support::postgres::Database::migrated().await;
    let mut few = options(database.program_url());
    few.max_connections = 1;
    few.acquire_timeout = Duration::from_secs(1);
    // Opening keeps the same limit, and the machine may be busy.
    let store = poll::until("the store opens", || async { Store::open(few.clone()).await.ok() }).await;
    store.commit(&service(), change(absent("acme", "a"), Expected::New)).await.expect("new");
    let mut blocker = database.connect("postgres").await;
    sqlx::raw_sql("begin; lock table public.telegram_sessions").execute(&mut blocker).await.expect("locks");
    let waiting = {
        let store = store.clone();
        tokio::spawn(async move { store.get(&service(), &key("acme", "a")).await })
    };
    poll::until("the one connection is taken", || async {
        let waits: bool = sqlx::query_scalar("select exists (select from pg_locks where not granted)")
            .fetch_one(&mut database.connect("postgres").await)
            .await
            .expect("answers");
        waits.then_some(())
    })
    .await;
    let answer = store.get(&service(), &key("acme", "a")).await;
    assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
    sqlx::raw_sql("rollback").execute(&mut blocker).await.expect("lets go");
    assert!(waiting.await.expect("no panic").expect("read").is_some());
}

/// Its statement read the old material before it waited for the row.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_waited_for_a_change_of_material_hands_out_the_new() {
    let place = super::Place::postgres().await;
    let super::Raw::Postgres(database) = &place.raw else { panic!("on PostgreSQL") };
    let mut blocker = database.connect("postgres").await;
    let mut watcher = database.connect("postgres").await;
    let mut waited = 0;
    for round in 0..5 {
        let session = place.authorized("acme", &format!("app-{round}")).await;
        let message = format!(
            "begin; update public.telegram_sessions set material_version = 2 where app_id = 'app-{round}'; \
             update usm.session_material set version = 2, sealed = '\\x0102' where app_id = 'app-{round}'"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(message)).execute(&mut blocker).await.expect("changes");
        let asking = {
            let (store, request) = (place.store.clone(), super::request(&session.key, round));
            tokio::spawn(async move { store.acquire(&service(), &request).await })
        };
        let mut waits = false;
        while !waits && !asking.is_finished() {
            waits = sqlx::query_scalar("select exists (select from pg_locks where not granted)")
                .fetch_one(&mut watcher)
                .await
                .expect("answers");
        }
        waited += i32::from(waits);
        sqlx::raw_sql("commit").execute(&mut blocker).await.expect("commits");
        let grant = super::granted(asking.await.expect("no panic").expect("an answer"));
        assert_eq!((grant.sealed.version, grant.sealed.bytes), (2, vec![1, 2]));
        assert_eq!(grant.lease.epoch, session.lease_epoch + 1, "granted once");
    }
    assert!(waited > 0, "a grant waited for the row");
}
