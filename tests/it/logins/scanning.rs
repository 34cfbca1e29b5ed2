//! From a code to a session.

use serde_json::json;
use tonic::Code;
use usm::{domain::material::Format, telegram::probe::Proof};
use usm_client::v1::{self, LoginState, SessionEventKind, SessionState};

use crate::support::{
    poll,
    telegram::{User, soon},
    world::{ANN, BOB, Plan, Shape, TENANT, World, on_both_shapes, qr, reason, refused},
};

on_both_shapes!(
    a_scan_makes_a_session_that_works,
    an_account_of_another_data_centre_is_followed_there,
    a_code_is_redrawn_before_it_expires,
    another_account_than_the_expected_one_is_refused_and_signed_out,
    a_later_login_is_pinned_to_the_account_of_the_first,
);

async fn a_scan_makes_a_session_that_works(shape: Shape) {
    let world = World::start(shape).await;
    let unknown = refused(world.find("bot").await);
    assert_eq!((unknown.code(), reason(&unknown).as_str()), (Code::NotFound, "SESSION_NOT_FOUND"));

    let login = world.code("bot").await;
    assert!(login.qr_url.starts_with("tg://login?token="), "what a phone's camera understands");
    assert!(login.qr_png.starts_with(b"\x89PNG\r\n"), "what a page can show");
    assert_eq!((login.tenant_id.as_str(), login.app_id.as_str()), (TENANT, "bot"));
    assert_eq!(login.method(), v1::LoginMethod::Qr);
    let (created, expires) = (login.create_time.expect("set"), login.expire_time.expect("set"));
    assert_eq!(expires.seconds - created.seconds, 120);
    assert!(login.token_expire_time.expect("set").seconds <= expires.seconds);
    let pending = world.session("bot").await;
    assert_eq!((pending.state(), pending.state_reason.as_str()), (SessionState::PendingQr, "qr_started"));
    assert_eq!(pending.fingerprint, "");

    world.scan(&login, ANN).await;
    let end = world.finalize(&login.ticket, "").await.expect("the login ends");
    assert_eq!((end.state(), end.telegram_user_id), (LoginState::Authorized, ANN));
    assert_eq!((end.qr_url.as_str(), end.qr_png.len()), ("", 0), "the code is gone with the login");

    let session = world.session("bot").await;
    assert_eq!(session.state(), SessionState::Authorized);
    assert_eq!(session.state_reason, "authorization_success");
    assert_eq!(session.custody(), v1::SessionCustody::Service);
    assert_eq!((session.telegram_user_id, session.username.as_str()), (ANN, "ann"));
    assert_eq!((session.dc_id, session.is_bot, session.material_version), (2, false, 1));
    assert_eq!((session.environment.as_str(), session.api_key_alias.as_str()), ("sandbox", "MASTER"));
    assert_eq!(session.fingerprint.len(), 64);
    assert!(session.last_validated_time.is_some() && session.lease.is_none() && !session.log_out_pending);
    assert_eq!(world.sandbox.authorizations().await.len(), 1);
    assert_eq!(world.sandbox.open_connections().await, 0, "nothing stays connected beside a holder");

    let (lease, material) = world.lend("bot").await;
    let material = world.parsed(&material.data, Format::Raw).await;
    let Proof { account, .. } = world.sandbox.telegram().probe(&material, soon()).await.expect("it works");
    assert_eq!(account.telegram_user_id, ANN);
    world.release(&lease, true).await.expect("released");
    let kinds: Vec<_> = world.events("bot").await;
    let told = [
        (SessionEventKind::StateChanged, "qr_started"),
        (SessionEventKind::StateChanged, "authorization_success"),
    ];
    assert!(told.iter().all(|(kind, reason)| kinds.contains(&(*kind, (*reason).to_owned()))), "{kinds:?}");
    world.stop().await;
}

async fn an_account_of_another_data_centre_is_followed_there(shape: Shape) {
    let world = World::start(shape).await;
    world.sandbox.add(User { id: 2003, dc: Some(3), ..User::default() }).await;
    let session = world.log_in("bot", 2003).await;
    assert_eq!((session.state(), session.dc_id), (SessionState::Authorized, 3));
    let (_, material) = world.lend("bot").await;
    assert_eq!(material.dc_id, 3);
    let material = world.parsed(&material.data, Format::Raw).await;
    world.sandbox.telegram().probe(&material, soon()).await.expect("it works there");
    world.stop().await;
}

async fn a_code_is_redrawn_before_it_expires(shape: Shape) {
    let plan = Plan { telegram: json!({"qr_ttl": 2}), ..Plan::default() };
    let world = World::planned(shape, plan).await;
    let first = world.code("bot").await;
    let second = poll::until("another code is shown", || async {
        Some(world.login(&first.ticket).await).filter(|login| login.qr_url != first.qr_url)
    })
    .await;
    assert_eq!(second.state(), LoginState::WaitingQrScan);
    assert_eq!(second.ticket, first.ticket, "the ticket outlives its codes");
    assert_ne!(second.qr_png, first.qr_png);
    world.scan(&second, ANN).await;
    let end = world.finalize(&first.ticket, "").await.expect("the login ends");
    assert_eq!(end.state(), LoginState::Authorized);
    world.stop().await;
}

async fn another_account_than_the_expected_one_is_refused_and_signed_out(shape: Shape) {
    let world = World::start(shape).await;
    let request = v1::StartQrLoginRequest { expected_telegram_user_id: ANN, ..qr("bot") };
    let login = world.begin(request).await.expect("started");
    world.scan(&login, BOB).await;
    let end = world.finalize(&login.ticket, "").await.expect("the login ends");
    assert_eq!(end.state(), LoginState::Failed);
    assert_eq!(end.failure.expect("told why").reason, "ACCOUNT_MISMATCH");
    assert_eq!(end.telegram_user_id, 0, "whoever scanned stays unknown");
    world.nobody_is_signed_in().await;
    assert_eq!(world.session("bot").await.state(), SessionState::Absent);
    let kinds = world.events("bot").await;
    assert!(kinds.iter().any(|(kind, _)| *kind == SessionEventKind::AccountMismatch), "{kinds:?}");
    world.stop().await;
}

async fn a_later_login_is_pinned_to_the_account_of_the_first(shape: Shape) {
    let world = World::start(shape).await;
    world.log_in("bot", ANN).await;
    let key = v1::RevokeSessionRequest {
        tenant_id: TENANT.to_owned(),
        app_id: "bot".to_owned(),
        ..Default::default()
    };
    world.sessions.clone().revoke_session(key).await.expect("revoked");

    let login = world.code("bot").await;
    world.scan(&login, BOB).await;
    let end = world.finalize(&login.ticket, "").await.expect("the login ends");
    assert_eq!(end.failure.expect("told why").reason, "ACCOUNT_MISMATCH");
    let session = world.session("bot").await;
    assert_eq!((session.state(), session.state_reason.as_str()), (SessionState::Revoked, "manual_revoke"));
    world.nobody_is_signed_in().await;
    assert_eq!(world.log_in("bot", ANN).await.telegram_user_id, ANN, "the first account may come back");
    world.stop().await;
}
