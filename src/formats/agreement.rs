//! What is read without SQLite is what SQLite reads: in whole files of every shape, and in damaged ones.

use proptest::{collection::vec, prelude::*};

use super::{
    Addresses, Error, Parsed, builder::Builder, builder::Value, detect, parse_database, sqlite::Database,
    write_blocking,
};
use crate::domain::material::{AuthKey, DcKey, Device, Format, Material, UpdateState};

const TELETHON: &str = "
    create table version (version integer primary key);
    create table sessions (dc_id integer primary key, server_address text, port integer, auth_key blob,
        takeout_id integer, tmp_auth_key blob);
    create table entities (id integer primary key, hash integer not null, username text, phone integer, name text,
        date integer);
    create table sent_files (md5_digest blob, file_size integer, type integer, id integer, hash integer,
        primary key(md5_digest, file_size, type));
    create table update_state (id integer primary key, pts integer, qts integer, date integer, seq integer);
    insert into version values (8);
    insert into update_state values (0, 1, 2, 1700000000.5, 4), (77, 5, 0, 1700000000.25, 0);
    insert into sent_files values (x'00', 1, 0, 5, 6);";

fn material() -> Material {
    let key = DcKey {
        auth_key: AuthKey::from_slice(&[7; 256]).expect("a key"),
        address: "149.154.167.51:443".parse().ok(),
    };
    Material {
        telegram_user_id: Some(1234),
        is_bot: Some(true),
        updates: Some(UpdateState { pts: 1, qts: -2, date: i32::MAX, seq: i32::MIN }),
        ..super::key::material(2, key.auth_key.clone(), key.address)
    }
}

/// A Telethon file with so many peers, in pages of such a size.
fn telethon(page_size: u32, peers: i64) -> Vec<u8> {
    let page_size: &'static str = match page_size {
        512 => "pragma page_size = 512",
        1024 => "pragma page_size = 1024",
        65536 => "pragma page_size = 65536",
        _ => "pragma page_size = 4096",
    };
    let mut file = Builder::start(None, page_size).expect("a database");
    file.run(TELETHON).expect("a schema");
    let key = [9; 256];
    let session = vec![
        Value::Integer(2),
        Value::Text("149.154.167.51".to_owned()),
        Value::Integer(443),
        Value::Blob(&key),
    ];
    file.insert("insert into sessions values (?, ?, ?, ?, 12, x'01')", session).expect("a session");
    for n in 0..peers {
        let values =
            vec![Value::Integer(n * 1_000_003), Value::Integer(i64::MAX - n), Value::Text("n".repeat(40))];
        file.insert("insert into entities (id, hash, name) values (?, ?, ?)", values).expect("a peer");
    }
    file.finish().expect("the bytes").to_vec()
}

fn both(bytes: &[u8]) -> Option<[Result<Parsed, Error>; 2]> {
    let mut notes = Vec::new();
    detect::content(bytes, &mut notes).ok()?;
    let mut plain = Database::of_bytes(bytes, &mut notes).ok()?;
    let addresses = Addresses::new();
    let read = parse_database(&mut plain, &addresses);
    if !plain.is_read_by_ourselves() {
        return None;
    }
    Some([read, Database::in_sqlite(bytes).and_then(|mut asked| parse_database(&mut asked, &addresses))])
}

fn assert_same(ours: &Parsed, theirs: &Parsed) {
    assert_eq!((&ours.material, ours.format, &ours.notes), (&theirs.material, theirs.format, &theirs.notes));
}

#[test]
fn whole_files_are_read_without_sqlite_and_alike() {
    let written = [Format::TelethonSqlite, Format::Grammers]
        .map(|format| write_blocking(&material(), format, &Addresses::new()).expect("written").data.to_vec());
    let sizes = [512, 1024, 4096, 65536];
    let made = sizes.into_iter().flat_map(|size| [0, 1, 30, 3000].map(|peers| telethon(size, peers)));
    for bytes in made.chain([written[0].clone()]) {
        let [ours, theirs] = both(&bytes).expect("plain enough");
        assert_same(&ours.expect("read"), &theirs.expect("read"));
    }
    assert_eq!(Device::default(), material().device);
    // Its conditions are SQLite's to judge.
    assert!(both(&written[1]).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_are_never_read_otherwise_than_by_sqlite(
        page_size in proptest::sample::select(&[512_u32, 1024, 4096]),
        peers in 0..60_i64,
        edits in vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
    ) {
        let mut bytes = telethon(page_size, peers);
        for (at, byte, is_near_a_head) in edits {
            // Half of the edits where pages say what they are.
            let at = at.index(bytes.len());
            let at = if is_near_a_head { at / page_size as usize * page_size as usize + at % 120 } else { at };
            bytes[at] = byte;
        }
        match both(&bytes) {
            Some([Ok(ours), Ok(theirs)]) => assert_same(&ours, &theirs),
            // Damage in what is not needed: SQLite looks at more than we do.
            Some([Ok(_), Err(Error::Corrupt)]) | None => {}
            Some([ours, theirs]) => prop_assert_eq!(ours.err(), theirs.err()),
        }
    }
}
