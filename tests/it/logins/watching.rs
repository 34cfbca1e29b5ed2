//! Following a login live.

use tonic::Streaming;
use usm_client::v1::{self, LoginState, WatchLoginResponse, watch_login_response::Step};

use crate::support::{
    telegram::User,
    world::{ANN, Shape, World, on_both_shapes, refused, within},
};

on_both_shapes!(
    watchers_are_told_every_step_in_order,
    who_watches_after_the_end_is_told_the_end,
    a_watcher_learns_that_the_login_was_cancelled,
);

async fn watch(world: &World, ticket: &str) -> Streaming<WatchLoginResponse> {
    let request = v1::WatchLoginRequest { ticket: ticket.to_owned() };
    world.logins.clone().watch_login(within(30, request)).await.expect("a known ticket").into_inner()
}

/// The names of the steps until the stream ends, each once in a row.
async fn steps(mut stream: Streaming<WatchLoginResponse>) -> Vec<&'static str> {
    let mut told = Vec::new();
    while let Some(answer) = stream.message().await.expect("the stream ends by itself") {
        let login = answer.login.expect("the login is always there");
        let Some(step) = answer.step else { continue };
        let name = match step {
            Step::QrShown(shown) => {
                assert!(shown.qr_url.starts_with("tg://login?token="));
                "qr"
            }
            Step::CodeSent(_) => "code",
            Step::PasswordNeeded(needed) => {
                assert_eq!((login.state(), needed.hint.as_str()), (LoginState::WaitingPassword, "staple"));
                "password"
            }
            Step::Migrated(to) => {
                assert_eq!(to.dc_id, 3);
                "migrated"
            }
            Step::Authorized(by) => {
                assert_eq!(
                    (login.state(), by.telegram_user_id),
                    (LoginState::Authorized, login.telegram_user_id)
                );
                "authorized"
            }
            Step::Expired(_) => "expired",
            Step::Cancelled(_) => "cancelled",
            Step::Superseded(_) => "superseded",
            Step::Failed(_) => "failed",
        };
        told.push(name);
    }
    // A move is told while the code is still shown, so that the code may be named twice.
    let mut first = Vec::new();
    told.into_iter().for_each(|name| {
        if !first.contains(&name) {
            first.push(name);
        }
    });
    first
}

async fn watchers_are_told_every_step_in_order(shape: Shape) {
    let world = World::start(shape).await;
    let cat =
        User { id: 3001, dc: Some(3), password: Some("horse"), hint: Some("staple"), ..User::default() };
    world.sandbox.add(cat).await;
    let login = world.code("bot").await;
    let first = tokio::spawn(steps(watch(&world, &login.ticket).await));
    let second = tokio::spawn(steps(watch(&world, &login.ticket).await));
    world.scan(&login, 3001).await;
    world.login_once(&login.ticket, LoginState::WaitingPassword).await;
    let late = tokio::spawn(steps(watch(&world, &login.ticket).await));
    refused(world.password(&login.ticket, "donkey").await);
    world.password(&login.ticket, "horse").await.expect("the right one");
    let whole = ["qr", "migrated", "password", "authorized"];
    assert_eq!(first.await.expect("no panic"), whole);
    assert_eq!(second.await.expect("no panic"), whole);
    assert_eq!(late.await.expect("no panic"), whole[1..], "from where it stood");
    world.stop().await;
}

async fn who_watches_after_the_end_is_told_the_end(shape: Shape) {
    let world = World::start(shape).await;
    let login = world.code("bot").await;
    world.scan(&login, ANN).await;
    world.login_once(&login.ticket, LoginState::Authorized).await;
    assert_eq!(steps(watch(&world, &login.ticket).await).await, ["authorized"]);
    world.stop().await;
}

async fn a_watcher_learns_that_the_login_was_cancelled(shape: Shape) {
    let world = World::start(shape).await;
    let login = world.code("bot").await;
    let watching = tokio::spawn(steps(watch(&world, &login.ticket).await));
    world.cancel(&login.ticket).await.expect("cancelled");
    let told = watching.await.expect("no panic");
    assert_eq!(told.last(), Some(&"cancelled"), "{told:?}");
    world.stop().await;
}
