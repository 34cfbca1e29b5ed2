//! Which system may connect with a key: this one or the legacy one.

use usm::domain::material::Format;
use usm_client::v1::{self, SessionCustody, SessionEventKind};

use crate::support::world::{ANN, Shape, TENANT, World, import, lease, on_both_shapes, reason, refused};

on_both_shapes!(
    custody_is_taken_from_the_legacy_system_and_given_back,
    custody_does_not_move_while_somebody_holds_the_session,
);

async fn take(world: &World) -> Result<v1::Session, tonic::Status> {
    let request = v1::TakeCustodyRequest {
        tenant_id: TENANT.to_owned(),
        app_id: "bot".to_owned(),
        ..Default::default()
    };
    Ok(world.sessions.clone().take_custody(request).await?.into_inner().session.expect("a session"))
}

async fn give(world: &World) -> Result<v1::Session, tonic::Status> {
    let request = v1::GiveCustodyRequest {
        tenant_id: TENANT.to_owned(),
        app_id: "bot".to_owned(),
        ..Default::default()
    };
    Ok(world.sessions.clone().give_custody(request).await?.into_inner().session.expect("a session"))
}

async fn custody_is_taken_from_the_legacy_system_and_given_back(shape: Shape) {
    let world = World::start(shape).await;
    assert_eq!(reason(&refused(take(&world).await)), "SESSION_NOT_FOUND");
    let material = world.sandbox.mint(2, ANN).await;
    let data = world.written(&material, Format::TelethonString).await;
    world.import(import("bot", data)).await.expect("imported");

    let taken = take(&world).await.expect("taken");
    assert_eq!(taken.custody(), SessionCustody::Service);
    let again = take(&world).await.expect("as often as asked");
    assert_eq!(again.revision, taken.revision, "nothing changed twice");
    let (held, _) = world.lend("bot").await;
    world.release(&held, true).await.expect("released");

    let given = give(&world).await.expect("given");
    assert_eq!(given.custody(), SessionCustody::Legacy);
    let refusals = [
        refused(world.acquire(lease("bot", "worker-1")).await),
        refused(world.begin(crate::support::world::qr("bot")).await),
        {
            let (tenant_id, app_id) = (TENANT.to_owned(), "bot".to_owned());
            let request = v1::ValidateSessionRequest { tenant_id, app_id, ..Default::default() };
            refused(world.sessions.clone().validate_session(request).await)
        },
        {
            let (tenant_id, app_id) = (TENANT.to_owned(), "bot".to_owned());
            let request = v1::RevokeSessionRequest { tenant_id, app_id, ..Default::default() };
            refused(world.sessions.clone().revoke_session(request).await)
        },
    ];
    for refusal in refusals {
        assert_eq!(reason(&refusal), "SESSION_CUSTODY_LEGACY");
    }
    assert_eq!(world.sandbox.counter("connections").await, 0, "never connected");
    take(&world).await.expect("taken back");
    let (next, _) = world.lend("bot").await;
    assert!(next.epoch > held.epoch + 1, "each move takes an epoch");
    let moves = world.events("bot").await;
    let moves = moves.iter().filter(|(kind, _)| *kind == SessionEventKind::CustodyChanged).count();
    assert_eq!(moves, 3);
    world.stop().await;
}

async fn custody_does_not_move_while_somebody_holds_the_session(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let (held, _) = world.lend("bot").await;
    assert_eq!(reason(&refused(give(&world).await)), "SESSION_LEASED");
    world.release(&held, false).await.expect("released");
    assert_eq!(reason(&refused(give(&world).await)), "SESSION_LEASED", "its connections may be open");
    world.release(&held, true).await.expect("closed");
    give(&world).await.expect("given");
    world.stop().await;
}
