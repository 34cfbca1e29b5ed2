//! Files that the service keeps current for the legacy system.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use usm::{
    app::mirror::Plan,
    domain::material::{Format, Material},
    formats::{self, Addresses, Modes},
};
use usm_client::v1::{self, SessionEventKind};

use crate::support::{
    poll,
    world::{ANN, Plan as Wishes, Shape, TENANT, World, field, import, on_both_shapes, reason, refused},
};

on_both_shapes!(
    a_session_of_the_legacy_system_has_a_current_file,
    a_file_that_the_legacy_system_changed_is_told_and_left_alone,
    a_copy_of_our_own_session_is_kept_when_it_is_asked_for,
    files_that_a_killed_server_missed_are_written_when_it_is_back,
);

async fn mirrored(shape: Shape, root: &Path) -> World {
    let plan = Plan { root: root.to_owned(), modes: Modes { file: 0o600, folder: 0o700 } };
    World::set_up(shape, Wishes::default(), |setup| setup.mirror = Some(plan)).await
}

async fn read(root: &Path, app: &str) -> Option<formats::SourceFile> {
    let path = root.join(TENANT).join(format!("{app}.session"));
    formats::read_file(root, &path, &Addresses::new()).await.ok()
}

async fn file_of(root: &Path, app: &str, material: &Material) -> formats::SourceFile {
    poll::until("the file has the session", || async {
        read(root, app).await.filter(|found| formats::is_same(&found.parsed.material, material))
    })
    .await
}

async fn exports<S>(world: &World<S>, app: &str) -> usize {
    let events = world.events(app).await;
    events.iter().filter(|(kind, _)| *kind == SessionEventKind::Exported).count()
}

async fn a_session_of_the_legacy_system_has_a_current_file(shape: Shape) {
    let root = tempfile::tempdir().unwrap();
    let world = mirrored(shape, root.path()).await;
    let first = world.sandbox.mint(2, ANN).await;
    let data = world.written(&first, Format::Raw).await;
    world.import(import("bot", data)).await.expect("imported");
    file_of(root.path(), "bot", &first).await;
    let mode = |path: &str| std::fs::metadata(root.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("acme"), mode("acme/bot.session")), (0o700, 0o600));
    let recorded = poll::until("the file is recorded", || async {
        Some(world.session("bot").await.legacy_fingerprint).filter(|found| !found.is_empty())
    })
    .await;
    let found = read(root.path(), "bot").await.expect("a file").fingerprint.to_string();
    assert_eq!((recorded, exports(&world, "bot").await), (found, 1));

    // A session that is not the legacy system's has none.
    world.lendable("ours", ANN).await;
    let second = world.sandbox.mint(2, ANN).await;
    let data = world.written(&second, Format::Raw).await;
    world.import(v1::ImportSessionRequest { replace: true, ..import("bot", data) }).await.expect("replaced");
    file_of(root.path(), "bot", &second).await;
    assert_eq!(exports(&world, "bot").await, 2, "each key that left is in the log");
    assert!(!root.path().join("acme/ours.session").exists());
    world.stop().await;
}

async fn a_file_that_the_legacy_system_changed_is_told_and_left_alone(shape: Shape) {
    let root = tempfile::tempdir().unwrap();
    let world = mirrored(shape, root.path()).await;
    let first = world.sandbox.mint(2, ANN).await;
    world.import(import("bot", world.written(&first, Format::Raw).await)).await.expect("imported");
    file_of(root.path(), "bot", &first).await;
    poll::until("the file is recorded", || async {
        (!world.session("bot").await.legacy_fingerprint.is_empty()).then_some(())
    })
    .await;
    // The legacy system logs in anew.
    let theirs = world.sandbox.mint(2, ANN).await;
    let path = root.path().join("acme/bot.session");
    std::fs::write(&path, world.written(&theirs, Format::TelethonSqlite).await).unwrap();
    let newer = world.sandbox.mint(2, ANN).await;
    let data = world.written(&newer, Format::Raw).await;
    world.import(v1::ImportSessionRequest { replace: true, ..import("bot", data) }).await.expect("replaced");
    poll::until("the mismatch is told", || async {
        let events = world.events("bot").await;
        events.iter().any(|(kind, _)| *kind == SessionEventKind::FingerprintMismatch).then_some(())
    })
    .await;
    // Told once, and not in every round: two more have passed when these have their files.
    for app in ["second", "third"] {
        let material = world.sandbox.mint(2, ANN).await;
        world.import(import(app, world.written(&material, Format::Raw).await)).await.expect("imported");
        file_of(root.path(), app, &material).await;
    }
    let told = world.events("bot").await;
    let told = told.iter().filter(|(kind, _)| *kind == SessionEventKind::FingerprintMismatch).count();
    assert_eq!(told, 1);
    let there = read(root.path(), "bot").await.expect("a file");
    assert!(formats::is_same(&there.parsed.material, &theirs), "nobody's key was written over");
    world.stop().await;
}

async fn a_copy_of_our_own_session_is_kept_when_it_is_asked_for(shape: Shape) {
    let ask = |mirrored| v1::UpdateSessionRequest {
        session: Some(v1::Session {
            tenant_id: TENANT.to_owned(),
            app_id: "bot".to_owned(),
            mirrored,
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["mirrored".to_owned()] }),
        ..Default::default()
    };
    let root = tempfile::tempdir().unwrap();
    let world = mirrored(shape, root.path()).await;
    let material = world.lendable("bot", ANN).await;
    let updated = world.sessions.clone().update_session(ask(true)).await.expect("asked for").into_inner();
    assert!(updated.session.expect("a session").mirrored);
    file_of(root.path(), "bot", &material).await;
    poll::until("the file is recorded", || async {
        (!world.session("bot").await.legacy_fingerprint.is_empty()).then_some(())
    })
    .await;
    let updated = world.sessions.clone().update_session(ask(false)).await.expect("not any more").into_inner();
    assert!(!updated.session.expect("a session").mirrored);
    world.stop().await;

    let world = World::start(shape).await;
    world.lendable("bot", ANN).await;
    let refusal = refused(world.sessions.clone().update_session(ask(true)).await);
    assert_eq!(reason(&refusal), "FEATURE_DISABLED", "there is no folder");
    let mut odd = ask(true);
    odd.update_mask = Some(prost_types::FieldMask { paths: vec!["state".to_owned()] });
    let refusal = refused(world.sessions.clone().update_session(odd).await);
    assert_eq!(field(&refusal).as_deref(), Some("update_mask"));
    world.stop().await;
}

async fn files_that_a_killed_server_missed_are_written_when_it_is_back(shape: Shape) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().to_str().unwrap();
    let mut world =
        World::outside(shape, &[("USM_MIRROR_SESSIONS", "true"), ("SESSIONS_BASE_PATH", folder)]).await;
    let mut sessions = Vec::new();
    for n in 0..8 {
        let material = world.sandbox.mint(2, ANN).await;
        let data = world.written(&material, Format::Raw).await;
        world.import(import(&format!("bot-{n}"), data)).await.expect("imported");
        sessions.push(material);
    }
    world.crash();
    // As if it had been killed before the last of them.
    let _gone = std::fs::remove_file(root.path().join("acme/bot-3.session"));
    let world = world.restart().await;
    for (n, material) in sessions.iter().enumerate() {
        file_of(root.path(), &format!("bot-{n}"), material).await;
        assert!(exports(&world, &format!("bot-{n}")).await >= 1, "no file without its entry");
    }
    let left: Vec<_> = std::fs::read_dir(root.path().join(TENANT)).unwrap().collect();
    assert_eq!(left.len(), 8, "no draft is left: {left:?}");
}
