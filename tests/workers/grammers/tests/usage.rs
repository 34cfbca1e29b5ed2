//! The program as it is started. That it works is shown by the tests that use it.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::process::{Command, Output};

fn run(token: Option<&str>, arguments: &[&str]) -> Output {
    let mut worker = Command::new(env!("CARGO_BIN_EXE_usm-grammers-worker"));
    worker.env_remove("USM_TOKEN").args(["--tenant-id", "acme", "--app-id", "news"]).args(arguments);
    token.map(|token| worker.env("USM_TOKEN", token));
    worker.output().unwrap()
}

#[test]
fn without_a_token_nothing_begins() {
    let ended = run(None, &[]);
    assert_eq!((ended.status.code(), ended.stdout.as_slice()), (Some(1), &b""[..]));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("USM_TOKEN"));
}

#[test]
fn a_flag_that_it_does_not_know_is_wrong_usage_and_no_message_shows_the_token() {
    for wrong in ["--break=everything", "--ttl=soon", "--token=open-sesame"] {
        let ended = run(Some("hush-hush"), &[wrong]);
        assert_eq!(ended.status.code(), Some(2), "{wrong}");
        assert!(!String::from_utf8_lossy(&ended.stderr).contains("hush-hush"));
    }
}
