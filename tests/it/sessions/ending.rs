//! Revoke, reset, delete.

use usm::domain::material::Format;
use usm_client::v1::{self, SessionEventKind, SessionState};

use crate::support::{
    poll,
    telegram::Fault,
    world::{ANN, Shape, TENANT, World, fact, import, lease, on_both_shapes, qr, reason, refused},
};

on_both_shapes!(
    a_revoked_session_is_signed_out_and_its_material_gone,
    a_session_revoked_while_telegram_is_away_is_signed_out_when_it_is_back,
    a_lent_session_is_neither_revoked_nor_deleted,
    a_login_under_way_ends_with_the_session,
    a_session_that_was_reset_can_be_used_anew,
    a_deleted_session_is_signed_out_and_leaves_its_events,
);

fn key(app: &str) -> (String, String) {
    (TENANT.to_owned(), app.to_owned())
}

async fn revoke(world: &World, app: &str) -> Result<v1::Session, tonic::Status> {
    let (tenant_id, app_id) = key(app);
    let request = v1::RevokeSessionRequest { tenant_id, app_id, ..Default::default() };
    let answer = world.sessions.clone().revoke_session(request).await?;
    Ok(answer.into_inner().session.expect("a session"))
}

async fn reset(world: &World, app: &str) -> Result<v1::Session, tonic::Status> {
    let (tenant_id, app_id) = key(app);
    let request = v1::ResetSessionRequest { tenant_id, app_id, ..Default::default() };
    let answer = world.sessions.clone().reset_session(request).await?;
    Ok(answer.into_inner().session.expect("a session"))
}

async fn delete(world: &World, app: &str) -> Result<v1::Session, tonic::Status> {
    let (tenant_id, app_id) = key(app);
    let request = v1::DeleteSessionRequest { tenant_id, app_id, ..Default::default() };
    let answer = world.sessions.clone().delete_session(request).await?;
    Ok(answer.into_inner().session.expect("a session"))
}

async fn a_revoked_session_is_signed_out_and_its_material_gone(shape: Shape) {
    let world = World::start(shape).await;
    world.log_in("bot", ANN).await;
    let revoked = revoke(&world, "bot").await.expect("revoked");
    assert_eq!((revoked.state(), revoked.state_reason.as_str()), (SessionState::Revoked, "manual_revoke"));
    assert!(!revoked.log_out_pending && revoked.lease.is_none());
    assert!(world.sandbox.authorizations().await.is_empty(), "signed out before the answer");
    assert_eq!(reason(&refused(world.acquire(lease("bot", "worker-1")).await)), "SESSION_WRONG_STATE");
    let again = refused(revoke(&world, "bot").await);
    assert_eq!(reason(&again), "SESSION_WRONG_STATE");
    assert_eq!(fact(&again, "state").as_deref(), Some("REVOKED"));
    assert_eq!(reason(&refused(revoke(&world, "none").await)), "SESSION_NOT_FOUND");
    world.stop().await;
}

async fn a_session_revoked_while_telegram_is_away_is_signed_out_when_it_is_back(shape: Shape) {
    let world = World::start(shape).await;
    let material = world.lendable("bot", ANN).await;
    world.sandbox.fault("connect", 1000, Fault::Drop).await;
    let revoked = revoke(&world, "bot").await.expect("revoked all the same");
    assert_eq!(revoked.state(), SessionState::Revoked);
    assert!(revoked.log_out_pending);
    assert_eq!(world.sandbox.authorizations().await.len(), 1);
    assert_eq!(reason(&refused(world.acquire(lease("bot", "worker-1")).await)), "SESSION_WRONG_STATE");
    // Its key is still needed, so nothing may take its place.
    let other = world.sandbox.mint(2, ANN).await;
    let other = world.written(&other, Format::TelethonString).await;
    assert_eq!(reason(&refused(world.import(import("bot", other)).await)), "TELEGRAM_UNAVAILABLE");

    world.sandbox.clear_faults().await;
    world.server.app.keep_house();
    let settled = poll::until("the log-out is done", || async {
        Some(world.session("bot").await).filter(|session| !session.log_out_pending)
    })
    .await;
    assert_eq!((settled.state(), settled.state_reason.as_str()), (SessionState::Revoked, "manual_revoke"));
    let gone = world.sandbox.telegram().probe(&material, crate::support::telegram::soon()).await;
    assert!(gone.is_err(), "{gone:?}");
    world.stop().await;
}

async fn a_lent_session_is_neither_revoked_nor_deleted(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let (held, _) = world.lend("bot").await;
    for refusal in [revoke(&world, "bot").await, delete(&world, "bot").await] {
        assert_eq!(reason(&refused(refusal)), "SESSION_LEASED");
    }
    assert_eq!(world.sandbox.counter("connections").await, 0, "nobody connected beside the holder");
    world.renew(&held).await.expect("the holder is not disturbed");
    world.release(&held, true).await.expect("released");
    revoke(&world, "bot").await.expect("revoked");
    world.stop().await;
}

async fn a_login_under_way_ends_with_the_session(shape: Shape) {
    let world = World::start(shape).await;
    let login = world.code("bot").await;
    let revoked = revoke(&world, "bot").await.expect("revoked");
    assert_eq!(revoked.state(), SessionState::Revoked);
    let end = world.login_once(&login.ticket, v1::LoginState::Cancelled).await;
    assert_eq!(end.qr_url, "");
    world.scan(&login, ANN).await;
    poll::until("the late scan is signed out", || async {
        (world.sandbox.calls("auth.logOut").await > 0).then_some(())
    })
    .await;
    world.nobody_is_signed_in().await;
    assert_eq!(world.session("bot").await.state(), SessionState::Revoked);
    world.stop().await;
}

async fn a_session_that_was_reset_can_be_used_anew(shape: Shape) {
    let world = World::start(shape).await;
    world.log_in("bot", ANN).await;
    assert_eq!(reason(&refused(reset(&world, "bot").await)), "SESSION_WRONG_STATE", "it works");
    revoke(&world, "bot").await.expect("revoked");
    let empty = reset(&world, "bot").await.expect("reset");
    assert_eq!((empty.state(), empty.state_reason.as_str()), (SessionState::Absent, "reset"));
    assert_eq!((empty.fingerprint.as_str(), empty.dc_id), ("", 0));
    assert_eq!(reason(&refused(reset(&world, "bot").await)), "SESSION_WRONG_STATE", "nothing to reset");
    let login = world.begin(qr("bot")).await.expect("started");
    world.cancel(&login.ticket).await.expect("cancelled");
    let back = world.session("bot").await;
    assert_eq!((back.state(), back.state_reason.as_str()), (SessionState::Absent, "reset"));
    world.lendable("bot", ANN).await;
    world.lend("bot").await;
    world.stop().await;
}

async fn a_deleted_session_is_signed_out_and_leaves_its_events(shape: Shape) {
    let world = World::start(shape).await;
    world.log_in("bot", ANN).await;
    let last = delete(&world, "bot").await.expect("deleted");
    assert_eq!(last.state(), SessionState::Authorized, "as it was");
    assert!(world.sandbox.authorizations().await.is_empty());
    assert_eq!(reason(&refused(world.find("bot").await)), "SESSION_NOT_FOUND");
    assert_eq!(reason(&refused(delete(&world, "bot").await)), "SESSION_NOT_FOUND");
    let events = world.events("bot").await;
    assert_eq!(events.last().map(|(kind, _)| *kind), Some(SessionEventKind::Deleted), "{events:?}");

    // While Telegram is away the authorization cannot be ended, and the only key to it is not thrown away.
    world.lendable("other", ANN).await;
    world.sandbox.fault("connect", 1000, Fault::Drop).await;
    assert_eq!(reason(&refused(delete(&world, "other").await)), "TELEGRAM_UNAVAILABLE");
    world.sandbox.clear_faults().await;
    let there = world.session("other").await;
    assert!(there.state() == SessionState::Authorized && there.lease.is_none());

    // The legacy system's authorization is not ours to end.
    let material = world.sandbox.mint(2, ANN).await;
    let data = world.written(&material, Format::TelethonString).await;
    world.import(import("legacy", data)).await.expect("imported");
    delete(&world, "legacy").await.expect("deleted");
    let telegram = world.sandbox.telegram();
    telegram.probe(&material, crate::support::telegram::soon()).await.expect("it goes on working");
    world.stop().await;
}
