//! Imports that ask Telegram first.

use std::time::Duration;

use serde_json::json;
use usm::domain::material::Format;
use usm_client::v1::{self, ImportOutcome, SessionState};

use crate::support::{
    telegram::Fault,
    world::{ANN, BOB, Plan, Shape, World, import, on_both_shapes, pause, reason, refused},
};

on_both_shapes!(
    what_lives_is_taken_with_what_telegram_told,
    what_is_dead_is_refused_and_not_kept,
    a_pause_that_telegram_asks_for_holds_for_the_next_ones,
    nobody_else_connects_with_the_same_authorization_meanwhile,
);

fn validating(app: &str, data: Vec<u8>) -> v1::ImportSessionRequest {
    v1::ImportSessionRequest { validate: true, legacy_stopped: true, ..import(app, data) }
}

async fn what_lives_is_taken_with_what_telegram_told(shape: Shape) {
    let world = World::start(shape).await;
    let material = world.sandbox.mint(2, ANN).await;
    // This form tells nothing of the account.
    let data = world.written(&material, Format::TelethonString).await;
    let dry = v1::ImportSessionRequest { dry_run: true, ..validating("bot", data.clone()) };
    assert_eq!(world.import(dry).await.expect("it lives").outcome(), ImportOutcome::Imported);
    assert_eq!(reason(&refused(world.find("bot").await)), "SESSION_NOT_FOUND");

    // Two looks at one authorization are never at once, nor right after each other.
    let soon = refused(world.import(validating("bot", data.clone())).await);
    assert_eq!(reason(&soon), "RATE_LIMITED");
    assert!(pause(&soon).is_some_and(|pause| pause <= Duration::from_secs(25)));

    let other = world.sandbox.mint(2, ANN).await;
    let data = world.written(&other, Format::TelethonString).await;
    let wrong = v1::ImportSessionRequest { expected_telegram_user_id: BOB, ..validating("other", data) };
    assert_eq!(reason(&refused(world.import(wrong).await)), "ACCOUNT_MISMATCH");
    let third = world.sandbox.mint(2, ANN).await;
    let data = world.written(&third, Format::TelethonString).await;
    let answer = world.import(validating("bot", data.clone())).await.expect("it lives");
    let session = answer.session.expect("a session");
    assert_eq!((session.state(), session.telegram_user_id), (SessionState::Authorized, ANN));
    assert!(session.last_validated_time.is_some());
    let connections = world.sandbox.counter("connections").await;
    let again = world.import(validating("bot", data)).await.expect("there");
    assert_eq!(again.outcome(), ImportOutcome::AlreadyThere);
    assert_eq!(world.sandbox.counter("connections").await, connections, "nobody asks about what is there");
    world.stop().await;
}

async fn what_is_dead_is_refused_and_not_kept(shape: Shape) {
    let world = World::start(shape).await;
    let material = world.sandbox.mint(2, ANN).await;
    let key = world.sandbox.authorizations().await.remove(0);
    world.sandbox.revoke(&key, "SESSION_REVOKED").await;
    let data = world.written(&material, Format::TelethonString).await;
    let refusal = refused(world.import(validating("bot", data)).await);
    assert_eq!(reason(&refusal), "SESSION_UNAUTHORIZED_BY_TELEGRAM");
    assert_eq!(reason(&refused(world.find("bot").await)), "SESSION_NOT_FOUND");
    world.stop().await;
}

async fn a_pause_that_telegram_asks_for_holds_for_the_next_ones(shape: Shape) {
    let world = World::start(shape).await;
    let mut data = Vec::new();
    for _ in 0..2 {
        let material = world.sandbox.mint(2, ANN).await;
        data.push(world.written(&material, Format::TelethonString).await);
    }
    world.sandbox.fault("users.getUsers", 1, Fault::Error("FLOOD_WAIT_33")).await;
    let first = refused(world.import(validating("a", data.remove(0))).await);
    assert_eq!(reason(&first), "TELEGRAM_FLOOD_WAIT");
    assert!(pause(&first).is_some_and(|pause| pause >= Duration::from_secs(30)));
    let connections = world.sandbox.counter("connections").await;
    let second = refused(world.import(validating("b", data.remove(0))).await);
    assert_eq!(reason(&second), "TELEGRAM_FLOOD_WAIT");
    assert_eq!(world.sandbox.counter("connections").await, connections, "Telegram was left alone");
    world.stop().await;
}

async fn nobody_else_connects_with_the_same_authorization_meanwhile(shape: Shape) {
    let plan = Plan { telegram: json!({"dup_sessions": true}), ..Plan::default() };
    let world = World::planned(shape, plan).await;
    let material = world.sandbox.mint(2, ANN).await;
    let data = world.written(&material, Format::TelethonString).await;
    world.sandbox.fault("users.getUsers", 1, Fault::Delay(Duration::from_millis(700))).await;
    let race = (0..6).map(|n| world.import(validating(&format!("bot-{n}"), data.clone())));
    let answers = futures::future::join_all(race).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for refusal in answers.into_iter().filter_map(Result::err) {
        let reason = reason(&refusal);
        assert!(["RATE_LIMITED", "SESSION_ALREADY_EXISTS"].contains(&reason.as_str()), "{reason}");
    }
    assert_eq!(world.sandbox.counter("duplicates").await, 0);
    assert_eq!(world.sandbox.authorizations().await.len(), 1, "it lives");
    world.stop().await;
}
