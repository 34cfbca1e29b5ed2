//! Redis goes away in the middle of logins, and comes back with nothing.

use tonic::Code;
use usm_client::v1::{LoginState, SessionState};

use super::Replicas;
use crate::support::{
    poll,
    world::{ANN, BOB, pause, phone, qr, reason, refused},
};

#[tokio::test]
async fn logins_go_on_without_redis_and_are_there_again_when_it_is() {
    let mut replicas = Replicas::start(&[]).await;
    replicas.first.log_in("old", ANN).await;
    let scanned = replicas.first.code("scanned").await;
    let phoned = replicas.first.phoned("phoned", BOB).await;
    let code = replicas.first.sent_code(BOB).await;

    replicas.redis.kill();
    let away = refused(replicas.second.begin(qr("new")).await);
    assert_eq!((away.code(), reason(&away).as_str()), (Code::Unavailable, "TICKETS_UNAVAILABLE"));
    assert!(pause(&away).is_some(), "told when to try again");
    assert_eq!(reason(&refused(replicas.second.find("new").await)), "SESSION_NOT_FOUND");
    // Sessions and leases are not affected, and a login that runs comes to its end.
    replicas.first.lend("old").await;
    replicas.first.scan(&scanned, ANN).await;
    let session = replicas.second.session_once("scanned", SessionState::Authorized).await;
    assert_eq!(session.telegram_user_id, ANN);

    replicas.redis.restart();
    let known = poll::until("the login is known again", || async {
        let request = usm_client::v1::GetLoginRequest { ticket: phoned.ticket.clone() };
        replicas.second.logins.clone().get_login(request).await.ok()
    })
    .await;
    assert_eq!(known.into_inner().login.expect("a login").state(), LoginState::WaitingCode);
    let done = replicas.second.submit_code(&phoned.ticket, &code).await.expect("the code still counts");
    assert_eq!(done.state(), LoginState::Authorized);
    assert_eq!(replicas.second.log_in("new", BOB).await.state(), SessionState::Authorized);
    replicas.second.begin_phone(phone("newer", ANN)).await.expect("everything works again");
    replicas.authorizations_are(4).await;
}

#[tokio::test]
async fn a_login_that_redis_forgot_is_taken_over_once_it_was_put_back() {
    let mut replicas = Replicas::start(&[]).await;
    let login = replicas.first.code("bot").await;
    replicas.redis.restart();
    poll::until("the login is put back", || async {
        let request = usm_client::v1::GetLoginRequest { ticket: login.ticket.clone() };
        replicas.second.logins.clone().get_login(request).await.ok()
    })
    .await;
    replicas.kill_first();
    replicas.second.scan(&login, ANN).await;
    replicas.becomes(&login.ticket, LoginState::Authorized).await;
    replicas.authorizations_are(1).await;
}

#[tokio::test]
async fn a_replica_starts_without_redis_while_logins_are_pending() {
    let mut replicas = Replicas::start(&[]).await;
    replicas.first.log_in("old", ANN).await;
    let login = replicas.first.code("bot").await;
    replicas.redis.kill();
    replicas.kill_first();
    let third = super::view(&replicas.sandbox, replicas.second.server.installation.twin()).await;
    third.lend("old").await;
    assert_eq!(third.session("bot").await.state(), SessionState::PendingQr, "nobody can tell yet");
    replicas.redis.restart();
    // Its ticket is lost with both who knew it: the row goes back where it was.
    third.session_once("bot", SessionState::Absent).await;
    let gone = refused(third.cancel(&login.ticket).await);
    assert_eq!(reason(&gone), "TICKET_NOT_FOUND");
    assert_eq!(third.log_in("bot", BOB).await.state(), SessionState::Authorized);
}
