//! Two logins of one session.

use usm_client::v1::{self, LoginState, SessionState};

use crate::support::{
    poll,
    server::token_of,
    world::{ANN, Shape, TENANT, World, on_both_shapes, qr, reason, refused},
};

on_both_shapes!(
    a_newer_login_supersedes_the_older_and_its_late_scan_is_signed_out,
    a_repeated_request_gets_the_login_it_had_started,
    a_repeated_request_disturbs_no_newer_login,
    starts_of_one_session_at_once_leave_one_login_that_works,
);

async fn a_newer_login_supersedes_the_older_and_its_late_scan_is_signed_out(shape: Shape) {
    let world = World::start(shape).await;
    let older = world.code("bot").await;
    let newer = world.code("bot").await;
    assert_ne!(older.ticket, newer.ticket);
    assert_eq!(world.login(&older.ticket).await.state(), LoginState::Superseded);
    assert_eq!(world.session("bot").await.state(), SessionState::PendingQr, "the newer one's");
    let refusal = refused(world.password(&older.ticket, "horse").await);
    assert_eq!(reason(&refusal), "TICKET_SUPERSEDED");
    let end = world.cancel(&older.ticket).await.expect("nothing to cancel");
    assert_eq!(end.state(), LoginState::Superseded);

    world.scan(&older, ANN).await;
    poll::until("the late scan is signed out", || async {
        (world.sandbox.calls("auth.logOut").await > 0).then_some(())
    })
    .await;
    world.nobody_is_signed_in().await;
    assert_eq!(world.login(&newer.ticket).await.state(), LoginState::WaitingQrScan, "unharmed");

    let newer = world.login(&newer.ticket).await;
    world.scan(&newer, ANN).await;
    let end = world.finalize(&newer.ticket, "").await.expect("the login ends");
    assert_eq!(end.state(), LoginState::Authorized);
    assert_eq!(world.sandbox.authorizations().await.len(), 1);
    world.stop().await;
}

async fn a_repeated_request_gets_the_login_it_had_started(shape: Shape) {
    let world = World::start(shape).await;
    let id = uuid::Uuid::new_v4().to_string();
    let request = v1::StartQrLoginRequest { request_id: id.clone(), ..qr("bot") };
    let first = world.begin(request.clone()).await.expect("started");
    let again = world.begin(request.clone()).await.expect("found");
    assert_eq!(
        (first.ticket.as_str(), first.qr_url.as_str()),
        (again.ticket.as_str(), again.qr_url.as_str())
    );

    // Somebody else's request of the same id is another one, and supersedes.
    let other = token_of("somebody-else", TENANT);
    let mut logins = world.server.logins(&other).await;
    let theirs = logins.start_qr_login(request.clone()).await.expect("started").into_inner().login;
    assert_ne!(theirs.expect("a login").ticket, first.ticket);
    assert_eq!(world.login(&first.ticket).await.state(), LoginState::Superseded);

    // Not what was asked for by that id.
    for other in [
        v1::StartQrLoginRequest { expected_telegram_user_id: ANN, ..request.clone() },
        v1::StartQrLoginRequest {
            labels: [("purpose".to_owned(), "news".to_owned())].into(),
            ..request.clone()
        },
    ] {
        assert_eq!(reason(&refused(world.begin(other).await)), "REQUEST_ID_REUSED");
    }
    let another = v1::StartQrLoginRequest { request_id: uuid::Uuid::new_v4().to_string(), ..qr("bot") };
    assert_ne!(world.begin(another).await.expect("started").ticket, first.ticket);
    let malformed = v1::StartQrLoginRequest { request_id: "again".to_owned(), ..qr("bot") };
    assert_eq!(reason(&refused(world.begin(malformed).await)), "ARGUMENT_INVALID");
    world.stop().await;
}

async fn a_repeated_request_disturbs_no_newer_login(shape: Shape) {
    let world = World::start(shape).await;
    let named = || v1::StartQrLoginRequest { request_id: uuid::Uuid::new_v4().to_string(), ..qr("bot") };
    let (first, second) = (named(), named());
    let older = world.begin(first.clone()).await.expect("started");
    let newer = world.begin(second).await.expect("started");
    let again = world.begin(first).await.expect("found");
    assert_eq!((&again.ticket, again.state()), (&older.ticket, LoginState::Superseded));
    world.scan(&newer, ANN).await;
    let end = world.finalize(&newer.ticket, "").await.expect("the login ends");
    assert_eq!(end.state(), LoginState::Authorized);

    // Repetitions that come at once start one login.
    let request = named();
    let answers = futures::future::join_all((0..8).map(|_| world.begin(request.clone()))).await;
    let tickets: std::collections::BTreeSet<_> =
        answers.into_iter().map(|answer| answer.expect("the same one").ticket).collect();
    assert_eq!(tickets.len(), 1);
    world.stop().await;
}

async fn starts_of_one_session_at_once_leave_one_login_that_works(shape: Shape) {
    let world = World::start(shape).await;
    for _ in 0..3 {
        let answers = futures::future::join_all((0..8).map(|_| world.begin(qr("bot")))).await;
        let started: Vec<_> = answers.into_iter().filter_map(Result::ok).collect();
        assert!(!started.is_empty());
        let mut waiting = Vec::new();
        for login in &started {
            let now = world.login(&login.ticket).await;
            match now.state() {
                LoginState::WaitingQrScan => waiting.push(now),
                state => assert_eq!(state, LoginState::Superseded),
            }
        }
        let [last] = waiting.as_slice() else { panic!("{} logins wait", waiting.len()) };
        world.scan(last, ANN).await;
        let end = world.finalize(&last.ticket, "").await.expect("the login ends");
        assert_eq!(end.state(), LoginState::Authorized, "{:?}", end.failure);
    }
    world.stop().await;
}
