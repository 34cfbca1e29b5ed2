//! The switch that leaves sessions to the legacy system, and takes none back by itself.

use usm::domain::material::Format;
use usm_client::v1::{self, HealthState, SessionCustody, SessionEventKind, SessionState};

use crate::{
    support::{
        poll,
        server::service_token,
        world::{ANN, BOB, Shape, TENANT, World, import, lease, on_both_shapes, reason, refused},
    },
    takeover::Replicas,
};

on_both_shapes!(
    switched_off_nothing_is_lent_and_each_session_goes_to_the_legacy_system,
    a_session_on_loan_follows_when_its_lease_ended,
    a_killed_server_goes_on_handing_over,
);

async fn switch(world: &World, enabled: bool) {
    let mut system = world.server.system(&service_token()).await;
    let request = v1::SetGrantsRequest { enabled, ..Default::default() };
    let info = system.set_grants(request).await.expect("switched").into_inner().info.expect("info");
    assert_eq!(info.grants_enabled, enabled);
}

async fn given(world: &World, app: &str) -> v1::Session {
    poll::until("custody goes to the legacy system", || async {
        Some(world.session(app).await).filter(|session| session.custody() == SessionCustody::Legacy)
    })
    .await
}

async fn health(world: &World) -> v1::Health {
    let mut system = world.server.system(&service_token()).await;
    system.get_health(v1::GetHealthRequest {}).await.expect("told").into_inner().health.expect("health")
}

fn take(app: &str) -> v1::TakeCustodyRequest {
    v1::TakeCustodyRequest { tenant_id: TENANT.to_owned(), app_id: app.to_owned(), ..Default::default() }
}

async fn switched_off_nothing_is_lent_and_each_session_goes_to_the_legacy_system(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("one", ANN).await;
    world.lendable("two", BOB).await;
    assert_eq!(health(&world).await.state(), HealthState::Healthy);
    let epoch = {
        let (held, _) = world.lend("one").await;
        world.release(&held, true).await.expect("released");
        held.epoch
    };
    switch(&world, false).await;
    let refusal = reason(&refused(world.acquire(lease("two", "worker-1")).await));
    assert!(["FEATURE_DISABLED", "SESSION_CUSTODY_LEGACY"].contains(&refusal.as_str()), "{refusal}");
    for app in ["one", "two"] {
        given(&world, app).await;
        let moves = world.events(app).await;
        let moves = moves.iter().filter(|(kind, _)| *kind == SessionEventKind::CustodyChanged).count();
        assert_eq!(moves, 1, "each moved once");
    }
    let told = health(&world).await;
    assert_eq!(told.state(), HealthState::Disabled);
    let grants = told.dependencies.iter().find(|it| it.name == "grants").expect("told");
    assert_eq!(grants.state(), HealthState::Disabled);
    assert!(grants.message.contains("FEATURE_UNIFIED_SESSION_MANAGER"));
    let ready = http_get(&world.server.url("/readyz")).await;
    assert!(ready.contains("200 OK") && ready.contains("grants disabled"), "{ready}");

    // Nothing is taken, looked at or filled for this service meanwhile.
    let refusal = refused(world.sessions.clone().take_custody(take("one")).await);
    assert_eq!(reason(&refusal), "FEATURE_DISABLED");
    let (tenant_id, app_id) = (TENANT.to_owned(), "one".to_owned());
    let look = v1::ValidateSessionRequest { tenant_id, app_id, ..Default::default() };
    assert_eq!(reason(&refused(world.sessions.clone().validate_session(look).await)), "FEATURE_DISABLED");
    let material = world.sandbox.mint(2, ANN).await;
    let data = world.written(&material, Format::TelethonString).await;
    let request = v1::ImportSessionRequest { legacy_stopped: true, ..import("three", data) };
    let imported = world.import(request).await.expect("imported").session.expect("a session");
    assert_eq!(imported.custody(), SessionCustody::Legacy);
    let session = world.log_in("four", ANN).await;
    assert_eq!((session.state(), session.custody()), (SessionState::Authorized, SessionCustody::Legacy));

    switch(&world, true).await;
    assert_eq!(health(&world).await.state(), HealthState::Healthy);
    assert_eq!(
        world.session("one").await.custody(),
        SessionCustody::Legacy,
        "nothing is taken back by itself"
    );
    world.sessions.clone().take_custody(take("one")).await.expect("taken");
    let (held, _) = world.lend("one").await;
    assert!(held.epoch > epoch + 2, "each move raised the epoch");
    world.stop().await;
}

async fn http_get(url: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (host, path) = url.strip_prefix("http://").expect("plain").split_once('/').expect("a path");
    let mut stream = tokio::net::TcpStream::connect(host).await.expect("listens");
    let request = format!("GET /{path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    answer
}

async fn a_session_on_loan_follows_when_its_lease_ended(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let (held, _) = world.lend("bot").await;
    switch(&world, false).await;
    // The holder is asked to stop: a lease that were renewed for ever would keep the session here.
    let asked = poll::until("the lease is not renewed any more", || async {
        world.renew(&held).await.err().filter(|status| reason(status) == "LEASE_DRAINING")
    })
    .await;
    assert_eq!(reason(&asked), "LEASE_DRAINING");
    assert_eq!(world.session("bot").await.custody(), SessionCustody::Service, "its holder is connected yet");
    world.release(&held, true).await.expect("closed");
    let session = given(&world, "bot").await;
    assert!(session.lease.is_none());
    let kinds: Vec<_> = world.events("bot").await.into_iter().map(|(kind, _)| kind).collect();
    let at = |kind| kinds.iter().position(|it| *it == kind);
    assert!(at(SessionEventKind::LeaseReleased) < at(SessionEventKind::CustodyChanged), "{kinds:?}");
    world.stop().await;
}

async fn a_killed_server_goes_on_handing_over(shape: Shape) {
    const SESSIONS: usize = 25;
    let mut world = World::outside(shape, &[]).await;
    for n in 0..SESSIONS {
        world.lendable(&format!("bot-{n:02}"), ANN).await;
    }
    let client = world.server.process.client(Some(&service_token())).await;
    let mut system = v1::system_service_client::SystemServiceClient::new(client);
    system.set_grants(v1::SetGrantsRequest::default()).await.expect("switched off");
    // In the midst of it.
    poll::until("the first is given", || async { (given_so_far(&world).await > 0).then_some(()) }).await;
    world.crash();
    let world = world.restart().await;
    poll::until("all are given", || async { (given_so_far(&world).await == SESSIONS).then_some(()) }).await;
    for n in 0..SESSIONS {
        let events = world.events(&format!("bot-{n:02}")).await;
        let moves = events.iter().filter(|(kind, _)| *kind == SessionEventKind::CustodyChanged).count();
        assert_eq!(moves, 1, "bot-{n:02} moved once");
    }
}

async fn given_so_far<S>(world: &World<S>) -> usize {
    let request = v1::ListSessionsRequest {
        tenant_id: TENANT.to_owned(),
        custody: SessionCustody::Legacy.into(),
        page_size: 100,
        ..Default::default()
    };
    world.sessions.clone().list_sessions(request).await.expect("listed").into_inner().sessions.len()
}

#[tokio::test]
async fn every_replica_obeys_at_once() {
    let replicas = Replicas::start(&[]).await;
    for n in 0..6 {
        replicas.first.lendable(&format!("bot-{n}"), ANN).await;
    }
    let client = replicas.first.server.process.client(Some(&service_token())).await;
    let mut system = v1::system_service_client::SystemServiceClient::new(client);
    system.set_grants(v1::SetGrantsRequest::default()).await.expect("switched off");
    for n in 0..6 {
        let refusal = refused(replicas.second.acquire(lease(&format!("bot-{n}"), "worker-1")).await);
        let told = reason(&refusal);
        assert!(["FEATURE_DISABLED", "SESSION_CUSTODY_LEGACY"].contains(&told.as_str()), "{told}");
    }
    poll::until("all are given", || async { (given_so_far(&replicas.second).await == 6).then_some(()) })
        .await;
    for n in 0..6 {
        let events = replicas.second.events(&format!("bot-{n}")).await;
        let moves = events.iter().filter(|(kind, _)| *kind == SessionEventKind::CustodyChanged).count();
        assert_eq!(moves, 1, "two replicas move a session once");
    }
}
