//! Logins by phone code: right and wrong codes, another way for the code, passwords, other data centres, and every
//! way in which Telegram says no.

use std::time::Duration;

use tonic::Code;
use usm_client::v1::{self, CodeDeliveryKind, LoginMethod, LoginState, SessionState};

use crate::support::{
    telegram::{Fault, User},
    world::{ANN, BOB, Shape, TENANT, World, fact, field, on_both_shapes, pause, phone, qr, reason, refused},
};

const CAT: i64 = 3001;
const DORA: i64 = 4001;
const PASSWORD: &str = "correct horse";
const REQUEST: &str = "3b0c1d2e-3f40-4152-8364-758697a8b9ca";

on_both_shapes!(
    a_code_signs_in_and_the_session_works,
    a_wrong_code_costs_an_attempt_and_too_many_end_the_login,
    a_password_is_asked_for_after_the_code,
    an_account_of_another_data_centre_is_followed_there,
    another_code_comes_by_the_next_way_after_its_time,
    what_telegram_refuses_has_a_reason_of_its_own,
    an_expired_code_ends_the_login,
    a_cancelled_login_takes_no_code_and_cancels_it,
    another_account_than_expected_is_signed_out_again,
    a_code_for_another_step_changes_nothing,
    a_token_of_a_log_out_makes_the_code_unnecessary,
    a_repeated_request_sends_one_code,
);

async fn a_code_signs_in_and_the_session_works(shape: Shape) {
    let world = World::start(shape).await;
    let login = world.phoned("bot", ANN).await;
    assert_eq!((login.method(), login.attempts_left), (LoginMethod::Phone, 5));
    let delivery = login.code_delivery.clone().expect("told where it went");
    assert_eq!((delivery.kind(), delivery.next_kind()), (CodeDeliveryKind::App, CodeDeliveryKind::Sms));
    assert_eq!(delivery.length, 5);
    let wait = delivery.resend_after.expect("another one may be asked for").seconds;
    assert!((50..=60).contains(&wait), "{wait}");
    let pending = world.session("bot").await;
    assert_eq!((pending.state(), pending.state_reason.as_str()), (SessionState::PendingCode, "code_started"));

    let code = world.sent_code(ANN).await;
    let done = world.submit_code(&login.ticket, &code).await.expect("the right one");
    assert_eq!((done.state(), done.telegram_user_id), (LoginState::Authorized, ANN));
    let session = world.session("bot").await;
    assert_eq!((session.state(), session.telegram_user_id), (SessionState::Authorized, ANN));
    world.lend("bot").await;
    assert_eq!(world.sandbox.authorizations().await.len(), 1);
    let late = refused(world.submit_code(&login.ticket, &code).await);
    assert_eq!(reason(&late), "LOGIN_WRONG_STATE");
    world.stop().await;
}

async fn a_wrong_code_costs_an_attempt_and_too_many_end_the_login(shape: Shape) {
    let world = World::start(shape).await;
    let login = world.phoned("bot", ANN).await;
    let code = world.sent_code(ANN).await;
    let wrong = if code == "00000" { "11111" } else { "00000" };
    for left in ["4", "3"] {
        let refusal = refused(world.submit_code(&login.ticket, wrong).await);
        assert_eq!((refusal.code(), reason(&refusal).as_str()), (Code::InvalidArgument, "CODE_INVALID"));
        assert_eq!(fact(&refusal, "attempts_left").as_deref(), Some(left));
    }
    assert_eq!(world.login(&login.ticket).await.attempts_left, 3);
    assert_eq!(world.session("bot").await.state(), SessionState::PendingCode);
    world.submit_code(&login.ticket, &code).await.expect("the right one");

    world.sandbox.configure(serde_json::json!({"code_tries": 100})).await;
    let older = world.phoned("second", BOB).await;
    let newest = world.phoned("second", BOB).await;
    assert_eq!(world.login(&older.ticket).await.state(), LoginState::Superseded);
    let code = world.sent_code(BOB).await;
    let wrong = if code == "00000" { "11111" } else { "00000" };
    for _ in 0..5 {
        assert_eq!(reason(&refused(world.submit_code(&newest.ticket, wrong).await)), "CODE_INVALID");
    }
    let end = world.login(&newest.ticket).await;
    assert_eq!(end.state(), LoginState::Failed);
    assert_eq!(end.failure.expect("told why").reason, "CODE_INVALID");
    assert_eq!(world.session("second").await.state(), SessionState::Absent);
    refused(world.submit_code(&newest.ticket, &code).await);
    assert_eq!(world.sandbox.authorizations().await.len(), 1);
    world.stop().await;
}

async fn a_password_is_asked_for_after_the_code(shape: Shape) {
    let world = World::start(shape).await;
    let cat = User { id: CAT, password: Some(PASSWORD), hint: Some("staple"), ..User::default() };
    world.sandbox.add(cat).await;
    let login = world.phoned("bot", CAT).await;
    let asked = world.submit_code(&login.ticket, &world.sent_code(CAT).await).await.expect("an answer");
    assert_eq!(asked.state(), LoginState::WaitingPassword);
    assert_eq!((asked.password_hint.as_str(), asked.attempts_left), ("staple", 5));
    assert_eq!(world.session("bot").await.state(), SessionState::PendingPassword);
    let wrong = refused(world.password(&login.ticket, "wrong").await);
    assert_eq!(reason(&wrong), "PASSWORD_INVALID");
    let done = world.finalize(&login.ticket, PASSWORD).await.expect("the right one");
    assert_eq!((done.state(), done.telegram_user_id), (LoginState::Authorized, CAT));
    world.stop().await;
}

async fn an_account_of_another_data_centre_is_followed_there(shape: Shape) {
    let world = World::start(shape).await;
    world.sandbox.add(User { id: DORA, dc: Some(3), ..User::default() }).await;
    let login = world.phoned("bot", DORA).await;
    let done = world.submit_code(&login.ticket, &world.sent_code(DORA).await).await.expect("signed in");
    assert_eq!(done.state(), LoginState::Authorized);
    assert_eq!(world.session("bot").await.dc_id, 3);
    world.stop().await;
}

async fn another_code_comes_by_the_next_way_after_its_time(shape: Shape) {
    let world = World::start(shape).await;
    let login = world.phoned("bot", ANN).await;
    let early = refused(world.resend(&login.ticket).await);
    assert_eq!((early.code(), reason(&early).as_str()), (Code::FailedPrecondition, "RESEND_UNAVAILABLE"));
    assert!(pause(&early).expect("when") > Duration::from_secs(40), "{early:?}");

    world.sandbox.configure(serde_json::json!({"resend_after": 1})).await;
    let login = world.phoned("bot", ANN).await;
    let first = world.sent_code(ANN).await;
    let resent = crate::support::poll::until("another code may be sent", || async {
        world.resend_as(&login.ticket, REQUEST).await.ok()
    })
    .await;
    world.resend_as(&login.ticket, REQUEST).await.expect("the same request");
    assert_eq!(world.sandbox.calls("auth.resendCode").await, 1, "it sends once");
    let delivery = resent.code_delivery.clone().expect("told where it went");
    assert_eq!((resent.state(), delivery.kind()), (LoginState::WaitingCode, CodeDeliveryKind::Sms));
    let second = world.sent_code(ANN).await;
    if first != second {
        assert_eq!(reason(&refused(world.submit_code(&login.ticket, &first).await)), "CODE_INVALID");
    }
    let done = world.submit_code(&login.ticket, &second).await.expect("the newer one");
    assert_eq!(done.state(), LoginState::Authorized);
    world.stop().await;
}

async fn what_telegram_refuses_has_a_reason_of_its_own(shape: Shape) {
    let world = World::start(shape).await;
    for (told, expected) in [
        ("PHONE_NUMBER_INVALID", "PHONE_NUMBER_INVALID"),
        ("PHONE_NUMBER_BANNED", "PHONE_NUMBER_BANNED"),
        ("API_ID_INVALID", "API_KEY_REFUSED"),
        ("UPDATE_APP_TO_LOGIN", "TELEGRAM_REFUSED"),
    ] {
        world.sandbox.fault("auth.sendCode", 1, Fault::Error(told)).await;
        let refusal = refused(world.begin_phone(phone("bot", 7_000_000 + ANN)).await);
        assert_eq!(reason(&refusal), expected, "{told}");
        assert_eq!(world.session("bot").await.state(), SessionState::Absent);
        world.sandbox.clear_faults().await;
    }
    // Nobody has this number: Telegram says so once the code is right.
    let stranger = 5_550_001;
    let login = world.phoned("stranger", stranger).await;
    let code = world.sent_code(stranger).await;
    let refusal = refused(world.submit_code(&login.ticket, &code).await);
    assert_eq!((refusal.code(), reason(&refusal).as_str()), (Code::FailedPrecondition, "SIGN_UP_REQUIRED"));
    assert_eq!(world.login(&login.ticket).await.state(), LoginState::Failed);

    // Telegram holds the number back until tomorrow, and is not asked again before that.
    world.sandbox.fault("auth.sendCode", 1, Fault::Error("PHONE_NUMBER_FLOOD")).await;
    let flood = refused(world.begin_phone(phone("flooded", BOB)).await);
    assert_eq!((flood.code(), reason(&flood).as_str()), (Code::ResourceExhausted, "TELEGRAM_FLOOD_WAIT"));
    assert!(pause(&flood).expect("when") > Duration::from_secs(80_000));
    let asked = world.sandbox.calls("auth.sendCode").await;
    let again = refused(world.begin_phone(phone("flooded", BOB)).await);
    assert_eq!(reason(&again), "TELEGRAM_FLOOD_WAIT");
    assert_eq!(world.sandbox.calls("auth.sendCode").await, asked);
    world.phoned("another", ANN).await;

    for number in ["", "12", "+1234567890123456", "99966x1001"] {
        let request = v1::StartPhoneLoginRequest { phone_number: number.to_owned(), ..phone("bot", ANN) };
        assert_eq!(field(&refused(world.begin_phone(request).await)).as_deref(), Some("phone_number"));
    }
    world.stop().await;
}

async fn an_expired_code_ends_the_login(shape: Shape) {
    let world = World::start(shape).await;
    let login = world.phoned("bot", ANN).await;
    world.sandbox.fault("auth.signIn", 1, Fault::Error("PHONE_CODE_EXPIRED")).await;
    let late = refused(world.submit_code(&login.ticket, &world.sent_code(ANN).await).await);
    assert_eq!((late.code(), reason(&late).as_str()), (Code::FailedPrecondition, "CODE_EXPIRED"));
    assert_eq!(world.login(&login.ticket).await.state(), LoginState::Failed);
    let again = refused(world.submit_code(&login.ticket, "12345").await);
    assert_eq!(reason(&again), "CODE_EXPIRED");
    assert_eq!(world.session("bot").await.state(), SessionState::Absent);
    world.stop().await;
}

async fn a_cancelled_login_takes_no_code_and_cancels_it(shape: Shape) {
    let world = World::start(shape).await;
    let login = world.phoned("bot", ANN).await;
    let code = world.sent_code(ANN).await;
    let cancelled = world.cancel(&login.ticket).await.expect("cancelled");
    assert_eq!(cancelled.state(), LoginState::Cancelled);
    let late = refused(world.submit_code(&login.ticket, &code).await);
    assert_eq!(reason(&late), "LOGIN_CANCELLED");
    crate::support::poll::until("Telegram hears that the code is not wanted", || async {
        (world.sandbox.calls("auth.cancelCode").await == 1).then_some(())
    })
    .await;
    assert!(world.sandbox.authorizations().await.is_empty());
    world.stop().await;
}

async fn another_account_than_expected_is_signed_out_again(shape: Shape) {
    let world = World::start(shape).await;
    let request = v1::StartPhoneLoginRequest { expected_telegram_user_id: BOB, ..phone("bot", ANN) };
    let login = world.begin_phone(request).await.expect("a code is sent");
    let refusal = refused(world.submit_code(&login.ticket, &world.sent_code(ANN).await).await);
    assert_eq!(reason(&refusal), "ACCOUNT_MISMATCH");
    world.nobody_is_signed_in().await;
    assert_eq!(world.session("bot").await.state(), SessionState::Absent);
    world.stop().await;
}

async fn a_code_for_another_step_changes_nothing(shape: Shape) {
    let world = World::start(shape).await;
    let login = world.begin(qr("bot")).await.expect("a login starts");
    let refusal = refused(world.submit_code(&login.ticket, "12345").await);
    assert_eq!(reason(&refusal), "LOGIN_WRONG_STATE");
    let refusal = refused(world.resend(&login.ticket).await);
    assert_eq!(reason(&refusal), "LOGIN_WRONG_STATE");
    for (code, rule) in [("", "code"), ("1".repeat(65).as_str(), "code")] {
        assert_eq!(field(&refused(world.submit_code(&login.ticket, code).await)).as_deref(), Some(rule));
    }
    let unknown = refused(world.submit_code(&"0".repeat(64), "12345").await);
    assert_eq!(reason(&unknown), "TICKET_NOT_FOUND");
    assert_eq!(world.login(&login.ticket).await.state(), LoginState::WaitingQrScan);
    world.stop().await;
}

async fn a_token_of_a_log_out_makes_the_code_unnecessary(shape: Shape) {
    let world = World::start(shape).await;
    world.log_in("bot", ANN).await;
    let key = v1::RevokeSessionRequest {
        tenant_id: TENANT.to_owned(),
        app_id: "bot".to_owned(),
        ..Default::default()
    };
    world.sessions.clone().revoke_session(key).await.expect("revoked");
    let login = world.begin_phone(phone("bot", ANN)).await.expect("signed in");
    let end = world.finalize(&login.ticket, "").await.expect("however it ended");
    assert_eq!((end.state(), end.telegram_user_id), (LoginState::Authorized, ANN));
    assert_eq!(world.sandbox.calls("auth.signIn").await, 0, "no code was needed");
    // Each token is good for one login.
    let key = v1::RevokeSessionRequest {
        tenant_id: TENANT.to_owned(),
        app_id: "bot".to_owned(),
        ..Default::default()
    };
    world.sessions.clone().revoke_session(key).await.expect("revoked");
    world.begin_phone(phone("bot", ANN)).await.expect("again");
    world.phoned("another-name", ANN).await;
    world.stop().await;
}

async fn a_repeated_request_sends_one_code(shape: Shape) {
    let world = World::start(shape).await;
    let request =
        v1::StartPhoneLoginRequest { request_id: uuid::Uuid::new_v4().to_string(), ..phone("bot", ANN) };
    let first = world.begin_phone(request.clone()).await.expect("a login");
    let second = world.begin_phone(request).await.expect("the same");
    assert_eq!(first.ticket, second.ticket);
    assert_eq!(world.sandbox.calls("auth.sendCode").await, 1);
    world.stop().await;
}
