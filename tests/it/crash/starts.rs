//! Starting and stopping the program itself.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use usm_client::v1::SessionState;

use crate::support::{
    process::Installation,
    telegram::TelegramSandbox,
    world::{ANN, Shape, World, on_both_shapes},
};

on_both_shapes!(
    the_program_is_ready_when_it_says_where_it_serves,
    asked_to_stop_it_says_success_and_leaves_no_login_in_between,
);

async fn status_line(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    answer.lines().next().unwrap_or_default().to_owned()
}

async fn the_program_is_ready_when_it_says_where_it_serves(shape: Shape) {
    let world = World::outside(shape, &[]).await;
    for path in ["/readyz", "/healthz"] {
        assert_eq!(status_line(world.server.process.address(), path).await, "HTTP/1.1 200 OK");
    }
}

async fn asked_to_stop_it_says_success_and_leaves_no_login_in_between(shape: Shape) {
    let mut world = World::outside(shape, &[]).await;
    let login = world.code("bot").await;
    assert_eq!(world.session("bot").await.state(), SessionState::PendingQr);
    let status = world.server.process.stop().await;
    assert!(status.success(), "{status}");
    let world = world.restart().await;
    match shape {
        Shape::Embedded => assert_eq!(world.session("bot").await.state(), SessionState::Absent),
        // Its ticket outlives it, and with it all that the next process needs.
        Shape::OnServers => {
            assert_eq!(world.session("bot").await.state(), SessionState::PendingQr);
            world.scan(&login, ANN).await;
            world.session_once("bot", SessionState::Authorized).await;
        }
    }
}

#[tokio::test]
async fn a_second_server_on_the_same_data_is_refused_and_the_first_goes_on() {
    let world = World::outside(Shape::Embedded, &[]).await;
    let (status, printed) = world.server.installation.start_in_vain().await;
    assert_eq!(status.code(), Some(1));
    assert!(printed.contains("another process has") && printed.contains("usm.sqlite3"), "{printed}");
    world.code("bot").await;
    assert_eq!(world.session("bot").await.state(), SessionState::PendingQr, "its login was left alone");
}

#[tokio::test]
async fn every_mistake_in_the_settings_is_told_at_once() {
    let sandbox = TelegramSandbox::start().await;
    let mut installation = Installation::embedded(&sandbox);
    installation.set("SESSION_LOCK_TTL", "soon");
    installation.set("USM_UNHEARD_OF", "1");
    installation.set("DATABASE_URL", "postgres://usm:hunter2@127.0.0.1:1/usm");
    let (status, printed) = installation.start_in_vain().await;
    assert_eq!(status.code(), Some(2), "{printed}");
    for name in ["SESSION_LOCK_TTL", "USM_UNHEARD_OF", "USM_ENCRYPTION_KEYS"] {
        assert!(printed.contains(name), "{name}: {printed}");
    }
    assert!(!printed.contains("hunter2"));
    assert!(!installation.data().exists(), "nothing was made");
}

#[tokio::test]
async fn a_database_of_another_telegram_is_refused() {
    let world = World::outside(Shape::Embedded, &[]).await;
    let mut world = world;
    assert!(world.server.process.stop().await.success());
    world.server.installation.set("USM_TELEGRAM", "test");
    let (status, printed) = world.server.installation.start_in_vain().await;
    assert_eq!(status.code(), Some(1), "{printed}");
    assert!(printed.contains("environment"), "{printed}");
}
