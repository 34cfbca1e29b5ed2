//! The replica that runs a login dies, is asked to stop, or stands still, at each step of each kind of login.

use std::time::{Duration, Instant};

use usm_client::v1::{self, LoginState, SessionState};

use super::{Replicas, WITHIN};
use crate::support::{
    poll,
    telegram::{Fault, User},
    world::{ANN, BOB, TENANT, World, bot, fact, phone, qr, reason, refused},
};

const CAT: i64 = 3001;
const DORA: i64 = 4001;
const ROBOT: i64 = 424_242;
const ROBOT_TOKEN: &str = "424242:AAbot-token_of-the-tests";
const PASSWORD: &str = "correct horse";

async fn with_people() -> Replicas {
    let replicas = Replicas::start(&[("USM_LOGINS_PER_PHONE", "100")]).await;
    let cat = User { id: CAT, password: Some(PASSWORD), hint: Some("staple"), ..User::default() };
    replicas.sandbox.add(cat).await;
    replicas.sandbox.add(User { id: DORA, dc: Some(3), ..User::default() }).await;
    let robot = serde_json::json!({
        "id": ROBOT, "first_name": "Robot", "dc": 2, "is_bot": true, "bot_token": ROBOT_TOKEN,
    });
    replicas.sandbox.post("/users", robot).await.expect("a bot");
    replicas
}

async fn authorized(world: &World<super::Outside>, app: &str, user: i64) {
    let session = world.session_once(app, SessionState::Authorized).await;
    assert_eq!(session.telegram_user_id, user, "{app}");
}

#[tokio::test]
async fn logins_that_wait_for_their_owner_go_on_when_their_replica_is_killed() {
    let mut replicas = with_people().await;
    let first = &replicas.first;
    // By QR: a code is shown, or was scanned by somebody with a password who got it wrong once.
    let shown = first.code("shown").await;
    let asked = first.code("asked").await;
    first.scan(&asked, CAT).await;
    first.login_once(&asked.ticket, LoginState::WaitingPassword).await;
    refused(first.password(&asked.ticket, "wrong").await);
    // By phone: the code is on its way, here and at another data centre; or the password is awaited.
    let phoned = first.phoned("phoned", ANN).await;
    let moved = first.phoned("moved", DORA).await;
    let second_factor = first.phoned("second-factor", CAT).await;
    let code = first.sent_code(CAT).await;
    first.submit_code(&second_factor.ticket, &code).await.expect("the right code");
    let codes_sent = replicas.sandbox.calls("auth.sendCode").await;
    let (ann, dora) = (first.sent_code(ANN).await, first.sent_code(DORA).await);

    let killed = replicas.kill_first();
    let second = &replicas.second;
    // The very code that the dead replica showed is scanned.
    second.scan(&shown, BOB).await;
    let (scanned, by_phone, by_phone_elsewhere, password, after_code) = tokio::join!(
        replicas.becomes(&shown.ticket, LoginState::Authorized),
        second.submit_code(&phoned.ticket, &ann),
        second.submit_code(&moved.ticket, &dora),
        second.password(&asked.ticket, "wrong"),
        second.password(&second_factor.ticket, PASSWORD),
    );
    assert!(killed.elapsed() < WITHIN, "{:?}", killed.elapsed());
    assert_eq!(scanned.telegram_user_id, BOB);
    assert_eq!(by_phone.expect("the code it sent").state(), LoginState::Authorized);
    assert_eq!(by_phone_elsewhere.expect("the code it sent").state(), LoginState::Authorized);
    assert_eq!(
        fact(&refused(password), "attempts_left").as_deref(),
        Some("3"),
        "attempts are not given anew"
    );
    assert_eq!(after_code.expect("the password").state(), LoginState::Authorized);
    second.password(&asked.ticket, PASSWORD).await.expect("the password");
    for (app, user) in
        [("shown", BOB), ("asked", CAT), ("phoned", ANN), ("moved", DORA), ("second-factor", CAT)]
    {
        authorized(second, app, user).await;
    }
    assert_eq!(replicas.sandbox.calls("auth.sendCode").await, codes_sent, "nobody was sent a second code");
    replicas.authorizations_are(5).await;
}

#[tokio::test]
async fn logins_in_the_middle_of_a_step_go_on_when_their_replica_is_killed() {
    let mut replicas = with_people().await;
    let sandbox = &replicas.sandbox;
    let ages = Fault::Delay(Duration::from_secs(600));
    let spawned = |request: v1::StartQrLoginRequest| {
        let logins = replicas.first.logins.clone();
        tokio::spawn(async move { logins.clone().start_qr_login(request).await })
    };
    // Scanned, and on its way to another data centre.
    let moving = replicas.first.code("moving").await;
    sandbox.fault("auth.importLoginToken", 1, ages).await;
    replicas.first.scan(&moving, DORA).await;
    poll::until("the login moves", || async {
        (sandbox.calls("auth.importLoginToken").await > 0 || sandbox.counter("faults").await > 0)
            .then_some(())
    })
    .await;
    // Accepted by Telegram, while the answer is on its way: a late answer finds nobody any more.
    let accepted = replicas.first.code("accepted").await;
    let exported = sandbox.calls("auth.exportLoginToken").await;
    sandbox.fault("auth.exportLoginToken", 1, ages).await;
    replicas.first.scan(&accepted, ANN).await;
    poll::until("the scan is noticed", || async { (sandbox.counter("faults").await > 1).then_some(()) })
        .await;
    // Nothing is shown yet.
    sandbox.fault("auth.exportLoginToken", 1, ages).await;
    let started = spawned(qr("started"));
    poll::until("the login starts", || async { (sandbox.counter("faults").await > 2).then_some(()) }).await;
    // A code is asked for.
    sandbox.fault("auth.sendCode", 1, ages).await;
    let phones = replicas.first.logins.clone();
    let calling = tokio::spawn(async move { phones.clone().start_phone_login(phone("calling", BOB)).await });
    poll::until("a code is asked for", || async { (sandbox.counter("faults").await > 3).then_some(()) })
        .await;
    // A bot signs in.
    sandbox.fault("auth.importBotAuthorization", 1, ages).await;
    let bots = replicas.first.logins.clone();
    let robot = tokio::spawn(async move { bots.clone().start_bot_login(bot("robot", ROBOT_TOKEN)).await });
    poll::until("a bot signs in", || async { (sandbox.counter("faults").await > 4).then_some(()) }).await;
    assert!(exported > 0);

    let killed = replicas.kill_first();
    replicas.sandbox.clear_faults().await;
    for call in [started] {
        assert!(call.await.expect("no panic").is_err(), "its replica is gone");
    }
    assert!(calling.await.expect("no panic").is_err() && robot.await.expect("no panic").is_err());
    let second = &replicas.second;
    tokio::join!(authorized(second, "moving", DORA), authorized(second, "accepted", ANN));
    assert!(killed.elapsed() < WITHIN, "{:?}", killed.elapsed());
    // What had not begun begins anew, for whoever watches the session; a bot's token nobody kept.
    poll::until("another code is sent", || async {
        let codes = replicas.sandbox.get("/codes").await.expect("always there").to_string();
        codes.contains(&crate::support::world::number(BOB)).then_some(())
    })
    .await;
    let pending = second.session("calling").await;
    assert_eq!(pending.state(), SessionState::PendingCode);
    let back = second.session_once("robot", SessionState::Absent).await;
    assert_eq!(back.state(), SessionState::Absent);
    assert_eq!(second.session("started").await.state(), SessionState::PendingQr);
    replicas.authorizations_are(2).await;
}

#[tokio::test]
async fn an_authorization_that_waits_for_a_lease_survives_its_replica() {
    let mut replicas = with_people().await;
    replicas.first.log_in("bot", ANN).await;
    let (lease, _) = replicas.second.lend("bot").await;
    let login = replicas.first.code("bot").await;
    replicas.first.scan(&login, ANN).await;
    replicas.authorizations_are(2).await;
    replicas.kill_first();
    let renewed = replicas.second.renew(&lease).await.expect("the holder is not disturbed");
    replicas.second.release(&renewed, true).await.expect("released");
    replicas.becomes(&login.ticket, LoginState::Authorized).await;
    assert_eq!(replicas.second.session("bot").await.material_version, 2);
    replicas.authorizations_are(1).await;
}

#[tokio::test]
async fn an_authorization_that_waits_for_a_lease_survives_a_graceful_stop() {
    let mut replicas = with_people().await;
    replicas.first.log_in("bot", ANN).await;
    let (lease, _) = replicas.second.lend("bot").await;
    let login = replicas.first.code("bot").await;
    replicas.first.scan(&login, ANN).await;
    replicas.authorizations_are(2).await;
    assert!(replicas.first.server.process.stop().await.success());
    replicas.authorizations_are(2).await;
    replicas.second.release(&lease, true).await.expect("released");
    replicas.becomes(&login.ticket, LoginState::Authorized).await;
    assert_eq!(replicas.second.session("bot").await.material_version, 2);
    replicas.authorizations_are(1).await;
}

#[tokio::test]
async fn many_logins_of_a_killed_replica_all_go_on_in_time() {
    const LOGINS: usize = 150;
    let mut replicas = with_people().await;
    let first = &replicas.first;
    use futures::StreamExt as _;
    let tickets: Vec<_> = futures::stream::iter(0..LOGINS)
        .map(|number| async move { first.code(&format!("bot-{number}")).await })
        .buffer_unordered(16)
        .map(|login| (login.ticket, login.qr_url))
        .collect()
        .await;
    let killed = replicas.kill_first();
    // A code of the dead replica's is replaced once another one has connected.
    for (ticket, shown) in &tickets {
        poll::until("another replica shows a code", || async {
            (replicas.second.login(ticket).await.qr_url != *shown).then_some(())
        })
        .await;
    }
    assert!(killed.elapsed() < WITHIN * 2, "{LOGINS} logins: {:?}", killed.elapsed());
    assert_eq!(replicas.sandbox.counter("duplicates").await, 0);
}

#[tokio::test]
async fn a_late_scan_is_signed_out_though_the_replica_that_watched_for_it_is_gone() {
    let mut replicas = with_people().await;
    let cancelled = replicas.first.code("cancelled").await;
    replicas.first.cancel(&cancelled.ticket).await.expect("cancelled");
    let superseded = replicas.first.code("superseded").await;
    let newer = replicas.second.code("superseded").await;
    replicas.becomes(&superseded.ticket, LoginState::Superseded).await;
    replicas.kill_first();
    for login in [&cancelled, &superseded] {
        replicas.second.scan(login, ANN).await;
    }
    poll::until("both are signed out", || async {
        (replicas.sandbox.calls("auth.logOut").await >= 2).then_some(())
    })
    .await;
    replicas.authorizations_are(0).await;
    replicas.second.scan(&newer, BOB).await;
    authorized(&replicas.second, "superseded", BOB).await;
    replicas.authorizations_are(1).await;
}

#[tokio::test]
async fn a_replica_that_is_asked_to_stop_hands_its_logins_over_at_once() {
    let mut replicas = with_people().await;
    let shown = replicas.first.code("shown").await;
    let phoned = replicas.first.phoned("phoned", BOB).await;
    let code = replicas.first.sent_code(BOB).await;
    let asked = Instant::now();
    assert!(replicas.first.server.process.stop().await.success());
    let stopped = asked.elapsed();
    replicas.second.scan(&shown, ANN).await;
    let done = replicas.second.submit_code(&phoned.ticket, &code).await.expect("the code it sent");
    assert_eq!(done.state(), LoginState::Authorized);
    authorized(&replicas.second, "shown", ANN).await;
    assert!(asked.elapsed() < WITHIN, "stopped after {stopped:?}, done after {:?}", asked.elapsed());
    replicas.authorizations_are(2).await;
}

#[tokio::test]
async fn a_replica_that_stood_still_finds_its_login_in_other_hands() {
    let replicas = with_people().await;
    let login = replicas.first.code("bot").await;
    replicas.first.server.process.signal("STOP");
    let redrawn = poll::until("another replica shows a code", || async {
        Some(replicas.second.login(&login.ticket).await).filter(|now| now.qr_url != login.qr_url)
    })
    .await;
    replicas.first.server.process.signal("CONT");
    // It must not go on: what it does is the other's business now.
    let answered = poll::until("it answers again", || async { replicas.first.find("bot").await.ok() }).await;
    assert_eq!(answered.state(), SessionState::PendingQr);
    replicas.second.scan(&redrawn, ANN).await;
    replicas.becomes(&login.ticket, LoginState::Authorized).await;
    authorized(&replicas.first, "bot", ANN).await;
    replicas.authorizations_are(1).await;
    let mut sessions = replicas.second.sessions.clone();
    let proof = sessions.validate_session(v1::ValidateSessionRequest {
        tenant_id: TENANT.to_owned(),
        app_id: "bot".to_owned(),
        ..Default::default()
    });
    let proven = proof.await.expect("it works").into_inner().session.expect("a session");
    assert_eq!(proven.state(), SessionState::Authorized);
    let again = refused(replicas.first.submit_code(&login.ticket, "12345").await);
    assert_eq!(reason(&again), "LOGIN_WRONG_STATE");
}
