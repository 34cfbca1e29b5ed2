//! A login for a session that works: it goes on working until the new authorization takes over.

use usm::{domain::material::Format, telegram::error::Error};
use usm_client::v1::{LoginState, SessionEventKind, SessionState};

use crate::support::{
    poll,
    telegram::{Fault, soon},
    world::{ANN, Shape, World, on_both_shapes, reason, refused},
};

on_both_shapes!(
    a_second_login_takes_the_place_of_the_first,
    the_new_material_waits_for_the_lease_of_the_old,
    a_second_login_that_fails_leaves_the_session_as_it_was,
    the_former_authorization_is_ended_though_telegram_did_not_listen_at_first,
);

async fn a_second_login_takes_the_place_of_the_first(shape: Shape) {
    let world = World::start(shape).await;
    let first = world.log_in("bot", ANN).await;
    let (lease, old) = world.lend("bot").await;
    world.release(&lease, true).await.expect("released");
    let login = world.code("bot").await;
    assert_eq!(world.session("bot").await.state(), SessionState::Authorized, "in use all the while");
    world.scan(&login, ANN).await;
    let end = world.finalize(&login.ticket, "").await.expect("the login ends");
    assert_eq!(end.state(), LoginState::Authorized);

    let second = world.session("bot").await;
    assert_eq!((second.state(), second.material_version), (SessionState::Authorized, 2));
    assert_ne!(second.fingerprint, first.fingerprint);
    let (newer, material) = world.lend("bot").await;
    assert_eq!((newer.epoch, material.material_version), (lease.epoch + 2, 2), "the swap took an epoch");
    let kinds = world.events("bot").await;
    assert!(kinds.iter().any(|(kind, _)| *kind == SessionEventKind::MaterialChanged), "{kinds:?}");
    poll::until("the former authorization is signed out", || async {
        (world.sandbox.authorizations().await.len() == 1).then_some(())
    })
    .await;
    let old = world.parsed(&old.data, Format::Raw).await;
    let gone = world.sandbox.telegram().probe(&old, soon()).await;
    assert!(matches!(gone, Err(Error::Unauthorized | Error::Lost(_) | Error::KeyUnknown)), "{gone:?}");
    let new = world.parsed(&material.data, Format::Raw).await;
    world.sandbox.telegram().probe(&new, soon()).await.expect("the new one works");
    world.stop().await;
}

async fn the_new_material_waits_for_the_lease_of_the_old(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let (lease, material) = world.lend("bot").await;
    let login = world.code("bot").await;
    world.scan(&login, ANN).await;
    poll::until("there are two authorizations", || async {
        (world.sandbox.authorizations().await.len() == 2).then_some(())
    })
    .await;
    let waiting = world.session("bot").await;
    assert_eq!((waiting.state(), waiting.material_version), (SessionState::Authorized, 1));
    let renewed = world.renew(&lease).await.expect("the holder is not disturbed");
    assert_eq!(renewed.epoch, lease.epoch);
    assert_ne!(world.login(&login.ticket).await.state(), LoginState::Authorized);
    let held = world.parsed(&material.data, Format::Raw).await;
    world.sandbox.telegram().probe(&held, soon()).await.expect("the holder's key still works");

    world.release(&lease, true).await.expect("released");
    let end = world.finalize(&login.ticket, "").await.expect("the login ends");
    assert_eq!(end.state(), LoginState::Authorized);
    let swapped = world.session("bot").await;
    assert_eq!((swapped.material_version, swapped.state_reason.as_str()), (2, "authorization_success"));
    let stale = refused(world.renew(&lease).await);
    assert!(["LEASE_NOT_HELD", "LEASE_EPOCH_STALE"].contains(&reason(&stale).as_str()), "{stale:?}");
    let (newer, material) = world.lend("bot").await;
    assert_eq!((newer.epoch, material.material_version), (lease.epoch + 2, 2));
    poll::until("the former authorization is signed out", || async {
        (world.sandbox.authorizations().await.len() == 1).then_some(())
    })
    .await;
    world.stop().await;
}

async fn a_second_login_that_fails_leaves_the_session_as_it_was(shape: Shape) {
    let world = World::start(shape).await;
    let before = world.log_in("bot", ANN).await;
    let login = world.code("bot").await;
    world.cancel(&login.ticket).await.expect("cancelled");
    let after = world.session("bot").await;
    assert_eq!(
        (after.state(), after.state_reason.as_str()),
        (SessionState::Authorized, "authorization_success")
    );
    assert_eq!((after.material_version, &after.fingerprint), (1, &before.fingerprint));
    world.lend("bot").await;
    assert_eq!(world.sandbox.authorizations().await.len(), 1);
    world.stop().await;
}

async fn the_former_authorization_is_ended_though_telegram_did_not_listen_at_first(shape: Shape) {
    let world = World::start(shape).await;
    world.log_in("bot", ANN).await;
    world.sandbox.fault("auth.logOut", 1, Fault::Error("FLOOD_WAIT_20")).await;
    assert_eq!(world.log_in("bot", ANN).await.material_version, 2);
    assert_eq!(world.sandbox.authorizations().await.len(), 2, "it could not be ended yet");
    world.lend("bot").await;
    world.server.app.keep_house();
    poll::until("the former authorization is signed out", || async {
        (world.sandbox.authorizations().await.len() == 1).then_some(())
    })
    .await;
    assert_eq!(world.sandbox.counter("duplicates").await, 0);
    world.stop().await;
}
