//! Telegram is away, slow or cross.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tokio::net::TcpListener;
use tonic::Code;
use usm::telegram::endpoint::Endpoint;
use usm_client::v1::{self, LoginState, SessionState};

use crate::support::{
    server::{Server, Setup, service_token},
    telegram::Fault,
    world::{ANN, Plan, Shape, TENANT, World, field, on_both_shapes, pause, qr, reason, refused, within},
};

on_both_shapes!(
    a_flood_wait_is_told_with_its_pause_and_a_short_one_is_waited_out,
    a_telegram_that_goes_away_meanwhile_is_connected_to_again,
    requests_that_make_no_sense_are_refused_by_field,
);

async fn session(server: &Server) -> v1::Session {
    let request = v1::GetSessionRequest { tenant_id: TENANT.to_owned(), app_id: "bot".to_owned() };
    let answer = server.sessions(&service_token()).await.get_session(request).await.expect("a session");
    answer.into_inner().session.expect("a session")
}

#[tokio::test]
async fn an_unreachable_telegram_is_told_at_once_and_leaves_the_row_as_it_was() {
    let server = Server::start(Setup::without_telegram()).await;
    let mut logins = server.logins(&service_token()).await;
    let begun = Instant::now();
    let away = refused(logins.start_qr_login(within(30, qr("bot"))).await);
    assert_eq!((away.code(), reason(&away).as_str()), (Code::Unavailable, "TELEGRAM_UNAVAILABLE"));
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(session(&server).await.state(), SessionState::Absent);
    server.stop().await;
}

#[tokio::test]
async fn a_telegram_that_never_answers_holds_nobody_beyond_the_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = BTreeMap::from([(2, silent.local_addr().expect("bound"))]);
    let sandbox = crate::support::telegram::TelegramSandbox::start().await;
    let endpoint = Endpoint::sandbox(2, address, &[sandbox.public_key_pem()]).expect("a sound endpoint");
    let server = Server::start(Setup::with(endpoint)).await;
    let mut logins = server.logins(&service_token()).await;
    let begun = Instant::now();
    let login = logins.start_qr_login(within(2, qr("bot"))).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    // The login goes on; the caller may follow it, or end it.
    let login = login.expect("as it stands").into_inner().login.expect("a login");
    assert_eq!(login.state(), LoginState::Starting);
    let request = v1::CancelLoginRequest { ticket: login.ticket, ..Default::default() };
    let begun = Instant::now();
    let cancelled = logins.cancel_login(within(30, request)).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let cancelled = cancelled.expect("cancelled").into_inner().login.expect("a login");
    assert_eq!(cancelled.state(), LoginState::Cancelled);
    assert_eq!(session(&server).await.state(), SessionState::Absent);
    server.stop().await;
}

async fn a_flood_wait_is_told_with_its_pause_and_a_short_one_is_waited_out(shape: Shape) {
    let world = World::start(shape).await;
    world.sandbox.fault("auth.exportLoginToken", 1, Fault::Error("FLOOD_WAIT_1")).await;
    let login = world.code("short").await;
    world.scan(&login, ANN).await;
    let end = world.finalize(&login.ticket, "").await.expect("the login ends");
    assert_eq!(end.state(), LoginState::Authorized);

    world.sandbox.fault("auth.exportLoginToken", 1, Fault::Error("FLOOD_WAIT_300")).await;
    let flood = refused(world.begin(qr("bot")).await);
    assert_eq!((flood.code(), reason(&flood).as_str()), (Code::ResourceExhausted, "TELEGRAM_FLOOD_WAIT"));
    let told = pause(&flood).expect("when to try again");
    assert!((Duration::from_secs(290)..=Duration::from_secs(300)).contains(&told), "{told:?}");
    assert_eq!(world.session("bot").await.state(), SessionState::Absent);

    // Telegram is not asked again before that time, whoever asks here.
    let asked = world.sandbox.calls("auth.exportLoginToken").await;
    let again = refused(world.begin(qr("other")).await);
    assert_eq!(reason(&again), "TELEGRAM_FLOOD_WAIT");
    let left = pause(&again).expect("when to try again");
    assert!((Duration::from_secs(280)..=Duration::from_secs(300)).contains(&left), "{left:?}");
    assert_eq!(world.sandbox.calls("auth.exportLoginToken").await, asked);
    refused(world.find("other").await);
    world.stop().await;
}

async fn a_telegram_that_goes_away_meanwhile_is_connected_to_again(shape: Shape) {
    let plan = Plan { telegram: serde_json::json!({"qr_ttl": 3}), ..Plan::default() };
    let world = World::planned(shape, plan).await;
    let login = world.code("bot").await;
    world.sandbox.fault("connect", 1, Fault::Drop).await;
    world.sandbox.kick().await;
    let redrawn = crate::support::poll::until("another code is shown", || async {
        Some(world.login(&login.ticket).await).filter(|now| now.qr_url != login.qr_url)
    })
    .await;
    world.scan(&redrawn, ANN).await;
    let end = world.finalize(&login.ticket, "").await.expect("the login ends");
    assert_eq!(end.state(), LoginState::Authorized);
    world.stop().await;
}

async fn requests_that_make_no_sense_are_refused_by_field(shape: Shape) {
    let world = World::start(shape).await;
    let proxy = |port| v1::Proxy {
        kind: v1::ProxyKind::Socks5.into(),
        host: "127.0.0.1".to_owned(),
        port,
        ..Default::default()
    };
    let cases = [
        ("tenant_id", v1::StartQrLoginRequest { tenant_id: "-acme".to_owned(), ..qr("bot") }),
        ("tenant_id", v1::StartQrLoginRequest { tenant_id: "a".repeat(129), ..qr("bot") }),
        ("app_id", qr("")),
        ("app_id", qr("../bot")),
        ("app_id", qr("b ot")),
        ("request_id", v1::StartQrLoginRequest { request_id: "7".to_owned(), ..qr("bot") }),
        ("proxy.port", v1::StartQrLoginRequest { proxy: Some(proxy(0)), ..qr("bot") }),
        ("expected_telegram_user_id", v1::StartQrLoginRequest { expected_telegram_user_id: -1, ..qr("bot") }),
    ];
    for (name, request) in cases {
        let refusal = refused(world.begin(request).await);
        assert_eq!((reason(&refusal).as_str(), field(&refusal).as_deref()), ("ARGUMENT_INVALID", Some(name)));
    }
    let unknown = v1::StartQrLoginRequest { api_key_alias: "NOBODYS".to_owned(), ..qr("bot") };
    assert_eq!(reason(&refused(world.begin(unknown).await)), "API_KEY_UNKNOWN");
    assert_eq!(reason(&refused(world.find("bot").await)), "SESSION_NOT_FOUND", "nothing was written");
    world.stop().await;
}
