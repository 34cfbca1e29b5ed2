//! Borrowing from scripts.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::{Value, json};
use usm::{
    domain::material::Format,
    formats::{self, Addresses},
};

use super::program::{Ran, Service, run_async};

fn acquire(service: &Service, app: &str, holder: &str, more: &[&str]) -> Ran {
    service.about(app, &[&["lease", "acquire", "--output", "json", "--holder", holder], more].concat())
}

fn with_lease(service: Service, lease: &Value) -> Service {
    let id = lease["lease_id"].as_str().unwrap().to_owned();
    service.with("USM_LEASE_ID", id)
}

#[test]
fn a_session_is_lent_renewed_and_given_back() {
    let service = Service::start();
    let material = service.import("news", 6001);
    let out = service.usm.path("worker.session");
    let file = out.to_str().unwrap();
    let ran =
        acquire(&service, "news", "worker-1", &["--ttl", "60", "--out", file, "--format", "telethon-sqlite"]);
    let lease = ran.done().json();
    assert_eq!((&lease["holder"], &lease["ttl"]), (&json!("worker-1"), &json!("60s")));
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    let lent = fs::read(&out).unwrap();
    let parsed = run_async(formats::parse(&lent, Some(Format::TelethonSqlite), &Addresses::new())).unwrap();
    assert_eq!(parsed.material.home().unwrap().auth_key, material.home().unwrap().auth_key);

    acquire(&service, "news", "worker-2", &[]).failed("SESSION_LEASED");
    // An existing file is never written over, and no lease is taken for it.
    acquire(&service, "news", "worker-2", &["--out", file]).failed("worker.session");
    assert_eq!(fs::read(&out).unwrap(), lent);
    let refused = service.usm.path("refused.session");
    acquire(&service, "news", "worker-2", &["--out", refused.to_str().unwrap()]).failed("SESSION_LEASED");
    assert!(!refused.exists(), "a refused lease left a file");

    let id = lease["lease_id"].as_str().unwrap().to_owned();
    let epoch = lease["epoch"].to_string();
    let shown = service.about("news", &["session", "status", "--output", "json"]).done();
    assert_eq!(shown.json()["lease"]["holder"], "worker-1");
    let list = service.run(&["lease", "list", "--output", "json"]).done();
    assert_eq!(list.json()[0]["app_id"], "news");
    assert!(!format!("{shown:?}{list:?}").contains(&id), "a lease id shows to others");

    let service = with_lease(service, &lease);
    let renewed = service.run(&["lease", "renew", "--epoch", &epoch, "--output", "json"]).done().json();
    assert_eq!(renewed["epoch"], lease["epoch"]);
    service.run(&["lease", "renew", "--epoch", "99"]).failed("LEASE_EPOCH_STALE");
    let told = service
        .run(&["lease", "release", "--epoch", &epoch, "--connections-closed", "--lease-id", &id])
        .done();
    assert!(told.err.contains("warning: --lease-id on the command line"), "{told:?}");
    service.run(&["lease", "renew", "--epoch", &epoch]).failed("LEASE_NOT_HELD");
    assert_eq!(service.run(&["lease", "list", "--output", "json"]).done().json(), json!([]));
}

#[test]
fn every_form_that_is_served_can_be_borrowed() {
    let service = Service::start();
    service.import("forms", 6002);
    for (name, format) in [
        ("telethon-string", Format::TelethonString),
        ("telethon-sqlite", Format::TelethonSqlite),
        ("pyrogram-string", Format::PyrogramString),
        ("pyrogram-sqlite", Format::PyrogramSqlite),
        ("gramjs-string", Format::GramjsString),
        ("mtcute-string", Format::MtcuteString),
        ("grammers", Format::Grammers),
        ("raw", Format::Raw),
    ] {
        let out = service.usm.path(name);
        let lease = acquire(
            &service,
            "forms",
            "w",
            &["--format", name, "--wait", "20", "--out", out.to_str().unwrap()],
        )
        .done()
        .json();
        let id = lease["lease_id"].as_str().unwrap();
        let lent = fs::read(&out).unwrap();
        run_async(formats::parse(&lent, Some(format), &Addresses::new())).unwrap();
        let epoch = lease["epoch"].to_string();
        service
            .run(&["lease", "release", "--connections-closed", "--lease-id", id, "--epoch", &epoch])
            .done();
    }
    // It names the account, which nobody knows yet.
    acquire(&service, "forms", "w", &["--format", "tdata"]).failed("MATERIAL_INVALID");
    acquire(&service, "forms", "w", &["--format", "papyrus"]).misused("no format is called papyrus");
}

#[test]
fn an_evicted_holder_is_not_renewed() {
    let service = Service::start();
    service.import("evicted", 6003);
    let lease = acquire(&service, "evicted", "worker-1", &[]).done().json();
    let held = |more: &[&str]| {
        let list = [&["lease", "list", "--output", "json", "--holder", "worker-1"], more].concat();
        service.run(&list).done().json().as_array().unwrap().len()
    };
    assert_eq!((held(&["--state", "held"]), held(&["--state", "draining"])), (1, 0));
    service.about("evicted", &["lease", "evict", "--epoch", "77"]).failed("LEASE_EPOCH_STALE");
    service.about("evicted", &["lease", "evict", "--epoch", &lease["epoch"].to_string()]).done();
    assert_eq!(
        (held(&["--state", "held"]), held(&["--state", "draining", "--state", "quarantined"])),
        (0, 1)
    );
    let service = with_lease(service, &lease);
    let ran = service.run(&["lease", "renew", "--epoch", &lease["epoch"].to_string()]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("LEASE_"), "{ran:?}");
}

#[test]
fn unknown_sessions_and_those_of_the_legacy_system_are_not_lent() {
    let service = Service::start();
    acquire(&service, "nobody", "w", &[]).failed("SESSION_NOT_FOUND");
    service.import("legacy", 6004);
    service.about("legacy", &["custody", "give"]).done();
    let ran = acquire(&service, "legacy", "w", &[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let moved = service.run(&["custody", "take", "--all", "--output", "json"]).done().json();
    let told = json!([{"session": "acme/legacy", "outcome": "moved", "message": ""}]);
    assert_eq!(moved, json!({"sessions": told, "moved": 1, "refused": 0}));
    acquire(&service, "legacy", "w", &["--wait", "20"]).done();
    // One that is held does not keep the others from moving.
    service.import("free", 6005);
    let given =
        service.run(&["custody", "give", "--all", "--tenant", "acme"]).failed("stayed where they were");
    assert!(given.out.contains("moved    acme/free\n"), "{given:?}");
    assert!(given.out.contains("refused  acme/legacy  SESSION_LEASED"), "{given:?}");
}
