//! Accounts with a password.

use std::time::Instant;

use usm_client::v1::{self, LoginState, SessionState};

use crate::support::{
    telegram::User,
    world::{ANN, Shape, World, fact, field, on_both_shapes, reason, refused, within},
};

const CAT: i64 = 3001;
const PASSWORD: &str = "correct horse";

on_both_shapes!(
    a_wrong_password_costs_an_attempt_and_not_the_scan,
    too_many_wrong_passwords_end_the_login,
    finalize_takes_the_password_along_as_often_as_called,
    migration_and_password_come_together,
    a_password_nobody_asked_for_changes_nothing,
);

async fn world_with_cat(shape: Shape, dc: i32) -> World {
    let world = World::start(shape).await;
    let cat =
        User { id: CAT, dc: Some(dc), password: Some(PASSWORD), hint: Some("staple"), ..User::default() };
    world.sandbox.add(cat).await;
    world
}

async fn a_wrong_password_costs_an_attempt_and_not_the_scan(shape: Shape) {
    let world = world_with_cat(shape, 2).await;
    let login = world.code("bot").await;
    world.scan(&login, CAT).await;
    let asked = world.login_once(&login.ticket, LoginState::WaitingPassword).await;
    assert_eq!((asked.password_hint.as_str(), asked.attempts_left), ("staple", 5));
    let pending = world.session("bot").await;
    assert_eq!(pending.state(), SessionState::PendingPassword);
    assert_eq!(pending.state_reason, "password_required");

    let wrong = refused(world.password(&login.ticket, "wrong horse").await);
    assert_eq!(reason(&wrong), "PASSWORD_INVALID");
    assert_eq!(fact(&wrong, "attempts_left").as_deref(), Some("4"));
    assert!(!format!("{wrong:?}").contains("horse"));
    let asked = world.login(&login.ticket).await;
    assert_eq!((asked.state(), asked.attempts_left), (LoginState::WaitingPassword, 4));
    assert_eq!(world.session("bot").await.state(), SessionState::PendingPassword);

    let done = world.password(&login.ticket, PASSWORD).await.expect("the right one");
    assert_eq!((done.state(), done.telegram_user_id), (LoginState::Authorized, CAT));
    assert_eq!(world.session("bot").await.state(), SessionState::Authorized);
    assert_eq!(world.sandbox.authorizations().await.len(), 1);
    world.stop().await;
}

async fn too_many_wrong_passwords_end_the_login(shape: Shape) {
    let world = world_with_cat(shape, 2).await;
    let login = world.code("bot").await;
    world.scan(&login, CAT).await;
    world.login_once(&login.ticket, LoginState::WaitingPassword).await;
    for left in ["4", "3", "2", "1", "0"] {
        let wrong = refused(world.password(&login.ticket, "wrong horse").await);
        assert_eq!(reason(&wrong), "PASSWORD_INVALID");
        assert_eq!(fact(&wrong, "attempts_left").as_deref(), Some(left));
    }
    let end = world.login(&login.ticket).await;
    assert_eq!(end.state(), LoginState::Failed);
    assert_eq!(end.failure.expect("told why").reason, "PASSWORD_INVALID");
    assert_eq!(world.session("bot").await.state(), SessionState::Absent);
    refused(world.password(&login.ticket, PASSWORD).await);
    world.nobody_is_signed_in().await;
    world.stop().await;
}

async fn finalize_takes_the_password_along_as_often_as_called(shape: Shape) {
    let world = world_with_cat(shape, 2).await;
    let login = world.code("bot").await;
    // Called before anybody scanned, it waits.
    let waiting = world.finalize(&login.ticket, PASSWORD);
    let scanned = async {
        world.scan(&login, CAT).await;
    };
    let (end, ()) = tokio::join!(waiting, scanned);
    assert_eq!(end.expect("the login ends").state(), LoginState::Authorized);
    for password in ["", PASSWORD, "wrong horse"] {
        let again = world.finalize(&login.ticket, password).await.expect("the same end");
        assert_eq!((again.state(), again.telegram_user_id), (LoginState::Authorized, CAT));
    }

    let login = world.code("other").await;
    world.scan(&login, CAT).await;
    let request = v1::FinalizeLoginRequest {
        ticket: login.ticket.clone(),
        password: "wrong horse".to_owned(),
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    for _ in 0..3 {
        let wrong = refused(world.logins.clone().finalize_login(within(20, request.clone())).await);
        assert_eq!(reason(&wrong), "PASSWORD_INVALID");
        assert_eq!(fact(&wrong, "attempts_left").as_deref(), Some("4"), "a repetition is judged once");
    }
    let end = world.finalize(&login.ticket, PASSWORD).await.expect("the login goes on");
    assert_eq!(end.state(), LoginState::Authorized);
    world.stop().await;
}

async fn migration_and_password_come_together(shape: Shape) {
    let world = world_with_cat(shape, 3).await;
    let login = world.code("bot").await;
    world.scan(&login, CAT).await;
    let end = world.finalize(&login.ticket, PASSWORD).await.expect("the login ends");
    assert_eq!(end.state(), LoginState::Authorized);
    assert_eq!(world.session("bot").await.dc_id, 3);
    world.stop().await;
}

async fn a_password_nobody_asked_for_changes_nothing(shape: Shape) {
    let world = world_with_cat(shape, 2).await;
    let login = world.code("bot").await;
    let early = refused(world.password(&login.ticket, PASSWORD).await);
    assert_eq!(reason(&early), "LOGIN_WRONG_STATE");
    for bad in [String::new(), "x".repeat(257)] {
        let bad = refused(world.password(&login.ticket, &bad).await);
        assert_eq!((reason(&bad).as_str(), field(&bad).as_deref()), ("ARGUMENT_INVALID", Some("password")));
    }
    let begun = Instant::now();
    world.scan(&login, ANN).await;
    let end = world.finalize(&login.ticket, "").await.expect("the login ends");
    assert_eq!(end.state(), LoginState::Authorized, "after {:?}", begun.elapsed());
    let late = refused(world.password(&login.ticket, PASSWORD).await);
    assert_eq!(reason(&late), "LOGIN_WRONG_STATE");
    world.stop().await;
}
