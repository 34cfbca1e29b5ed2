//! Replicas that all live: a login is started here, watched there and answered anywhere.

use usm_client::v1::{self, LoginState, SessionState};

use super::Replicas;
use crate::support::world::{ANN, BOB, TENANT, fact, phone, reason, refused};

const CAT: i64 = 3001;
const PASSWORD: &str = "correct horse";

#[tokio::test]
async fn a_login_is_followed_and_answered_on_any_replica() {
    let replicas = Replicas::start(&[]).await;
    let (first, second) = (&replicas.first, &replicas.second);
    let cat = crate::support::telegram::User { id: CAT, password: Some(PASSWORD), ..Default::default() };
    replicas.sandbox.add(cat).await;
    let login = first.code("bot").await;
    let request = v1::WatchLoginRequest { ticket: login.ticket.clone() };
    let mut watched = second.logins.clone().watch_login(request).await.expect("known here too").into_inner();
    let mut next = async || {
        let answer = watched.message().await.expect("no error").expect("not over");
        answer.login.expect("a login").state()
    };
    assert_eq!(next().await, LoginState::WaitingQrScan);
    second.scan(&login, CAT).await;
    assert_eq!(next().await, LoginState::WaitingPassword);
    let wrong = refused(second.password(&login.ticket, "wrong").await);
    assert_eq!(reason(&wrong), "PASSWORD_INVALID");
    assert_eq!(fact(&wrong, "attempts_left").as_deref(), Some("4"));
    assert_eq!(next().await, LoginState::WaitingPassword);
    let done = second.finalize(&login.ticket, PASSWORD).await.expect("signed in");
    assert_eq!((done.state(), done.telegram_user_id), (LoginState::Authorized, CAT));
    assert_eq!(next().await, LoginState::Authorized);
    assert_eq!(first.session("bot").await.state(), SessionState::Authorized);
    assert_eq!(replicas.sandbox.calls("auth.checkPassword").await, 2, "nothing was asked twice");
    replicas.authorizations_are(1).await;
}

#[tokio::test]
async fn codes_resends_and_cancels_reach_the_replica_that_runs_the_login() {
    let replicas = Replicas::start(&[]).await;
    let (first, second) = (&replicas.first, &replicas.second);
    let login = first.phoned("bot", ANN).await;
    let early = refused(second.resend(&login.ticket).await);
    assert_eq!(reason(&early), "RESEND_UNAVAILABLE");
    let done = second.submit_code(&login.ticket, &second.sent_code(ANN).await).await.expect("signed in");
    assert_eq!(done.state(), LoginState::Authorized);

    let shown = first.code("cancelled").await;
    let cancelled = second.cancel(&shown.ticket).await.expect("cancelled");
    assert_eq!(cancelled.state(), LoginState::Cancelled);
    second.scan(&shown, BOB).await;
    replicas.authorizations_are(1).await;

    // A session that is revoked ends its login, wherever it runs.
    let revoked = first.code("revoked").await;
    let request = v1::RevokeSessionRequest {
        tenant_id: TENANT.to_owned(),
        app_id: "revoked".to_owned(),
        ..Default::default()
    };
    second.sessions.clone().revoke_session(request).await.expect("revoked");
    second.login_once(&revoked.ticket, LoginState::Cancelled).await;
    let budget = first.phoned("again", ANN).await;
    assert_eq!(budget.state(), LoginState::WaitingCode);
    let other = v1::StartPhoneLoginRequest { tenant_id: "other".to_owned(), ..phone("bot", ANN) };
    second.begin_phone(other).await.expect("another tenant's session of the same name");
}
