//! Settings from flags, environment and file, checked all at once.
//!
//! Knows nothing of what the components do with theirs.

mod authorities;
mod database;
mod endpoint;
mod errors;
mod miniapp;
mod read;
mod resolve;
mod setting;
mod source;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

pub use database::DatabaseUrl;
pub use endpoint::{CustomEndpoint, Endpoint};
pub use errors::{Errors, Mistake};
pub use setting::{CLIENT_ENV, SETTINGS, Secrecy, Setting};
pub use source::Origin;

use rustls::RootCertStore;

use crate::domain::{budget::Limit, miniapp::Bots, secret::Secret};

/// The alias of the api key that is used unless a request names another.
pub const API_KEY_DEFAULT: &str = "MASTER";

/// Everything the settings are read from. Tests give maps; nothing here looks at the process.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// By the names of [`SETTINGS`]. May hold `config`, the path of the TOML file.
    pub flags: &'a BTreeMap<String, String>,
    pub env: &'a BTreeMap<String, String>,
    /// Reads a file that a setting names.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
    /// Reads a file of secrets, which nobody but its owner may be able to read.
    pub read_private: &'a dyn Fn(&Path) -> io::Result<String>,
}

impl<'a> Inputs<'a> {
    /// With files as they lie on this machine.
    pub fn of_process(flags: &'a BTreeMap<String, String>, env: &'a BTreeMap<String, String>) -> Self {
        Self { flags, env, read: &|path| std::fs::read_to_string(path), read_private: &read_private }
    }
}

/// A file that only its owner can read.
///
/// # Errors
/// When it cannot be read, and when others could.
pub fn read_private(path: &Path) -> io::Result<String> {
    use std::os::unix::fs::PermissionsExt as _;
    if std::fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
        return Err(io::Error::other("others can read it; run chmod 600 on it"));
    }
    std::fs::read_to_string(path)
}

impl std::fmt::Debug for Inputs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inputs(..)")
    }
}

/// The settings of one start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the embedded defaults live. Not made by reading the settings.
    pub data_dir: PathBuf,
    pub database: Database,
    pub tickets: Tickets,
    pub telegram: Telegram,
    pub keys: Keys,
    pub credentials: Credentials,
    pub sessions: Sessions,
    pub leases: Leases,
    pub logins: Logins,
    pub import: Import,
    pub miniapp: MiniApp,
    pub backup: Backup,
    pub listen: Listen,
    pub limits: Limits,
    pub telemetry: Telemetry,
    effective: Vec<Effective>,
}

#[derive(Clone, Debug)]
pub struct Database {
    pub url: DatabaseUrl,
    /// The tables' owner, who migrates.
    pub migrate_url: Option<DatabaseUrl>,
    pub connections_max: u32,
}

#[derive(Clone, Debug)]
pub struct Tickets {
    /// `None` keeps tickets in the process.
    pub redis_url: Option<Secret>,
    pub redis_prefix: String,
    /// Whom to trust with `rediss://`; `None` trusts whom the system trusts.
    pub redis_ca: Option<RootCertStore>,
}

#[derive(Clone, Debug)]
pub struct Telegram {
    pub endpoint: Endpoint,
    /// By alias, in capitals. May be empty: then nobody can log in, except on the sandbox.
    pub api_keys: BTreeMap<String, ApiKey>,
}

#[derive(Clone, Debug)]
pub struct ApiKey {
    pub api_id: i32,
    pub api_hash: Secret,
}

/// A file that somebody provides, or one that the service makes for itself with mode 0600.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provision {
    Given(PathBuf),
    Made(PathBuf),
}

impl Provision {
    pub fn path(&self) -> &Path {
        match self {
            Self::Given(path) | Self::Made(path) => path,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Keys {
    pub ring: Provision,
}

#[derive(Clone, Debug)]
pub struct Credentials {
    pub jwt_secret: JwtSecret,
    pub supabase_url: Option<String>,
    pub anon_key: Option<Secret>,
    pub service_role_key: Option<Secret>,
}

/// The HS256 secret of the tokens.
#[derive(Clone, Debug)]
pub enum JwtSecret {
    Given(Secret),
    /// Made in this file at the first start; only ever together with a loopback listener.
    Made(PathBuf),
}

/// Whether sessions are run here or by the legacy system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    Enabled,
    Disabled,
}

#[derive(Clone, Debug)]
pub struct Sessions {
    /// `None` keeps what the database says.
    pub feature: Option<Feature>,
    /// `None` looks at sessions only when asked to.
    pub validation_interval: Option<Duration>,
    pub stale_threshold: Duration,
    /// Looks per second, of all replicas together.
    pub validation_rate: f64,
}

#[derive(Clone, Debug)]
pub struct Leases {
    pub ttl: Duration,
    pub heartbeat: Duration,
    pub quiet_gap: Duration,
}

#[derive(Clone, Debug)]
pub struct Logins {
    pub ticket_ttl: Duration,
    /// Logins that one phone number may start.
    pub per_phone: Limit,
    /// The same of all accounts that use one api_id.
    pub per_api_id: Limit,
    /// The same of one tenant.
    pub per_tenant: Limit,
}

#[derive(Clone, Debug)]
pub struct Import {
    pub sessions_path: Option<PathBuf>,
    pub file_mode: u32,
    pub dir_mode: u32,
    pub mirror: Mirror,
}

/// Whether session files are kept current for the legacy system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirror {
    On,
    Off,
}

#[derive(Clone, Debug)]
pub struct MiniApp {
    pub hmac_secret: Option<Secret>,
    pub timestamp_tolerance: Duration,
    pub bots: Bots,
    /// Ed25519, of whoever signs initData.
    pub public_key: [u8; 32],
}

#[derive(Clone, Debug)]
pub struct Backup {
    pub schedule: Schedule,
    pub encryption_key_path: Option<PathBuf>,
    pub retention: Duration,
}

/// Whether backups are made without being asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    On,
    Off,
}

#[derive(Clone, Debug)]
pub struct Listen {
    pub main: SocketAddr,
    pub metrics: Option<SocketAddr>,
    pub reflection: Reflection,
    pub cors_origins: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reflection {
    Served,
    Hidden,
}

#[derive(Clone, Debug)]
pub struct Limits {
    pub requests_max: usize,
    pub message_size_max: usize,
    pub shutdown_delay: Duration,
    pub shutdown_grace: Duration,
}

#[derive(Clone, Debug)]
pub struct Telemetry {
    pub log: String,
    pub log_format: LogFormat,
    pub otlp_endpoint: Option<String>,
    pub service_name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// A setting as it holds, safe to show.
#[derive(Clone, Debug)]
pub struct Effective {
    pub setting: &'static Setting,
    /// Redacted; empty when unset.
    pub shown: String,
    pub origin: Origin,
}

impl Database {
    /// Where migrations go: to the tables' owner if one is named.
    pub fn owner_url(&self) -> &DatabaseUrl {
        self.migrate_url.as_ref().unwrap_or(&self.url)
    }
}

impl Config {
    /// # Errors
    /// Every mistake of the settings at once.
    pub fn resolve(inputs: Inputs<'_>) -> Result<Self, Errors> {
        resolve::resolve(inputs)
    }

    /// Reads the process's environment and the files it names.
    ///
    /// # Errors
    /// Every mistake of the settings at once.
    pub fn load(flags: &BTreeMap<String, String>) -> Result<Self, Errors> {
        let env = process_env();
        Self::resolve(Inputs::of_process(flags, &env))
    }

    /// As [`load`](Self::load), but of the database alone.
    ///
    /// # Errors
    /// Every mistake about the database, and every unknown name.
    pub fn load_database(flags: &BTreeMap<String, String>) -> Result<Database, Errors> {
        let env = process_env();
        resolve::resolve_database(Inputs::of_process(flags, &env))
    }

    /// As [`load`](Self::load), but of session files alone.
    ///
    /// # Errors
    /// Every mistake about them, and every unknown name.
    pub fn load_import(flags: &BTreeMap<String, String>) -> Result<Import, Errors> {
        let env = process_env();
        resolve::resolve_import(Inputs::of_process(flags, &env))
    }

    /// Every setting with its redacted value and where it came from.
    pub fn print(&self) -> &[Effective] {
        &self.effective
    }
}

/// A span of `min` to `max` seconds, written as the settings have it: a number of seconds, or with s, m, h or d.
///
/// # Errors
/// The rule that the text breaks.
pub fn span(min: u64, max: u64, text: &str) -> Result<Duration, String> {
    read::span(min, max)(text)
}

/// The environment as text; what is not text becomes U+FFFD, which no setting accepts.
fn process_env() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .collect()
}
