//! `usm export`, `usm custody off` and `on`, and what is taken back from files.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use usm::{
    domain::material::{Format, Material},
    formats::{self, Addresses},
};

use super::program::{Ran, Service, Usm, write_session};

fn outcomes(ran: &Ran) -> Vec<(String, String)> {
    let sessions = ran.json()["sessions"].as_array().cloned().expect("a list");
    let text = |session: &Value, name: &str| session[name].as_str().unwrap_or_default().to_owned();
    sessions.iter().map(|session| (text(session, "app_id"), text(session, "outcome"))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(app, outcome)| ((*app).to_owned(), (*outcome).to_owned())).collect()
}

fn file(folder: &Path, app: &str) -> PathBuf {
    folder.join("acme").join(format!("{app}.session"))
}

#[test]
fn sessions_are_written_once_and_over_nobody_elses_file() {
    let service = Service::start();
    service.import("news", 7_001);
    service.import("talk", 7_002);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let export = ["export", "--sessions-dir", path, "--output", "json"];
    let first = service.run(&export).done();
    assert_eq!(outcomes(&first), pairs(&[("news", "written"), ("talk", "written")]));
    assert!(first.out.contains("nobody may connect"), "custody is SERVICE: {}", first.out);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder.path().join("acme")), mode(&file(folder.path(), "news"))), (0o700, 0o600));

    let again = service.run(&export).done();
    assert_eq!(outcomes(&again), pairs(&[("news", "unchanged"), ("talk", "unchanged")]));
    let other = service.authorization(7_003);
    write_session(&file(folder.path(), "talk"), &other);
    let foreign = fs::read(file(folder.path(), "talk")).unwrap();
    let refused = service.run(&export);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert_eq!(outcomes(&refused), pairs(&[("news", "unchanged"), ("talk", "refused")]));
    assert!(refused.out.contains("exists_other"), "{}", refused.out);
    assert_eq!(fs::read(file(folder.path(), "talk")).unwrap(), foreign, "left as it was");
    let forced =
        service.run(&[&export[..], &["--force", "--tenant", "acme", "--app-id", "talk"]].concat()).done();
    assert_eq!(outcomes(&forced), pairs(&[("talk", "written")]));
    let table = service.run(&["export", "--sessions-dir", path]).done().out;
    assert!(table.contains("2 unchanged"), "{table}");

    let strings = tempfile::tempdir().unwrap();
    let (open, path) = (service.with("SESSION_FILE_PERMISSIONS", "416"), strings.path().to_str().unwrap());
    let args = ["export", "--sessions-dir", path, "--format", "telethon-string", "--tenant-id", "acme"];
    open.run(&args).done();
    assert!(fs::read_to_string(file(strings.path(), "news")).unwrap().starts_with('1'));
    assert_eq!(mode(&file(strings.path(), "news")), 0o640);
}

#[test]
fn what_cannot_be_written_is_misuse_or_told_by_name() {
    let usm = Usm::new();
    usm.run(&["export", "--sessions-dir", "/", "--format", "nonsense"]).misused("must be one of");
    usm.run(&["export", "--sessions-dir", "/nowhere-at-all"]).failed("is no folder");
    let service = Service::start();
    service.import("news", 7_011);
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("acme")).unwrap();
    let path = folder.path().to_str().unwrap();
    let refused = service.run(&["export", "--sessions-dir", path, "--force", "--output", "json"]);
    assert_eq!((refused.code, refused.json()["sessions"][0]["reason"].clone()), (1, json!("is_link")));
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);

    let lease =
        service.about("news", &["lease", "acquire", "--holder", "w", "--output", "json"]).done().json();
    assert!(lease["lease"]["lease_id"].is_string() || lease["lease_id"].is_string(), "{lease}");
    fs::remove_file(folder.path().join("acme")).unwrap();
    let refused = service.run(&["export", "--sessions-dir", path, "--output", "json"]);
    assert_eq!((refused.code, refused.json()["sessions"][0]["reason"].clone()), (1, json!("SESSION_LEASED")));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing of it was written");
}

#[test]
fn sessions_go_to_the_legacy_system_and_come_back_with_what_it_did() {
    let service = Service::start();
    let (same, other) = (service.import("same", 7_021), service.import("other", 7_022));
    service.import("untouched", 7_023);
    let off = service.run(&["custody", "off", "--wait", "20s", "--output", "json"]).done().json();
    assert_eq!((&off["grants_enabled"], &off["waiting"]), (&json!(false), &json!(0)));
    let health = service.run(&["health"]).done().out;
    assert!(health.contains("grants") && health.contains("disabled"), "{health}");
    service.about("same", &["custody", "take"]).failed("FEATURE_DISABLED");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let written = service.run(&["export", "--sessions-dir", path, "--output", "json"]).done();
    assert!(!written.out.contains("nobody may connect"), "the legacy system may use them: {}", written.out);

    // The legacy system works with one, and logs in anew with another.
    let mut used = same;
    used.updates = Some(usm::domain::material::UpdateState { pts: 5, qts: 1, date: 1_700_000_000, seq: 1 });
    write_session(&file(folder.path(), "same"), &used);
    drop(other);
    write_session(&file(folder.path(), "other"), &service.authorization(7_022));

    service.run(&["custody", "on"]).done();
    let take = ["custody", "take", "--all", "--sessions-dir", path, "--output", "json"];
    let taken = service.run(&take);
    assert_eq!(taken.code, 1, "{taken:?}");
    // Written within the second of its import the untouched file is the recorded one, else one of the same authorization.
    let told = outcomes(&taken);
    assert_eq!(told[..2], pairs(&[("other", "refused"), ("same", "taken_changed")]));
    assert!(told[2].0 == "untouched" && told[2].1.starts_with("taken"), "{told:?}");
    let events = service.about("other", &["session", "events", "--output", "json"]).done().out;
    assert!(events.contains("FINGERPRINT_MISMATCH"), "{events}");
    let replaced = service.run(&[&take[..], &["--replace"]].concat()).done();
    assert_eq!(outcomes(&replaced), pairs(&[("other", "replaced")]));
    let list = service.run(&["session", "list", "--output", "json"]).done().out;
    assert!(!list.contains("SESSION_CUSTODY_LEGACY"), "{list}");
}

#[test]
fn copies_in_a_folder_are_found_before_an_import() {
    let service = Service::start();
    let (one, two) = (service.authorization(7_031), service.authorization(7_032));
    let folder = tempfile::tempdir().unwrap();
    for (app, material) in [("a", &one), ("b", &two), ("c", &one)] {
        write_session(&file(folder.path(), app), material);
    }
    fs::write(file(folder.path(), "d"), "").unwrap();
    let path = folder.path().to_str().unwrap();
    let found = service.run(&["fingerprint", "--dir", path, "--output", "json"]);
    assert_eq!(found.code, 1, "{found:?}");
    let told = found.json();
    assert_eq!(told["copies"], json!([["acme/a.session", "acme/c.session"]]));
    assert_eq!((&told["files"], &told["unread"]), (&json!(4), &json!({"acme/d.session": "empty"})));
    fs::remove_file(file(folder.path(), "c")).unwrap();
    service.run(&["fingerprint", "--dir", path]).done();
    service.run(&["fingerprint"]).misused("<FILE>");
}

#[test]
fn folders_of_tdesktop_are_locked_with_the_passcode() {
    let service = Service::start();
    // The form needs to know whose account it is.
    let known = Material { telegram_user_id: Some(7_021), ..service.authorization(7_021) };
    let raw = formats::write_blocking(&known, Format::Raw, &Addresses::new()).unwrap();
    let line = format!("acme/news {}", String::from_utf8_lossy(&raw.data));
    fs::write(service.usm.path("list"), line.replace('\n', "")).unwrap();
    service.run(&["import", "--strings", service.usm.path("list").to_str().unwrap()]).done();
    let folder = tempfile::tempdir().unwrap();
    let (path, passcode) = (folder.path().to_str().unwrap(), folder.path().join("passcode"));
    fs::write(&passcode, "open sesame\n").unwrap();
    let given = ["--passcode-file", passcode.to_str().unwrap()];
    let export = ["export", "--sessions-dir", path, "--format", "tdata", "--output", "json"];
    let written = service.run(&[&export[..], &given[..]].concat()).done();
    assert_eq!(outcomes(&written), pairs(&[("news", "written")]));
    assert!(!written.out.contains("open sesame") && !written.err.contains("open sesame"));
    let archive = file(folder.path(), "news");
    // Whatever it is called.
    let convert = ["convert", archive.to_str().unwrap(), "--to", "telethon-string"];
    let refused = Usm::new().run(&convert);
    assert!(refused.code == 1 && refused.err.contains("passcode"), "{refused:?}");
    Usm::new().run(&[&convert[..], &given[..]].concat()).done();
    // Where nothing can be locked the variable of another command does no harm.
    let open = service.with("USM_PASSCODE", "something else");
    let strings = tempfile::tempdir().unwrap();
    open.run(&["export", "--sessions-dir", strings.path().to_str().unwrap(), "--format", "telethon-string"])
        .done();
}
