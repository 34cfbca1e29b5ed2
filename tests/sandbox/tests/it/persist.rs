//! The file that carries a sandbox over a restart.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::json;
use usm_sandbox::{Config, Error, Sandbox};

use crate::support::{Rig, error_of, within};

/// A folder of its own per test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("usm-sandbox-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn config(&self) -> Config {
        Config { persist: Some(self.0.join("sandbox.json")), ..Config::default() }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_accounts_and_the_rsa_key_survive_a_restart() {
    let folder = Folder::new("restart");
    let rig = Rig::with(folder.config()).await;
    let fingerprint = rig.sandbox.fingerprint();
    rig.post("/users", json!({"id": 7, "first_name": "Ada", "password": "secret"})).await;
    let key = rig.mint(2, Some(7)).await;
    assert!(rig.client_with(2, &key).me().await.is_ok());
    rig.post("/revoke", json!({"key": rig.mint(2, Some(7)).await.id, "mode": "SESSION_REVOKED"})).await;
    within(rig.sandbox.stop()).await;

    let rig = Rig::with(folder.config()).await;
    assert_eq!(rig.sandbox.fingerprint(), fingerprint);
    assert_eq!(rig.client_with(2, &key).me().await.expect("logged in").first_name.as_deref(), Some("Ada"));
    assert_eq!(rig.get("/users").await[0]["has_password"], true);
    let broken = rig.get("/keys").await;
    let broken = broken.as_array().expect("a list").iter().filter(|key| key["broken"] == "SESSION_REVOKED");
    assert_eq!(broken.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answered_admin_call_is_on_the_disk_and_only_its_owner_reads_it() {
    let folder = Folder::new("sudden");
    let path = folder.0.join("sandbox.json");
    let rig = Rig::with(folder.config()).await;
    let key = rig.mint(2, None).await;
    // As after a sudden death: what the file holds at this moment.
    let copy = Folder::new("sudden-copy");
    std::fs::copy(&path, copy.0.join("sandbox.json")).expect("the file is there");
    assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    let again = Rig::with(copy.config()).await;
    assert_eq!(error_of(again.client_with(2, &key).me().await), "401 AUTH_KEY_UNREGISTERED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_none_of_ours_stops_the_start_and_stays() {
    let folder = Folder::new("foreign");
    let path = folder.0.join("sandbox.json");
    for content in ["", "{}", "not json", r#"{"version":2,"rsa_pem":"","users":[],"keys":[]}"#] {
        std::fs::write(&path, content).expect("written");
        let refused = within(Sandbox::start(folder.config())).await;
        assert!(matches!(refused, Err(Error::Persist(_))), "{content:?}");
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), content);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_configurations_are_refused() {
    for dcs in [vec![], vec![(1, 0), (1, 0)], vec![(0, 0)], vec![(1000, 0)]] {
        let refused = within(Sandbox::start(Config { dcs, ..Config::default() })).await;
        assert!(matches!(refused, Err(Error::Dcs)));
    }
    let rsa_pem = Some("no key".to_owned());
    let refused = within(Sandbox::start(Config { rsa_pem, ..Config::default() })).await;
    assert!(matches!(refused, Err(Error::Key(_))));
    let rig = Rig::start().await;
    let dcs = vec![(1, rig.address(1).port())];
    let refused = within(Sandbox::start(Config { dcs, ..Config::default() })).await;
    assert!(matches!(refused, Err(Error::Listen { .. })));
}
