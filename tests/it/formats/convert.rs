//! From one form into another: what both have a place for arrives, and what has none is told.

use std::{fs, path::Path};

use serde_json::json;
use usm::{
    domain::material::Format,
    formats::{Conversion, Converted, Data, Error, Item, Note, Options},
};

use super::{addresses, full_material, python};

fn convert(path: &Path, to: Format) -> Result<Converted, Error> {
    let root = path.parent().unwrap();
    Conversion { to, from: None, addresses: &addresses(), options: &Options::default(), folder: Some(root) }
        .file(root, path)
}

/// Puts what was made into a file of that name, beside the source.
fn keep(converted: Converted, path: &Path) {
    match converted.data {
        Data::Memory(bytes) => fs::write(path, &*bytes).unwrap(),
        Data::File(file) => {
            file.persist(path).unwrap();
        }
    }
}

#[test]
fn peers_go_from_telethon_to_grammers_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let release = python::telethon("1.45.0");
    let wrote = python::run(
        "telethon_sessions.py",
        &[release.as_os_str(), "write".as_ref(), folder.path().as_os_str()],
    );
    let path = |name: &str| folder.path().join(name);
    let there = convert(&path("written.session"), Format::Grammers).unwrap();
    assert_eq!(there.from, Format::TelethonSqlite);
    assert_eq!(there.notes, [Note::AssumedUser, Note::NotCarried(Item::PeerDetails(1))]);
    keep(there, &path("grammers.session"));

    let found = python::run("grammers_check.py", &[path("grammers.session").as_os_str()]);
    assert_eq!(found["peers"], json!([[42, -9, null], [wrote["user_id"], null, 1]]));

    let back = convert(&path("grammers.session"), Format::TelethonSqlite).unwrap();
    assert_eq!(back.from, Format::Grammers);
    // Telethon has no place for the endpoint's other data centres, and none of them had a key.
    assert_eq!(back.notes, [Note::NotCarried(Item::BotFlag)]);
    keep(back, &path("back.session"));
    let string = convert(&path("back.session"), Format::TelethonString).unwrap();
    let lost = [Item::Peers(1), Item::ChannelStates(1), Item::UserId, Item::UpdateState];
    assert_eq!(string.notes, lost.map(Note::NotCarried));
    let Data::Memory(string) = string.data else { panic!("a string in a file") };
    assert_eq!(fs::read(path("ipv4.txt")).unwrap().trim_ascii(), &**string);
}

#[test]
fn peers_too_many_for_memory_are_carried_through_a_file() {
    let folder = tempfile::tempdir().unwrap();
    python::run("corpus.py", &[folder.path().as_os_str()]);
    let path = |name: &str| folder.path().join(name);
    let known = |name: &str| {
        let string = convert(&path(name), Format::TelethonString).unwrap();
        string.notes.into_iter().find_map(|note| match note {
            Note::NotCarried(Item::Peers(count)) => Some(count),
            _ => None,
        })
    };
    assert_eq!(known("entities_100k.session"), Some(100_000));
    for to in [Format::TelethonSqlite, Format::Grammers] {
        let converted = convert(&path("entities_100k.session"), to).unwrap();
        assert!(matches!(converted.data, Data::File(_)), "{}", to.name());
        assert!(!converted.notes.iter().any(|note| matches!(note, Note::NotCarried(Item::Peers(_)))));
        keep(converted, &path("made.session"));
        assert_eq!(known("made.session"), Some(100_000), "{}", to.name());
    }
}

#[test]
fn a_source_of_another_format_than_the_one_named_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.session");
    let written = usm::formats::write_blocking(&full_material(), Format::Grammers, &addresses()).unwrap();
    fs::write(&path, &*written.data).unwrap();
    let addresses = addresses();
    let conversion = Conversion {
        to: Format::Raw,
        from: Some(Format::TelethonSqlite),
        addresses: &addresses,
        options: &Options::default(),
        folder: None,
    };
    let refused = conversion.file(folder.path(), &path).unwrap_err();
    assert_eq!(refused, Error::OtherFormat(Format::Grammers));
}
