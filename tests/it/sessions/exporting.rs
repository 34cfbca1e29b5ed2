//! A session handed out as a copy: the way back.

use usm::{
    domain::{
        material::{Format, Material},
        secret::Secret,
    },
    formats,
};
use usm_client::v1::{self, SessionEventKind, SessionFormat, SessionState};

use crate::support::{
    telegram::{Fault, soon},
    world::{ANN, Shape, TENANT, World, field, import, lease, on_both_shapes, reason, refused},
};

on_both_shapes!(
    a_copy_is_the_same_authorization_in_every_form,
    a_lent_session_is_not_handed_out_and_a_forgotten_holder_is_fenced,
    what_has_no_living_authorization_is_not_handed_out,
    a_passcode_locks_what_can_be_locked,
);

fn request(app: &str, format: SessionFormat) -> v1::ExportSessionRequest {
    v1::ExportSessionRequest {
        tenant_id: TENANT.to_owned(),
        app_id: app.to_owned(),
        format: format.into(),
        ..Default::default()
    }
}

async fn export(
    world: &World,
    app: &str,
    format: SessionFormat,
) -> Result<v1::ExportSessionResponse, tonic::Status> {
    Ok(world.sessions.clone().export_session(request(app, format)).await?.into_inner())
}

async fn last_export(world: &World, app: &str) -> v1::SessionEvent {
    let request = v1::ListSessionEventsRequest {
        tenant_id: TENANT.to_owned(),
        app_id: app.to_owned(),
        page_size: 100,
        ..Default::default()
    };
    let events =
        world.sessions.clone().list_session_events(request).await.expect("listed").into_inner().events;
    events.into_iter().rfind(|event| event.kind() == SessionEventKind::Exported).expect("an export")
}

async fn a_copy_is_the_same_authorization_in_every_form(shape: Shape) {
    let world = World::start(shape).await;
    let material = world.lendable("bot", ANN).await;
    let (held, _) = world.lend("bot").await;
    world.release(&held, true).await.expect("released");
    let forms = [
        (SessionFormat::Unspecified, Format::TelethonString),
        (SessionFormat::TelethonString, Format::TelethonString),
        (SessionFormat::TelethonSqlite, Format::TelethonSqlite),
        (SessionFormat::PyrogramString, Format::PyrogramString),
        (SessionFormat::PyrogramSqlite, Format::PyrogramSqlite),
        (SessionFormat::GramjsString, Format::GramjsString),
        (SessionFormat::MtcuteString, Format::MtcuteString),
        (SessionFormat::Grammers, Format::Grammers),
        (SessionFormat::Raw, Format::Raw),
    ];
    for (asked, format) in forms {
        let answer = export(&world, "bot", asked).await.expect("nobody holds it");
        let copy = answer.material.expect("material");
        let out = world.parsed(&copy.data, format).await;
        assert_eq!(out.keys[&2].auth_key, material.keys[&2].auth_key);
        assert!(
            answer.warnings[0].contains("nobody may connect"),
            "custody is SERVICE: {:?}",
            answer.warnings
        );
        let event = last_export(&world, "bot").await;
        assert_eq!(event.details["format"], format.name());
        let key = hex::encode(material.keys[&2].auth_key.expose_secret());
        assert!(!format!("{event:?}").contains(&key[..32]), "the log tells of the key");
    }
    let carried = export(&world, "bot", SessionFormat::TelethonString).await.expect("handed out").losses;
    assert!(
        carried.iter().any(|loss| loss.kind() == v1::ConversionLossKind::ApiCredentials),
        "a string has no place for the api_id: {carried:?}"
    );
    // Ours again, and older epochs are over.
    let (next, _) = world.lend("bot").await;
    assert!(next.epoch > held.epoch + 5, "each export raises the epoch");

    let material = world.sandbox.mint(2, ANN).await;
    let data = world.written(&material, Format::TelethonString).await;
    world.import(import("legacy", data)).await.expect("imported");
    let answer = export(&world, "legacy", SessionFormat::TelethonSqlite).await.expect("the way back");
    assert!(answer.warnings.is_empty(), "the legacy system may use it: {:?}", answer.warnings);
    let out = world.parsed(&answer.material.expect("material").data, Format::TelethonSqlite).await;
    world.sandbox.telegram().probe(&out, soon()).await.expect("it works");
    world.stop().await;
}

async fn a_lent_session_is_not_handed_out_and_a_forgotten_holder_is_fenced(shape: Shape) {
    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let (held, _) = world.lend("bot").await;
    let refusal = refused(export(&world, "bot", SessionFormat::Raw).await);
    assert_eq!(reason(&refusal), "SESSION_LEASED");
    world.renew(&held).await.expect("the holder is not disturbed");
    world.release(&held, false).await.expect("released");
    let refusal = refused(export(&world, "bot", SessionFormat::Raw).await);
    assert_eq!(reason(&refusal), "SESSION_LEASED", "its connections may be open");
    assert!(world.events("bot").await.iter().all(|(kind, _)| *kind != SessionEventKind::Exported));
    world.release(&held, true).await.expect("closed");
    export(&world, "bot", SessionFormat::Raw).await.expect("free now");
    assert_eq!(reason(&refused(world.renew(&held).await)), "LEASE_NOT_HELD");
    let (next, _) = world.lend("bot").await;
    assert!(next.epoch > held.epoch + 1);
    world.stop().await;
}

async fn what_has_no_living_authorization_is_not_handed_out(shape: Shape) {
    let world = World::start(shape).await;
    assert_eq!(reason(&refused(export(&world, "none", SessionFormat::Raw).await)), "SESSION_NOT_FOUND");
    world.lendable("bot", ANN).await;
    let passcode =
        v1::ExportSessionRequest { passcode: "1234".to_owned(), ..request("bot", SessionFormat::Raw) };
    let refusal = refused(world.sessions.clone().export_session(passcode).await);
    assert_eq!(
        (reason(&refusal).as_str(), field(&refusal).as_deref()),
        ("ARGUMENT_INVALID", Some("passcode"))
    );

    // Its key waits for the log-out and must not get about.
    world.sandbox.fault("connect", 1000, Fault::Drop).await;
    let (tenant_id, app_id) = (TENANT.to_owned(), "bot".to_owned());
    let revoke = v1::RevokeSessionRequest { tenant_id, app_id, ..Default::default() };
    let revoked = world.sessions.clone().revoke_session(revoke).await.expect("revoked").into_inner();
    assert!(revoked.session.expect("a session").log_out_pending);
    assert_eq!(reason(&refused(export(&world, "bot", SessionFormat::Raw).await)), "SESSION_WRONG_STATE");
    world.sandbox.clear_faults().await;
    let login = world.code("new").await;
    assert_eq!(world.session("new").await.state(), SessionState::PendingQr);
    assert_eq!(reason(&refused(export(&world, "new", SessionFormat::Raw).await)), "SESSION_WRONG_STATE");
    world.cancel(&login.ticket).await.expect("cancelled");
    refused(world.acquire(lease("bot", "worker-1")).await);
    world.stop().await;
}

async fn a_passcode_locks_what_can_be_locked(shape: Shape) {
    let world = World::start(shape).await;
    let minted = world.sandbox.mint(2, ANN).await;
    let known = Material { telegram_user_id: Some(ANN), ..minted.clone() };
    let data = world.written(&known, Format::Raw).await;
    world.import(import("bot", data)).await.expect("imported");
    let locked =
        v1::ExportSessionRequest { passcode: "1234".to_owned(), ..request("bot", SessionFormat::Tdata) };
    let answer = world.sessions.clone().export_session(locked).await.expect("exported").into_inner();
    let archive = answer.material.expect("material").data;
    let none = formats::parse(&archive, None, &Default::default()).await.expect_err("it is locked");
    assert_eq!(none, formats::Error::PasscodeNeeded);
    let options = formats::Options { passcode: Some(Secret::new("1234")), account: None };
    let read = formats::parse_with(&archive, None, &Default::default(), &options).await.expect("opened");
    assert_eq!(read.material.keys[&2].auth_key, minted.keys[&2].auth_key);
    assert_eq!(read.material.telegram_user_id, Some(ANN));
    world.stop().await;
}
