//! Looking at sessions and ending them.

use serde_json::json;

use super::program::Service;

#[test]
fn a_sessions_life_can_be_run_from_scripts() {
    let service = Service::start();
    service.import("news", 7001);
    service.import("sport", 7002);
    let list = service.run(&["session", "list", "--output", "json"]).done().json();
    let apps: Vec<_> = list.as_array().unwrap().iter().map(|session| session["app_id"].clone()).collect();
    assert_eq!(apps, [json!("news"), json!("sport")]);
    let table = service.run(&["session", "list", "--tenant-id", "acme", "--state", "authorized"]).done().out;
    assert!(table.starts_with("TENANT") && table.lines().count() == 3, "{table}");
    assert_eq!(
        service.run(&["session", "list", "--tenant-id", "other", "--output", "json"]).done().json(),
        json!([])
    );

    let validated = service.about("news", &["session", "validate", "--output", "json"]).done().json();
    assert_eq!(validated["telegram_user_id"], 7001);
    let revoked = service.about("news", &["session", "revoke", "--output", "json"]).done().json();
    assert_eq!(revoked["state"], "SESSION_STATE_REVOKED");
    let keys = service.get("/keys");
    assert!(!keys.as_array().unwrap().iter().any(|key| key["user"] == 7001), "still authorized at Telegram");
    service.about("news", &["session", "validate"]).failed("SESSION_WRONG_STATE");
    let reset = service.about("news", &["session", "reset", "--output", "json"]).done().json();
    assert_eq!(reset["state"], "SESSION_STATE_ABSENT");
    service.about("news", &["session", "delete"]).done();
    service.about("news", &["session", "status"]).failed("SESSION_NOT_FOUND");
    let events = service.about("news", &["session", "events", "--output", "json"]).done().json();
    let reasons: Vec<_> =
        events.as_array().unwrap().iter().filter_map(|event| event["reason"].as_str()).collect();
    for reason in ["imported", "manual_revoke", "reset", "deleted_by_operator"] {
        assert!(reasons.contains(&reason), "{reason} is missing in {reasons:?}");
    }
    assert!(service.about("sport", &["session", "events"]).done().out.contains("imported"));
}

#[test]
fn a_caller_sees_what_its_token_lets_it_see() {
    let service = Service::start();
    service.import("news", 7003);
    let issue = |tenant: &str| {
        let args = ["token", "issue", "--role", "authenticated", "--tenant", tenant];
        service.run(&args).done().out.trim().to_owned()
    };
    let (own, other) = (issue("acme"), issue("rival"));
    let status = ["session", "status", "--tenant-id", "acme", "--app-id", "news", "--token"];
    let seen = service.run(&[&status[..], &[&own]].concat()).done();
    assert!(seen.err.contains("warning: --token on the command line"), "{seen:?}");
    assert!(!format!("{seen:?}").contains(&own));
    service.run(&[&status[..], &[&other]].concat()).failed("SESSION_NOT_FOUND");
    service.run(&[&status[..], &["nonsense"]].concat()).failed("UNAUTHENTICATED");
    let revoke = ["session", "revoke", "--tenant-id", "acme", "--app-id", "news", "--token", &own];
    service.run(&revoke).failed("PERMISSION_DENIED");
}

#[test]
fn health_is_told_for_people_and_programs() {
    let service = Service::start();
    let health = service.run(&["health", "--output", "json"]).done().json();
    let names: Vec<_> = health["dependencies"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    for name in ["store", "tickets", "telegram"] {
        assert!(names.contains(&&json!(name)), "{names:?}");
    }
    assert!(service.run(&["health"]).done().out.contains("healthy"));
}
