//! The one connection of this worker, through grammers: opened by the first question, closed for certain.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use grammers_client::Client;
use grammers_client::client::ClientConfiguration;
use grammers_client::sender::{ConnectionParams, InvocationError, NoRetries, SenderPool, SenderPoolHandle};
use grammers_client::session::types::{DcOption, PeerId, PeerInfo, UpdateState, UpdatesState};
use grammers_client::session::{BoxFuture, Session};
use grammers_client::tl;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use usm_client::Connections;

use crate::material::Home;

/// grammers waits for ever.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long the pool may take to hear that it is to quit; it does not while it connects.
const QUIT_MAX: Duration = Duration::from_millis(300);

/// What came in place of an answer.
pub(crate) enum Trouble {
    /// Telegram's own answer; `code` as it sent it, -404 and the like for errors of the transport.
    Refused { code: i32, message: String },
    /// None came, or the connection broke: says nothing of the session.
    Unanswered(String),
}

pub(crate) struct Connection {
    client: Client,
    pool: SenderPoolHandle,
    runner: JoinHandle<()>,
}

impl Connection {
    /// Opens nothing yet: the first question does.
    pub(crate) fn new(home: &Home) -> Self {
        let device = &home.device;
        let parameters = ConnectionParams {
            device_model: device.device_model.clone(),
            system_version: device.system_version.clone(),
            app_version: device.app_version.clone(),
            system_lang_code: device.system_lang_code.clone(),
            lang_code: device.lang_code.clone(),
            use_ipv6: home.address.is_ipv6(),
            retry_policy: Box::new(NoRetries),
            updates_channel_capacity: NonZeroUsize::MIN,
            __non_exhaustive: (),
        };
        let pool = SenderPool::with_configuration(Arc::new(Lent::new(home)), home.api_id, parameters);
        let handle = pool.handle.thin.clone();
        let client = Client::with_configuration(pool.handle, ClientConfiguration::default());
        Self { client, pool: handle, runner: tokio::spawn(pool.runner.run()) }
    }

    /// Asks Telegram who the session belongs to.
    ///
    /// # Errors
    /// [`Trouble`], within ten seconds.
    ///
    /// # Cancel safety
    /// Dropped midway, the answer is ignored.
    pub(crate) async fn me(&self) -> Result<i64, Trouble> {
        let id = vec![tl::enums::InputUser::UserSelf];
        let question = tl::functions::users::GetUsers { id };
        let users = timeout(ANSWER_MAX, self.client.invoke(&question))
            .await
            .map_err(|_| Trouble::Unanswered("no answer in time".into()))?
            .map_err(|error| trouble(&error))?;
        users
            .first()
            .map(tl::enums::User::id)
            .ok_or_else(|| Trouble::Unanswered("the answer names nobody".into()))
    }

    /// Closes the connection, at the latest at `until`, and tells whether that is certain.
    pub(crate) async fn close(mut self, until: Instant) -> Connections {
        self.pool.quit();
        let quit = timeout_at(until.min(Instant::now() + QUIT_MAX), &mut self.runner).await;
        match quit {
            Ok(Ok(())) => return Connections::Closed,
            // It panicked; what it had opened is closed by the runtime some time soon.
            Ok(Err(_)) => return Connections::Unknown,
            Err(_) => self.runner.abort(),
        }
        // It was connecting: the socket was its own and went with it.
        match self.runner.await {
            Err(end) if end.is_panic() => Connections::Unknown,
            Ok(()) | Err(_) => Connections::Closed,
        }
    }
}

fn trouble(error: &InvocationError) -> Trouble {
    match error {
        InvocationError::Rpc(error) => {
            let message = match error.value {
                Some(value) => format!("{}_{value}", error.name),
                None => error.name.clone(),
            };
            Trouble::Refused { code: error.code, message }
        }
        other => Trouble::Unanswered(other.to_string()),
    }
}

/// The lent material as grammers wants a session: kept in memory, and never changed by it.
struct Lent {
    home: DcOption,
}

/// grammers wanted to go on without the lent key.
#[derive(Debug, thiserror::Error)]
#[error("the lent key or its data centre is not accepted")]
struct NotAccepted;

impl Lent {
    fn new(home: &Home) -> Self {
        let unused =
            (SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0));
        let (ipv4, ipv6) = match home.address {
            SocketAddr::V4(address) => (address, unused.1),
            SocketAddr::V6(address) => (unused.0, address),
        };
        Self { home: DcOption { id: home.dc_id, ipv4, ipv6, auth_key: Some(*home.auth_key) } }
    }
}

impl Session for Lent {
    type Error = NotAccepted;

    fn home_dc_id(&self) -> Result<i32, NotAccepted> {
        Ok(self.home.id)
    }

    fn set_home_dc_id(&self, dc_id: i32) -> BoxFuture<'_, Result<(), NotAccepted>> {
        Box::pin(async move { if dc_id == self.home.id { Ok(()) } else { Err(NotAccepted) } })
    }

    /// Only the home one: no second connection is ever opened.
    fn dc_option(&self, dc_id: i32) -> Result<Option<DcOption>, NotAccepted> {
        Ok((dc_id == self.home.id).then(|| self.home.clone()))
    }

    /// Addresses of the configuration are not taken: the material says where to connect.
    fn set_dc_option(&self, option: &DcOption) -> BoxFuture<'_, Result<(), NotAccepted>> {
        let replaced = option.id == self.home.id && option.auth_key != self.home.auth_key;
        Box::pin(async move { if replaced { Err(NotAccepted) } else { Ok(()) } })
    }

    fn peer(&self, _: PeerId) -> BoxFuture<'_, Result<Option<PeerInfo>, NotAccepted>> {
        Box::pin(async { Ok(None) })
    }

    fn cache_peer(&self, _: PeerInfo) -> BoxFuture<'_, Result<(), NotAccepted>> {
        Box::pin(async { Ok(()) })
    }

    fn updates_state(&self) -> BoxFuture<'_, Result<UpdatesState, NotAccepted>> {
        Box::pin(async { Ok(UpdatesState::default()) })
    }

    fn set_update_state(&self, _: UpdateState) -> BoxFuture<'_, Result<(), NotAccepted>> {
        Box::pin(async { Ok(()) })
    }
}
