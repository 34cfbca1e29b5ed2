//! What goes in, and that it comes out as the same authorization.

use usm::domain::material::Format;
use usm_client::v1::{self, ImportOutcome, SessionCustody, SessionFormat, SessionState};

use crate::support::{
    telegram::soon,
    world::{ANN, BOB, Shape, TENANT, World, fact, import, on_both_shapes, reason, refused},
};

on_both_shapes!(
    every_readable_form_goes_in_and_comes_out_as_the_same_authorization,
    the_legacy_system_keeps_what_is_not_said_to_be_stopped,
    a_dry_run_writes_nothing,
    an_import_repeated_changes_nothing,
    a_name_that_is_taken_is_not_overwritten,
    a_revoked_session_is_filled_again_with_its_own_account_only,
);

async fn every_readable_form_goes_in_and_comes_out_as_the_same_authorization(shape: Shape) {
    let world = World::start(shape).await;
    let forms = [
        ("string", Format::TelethonString, SessionFormat::TelethonString),
        ("sqlite", Format::TelethonSqlite, SessionFormat::TelethonSqlite),
        ("pyrogram-string", Format::PyrogramString, SessionFormat::PyrogramString),
        ("pyrogram-sqlite", Format::PyrogramSqlite, SessionFormat::PyrogramSqlite),
        ("gramjs", Format::GramjsString, SessionFormat::GramjsString),
        ("mtcute", Format::MtcuteString, SessionFormat::MtcuteString),
        ("grammers", Format::Grammers, SessionFormat::Grammers),
        ("raw", Format::Raw, SessionFormat::Raw),
    ];
    for (app, format, told) in forms {
        for named in [SessionFormat::Unspecified, told] {
            let app = format!("{app}-{}", i32::from(named));
            let material = world.sandbox.mint(2, ANN).await;
            let data = world.written(&material, format).await;
            let request =
                v1::ImportSessionRequest { format: named.into(), legacy_stopped: true, ..import(&app, data) };
            let answer = world.import(request).await.expect("imported");
            assert_eq!((answer.outcome(), answer.format()), (ImportOutcome::Imported, told));
            let session = answer.session.expect("a session");
            assert_eq!(
                (session.state(), session.state_reason.as_str()),
                (SessionState::Authorized, "imported")
            );
            assert_eq!((session.custody(), session.dc_id), (SessionCustody::Service, 2));
            assert!(session.last_validated_time.is_none(), "nobody looked yet");
            let (_, material_out) = world.lend(&app).await;
            let out = world.parsed(&material_out.data, Format::Raw).await;
            assert_eq!(out.keys[&2].auth_key, material.keys[&2].auth_key);
            let proof = world.sandbox.telegram().probe(&out, soon()).await.expect("it works");
            assert_eq!(proof.account.telegram_user_id, ANN);
        }
    }
    world.stop().await;
}

async fn the_legacy_system_keeps_what_is_not_said_to_be_stopped(shape: Shape) {
    let world = World::start(shape).await;
    let material = world.sandbox.mint(2, ANN).await;
    let data = world.written(&material, Format::TelethonSqlite).await;
    let request = v1::ImportSessionRequest {
        labels: [("team".to_owned(), "news".to_owned())].into(),
        legacy_fingerprint: "ab12".to_owned(),
        ..import("bot", data)
    };
    let session = world.import(request).await.expect("imported").session.expect("a session");
    assert_eq!((session.state(), session.custody()), (SessionState::Authorized, SessionCustody::Legacy));
    assert_eq!((session.labels["team"].as_str(), session.legacy_fingerprint.as_str()), ("news", "ab12"));
    assert_eq!(world.sandbox.counter("connections").await, 0, "an import connects to nobody");
    world.stop().await;
}

async fn a_dry_run_writes_nothing(shape: Shape) {
    let world = World::start(shape).await;
    let material = world.sandbox.mint(2, ANN).await;
    let data = world.written(&material, Format::TelethonString).await;
    let request = v1::ImportSessionRequest { dry_run: true, ..import("bot", data) };
    let answer = world.import(request).await.expect("nothing against it");
    assert_eq!(answer.outcome(), ImportOutcome::Imported, "what would be done");
    assert_eq!(answer.session.expect("as it would be").state(), SessionState::Authorized);
    assert_eq!(reason(&refused(world.find("bot").await)), "SESSION_NOT_FOUND");
    assert!(world.events("bot").await.is_empty());
    world.stop().await;
}

async fn an_import_repeated_changes_nothing(shape: Shape) {
    let world = World::start(shape).await;
    let material = world.sandbox.mint(2, ANN).await;
    let string = world.written(&material, Format::TelethonString).await;
    world.import(import("bot", string.clone())).await.expect("imported");
    let before = world.session("bot").await;
    let events = world.events("bot").await;
    let sqlite = world.written(&material, Format::TelethonSqlite).await;
    for data in [string, sqlite] {
        let request = v1::ImportSessionRequest { legacy_stopped: true, ..import("bot", data) };
        let answer = world.import(request).await.expect("there already");
        assert_eq!(answer.outcome(), ImportOutcome::AlreadyThere);
        assert_eq!(answer.session.as_ref(), Some(&before));
    }
    assert_eq!((world.session("bot").await, world.events("bot").await), (before, events));
    world.stop().await;
}

async fn a_name_that_is_taken_is_not_overwritten(shape: Shape) {
    let world = World::start(shape).await;
    let first = world.lendable("bot", ANN).await;
    let before = world.session("bot").await;
    let second = world.sandbox.mint(2, ANN).await;
    let data = world.written(&second, Format::TelethonString).await;
    let request = v1::ImportSessionRequest { dry_run: true, ..import("bot", data.clone()) };
    let told = world.import(request).await.expect("what would be");
    assert_eq!((told.outcome(), told.session.as_ref()), (ImportOutcome::Differs, Some(&before)));
    let refusal = refused(world.import(import("bot", data.clone())).await);
    assert_eq!(reason(&refusal), "SESSION_ALREADY_EXISTS");
    assert_eq!(fact(&refusal, "conflict").as_deref(), Some("name"));
    assert_eq!(world.session("bot").await, before);
    let (_, material) = world.lend("bot").await;
    let lent = world.parsed(&material.data, Format::Raw).await;
    assert_eq!(lent.keys[&2].auth_key, first.keys[&2].auth_key);

    let login = world.code("pending").await;
    let request = import("pending", data);
    assert_eq!(reason(&refused(world.import(request).await)), "SESSION_WRONG_STATE", "a login runs");
    world.cancel(&login.ticket).await.expect("cancelled");
    world.stop().await;
}

async fn a_revoked_session_is_filled_again_with_its_own_account_only(shape: Shape) {
    let world = World::start(shape).await;
    world.log_in("bot", ANN).await;
    let request = v1::RevokeSessionRequest {
        tenant_id: TENANT.to_owned(),
        app_id: "bot".to_owned(),
        ..Default::default()
    };
    world.sessions.clone().revoke_session(request).await.expect("revoked");
    for (user, outcome) in [(BOB, Err("ACCOUNT_MISMATCH")), (ANN, Ok(SessionState::Authorized))] {
        let material = world.sandbox.mint(2, user).await;
        // This form tells whose it is.
        let data = world.written(&material, Format::Raw).await;
        let imported = world.import(import("bot", data)).await;
        match outcome {
            Ok(state) => assert_eq!(imported.expect("imported").session.expect("one").state(), state),
            Err(name) => assert_eq!(reason(&refused(imported)), name),
        }
    }
    let session = world.session("bot").await;
    assert_eq!((session.telegram_user_id, session.material_version), (ANN, 2));
    world.stop().await;
}
