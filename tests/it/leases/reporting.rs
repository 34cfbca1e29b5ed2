//! What Telegram answered a holder, and what follows.

use usm_client::v1::{
    self, HolderAdvice, LeaseState, SessionState, TelegramError, report_session_request::Answer,
};

use crate::support::world::{ANN, BOB, Shape, TENANT, World, field, lease, on_both_shapes, reason, refused};

on_both_shapes!(
    a_proof_of_life_is_remembered,
    a_doubtful_session_is_lent_no_more_until_it_was_looked_at,
    a_duplicated_key_ends_the_session_at_once,
    errors_that_say_nothing_of_the_session_change_nothing,
    only_the_holder_reports,
);

async fn report(
    world: &World,
    held: &v1::Lease,
    answer: Answer,
) -> Result<v1::ReportSessionResponse, tonic::Status> {
    let request = v1::ReportSessionRequest {
        lease_id: held.lease_id.clone(),
        epoch: held.epoch,
        answer: Some(answer),
        ..Default::default()
    };
    Ok(world.leases.clone().report_session(request).await?.into_inner())
}

fn error(code: i32, message: &str) -> Answer {
    Answer::Error(TelegramError { code, message: message.to_owned(), ..Default::default() })
}

async fn a_proof_of_life_is_remembered(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let request = v1::ValidateSessionRequest {
        tenant_id: TENANT.to_owned(),
        app_id: "bot".to_owned(),
        ..Default::default()
    };
    world.sessions.clone().validate_session(request).await.expect("whose it is becomes known");
    let (held, _) = world.lend("bot").await;
    assert!(world.session("bot").await.last_activity_time.is_none(), "a lease proves nothing");
    let proof = |telegram_user_id, username: &str| {
        Answer::ProofOfLife(v1::ProofOfLife {
            telegram_user_id,
            username: username.to_owned(),
            activity_time: Some(prost_types::Timestamp { seconds: 99_999_999_999, nanos: 0 }),
        })
    };
    let told = report(&world, &held, proof(ANN, "anna")).await.expect("reported");
    assert_eq!(told.advice(), HolderAdvice::Continue);
    let session = told.session.expect("a session");
    assert_eq!(session.username, "anna");
    let activity = session.last_activity_time.expect("remembered");
    assert!(activity.seconds < 9_999_999_999, "a time to come is taken as now: {activity:?}");
    let other = refused(report(&world, &held, proof(BOB, "")).await);
    assert_eq!(reason(&other), "ACCOUNT_MISMATCH");
    world.stop().await;
}

async fn a_doubtful_session_is_lent_no_more_until_it_was_looked_at(shape: Shape) {
    for (code, message) in
        [(401, "AUTH_KEY_UNREGISTERED"), (401, "SESSION_REVOKED"), (-404, "AUTH_KEY_NOT_FOUND")]
    {
        let world = World::start(shape).await;
        world.lendable("bot", ANN).await;
        let (held, _) = world.lend("bot").await;
        for _ in 0..2 {
            let told = report(&world, &held, error(code, message)).await.expect("reported");
            assert_eq!(told.advice(), HolderAdvice::Stop, "{message}");
            let session = told.session.expect("a session");
            assert_eq!(
                (session.state(), session.state_reason.as_str()),
                (SessionState::Stale, "validation_failed"),
                "{message}"
            );
            assert_eq!(session.lease.expect("a lease").state(), LeaseState::Draining);
        }
        assert!(
            ["LEASE_DRAINING", "LEASE_NOT_HELD"]
                .contains(&reason(&refused(world.renew(&held).await)).as_str())
        );
        world.release(&held, true).await.expect("released");
        assert_eq!(reason(&refused(world.acquire(lease("bot", "w")).await)), "SESSION_WRONG_STATE");
        world.stop().await;
    }
}

async fn a_duplicated_key_ends_the_session_at_once(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let (held, _) = world.lend("bot").await;
    for _ in 0..2 {
        let told = report(&world, &held, error(406, "AUTH_KEY_DUPLICATED")).await.expect("reported");
        assert_eq!(told.advice(), HolderAdvice::Stop);
        let session = told.session.expect("a session");
        assert_eq!((session.state(), session.state_reason.as_str()), (SessionState::Revoked, "duplicated"));
    }
    world.release(&held, true).await.expect("released");
    assert_eq!(reason(&refused(world.acquire(lease("bot", "w")).await)), "SESSION_WRONG_STATE");
    world.stop().await;
}

async fn errors_that_say_nothing_of_the_session_change_nothing(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let (held, _) = world.lend("bot").await;
    let before = world.session("bot").await;
    let wait = report(&world, &held, error(420, "FLOOD_WAIT_37")).await.expect("reported");
    assert_eq!(wait.retry_after.map(|wait| wait.seconds), Some(37));
    let elsewhere = TelegramError {
        code: 401,
        message: "AUTH_KEY_UNREGISTERED".to_owned(),
        dc_id: 4,
        ..Default::default()
    };
    let media = TelegramError {
        code: 406,
        message: "AUTH_KEY_DUPLICATED".to_owned(),
        dc_id: 203,
        ..Default::default()
    };
    for answer in [
        Answer::Error(elsewhere),
        Answer::Error(media),
        error(420, "FROZEN_METHOD_INVALID"),
        error(401, "AUTH_KEY_PERM_EMPTY"),
        error(500, "AUTH_KEY_UNSYNCHRONIZED"),
        error(400, "PEER_ID_INVALID"),
    ] {
        let told = report(&world, &held, answer.clone()).await.expect("reported");
        assert_eq!(told.advice(), HolderAdvice::Continue, "{answer:?}");
    }
    let after = world.session("bot").await;
    assert_eq!((before.state(), before.revision), (after.state(), after.revision));
    for (answer, at) in [(error(420, ""), "error.message"), (error(420, &"X".repeat(129)), "error.message")] {
        let refusal = refused(report(&world, &held, answer).await);
        assert_eq!((reason(&refusal).as_str(), field(&refusal).as_deref()), ("ARGUMENT_INVALID", Some(at)));
    }
    world.stop().await;
}

async fn only_the_holder_reports(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let (held, _) = world.lend("bot").await;
    let older = v1::Lease { epoch: held.epoch + 1, ..held.clone() };
    let stale = refused(report(&world, &older, error(406, "AUTH_KEY_DUPLICATED")).await);
    assert_eq!(reason(&stale), "LEASE_EPOCH_STALE");
    world.release(&held, true).await.expect("released");
    let late = refused(report(&world, &held, error(406, "AUTH_KEY_DUPLICATED")).await);
    assert_eq!(reason(&late), "LEASE_NOT_HELD");
    assert_eq!(world.session("bot").await.state(), SessionState::Authorized);
    world.stop().await;
}
