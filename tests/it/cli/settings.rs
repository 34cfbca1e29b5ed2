//! Settings, keys and tokens: nothing here needs a server.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::program::Usm;

const SECRET: &str = "hunter2-hunter2-hunter2-hunter2-hunter2";

#[test]
fn every_mistake_is_told_at_once_by_name_and_without_its_secret() {
    let usm = Usm::new()
        .with("DATABASE_URL", "mysql://usm:hunter2@db/usm")
        .with("SESSION_LOCK_TTL", "5")
        .with("SUPABASE_JWT_SECRET", "hunter2")
        .with("USM_LISTENN", "127.0.0.1:1")
        .with("USM_TELEGRAM", "/nowhere.toml");
    for command in
        [&["config", "check"][..], &["config", "print"], &["serve"], &["token", "issue", "--role", "anon"]]
    {
        let ran = usm.run(command).misused("5 of the settings cannot be used");
        for name in ["DATABASE_URL", "SESSION_LOCK_TTL", "SUPABASE_JWT_SECRET", "USM_LISTENN", "USM_TELEGRAM"]
        {
            assert!(ran.err.contains(name), "{name} is missing in {ran:?}");
        }
        assert!(!ran.err.contains("hunter2") && ran.out.is_empty(), "{ran:?}");
    }
    assert!(!usm.path("data").exists(), "a refused start made a folder");
}

#[test]
fn settings_come_from_flags_environment_and_file_and_are_shown_without_secrets() {
    let usm = Usm::new();
    let file = usm.path("usm.toml");
    fs::write(&file, "[leases]\nttl = 50\n[listen]\nmetrics = \"off\"\n").unwrap();
    let usm = usm
        .with("USM_CONFIG", file.display().to_string())
        .with("SUPABASE_JWT_SECRET", SECRET)
        .with("DATABASE_URL", "postgres://usm:hunter2@db:5432/usm")
        .with("USM_ENCRYPTION_KEYS", "/etc/usm/keys");
    usm.run(&["config", "check"]).done();
    let args = [
        "config",
        "print",
        "--output",
        "json",
        "--qr-ticket-ttl",
        "300",
        "--redis-url",
        "redis://:hunter2@cache",
    ];
    let ran = usm.run(&args).done();
    assert!(ran.err.contains("--redis-url on the command line"), "{ran:?}");
    let shown = ran.json();
    let of = |name: &str| (shown[name]["value"].as_str().unwrap(), shown[name]["origin"].as_str().unwrap());
    assert_eq!(of("SESSION_LOCK_TTL"), ("50", "file"));
    assert_eq!(of("USM_METRICS_LISTEN"), ("off", "file"));
    assert_eq!(of("QR_TICKET_TTL"), ("300", "flag"));
    assert_eq!(of("SUPABASE_JWT_SECRET"), ("(secret)", "environment"));
    assert_eq!(of("DATABASE_URL"), ("postgres://usm:***@db:5432/usm", "environment"));
    let table = usm.run(&["config", "print"]).done();
    assert!(!format!("{ran:?}{table:?}").contains("hunter2"));
}

#[test]
fn a_config_file_that_is_missing_or_broken_is_told() {
    let usm = Usm::new();
    usm.run(&["config", "check", "--config", "/nowhere.toml"]).misused("/nowhere.toml");
    fs::write(usm.path("broken.toml"), "supabase_jwt_secret = \"hunter2\nx").unwrap();
    let ran = usm.run(&["config", "check", "--config", "broken.toml"]).misused("USM_CONFIG");
    assert!(!ran.err.contains("hunter2"), "{ran:?}");
}

#[test]
fn keys_are_made_once_and_added_to() {
    let usm = Usm::new();
    let ring = usm.path("keys.json").display().to_string();
    let usm = usm.with("USM_ENCRYPTION_KEYS", ring.clone());
    usm.run(&["keys", "list"]).failed("usm keys generate");
    let made = usm.run(&["keys", "generate", "--output", "json"]).done().json();
    assert_eq!(made.as_array().unwrap().len(), 1);
    assert_eq!(fs::metadata(&ring).unwrap().permissions().mode() & 0o777, 0o600);
    let two = usm.run(&["keys", "generate", "--output", "json"]).done().json();
    let listed = usm.run(&["keys", "list", "--output", "json"]).done().json();
    assert_eq!(two, listed);
    let standings: Vec<_> =
        listed.as_array().unwrap().iter().map(|key| key["standing"].as_str().unwrap()).collect();
    assert_eq!(standings.iter().filter(|standing| **standing == "current").count(), 1, "{standings:?}");
    assert_eq!(standings.len(), 2);
    assert!(listed.as_array().unwrap().iter().any(|key| key["id"] == made[0]["id"]));
    let table = usm.run(&["keys", "list"]).done().out;
    let file = fs::read_to_string(&ring).unwrap();
    let document: serde_json::Value = serde_json::from_str(&file).unwrap();
    for secret in secrets(&document) {
        assert!(!table.contains(&secret), "a key itself is shown");
    }
}

/// Texts of the file that are long enough to be a key.
fn secrets(value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::String(text) if text.len() >= 40 => vec![text.clone()],
        serde_json::Value::Array(all) => all.iter().flat_map(secrets).collect(),
        serde_json::Value::Object(all) => all.values().flat_map(secrets).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn tokens_are_made_for_each_role() {
    let usm = Usm::new();
    let token = usm.run(&["token", "issue", "--role", "service_role"]).done().out;
    assert_eq!(token.trim().split('.').count(), 3, "{token}");
    let args =
        ["token", "issue", "--role", "authenticated", "--tenant", "acme", "--scope", "lease", "--ttl", "12h"];
    let made = usm.run(&[&args[..], &["--output", "json"]].concat()).done().json();
    assert_eq!(made["expires_in_seconds"], 12 * 3600);
    usm.run(&["token", "issue", "--role", "king"]).misused("--role must be");
    usm.run(&["token", "issue", "--role", "authenticated"]).misused("needs a tenant");
    usm.run(&["token", "issue", "--role", "authenticated", "--tenant", ".x"]).misused("--tenant");
    usm.run(&["token", "issue", "--role", "service_role", "--scope", "all"])
        .misused("no scope is called all");
    usm.run(&["token", "issue", "--role", "service_role", "--ttl", "0"]).misused("--ttl");
    let secret = fs::metadata(usm.path("data/jwt.secret")).unwrap();
    assert_eq!(secret.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_fingerprint_is_that_of_the_legacy_system() {
    let usm = Usm::new();
    fs::write(usm.path("some.session"), "not much").unwrap();
    let plain = usm.run(&["fingerprint", "some.session"]).done().out;
    let json = usm.run(&["fingerprint", "some.session", "--output", "json"]).done().json();
    assert_eq!(json["fingerprint"].as_str().unwrap(), plain.trim());
    usm.run(&["fingerprint", "none.session"]).failed("none.session");
    usm.run(&["fingerprint", "/dev/zero"]).failed("not a regular file");
}
