//! The use cases over the adapters that the settings name.

use std::{collections::BTreeMap, net::SocketAddr, os::unix::fs::OpenOptionsExt as _, path::Path};

use super::{Error, secrets};
use crate::{
    app::{Adapters, App, LoginLimits, Settings, mirror::Plan, validator::Schedule},
    config::{self, Config, DatabaseUrl, Mirror},
    formats::Modes,
    store::{self, Store},
    telegram::{ApiKey, Telegram, endpoint::Endpoint},
    tickets::{self, Tickets},
};

/// Logins that one process runs at once: each is a connection and its buffers.
const LOGINS_MAX: usize = 5_000;
/// Telegram's public test pair works nowhere else; the sandbox takes any.
const SANDBOX_API_ID: i32 = 1;

/// Whether other processes may run logins in the same database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Company {
    Alone,
    Possible,
}

/// Keeps an embedded database to this process; its folder is made if there is none.
///
/// # Errors
/// [`Error::InUse`] while another process has it.
pub(super) fn lock_database(url: &DatabaseUrl) -> Result<Option<DataLock>, Error> {
    url.file().map(DataLock::take).transpose()
}

/// Opens everything and, if nobody else can be at it, mends what an earlier process left halfway.
///
/// # Errors
/// What cannot be opened, with the way out.
pub(super) async fn open(config: &Config, endpoint: Endpoint, company: Company) -> Result<App, Error> {
    let vault = secrets::vault(&config.keys)?;
    let options = store::Options {
        max_connections: config.database.connections_max,
        quiet_gap: config.leases.quiet_gap,
        ..store::Options::new(config.database.url.to_url(), endpoint.environment().clone())
    };
    let environment = endpoint.environment().clone();
    let store = Store::open(options).await?;
    let tickets = match &config.tickets.redis_url {
        None => Tickets::Memory(tickets::Memory::default()),
        Some(url) => {
            let settings = tickets::Settings {
                url: url.clone(),
                prefix: config.tickets.redis_prefix.clone(),
                ca: config.tickets.redis_ca.clone(),
            };
            Tickets::Redis(tickets::Redis::connect(&settings, vault.clone()).await?)
        }
    };
    let settings = Settings {
        environment,
        lease_ttl: config.leases.ttl,
        lease_heartbeat: config.leases.heartbeat,
        ticket_ttl: config.logins.ticket_ttl,
        api_keys: api_keys(config),
        api_key_default: config::API_KEY_DEFAULT.to_owned(),
        logins_max: LOGINS_MAX,
        login_limits: LoginLimits {
            phone: config.logins.per_phone,
            api_id: config.logins.per_api_id,
            tenant: config.logins.per_tenant,
        },
        mirror: mirror(config),
        validation: Schedule::new(
            config.sessions.validation_interval,
            config.sessions.stale_threshold,
            config.sessions.validation_rate,
        ),
    };
    let app = App::new(Adapters { store, tickets, telegram: Telegram::new(endpoint), vault }, settings);
    app.set_feature(config.sessions.feature).await?;
    match company {
        Company::Alone => app.recover().await?,
        Company::Possible => app.read_feature().await?,
    }
    Ok(app)
}

/// Where files are kept current, if they are to be. The rules of the settings see to the folder.
fn mirror(config: &Config) -> Option<Plan> {
    let modes = Modes { file: config.import.file_mode, folder: config.import.dir_mode };
    match (config.import.mirror, &config.import.sessions_path) {
        (Mirror::On, Some(root)) => Some(Plan { root: root.clone(), modes }),
        (Mirror::On, None) | (Mirror::Off, _) => None,
    }
}

/// Held as long as an embedded database is open: its logins live in one process, so there is never a second one.
#[derive(Debug)]
#[must_use]
pub struct DataLock {
    /// The lock is the open file's, and goes with it, also when the process is killed.
    _file: std::fs::File,
}

impl DataLock {
    pub(super) fn take(database: &Path) -> Result<Self, Error> {
        secrets::private_folder(database)?;
        let path = database.with_extension("lock");
        let folder = |source| Error::Folder { path: path.clone(), source };
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(folder)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(std::fs::TryLockError::WouldBlock) => Err(Error::InUse { path: database.to_owned() }),
            Err(std::fs::TryLockError::Error(source)) => Err(folder(source)),
        }
    }
}

/// The configured pairs; the sandbox has one of its own, since it asks for none in particular.
fn api_keys(config: &Config) -> BTreeMap<String, ApiKey> {
    let mut keys: BTreeMap<String, ApiKey> = config
        .telegram
        .api_keys
        .iter()
        .map(|(alias, key)| (alias.clone(), ApiKey { api_id: key.api_id, api_hash: key.api_hash.clone() }))
        .collect();
    if keys.is_empty() && config.telegram.endpoint == config::Endpoint::Sandbox {
        let api_hash = crate::domain::secret::Secret::new("sandbox");
        keys.insert(config::API_KEY_DEFAULT.to_owned(), ApiKey { api_id: SANDBOX_API_ID, api_hash });
    }
    keys
}

/// The endpoint that the settings name, other than the bundled sandbox, which has to run first.
///
/// # Errors
/// [`Error::Endpoint`] for a host that cannot be found or a key that cannot be read.
pub(super) async fn endpoint(settings: &config::Endpoint) -> Result<Option<Endpoint>, Error> {
    match settings {
        config::Endpoint::Production => Ok(Some(Endpoint::production())),
        config::Endpoint::Test => Ok(Some(Endpoint::test())),
        config::Endpoint::Sandbox => Ok(None),
        config::Endpoint::Custom(custom) => {
            let mut dcs = BTreeMap::new();
            for (dc, address) in &custom.addresses {
                dcs.insert(*dc, resolve(address).await?);
            }
            let endpoint = Endpoint::custom(custom.home_dc, dcs, &custom.rsa_keys)
                .map_err(|error| Error::Endpoint { what: error.to_string() })?;
            Ok(Some(endpoint))
        }
    }
}

async fn resolve(address: &str) -> Result<SocketAddr, Error> {
    let unknown = || Error::Endpoint { what: format!("{address} cannot be found") };
    let lookup = tokio::time::timeout(super::LOOKUP_LIMIT, tokio::net::lookup_host(address));
    lookup.await.map_err(|_| unknown())?.map_err(|_| unknown())?.next().ok_or_else(unknown)
}
