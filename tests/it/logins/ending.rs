//! Logins that nobody finishes.

use std::time::Duration;

use usm_client::v1::{self, LoginState, SessionState};

use crate::support::{
    poll,
    world::{ANN, Plan, Shape, TENANT, World, on_both_shapes, reason, refused},
};

on_both_shapes!(
    a_cancelled_login_stays_cancelled_and_a_late_scan_is_signed_out,
    a_login_that_took_too_long_expires_and_leaves_the_row_as_it_was,
    a_revoked_session_is_revoked_again_after_a_login_that_failed,
);

/// Waits until an authorization that came too late was ended.
async fn a_late_authorization_is_ended(world: &World) {
    poll::until("somebody is signed out", || async {
        (world.sandbox.calls("auth.logOut").await > 0).then_some(())
    })
    .await;
    world.nobody_is_signed_in().await;
}

async fn a_cancelled_login_stays_cancelled_and_a_late_scan_is_signed_out(shape: Shape) {
    let world = World::start(shape).await;
    let login = world.code("bot").await;
    for _ in 0..2 {
        let cancelled = world.cancel(&login.ticket).await.expect("as often as asked");
        assert_eq!((cancelled.state(), cancelled.qr_url.as_str()), (LoginState::Cancelled, ""));
    }
    let end = world.finalize(&login.ticket, "").await.expect("however it ended");
    assert_eq!(end.state(), LoginState::Cancelled);
    let session = world.session("bot").await;
    assert_eq!((session.state(), session.state_reason.as_str()), (SessionState::Absent, ""));
    assert!(world.events("bot").await.iter().any(|(_, reason)| reason == "cancelled"));

    // The phone still shows what its camera saw.
    world.scan(&login, ANN).await;
    a_late_authorization_is_ended(&world).await;
    assert_eq!(world.session("bot").await.state(), SessionState::Absent);
    assert_eq!(world.login(&login.ticket).await.state(), LoginState::Cancelled);
    world.stop().await;
}

async fn a_login_that_took_too_long_expires_and_leaves_the_row_as_it_was(shape: Shape) {
    let plan = Plan { ticket_ttl: Duration::from_secs(2), ..Plan::default() };
    let world = World::planned(shape, plan).await;
    let login = world.code("bot").await;
    let expired = world.login_once(&login.ticket, LoginState::Expired).await;
    assert_eq!(expired.qr_url, "");
    assert_eq!(world.session("bot").await.state(), SessionState::Absent);
    assert!(world.events("bot").await.iter().any(|(_, reason)| reason == "expired"));
    let late = refused(world.password(&login.ticket, "horse").await);
    assert_eq!(reason(&late), "TICKET_EXPIRED");
    let end = world.finalize(&login.ticket, "").await.expect("however it ended");
    assert_eq!(end.state(), LoginState::Expired);
    world.scan(&login, ANN).await;
    a_late_authorization_is_ended(&world).await;
    world.stop().await;
}

async fn a_revoked_session_is_revoked_again_after_a_login_that_failed(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let key = v1::RevokeSessionRequest {
        tenant_id: TENANT.to_owned(),
        app_id: "bot".to_owned(),
        ..Default::default()
    };
    world.sessions.clone().revoke_session(key).await.expect("revoked");
    let login = world.code("bot").await;
    assert_eq!(world.session("bot").await.state(), SessionState::PendingQr);
    world.cancel(&login.ticket).await.expect("cancelled");
    let session = world.session("bot").await;
    assert_eq!((session.state(), session.state_reason.as_str()), (SessionState::Revoked, "manual_revoke"));
    world.stop().await;
}
