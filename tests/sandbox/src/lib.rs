//! A Telegram data centre on loopback: an MTProto 2.0 server with accounts, logins and faults to order.
//!
//! It stands in for Telegram where a real account must not be used or cannot be reached: in tests of programs that
//! speak MTProto, in demonstrations, and in the quickstart. Real client libraries log in to it unchanged, given its
//! addresses and its RSA key. `docs/sandbox.md` says how to use it and where it is simpler than Telegram.
//!
//! Layers, each naming only those after it: `net` (sockets) and `admin` (HTTP) → `session` (messages) → `rpc` (API
//! methods) → `state` (the world behind one lock) → `transport`, `crypto`, `tl` (pure). Nothing is global: several
//! sandboxes live in one process.

mod admin;
mod crypto;
mod net;
mod persist;
mod rpc;
mod session;
mod settings;
mod shared;
mod state;
mod tl;
mod transport;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::crypto::rsa_key::RsaKey;
use crate::persist::Keeper;
use crate::shared::Shared;
use crate::state::World;

pub use crate::crypto::rsa_key::KeyError;
pub use crate::persist::PersistError;
pub use crate::settings::{SettingError, Settings};

/// How long `stop` waits for tasks that were told to end.
const STOP_MAX: Duration = Duration::from_secs(10);
/// DC numbers that clients can express.
const DC_IDS: std::ops::RangeInclusive<i32> = 1..=999;

/// How a sandbox is set up.
#[derive(Clone)]
pub struct Config {
    /// Address of all listeners; loopback unless others must reach the sandbox.
    pub listen: IpAddr,
    /// Number and port of each DC; port 0 takes any free one.
    pub dcs: Vec<(i32, u16)>,
    /// Port of the admin interface; 0 takes any free one.
    pub admin: u16,
    /// The server's RSA private key, 2048 bits, PKCS#1 or PKCS#8. Without it: the one of the persist file, or a new one.
    pub rsa_pem: Option<String>,
    /// A file that carries RSA key, accounts and authorization keys over a restart.
    pub persist: Option<PathBuf>,
    /// Adjustable behaviour.
    pub settings: Settings,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("dcs", &self.dcs)
            .field("admin", &self.admin)
            .field("persist", &self.persist)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Default for Config {
    /// Three DCs and the admin interface on free ports of 127.0.0.1.
    fn default() -> Self {
        Self {
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            dcs: vec![(1, 0), (2, 0), (3, 0)],
            admin: 0,
            rsa_pem: None,
            persist: None,
            settings: Settings::default(),
        }
    }
}

/// Why a sandbox does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No DC, one twice, or a number out of range.
    #[error("DCs must be at least one, each once, numbered from 1 to 999")]
    Dcs,
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The RSA key cannot be used.
    #[error("cannot use the RSA key")]
    Key(#[from] KeyError),
    /// The persist file cannot be used.
    #[error("cannot use the persist file")]
    Persist(#[from] PersistError),
    /// The making of an RSA key was cut off, which happens only while the process ends.
    #[error("the making of an RSA key was interrupted")]
    Interrupted,
}

/// A running sandbox. Dropping it tells its tasks to end; [`Sandbox::stop`] also waits for them.
#[derive(Debug)]
pub struct Sandbox {
    shared: Arc<Shared>,
    dcs: BTreeMap<i32, SocketAddr>,
    admin: SocketAddr,
}

impl Sandbox {
    /// Starts listeners for all DCs and the admin interface; returns when all of them accept connections.
    ///
    /// # Errors
    /// [`Error`] when an address is taken, or when the RSA key or the persist file cannot be used.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let (dcs, listeners) = bind_dcs(&config).await?;
        let (admin, admin_listener) = bind(SocketAddr::new(config.listen, config.admin)).await?;
        let keeper = config.persist.clone().map(Keeper::new);
        let restored = keeper.as_ref().map(Keeper::read).transpose()?.flatten();
        let pem = config.rsa_pem.or_else(|| restored.as_ref().map(|restored| restored.rsa_pem.clone()));
        let rsa = tokio::task::spawn_blocking(move || match pem {
            Some(pem) => RsaKey::from_pem(&pem),
            None => Ok(RsaKey::generate()),
        })
        .await
        .map_err(|_| Error::Interrupted)??;
        let mut world = World::new(config.settings, dcs.clone());
        if let Some(restored) = restored {
            world.users = restored.users.into_iter().map(|user| (user.id, user)).collect();
            world.keys = restored.keys.into_iter().map(|key| (key.id(), key)).collect();
        }
        world.changed();
        let shared = Arc::new(Shared::new(world, rsa, keeper));
        if let Some(keeper) = &shared.keeper {
            keeper.save(&shared).await?;
            let own = shared.clone();
            shared.tasks.spawn(async move {
                if let Some(keeper) = &own.keeper {
                    keeper.run(&own).await;
                }
            });
        }
        for (dc, listener) in listeners {
            shared.tasks.spawn(net::listen(shared.clone(), dc, listener));
        }
        shared.tasks.spawn(admin::serve(shared.clone(), admin_listener));
        Ok(Self { shared, dcs, admin })
    }

    /// The address of each DC.
    pub fn dcs(&self) -> &BTreeMap<i32, SocketAddr> {
        &self.dcs
    }

    /// The address of the admin interface.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The server's RSA public key, PKCS#1.
    pub fn public_key_pem(&self) -> &str {
        self.shared.rsa.public_pem()
    }

    /// The number by which clients pick the RSA key.
    pub fn fingerprint(&self) -> i64 {
        self.shared.rsa.fingerprint()
    }

    /// The line that tells other programs where everything is.
    pub fn ready_line(&self) -> serde_json::Value {
        let ports: serde_json::Map<String, serde_json::Value> =
            self.dcs.iter().map(|(dc, address)| (dc.to_string(), address.port().into())).collect();
        serde_json::json!({
            "ready": true,
            "dcs": ports,
            "admin": self.admin.port(),
            "fingerprint": self.fingerprint(),
            "public_key": self.public_key_pem(),
        })
    }

    /// Ends all connections and tasks, and writes the persist file once more.
    ///
    /// # Cancel safety
    /// When dropped midway the tasks still end, but nobody waits for them.
    pub async fn stop(self) {
        self.shared.stopping.cancel();
        self.shared.tasks.close();
        let _ = tokio::time::timeout(STOP_MAX, self.shared.tasks.wait()).await;
        if let Some(keeper) = &self.shared.keeper
            && let Err(error) = keeper.save(&self.shared).await
        {
            tracing::error!(error = &error as &dyn std::error::Error, "sandbox state is not saved");
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.shared.stopping.cancel();
    }
}

type Bound = (BTreeMap<i32, SocketAddr>, Vec<(i32, TcpListener)>);

async fn bind_dcs(config: &Config) -> Result<Bound, Error> {
    let (mut addresses, mut listeners) = (BTreeMap::new(), Vec::new());
    for (dc, port) in &config.dcs {
        let (address, listener) = bind(SocketAddr::new(config.listen, *port)).await?;
        if !DC_IDS.contains(dc) || addresses.insert(*dc, address).is_some() {
            return Err(Error::Dcs);
        }
        listeners.push((*dc, listener));
    }
    if listeners.is_empty() { Err(Error::Dcs) } else { Ok((addresses, listeners)) }
}

async fn bind(address: SocketAddr) -> Result<(SocketAddr, TcpListener), Error> {
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    Ok((listener.local_addr().map_err(failed)?, listener))
}
