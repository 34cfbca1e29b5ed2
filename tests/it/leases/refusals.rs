//! What is never lent.

use tonic::Code;
use usm::domain::material::Format;
use usm_client::v1::{self, SessionState};

use crate::support::world::{
    ANN, Shape, TENANT, World, fact, field, import, lease, on_both_shapes, reason, refused, seconds,
};

on_both_shapes!(
    a_session_without_usable_material_is_not_lent,
    a_session_of_the_legacy_system_is_not_lent,
    requests_that_make_no_sense_are_refused_by_field,
);

async fn not_lent(world: &World, app: &str, state: &str) {
    let refusal = refused(world.acquire(lease(app, "worker-1")).await);
    assert_eq!(
        (refusal.code(), reason(&refusal).as_str()),
        (Code::FailedPrecondition, "SESSION_WRONG_STATE")
    );
    assert_eq!(fact(&refusal, "state").as_deref(), Some(state));
}

async fn a_session_without_usable_material_is_not_lent(shape: Shape) {
    let world = World::start(shape).await;
    let unknown = refused(world.acquire(lease("none", "worker-1")).await);
    assert_eq!((unknown.code(), reason(&unknown).as_str()), (Code::NotFound, "SESSION_NOT_FOUND"));

    let login = world.code("pending").await;
    not_lent(&world, "pending", "PENDING_QR").await;
    world.cancel(&login.ticket).await.expect("cancelled");
    not_lent(&world, "pending", "ABSENT").await;

    let key = |app: &str| (TENANT.to_owned(), app.to_owned());
    world.lendable("revoked", ANN).await;
    let (tenant_id, app_id) = key("revoked");
    let request = v1::RevokeSessionRequest { tenant_id, app_id, ..Default::default() };
    world.sessions.clone().revoke_session(request).await.expect("revoked");
    not_lent(&world, "revoked", "REVOKED").await;

    world.lendable("stale", ANN).await;
    for known in world.sandbox.authorizations().await {
        world.sandbox.revoke(&known, "forget").await;
    }
    let (tenant_id, app_id) = key("stale");
    let request = v1::ValidateSessionRequest { tenant_id, app_id, ..Default::default() };
    world.sessions.clone().validate_session(request).await.expect("looked at");
    assert_eq!(world.session("stale").await.state(), SessionState::Stale);
    not_lent(&world, "stale", "STALE").await;
    world.stop().await;
}

async fn a_session_of_the_legacy_system_is_not_lent(shape: Shape) {
    let world = World::start(shape).await;
    let material = world.sandbox.mint(2, ANN).await;
    let data = world.written(&material, Format::TelethonString).await;
    world.import(import("bot", data)).await.expect("imported");
    let refusal = refused(world.acquire(lease("bot", "worker-1")).await);
    assert_eq!(reason(&refusal), "SESSION_CUSTODY_LEGACY");
    assert!(world.session("bot").await.lease.is_none());
    assert_eq!(world.sandbox.counter("connections").await, 0, "nor connected");
    world.stop().await;
}

async fn requests_that_make_no_sense_are_refused_by_field(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let ask = || lease("bot", "worker-1");
    let cases = [
        ("holder", lease("bot", "")),
        ("holder", lease("bot", &"w".repeat(129))),
        ("holder", lease("bot", "worker\n1")),
        ("holder", lease("bot", "wörker")),
        ("app_id", lease(".bot", "worker-1")),
        ("tenant_id", v1::AcquireLeaseRequest { tenant_id: String::new(), ..ask() }),
        ("ttl", v1::AcquireLeaseRequest { ttl: seconds(0), ..ask() }),
        ("ttl", v1::AcquireLeaseRequest { ttl: seconds(-10), ..ask() }),
        ("wait", v1::AcquireLeaseRequest { wait: seconds(601), ..ask() }),
        ("request_id", v1::AcquireLeaseRequest { request_id: "again".to_owned(), ..ask() }),
    ];
    for (name, request) in cases {
        let refusal = refused(world.acquire(request).await);
        assert_eq!((reason(&refusal).as_str(), field(&refusal).as_deref()), ("ARGUMENT_INVALID", Some(name)));
    }
    // What is merely out of range is taken as the nearest.
    for (asked, granted) in [(1, 10), (100_000, 600)] {
        let request = v1::AcquireLeaseRequest { ttl: seconds(asked), ..ask() };
        let lease = world.acquire(request).await.expect("granted").lease.expect("a lease");
        assert_eq!(lease.ttl.expect("set").seconds, granted);
        world.release(&lease, true).await.expect("released");
    }
    world.stop().await;
}
