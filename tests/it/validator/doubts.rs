//! Refusals: the false, the true, and the ones that leave no doubt.

use serde_json::json;
use usm_client::v1::{SessionEventKind, SessionState};

use super::{every_second, world};
use crate::support::{
    poll,
    telegram::Fault,
    world::{ANN, Shape, World, on_both_shapes, reason, refused},
};

on_both_shapes!(
    a_false_refusal_is_forgiven,
    a_refusal_that_comes_again_is_believed,
    what_is_certain_is_believed_at_once,
    a_frozen_account_is_not_lost,
);

async fn refuse(world: &World, mode: serde_json::Value) {
    let known = world.sandbox.authorizations().await.remove(0);
    world.sandbox.post("/revoke", json!({"key": known.name, "mode": mode})).await.expect("a known key");
}

async fn reasons(world: &World) -> Vec<String> {
    let events = world.events("bot").await;
    let moves = events.into_iter().filter(|(kind, _)| *kind == SessionEventKind::StateChanged);
    moves.map(|(_, reason)| reason).collect()
}

async fn a_false_refusal_is_forgiven(shape: Shape) {
    let world = world(shape, every_second(60)).await;
    world.lendable("bot", ANN).await;
    world.seen("bot", 1).await;
    // Once: what comes later is the truth.
    world.sandbox.fault("users.getUsers", 1, Fault::Error("AUTH_KEY_UNREGISTERED")).await;
    poll::until("doubt and its end", || async {
        let reasons = reasons(&world).await;
        reasons.ends_with(&["validation_failed".to_owned(), "validation_success".to_owned()]).then_some(())
    })
    .await;
    world.becomes("bot", SessionState::Authorized, "validation_success").await;
    world.stop().await;
}

async fn a_refusal_that_comes_again_is_believed(shape: Shape) {
    let world = world(shape, every_second(60)).await;
    world.lendable("bot", ANN).await;
    refuse(&world, json!("forget")).await;
    let gone = world.becomes("bot", SessionState::Revoked, "revoked_by_user").await;
    assert!(!gone.log_out_pending && gone.lease.is_none());
    let reasons = reasons(&world).await;
    assert!(
        reasons.ends_with(&["validation_failed".to_owned(), "revoked_by_user".to_owned()]),
        "{reasons:?}"
    );
    let refusal = refused(world.acquire(crate::support::world::lease("bot", "worker-1")).await);
    assert_eq!(reason(&refusal), "SESSION_WRONG_STATE");
    world.stop().await;
}

async fn what_is_certain_is_believed_at_once(shape: Shape) {
    let world = world(shape, every_second(60)).await;
    world.lendable("bot", ANN).await;
    refuse(&world, json!("AUTH_KEY_DUPLICATED")).await;
    world.becomes("bot", SessionState::Revoked, "duplicated").await;
    let reasons = reasons(&world).await;
    assert!(!reasons.contains(&"validation_failed".to_owned()), "{reasons:?}");
    world.stop().await;
}

async fn a_frozen_account_is_not_lost(shape: Shape) {
    let world = world(shape, every_second(60)).await;
    world.lendable("bot", ANN).await;
    world.sandbox.fault("users.getUsers", 1000, Fault::Error("FROZEN_METHOD_INVALID")).await;
    let frozen = world.seen("bot", 2).await;
    assert_eq!(frozen.state(), SessionState::Authorized);
    world.stop().await;
}
