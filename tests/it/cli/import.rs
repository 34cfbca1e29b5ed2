//! Taking in folders of session files, good and bad.

use std::{collections::BTreeMap, fs, os::unix::fs::symlink, path::Path};

use serde_json::Value;
use usm::domain::material::Material;

use super::program::{Ran, Service, Usm, run_async, write_session};
use crate::formats::python;

/// What a real Telethon does to make a session file of a key.
const TELETHON: &str = "
import sys
sys.path.insert(0, sys.argv[1])
from telethon.crypto import AuthKey
from telethon.sessions import SQLiteSession
session = SQLiteSession(sys.argv[2])
session.set_dc(2, '127.0.0.1', int(sys.argv[3]))
session.auth_key = AuthKey(data=bytes.fromhex(sys.argv[4]))
session.save()
session.close()
";

fn write_with_telethon(path: &Path, material: &Material) {
    let home = material.home().unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let status = std::process::Command::new(python::program())
        .args(["-c", TELETHON])
        .arg(python::telethon("1.45.0"))
        .arg(path)
        .arg(home.address.unwrap().port().to_string())
        .arg(hex::encode(home.auth_key.expose_secret()))
        .status()
        .unwrap();
    assert!(status.success());
}

fn alter(path: &Path, sql: &'static str) {
    run_async(async {
        use sqlx::Connection as _;
        let mut file =
            sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut file).await.unwrap();
        file.close().await.unwrap();
    });
}

fn import(usm: &Usm, folder: &str, more: &[&str]) -> Ran {
    let folder = usm.path(folder);
    usm.run(&[&["import", "--output", "json", "--sessions-dir", folder.to_str().unwrap()], more].concat())
}

/// Outcome, or reason of the refusal, by file.
fn outcomes(report: &Value) -> BTreeMap<String, String> {
    let files = report["files"].as_array().unwrap().iter();
    files
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            let outcome = if line["outcome"] == "refused" { text("reason") } else { text("outcome") };
            (text("file"), outcome)
        })
        .collect()
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(file, outcome)| ((*file).to_owned(), (*outcome).to_owned())).collect()
}

#[test]
fn good_files_go_in_once_and_can_be_lent_when_the_legacy_system_stopped() {
    let service = Service::start();
    let (real, ours) = (service.authorization(4001), service.authorization(4002));
    write_with_telethon(&service.usm.path("in/acme/real.session"), &real);
    write_session(&service.usm.path("in/acme/ours.session"), &ours);
    fs::write(service.usm.path("in/acme/notes.txt"), "no session").unwrap();

    let dry = import(&service.usm, "in", &["--dry-run", "--legacy-stopped"]).done().json();
    let files = [("acme/ours.session", "imported"), ("acme/real.session", "imported")];
    assert_eq!(outcomes(&dry), map(&files), "what would be");
    assert_eq!(dry["dry_run"], true);
    assert_eq!(service.run(&["session", "list", "--output", "json"]).done().json(), serde_json::json!([]));

    let report = service.usm.path("report.json");
    let done =
        import(&service.usm, "in", &["--legacy-stopped", "--report", report.to_str().unwrap()]).done().json();
    assert_eq!(outcomes(&done), map(&files));
    let written: Value = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
    assert_eq!(written, done);
    let text = fs::read_to_string(report.with_extension("txt")).unwrap();
    assert!(text.contains("imported      acme/real.session"), "{text}");

    let again = import(&service.usm, "in", &["--legacy-stopped"]).done().json();
    assert_eq!(outcomes(&again), map(&files.map(|(file, _)| (file, "already_there"))));

    service.about("real", &["session", "validate"]).done();
    let session = service.about("real", &["session", "status", "--output", "json"]).done().json();
    assert_eq!(
        (session["custody"].as_str(), session["telegram_user_id"].as_i64()),
        (Some("SESSION_CUSTODY_SERVICE"), Some(4001))
    );
    let out = service.usm.path("lent.session");
    let args =
        ["lease", "acquire", "--holder", "w", "--format", "telethon-sqlite", "--out", out.to_str().unwrap()];
    service.about("ours", &args).done();
    let lent = run_async(usm::formats::parse(&fs::read(&out).unwrap(), None, &BTreeMap::new())).unwrap();
    assert_eq!(lent.material.home().unwrap().auth_key, ours.home().unwrap().auth_key);
    assert_eq!(service.get("/state")["counters"]["duplicates"], 0);
}

#[test]
fn unless_told_otherwise_the_legacy_system_keeps_the_sessions() {
    let service = Service::start();
    write_session(&service.usm.path("in/acme/news.session"), &service.authorization(4003));
    import(&service.usm, "in", &[]).done();
    let session = service.about("news", &["session", "status", "--output", "json"]).done().json();
    assert_eq!(session["custody"], "SESSION_CUSTODY_LEGACY");
    let ran = service.about("news", &["lease", "acquire", "--holder", "w"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    service.about("news", &["custody", "take"]).done();
    service.about("news", &["lease", "acquire", "--holder", "w", "--wait", "20"]).done();
}

#[test]
fn each_bad_file_is_refused_by_name_and_the_good_ones_go_in() {
    let service = Service::start();
    let path = |name: &str| service.usm.path("in/acme").join(name);
    let secret = hex::encode(service.authorization(4010).home().unwrap().auth_key.expose_secret());
    for (number, name) in
        ["good", "locked", "truncated", "no_key", "key_length", "-odd"].into_iter().enumerate()
    {
        let user = 4010 + i64::try_from(number).unwrap();
        write_session(&path(&format!("{name}.session")), &service.authorization(user));
    }
    fs::write(path("empty.session"), "").unwrap();
    fs::write(path("not_sqlite.session"), "hello, world; I am no session at all").unwrap();
    fs::OpenOptions::new().write(true).open(path("truncated.session")).unwrap().set_len(5000).unwrap();
    alter(&path("no_key.session"), "update sessions set auth_key = null");
    alter(&path("key_length.session"), "update sessions set auth_key = zeroblob(255)");
    write_session(&service.usm.path("outside.session"), &service.authorization(4020));
    symlink(service.usm.path("outside.session"), path("symlink.session")).unwrap();
    symlink(service.usm.path("in/nowhere"), path("dangling.session")).unwrap();
    fs::create_dir(service.usm.path("elsewhere")).unwrap();
    symlink(service.usm.path("elsewhere"), service.usm.path("in/linked")).unwrap();
    write_session(&service.usm.path("in/flat.session"), &service.authorization(4021));
    let _holder = python::Holder::of(&path("locked.session"), "exclusive");

    let expected = map(&[
        ("acme/-odd.session", "name"),
        ("acme/dangling.session", "not_found"),
        ("acme/empty.session", "empty"),
        ("acme/good.session", "imported"),
        ("acme/key_length.session", "key_length"),
        ("acme/locked.session", "locked"),
        ("acme/no_key.session", "no_key"),
        ("acme/not_sqlite.session", "not_sqlite"),
        ("acme/symlink.session", "outside_folder"),
        ("acme/truncated.session", "truncated"),
        ("flat.session", "name"),
        ("linked", "name"),
    ]);
    let dry = import(&service.usm, "in", &["--dry-run"]).failed("11 of 12 files were refused");
    assert_eq!(outcomes(&dry.json()), expected);
    let ran = import(&service.usm, "in", &[]).failed("11 of 12 files were refused");
    assert_eq!(outcomes(&ran.json()), expected);
    let list = service.run(&["session", "list", "--output", "json"]).done().json();
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    assert!(!format!("{dry:?}{ran:?}").contains(&secret[..32]), "a key shows in a report");
    let table = service.run(&["import", "--sessions-dir", service.usm.path("in").to_str().unwrap()]);
    assert!(table.out.contains("1 already_there, 11 refused"), "{table:?}");
}

#[test]
fn a_tenant_named_is_the_only_one_taken_and_owns_what_lies_in_the_open() {
    let service = Service::start();
    for (number, file) in ["acme/a.session", "other/b.session", "flat.session"].into_iter().enumerate() {
        let user = 4030 + i64::try_from(number).unwrap();
        write_session(&service.usm.path("in").join(file), &service.authorization(user));
    }
    let done = import(&service.usm, "in", &["--tenant", "acme"]).done().json();
    assert_eq!(outcomes(&done), map(&[("acme/a.session", "imported"), ("flat.session", "imported")]));
    service.about("flat", &["session", "status"]).done();
}

#[test]
fn another_authorization_under_a_taken_name_is_refused() {
    let service = Service::start();
    service.import("news", 4040);
    write_session(&service.usm.path("in/acme/news.session"), &service.authorization(4041));
    for more in [&["--dry-run"][..], &[]] {
        let ran = import(&service.usm, "in", more).failed("1 of 1 files were refused");
        assert_eq!(outcomes(&ran.json()), map(&[("acme/news.session", "differs")]));
        assert_eq!(ran.json()["files"][0]["reason"], "FINGERPRINT_MISMATCH");
    }
    let done = import(&service.usm, "in", &["--replace", "--legacy-stopped"]).done().json();
    assert_eq!(outcomes(&done), map(&[("acme/news.session", "replaced")]));
    service.about("news", &["session", "validate"]).done();
}

#[test]
fn an_empty_folder_is_told_and_a_missing_one_fails() {
    let service = Service::start();
    fs::create_dir(service.usm.path("in")).unwrap();
    let ran = import(&service.usm, "in", &[]).done();
    assert!(ran.err.contains("no .session files"), "{ran:?}");
    import(&service.usm, "nowhere", &[]).failed("cannot be read");
}

#[test]
fn an_embedded_database_takes_a_folder_in_without_a_server() {
    let service = Service::start();
    write_session(&service.usm.path("in/acme/news.session"), &service.authorization(4050));
    let usm = service.stop().with("USM_TELEGRAM", "sandbox");
    let database = usm.sqlite();
    import(&usm, "in", &["--legacy-stopped", "--database-url", &database]).done();
    let service = Service::of(usm);
    service.about("news", &["session", "validate"]).done();
}
