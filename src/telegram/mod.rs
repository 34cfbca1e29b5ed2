//! Talking to Telegram: logging in, proving that an authorization lives, ending it.
//!
//! Knows nothing of tickets, stores or leases: it is given keys and gives keys back. Connections belong to
//! the value or the call that opened them; there are no background tasks, so dropping a future or a login
//! closes its socket.
//!
//! Each connection is one `sender` under grammers' protocol, driven here, and not grammers' pool: the pool answers
//! an unknown key (-404) by making a new one on its own, which would turn a lost session into an empty one, and
//! a peer that stays silent while it connects blocks everything else in it. A sender given a key can do neither.

mod connection;
pub mod endpoint;
pub mod error;
mod factor;
mod group;
mod key_exchange;
mod observed;
mod password;
pub mod probe;
mod rsa_key;
mod sender;
pub mod sign_in;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

use crate::{
    domain::{
        material::{Device, Proxy},
        secret::Secret,
        session::Environment,
    },
    telegram::{
        connection::within,
        endpoint::Endpoint,
        sign_in::{SignIn, Way, checkpoint::Checkpoint},
    },
};

pub use crate::telegram::error::Error;

/// The longest one connection attempt or one call may take, however far the caller's deadline is.
pub(crate) const ATTEMPT_MAX: Duration = Duration::from_secs(10);

/// What an application proves to be itself with, from Telegram's developer page.
#[derive(Clone, Debug)]
pub struct ApiKey {
    pub api_id: i32,
    pub api_hash: Secret,
}

/// One Telegram, reachable at an endpoint. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Telegram {
    endpoint: Arc<Endpoint>,
}

impl Telegram {
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint: Arc::new(endpoint) }
    }

    /// Which Telegram this is.
    pub fn environment(&self) -> &Environment {
        &self.endpoint.environment
    }

    /// Where its data centres are, for material that does not tell.
    pub fn addresses(&self) -> &BTreeMap<i32, SocketAddr> {
        &self.endpoint.dcs
    }

    /// Begins to sign in: makes a key at the default data centre and connects with it.
    ///
    /// # Errors
    /// `Unavailable` or `TimedOut` when Telegram does not answer by `deadline`, `Untrusted` when what answers
    /// is not the endpoint's Telegram, `ProxyUnsupported`.
    pub async fn sign_in(
        &self,
        way: Way,
        api_key: ApiKey,
        device: Device,
        proxy: Option<Proxy>,
        deadline: Instant,
    ) -> Result<SignIn, Error> {
        refuse_proxy(proxy.as_ref())?;
        self.sign_in_at(self.endpoint.home_dc, way, api_key, device, deadline).await
    }

    /// The same at the data centre where the account is known to live.
    ///
    /// # Errors
    /// As [`Self::sign_in`], and `DcUnknown`.
    pub async fn sign_in_at(
        &self,
        dc: i32,
        way: Way,
        api_key: ApiKey,
        device: Device,
        deadline: Instant,
    ) -> Result<SignIn, Error> {
        self.address(dc)?;
        SignIn::start(self.clone(), dc, api_key, device, way, deadline).await
    }

    /// Goes on with an attempt begun elsewhere, on its keys. Whoever began it must have stopped.
    ///
    /// # Errors
    /// `DcUnknown`. Others come with the first step: as [`Self::sign_in`], and `KeyUnknown` when Telegram has
    /// forgotten the key.
    pub fn resume(&self, checkpoint: Checkpoint, api_key: ApiKey, device: Device) -> Result<SignIn, Error> {
        SignIn::resume(self.clone(), api_key, device, checkpoint)
    }

    /// Whether the default data centre accepts connections, and how long that took.
    ///
    /// # Errors
    /// `Unavailable`, `TimedOut`.
    pub async fn reachable(&self, deadline: Instant) -> Result<Duration, Error> {
        const DOING: &str = "connecting to telegram";
        let began = Instant::now();
        let address = self.address(self.endpoint.home_dc)?;
        within(deadline.min(began + ATTEMPT_MAX), DOING, TcpStream::connect(address))
            .await?
            .map_err(|error| Error::unavailable(DOING, error))?;
        Ok(began.elapsed())
    }

    /// Addresses come from the endpoint alone: what a foreign session file names is never connected to.
    fn address(&self, dc: i32) -> Result<SocketAddr, Error> {
        self.endpoint.dcs.get(&dc).copied().ok_or(Error::DcUnknown { dc })
    }
}

/// An authorization that belongs behind a proxy must not show up from another address.
fn refuse_proxy(proxy: Option<&Proxy>) -> Result<(), Error> {
    if proxy.is_some() { Err(Error::ProxyUnsupported) } else { Ok(()) }
}
