//! Logins that pages start and follow to their end.

use std::time::Duration;

use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;
use usm_client::v1::SessionState;

use super::stage::{Followed, Stage, WITH_TOKEN, WITHOUT_TOKEN};
use crate::support::{
    poll::PATIENCE,
    server::service_token,
    telegram::{Fault, User},
    world::{ANN, BOB, Shape, TENANT, on_both_shapes},
};

const CAT: i64 = 3001;
const PASSWORD: &str = "correct horse";

on_both_shapes!(
    a_user_logs_in_by_either_proof,
    a_wrong_password_costs_an_attempt_and_not_the_scan,
    a_page_follows_its_login_and_is_told_the_end,
    a_cancelled_login_stays_cancelled,
    a_code_shown_to_somebody_else_does_not_harvest_the_account,
    a_session_of_another_account_is_refused_before_anything_starts,
    back_ends_start_and_follow_with_their_own_tokens,
    events_end_when_the_server_drains,
    a_start_that_failed_leaves_the_proof_for_another_try,
);

async fn a_user_logs_in_by_either_proof(shape: Shape) {
    let stage = Stage::start(shape).await;
    for (bot, app) in [(WITH_TOKEN, format!("user-{ANN}")), (WITHOUT_TOKEN, "anything".to_owned())] {
        let answer =
            stage.opened(bot, ANN).post("/api/qr/start", &json!({"tenant_id": TENANT, "app_id": app})).await;
        let started = answer.good();
        assert_eq!((&started["tenant_id"], &started["app_id"]), (&json!(TENANT), &json!(app)));
        assert!((100..=120).contains(&started["ttl"].as_i64().expect("seconds")), "{started}");
        let picture = started["qr_base64"].as_str().expect("a picture");
        assert!(picture.starts_with("iVBORw0KGgo"), "a PNG in plain base64: {picture}");
        let login = Followed::of(&stage.page, &answer);
        let shown = login.status().await;
        assert_eq!((&shown["state"], &shown["telegram_user_id"]), (&json!("WAITING_QR_SCAN"), &Value::Null));
        assert_eq!((&shown["qr_url"], &shown["requires_password"]), (&json!(login.qr_url), &json!(false)));
        assert!(shown["token_expires_in"].as_i64().is_some_and(|left| left <= 30), "{shown}");

        stage.scan(&login, ANN).await;
        let end = login.once("AUTHORIZED").await;
        assert_eq!((&end["telegram_user_id"], &end["qr_url"]), (&json!(ANN), &Value::Null));
        let session = stage.world.session(&app).await;
        assert_eq!((session.state(), session.telegram_user_id), (SessionState::Authorized, ANN));
    }
    stage.world.stop().await;
}

async fn a_wrong_password_costs_an_attempt_and_not_the_scan(shape: Shape) {
    let stage = Stage::start(shape).await;
    let cat = User { id: CAT, password: Some(PASSWORD), hint: Some("staple"), ..User::default() };
    stage.world.sandbox.add(cat).await;
    let login = stage.started(WITH_TOKEN, CAT, "news").await;
    assert_eq!(
        login.password(PASSWORD).await.refusal(),
        (409, "LOGIN_WRONG_STATE".to_owned()),
        "nobody asked"
    );
    stage.scan(&login, CAT).await;
    let asked = login.once("WAITING_PASSWORD").await;
    assert_eq!((&asked["requires_password"], &asked["password_hint"]), (&json!(true), &json!("staple")));
    assert_eq!(asked["attempts_left"], 5);

    let wrong = login.password("wrong horse").await;
    assert_eq!(wrong.refusal(), (400, "PASSWORD_INVALID".to_owned()));
    assert_eq!(wrong.json()["error"]["attempts_left"], 4);
    assert!(!format!("{wrong:?}").contains("horse"));
    for bad in [String::new(), "x".repeat(257)] {
        assert_eq!(login.password(&bad).await.refusal(), (400, "ARGUMENT_INVALID".to_owned()));
    }
    let done = login.password(PASSWORD).await.good();
    assert_eq!((&done["state"], &done["telegram_user_id"]), (&json!("AUTHORIZED"), &json!(CAT)));
    assert_eq!(login.password(PASSWORD).await.refusal(), (409, "LOGIN_WRONG_STATE".to_owned()), "it is over");
    stage.world.stop().await;
}

/// Reads an event stream to its end.
async fn states(login: &Followed) -> Vec<Value> {
    let path = format!("/api/qr/events?ticket={}", login.ticket);
    let answer = login.page.open(Method::GET, &path, &[], Vec::new()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let text =
        timeout(PATIENCE, answer.into_body().collect()).await.expect("an end").expect("whole").to_bytes();
    let text = String::from_utf8(text.to_vec()).expect("text");
    let events = text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    events.map(|json| serde_json::from_str(json).expect("JSON")).collect()
}

async fn a_page_follows_its_login_and_is_told_the_end(shape: Shape) {
    let stage = Stage::start(shape).await;
    let login = stage.started(WITH_TOKEN, ANN, "news").await;
    let (told, ()) = tokio::join!(states(&login), stage.scan(&login, ANN));
    let (first, last) = (told.first().expect("one"), told.last().expect("one"));
    assert!(
        ["WAITING_QR_SCAN", "AUTHORIZED"].contains(&first["state"].as_str().expect("a state")),
        "{told:?}"
    );
    assert_eq!((&last["state"], &last["telegram_user_id"]), (&json!("AUTHORIZED"), &json!(ANN)));
    assert_eq!(states(&login).await.len(), 1, "an ended login is told once");
    stage.world.stop().await;
}

async fn a_cancelled_login_stays_cancelled(shape: Shape) {
    let stage = Stage::start(shape).await;
    let login = stage.started(WITH_TOKEN, ANN, "news").await;
    for _ in 0..2 {
        assert_eq!(login.cancel().await.good()["state"], "CANCELLED");
    }
    assert_eq!(login.password("horse").await.refusal(), (409, "LOGIN_CANCELLED".to_owned()));
    assert_eq!(stage.world.session("news").await.state(), SessionState::Absent);
    stage.world.nobody_is_signed_in().await;
    stage.world.stop().await;
}

async fn a_code_shown_to_somebody_else_does_not_harvest_the_account(shape: Shape) {
    let stage = Stage::start(shape).await;
    let login = stage.started(WITH_TOKEN, ANN, "news").await;
    stage.scan(&login, BOB).await;
    let end = login.once("FAILED").await;
    assert_eq!(end["failure"]["reason"], "ACCOUNT_MISMATCH");
    assert_eq!(end["telegram_user_id"], Value::Null);
    assert_eq!(stage.world.session("news").await.state(), SessionState::Absent);
    stage.world.nobody_is_signed_in().await;
    stage.world.stop().await;
}

async fn a_session_of_another_account_is_refused_before_anything_starts(shape: Shape) {
    let stage = Stage::start(shape).await;
    let before = stage.world.log_in("news", BOB).await;
    let handshakes = stage.world.sandbox.counter("handshakes").await;
    let page = stage.opened(WITH_TOKEN, ANN);
    for _ in 0..2 {
        let refused = page.post("/api/qr/start", &json!({"app_id": "news"})).await;
        assert_eq!(refused.refusal(), (409, "ACCOUNT_MISMATCH".to_owned()));
    }
    assert_eq!(stage.world.session("news").await.revision, before.revision);
    assert_eq!(stage.world.sandbox.counter("handshakes").await, handshakes);
    // The proof was good for nothing yet, so it still is for the user's own session.
    page.post("/api/qr/start", &json!({"app_id": format!("user-{ANN}")})).await.good();
    stage.world.stop().await;
}

async fn back_ends_start_and_follow_with_their_own_tokens(shape: Shape) {
    let stage = Stage::start(shape).await;
    let service = stage.page.with(format!("Bearer {}", service_token()));
    for (app, back_end) in [("one", stage.back_end(TENANT)), ("two", service)] {
        let answer = back_end.post("/api/qr/start", &json!({"tenant_id": TENANT, "app_id": app})).await;
        let login = Followed { page: back_end, ..Followed::of(&stage.page, &answer) };
        assert_eq!(login.status().await["state"], "WAITING_QR_SCAN");
        // Pinned to nobody: whoever scans it signs in.
        stage.scan(&login, BOB).await;
        assert_eq!(login.once("AUTHORIZED").await["telegram_user_id"], BOB);
        assert_eq!(login.cancel().await.good()["state"], "AUTHORIZED");
    }
    stage.world.stop().await;
}

async fn events_end_when_the_server_drains(shape: Shape) {
    let stage = Stage::start(shape).await;
    let login = stage.started(WITH_TOKEN, ANN, "news").await;
    let path = format!("/api/qr/events?ticket={}", login.ticket);
    let mut body = login.page.open(Method::GET, &path, &[], Vec::new()).await.into_body();
    let first = timeout(PATIENCE, body.frame()).await.expect("in time").expect("one").expect("whole");
    assert!(first.data_ref().is_some_and(|data| data.starts_with(b"data: ")), "{first:?}");
    stage.world.server.ask_to_stop();
    // Well before the grace for calls under way is over.
    timeout(Duration::from_secs(4), body.collect()).await.expect("an end").expect("a clean one");
    stage.world.stop().await;
}

async fn a_start_that_failed_leaves_the_proof_for_another_try(shape: Shape) {
    let stage = Stage::start(shape).await;
    let page = stage.opened(WITH_TOKEN, ANN);
    let sandbox = &stage.world.sandbox;
    sandbox.fault("auth.exportLoginToken", 1, Fault::Error("API_ID_INVALID")).await;
    let failed = page.post("/api/qr/start", &json!({"app_id": "news"})).await;
    assert_eq!(failed.refusal().1, "API_KEY_REFUSED");
    page.post("/api/qr/start", &json!({"app_id": "news"})).await.good();
    let used = page.post("/api/qr/start", &json!({"app_id": "news"})).await;
    assert_eq!(used.refusal(), (401, "UNAUTHENTICATED".to_owned()), "a login came of it");
    stage.world.stop().await;
}
