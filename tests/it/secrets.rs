//! No secret is left anywhere: not in logs at their loudest, not in databases and their files, not in Redis.

use std::{fs, path::Path};

use sqlx::Row as _;
use tonic::Request;
use usm::domain::{
    material::{Format, Material, Proxy},
    secret::Secret,
};
use usm_client::v1::{self, LoginState, SessionFormat};

use crate::support::{
    postgres::Database,
    process::{API_HASH, Outside},
    redis::Redis,
    scanner::Scanner,
    server::{JWT_SECRET, service_token, token_of},
    telegram::User,
    world::{ANN, Shape, TENANT, World, import, lease, on_both_shapes, qr, reason, refused},
};

const CAT: i64 = 3001;
const PASSWORD: &str = "correct-horse-battery-staple";
const WRONG: &str = "incorrect-donkey-battery-staple";
const PROXY_PASSWORD: &str = "a-password-for-the-proxy-only";

on_both_shapes!(nothing_secret_is_left_in_logs_databases_or_redis);

#[test]
fn the_scanner_finds_a_key_in_every_spelling_and_position() {
    use base64::{Engine as _, engine::general_purpose};
    let key: Vec<u8> = (0..=255).map(|n: u8| n.wrapping_mul(167).wrapping_add(13)).collect();
    let mut scanner = Scanner::default();
    scanner.add_key("a key", &key);
    for before in 0..7 {
        let bytes = [&vec![7; before][..], &key, b"after"].concat();
        let spellings = [
            bytes.clone(),
            hex::encode(&bytes).into_bytes(),
            hex::encode_upper(&bytes).into_bytes(),
            general_purpose::STANDARD.encode(&bytes).into_bytes(),
            general_purpose::URL_SAFE.encode(&bytes).into_bytes(),
            format!("{bytes:?}").into_bytes(),
            serde_json::to_vec(&bytes).expect("a list"),
        ];
        for (n, planted) in spellings.iter().enumerate() {
            assert!(!scanner.found_in(planted).is_empty(), "spelling {n} after {before} bytes");
        }
    }
    assert!(!scanner.found_in(&key[..100]).is_empty(), "also a piece of it");
    assert!(scanner.found_in(&key[1..20]).is_empty());
    assert!(scanner.found_in(b"nothing of it").is_empty());
}

async fn nothing_secret_is_left_in_logs_databases_or_redis(shape: Shape) {
    let world = World::outside(shape, &[("USM_LOG", "trace")]).await;
    let mut scanner = Scanner::default();
    let mut tickets = Scanner::default();
    scanner.add_text("the secret of tokens", JWT_SECRET);
    scanner.add_text("the bearer", &service_token());
    scanner.add_text("the password", PASSWORD);
    scanner.add_text("the wrong password", WRONG);
    scanner.add_text("the proxy's password", PROXY_PASSWORD);
    scanner.add_text("the api_hash", API_HASH);

    sign_in_with_password(&world, &mut scanner, &mut tickets).await;
    import_and_lend(&world, &mut scanner).await;
    provoke_refusals(&world, &mut scanner).await;
    label(&world, "canary-of-the-database").await;
    world.session("bot").await;

    let (log, stored, redis) = everything(&world).await;
    // The search itself works: it sees what is meant to be there.
    let mut canary = Scanner::default();
    canary.add_text("canary", "canary-of-the-database");
    assert!(!canary.found_in(&stored).is_empty(), "the database is looked into");
    let told = String::from_utf8_lossy(&log);
    for method in ["LoginService/SubmitPassword", "LeaseService/AcquireLease", "SessionService/ImportSession"]
    {
        assert!(
            told.contains(&format!("Answered usm.v1.{method}")),
            "the log is looked into, at its loudest"
        );
    }

    assert_eq!(scanner.found_in(&log), Vec::<&str>::new(), "in the log");
    assert_eq!(tickets.found_in(&log), Vec::<&str>::new(), "in the log");
    assert_eq!(scanner.found_in(&stored), Vec::<&str>::new(), "in the database");
    assert_eq!(tickets.found_in(&stored), Vec::<&str>::new(), "in the database");
    // Redis names keys by tickets, as operators expect.
    assert_eq!(scanner.found_in(&redis), Vec::<&str>::new(), "in Redis");

    // What a stopped program leaves is as clean as what a running one holds.
    let World { server: Outside { installation, mut process, .. }, .. } = world;
    assert!(process.stop().await.success());
    let log = installation.printed();
    assert_eq!(scanner.found_in(&log), Vec::<&str>::new(), "in the log");
    assert_eq!(scanner.found_in(&files(&installation.data())), Vec::<&str>::new(), "in files");
    let mut planted = log;
    planted.extend_from_slice(hex::encode(PASSWORD).as_bytes());
    assert!(!scanner.found_in(&planted).is_empty(), "and would be found");
}

/// A login with a code that is redrawn by nobody, a wrong password and the right one.
async fn sign_in_with_password(world: &World<Outside>, scanner: &mut Scanner, tickets: &mut Scanner) {
    let cat = User { id: CAT, password: Some(PASSWORD), hint: Some("animals"), ..User::default() };
    world.sandbox.add(cat).await;
    let login = world.code("bot").await;
    tickets.add_text("a ticket", &login.ticket);
    let token = login.qr_url.strip_prefix("tg://login?token=").expect("a link");
    scanner.add_text("a login token", token);
    {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).expect("base64");
        scanner.add_key("a login token's bytes", &bytes);
    }
    let (_, stored, redis) = everything(world).await;
    assert_eq!(scanner.found_in(&stored), Vec::<&str>::new(), "while a code is shown");
    assert_eq!(scanner.found_in(&redis), Vec::<&str>::new(), "while a code is shown");

    world.scan(&login, CAT).await;
    world.login_once(&login.ticket, LoginState::WaitingPassword).await;
    refused(world.password(&login.ticket, WRONG).await);
    let (_, stored, redis) = everything(world).await;
    assert_eq!(scanner.found_in(&stored), Vec::<&str>::new(), "while a password is awaited");
    assert_eq!(scanner.found_in(&redis), Vec::<&str>::new(), "while a password is awaited");
    let end = world.finalize(&login.ticket, PASSWORD).await.expect("the login ends");
    assert_eq!(end.state(), LoginState::Authorized);
}

/// A session with everything that can be in one, imported and lent in every form.
async fn import_and_lend(world: &World<Outside>, scanner: &mut Scanner) {
    let mut material: Material = world.sandbox.mint(2, ANN).await;
    let url = format!("socks5://user:{PROXY_PASSWORD}@127.0.0.1:1080");
    material.proxy = Some(Proxy { url: Secret::new(url) });
    add_keys(scanner, "an imported key", &material);
    for (app, format) in
        [("raw", Format::Raw), ("sqlite", Format::TelethonSqlite), ("string", Format::TelethonString)]
    {
        let material = match format {
            Format::Raw => material.clone(),
            _ => world.sandbox.mint(2, ANN).await,
        };
        add_keys(scanner, "an imported key", &material);
        let data = world.written(&material, format).await;
        let request = v1::ImportSessionRequest { legacy_stopped: true, ..import(app, data) };
        world.import(request).await.expect("imported");
    }
    for app in ["bot", "raw", "sqlite"] {
        for form in [
            SessionFormat::Raw,
            SessionFormat::TelethonString,
            SessionFormat::TelethonSqlite,
            SessionFormat::PyrogramString,
            SessionFormat::PyrogramSqlite,
            SessionFormat::GramjsString,
            SessionFormat::MtcuteString,
            SessionFormat::Grammers,
        ] {
            let request = v1::AcquireLeaseRequest {
                format: form.into(),
                request_id: uuid::Uuid::new_v4().to_string(),
                ..lease(app, "worker-1")
            };
            let answer = world.acquire(request).await.expect("granted");
            let data = answer.material.expect("material").data;
            let format = if form == SessionFormat::Raw { Some(Format::Raw) } else { None };
            if let Some(format) = format {
                add_keys(scanner, "a lent key", &world.parsed(&data, format).await);
            }
            let held = answer.lease.expect("a lease");
            scanner.add_text("a lease id", &held.lease_id);
            world.renew(&held).await.expect("renewed");
            world.release(&held, true).await.expect("released");
        }
    }
}

/// Refusals have texts, and texts are where secrets leak.
async fn provoke_refusals(world: &World<Outside>, scanner: &mut Scanner) {
    let material = world.sandbox.mint(2, ANN).await;
    add_keys(scanner, "a refused key", &material);
    let string = world.written(&material, Format::TelethonString).await;
    let sqlite = world.written(&material, Format::TelethonSqlite).await;
    let raw = world.written(&material, Format::Raw).await;
    for bad in [&string[..string.len() - 5], &sqlite[..sqlite.len() - 2000], &raw[..raw.len() - 2], &raw[1..]]
    {
        refused(world.import(import("bad", bad.to_vec())).await);
    }
    assert_eq!(reason(&refused(world.import(import("bot", string)).await)), "SESSION_ALREADY_EXISTS");
    let export = v1::ExportSessionRequest {
        tenant_id: TENANT.to_owned(),
        app_id: "bot".to_owned(),
        passcode: PASSWORD.to_owned(),
        ..Default::default()
    };
    refused(world.sessions.clone().export_session(export).await);
    let phone = v1::StartPhoneLoginRequest {
        phone_number: "+99966123456789012345678".to_owned(),
        tenant_id: TENANT.to_owned(),
        app_id: "phone".to_owned(),
        ..Default::default()
    };
    scanner.add_text("a phone number", &phone.phone_number);
    refused(world.logins.clone().start_phone_login(phone).await);
    let proxy = v1::Proxy {
        kind: v1::ProxyKind::Socks5.into(),
        host: "127.0.0.1".to_owned(),
        port: 1080,
        username: "user".to_owned(),
        password: PROXY_PASSWORD.to_owned(),
    };
    refused(world.begin(v1::StartQrLoginRequest { proxy: Some(proxy), ..qr("proxied") }).await);
    // Credentials that prove nothing.
    let bad = format!("{}x", token_of("somebody", TENANT));
    scanner.add_text("a bad bearer", &bad);
    let client = world.server.process.client(Some(&bad)).await;
    let mut sessions = v1::session_service_client::SessionServiceClient::new(client);
    refused(sessions.get_session(Request::new(v1::GetSessionRequest::default())).await);
}

fn add_keys(scanner: &mut Scanner, name: &str, material: &Material) {
    for key in material.keys.values() {
        scanner.add_key(name, key.auth_key.expose_secret());
    }
}

async fn label(world: &World<Outside>, text: &str) {
    let request = v1::UpdateSessionRequest {
        session: Some(v1::Session {
            tenant_id: TENANT.to_owned(),
            app_id: "bot".to_owned(),
            labels: [("note".to_owned(), text.to_owned())].into(),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["labels".to_owned()] }),
        ..Default::default()
    };
    world.sessions.clone().update_session(request).await.expect("labelled");
}

/// The log, what is stored for good, and what is in Redis.
async fn everything(world: &World<Outside>) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let mut stored = files(&world.server.installation.data());
    if let Some(database) = &world.server.database {
        stored.extend(tables(database).await);
    }
    let redis = world.redis.as_ref().map(values).unwrap_or_default();
    (world.server.installation.printed(), stored, redis)
}

/// All files of a folder: the database, its log, and whatever else is there.
fn files(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            bytes.extend(files(&entry.path()));
        } else {
            bytes.extend(fs::read(entry.path()).expect("read"));
        }
    }
    bytes
}

/// Every row of every table, as text; bytes are hexadecimal there.
async fn tables(database: &Database) -> Vec<u8> {
    let mut connection = database.connect("postgres").await;
    let names = "select format('%I.%I', schemaname, tablename) from pg_tables \
                 where schemaname not in ('pg_catalog', 'information_schema')";
    let names = sqlx::query(names).fetch_all(&mut connection).await.expect("listed");
    assert!(names.len() >= 4, "sessions, material, events, settings");
    let mut bytes = Vec::new();
    for name in names {
        let sql = format!("select t::text from {} t", name.get::<String, _>(0));
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut connection).await.expect("read");
        for row in rows {
            bytes.extend(row.get::<String, _>(0).into_bytes());
            bytes.push(b'\n');
        }
    }
    bytes
}

/// Every key of Redis with all it holds.
fn values(redis: &Redis) -> Vec<u8> {
    let mut bytes = Vec::new();
    for key in redis.keys() {
        let kind = redis.command(&["TYPE", &key]).texts().join("");
        let command: &[&str] = match kind.as_str() {
            "string" => &["GET", &key],
            "hash" => &["HGETALL", &key],
            "zset" => &["ZRANGE", &key, "0", "-1", "WITHSCORES"],
            // It ended between the two commands.
            "none" => continue,
            other => panic!("a kind that is not looked into: {other}"),
        };
        for part in redis.command(command).bytes() {
            bytes.extend(part);
            bytes.push(b'\n');
        }
    }
    bytes
}
