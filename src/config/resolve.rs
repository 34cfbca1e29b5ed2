//! From texts to components: each setting read once, then the rules between them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    config::{
        API_KEY_DEFAULT, ApiKey, Backup, Config, Credentials, CustomEndpoint, Database, DatabaseUrl,
        Effective, Endpoint, Errors, Feature, Import, Inputs, JwtSecret, Keys, Leases, Limits, Listen,
        LogFormat, Logins, Mirror, Mistake, Origin, Provision, Reflection, SETTINGS, Schedule, Secrecy,
        Sessions, Telegram, Telemetry, Tickets, authorities, miniapp,
        read::{self, Reader},
        source::{Gathered, Given, Part, shown},
    },
    domain::{budget::Limit, lease, secret::Secret},
};

/// A shorter HS256 secret can be guessed from one token (RFC 7518 §3.2).
const JWT_SECRET_BYTES_MIN: usize = 32;
const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;
const HOMELESS: &str = "is required: this system names no data folder (HOME is unset)";

pub(crate) fn resolve(inputs: Inputs<'_>) -> Result<Config, Errors> {
    let mut reader = gather(inputs);
    let given_data_dir = reader.optional("data-dir", read::path);
    let home = given_data_dir.or_else(|| platform_data_dir(inputs.env));
    let data_dir = home.clone().unwrap_or_default();
    let telegram = telegram(&mut reader, inputs);
    let mut config = Config {
        database: database(&mut reader, &data_dir),
        tickets: tickets(&mut reader, inputs),
        keys: keys(&mut reader, &data_dir),
        credentials: credentials(&mut reader, &data_dir),
        sessions: sessions(&mut reader),
        leases: leases(&mut reader),
        logins: logins(&mut reader),
        import: import(&mut reader),
        miniapp: miniapp::miniapp(&mut reader, inputs, &telegram.endpoint),
        telegram,
        backup: backup(&mut reader),
        listen: listen(&mut reader),
        limits: limits(&mut reader),
        telemetry: telemetry(&mut reader),
        effective: Vec::new(),
        data_dir,
    };
    check(&mut reader, &config, home.is_some());
    if !reader.mistakes.is_empty() {
        return Err(Errors(reader.mistakes));
    }
    config.effective = effective(&reader, &config);
    Ok(config)
}

/// Everything that was said, from flags, environment and file.
fn gather(inputs: Inputs<'_>) -> Reader {
    let mut flags = inputs.flags.clone();
    let named = flags.remove("config").or_else(|| inputs.env.get("USM_CONFIG").cloned());
    let file = named.filter(|path| !path.is_empty()).map(|path| {
        (inputs.read)(Path::new(&path)).map_err(|error| Mistake {
            key: "USM_CONFIG".to_owned(),
            value: Some(path.clone()),
            rule: format!("must be a file that can be read ({})", error.kind()),
        })
    });
    let (file, unreadable) = match file {
        None => (None, None),
        Some(Ok(text)) => (Some(text), None),
        Some(Err(mistake)) => (None, Some(mistake)),
    };
    let mut reader = Reader::new(Gathered::from(&flags, inputs.env, file.as_deref()));
    reader.mistakes.extend(unreadable);
    reader
}

/// The database alone, for whoever migrates it: that needs no key ring, no secret and no listener.
pub(crate) fn resolve_database(inputs: Inputs<'_>) -> Result<Database, Errors> {
    let mut reader = gather(inputs);
    let home = reader.optional("data-dir", read::path).or_else(|| platform_data_dir(inputs.env));
    let database = database(&mut reader, &home.clone().unwrap_or_default());
    if home.is_none() && reader.optional("database-url", DatabaseUrl::parse).is_none() {
        reader.refuse("data-dir", HOMELESS);
    }
    if reader.mistakes.is_empty() { Ok(database) } else { Err(Errors(reader.mistakes)) }
}

/// The folder of session files and their modes alone, for whoever writes such files beside a server.
pub(crate) fn resolve_import(inputs: Inputs<'_>) -> Result<Import, Errors> {
    let mut reader = gather(inputs);
    let import = import(&mut reader);
    if reader.mistakes.is_empty() { Ok(import) } else { Err(Errors(reader.mistakes)) }
}

fn database(reader: &mut Reader, data_dir: &Path) -> Database {
    let url = reader.optional("database-url", DatabaseUrl::parse);
    Database {
        url: url.unwrap_or_else(|| DatabaseUrl::Sqlite(data_dir.join("usm.sqlite3"))),
        migrate_url: reader.optional("migrate-database-url", DatabaseUrl::parse),
        connections_max: reader.value("database-connections", read::number(1, 500)),
    }
}

fn tickets(reader: &mut Reader, inputs: Inputs<'_>) -> Tickets {
    const PROTOCOLS: [&str; 4] = ["redis", "rediss", "valkey", "valkeys"];
    const DEPLOYMENTS: [&str; 3] = ["", "cluster", "sentinel"];
    let redis_url = reader.optional("redis-url", |text| {
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let (protocol, deployment) = scheme.split_once('-').unwrap_or((scheme, ""));
        if PROTOCOLS.contains(&protocol) && DEPLOYMENTS.contains(&deployment) && !rest.is_empty() {
            read::secret(text)
        } else {
            Err("must start with redis://, rediss:// or a form of them, and name a host".to_owned())
        }
    });
    Tickets {
        redis_url,
        redis_prefix: reader.value("redis-prefix", |text| {
            if text.len() <= 64 { read::text(text) } else { Err("must be 64 bytes or shorter".to_owned()) }
        }),
        redis_ca: reader.optional("redis-ca", |path| {
            let text = (inputs.read)(Path::new(path))
                .map_err(|error| format!("must be a file that can be read ({})", error.kind()))?;
            authorities::parse(&text)
        }),
    }
}

fn telegram(reader: &mut Reader, inputs: Inputs<'_>) -> Telegram {
    let endpoint = reader.value("telegram", |text| match text {
        "production" => Ok(Endpoint::Production),
        "test" => Ok(Endpoint::Test),
        "sandbox" => Ok(Endpoint::Sandbox),
        path => {
            let text = (inputs.read)(Path::new(path)).map_err(|error| {
                format!("must be production, test, sandbox or a file that can be read ({})", error.kind())
            })?;
            CustomEndpoint::parse(&text).map(Endpoint::Custom)
        }
    });
    Telegram { endpoint, api_keys: api_keys(reader) }
}

fn api_keys(reader: &mut Reader) -> BTreeMap<String, ApiKey> {
    let mut halves: BTreeMap<(String, Part), Given> = reader.gathered.api_keys.clone();
    for (name, part) in [("telegram-api-id-master", Part::Id), ("telegram-api-hash-master", Part::Hash)] {
        let setting = SETTINGS.iter().find(|setting| setting.name == name);
        if let Some(given) = setting.and_then(|setting| reader.gathered.get(setting)) {
            halves.insert((API_KEY_DEFAULT.to_owned(), part), given.clone());
        }
    }
    let aliases: BTreeSet<String> = halves.keys().map(|(alias, _)| alias.clone()).collect();
    let mut keys = BTreeMap::new();
    for alias in aliases {
        match (halves.get(&(alias.clone(), Part::Id)), halves.get(&(alias.clone(), Part::Hash))) {
            (Some(id), Some(hash)) => {
                let api_id = reader.parse(Secrecy::Plain, id, read::number(1, i32::MAX));
                let api_hash = reader.parse(Secrecy::Secret, hash, |text| {
                    if text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
                        read::secret(text)
                    } else {
                        Err("must be 32 hexadecimal digits, as my.telegram.org shows it".to_owned())
                    }
                });
                if let (Some(api_id), Some(api_hash)) = (api_id, api_hash) {
                    keys.insert(alias, ApiKey { api_id, api_hash });
                }
            }
            (Some(half), None) | (None, Some(half)) => reader.mistakes.push(Mistake {
                key: half.key.clone(),
                value: None,
                rule: format!(
                    "must come with its other half: TELEGRAM_API_ID_{alias} and TELEGRAM_API_HASH_{alias}"
                ),
            }),
            (None, None) => {}
        }
    }
    keys
}

fn keys(reader: &mut Reader, data_dir: &Path) -> Keys {
    let given = reader.optional("encryption-keys", read::path);
    Keys { ring: given.map_or_else(|| Provision::Made(data_dir.join("usm.keys")), Provision::Given) }
}

fn credentials(reader: &mut Reader, data_dir: &Path) -> Credentials {
    let secret = reader.optional("supabase-jwt-secret", read::secret_of(JWT_SECRET_BYTES_MIN));
    // An opaque key is as good as a password: too short a one could be guessed.
    let key = read::secret_of(16);
    Credentials {
        jwt_secret: secret.map_or_else(|| JwtSecret::Made(data_dir.join("jwt.secret")), JwtSecret::Given),
        supabase_url: reader.optional("supabase-url", read::http_url),
        anon_key: reader.optional("supabase-anon-key", &key),
        service_role_key: reader.optional("supabase-service-role-key", &key),
    }
}

fn sessions(reader: &mut Reader) -> Sessions {
    let enabled = reader.optional("feature-unified-session-manager", read::switch);
    let interval = reader.value("session-validation-interval", read::span(0, DAY));
    Sessions {
        feature: enabled.map(|enabled| if enabled { Feature::Enabled } else { Feature::Disabled }),
        validation_interval: (!interval.is_zero()).then_some(interval),
        stale_threshold: reader.value("session-stale-threshold", read::span(1, 365 * DAY)),
        validation_rate: reader.value("validation-rate", read::rate(0.01, 1000.0)),
    }
}

fn leases(reader: &mut Reader) -> Leases {
    let ttl = read::span(lease::TTL_MIN.as_secs(), lease::TTL_MAX.as_secs());
    Leases {
        ttl: reader.value("session-lock-ttl", ttl),
        heartbeat: reader.value("session-lock-heartbeat", read::span(1, lease::TTL_MAX.as_secs())),
        quiet_gap: reader.value("lease-quiet-gap", read::span(0, 3600)),
    }
}

fn logins(reader: &mut Reader) -> Logins {
    let mut limit = |name, span| Limit { logins: reader.value(name, read::number(1, 1_000_000)), span };
    let (per_phone, per_api_id, per_tenant) = (
        limit("logins-per-phone", Duration::from_secs(DAY)),
        limit("logins-per-api-id", Duration::from_secs(HOUR)),
        limit("logins-per-tenant", Duration::from_secs(HOUR)),
    );
    Logins {
        ticket_ttl: reader.value("qr-ticket-ttl", read::span(1, DAY)),
        per_phone,
        per_api_id,
        per_tenant,
    }
}

fn import(reader: &mut Reader) -> Import {
    Import {
        sessions_path: reader.optional("sessions-base-path", read::path),
        file_mode: reader.value("session-file-permissions", read::mode),
        dir_mode: reader.value("session-dir-permissions", read::mode),
        mirror: if reader.value("mirror-sessions", read::switch) { Mirror::On } else { Mirror::Off },
    }
}

fn backup(reader: &mut Reader) -> Backup {
    let enabled = reader.value("enable-session-backup", read::switch);
    let days: u64 = reader.value("backup-retention-days", read::number(1, 3650));
    Backup {
        schedule: if enabled { Schedule::On } else { Schedule::Off },
        encryption_key_path: reader.optional("backup-encryption-key-path", read::path),
        retention: Duration::from_secs(days * DAY),
    }
}

fn listen(reader: &mut Reader) -> Listen {
    let reflection = reader.value("reflection", read::switch);
    Listen {
        main: reader.value("listen", read::socket),
        metrics: reader.value("metrics-listen", |text| match text {
            "off" => Ok(None),
            address => read::socket(address).map(Some),
        }),
        reflection: if reflection { Reflection::Served } else { Reflection::Hidden },
        cors_origins: reader.value("cors-origins", |text| {
            text.split(',').map(str::trim).filter(|origin| !origin.is_empty()).map(read::http_url).collect()
        }),
    }
}

fn limits(reader: &mut Reader) -> Limits {
    Limits {
        requests_max: reader.value("requests-max", read::number(1, 1_000_000)),
        message_size_max: reader.value("message-size-max", read::number(65_536, 67_108_864)),
        shutdown_delay: reader.value("shutdown-delay", read::span(0, 600)),
        shutdown_grace: reader.value("shutdown-grace", read::span(1, 600)),
    }
}

fn telemetry(reader: &mut Reader) -> Telemetry {
    Telemetry {
        log: reader.value("log", |text| {
            let known = text.parse::<tracing_subscriber::EnvFilter>().is_ok();
            if known {
                read::text(text)
            } else {
                Err("must be a filter such as info or usm=debug,info".to_owned())
            }
        }),
        log_format: reader.value("log-format", |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("must be text or json".to_owned()),
        }),
        otlp_endpoint: reader.optional("otel-exporter-otlp-endpoint", read::http_url),
        service_name: reader.value("otel-service-name", read::text),
    }
}

/// The rules between settings.
fn check(reader: &mut Reader, config: &Config, data_dir_known: bool) {
    if config.leases.heartbeat >= config.leases.ttl {
        reader.refuse("session-lock-heartbeat", "must be shorter than SESSION_LOCK_TTL");
    }
    if config.sessions.validation_interval.is_some_and(|interval| config.sessions.stale_threshold < interval)
    {
        reader.refuse(
            "session-stale-threshold",
            "must not be shorter than SESSION_VALIDATION_INTERVAL: sessions would be stale before anybody looked",
        );
    }
    if config.import.mirror == Mirror::On && config.import.sessions_path.is_none() {
        reader.refuse(
            "mirror-sessions",
            "needs SESSIONS_BASE_PATH: the folder of the files that are kept current",
        );
    }
    match (&config.database.url, &config.keys.ring) {
        (DatabaseUrl::Postgres(_), Provision::Made(_)) => reader.refuse(
            "encryption-keys",
            "is required with PostgreSQL: replicas must share one key ring; make it with `usm keys generate`",
        ),
        (DatabaseUrl::Postgres(_) | DatabaseUrl::Sqlite(_), Provision::Given(_))
        | (DatabaseUrl::Sqlite(_), Provision::Made(_)) => {}
    }
    let secured = |url: &Secret| ["rediss", "valkeys"].iter().any(|it| url.expose_secret().starts_with(it));
    if config.tickets.redis_ca.is_some() && !config.tickets.redis_url.as_ref().is_some_and(secured) {
        reader.refuse("redis-ca", "needs a REDIS_URL with rediss:// or a form of it: nothing else has TLS");
    }
    match config.credentials.jwt_secret {
        JwtSecret::Made(_) if !config.listen.main.ip().is_loopback() => reader.refuse(
            "supabase-jwt-secret",
            "is required unless USM_LISTEN is a loopback address: a generated secret never faces a network",
        ),
        JwtSecret::Made(_) | JwtSecret::Given(_) => {}
    }
    let embedded = config.database.url.file().is_some_and(|file| file.starts_with(&config.data_dir))
        || matches!(config.keys.ring, Provision::Made(_))
        || matches!(config.credentials.jwt_secret, JwtSecret::Made(_));
    if embedded && !data_dir_known {
        reader.refuse("data-dir", HOMELESS);
    }
}

/// Where the platform keeps data of programs.
fn platform_data_dir(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let folder = |name: &str| env.get(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let base = if cfg!(target_os = "macos") {
        folder("HOME").map(|home| home.join("Library").join("Application Support"))
    } else if cfg!(windows) {
        folder("LOCALAPPDATA")
    } else {
        folder("XDG_DATA_HOME").or_else(|| folder("HOME").map(|home| home.join(".local").join("share")))
    };
    base.map(|base| base.join("usm"))
}

fn effective(reader: &Reader, config: &Config) -> Vec<Effective> {
    SETTINGS
        .iter()
        .map(|setting| {
            let (shown, origin) = match (reader.gathered.get(setting), setting.default) {
                (Some(given), _) => (shown(setting.secrecy, &given.text), given.origin),
                (None, Some(default)) => (default.to_owned(), Origin::Default),
                (None, None) => match setting.name {
                    "data-dir" => (config.data_dir.display().to_string(), Origin::Default),
                    "database-url" => {
                        (config.database.url.to_url().expose_secret().to_owned(), Origin::Default)
                    }
                    "encryption-keys" => (config.keys.ring.path().display().to_string(), Origin::Default),
                    _ => (String::new(), Origin::Unset),
                },
            };
            Effective { setting, shown, origin }
        })
        .collect()
}
