//! One authorization has one name: under two it would be lent twice at once.

use std::collections::BTreeSet;

use usm::domain::material::Format;
use usm_client::v1::{self, SessionState};

use crate::support::{
    server::token_of,
    world::{ANN, Shape, TENANT, World, import, on_both_shapes, reason, refused},
};

on_both_shapes!(
    an_authorization_is_not_taken_in_under_a_second_name,
    of_imports_that_race_for_one_authorization_one_wins,
);

async fn an_authorization_is_not_taken_in_under_a_second_name(shape: Shape) {
    let world = World::start(shape).await;
    let material = world.lendable("bot", ANN).await;
    let mut stranger = world.server.sessions(&token_of("stranger", "globex")).await;
    for format in [Format::TelethonString, Format::Raw] {
        let data = world.written(&material, format).await;
        for dry_run in [true, false] {
            let request = v1::ImportSessionRequest { dry_run, ..import("copy", data.clone()) };
            assert_eq!(reason(&refused(world.import(request.clone()).await)), "SESSION_ALREADY_EXISTS");
            // Also where the other name is another tenant's, which stays unknown.
            let request = v1::ImportSessionRequest { tenant_id: "globex".to_owned(), ..request };
            let refusal = refused(stranger.import_session(request).await);
            assert_eq!(reason(&refusal), "SESSION_ALREADY_EXISTS");
            let told = format!("{refusal:?} {}", String::from_utf8_lossy(refusal.details()));
            assert!(!told.contains(TENANT) && !told.contains("bot"), "{told}");
        }
    }
    assert_eq!(reason(&refused(world.find("copy").await)), "SESSION_NOT_FOUND");
    world.lend("bot").await;

    // Free for another name once the first one let go of it.
    let other = world.sandbox.mint(2, ANN).await;
    let data = world.written(&other, Format::TelethonString).await;
    world.import(import("legacy", data.clone())).await.expect("imported");
    let request = v1::DeleteSessionRequest {
        tenant_id: TENANT.to_owned(),
        app_id: "legacy".to_owned(),
        ..Default::default()
    };
    world.sessions.clone().delete_session(request).await.expect("deleted");
    world.import(import("renamed", data)).await.expect("imported");
    world.stop().await;
}

async fn of_imports_that_race_for_one_authorization_one_wins(shape: Shape) {
    let world = World::start(shape).await;
    let material = world.sandbox.mint(2, ANN).await;
    let data = world.written(&material, Format::TelethonString).await;
    let race = (0..8).map(|n| world.import(import(&format!("bot-{n}"), data.clone())));
    let answers = futures::future::join_all(race).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    let reasons: BTreeSet<_> =
        answers.into_iter().filter_map(Result::err).map(|refusal| reason(&refusal)).collect();
    assert_eq!(reasons, BTreeSet::from(["SESSION_ALREADY_EXISTS".to_owned()]));
    let request = v1::ListSessionsRequest { tenant_id: TENANT.to_owned(), ..Default::default() };
    let listed = world.sessions.clone().list_sessions(request).await.expect("listed").into_inner();
    let states: Vec<_> = listed.sessions.iter().map(v1::Session::state).collect();
    assert_eq!(states, [SessionState::Authorized]);
    world.stop().await;
}
