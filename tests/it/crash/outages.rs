//! PostgreSQL or Redis goes away and comes back.

use std::time::{Duration, Instant};

use tonic::Code;
use usm::app::health::Ready;
use usm::{domain::secret::Secret, store::migrate};
use usm_client::v1::{self, LoginState, SessionState};

use crate::support::{
    poll,
    postgres::{Cluster, OWNER, PROGRAM},
    server::{Server, Setup, service_token},
    world::{ANN, Shape, TENANT, World, import, lease, pause, people, qr, reason, refused, seconds, within},
};

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_the_service_says_so_in_time_and_recovers() {
    let cluster = Cluster::start().await;
    cluster.make_roles().await;
    cluster.admin("postgres", &format!("create database usm owner {OWNER}")).await;
    migrate::up(&Secret::new(cluster.url(OWNER, "usm")), Some(PROGRAM)).await.expect("migrated");
    let sandbox = people(serde_json::json!({})).await;
    let mut setup = Setup::with(sandbox.endpoint());
    setup.database = Some(Secret::new(cluster.url(PROGRAM, "usm")));
    let server = Server::start(setup).await;
    let client = server.client(Some(&service_token())).await;
    let world = World::around(sandbox, server, None, client);
    world.lendable("bot", ANN).await;
    let request = v1::AcquireLeaseRequest { ttl: seconds(120), ..lease("bot", "worker-1") };
    let held = world.acquire(request).await.expect("granted").lease.expect("a lease");

    cluster.kill();
    let ask = || v1::GetSessionRequest { tenant_id: TENANT.to_owned(), app_id: "bot".to_owned() };
    for patience in [1, 10] {
        let begun = Instant::now();
        let away = refused(world.sessions.clone().get_session(within(patience, ask())).await);
        assert!(begun.elapsed() < Duration::from_secs(patience + 2));
        assert_eq!((away.code(), reason(&away).as_str()), (Code::Unavailable, "STORE_UNAVAILABLE"));
    }
    for refusal in [refused(world.renew(&held).await), refused(world.acquire(lease("bot", "w")).await)] {
        assert_eq!(reason(&refusal), "STORE_UNAVAILABLE");
        assert!(pause(&refusal).is_some(), "when to try again");
    }
    assert_eq!(reason(&refused(world.begin(qr("new")).await)), "STORE_UNAVAILABLE");
    assert_eq!(world.server.app.ready().await, Ready::No);

    cluster.restart().await;
    let renewed =
        poll::until("the holder is renewed again", || async { world.renew(&held).await.ok() }).await;
    assert_eq!(renewed.epoch, held.epoch, "nobody else got it meanwhile");
    assert_eq!(world.log_in("new", ANN).await.state(), SessionState::Authorized);
    assert_eq!(world.server.app.ready().await, Ready::Yes);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_no_login_starts_and_everything_else_goes_on() {
    let mut world = World::start(Shape::OnServers).await;
    world.lendable("bot", ANN).await;
    let (held, _) = world.lend("bot").await;
    let redis = world.redis.as_mut().expect("there is one");
    redis.kill();
    let begun = Instant::now();
    let away = refused(world.logins.clone().start_qr_login(within(20, qr("new"))).await);
    assert_eq!((away.code(), reason(&away).as_str()), (Code::Unavailable, "TICKETS_UNAVAILABLE"));
    assert!(pause(&away).is_some(), "when to try again");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(reason(&refused(world.find("new").await)), "SESSION_NOT_FOUND", "nothing is left half there");

    world.renew(&held).await.expect("leases do not know tickets");
    world.release(&held, true).await.expect("released");
    let (next, _) = world.lend("bot").await;
    assert!(next.epoch > held.epoch);
    let material = world.sandbox.mint(2, ANN).await;
    let data = world.written(&material, usm::domain::material::Format::TelethonString).await;
    world.import(import("imported", data)).await.expect("nor do imports");
    assert_eq!(world.server.app.ready().await, Ready::Yes, "it serves");

    world.redis.as_mut().expect("there is one").restart();
    let login = poll::until("logins start again", || async { world.begin(qr("new")).await.ok() }).await;
    assert_eq!(login.state(), LoginState::WaitingQrScan);
    world.scan(&login, ANN).await;
    let end = world.finalize(&login.ticket, "").await.expect("the login ends");
    assert_eq!(end.state(), LoginState::Authorized);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_under_way_outlives_a_short_absence_of_redis_or_ends_clean() {
    let mut world = World::start(Shape::OnServers).await;
    let login = world.code("bot").await;
    world.redis.as_mut().expect("there is one").restart();
    // The tickets are lost: whoever scans now is signed in nowhere, and the row is free again.
    world.scan(&login, ANN).await;
    world.server.app.keep_house();
    poll::until("the login is over one way or the other", || async {
        let session = world.session("bot").await;
        (session.state() != SessionState::PendingQr).then_some(())
    })
    .await;
    let session = world.session("bot").await;
    let signed_in = world.sandbox.authorizations().await.len();
    assert_eq!(signed_in, usize::from(session.state() == SessionState::Authorized), "{session:?}");
    world.stop().await;
}
