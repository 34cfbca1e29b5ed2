//! One connection with one key: opened, used for one call at a time, listened on, closed.
//!
//! It owns its socket and has no task beside it. After a transient error it is of no use any more and its
//! owner drops it.

use std::{
    future::Future,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use grammers_mtproto::mtp;
use grammers_tl_types::{self as tl, RemoteCall, enums, functions};

use crate::{
    domain::material::{AuthKey, Device},
    telegram::{
        error::{Error, is_cut_short, of_transport_code},
        observed::{Notices, Observed},
        sender::Sender,
    },
};

/// How long a peer may take to hang up after we did.
const CLOSE_MAX: Duration = Duration::from_millis(300);

/// Where a connection goes and the key it goes with.
pub(super) struct Route<'a> {
    pub(super) address: SocketAddr,
    pub(super) auth_key: &'a AuthKey,
    /// Known right after a key was made; 0 makes the server tell, at the price of a round trip.
    pub(super) salt: i64,
}

/// How the client introduces itself.
pub(super) struct Client<'a> {
    pub(super) api_id: i32,
    pub(super) device: &'a Device,
}

pub(super) struct Connection {
    sender: Sender<Observed>,
    notices: Arc<Notices>,
    opened: Instant,
    /// The server's clock when the connection was opened, in whole seconds rounded down.
    server_date: i32,
}

/// What listening brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A login token was accepted.
    LoginToken,
    Nothing,
}

impl Connection {
    /// # Errors
    /// `TimedOut` at `deadline`, `KeyUnknown`, and whatever Telegram answers to the introduction.
    pub(super) async fn open(
        route: &Route<'_>,
        client: &Client<'_>,
        deadline: Instant,
    ) -> Result<Self, Error> {
        const DOING: &str = "connecting to telegram";
        let protocol = mtp::Encrypted::build().first_salt(route.salt).finish(*route.auth_key.expose_secret());
        let (protocol, notices) = Observed::new(protocol);
        let sender = within(deadline, DOING, Sender::connect(route.address, protocol))
            .await?
            .map_err(|error| Error::unavailable(DOING, error))?;
        let mut connection = Self { sender, notices, opened: Instant::now(), server_date: 0 };
        let enums::Config::Config(config) = connection.call(&introduction(client), DOING, deadline).await?;
        connection.opened = Instant::now();
        connection.server_date = config.date;
        Ok(connection)
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// `TimedOut` at `deadline`, `Unavailable` when the connection breaks, and what Telegram answers.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the connection usable; the answer, if one comes, is ignored.
    pub(super) async fn call<R: RemoteCall>(
        &mut self,
        request: &R,
        doing: &'static str,
        deadline: Instant,
    ) -> Result<R::Return, Error> {
        let answer = unless_panicked(doing, self.sender.invoke(request));
        within(deadline, doing, answer).await??.map_err(|error| {
            let code = self.notices.transport_code();
            if self.notices.is_fruitless() {
                Error::unavailable(doing, "nothing sent is accepted: this machine's clock may be ahead")
            } else if is_cut_short(&error) && code != 0 {
                of_transport_code(code, doing)
            } else {
                Error::of_invocation(error, doing)
            }
        })
    }

    /// Keeps the connection alive and waits for a login token to be accepted, at most until `until`.
    ///
    /// # Errors
    /// `Unavailable` when the connection breaks.
    ///
    /// # Cancel safety
    /// Nothing heard is lost: a push stays noted until it is returned.
    pub(super) async fn listen(&mut self, until: Instant) -> Result<Heard, Error> {
        const DOING: &str = "waiting for telegram";
        loop {
            if self.notices.take_login_token() {
                return Ok(Heard::LoginToken);
            }
            match within(until, DOING, unless_panicked(DOING, self.sender.step())).await {
                Err(_) => return Ok(Heard::Nothing),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(Err(error))) => return Err(Error::of_invocation(error, DOING)),
                Ok(Ok(Ok(()))) => {}
            }
        }
    }

    /// How long after now the server's clock shows `date`, rounded down.
    pub(super) fn until_server_date(&self, date: i32) -> Duration {
        let left = i64::from(date) - i64::from(self.server_date) - 1;
        let left = Duration::from_secs(u64::try_from(left).unwrap_or(0));
        left.saturating_sub(self.opened.elapsed())
    }

    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Says goodbye and waits a moment for the peer to hang up too. The socket is closed when this returns,
    /// or when its future is dropped.
    pub(super) async fn close(mut self) {
        const DOING: &str = "closing a connection";
        let goodbye = async {
            if self.sender.disconnect().await.is_ok() {
                while self.sender.step().await.is_ok() {}
            }
        };
        // Either way it is closed; nobody can do anything about a peer that does not hang up.
        let _ = within(Instant::now() + CLOSE_MAX, DOING, unless_panicked(DOING, goodbye)).await;
    }
}

fn introduction(
    client: &Client<'_>,
) -> functions::InvokeWithLayer<functions::InitConnection<functions::help::GetConfig>> {
    let device = client.device;
    functions::InvokeWithLayer {
        layer: tl::LAYER,
        query: functions::InitConnection {
            api_id: client.api_id,
            device_model: device.device_model.clone(),
            system_version: device.system_version.clone(),
            app_version: device.app_version.clone(),
            system_lang_code: device.system_lang_code.clone(),
            lang_pack: String::new(),
            lang_code: device.lang_code.clone(),
            proxy: None,
            params: None,
            query: functions::help::GetConfig {},
        },
    }
}

/// # Errors
/// `TimedOut` when `deadline` comes first.
pub(super) async fn within<T>(
    deadline: Instant,
    doing: &'static str,
    work: impl Future<Output = T>,
) -> Result<T, Error> {
    tokio::time::timeout_at(deadline.into(), work).await.map_err(|_| Error::TimedOut { doing })
}

/// grammers asserts in places what only a well-behaved server guarantees. A connection that panicked is as
/// broken as one that was cut.
pub(super) async fn unless_panicked<T>(
    doing: &'static str,
    work: impl Future<Output = T>,
) -> Result<T, Error> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|_| Error::Unavailable { doing, source: None })
}
