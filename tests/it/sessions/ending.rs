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
    what_telegram_does_not_hear_changes_nothing_and_is_repeated,
    a_login_under_way_takes_no_doubtful_authorization_with_it,
    what_waits_for_its_log_out_is_not_given_away,
    a_server_killed_between_telegram_and_the_wipe_leaves_a_session_that_can_be_ended,
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

/// The session in doubt, as one that Telegram refused once.
async fn doubtful(world: &World, app: &str) -> usm::domain::material::Material {
    let material = world.lendable(app, ANN).await;
    world.sandbox.fault("*", 1, Fault::Error("AUTH_KEY_UNREGISTERED")).await;
    let (tenant_id, app_id) = key(app);
    let look = v1::ValidateSessionRequest { tenant_id, app_id, ..Default::default() };
    world.sessions.clone().validate_session(look).await.expect("an answer");
    world.sandbox.clear_faults().await;
    assert_eq!(world.session(app).await.state(), SessionState::Stale);
    material
}

async fn what_telegram_does_not_hear_changes_nothing_and_is_repeated(shape: Shape) {
    let world = World::start(shape).await;
    doubtful(&world, "bot").await;
    let before = world.session("bot").await;
    for fault in [Fault::Drop, Fault::Error("FLOOD_WAIT_30")] {
        world.sandbox.fault("auth.logOut", 1000, fault).await;
        for refusal in [reset(&world, "bot").await, delete(&world, "bot").await] {
            let refusal = reason(&refused(refusal));
            assert!(["TELEGRAM_UNAVAILABLE", "TELEGRAM_FLOOD_WAIT"].contains(&refusal.as_str()), "{refusal}");
        }
        world.sandbox.clear_faults().await;
        let after = world.session("bot").await;
        assert_eq!((after.state(), after.revision), (before.state(), before.revision), "nothing is wiped");
        assert!(after.lease.is_none(), "and nobody is kept waiting");
    }
    assert_eq!(world.sandbox.authorizations().await.len(), 1);
    assert_eq!(reset(&world, "bot").await.expect("reset").state(), SessionState::Absent);
    assert!(world.sandbox.authorizations().await.is_empty(), "Telegram first, then the wipe");

    // What Telegram ended already is no obstacle.
    world.lendable("gone", ANN).await;
    let keys = world.sandbox.authorizations().await;
    world.sandbox.revoke(&keys[0], "logout").await;
    let revoked = revoke(&world, "gone").await.expect("revoked");
    assert!(!revoked.log_out_pending, "there is nothing left to end");
    world.stop().await;
}

async fn a_login_under_way_takes_no_doubtful_authorization_with_it(shape: Shape) {
    let world = World::start(shape).await;
    doubtful(&world, "bot").await;
    let login = world.code("bot").await;
    assert_eq!(world.session("bot").await.state(), SessionState::PendingQr);
    world.sandbox.fault("auth.logOut", 1000, Fault::Drop).await;
    assert_eq!(
        reason(&refused(delete(&world, "bot").await)),
        "TELEGRAM_UNAVAILABLE",
        "its key is the only one"
    );
    world.sandbox.clear_faults().await;
    delete(&world, "bot").await.expect("deleted");
    assert!(world.sandbox.authorizations().await.is_empty(), "the doubtful one lived, and was logged out");
    world.login_once(&login.ticket, v1::LoginState::Cancelled).await;
    world.stop().await;
}

async fn what_waits_for_its_log_out_is_not_given_away(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    world.sandbox.fault("auth.logOut", 1000, Fault::Drop).await;
    assert!(revoke(&world, "bot").await.expect("revoked").log_out_pending);
    let (tenant_id, app_id) = key("bot");
    let give = v1::GiveCustodyRequest { tenant_id, app_id, ..Default::default() };
    let refusal = refused(world.sessions.clone().give_custody(give).await);
    assert_eq!(fact(&refusal, "log_out").as_deref(), Some("log_out_pending"));
    world.sandbox.clear_faults().await;
    world.server.app.keep_house();
    world.nobody_is_signed_in().await;
    poll::until("the log-out is done", || async {
        (!world.session("bot").await.log_out_pending).then_some(())
    })
    .await;
    let moves = world.events("bot").await;
    assert_eq!(moves.last().map(|(_, reason)| reason.as_str()), Some("logged_out"), "{moves:?}");
    world.stop().await;
}

async fn a_server_killed_between_telegram_and_the_wipe_leaves_a_session_that_can_be_ended(shape: Shape) {
    let mut world = World::outside(shape, &[]).await;
    let material = world.sandbox.mint(2, ANN).await;
    let telegram = world.sandbox.telegram();
    let data =
        usm::formats::write(&material, Format::TelethonString, telegram.addresses()).await.unwrap().data;
    let request = v1::ImportSessionRequest { legacy_stopped: true, ..import("bot", data.to_vec()) };
    world.import(request).await.expect("imported");
    // Telegram takes its time over the answer; the server does not live to hear it.
    world.sandbox.fault("auth.logOut", 1, Fault::Delay(std::time::Duration::from_secs(5))).await;
    let (tenant_id, app_id) = key("bot");
    let asked = {
        let mut sessions = world.sessions.clone();
        let request = v1::RevokeSessionRequest { tenant_id, app_id, ..Default::default() };
        tokio::spawn(async move { sessions.revoke_session(request).await })
    };
    poll::until("Telegram is asked", || async {
        // The list of calls tells of one when it is answered, which is too late.
        (world.sandbox.counter("faults").await > 0).then_some(())
    })
    .await;
    world.crash();
    asked.await.expect("no panic").expect_err("nobody answers");
    world.sandbox.clear_faults().await;
    let world = world.restart().await;
    let left = world.session("bot").await;
    assert_eq!(
        left.state(),
        SessionState::Authorized,
        "the wipe comes last, so its key is there for another try"
    );
    let lease = left.lease.expect("the service's own lease runs out by itself");
    assert_eq!(lease.holder, "usm");
    let (tenant_id, app_id) = key("bot");
    let request = v1::RevokeSessionRequest { tenant_id, app_id, ..Default::default() };
    let refusal = refused(world.sessions.clone().revoke_session(request).await);
    assert_eq!(reason(&refusal), "SESSION_LEASED");
    let pause = crate::support::world::pause(&refusal).expect("when to try again");
    assert!(pause <= std::time::Duration::from_secs(80), "{pause:?}");
}
