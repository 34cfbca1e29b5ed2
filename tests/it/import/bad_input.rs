//! What is no session, each by its reason, and nothing changed.

use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};
use usm::domain::material::Format;
use usm_client::v1::{self, SessionFormat};

use crate::support::world::{ANN, Shape, World, fact, field, import, on_both_shapes, reason, refused};

on_both_shapes!(
    what_is_no_session_is_refused_by_its_reason_and_changes_nothing,
    what_is_too_large_is_refused,
    what_makes_no_sense_or_would_be_ignored_is_refused_by_field,
);

/// The session file after somebody else had it.
async fn altered(file: &[u8], sql: &'static str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("bot.session");
    std::fs::write(&path, file).expect("written");
    let url = format!("sqlite://{}", path.display());
    let mut connection = SqliteConnection::connect(&url).await.expect("opened");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect(sql);
    connection.close().await.expect("closed");
    std::fs::read(&path).expect("read")
}

async fn cases(world: &World) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let material = world.sandbox.mint(2, ANN).await;
    let file = world.written(&material, Format::TelethonSqlite).await;
    let string = String::from_utf8(world.written(&material, Format::TelethonString).await).expect("text");
    let pyrogram = {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        let mut bytes = vec![2, 7];
        bytes.extend_from_slice(material.keys[&2].auth_key.expose_secret());
        bytes.extend_from_slice(&[0; 5]);
        URL_SAFE_NO_PAD.encode(bytes)
    };
    let mut cases = vec![
        ("empty", "MATERIAL_INVALID", b" \n\t ".to_vec()),
        ("not_sqlite", "MATERIAL_INVALID", vec![0xfe; 4096]),
        ("not_sqlite", "MATERIAL_INVALID", b"#!/bin/sh\nexit 0\n".to_vec()),
        ("truncated", "MATERIAL_INVALID", file[..file.len() / 2].to_vec()),
        ("truncated", "MATERIAL_INVALID", file[..50].to_vec()),
        ("string_malformed", "MATERIAL_INVALID", string.as_bytes()[..string.len() - 8].to_vec()),
        ("string_version", "MATERIAL_INVALID", format!("2{}", &string[1..]).into_bytes()),
        ("json_malformed", "MATERIAL_INVALID", b"{\"format\": \"usm-session\"".to_vec()),
        ("json_unknown", "MATERIAL_INVALID", b"{\"name\": \"value\"}".to_vec()),
        ("string_malformed", "MATERIAL_INVALID", pyrogram.into_bytes()),
        ("tdata_one_file", "MATERIAL_INVALID", b"TDF$\x01\x02\x03\x04".to_vec()),
        ("archive_damaged", "MATERIAL_INVALID", b"PK\x03\x04 and nothing of an archive".to_vec()),
    ];
    let alterations = [
        ("no_session", "delete from sessions"),
        ("no_key", "update sessions set auth_key = x''"),
        ("no_key", "update sessions set auth_key = null"),
        ("key_length", "update sessions set auth_key = substr(auth_key, 1, 255)"),
        ("key_length", "update sessions set auth_key = cast(auth_key || x'00' as blob)"),
        ("key_type", "update sessions set auth_key = 'key'"),
        ("dc", "update sessions set dc_id = 9"),
        ("port", "update sessions set port = 700000"),
        (
            "several_sessions",
            "insert into sessions select 4, server_address, port, auth_key, null from sessions",
        ),
        ("unknown_version", "update version set version = 99"),
        ("unknown_schema", "drop table sessions; drop table version"),
    ];
    for (code, sql) in alterations {
        cases.push((code, "MATERIAL_INVALID", altered(&file, sql).await));
    }
    cases
}

async fn what_is_no_session_is_refused_by_its_reason_and_changes_nothing(shape: Shape) {
    let world = World::start(shape).await;
    for (code, name, data) in cases(&world).await {
        let refusal = refused(world.import(import("bot", data)).await);
        assert_eq!((reason(&refusal).as_str(), fact(&refusal, "code").as_deref()), (name, Some(code)));
        assert!(refusal.message().len() > 20, "says the way out: {refusal:?}");
    }
    let nothing = refused(world.import(import("bot", Vec::new())).await);
    assert_eq!((reason(&nothing).as_str(), field(&nothing).as_deref()), ("ARGUMENT_INVALID", Some("data")));
    let material = world.sandbox.mint(2, ANN).await;
    let string = world.written(&material, Format::TelethonString).await;
    let misnamed =
        v1::ImportSessionRequest { format: SessionFormat::TelethonSqlite.into(), ..import("bot", string) };
    let misnamed = refused(world.import(misnamed).await);
    assert_eq!(fact(&misnamed, "code").as_deref(), Some("other_format"));
    assert_eq!(fact(&misnamed, "format").as_deref(), Some("telethon-string"));

    assert_eq!(reason(&refused(world.find("bot").await)), "SESSION_NOT_FOUND");
    assert!(world.events("bot").await.is_empty());
    assert_eq!(world.sandbox.counter("connections").await, 0);
    world.stop().await;
}

async fn what_is_too_large_is_refused(shape: Shape) {
    let world = World::start(shape).await;
    let refusal = refused(world.import(import("bot", vec![b'x'; 16 * 1024 * 1024 + 1])).await);
    assert_eq!(reason(&refusal), "MATERIAL_TOO_LARGE");
    assert_eq!(reason(&refused(world.find("bot").await)), "SESSION_NOT_FOUND");
    world.stop().await;
}

async fn what_makes_no_sense_or_would_be_ignored_is_refused_by_field(shape: Shape) {
    let world = World::start(shape).await;
    let material = world.sandbox.mint(2, ANN).await;
    let data = world.written(&material, Format::TelethonString).await;
    let ask = || import("bot", data.clone());
    let cases = [
        ("legacy_stopped", v1::ImportSessionRequest { mint: true, ..ask() }),
        ("legacy_stopped", v1::ImportSessionRequest { validate: true, ..ask() }),
        ("validate", v1::ImportSessionRequest { mint: true, validate: true, legacy_stopped: true, ..ask() }),
        ("account_index", v1::ImportSessionRequest { account_index: -1, ..ask() }),
        ("password", v1::ImportSessionRequest { password: "horse".to_owned(), ..ask() }),
        ("request_id", v1::ImportSessionRequest { request_id: "again".to_owned(), ..ask() }),
        ("app_id", v1::ImportSessionRequest { app_id: "../bot".to_owned(), ..ask() }),
        ("labels", v1::ImportSessionRequest { labels: [(String::new(), String::new())].into(), ..ask() }),
        ("format", v1::ImportSessionRequest { format: 99, ..ask() }),
    ];
    for (name, request) in cases {
        let refusal = refused(world.import(request).await);
        assert_eq!((reason(&refusal).as_str(), field(&refusal).as_deref()), ("ARGUMENT_INVALID", Some(name)));
        assert!(!format!("{refusal:?}").contains("horse"));
    }
    let unknown = v1::ImportSessionRequest { api_key_alias: "NOBODYS".to_owned(), ..ask() };
    let refusal = refused(world.import(unknown).await);
    assert_eq!(
        (reason(&refusal).as_str(), fact(&refusal, "alias").as_deref()),
        ("API_KEY_UNKNOWN", Some("NOBODYS"))
    );
    assert_eq!(reason(&refused(world.find("bot").await)), "SESSION_NOT_FOUND");
    world.stop().await;
}
