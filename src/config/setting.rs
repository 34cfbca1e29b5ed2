//! The table of settings: their names as flag, variable and TOML key, their defaults and what they mean.
//!
//! The command line builds its flags from it, `config print` its lines and the documentation its table.

/// How much of a value may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    Plain,
    /// An address that may hold a password: shown without it.
    Address,
    /// Never shown.
    Secret,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The flag without its dashes, and the name in [`crate::config::Inputs::flags`].
    pub name: &'static str,
    pub env: &'static str,
    /// The dotted key in the TOML file.
    pub toml: &'static str,
    /// What holds when nothing is said, as one would write it.
    pub default: Option<&'static str>,
    pub secrecy: Secrecy,
    pub help: &'static str,
}

const fn plain(
    name: &'static str,
    env: &'static str,
    toml: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> Setting {
    Setting { name, env, toml, default, secrecy: Secrecy::Plain, help }
}

const fn address(name: &'static str, env: &'static str, toml: &'static str, help: &'static str) -> Setting {
    Setting { name, env, toml, default: None, secrecy: Secrecy::Address, help }
}

const fn secret(name: &'static str, env: &'static str, toml: &'static str, help: &'static str) -> Setting {
    Setting { name, env, toml, default: None, secrecy: Secrecy::Secret, help }
}

/// Every setting of the service, in the order in which they are shown.
pub const SETTINGS: &[Setting] = &[
    plain(
        "data-dir",
        "USM_DATA_DIR",
        "data_dir",
        None,
        "Folder of the embedded database, keys and generated secret [default: the platform's data folder]",
    ),
    address(
        "database-url",
        "DATABASE_URL",
        "database.url",
        "sqlite://FILE or postgres://USER@HOST/DB [default: usm.sqlite3 in the data folder]",
    ),
    address(
        "migrate-database-url",
        "USM_MIGRATE_DATABASE_URL",
        "database.migrate_url",
        "The tables' owner, for migrations on PostgreSQL",
    ),
    plain(
        "database-connections",
        "USM_DATABASE_CONNECTIONS",
        "database.connections",
        Some("10"),
        "Most connections to PostgreSQL, 1-500",
    ),
    address("redis-url", "REDIS_URL", "redis.url", "Redis for logins under way [default: in-process]"),
    plain("redis-prefix", "USM_REDIS_PREFIX", "redis.prefix", Some(""), "Put before every Redis key"),
    plain(
        "redis-ca",
        "USM_REDIS_CA",
        "redis.ca_file",
        None,
        "PEM file of the authorities to trust with rediss:// [default: those of the system]",
    ),
    plain(
        "encryption-keys",
        "USM_ENCRYPTION_KEYS",
        "keys.file",
        None,
        "Key ring file that seals key material; required with PostgreSQL [default: made in the data folder]",
    ),
    plain(
        "supabase-url",
        "SUPABASE_URL",
        "credentials.supabase_url",
        None,
        "Address of the Supabase project",
    ),
    secret(
        "supabase-anon-key",
        "SUPABASE_ANON_KEY",
        "credentials.supabase_anon_key",
        "A bearer equal to it counts as anon",
    ),
    secret(
        "supabase-service-role-key",
        "SUPABASE_SERVICE_ROLE_KEY",
        "credentials.supabase_service_role_key",
        "A bearer equal to it counts as service_role",
    ),
    secret(
        "supabase-jwt-secret",
        "SUPABASE_JWT_SECRET",
        "credentials.supabase_jwt_secret",
        "HS256 secret of the tokens, 32 bytes or more; required unless the listener is on loopback [default: made in the data folder]",
    ),
    plain(
        "telegram",
        "USM_TELEGRAM",
        "telegram.endpoint",
        Some("production"),
        "production, test, sandbox or the path of a TOML file with home_dc, [[dc]] and rsa_keys",
    ),
    plain(
        "telegram-api-id-master",
        "TELEGRAM_API_ID_MASTER",
        "telegram.api_keys.MASTER.id",
        None,
        "api_id under the alias MASTER; other aliases by TELEGRAM_API_ID_<ALIAS>",
    ),
    secret(
        "telegram-api-hash-master",
        "TELEGRAM_API_HASH_MASTER",
        "telegram.api_keys.MASTER.hash",
        "api_hash under the alias MASTER; other aliases by TELEGRAM_API_HASH_<ALIAS>",
    ),
    plain(
        "feature-unified-session-manager",
        "FEATURE_UNIFIED_SESSION_MANAGER",
        "sessions.feature_enabled",
        None,
        "false leaves sessions to the legacy system and refuses new grants; unset keeps what the database says",
    ),
    plain(
        "session-validation-interval",
        "SESSION_VALIDATION_INTERVAL",
        "sessions.validation_interval",
        Some("300"),
        "Seconds without proof of life after which a session is looked at; 0 looks only when asked to",
    ),
    plain(
        "session-stale-threshold",
        "SESSION_STALE_THRESHOLD",
        "sessions.stale_threshold",
        Some("3600"),
        "Seconds without proof of life after which a session is stale; not shorter than the interval",
    ),
    plain(
        "validation-rate",
        "USM_VALIDATION_RATE",
        "sessions.validation_rate",
        Some("5"),
        "Most looks at sessions per second, of all replicas together, 0.01-1000",
    ),
    plain(
        "session-lock-ttl",
        "SESSION_LOCK_TTL",
        "leases.ttl",
        Some("90"),
        "Seconds a lease lasts unless renewed, 10-600",
    ),
    plain(
        "session-lock-heartbeat",
        "SESSION_LOCK_HEARTBEAT",
        "leases.heartbeat",
        Some("30"),
        "Longest pause in seconds between renewals that a lease advises; shorter than the lease",
    ),
    plain(
        "lease-quiet-gap",
        "USM_LEASE_QUIET_GAP",
        "leases.quiet_gap",
        Some("15"),
        "Seconds a session rests after a lease that nobody released",
    ),
    plain("qr-ticket-ttl", "QR_TICKET_TTL", "logins.ticket_ttl", Some("600"), "Seconds a login may take"),
    plain(
        "logins-per-phone",
        "USM_LOGINS_PER_PHONE",
        "logins.per_phone",
        Some("5"),
        "Logins that may be started for one phone number in a day, across replicas",
    ),
    plain(
        "logins-per-api-id",
        "USM_LOGINS_PER_API_ID",
        "logins.per_api_id",
        Some("10000"),
        "Logins that may be started under one api_id in an hour, across replicas",
    ),
    plain(
        "logins-per-tenant",
        "USM_LOGINS_PER_TENANT",
        "logins.per_tenant",
        Some("2000"),
        "Logins that one tenant may start in an hour, across replicas",
    ),
    plain(
        "sessions-base-path",
        "SESSIONS_BASE_PATH",
        "import.sessions_path",
        None,
        "Folder of the legacy session files",
    ),
    plain(
        "session-file-permissions",
        "SESSION_FILE_PERMISSIONS",
        "import.file_permissions",
        Some("384"),
        "Mode of written session files, decimal or 0o600",
    ),
    plain(
        "session-dir-permissions",
        "SESSION_DIR_PERMISSIONS",
        "import.dir_permissions",
        Some("448"),
        "Mode of made folders, decimal or 0o700",
    ),
    plain(
        "mirror-sessions",
        "USM_MIRROR_SESSIONS",
        "import.mirror",
        Some("false"),
        "Keep the files in SESSIONS_BASE_PATH current for the legacy system; each of them is a live key",
    ),
    secret(
        "miniapp-hmac-secret",
        "MINIAPP_HMAC_SECRET",
        "miniapp.hmac_secret",
        "Signs the Mini App's callback",
    ),
    plain(
        "miniapp-timestamp-tolerance",
        "MINIAPP_TIMESTAMP_TOLERANCE",
        "miniapp.timestamp_tolerance",
        Some("300"),
        "Seconds a signed call may be off",
    ),
    plain(
        "miniapp-tenants",
        "USM_MINIAPP_TENANTS",
        "miniapp.tenants_file",
        None,
        "TOML file: which bots' Mini Apps may log in for which sessions",
    ),
    plain(
        "miniapp-bot-tokens",
        "USM_MINIAPP_BOT_TOKENS",
        "miniapp.bot_tokens_file",
        None,
        "File of bot tokens that prove initData, a line each; for bots without one Telegram's signature does",
    ),
    plain(
        "miniapp-public-key",
        "USM_MINIAPP_PUBLIC_KEY",
        "miniapp.public_key",
        None,
        "Ed25519 key that signs initData, 64 hexadecimal digits [default: that of the Telegram in USM_TELEGRAM]",
    ),
    plain(
        "enable-session-backup",
        "ENABLE_SESSION_BACKUP",
        "backup.enabled",
        Some("false"),
        "Make backups by schedule",
    ),
    plain(
        "backup-encryption-key-path",
        "BACKUP_ENCRYPTION_KEY_PATH",
        "backup.encryption_key_path",
        None,
        "Key file that seals backups",
    ),
    plain(
        "backup-retention-days",
        "BACKUP_RETENTION_DAYS",
        "backup.retention_days",
        Some("7"),
        "Days a backup is kept, 1-3650",
    ),
    plain(
        "listen",
        "USM_LISTEN",
        "listen.address",
        Some("127.0.0.1:50051"),
        "Address of gRPC, gRPC-Web and HTTP",
    ),
    plain(
        "metrics-listen",
        "USM_METRICS_LISTEN",
        "listen.metrics",
        Some("127.0.0.1:9090"),
        "Address of /metrics, or off",
    ),
    plain("reflection", "USM_REFLECTION", "listen.reflection", Some("true"), "Serve gRPC reflection"),
    plain(
        "cors-origins",
        "USM_CORS_ORIGINS",
        "listen.cors_origins",
        Some(""),
        "Origins whose pages may call, separated by commas",
    ),
    plain(
        "requests-max",
        "USM_REQUESTS_MAX",
        "limits.requests_max",
        Some("1024"),
        "Most calls served at once; more are refused with OVERLOADED",
    ),
    plain(
        "message-size-max",
        "USM_MESSAGE_SIZE_MAX",
        "limits.message_size_max",
        Some("17825792"),
        "Largest message in bytes, 65536-67108864; room for 16 MiB of material by default",
    ),
    plain(
        "shutdown-delay",
        "USM_SHUTDOWN_DELAY",
        "limits.shutdown_delay",
        Some("0"),
        "Seconds between not ready and the end of serving, for load balancers",
    ),
    plain(
        "shutdown-grace",
        "USM_SHUTDOWN_GRACE",
        "limits.shutdown_grace",
        Some("20"),
        "Seconds that calls under way get at shutdown",
    ),
    plain(
        "log",
        "USM_LOG",
        "telemetry.log",
        Some("info"),
        "Which log lines are written, such as info or usm=debug,info",
    ),
    plain("log-format", "USM_LOG_FORMAT", "telemetry.log_format", Some("text"), "text or json"),
    plain(
        "otel-exporter-otlp-endpoint",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "telemetry.otlp_endpoint",
        None,
        "Where traces go (OTLP over gRPC); none without it",
    ),
    plain(
        "otel-service-name",
        "OTEL_SERVICE_NAME",
        "telemetry.service_name",
        Some("usm"),
        "Name of the service in traces",
    ),
];

/// Variables that the command line reads and that are no settings of the service.
pub const CLIENT_ENV: &[&str] = &[
    "USM_CONFIG",
    "USM_SERVER",
    "USM_TOKEN",
    "USM_TICKET",
    "USM_PASSCODE",
    "USM_PASSWORD",
    "USM_CODE",
    "USM_BOT_TOKEN",
    "USM_LEASE_ID",
];

/// The setting of that name.
pub(crate) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}
