//! Other material in place of what a name holds.

use usm::domain::material::Format;
use usm_client::v1::{self, ImportOutcome, SessionCustody, SessionEventKind, SessionState};

use crate::support::{
    poll,
    world::{ANN, BOB, Shape, World, import, on_both_shapes, reason, refused},
};

on_both_shapes!(
    what_gives_way_is_logged_out_if_it_was_ours_alone,
    the_legacy_systems_authorization_lives_on_when_its_copy_gives_way,
    nothing_gives_way_while_somebody_holds_it,
);

fn replacing(data: Vec<u8>) -> v1::ImportSessionRequest {
    v1::ImportSessionRequest { replace: true, legacy_stopped: true, ..import("bot", data) }
}

async fn what_gives_way_is_logged_out_if_it_was_ours_alone(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let before = world.session("bot").await;
    let new = world.sandbox.mint(2, ANN).await;
    let data = world.written(&new, Format::TelethonString).await;
    let dry = world.import(v1::ImportSessionRequest { dry_run: true, ..replacing(data.clone()) }).await;
    assert_eq!(dry.expect("nothing against it").outcome(), ImportOutcome::Replaced);
    assert_eq!(world.session("bot").await, before);

    let answer = world.import(replacing(data.clone())).await.expect("replaced");
    assert_eq!(answer.outcome(), ImportOutcome::Replaced);
    let session = answer.session.expect("a session");
    assert_eq!((session.state(), session.state_reason.as_str()), (SessionState::Authorized, "imported"));
    assert_eq!(session.material_version, 2);
    let (_, material) = world.lend("bot").await;
    let lent = world.parsed(&material.data, Format::Raw).await;
    assert_eq!(lent.keys[&2].auth_key, new.keys[&2].auth_key);
    poll::until("the former authorization is over", || async {
        (world.sandbox.authorizations().await.len() == 1).then_some(())
    })
    .await;
    assert!(world.events("bot").await.iter().any(|(kind, _)| *kind == SessionEventKind::MaterialChanged));
    let again = world.import(replacing(data)).await.expect("there already");
    assert_eq!(again.outcome(), ImportOutcome::AlreadyThere);
    world.stop().await;
}

async fn the_legacy_systems_authorization_lives_on_when_its_copy_gives_way(shape: Shape) {
    let world = World::start(shape).await;
    let old = world.sandbox.mint(2, ANN).await;
    let data = world.written(&old, Format::TelethonString).await;
    world.import(import("bot", data)).await.expect("imported");
    let new = world.sandbox.mint(2, ANN).await;
    let data = world.written(&new, Format::TelethonString).await;
    let request = v1::ImportSessionRequest { legacy_stopped: false, ..replacing(data) };
    let session = world.import(request).await.expect("replaced").session.expect("a session");
    assert_eq!(session.custody(), SessionCustody::Legacy);
    assert_eq!(world.sandbox.authorizations().await.len(), 2);
    assert_eq!(world.sandbox.counter("connections").await, 0, "nobody connected");
    world.stop().await;
}

async fn nothing_gives_way_while_somebody_holds_it(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let (lease, _) = world.lend("bot").await;
    let new = world.sandbox.mint(2, ANN).await;
    let data = world.written(&new, Format::TelethonString).await;
    let refusal = refused(world.import(replacing(data)).await);
    assert_eq!(reason(&refusal), "SESSION_LEASED");
    world.renew(&lease).await.expect("its holder noticed nothing");
    assert_eq!(world.sandbox.authorizations().await.len(), 2, "both live");

    // Another account's is no replacement.
    world.release(&lease, true).await.expect("released");
    let session = world.session("bot").await;
    let other = world.sandbox.mint(2, BOB).await;
    let data = world.written(&other, Format::Raw).await;
    let request = v1::ImportSessionRequest { expected_telegram_user_id: ANN, ..replacing(data) };
    assert_eq!(reason(&refused(world.import(request).await)), "ACCOUNT_MISMATCH");
    assert_eq!(world.session("bot").await.material_version, session.material_version);
    world.stop().await;
}
