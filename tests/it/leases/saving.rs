//! What a holder writes back.

use usm::domain::material::{AuthKey, DcKey, Format, Material, UpdateState};
use usm_client::v1;

use crate::support::world::{ANN, BOB, Shape, World, field, on_both_shapes, reason, refused};

on_both_shapes!(
    a_holder_writes_back_what_changed,
    single_parts_are_written_back,
    another_authorization_is_refused,
    only_the_holder_writes_back,
);

async fn save(
    world: &World,
    held: &v1::Lease,
    request: v1::SaveSessionRequest,
) -> Result<v1::Session, tonic::Status> {
    let request = v1::SaveSessionRequest { lease_id: held.lease_id.clone(), epoch: held.epoch, ..request };
    Ok(world.leases.clone().save_session(request).await?.into_inner().session.expect("a session"))
}

async fn whole(world: &World, material: &Material) -> v1::SaveSessionRequest {
    v1::SaveSessionRequest {
        format: v1::SessionFormat::Raw.into(),
        data: world.written(material, Format::Raw).await,
        ..Default::default()
    }
}

fn key(byte: u8) -> DcKey {
    DcKey { auth_key: AuthKey::from_slice(&[byte; 256]).expect("a key"), address: None }
}

async fn lent(world: &World, data: &[u8]) -> Material {
    world.parsed(data, Format::Raw).await
}

async fn a_holder_writes_back_what_changed(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let (held, material) = world.lend("bot").await;
    let before = world.session("bot").await;
    let mut changed = lent(&world, &material.data).await;
    changed.keys.insert(4, key(9));
    changed.updates = Some(UpdateState { pts: 7, qts: 0, date: 1_700_000_000, seq: 3 });
    let saved = save(&world, &held, whole(&world, &changed).await).await.expect("saved");
    assert_eq!(saved.revision, before.revision + 1);
    let again = save(&world, &held, whole(&world, &changed).await).await.expect("as often as asked");
    assert_eq!(again.revision, saved.revision, "nothing changed");
    world.renew(&held).await.expect("the lease goes on");
    world.release(&held, true).await.expect("released");
    let (_, next) = world.lend("bot").await;
    let next = lent(&world, &next.data).await;
    assert_eq!(
        (next.keys.get(&4).map(|key| &key.auth_key), next.updates),
        (Some(&key(9).auth_key), changed.updates)
    );
    assert_eq!(next.home_dc, changed.home_dc);
    world.stop().await;
}

async fn single_parts_are_written_back(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let (held, _) = world.lend("bot").await;
    let moved = v1::SaveSessionRequest {
        dc_id: 4,
        dc_keys: vec![v1::DcKey { dc_id: 4, auth_key: vec![9; 256], ..Default::default() }],
        ..Default::default()
    };
    let saved = save(&world, &held, moved).await.expect("saved");
    assert_eq!(saved.dc_id, 4, "the home moved");
    let homeless = v1::SaveSessionRequest { dc_id: 5, ..Default::default() };
    assert_eq!(reason(&refused(save(&world, &held, homeless).await)), "MATERIAL_INVALID");
    let broken = |dc_keys: Vec<v1::DcKey>| v1::SaveSessionRequest { dc_keys, ..Default::default() };
    let one =
        |dc_id, length, port| v1::DcKey { dc_id, auth_key: vec![1; length], port, ..Default::default() };
    for (request, at) in [
        (v1::SaveSessionRequest::default(), "data"),
        (v1::SaveSessionRequest { data: vec![1], dc_id: 2, ..Default::default() }, "data"),
        (v1::SaveSessionRequest { data: vec![1], ..Default::default() }, "format"),
        (v1::SaveSessionRequest { dc_id: 6, ..Default::default() }, "dc_id"),
        (broken(vec![one(0, 256, 0)]), "dc_keys.dc_id"),
        (broken(vec![one(3, 256, 443)]), "dc_keys.server_address"),
        (broken((0..33).map(|_| one(3, 256, 0)).collect()), "dc_keys"),
    ] {
        let refusal = refused(save(&world, &held, request).await);
        assert_eq!((reason(&refusal).as_str(), field(&refusal).as_deref()), ("ARGUMENT_INVALID", Some(at)));
    }
    assert_eq!(reason(&refused(save(&world, &held, broken(vec![one(3, 255, 0)])).await)), "MATERIAL_INVALID");
    assert_eq!(world.session("bot").await.revision, saved.revision, "refusals change nothing");
    world.stop().await;
}

async fn another_authorization_is_refused(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    world.lendable("other", BOB).await;
    let (held, _) = world.lend("bot").await;
    let (_, foreign) = world.lend("other").await;
    let before = world.session("bot").await.revision;
    let foreign = lent(&world, &foreign.data).await;
    let refusal = reason(&refused(save(&world, &held, whole(&world, &foreign).await).await));
    assert!(["ACCOUNT_MISMATCH", "MATERIAL_INVALID"].contains(&refusal.as_str()), "{refusal}");
    let garbage = v1::SaveSessionRequest {
        format: v1::SessionFormat::Raw.into(),
        data: b"nothing of ours".to_vec(),
        ..Default::default()
    };
    let refusal = refused(save(&world, &held, garbage).await);
    assert_eq!(reason(&refusal), "MATERIAL_INVALID");
    assert_eq!(world.session("bot").await.revision, before);
    world.stop().await;
}

async fn only_the_holder_writes_back(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let (held, material) = world.lend("bot").await;
    let mut changed = lent(&world, &material.data).await;
    changed.keys.insert(4, key(9));
    let request = whole(&world, &changed).await;
    let older = v1::Lease { epoch: held.epoch + 1, ..held.clone() };
    assert_eq!(reason(&refused(save(&world, &older, request.clone()).await)), "LEASE_EPOCH_STALE");
    world.release(&held, true).await.expect("released");
    assert_eq!(reason(&refused(save(&world, &held, request.clone()).await)), "LEASE_NOT_HELD");
    let (next, _) = world.lend("bot").await;
    assert_eq!(reason(&refused(save(&world, &held, request).await)), "LEASE_NOT_HELD", "nor later");
    world.renew(&next).await.expect("the next holder is not disturbed");
    world.stop().await;
}
