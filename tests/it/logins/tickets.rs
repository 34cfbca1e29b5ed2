//! A ticket is worth nothing to another tenant.

use std::collections::BTreeSet;

use tonic::Status;
use usm_client::v1::{self, LoginState, SessionState, login_service_client::LoginServiceClient};

use crate::support::{
    server::{Client, token_of},
    world::{Shape, World, on_both_shapes, qr, reason, refused},
};

on_both_shapes!(another_tenants_ticket_answers_like_one_that_never_was);

/// What each method says to the ticket.
async fn ask(logins: &LoginServiceClient<Client>, ticket: &str) -> Vec<Status> {
    let ticket = || ticket.to_owned();
    let get = logins.clone().get_login(v1::GetLoginRequest { ticket: ticket() }).await;
    let watch = logins.clone().watch_login(v1::WatchLoginRequest { ticket: ticket() }).await;
    let request =
        v1::SubmitPasswordRequest { ticket: ticket(), password: "horse".to_owned(), ..Default::default() };
    let password = logins.clone().submit_password(request).await;
    let request = v1::FinalizeLoginRequest { ticket: ticket(), ..Default::default() };
    let finalize = logins.clone().finalize_login(request).await;
    let request = v1::CancelLoginRequest { ticket: ticket(), ..Default::default() };
    let cancel = logins.clone().cancel_login(request).await;
    vec![
        refused(get),
        watch.map(|_| ()).expect_err("refused"),
        refused(password),
        refused(finalize),
        refused(cancel),
    ]
}

async fn another_tenants_ticket_answers_like_one_that_never_was(shape: Shape) {
    let world = World::start(shape).await;
    let login = world.code("bot").await;
    let stranger = world.server.logins(&token_of("stranger", "globex")).await;
    let foreign = ask(&stranger, &login.ticket).await;
    let never: String = login.ticket.chars().rev().collect();
    let unknown = ask(&stranger, &never).await;
    for (foreign, unknown) in foreign.iter().zip(&unknown) {
        assert_eq!((foreign.code(), foreign.message()), (unknown.code(), unknown.message()));
        assert_eq!(foreign.details(), unknown.details());
    }
    let reasons: BTreeSet<_> = foreign.iter().map(reason).collect();
    assert_eq!(reasons, BTreeSet::from(["TICKET_NOT_FOUND".to_owned()]));
    for malformed in ["", "x", "../../etc/passwd", &"A".repeat(4096)] {
        for refusal in ask(&stranger, malformed).await {
            assert_eq!(reason(&refusal), "TICKET_NOT_FOUND");
        }
    }

    let elsewhere = stranger.clone().start_qr_login(qr("bot")).await;
    assert_eq!(reason(&refused(elsewhere)), "SESSION_NOT_FOUND", "nor can it start one there");
    assert_eq!(world.login(&login.ticket).await.state(), LoginState::WaitingQrScan, "unharmed");
    assert_eq!(world.session("bot").await.state(), SessionState::PendingQr);
    world.stop().await;
}
