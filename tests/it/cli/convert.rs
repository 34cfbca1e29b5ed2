//! `usm convert`: where sessions go, what is told, and what is never overwritten.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::{Value, json};
use usm::{
    domain::material::{AuthKey, DcKey, Device, Format, Material, UpdateState},
    formats::{self, Addresses},
};

use super::program::{Usm, run_async, write_session};

fn material(seed: u8) -> Material {
    let key = DcKey {
        auth_key: AuthKey::from_slice(&[seed; 256]).unwrap(),
        address: Some("149.154.167.91:443".parse().unwrap()),
    };
    Material {
        home_dc: 4,
        keys: [(4, key)].into(),
        telegram_user_id: Some(7),
        is_bot: None,
        api_id: 0,
        device: Device::default(),
        proxy: None,
        updates: Some(UpdateState { pts: 1, qts: 2, date: 3, seq: 4 }),
        channels: [(5, 6)].into(),
    }
}

fn string(seed: u8) -> String {
    let written = formats::write_blocking(&material(seed), Format::TelethonString, &Addresses::new());
    String::from_utf8(written.unwrap().data.to_vec()).unwrap()
}

#[test]
fn one_file_becomes_a_string_and_a_string_a_file() {
    let usm = Usm::new();
    write_session(&usm.path("in/a.session"), &material(1));
    let ran = usm.run(&["convert", "in/a.session", "--to", "telethon-string"]).done();
    assert_eq!(ran.out, string(1) + "\n");
    assert_eq!(
        ran.err.trim_end(),
        "converted  in/a.session  telethon-sqlite to telethon-string; \
         not carried over: update state of 1 channels; not carried over: user id; not carried over: update state"
    );
    assert!(!ran.err.contains(&string(1)));

    let back =
        usm.run_with_input(&["convert", "-", "--to", "telethon-sqlite", "--out", "b.session"], &ran.out);
    assert_eq!(
        back.done().out,
        "converted  standard input  telethon-string to telethon-sqlite; \
                                 white space around the string was left out\n"
    );
    let made = usm.path("b.session");
    assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o600);
    let parsed = run_async(formats::read_file(&usm.path(""), &made, &Addresses::new())).unwrap().parsed;
    assert_eq!(parsed.material.home(), material(1).home());
}

#[test]
fn nothing_that_is_there_is_replaced_unless_told_and_a_source_never() {
    let usm = Usm::new();
    write_session(&usm.path("a.session"), &material(1));
    fs::write(usm.path("there.txt"), "mine").unwrap();
    let before = fs::read(usm.path("a.session")).unwrap();
    let to = |out: &str, more: &[&str]| {
        let mut args = vec!["convert", "a.session", "--to", "telethon-string", "--out", out];
        args.extend(more);
        usm.run(&args)
    };
    let refused = to("there.txt", &[]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("--force"), "{refused:?}");
    assert_eq!(fs::read(usm.path("there.txt")).unwrap(), b"mine");
    to("there.txt", &["--force"]).done();
    assert_eq!(fs::read(usm.path("there.txt")).unwrap(), string(1).as_bytes());

    std::os::unix::fs::symlink("a.session", usm.path("link.session")).unwrap();
    for out in ["a.session", "./a.session", "link.session"] {
        assert_eq!(to(out, &["--force"]).code, 2, "{out}");
    }
    assert_eq!(fs::read(usm.path("a.session")).unwrap(), before);
    let left: Vec<_> = fs::read_dir(usm.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".tmp")), "{left:?}");
}

#[test]
fn a_folder_keeps_its_shape_and_a_bad_file_hinders_no_other() {
    let usm = Usm::new();
    for (name, seed) in [("acme/a", 1), ("acme/b", 2), ("other/c", 3), ("top", 4)] {
        write_session(&usm.path(&format!("in/{name}.session")), &material(seed));
    }
    fs::write(usm.path("in/acme/bad.session"), "no session at all").unwrap();
    fs::write(usm.path("in/acme/notes.txt"), "not looked at").unwrap();
    let ran = usm.run(&["convert", "in", "--to", "telethon-string", "--out", "out", "--output", "json"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("1 of 5 files were refused"), "{ran:?}");
    let lines: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = lines.iter().filter_map(|line| line["file"].as_str()).collect();
    assert_eq!(
        told,
        ["acme/a.session", "acme/b.session", "acme/bad.session", "other/c.session", "top.session"]
    );
    assert_eq!(lines[2]["reason"], "not_sqlite");
    assert_eq!(lines[5]["counts"], json!({"converted": 4, "with_notes": 4, "refused": 1}));
    for (name, seed) in [("acme/a", 1), ("acme/b", 2), ("other/c", 3), ("top", 4)] {
        assert_eq!(fs::read_to_string(usm.path(&format!("out/{name}.txt"))).unwrap(), string(seed));
    }
    assert!(!usm.path("out/acme/bad.txt").exists());

    // As lines of names and strings; only one tenant's.
    let ran = usm.run(&["convert", "in", "--to", "telethon-string", "--tenant", "other"]).done();
    assert_eq!(ran.out, format!("other/c.session\t{}\n", string(3)));
    // Again: what is there stays, and is told.
    let again = usm.run(&["convert", "in", "--to", "telethon-string", "--out", "out", "--tenant", "other"]);
    assert!(again.code == 1 && again.out.contains("not_written"), "{again:?}");
    assert_eq!(usm.run(&["convert", "in", "--to", "telethon-sqlite", "--out", "in"]).code, 2);
    assert_eq!(usm.run(&["convert", "in", "--to", "telethon-sqlite"]).code, 2);
}

#[test]
fn folders_of_tdesktop_are_converted_both_ways_with_their_passcode() {
    let usm = Usm::new();
    write_session(&usm.path("news.session"), &material(1));
    fs::write(usm.path("passcode"), "open sesame\n").unwrap();
    let given = ["--passcode-file", "passcode"];
    let out = |name: &'static str| ["convert", "news.session", "--to", "tdata", "--out", name];
    usm.run(&[&out("locked")[..], &given[..]].concat()).done();
    usm.run(&out("open.zip")).done();
    let mode = |name: &str| fs::metadata(usm.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("locked"), mode("locked/key_datas"), mode("open.zip")), (0o700, 0o600, 0o600));
    usm.run(&[&out("locked")[..], &["--force"]].concat()).failed("is there already");

    let back = |source: &'static str| ["convert", source, "--to", "telethon-string"];
    let key = |ran: &str| ran.trim().to_owned();
    let locked = usm.run(&back("locked"));
    assert!(locked.code == 1 && locked.err.contains("passcode"), "{locked:?}");
    let opened = usm.run(&[&back("locked")[..], &given[..]].concat()).done();
    // Its own data centre has no address of its own there.
    assert_eq!(key(&opened.out), key(&usm.run(&back("open.zip")).done().out));
    assert!(!opened.err.contains("sesame"));
    // As it lies in TDesktop's own folder.
    fs::create_dir(usm.path("desktop")).unwrap();
    fs::rename(usm.path("locked"), usm.path("desktop/tdata")).unwrap();
    let inside = usm.run(&[&back("desktop")[..], &given[..]].concat()).done();
    assert_eq!(inside.out, opened.out);

    let two = [material(2), Material { telegram_user_id: Some(8), ..material(3) }];
    let made = run_async(formats::write_tdata(&two, None)).unwrap();
    fs::write(usm.path("two.zip"), &*formats::zip_tdata(&made.files).unwrap()).unwrap();
    usm.run(&back("two.zip")).failed("not converted");
    let second = usm.run(&["convert", "two.zip", "--to", "raw", "--account-index", "1"]).done();
    assert_eq!(serde_json::from_str::<Value>(&second.out).unwrap()["user_id"], 8);
}
