//! Back ends that call back, and what only looks like them.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use usm_client::v1::SessionState;

use super::{
    page::Answer,
    stage::{CALLBACK_SECRET, Followed, Stage, WITH_TOKEN, hmac, now},
};
use crate::support::world::{ANN, BOB, Plan, Shape, on_both_shapes};

on_both_shapes!(
    a_signed_callback_hears_how_far_the_login_is,
    a_signature_is_good_for_one_call_as_it_was_signed,
    without_a_secret_there_are_no_callbacks,
);

const PATH: &str = "/api/qr/callback";
const JSON: (&str, &str) = ("content-type", "application/json");

/// As a back end would sign it.
fn sign(method: &str, path: &str, timestamp: &str, body: &str, secret: &str) -> String {
    let text = format!("{method}\n{path}\n{timestamp}\n{}", hex::encode(Sha256::digest(body)));
    hex::encode(hmac(secret.as_bytes(), &text))
}

async fn send(stage: &Stage, timestamp: &str, signature: &str, body: &str) -> Answer {
    let headers = [JSON, ("x-timestamp", timestamp), ("x-miniapp-signature", signature)];
    stage.page.post_raw(PATH, &headers, body.as_bytes().to_vec()).await
}

pub(super) async fn call(stage: &Stage, body: &Value) -> Answer {
    let (body, timestamp) = (body.to_string(), now().to_string());
    let signature = sign("POST", PATH, &timestamp, &body, CALLBACK_SECRET);
    send(stage, &timestamp, &signature, &body).await
}

async fn a_signed_callback_hears_how_far_the_login_is(shape: Shape) {
    let stage = Stage::start(shape).await;
    let login: Followed = stage.started(WITH_TOKEN, ANN, "news").await;
    let told = json!({"ticket": login.ticket, "tg_user_id": ANN, "two_fa_required": true});
    let waits = call(&stage, &told).await.good();
    assert_eq!((&waits["state"], &waits["requires_password"]), (&json!("WAITING_QR_SCAN"), &json!(false)));
    assert!(waits.get("qr_url").is_none() && waits.get("qr_base64").is_none(), "{waits}");
    let mismatch = call(&stage, &json!({"ticket": login.ticket, "tg_user_id": BOB})).await;
    assert_eq!(mismatch.refusal(), (409, "ACCOUNT_MISMATCH".to_owned()));
    let unknown: String = login.ticket.chars().rev().collect();
    for ticket in [unknown.as_str(), "x", ""] {
        let answer = call(&stage, &json!({"ticket": ticket})).await;
        assert_eq!(answer.refusal(), (404, "TICKET_NOT_FOUND".to_owned()));
    }
    // Nothing of it authorized or ended anything.
    assert_eq!(login.status().await["state"], "WAITING_QR_SCAN");
    assert_eq!(stage.world.session("news").await.state(), SessionState::PendingQr);

    stage.scan(&login, ANN).await;
    login.once("AUTHORIZED").await;
    let done = call(&stage, &json!({"ticket": login.ticket, "two_fa_required": null})).await.good();
    assert_eq!((&done["state"], &done["telegram_user_id"]), (&json!("AUTHORIZED"), &json!(ANN)));
    stage.world.stop().await;
}

async fn a_signature_is_good_for_one_call_as_it_was_signed(shape: Shape) {
    let stage = Stage::start(shape).await;
    let login = stage.started(WITH_TOKEN, ANN, "news").await;
    let body = json!({"ticket": login.ticket}).to_string();
    let time = now().to_string();
    let good = sign("POST", PATH, &time, &body, CALLBACK_SECRET);
    let later = (now() + 1).to_string();
    for (what, time, signature, body) in [
        ("another method", &time, sign("GET", PATH, &time, &body, CALLBACK_SECRET), body.clone()),
        ("another path", &time, sign("POST", "/api/qr/cancel", &time, &body, CALLBACK_SECRET), body.clone()),
        ("another time", &later, good.clone(), body.clone()),
        ("another body", &time, good.clone(), format!("{body} ")),
        ("another secret", &time, sign("POST", PATH, &time, &body, "another-secret-of-theirs"), body.clone()),
        ("cut", &time, good[..62].to_owned(), body.clone()),
        ("nonsense, and no JSON", &time, "xyz".to_owned(), "{".to_owned()),
    ] {
        let answer = send(&stage, time, &signature, &body).await;
        assert_eq!(answer.refusal(), (401, "UNAUTHENTICATED".to_owned()), "{what}");
    }
    for off in [-302, 302] {
        let time = (now() + off).to_string();
        let answer = send(&stage, &time, &sign("POST", PATH, &time, &body, CALLBACK_SECRET), &body).await;
        assert_eq!(answer.refusal(), (400, "ARGUMENT_INVALID".to_owned()), "{off}");
    }
    let (signed, timed) = (("x-miniapp-signature", good.as_str()), ("x-timestamp", time.as_str()));
    for headers in [vec![JSON], vec![JSON, signed], vec![JSON, timed], vec![JSON, signed, signed, timed]] {
        let answer = stage.page.post_raw(PATH, &headers, body.clone().into_bytes()).await;
        assert_eq!(answer.refusal(), (400, "ARGUMENT_INVALID".to_owned()), "{headers:?}");
    }

    // None of that used it up.
    send(&stage, &time, &good, &body).await.good();
    for again in [good.clone(), good.to_uppercase()] {
        let answer = send(&stage, &time, &again, &body).await;
        assert_eq!(answer.refusal(), (401, "UNAUTHENTICATED".to_owned()));
        assert_eq!(answer.json()["error"]["why"], "used");
    }
    stage.world.stop().await;
}

async fn without_a_secret_there_are_no_callbacks(shape: Shape) {
    let stage = Stage::set_up(shape, Plan::default(), |setup| setup.callbacks = None).await;
    assert_eq!(call(&stage, &json!({"ticket": "x"})).await.refusal(), (404, "FEATURE_DISABLED".to_owned()));
    stage.world.stop().await;
}
