//! Real Telethon releases on both ends. 1.24 writes no own user id and, like 1.42, schema 7; 1.45 writes schema 8.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::json;
use usm::{
    domain::material::{Format, Material},
    formats::{self, Item, Note, read_file},
};

use super::{addresses, auth_key, full_material, python};

const RELEASES: [&str; 3] = ["1.45.0", "1.42.0", "1.24.0"];

fn telethon(release: &str, verb: &str, folder: &Path) -> serde_json::Value {
    let release_folder = python::telethon(release);
    let answer =
        python::run("telethon_sessions.py", &[release_folder.as_os_str(), verb.as_ref(), folder.as_os_str()]);
    assert_eq!(answer["version"], release);
    answer
}

#[tokio::test]
async fn what_telethon_writes_is_read() {
    for release in RELEASES {
        let folder = tempfile::tempdir().unwrap();
        let wrote = telethon(release, "write", folder.path());
        let key = wrote["key"].as_str().unwrap();
        let read = async |name: &str| read_file(folder.path(), &folder.path().join(name), &addresses()).await;

        let file = read("written.session").await.unwrap().parsed;
        let home = file.material.home().unwrap();
        assert_eq!(file.format, Format::TelethonSqlite);
        assert_eq!(file.material.home_dc, 4);
        assert_eq!(hex::encode(home.auth_key.expose_secret()), key);
        assert_eq!(home.address.unwrap().to_string(), "149.154.167.91:443");
        assert_eq!(json!(file.material.telegram_user_id), wrote["user_id"], "{release}");
        let updates = file.material.updates.unwrap();
        assert_eq!(
            json!({"pts": updates.pts, "qts": updates.qts, "date": updates.date, "seq": updates.seq}),
            wrote["state"]
        );
        assert_eq!(file.material.channels, BTreeMap::from([(1234, 7)]), "{release}");
        assert_eq!(file.notes, [Note::NotCarried(Item::Peers(1))], "{release}");

        for (name, address) in
            [("ipv4.txt", "149.154.167.91:443"), ("ipv6.txt", "[2001:67c:4e8:f004::a]:443")]
        {
            let string = read(name).await.unwrap().parsed;
            let home = string.material.home().unwrap();
            assert_eq!(string.format, Format::TelethonString);
            assert_eq!(string.material.home_dc, 4);
            assert_eq!(home.address.unwrap().to_string(), address);
            assert_eq!(hex::encode(home.auth_key.expose_secret()), key);
        }
        assert_eq!(read("signed_out.session").await.unwrap_err(), formats::Error::NoKey, "{release}");
    }
}

async fn opens_with(release: &str, material: &Material) {
    let folder = tempfile::tempdir().unwrap();
    let file = formats::write(material, Format::TelethonSqlite, &addresses()).await.unwrap();
    let string = formats::write(material, Format::TelethonString, &addresses()).await.unwrap();
    fs::write(folder.path().join("ours.session"), &*file.data).unwrap();
    fs::write(folder.path().join("ours.txt"), &*string.data).unwrap();

    let answer = telethon(release, "read", folder.path());
    let key = hex::encode(material.home().unwrap().auth_key.expose_secret());
    let seen = json!({
        "dc": 4, "host": "149.154.167.92", "port": 80, "key": key, "takeout_id": null,
    });
    assert_eq!(answer["string"], seen, "{release}");
    assert_eq!(answer["same_string"], true, "{release}");
    let mut file = seen;
    file["user_id"] = json!(material.telegram_user_id);
    let mut channels = json!({});
    for (id, pts) in &material.channels {
        channels[id.to_string()] = json!(pts);
    }
    // Releases before 1.28 list no channels.
    if answer["file"]["channels"] != json!(null) {
        file["channels"] = channels;
    }
    file["state"] =
        json!(material.updates.map(|state| {
            json!({"pts": state.pts, "qts": state.qts, "date": state.date, "seq": state.seq})
        }));
    assert_eq!(answer["file"], file, "{release}");

    // After Telethon upgraded and saved it, it is still the same session, further on.
    let path = folder.path().join("ours.session");
    let back = read_file(folder.path(), &path, &addresses()).await.unwrap().parsed;
    assert_eq!(back.material.home(), material.home(), "{release}");
    assert_eq!(back.material.telegram_user_id, material.telegram_user_id, "{release}");
    assert_eq!(back.material.updates.unwrap().pts, 99, "{release}");
    assert_eq!(back.material.channels, material.channels, "{release}");
    assert_eq!(back.notes, [], "{release}");
}

#[tokio::test]
async fn what_is_written_opens_in_telethon() {
    let full = full_material();
    let mut bare = full.clone();
    bare.telegram_user_id = None;
    bare.updates = None;
    for release in RELEASES {
        opens_with(release, &full).await;
        opens_with(release, &bare).await;
    }
}

#[tokio::test]
async fn grammers_files_have_the_librarys_schema_and_every_known_data_centre() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ours.session");
    let written = formats::write(&full_material(), Format::Grammers, &addresses()).await.unwrap();
    assert_eq!(written.notes, [Note::NotCarried(Item::ApiId), Note::NotCarried(Item::Device)]);
    fs::write(&path, &*written.data).unwrap();
    let found = python::run("grammers_check.py", &[path.as_os_str()]);

    assert_eq!(found["home"], json!([[4]]));
    assert_eq!(found["peers"], json!([[7_000_000_001_i64, null, 1]]));
    assert_eq!(found["state"], json!([[10, 20, 1_700_000_000, 30]]));
    let dcs = found["dcs"].as_object().unwrap();
    assert_eq!(dcs.keys().collect::<Vec<_>>(), ["1", "2", "3", "4", "5"]);
    assert_eq!(
        dcs["4"],
        json!({
            "ipv4": "149.154.167.92:80",
            "ipv6": "[::ffff:149.154.167.92]:80",
            "key": hex::encode(auth_key(0x44).expose_secret()),
        })
    );
    assert_eq!(dcs["2"]["key"], json!(hex::encode(auth_key(0x22).expose_secret())));
    assert_eq!(dcs["1"]["key"], json!(null));
    assert_eq!(dcs["1"]["ipv4"], "149.154.175.53:443");
}
