use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::*;

const SECRET: &str = "a-secret-of-more-than-32-bytes-for-tests";
const HASH: &str = "0123456789abcdef0123456789abcdef";

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn resolve(flags: &[(&str, &str)], env: &[(&str, &str)], file: Option<&str>) -> Result<Config, Errors> {
    let flags = map(flags);
    let mut env = map(env);
    env.entry("HOME".to_owned()).or_insert_with(|| "/home/op".to_owned());
    if file.is_some() {
        env.insert("USM_CONFIG".to_owned(), "/etc/usm.toml".to_owned());
    }
    let read = |path: &Path| match (path.to_str(), file) {
        (Some("/etc/usm.toml"), Some(text)) => Ok(text.to_owned()),
        (Some("/etc/telegram.toml"), _) => Ok(CUSTOM.to_owned()),
        (Some("/etc/tenants.toml"), _) => Ok(TENANTS.to_owned()),
        (Some("/etc/ca.pem"), _) => Ok(authority()),
        (Some("/etc/half.pem"), _) => {
            Ok(authority() + "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
        }
        (Some("/etc/cut.pem"), _) => Ok(authority().replace("-----END", "")),
        (Some("/etc/key.pem"), _) => Ok(authority().replace("CERTIFICATE", "PRIVATE KEY")),
        (Some(_) | None, _) => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    let read_private = |path: &Path| match path.to_str() {
        Some("/etc/exposed-tokens") => Err(io::Error::other("others can read it; run chmod 600 on it")),
        Some("/etc/tokens") => {
            Ok("123456:AAHunter2Hunter2Hunter2Hunter2\n9:AAHunter2Hunter2Hunter2Hunter2\n".to_owned())
        }
        Some(_) | None => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    Config::resolve(Inputs { flags: &flags, env: &env, read: &read, read_private: &read_private })
}

const TENANTS: &str = "[bots.123456]\ntenant = \"acme\"\napp_ids = [\"news\"]\n";

const CUSTOM: &str = r#"
home_dc = 2
rsa_keys = ["-----BEGIN RSA PUBLIC KEY-----\nMII\n-----END RSA PUBLIC KEY-----"]
[[dc]]
id = 2
address = "127.0.0.1:4430"
"#;

fn authority() -> String {
    rcgen::generate_simple_self_signed([]).expect("a certificate").cert.pem()
}

fn keys_of(result: Result<Config, Errors>) -> BTreeSet<String> {
    let errors = result.expect_err("mistakes");
    errors.0.into_iter().map(|mistake| mistake.key).collect()
}

#[test]
fn nothing_set_runs_embedded() {
    let config = resolve(&[], &[("XDG_DATA_HOME", "/data")], None).expect("sound");
    assert_eq!(config.database.url, DatabaseUrl::Sqlite(PathBuf::from("/data/usm/usm.sqlite3")));
    assert_eq!(config.keys.ring, Provision::Made(PathBuf::from("/data/usm/usm.keys")));
    assert!(
        matches!(config.credentials.jwt_secret, JwtSecret::Made(ref file) if file == Path::new("/data/usm/jwt.secret"))
    );
    assert!(config.tickets.redis_url.is_none());
    assert_eq!(config.telegram.endpoint, Endpoint::Production);
    assert_eq!(config.listen.main.to_string(), "127.0.0.1:50051");
    assert_eq!(config.listen.metrics.map(|address| address.to_string()).as_deref(), Some("127.0.0.1:9090"));
    assert_eq!(config.leases.ttl, Duration::from_secs(90));
    assert_eq!(config.leases.heartbeat, Duration::from_secs(30));
    assert_eq!(config.leases.quiet_gap, Duration::from_secs(15));
    assert_eq!(config.logins.ticket_ttl, Duration::from_secs(600));
    assert_eq!((config.import.file_mode, config.import.dir_mode), (0o600, 0o700));
    assert_eq!(config.sessions.feature, None);
}

#[test]
fn every_legacy_name_is_read() {
    let env = [
        ("DATABASE_URL", "postgresql+asyncpg://usm:pw@db/usm?ssl=require"),
        ("REDIS_URL", "redis://:pw@cache:6379/0"),
        ("SUPABASE_URL", "https://ref.supabase.co/"),
        ("SUPABASE_ANON_KEY", "sb_publishable_0123456789"),
        ("SUPABASE_SERVICE_ROLE_KEY", "sb_secret_0123456789"),
        ("SUPABASE_JWT_SECRET", SECRET),
        ("TELEGRAM_API_ID_MASTER", "17349"),
        ("TELEGRAM_API_HASH_MASTER", HASH),
        ("TELEGRAM_API_ID_SECOND", "42"),
        ("TELEGRAM_API_HASH_SECOND", HASH),
        ("FEATURE_UNIFIED_SESSION_MANAGER", "false"),
        ("SESSIONS_BASE_PATH", "/srv/sessions"),
        ("SESSION_FILE_PERMISSIONS", "416"),
        ("SESSION_DIR_PERMISSIONS", "0o750"),
        ("SESSION_LOCK_TTL", "60"),
        ("SESSION_LOCK_HEARTBEAT", "20"),
        ("QR_TICKET_TTL", "300"),
        ("MINIAPP_HMAC_SECRET", "0123456789abcdef"),
        ("MINIAPP_TIMESTAMP_TOLERANCE", "60"),
        ("SESSION_VALIDATION_INTERVAL", "120"),
        ("SESSION_STALE_THRESHOLD", "1h"),
        ("ENABLE_SESSION_BACKUP", "true"),
        ("BACKUP_ENCRYPTION_KEY_PATH", "/etc/usm/backup.key"),
        ("BACKUP_RETENTION_DAYS", "14"),
        ("USM_ENCRYPTION_KEYS", "/etc/usm/keys"),
        ("USM_TELEGRAM", "/etc/telegram.toml"),
    ];
    let config = resolve(&[], &env, None).expect("sound");
    assert_eq!(config.database.url.to_url().expose_secret(), "postgres://usm:pw@db/usm?sslmode=require");
    assert_eq!(config.credentials.supabase_url.as_deref(), Some("https://ref.supabase.co"));
    assert_eq!(config.telegram.api_keys.keys().collect::<Vec<_>>(), ["MASTER", "SECOND"]);
    assert_eq!(config.telegram.api_keys["MASTER"].api_id, 17349);
    assert_eq!(config.sessions.feature, Some(Feature::Disabled));
    assert_eq!((config.import.file_mode, config.import.dir_mode), (0o640, 0o750));
    assert_eq!(config.backup.schedule, Schedule::On);
    assert_eq!(config.backup.retention, Duration::from_secs(14 * 86_400));
    assert_eq!(config.sessions.stale_threshold, Duration::from_secs(3600));
    let Endpoint::Custom(custom) = config.telegram.endpoint else { panic!("custom") };
    assert_eq!((custom.home_dc, custom.addresses[&2].as_str()), (2, "127.0.0.1:4430"));
}

#[test]
fn looks_at_sessions_have_an_interval_a_threshold_and_a_rate() {
    let of = |env: &[(&str, &str)]| resolve(&[], env, None).map(|config| config.sessions);
    let usual = of(&[]).expect("sound");
    assert_eq!(usual.validation_interval, Some(Duration::from_secs(300)));
    assert!((usual.validation_rate - 5.0).abs() < f64::EPSILON);
    let never = of(&[("SESSION_VALIDATION_INTERVAL", "0"), ("SESSION_STALE_THRESHOLD", "1")]).expect("sound");
    assert_eq!(never.validation_interval, None);
    let slow = of(&[("USM_VALIDATION_RATE", "0.5")]).expect("sound");
    assert!((slow.validation_rate - 0.5).abs() < f64::EPSILON);
    let hasty = resolve(&[], &[("SESSION_STALE_THRESHOLD", "299")], None);
    assert_eq!(keys_of(hasty), BTreeSet::from(["SESSION_STALE_THRESHOLD".to_owned()]));
    for rate in ["0", "-1", "1001", "NaN", "inf", "often"] {
        let refused = resolve(&[], &[("USM_VALIDATION_RATE", rate)], None);
        assert_eq!(keys_of(refused), BTreeSet::from(["USM_VALIDATION_RATE".to_owned()]), "{rate}");
    }
}

#[test]
fn flags_win_over_environment_and_environment_over_file() {
    let file = Some("[listen]\naddress = \"127.0.0.1:1\"\nmetrics = \"off\"\n[leases]\nttl = 50\n");
    let flags = [("listen", "127.0.0.1:3")];
    let config =
        resolve(&flags, &[("USM_LISTEN", "127.0.0.1:2"), ("SESSION_LOCK_TTL", "40")], file).expect("sound");
    assert_eq!(config.listen.main.port(), 3);
    assert_eq!(config.listen.metrics, None);
    assert_eq!(config.leases.ttl, Duration::from_secs(40));
    let origin =
        |name: &str| config.print().iter().find(|row| row.setting.name == name).map(|row| row.origin);
    assert_eq!(origin("listen"), Some(Origin::Flag));
    assert_eq!(origin("session-lock-ttl"), Some(Origin::Environment));
    assert_eq!(origin("metrics-listen"), Some(Origin::File));
    assert_eq!(origin("log"), Some(Origin::Default));
    assert_eq!(origin("redis-url"), Some(Origin::Unset));
}

#[test]
fn every_mistake_is_told_by_name_at_once() {
    let env = [
        ("DATABASE_URL", "mysql://db/usm"),
        ("USM_LISTEN", "everywhere"),
        ("SESSION_LOCK_TTL", "5"),
        ("SESSION_FILE_PERMISSIONS", "438"),
        ("ENABLE_SESSION_BACKUP", "perhaps"),
        ("SUPABASE_JWT_SECRET", "short"),
        ("TELEGRAM_API_ID_SECOND", "42"),
        ("TELEGRAM_API_ID_MASTER", "-1"),
        ("TELEGRAM_API_HASH_MASTER", "xyz"),
        ("USM_LISTENN", "127.0.0.1:1"),
        ("USM_TELEGRAM", "/nowhere.toml"),
    ];
    let file = Some("[database]\nurll = \"x\"\nconnections = [1]\n");
    let expected = [
        "DATABASE_URL",
        "USM_LISTEN",
        "SESSION_LOCK_TTL",
        "SESSION_FILE_PERMISSIONS",
        "ENABLE_SESSION_BACKUP",
        "SUPABASE_JWT_SECRET",
        "TELEGRAM_API_ID_SECOND",
        "TELEGRAM_API_ID_MASTER",
        "TELEGRAM_API_HASH_MASTER",
        "USM_LISTENN",
        "USM_TELEGRAM",
        "database.urll",
        "database.connections",
        "--no-such",
    ];
    let found = keys_of(resolve(&[("no-such", "1")], &env, file));
    assert_eq!(found, expected.iter().map(|key| (*key).to_owned()).collect());
}

#[test]
fn a_mistake_in_a_secret_never_shows_it() {
    let env = [
        ("SUPABASE_JWT_SECRET", "hunter2"),
        ("DATABASE_URL", "mysql://usm:hunter2@db"),
        ("REDIS_URL", "http://:hunter2@x"),
        ("TELEGRAM_API_ID_MASTER", "1"),
        ("TELEGRAM_API_HASH_MASTER", "hunter2"),
    ];
    let errors = resolve(&[], &env, Some("supabase_jwt_secret = \"hunter2\nx")).expect_err("mistakes");
    assert_eq!(errors.0.len(), 5, "{errors}");
    assert!(!format!("{errors} {errors:?}").contains("hunter2"), "{errors}");
}

#[test]
fn rules_between_settings_are_told_too() {
    let keys = |env: &[(&str, &str)]| keys_of(resolve(&[], env, None)).into_iter().collect::<Vec<_>>();
    assert_eq!(keys(&[("DATABASE_URL", "postgres://db/usm")]), ["USM_ENCRYPTION_KEYS"]);
    assert_eq!(keys(&[("USM_LISTEN", "0.0.0.0:50051")]), ["SUPABASE_JWT_SECRET"]);
    assert_eq!(keys(&[("SESSION_LOCK_HEARTBEAT", "90")]), ["SESSION_LOCK_HEARTBEAT"]);
    assert_eq!(keys(&[("HOME", "")]), ["USM_DATA_DIR"]);
}

#[test]
fn the_authorities_of_redis_are_read_at_the_start_and_need_tls() {
    let read = |file, url| resolve(&[], &[("USM_REDIS_CA", file), ("REDIS_URL", url)], None);
    for url in ["rediss://r", "rediss-cluster://r", "rediss-sentinel://r", "valkeys-cluster://r"] {
        let config = read("/etc/ca.pem", url).expect("sound");
        assert_eq!(config.tickets.redis_ca.map(|authorities| authorities.len()), Some(1));
    }
    assert!(read("", "rediss://r").expect("sound").tickets.redis_ca.is_none());
    for (file, url, rule) in [
        ("/nowhere.pem", "rediss://r", "can be read"),
        ("/etc/half.pem", "rediss://r", "number 2"),
        ("/etc/cut.pem", "rediss://r", "number 1"),
        ("/etc/key.pem", "rediss://r", "one or more certificates"),
        ("/etc/ca.pem", "redis://r", "rediss://"),
        ("/etc/ca.pem", "redis-sentinel://r", "rediss://"),
        ("/etc/ca.pem", "valkey-cluster://r", "rediss://"),
        ("/etc/ca.pem", "", "rediss://"),
    ] {
        let Errors(mistakes) = read(file, url).expect_err("a mistake");
        assert!(mistakes.len() == 1 && mistakes[0].key == "USM_REDIS_CA", "{mistakes:?}");
        assert!(mistakes[0].rule.contains(rule), "{mistakes:?}");
    }
}

#[test]
fn what_is_printed_holds_no_secret() {
    let env = [
        ("DATABASE_URL", "postgres://usm:hunter2@db:5432/usm?password=hunter2"),
        ("REDIS_URL", "rediss://:hunter2@cache:6379"),
        ("SUPABASE_JWT_SECRET", "hunter2-hunter2-hunter2-hunter2-hunter2"),
        ("MINIAPP_HMAC_SECRET", "hunter2-hunter2-hunter2"),
        ("SUPABASE_SERVICE_ROLE_KEY", "hunter2-hunter2-hunter2"),
        ("USM_ENCRYPTION_KEYS", "/etc/usm/keys"),
    ];
    let config = resolve(&[], &env, None).expect("sound");
    let printed: String =
        config.print().iter().map(|row| format!("{} = {}\n", row.setting.env, row.shown)).collect();
    assert!(!printed.contains("hunter2"), "{printed}");
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(printed.contains("DATABASE_URL = postgres://usm:***@db:5432/usm\n"), "{printed}");
}

#[test]
fn names_of_settings_are_unique_and_defaults_follow_their_rules() {
    let unique =
        |name: fn(&Setting) -> &'static str| SETTINGS.iter().map(name).collect::<BTreeSet<_>>().len();
    assert_eq!(unique(|setting| setting.name), SETTINGS.len());
    assert_eq!(unique(|setting| setting.env), SETTINGS.len());
    assert_eq!(unique(|setting| setting.toml), SETTINGS.len());
    // Every default written out must resolve to what holds without it.
    let defaults: Vec<_> =
        SETTINGS.iter().filter_map(|setting| Some((setting.name, setting.default?))).collect();
    let written = resolve(&defaults, &[], None).expect("sound");
    let silent = resolve(&[], &[], None).expect("sound");
    assert_eq!(format!("{:?}", written.limits), format!("{:?}", silent.limits));
    assert_eq!(written.listen.main, silent.listen.main);
}

#[test]
fn a_custom_endpoint_must_hold_its_home_and_a_key() {
    assert!(CustomEndpoint::parse(CUSTOM).is_ok());
    for (broken, what) in [
        (CUSTOM.replace("home_dc = 2", "home_dc = 3"), "home_dc"),
        (CUSTOM.replace("4430", "port"), "host:port"),
        (CUSTOM.replace("id = 2", "id = 9"), "dc 9"),
        (CUSTOM.replace("-----BEGIN", "BEGIN"), "rsa_keys"),
        (format!("{CUSTOM}\nextra = 1"), "unknown field"),
    ] {
        let rule = CustomEndpoint::parse(&broken).expect_err(what);
        assert!(rule.contains(what), "{rule}");
    }
}

#[test]
fn an_embedded_database_is_a_file() {
    for bad in ["sqlite://", "sqlite://:memory:", "sqlite::memory:", "usm.sqlite3", "postgres://"] {
        assert!(DatabaseUrl::parse(bad).is_err(), "{bad}");
    }
    let url = DatabaseUrl::parse("sqlite:///var/lib/usm.sqlite3?mode=rwc").expect("sound");
    assert_eq!(url.file(), Some(Path::new("/var/lib/usm.sqlite3")));
}

#[test]
fn bot_tokens_belong_to_bots_of_the_tenants_file_and_to_nobodys_eyes() {
    let mistakes = |tokens: &str| {
        let env = [("USM_MINIAPP_TENANTS", "/etc/tenants.toml"), ("USM_MINIAPP_BOT_TOKENS", tokens)];
        resolve(&[], &env, None).expect_err("mistakes").to_string()
    };
    let stray = mistakes("/etc/tokens");
    assert!(stray.contains("USM_MINIAPP_BOT_TOKENS: holds a token of bot 9"), "{stray}");
    assert!(!stray.contains("Hunter2") && !stray.contains("bot 123456"), "{stray}");
    assert!(mistakes("/etc/exposed-tokens").contains("chmod 600"));
    assert!(mistakes("/nowhere").contains("must be a file that can be read"));
    let keys = keys_of(resolve(
        &[],
        &[("USM_MINIAPP_PUBLIC_KEY", "xyz"), ("USM_MINIAPP_TENANTS", "/nowhere")],
        None,
    ));
    assert_eq!(keys.into_iter().collect::<Vec<_>>(), ["USM_MINIAPP_PUBLIC_KEY", "USM_MINIAPP_TENANTS"]);
    let tenants = [("USM_MINIAPP_TENANTS", "/etc/tenants.toml")];
    assert_eq!(resolve(&[], &tenants, None).expect("sound").miniapp.bots.len(), 1);
}
