//! A login for a session that works: it goes on working until the new authorization takes over.

use usm::{domain::material::Format, telegram::error::Error};
use usm_client::v1::{self, LoginState, SessionEventKind, SessionState};

use crate::support::{
    poll,
    telegram::{Fault, User, soon},
    world::{ANN, Shape, World, on_both_shapes, reason, refused},
};

const CAT: i64 = 3001;

on_both_shapes!(
    a_second_login_takes_the_place_of_the_first,
    the_new_material_waits_for_the_lease_of_the_old,
    what_waits_for_a_lease_says_so_and_can_be_cancelled,
    what_waits_for_a_lease_can_be_superseded,
    what_waits_for_a_lease_is_signed_out_when_nothing_else_can_have_it,
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

async fn authorizations_are(world: &World, count: usize) {
    poll::until("as many authorizations as there should be", || async {
        (world.sandbox.authorizations().await.len() == count).then_some(())
    })
    .await;
}

/// A session that is lent, and a login of it that the account's owner has accepted.
async fn accepted_beside_a_lease(world: &World) -> (v1::Lease, v1::Login) {
    world.lendable("bot", ANN).await;
    let (lease, _) = world.lend("bot").await;
    let login = world.code("bot").await;
    world.scan(&login, ANN).await;
    let waiting = world.login_once(&login.ticket, LoginState::Starting).await;
    assert_eq!(waiting.qr_url, "", "a used code is nothing to show");
    assert_eq!(world.sandbox.authorizations().await.len(), 2);
    (lease, login)
}

async fn what_waits_for_a_lease_says_so_and_can_be_cancelled(shape: Shape) {
    let world = World::start(shape).await;
    let cat = User { id: CAT, password: Some("correct horse"), hint: Some("staple"), ..User::default() };
    world.sandbox.add(cat).await;
    world.lendable("bot", CAT).await;
    let (lease, _) = world.lend("bot").await;
    let login = world.code("bot").await;
    world.scan(&login, CAT).await;
    world.login_once(&login.ticket, LoginState::WaitingPassword).await;
    // Answered once Telegram has, though the session is not the login's yet.
    let taken = world.password(&login.ticket, "correct horse").await.expect("the right one");
    assert_eq!((taken.state(), taken.attempts_left), (LoginState::Starting, 0));
    let again = refused(world.password(&login.ticket, "correct horse").await);
    assert_eq!(reason(&again), "LOGIN_WRONG_STATE");
    let cancelled = world.cancel(&login.ticket).await.expect("cancelled");
    assert_eq!(cancelled.state(), LoginState::Cancelled);
    authorizations_are(&world, 1).await;
    world.renew(&lease).await.expect("the holder is not disturbed");
    let session = world.session("bot").await;
    assert_eq!((session.state(), session.material_version), (SessionState::Authorized, 1));
    world.stop().await;
}

async fn what_waits_for_a_lease_can_be_superseded(shape: Shape) {
    let world = World::start(shape).await;
    let (lease, login) = accepted_beside_a_lease(&world).await;
    let newer = world.code("bot").await;
    world.login_once(&login.ticket, LoginState::Superseded).await;
    authorizations_are(&world, 1).await;
    world.renew(&lease).await.expect("the holder is not disturbed");
    assert_eq!(world.login(&newer.ticket).await.state(), LoginState::WaitingQrScan);
    world.stop().await;
}

async fn what_waits_for_a_lease_is_signed_out_when_nothing_else_can_have_it(shape: Shape) {
    let world = World::start(shape).await;
    accepted_beside_a_lease(&world).await;
    let World { sandbox, server, redis, .. } = world;
    server.stop().await;
    // A login in this process ends with it; one in Redis waits for another replica.
    let left = if redis.is_none() { 1 } else { 2 };
    assert_eq!(sandbox.authorizations().await.len(), left);
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
