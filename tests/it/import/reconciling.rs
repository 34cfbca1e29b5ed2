//! Another file under a name that is taken: refused and told, or taken because somebody said so.

use usm::domain::material::{Format, UpdateState};
use usm_client::v1::{self, ImportOutcome, SessionCustody, SessionEventKind};

use crate::support::{
    poll,
    telegram::soon,
    world::{ANN, BOB, Shape, TENANT, World, import, on_both_shapes, reason, refused},
};

on_both_shapes!(
    a_changed_file_is_refused_and_told,
    the_same_authorization_is_taken_with_what_is_new,
    another_authorization_of_the_account_takes_the_place_of_the_old,
);

fn print(seed: &str, size: u64) -> String {
    format!("{}:{size}:1700000000", seed.repeat(32))
}

async fn mismatches(world: &World, app: &str) -> usize {
    let events = world.events(app).await;
    events.iter().filter(|(kind, _)| *kind == SessionEventKind::FingerprintMismatch).count()
}

/// What the metrics port counts.
async fn counted(world: &World) -> f64 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(world.server.metrics_address).await.expect("listens");
    let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("answered");
    let line = text.lines().find(|line| line.starts_with("fingerprint_mismatch_total")).expect("a metric");
    line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

async fn a_changed_file_is_refused_and_told(shape: Shape) {
    let world = World::start(shape).await;
    let first = world.sandbox.mint(2, ANN).await;
    let data = world.written(&first, Format::TelethonSqlite).await;
    let recorded = v1::ImportSessionRequest { legacy_fingerprint: print("ab", 1), ..import("bot", data) };
    world.import(recorded).await.expect("imported");

    let before = counted(&world).await;
    let take = v1::TakeCustodyRequest {
        tenant_id: TENANT.to_owned(),
        app_id: "bot".to_owned(),
        legacy_fingerprint: print("ab", 2),
        ..Default::default()
    };
    let refusal = refused(world.sessions.clone().take_custody(take.clone()).await);
    assert_eq!(reason(&refusal), "FINGERPRINT_MISMATCH");
    assert_eq!(mismatches(&world, "bot").await, 1);

    let second = world.sandbox.mint(2, ANN).await;
    let data = world.written(&second, Format::TelethonSqlite).await;
    let other = v1::ImportSessionRequest { legacy_fingerprint: print("cd", 1), ..import("bot", data) };
    assert_eq!(reason(&refused(world.import(other).await)), "FINGERPRINT_MISMATCH");
    assert_eq!(mismatches(&world, "bot").await, 2);
    assert!(counted(&world).await >= before + 2.0);
    let session = world.session("bot").await;
    assert_eq!((session.custody(), session.legacy_fingerprint), (SessionCustody::Legacy, print("ab", 1)));

    let right = v1::TakeCustodyRequest { legacy_fingerprint: format!("{}.75", print("ab", 1)), ..take };
    world.sessions.clone().take_custody(right).await.expect("the recorded file, as Python writes its time");
    world.stop().await;
}

async fn the_same_authorization_is_taken_with_what_is_new(shape: Shape) {
    let world = World::start(shape).await;
    let mut material = world.sandbox.mint(2, ANN).await;
    let data = world.written(&material, Format::Raw).await;
    world
        .import(v1::ImportSessionRequest { legacy_fingerprint: print("ab", 1), ..import("bot", data) })
        .await
        .expect("in");
    let before = world.session("bot").await;
    material.updates = Some(UpdateState { pts: 99, qts: 1, date: 1_700_000_000, seq: 1 });
    let request = v1::ImportSessionRequest {
        legacy_fingerprint: print("cd", 1),
        legacy_stopped: true,
        replace: true,
        ..import("bot", world.written(&material, Format::Raw).await)
    };
    let trial = v1::ImportSessionRequest { dry_run: true, ..request.clone() };
    let told = world.import(trial).await.expect("nothing against it");
    assert_eq!((told.outcome(), world.session("bot").await), (ImportOutcome::Replaced, before.clone()));
    let done = world.import(request.clone()).await.expect("taken");
    assert_eq!(done.outcome(), ImportOutcome::Replaced);
    let after = done.session.expect("a session");
    assert_eq!(
        (after.custody(), after.legacy_fingerprint.as_str()),
        (SessionCustody::Service, print("cd", 1).as_str())
    );
    assert_eq!(
        (after.fingerprint.as_str(), mismatches(&world, "bot").await),
        (before.fingerprint.as_str(), 0)
    );
    let again = world.import(request).await.expect("as often as asked");
    assert_eq!((again.outcome(), again.session), (ImportOutcome::AlreadyThere, Some(after)));
    let (_, lent) = world.lend("bot").await;
    assert_eq!(world.parsed(&lent.data, Format::Raw).await.updates.map(|state| state.pts), Some(99));
    world.stop().await;
}

async fn another_authorization_of_the_account_takes_the_place_of_the_old(shape: Shape) {
    let world = World::start(shape).await;
    world.log_in("ours", ANN).await;
    let (legacy, newer) = (world.sandbox.mint(2, ANN).await, world.sandbox.mint(2, ANN).await);
    let data = world.written(&legacy, Format::Raw).await;
    world.import(import("theirs", data)).await.expect("imported");
    let count = world.sandbox.authorizations().await.len();
    let replacing = async |app: &str, user| {
        let material =
            if user == BOB { world.sandbox.mint(2, BOB).await } else { world.sandbox.mint(2, ANN).await };
        let data = world.written(&material, Format::Raw).await;
        (material, v1::ImportSessionRequest { replace: true, legacy_stopped: true, ..import(app, data) })
    };
    let (_, request) = replacing("ours", BOB).await;
    assert_eq!(reason(&refused(world.import(request).await)), "ACCOUNT_MISMATCH");
    let taken = v1::ImportSessionRequest {
        replace: true,
        ..import("ours", world.written(&legacy, Format::Raw).await)
    };
    assert_eq!(reason(&refused(world.import(taken).await)), "SESSION_ALREADY_EXISTS", "it has another name");

    // The legacy system's former authorization is the legacy system's to end.
    let request = v1::ImportSessionRequest {
        replace: true,
        ..import("theirs", world.written(&newer, Format::Raw).await)
    };
    assert_eq!(world.import(request).await.expect("taken").outcome(), ImportOutcome::Replaced);
    world.sandbox.telegram().probe(&legacy, soon()).await.expect("it goes on working");

    // Ours is ours to end.
    let (held, _) = world.lend("ours").await;
    let (material, request) = replacing("ours", ANN).await;
    assert_eq!(reason(&refused(world.import(request.clone()).await)), "SESSION_LEASED");
    world.release(&held, true).await.expect("released");
    world.import(request).await.expect("taken");
    let (_, lent) = world.lend("ours").await;
    let lent = world.parsed(&lent.data, Format::Raw).await;
    assert_eq!(lent.keys[&2].auth_key, material.keys[&2].auth_key);
    // One came and one went: the former of «ours».
    poll::until("the former is logged out", || async {
        (world.sandbox.authorizations().await.len() == count + 1).then_some(())
    })
    .await;
    world.stop().await;
}
