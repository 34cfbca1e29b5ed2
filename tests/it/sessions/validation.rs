//! Looking whether Telegram still knows a session.

use usm_client::v1::{self, SessionState, ValidationOutcome};

use crate::support::{
    telegram::Fault,
    world::{ANN, BOB, Shape, TENANT, World, on_both_shapes, pause, reason, refused},
};

on_both_shapes!(
    a_session_that_lives_is_said_to_live,
    a_key_telegram_forgot_makes_the_session_doubtful_and_not_lost,
    what_ended_beyond_doubt_is_revoked,
    a_telegram_that_is_away_changes_nothing,
);

async fn validate(world: &World, app: &str) -> Result<v1::ValidateSessionResponse, tonic::Status> {
    let request = v1::ValidateSessionRequest {
        tenant_id: TENANT.to_owned(),
        app_id: app.to_owned(),
        ..Default::default()
    };
    Ok(world.sessions.clone().validate_session(request).await?.into_inner())
}

async fn a_session_that_lives_is_said_to_live(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    assert!(world.session("bot").await.last_validated_time.is_none(), "imported and not looked at yet");
    let answer = validate(&world, "bot").await.expect("asked");
    assert_eq!(answer.outcome(), ValidationOutcome::Alive);
    let session = answer.session.expect("a session");
    assert_eq!((session.state(), session.telegram_user_id), (SessionState::Authorized, ANN));
    assert_eq!(session.username, "ann");
    assert!(session.last_validated_time.is_some() && session.lease.is_none());

    let (held, _) = world.lend("bot").await;
    assert_eq!(reason(&refused(validate(&world, "bot").await)), "SESSION_LEASED");
    world.renew(&held).await.expect("the holder is not disturbed");
    assert_eq!(reason(&refused(validate(&world, "none").await)), "SESSION_NOT_FOUND");
    world.stop().await;
}

async fn a_key_telegram_forgot_makes_the_session_doubtful_and_not_lost(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let known = world.sandbox.authorizations().await.remove(0);
    world.sandbox.revoke(&known, "forget").await;
    let answer = validate(&world, "bot").await.expect("asked");
    assert_eq!(answer.outcome(), ValidationOutcome::Doubtful);
    let session = answer.session.expect("a session");
    assert_eq!((session.state(), session.state_reason.as_str()), (SessionState::Stale, "validation_failed"));

    // Telegram was wrong: the next look finds it alive, and the material is still there.
    let mend = serde_json::json!({"key": known.name, "mode": null});
    world.sandbox.post("/revoke", mend).await.expect("mended");
    let answer = validate(&world, "bot").await.expect("asked");
    assert_eq!(answer.outcome(), ValidationOutcome::Alive);
    let session = answer.session.expect("a session");
    assert_eq!(
        (session.state(), session.state_reason.as_str()),
        (SessionState::Authorized, "validation_success")
    );
    world.lend("bot").await;
    world.stop().await;
}

async fn what_ended_beyond_doubt_is_revoked(shape: Shape) {
    let world = World::start(shape).await;
    let endings = [
        ("SESSION_REVOKED", "revoked_by_user"),
        ("SESSION_EXPIRED", "expired"),
        ("USER_DEACTIVATED_BAN", "banned"),
        ("USER_DEACTIVATED", "deleted"),
        ("AUTH_KEY_DUPLICATED", "duplicated"),
    ];
    for (name, told) in endings {
        world.lendable(told, BOB).await;
        let before = world.session(told).await;
        let known = world.sandbox.authorizations().await;
        world.sandbox.revoke(known.last().expect("just made"), name).await;
        let answer = validate(&world, told).await.expect("asked");
        assert_eq!(answer.outcome(), ValidationOutcome::Ended, "{name}");
        let session = answer.session.expect("a session");
        assert_eq!((session.state(), session.state_reason.as_str()), (SessionState::Revoked, told));
        assert!(session.revision > before.revision && !session.log_out_pending);
    }
    world.stop().await;
}

async fn a_telegram_that_is_away_changes_nothing(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let before = world.session("bot").await;
    world.sandbox.fault("connect", 1000, Fault::Drop).await;
    assert_eq!(reason(&refused(validate(&world, "bot").await)), "TELEGRAM_UNAVAILABLE");
    world.sandbox.clear_faults().await;
    world.sandbox.fault("users.getUsers", 1, Fault::Error("FLOOD_WAIT_77")).await;
    let flood = refused(validate(&world, "bot").await);
    assert_eq!(reason(&flood), "TELEGRAM_FLOOD_WAIT");
    assert_eq!(pause(&flood).map(|pause| pause.as_secs()), Some(77));
    let after = world.session("bot").await;
    assert_eq!((after.state(), after.revision, &after.lease), (before.state(), before.revision, &None));
    world.lend("bot").await;
    world.stop().await;
}
