//! Where sessions come from, and everything that can be wrong with them, by name.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, symlink},
    },
};

use serde_json::{Value, json};
use usm::{
    domain::{
        material::{Format, Material},
        secret::Secret,
    },
    formats::{self, Addresses},
};

use super::program::{Forge, Ran, Service, run_async, write_session};

/// Outcome, or reason of a refusal, by source.
fn outcomes(ran: &Ran) -> BTreeMap<String, String> {
    let text = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    let report = ran.json();
    let lines = report["files"].as_array().unwrap().iter();
    lines
        .map(|line| {
            let by = if line["outcome"] == "refused" { "reason" } else { "outcome" };
            (text(line, "file"), text(line, by))
        })
        .collect()
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(file, outcome)| ((*file).to_owned(), (*outcome).to_owned())).collect()
}

fn import(service: &Service, more: &[&str]) -> Ran {
    let folder = service.usm.path("in");
    let args = ["import", "--output", "json", "--sessions-dir", folder.to_str().unwrap()];
    service.run(&[&args[..], more].concat())
}

fn string(material: &Material) -> String {
    let written = run_async(formats::write(material, Format::TelethonString, &Addresses::new())).unwrap();
    String::from_utf8(written.data.to_vec()).unwrap()
}

fn altered(service: &Service, name: &str, user: i64, sql: &'static str) {
    let path = service.usm.path("in/acme").join(name);
    write_session(&path, &service.authorization(user));
    run_async(async {
        use sqlx::Connection as _;
        let url = format!("sqlite://{}", path.display());
        let mut file = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut file).await.unwrap();
        file.close().await.unwrap();
    });
}

#[test]
fn strings_come_from_a_file_or_standard_input_and_never_show() {
    let service = Service::start();
    let strings: Vec<_> = (0..4).map(|n| string(&service.authorization(5000 + n))).collect();
    let list = format!(
        "# what the old system had\n\nacme/news {}\nacme/bot\t{}\r\nloose {}\nacme/../up {}\nacme/none\nacme/bad 1abc\n{}\n",
        strings[0],
        strings[1],
        strings[2],
        strings[3],
        "x".repeat(40_000),
    );
    let path = service.usm.path("strings.txt");
    fs::write(&path, &list).unwrap();
    let from_file = ["import", "--output", "json", "--strings", path.to_str().unwrap()];
    let expected = [
        ("line 3", "imported"),
        ("line 4", "imported"),
        ("line 5", "name"),
        ("line 6", "name"),
        ("line 7", "line"),
        ("line 8", "not_sqlite"),
        ("line 9", "line"),
    ];
    let dry = service.run(&[&from_file[..], &["--dry-run"]].concat()).failed("5 of 7 files were refused");
    assert_eq!(outcomes(&dry), map(&expected));
    let ran = service.run(&from_file).failed("5 of 7 files were refused");
    assert_eq!(outcomes(&ran), map(&expected));
    let args = ["import", "--output", "json", "--strings", "-", "--tenant", "acme"];
    let piped =
        service.usm.run_with_input(&args, &format!("loose {}\nglobex/a {}\n", strings[2], strings[3]));
    assert_eq!(outcomes(&piped.done()), map(&[("line 1", "imported")]), "the named tenant's alone");
    for text in &strings {
        assert!(!format!("{dry:?}{ran:?}").contains(&text[..40]), "a string shows");
    }
    let session = service.about("loose", &["session", "status", "--output", "json"]).done().json();
    assert_eq!(session["custody"], "SESSION_CUSTODY_LEGACY");
}

#[test]
fn each_trap_has_its_name_and_the_rest_of_the_run_is_unaffected() {
    let service = Service::start();
    let path = |name: &str| service.usm.path("in/acme").join(name);
    write_session(&path("good.session"), &service.authorization(5100));
    altered(&service, "schema.session", 5101, "drop table sessions; drop table version");
    altered(&service, "version.session", 5102, "update version set version = 99");
    altered(
        &service,
        "million.session",
        5103,
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000000) \
         insert into entities (id, hash) select i, i * 7 from n",
    );
    fs::create_dir_all(service.usm.path("in/up")).unwrap();
    write_session(&service.usm.path("elsewhere/a.session"), &service.authorization(5104));
    symlink("../../elsewhere/a.session", service.usm.path("in/up/dots.session")).unwrap();
    symlink("loop.session", service.usm.path("in/up/loop.session")).unwrap();
    fs::create_dir(path("folder.session")).unwrap();
    let odd = service.usm.path("in/acme").join(OsStr::from_bytes(b"odd\xff.session"));
    fs::copy(path("good.session"), &odd).unwrap();
    fs::create_dir_all(service.usm.path("in").join(OsStr::from_bytes(b"ten\xff"))).unwrap();
    let foreign = service.usm.path("in").join(OsStr::from_bytes(b"ten\xff")).join("a.session");
    fs::copy(path("good.session"), &foreign).unwrap();
    fs::create_dir_all(service.usm.path("in/acme/desk/tdata")).unwrap();
    fs::write(service.usm.path("in/acme/desk/tdata/key_datas"), b"TDF$nothing").unwrap();
    let mut expected = map(&[
        ("acme/good.session", "imported"),
        ("acme/million.session", "imported"),
        ("acme/odd\u{fffd}.session", "name"),
        ("acme/schema.session", "unknown_schema"),
        ("acme/version.session", "unknown_version"),
        ("ten\u{fffd}/a.session", "name"),
        ("up/dots.session", "outside_folder"),
        ("up/loop.session", "outside_folder"),
    ]);
    // Nobody is kept from anything who may do everything.
    if !nix::unistd::Uid::effective().is_root() {
        write_session(&path("mode.session"), &service.authorization(5105));
        fs::set_permissions(path("mode.session"), fs::Permissions::from_mode(0o000)).unwrap();
        expected.insert("acme/mode.session".to_owned(), "unreadable".to_owned());
    }
    let dry = import(&service, &["--dry-run"]);
    let mut found = outcomes(&dry);
    let tdata = found.remove("acme/desk/tdata").expect("a folder of TDesktop is found");
    assert_ne!(tdata, "imported");
    assert_eq!((dry.code, &found), (1, &expected));
    let ran = import(&service, &[]);
    let mut found = outcomes(&ran);
    found.remove("acme/desk/tdata");
    assert_eq!((ran.code, found), (1, expected));
    let list = service.run(&["session", "list", "--output", "json"]).done().json();
    assert_eq!(list.as_array().unwrap().len(), 2, "{list}");
}

#[test]
fn folders_of_tdesktop_are_taken_with_their_passcode_one_account_of_each() {
    let service = Service::start();
    let passcode = Secret::new("open sesame");
    let somebody = |user: i64| Material { telegram_user_id: Some(user), ..service.authorization(user) };
    let one = [somebody(5400)];
    let two = [somebody(5401), somebody(5402)];
    for (folder, accounts, passcode) in [
        ("acme/open/tdata", &one[..], None),
        ("acme/locked", &two[..1], Some(&passcode)),
        ("acme/both/tdata", &two[..], None),
    ] {
        let made = run_async(formats::write_tdata(accounts, passcode)).unwrap();
        for (name, content) in &made.files {
            let path = service.usm.path("in").join(folder).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content.as_slice()).unwrap();
        }
    }
    let file = service.usm.path("passcode");
    fs::write(&file, "open sesame\n").unwrap();
    let ran = import(&service, &["--passcode-file", file.to_str().unwrap()]);
    let found = outcomes(&ran);
    assert_eq!(found["acme/open/tdata"], "imported", "{ran:?}");
    assert_eq!(found["acme/locked"], "imported", "{ran:?}");
    assert_eq!((ran.code, found["acme/both/tdata"].as_str()), (1, "several_accounts"), "{ran:?}");
    assert!(!format!("{ran:?}").contains("sesame"));
    let ran = import(&service, &["--account-index", "1", "--tenant", "acme"]);
    assert_eq!(outcomes(&ran)["acme/both/tdata"], "imported", "{ran:?}");
    let session = service.about("both", &["session", "status", "--output", "json"]).done().json();
    assert_eq!(session["telegram_user_id"], 5402);
}

#[test]
fn sources_that_contradict_each_other_are_told_alike_in_a_dry_run() {
    let service = Service::start();
    let forge = Forge::new();
    let path = |name: &str| service.usm.path("in").join(name);
    for (name, number) in [
        ("acme/a.session", 1),
        ("acme/copy.session", 1),
        ("acme/x.SESSION", 2),
        ("acme/x.session", 3),
        ("acme/X.session", 4),
        ("globex/copy.session", 4),
    ] {
        forge.write(&path(name), number);
    }
    let expected = map(&[
        ("acme/X.session", "imported"),
        ("acme/a.session", "imported"),
        ("acme/copy.session", "same_authorization"),
        ("acme/x.SESSION", "imported"),
        ("acme/x.session", "two_files"),
        ("globex/copy.session", "same_authorization"),
    ]);
    for more in [&["--dry-run"][..], &[]] {
        let ran = import(&service, more).failed("3 of 6 files were refused");
        assert_eq!(outcomes(&ran), expected);
        let text = ran.out;
        assert!(text.contains("holds the same authorization: acme/a.session"), "{text}");
        assert!(text.contains("for the same session: acme/x.SESSION"), "{text}");
    }
    // Beside what is there from before, the other name is told to those who may know it.
    forge.write(&path("acme/later.session"), 4);
    fs::remove_file(path("acme/X.session")).unwrap();
    fs::remove_file(path("globex/copy.session")).unwrap();
    let ran = import(&service, &[]);
    assert_eq!(outcomes(&ran)["acme/later.session"], "SESSION_ALREADY_EXISTS");
    assert!(ran.out.contains("acme/X"), "{ran:?}");
}

#[test]
fn a_report_is_private_whole_and_the_same_as_what_is_printed() {
    let service = Service::start();
    Forge::new().write(&service.usm.path("in/acme/a.session"), 1);
    let report = service.usm.path("report.json");
    fs::write(&report, "from before").unwrap();
    fs::set_permissions(&report, fs::Permissions::from_mode(0o644)).unwrap();
    let ran = import(&service, &["--dry-run", "--report", report.to_str().unwrap()]).done();
    let written: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    assert_eq!(written, ran.json());
    assert_eq!(written["dry_run"], true);
    assert_eq!(written["counts"], json!({"imported": 1}));
    let text = report.with_extension("txt");
    assert!(fs::read_to_string(&text).unwrap().contains("1 imported (dry run: nothing was written)"));
    for path in [report, text] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{path:?}");
    }
    let nowhere = service.usm.path("nowhere/report.json");
    import(&service, &["--report", nowhere.to_str().unwrap()]).failed("cannot be written");
    let list = service.run(&["session", "list", "--output", "json"]).done().json();
    assert_eq!(list, json!([]), "nothing is imported whose report cannot be written");
}

#[test]
fn each_is_asked_about_before_it_is_taken_if_the_legacy_system_stopped() {
    let service = Service::start();
    write_session(&service.usm.path("in/acme/alive.session"), &service.authorization(5200));
    Forge::new().write(&service.usm.path("in/acme/unknown.session"), 9);
    import(&service, &["--validate"]).misused("--legacy-stopped");
    let ran = import(&service, &["--validate", "--legacy-stopped"]).failed("1 of 2 files were refused");
    let found = outcomes(&ran);
    assert_eq!(found["acme/alive.session"], "imported");
    assert_eq!(found["acme/unknown.session"], "SESSION_UNAUTHORIZED_BY_TELEGRAM");
    let session = service.about("alive", &["session", "status", "--output", "json"]).done().json();
    assert_eq!(session["telegram_user_id"], 5200);
    assert!(session["last_validated_time"].is_string(), "{session}");
}

#[test]
fn accounts_are_logged_in_anew_with_passwords_from_a_list() {
    let service = Service::start();
    for (app, user) in [("plain", 5300), ("locked", 5301), ("wrong", 5302)] {
        write_session(
            &service.usm.path("in/acme").join(format!("{app}.session")),
            &service.authorization(user),
        );
    }
    for user in [5301, 5302] {
        service.post("/user_state", &json!({"user_id": user, "password": "correct horse"}));
    }
    let list = service.usm.path("2fa.txt");
    fs::write(&list, "# two-step\nacme/locked correct horse\nacme/wrong\tbattery staple\n").unwrap();
    import(&service, &["--mint"]).misused("--legacy-paused");
    let more = ["--mint", "--legacy-paused", "--passwords", list.to_str().unwrap()];
    let dry = import(&service, &[&more[..], &["--dry-run"]].concat()).done();
    assert!(outcomes(&dry).values().all(|outcome| outcome == "minted"), "{dry:?}");
    let ran = import(&service, &more).failed("1 of 3 files were refused");
    let expected = map(&[
        ("acme/locked.session", "minted"),
        ("acme/plain.session", "minted"),
        ("acme/wrong.session", "PASSWORD_INVALID"),
    ]);
    assert_eq!(outcomes(&ran), expected);
    assert!(!format!("{ran:?}").contains("horse"));
    service.about("locked", &["session", "validate"]).done();
    let keys = service.get("/keys");
    let keys = keys.as_array().cloned().or_else(|| keys["keys"].as_array().cloned()).unwrap();
    assert_eq!(keys.iter().filter(|key| key["user"].is_number()).count(), 5, "three, and two new");

    // Again, with what was missing.
    fs::write(&list, "acme/wrong correct horse\n").unwrap();
    let again = import(&service, &more).done();
    let expected = map(&[
        ("acme/locked.session", "already_there"),
        ("acme/plain.session", "already_there"),
        ("acme/wrong.session", "minted"),
    ]);
    assert_eq!(outcomes(&again), expected);
    fs::write(&list, "acme/wrong\n").unwrap();
    import(&service, &more).misused("line 1 of");
}

#[test]
fn an_interrupted_import_finishes_what_is_under_way_and_says_how_to_go_on() {
    let service = Service::start();
    let forge = Forge::new();
    for number in 0..2_000 {
        forge.write(&service.usm.path("in/acme").join(format!("bot-{number}.session")), number);
    }
    let folder = service.usm.path("in");
    let report = service.usm.path("report.json");
    let mut running = service.usm.start(&[
        "import",
        "--sessions-dir",
        folder.to_str().unwrap(),
        "--report",
        report.to_str().unwrap(),
    ]);
    running.lines_until("imported");
    let ran = running.interrupt().failed("run it again to go on");
    assert!(ran.out.contains("interrupted: stopped"), "{ran:?}");
    let written: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    let told = written["files"].as_array().unwrap().len();
    let list = service.run(&["session", "list", "--output", "json"]).done().json();
    assert_eq!(list.as_array().unwrap().len(), told, "what is told is what is there");
    let done = import(&service, &[]).done().json();
    assert_eq!(done["counts"]["already_there"], told);
}
