//! Killed outright and started again: what was answered is there, and nothing is half there.

use std::time::{Duration, Instant};

use usm::domain::material::Format;
use usm_client::v1::{self, LoginState, SessionState};

use crate::support::{
    poll,
    telegram::soon,
    world::{
        ANN, Shape, TENANT, World, import, lease, on_both_shapes, on_both_shapes_at_once, reason, refused,
        seconds,
    },
};

on_both_shapes!(
    a_session_that_was_told_to_be_there_survives_the_server,
    imports_that_were_answered_survive_a_server_killed_among_them,
);
on_both_shapes_at_once!(a_lease_survives_the_server_and_keeps_others_out);

#[tokio::test]
async fn a_login_dies_with_an_embedded_server_and_leaves_the_row_as_it_was() {
    let mut world = World::outside(Shape::Embedded, &[]).await;
    world.log_in("revoked", ANN).await;
    let request = v1::RevokeSessionRequest {
        tenant_id: TENANT.to_owned(),
        app_id: "revoked".to_owned(),
        ..Default::default()
    };
    world.sessions.clone().revoke_session(request).await.expect("revoked");
    let login = world.code("new").await;
    let second = world.code("revoked").await;
    assert_eq!(world.session("new").await.state(), SessionState::PendingQr);
    assert_eq!(world.session("revoked").await.state(), SessionState::PendingQr);
    world.crash();
    let world = world.restart().await;

    assert_eq!(world.session("new").await.state(), SessionState::Absent, "from the first answer on");
    let revoked = world.session("revoked").await;
    assert_eq!((revoked.state(), revoked.state_reason.as_str()), (SessionState::Revoked, "manual_revoke"));
    for ticket in [&login.ticket, &second.ticket] {
        let gone = refused(world.finalize(ticket, "").await);
        assert_eq!(reason(&gone), "TICKET_NOT_FOUND");
    }
    assert!(world.events("new").await.iter().any(|(_, reason)| reason == "expired"));
    assert_eq!(world.log_in("new", ANN).await.state(), SessionState::Authorized, "and the name is free");
}

#[tokio::test]
async fn a_login_whose_server_died_can_be_ended_where_its_ticket_survives() {
    let mut world = World::outside(Shape::OnServers, &[]).await;
    let login = world.code("bot").await;
    world.crash();
    let world = world.restart().await;
    assert_eq!(world.login(&login.ticket).await.state(), LoginState::WaitingQrScan);
    let ended = world.cancel(&login.ticket).await.expect("nobody else could");
    assert_eq!(ended.state(), LoginState::Cancelled);
    assert_eq!(world.session("bot").await.state(), SessionState::Absent);

    // Nor does it stand in the way of a newer one.
    let older = world.code("bot").await;
    let mut world = world;
    world.crash();
    let world = world.restart().await;
    assert_eq!(world.log_in("bot", ANN).await.state(), SessionState::Authorized);
    assert_eq!(world.login(&older.ticket).await.state(), LoginState::Superseded);
}

async fn a_session_that_was_told_to_be_there_survives_the_server(shape: Shape) {
    let mut world = World::outside(shape, &[]).await;
    let login = world.code("bot").await;
    world.scan(&login, ANN).await;
    let end = world.finalize(&login.ticket, "").await.expect("the login ends");
    assert_eq!(end.state(), LoginState::Authorized);
    world.crash();
    let world = world.restart().await;
    let session = world.session("bot").await;
    assert_eq!((session.state(), session.telegram_user_id), (SessionState::Authorized, ANN));
    let (_, material) = world.lend("bot").await;
    let material = world.parsed(&material.data, Format::Raw).await;
    let proof = world.sandbox.telegram().probe(&material, soon()).await.expect("it works");
    assert_eq!(proof.account.telegram_user_id, ANN);
}

async fn a_lease_survives_the_server_and_keeps_others_out(shape: Shape) {
    let mut world = World::outside(shape, &[]).await;
    world.lendable("bot", ANN).await;
    world.lendable("other", ANN).await;
    let begun = Instant::now();
    let (silent, _) = world.lend("bot").await;
    let (lively, _) = world.lend("other").await;
    world.crash();
    let world = world.restart().await;
    for app in ["bot", "other"] {
        let busy = refused(world.acquire(lease(app, "worker-2")).await);
        assert_eq!(reason(&busy), "SESSION_LEASED");
    }
    world.renew(&lively).await.expect("its holder noticed nothing");
    let request = v1::AcquireLeaseRequest { wait: seconds(15), ..lease("bot", "worker-2") };
    let next = world.acquire(request).await.expect("free in the end").lease.expect("a lease");
    assert!(begun.elapsed() >= Duration::from_secs(11), "ttl and gap: {:?}", begun.elapsed());
    assert!(next.epoch > silent.epoch);
}

async fn imports_that_were_answered_survive_a_server_killed_among_them(shape: Shape) {
    let mut world = World::outside(shape, &[]).await;
    let mut answered = Vec::new();
    for round in 0..3 {
        let sessions = world.sessions.clone();
        let mut data = Vec::new();
        for _ in 0..12 {
            let material = world.sandbox.mint(2, ANN).await;
            data.push(world.written(&material, Format::TelethonString).await);
        }
        let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
        let calls = tokio::spawn(async move {
            for (n, data) in data.into_iter().enumerate() {
                let app = format!("bot-{round}-{n}");
                let request = v1::ImportSessionRequest { legacy_stopped: true, ..import(&app, data) };
                if sessions.clone().import_session(request).await.is_ok() {
                    let _ = told.send(app);
                }
            }
        });
        for _ in 0..=round {
            answered.push(tells.recv().await.expect("answered"));
        }
        world.crash();
        calls.await.expect("no panic");
        while let Ok(app) = tells.try_recv() {
            answered.push(app);
        }
        world = world.restart().await;
    }
    for app in &answered {
        assert_eq!(world.session(app).await.state(), SessionState::Authorized);
        world.lend(app).await;
    }
    // What was not answered is there whole, or not at all.
    let request =
        v1::ListSessionsRequest { tenant_id: TENANT.to_owned(), page_size: 100, ..Default::default() };
    let listed = world.sessions.clone().list_sessions(request).await.expect("listed").into_inner().sessions;
    assert!(listed.len() >= answered.len());
    for session in listed.iter().filter(|session| session.lease.is_none()) {
        assert_eq!(session.state(), SessionState::Authorized);
        world.lend(&session.app_id).await;
    }
    poll::until("the process still answers", || async { world.find(&answered[0]).await.ok() }).await;
}
