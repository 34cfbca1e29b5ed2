//! A look gives way to whoever waits for its session.

use std::time::Duration;

use sqlx::Connection as _;
use usm::domain::{material::Format, secret::Secret};
use usm_client::v1;

use super::every_second;
use crate::support::{
    poll,
    telegram::{Fault, soon},
    world::{ANN, Plan, Shape, TENANT, World, lease, on_both_shapes, seconds},
};

on_both_shapes!(
    whoever_asks_gets_the_session_from_a_look,
    a_look_is_broken_off_when_somebody_waits_elsewhere
);

/// A look whose answer takes long.
async fn under_way(world: &World) {
    world.sandbox.fault("users.getUsers", 1, Fault::Delay(Duration::from_secs(8))).await;
    world.lendable("bot", ANN).await;
    let lease = poll::until("a look is under way", || async {
        let lease = world.session("bot").await.lease?;
        (world.sandbox.open_connections().await == 1).then_some(lease)
    })
    .await;
    assert_eq!(lease.holder, "usm:validator");
}

async fn whoever_asks_gets_the_session_from_a_look(shape: Shape) {
    let world = World::set_up(shape, Plan::default(), |setup| setup.validation = every_second(60)).await;
    under_way(&world).await;
    let begun = std::time::Instant::now();
    // It did not even ask to wait.
    let (held, material) = world.lend("bot").await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let material = world.parsed(&material.data, Format::Raw).await;
    world.sandbox.telegram().probe(&material, soon()).await.expect("nobody else is connected");
    assert_eq!(world.sandbox.counter("duplicates").await, 0);
    world.release(&held, true).await.expect("held");
    assert!(
        world.session("bot").await.last_validated_time.is_none(),
        "a look that was broken off found nothing"
    );
    world.seen("bot", 1).await;
    world.stop().await;
}

/// Puts somebody into the session's queue, seen just now.
async fn wait_for(world: &World, database: Option<&Secret>) {
    let insert = |now: &str| {
        sqlx::AssertSqlSafe(format!(
            "insert into lease_waits (tenant_id, app_id, waiter, seen_time, deadline) \
             values ('{TENANT}', 'bot', 'somebody', {now}, {now} + 60000)"
        ))
    };
    match database {
        Some(url) => {
            let mut connection = sqlx::PgConnection::connect(url.expose_secret()).await.expect("connects");
            let begin = "set role service_role; set search_path = usm, public";
            sqlx::raw_sql(begin).execute(&mut connection).await.expect("a role");
            let now = "floor(extract(epoch from clock_timestamp()) * 1000)::bigint";
            sqlx::raw_sql(insert(now)).execute(&mut connection).await.expect("in the queue");
        }
        None => {
            let url = format!("sqlite://{}", world.server.folder().join("usm.sqlite3").display());
            let mut connection = sqlx::SqliteConnection::connect(&url).await.expect("opens");
            let now = "cast(round(unixepoch('subsec') * 1000) as integer)";
            sqlx::raw_sql(insert(now)).execute(&mut connection).await.expect("in the queue");
            connection.close().await.expect("closes");
        }
    }
}

async fn a_look_is_broken_off_when_somebody_waits_elsewhere(shape: Shape) {
    let mut database = None;
    let world = World::set_up(shape, Plan::default(), |setup| {
        setup.validation = every_second(60);
        database.clone_from(&setup.database);
    })
    .await;
    under_way(&world).await;
    let begun = std::time::Instant::now();
    wait_for(&world, database.as_ref()).await;
    poll::until("the session is free", || async { world.session("bot").await.lease.is_none().then_some(()) })
        .await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(world.sandbox.open_connections().await, 0);
    let session = world.session("bot").await;
    assert!(session.last_validated_time.is_none(), "a look that was broken off found nothing");
    let patient = v1::AcquireLeaseRequest { wait: seconds(10), ..lease("bot", "worker-1") };
    world.acquire(patient).await.expect("whoever waits gets it");
    assert_eq!(world.sandbox.counter("duplicates").await, 0);
    world.stop().await;
}
