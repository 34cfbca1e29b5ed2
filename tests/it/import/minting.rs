//! New authorizations by legacy sessions, and that nothing is left of those that fail.

use std::time::Duration;

use serde_json::json;
use usm::domain::material::{Format, Material};
use usm_client::v1::{self, ImportOutcome, SessionCustody, SessionState};

use crate::support::{
    poll,
    process::Outside,
    telegram::{Fault, User, soon},
    world::{ANN, BOB, Plan, Shape, World, import, on_both_shapes, pause, reason, refused, within},
};

on_both_shapes!(
    an_account_is_logged_in_anew_and_its_legacy_session_lives_on,
    an_account_with_a_password_needs_it,
    a_login_that_telegram_refuses_leaves_nothing_behind,
    the_wrong_account_is_logged_out_also_when_telegram_is_away_at_first,
);

/// Who has a password, and who lives elsewhere.
const CAT: i64 = 1003;
const DAN: i64 = 1004;

async fn start(shape: Shape) -> World {
    // Two connections of one authorization end it, as at Telegram.
    let plan = Plan { telegram: json!({"dup_sessions": true}), ..Plan::default() };
    let world = World::planned(shape, plan).await;
    world.sandbox.add(User { id: CAT, password: Some("correct horse"), ..User::default() }).await;
    world.sandbox.add(User { id: DAN, dc: Some(3), ..User::default() }).await;
    world
}

fn minting(app: &str, data: Vec<u8>) -> v1::ImportSessionRequest {
    v1::ImportSessionRequest { mint: true, legacy_stopped: true, ..import(app, data) }
}

/// Whose authorizations Telegram has, by account.
async fn signed_in<S>(world: &World<S>, user: i64) -> usize {
    world.sandbox.authorizations().await.iter().filter(|key| key.user == Some(user)).count()
}

async fn string(world: &World, material: &Material) -> Vec<u8> {
    world.written(material, Format::TelethonString).await
}

async fn an_account_is_logged_in_anew_and_its_legacy_session_lives_on(shape: Shape) {
    let world = start(shape).await;
    for (app, user, dc) in [("ann", ANN, 2), ("dan", DAN, 3)] {
        let legacy = world.sandbox.mint(dc, user).await;
        let data = string(&world, &legacy).await;
        let dry = v1::ImportSessionRequest { dry_run: true, ..minting(app, data.clone()) };
        assert_eq!(world.import(dry).await.expect("nothing against it").outcome(), ImportOutcome::Minted);
        assert_eq!(signed_in(&world, user).await, 1, "a dry run logs nobody in");

        let answer = world.import(minting(app, data.clone())).await.expect("minted");
        assert_eq!(answer.outcome(), ImportOutcome::Minted);
        let session = answer.session.expect("a session");
        assert_eq!((session.state(), session.state_reason.as_str()), (SessionState::Authorized, "minted"));
        assert_eq!((session.custody(), session.telegram_user_id), (SessionCustody::Service, user));
        assert_eq!(signed_in(&world, user).await, 2);
        let (_, material) = world.lend(app).await;
        let new = world.parsed(&material.data, Format::Raw).await;
        assert_ne!(new.home().expect("a key").auth_key, legacy.home().expect("a key").auth_key);
        // Both work.
        for material in [&new, &legacy] {
            let material = Material { api_id: 1, ..material.clone() };
            let proof = world.sandbox.telegram().probe(&material, soon()).await.expect("it lives");
            assert_eq!(proof.account.telegram_user_id, user);
        }
        // Whatever form the legacy session has by now.
        for data in [data, world.written(&legacy, Format::TelethonSqlite).await] {
            for dry_run in [true, false] {
                let request = v1::ImportSessionRequest { dry_run, ..minting(app, data.clone()) };
                let again = world.import(request).await.expect("there");
                assert_eq!(again.outcome(), ImportOutcome::AlreadyThere);
            }
        }
        assert_eq!(signed_in(&world, user).await, 2, "and nobody was logged in again");
        let events = world.events(app).await;
        assert_eq!(events.iter().filter(|(_, reason)| reason == "minted").count(), 1, "{events:?}");
    }
    assert_eq!(world.sandbox.counter("duplicates").await, 0);
    world.stop().await;
}

async fn an_account_with_a_password_needs_it(shape: Shape) {
    let world = start(shape).await;
    let legacy = world.sandbox.mint(2, CAT).await;
    let data = string(&world, &legacy).await;
    for (password, name) in [("", "PASSWORD_REQUIRED"), ("battery staple", "PASSWORD_INVALID")] {
        let request =
            v1::ImportSessionRequest { password: password.to_owned(), ..minting("cat", data.clone()) };
        let refusal = poll_past_the_last_visit(&world, request).await.expect_err("no login");
        assert_eq!(reason(&refusal), name);
        assert!(!format!("{refusal:?}").contains("staple"));
        assert_eq!(signed_in(&world, CAT).await, 1);
        assert_eq!(reason(&refused(world.find("cat").await)), "SESSION_NOT_FOUND");
    }
    let request =
        v1::ImportSessionRequest { password: "correct horse".to_owned(), ..minting("cat", data.clone()) };
    let answer = poll_past_the_last_visit(&world, request).await.expect("minted");
    assert_eq!(answer.outcome(), ImportOutcome::Minted);
    assert_eq!(signed_in(&world, CAT).await, 2);
    assert_eq!(world.sandbox.counter("duplicates").await, 0);
    world.stop().await;
}

/// The answer once an earlier visit with the same legacy authorization is surely over.
async fn poll_past_the_last_visit<S>(
    world: &World<S>,
    request: v1::ImportSessionRequest,
) -> Result<v1::ImportSessionResponse, tonic::Status> {
    poll::until("the turn of this import", || async {
        let answer = world.sessions.clone().import_session(within(40, request.clone())).await;
        match answer {
            Err(status) if reason(&status) == "RATE_LIMITED" => {
                assert!(pause(&status).is_some_and(|pause| pause <= Duration::from_secs(25)));
                None
            }
            answer => Some(answer.map(tonic::Response::into_inner)),
        }
    })
    .await
}

async fn a_login_that_telegram_refuses_leaves_nothing_behind(shape: Shape) {
    let world = start(shape).await;
    let faults = [
        ("auth.exportLoginToken", Fault::Error("FLOOD_WAIT_40"), "TELEGRAM_FLOOD_WAIT"),
        ("auth.acceptLoginToken", Fault::Error("SESSION_REVOKED"), "SESSION_UNAUTHORIZED_BY_TELEGRAM"),
        ("auth.acceptLoginToken", Fault::Error("FLOOD_WAIT_40"), "TELEGRAM_FLOOD_WAIT"),
    ];
    for (number, (method, fault, name)) in faults.into_iter().enumerate().rev() {
        let legacy = world.sandbox.mint(2, ANN).await;
        let data = string(&world, &legacy).await;
        let before = signed_in(&world, ANN).await;
        world.sandbox.fault(method, 1, fault).await;
        let app = format!("bot-{number}");
        let refusal = refused(world.import(minting(&app, data)).await);
        world.sandbox.clear_faults().await;
        assert_eq!(reason(&refusal), name, "{method}");
        assert_eq!(signed_in(&world, ANN).await, before);
        assert_eq!(reason(&refused(world.find(&app).await)), "SESSION_NOT_FOUND");
        if number == 2 {
            // What Telegram asked for holds for the next login too, whoever's it is.
            let legacy = world.sandbox.mint(2, BOB).await;
            let data = string(&world, &legacy).await;
            let calls = world.sandbox.calls("auth.exportLoginToken").await;
            assert_eq!(reason(&refused(world.import(minting("bob", data)).await)), "TELEGRAM_FLOOD_WAIT");
            assert_eq!(world.sandbox.calls("auth.exportLoginToken").await, calls);
            break;
        }
    }
    world.stop().await;
}

async fn the_wrong_account_is_logged_out_also_when_telegram_is_away_at_first(shape: Shape) {
    let world = start(shape).await;
    world.server.app.keep_house();
    for away in [false, true] {
        let legacy = world.sandbox.mint(2, ANN).await;
        // This form does not tell whose it is, so the login has to.
        let data = string(&world, &legacy).await;
        let before = signed_in(&world, ANN).await;
        if away {
            world.sandbox.fault("auth.logOut", 100, Fault::Drop).await;
        }
        let request = v1::ImportSessionRequest { expected_telegram_user_id: BOB, ..minting("bot", data) };
        let refusal = world.sessions.clone().import_session(within(60, request)).await;
        assert_eq!(reason(&refusal.expect_err("another account")), "ACCOUNT_MISMATCH");
        assert_eq!(signed_in(&world, ANN).await, before + usize::from(away), "it is logged out, or noted");
        world.sandbox.clear_faults().await;
        poll::until("the new authorization is over", || async {
            (signed_in(&world, ANN).await == before).then_some(())
        })
        .await;
        assert_eq!(reason(&refused(world.find("bot").await)), "SESSION_NOT_FOUND");
    }
    world.stop().await;
}

#[tokio::test]
async fn killed_and_repeated_it_ends_with_one_new_authorization() {
    let mut world = World::<Outside>::outside(Shape::OnServers, &[]).await;
    world.sandbox.add(User { id: CAT, password: Some("correct horse"), ..User::default() }).await;
    let legacy = world.sandbox.mint(2, CAT).await;
    let data = world.written(&legacy, Format::TelethonString).await;
    let request = v1::ImportSessionRequest { password: "correct horse".to_owned(), ..minting("cat", data) };
    // Accepted by then, and the password judged while nobody is left to hear of it.
    world.sandbox.fault("auth.checkPassword", 1, Fault::Delay(Duration::from_millis(400))).await;
    let (sessions, asked) = (world.sessions.clone(), request.clone());
    let call = tokio::spawn(async move { sessions.clone().import_session(within(40, asked)).await });
    poll::until("the password is under way", || async {
        (world.sandbox.calls("account.getPassword").await > 0).then_some(())
    })
    .await;
    poll::until("the key waits for its password", || async {
        world.sandbox.keys().await.iter().any(|key| key.pending_2fa).then_some(())
    })
    .await;
    world.crash();
    assert!(call.await.expect("ended").is_err());
    let world = world.restart().await;
    assert_eq!(reason(&refused(world.find("cat").await)), "SESSION_NOT_FOUND");
    let answer = poll_past_the_last_visit(&world, request).await.expect("minted");
    assert_eq!(answer.outcome(), ImportOutcome::Minted);
    let events = world.events("cat").await;
    assert_eq!(events.iter().filter(|(_, reason)| reason == "minted").count(), 1, "{events:?}");
    poll::until_at_most(Duration::from_secs(60), "what the killed one began is over", || async {
        let left = world.sandbox.keys().await;
        let ours = left.iter().filter(|key| key.user == Some(CAT) || key.pending_2fa).count();
        (ours == 2).then_some(())
    })
    .await;
    let (_, material) = world.lend("cat").await;
    let new = world.parsed(&material.data, Format::Raw).await;
    world.sandbox.telegram().probe(&new, soon()).await.expect("the one that was kept lives");
}
