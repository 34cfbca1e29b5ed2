//! Tickets in Redis or Valkey: one node, Sentinel or Cluster, shared by all replicas.
//!
//! Every change is one script, so that nobody ever sees half of one. Commands fail at once while the connection is
//! down and within [`COMMAND_TIMEOUT`] otherwise; the connection comes back by itself. Nothing is sent twice.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fred::{
    clients::{Client, SubscriberClient, WithOptions},
    error::{Error as FredError, ErrorKind},
    interfaces::{ClientLike, EventInterface as _, LuaInterface as _, PubsubInterface as _},
    prelude::{HashesInterface as _, KeysInterface as _},
    types::{
        Builder, Expiration, MultipleKeys, SetOptions, Value,
        config::{
            Config, ConnectionConfig, Options, PerformanceConfig, ReconnectPolicy, TcpConfig, TlsConnector,
            UnresponsiveConfig,
        },
    },
};
use rustls::RootCertStore;
use tokio::{
    sync::{Mutex, Notify, broadcast::error::RecvError, mpsc},
    task::JoinHandle,
};
use zeroize::Zeroizing;

mod asks;
mod budget;
mod ownership;

use self::{asks::Asks, ownership::FIRST_TENURE};
use super::{
    Asked, CheckpointChange, Created, Error, Watch, content,
    key::{Keys, has_hash_tag},
    tls,
    watch::Watches,
};
use crate::{
    domain::{
        id::{ReplicaId, SessionKey, Ticket, TicketHash},
        login::{Login, Repeatable},
        secret::Secret,
        time::millis,
    },
    vault::Vault,
};

/// How long one command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(800);
/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long the start waits for the first connection before going on without.
const START_PATIENCE: Duration = Duration::from_secs(2);
/// Between two attempts to reconnect: from 50 ms, doubled up to 2 s, for ever.
const RECONNECT_MILLIS: (u32, u32) = (50, 2_000);
/// How long to wait before a connection that ended for good is begun anew.
const REVIVE_AFTER: Duration = Duration::from_secs(2);
/// How long to wait for the announcement of a connection before trying to subscribe all the same.
const RESUBSCRIBE_AFTER: Duration = Duration::from_secs(1);
/// Commands waiting for the connection; more fail.
const COMMANDS_MAX: usize = 4096;
/// News waiting to be read; more are dropped, and everybody who watches reads again.
const NEWS_MAX: usize = 1024;
const PREFIX_LENGTH_MAX: usize = 64;

const CREATE: &str = include_str!("lua/create.lua");
const UPDATE: &str = include_str!("lua/update.lua");

/// Where Redis is and what stands before its keys.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `redis://`, `rediss://`, `redis-cluster://`, `redis-sentinel://`, the same with `valkey`.
    pub url: Secret,
    /// Goes before each key and channel.
    pub prefix: String,
    /// Whom to trust where the URL asks for TLS, instead of the system's authorities.
    pub ca: Option<RootCertStore>,
}

/// Why Redis cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The parser's own message may quote the password, so it is left out.
    #[error("REDIS_URL is not a Redis URL such as redis://host:6379/0 or rediss://user:password@host")]
    Url,
    #[error(
        "on a Redis Cluster USM_REDIS_PREFIX must carry a hash tag such as {{usm}}: so that the keys of a login share a slot"
    )]
    NoHashTag,
    #[error("USM_REDIS_PREFIX must be at most 64 printable ASCII characters without spaces")]
    Prefix,
    #[error(
        "no certificate of Redis can be trusted: this system has no certificate authorities; name some in USM_REDIS_CA"
    )]
    NoAuthority,
}

/// The form in Redis.
#[derive(Debug)]
pub struct Redis {
    client: WithOptions<Client>,
    subscriber: SubscriberClient,
    keys: Keys,
    vault: Vault,
    watches: Watches,
    replica: ReplicaId,
    asks: Asks,
    /// One reader at a time; held while it waits, which keeps nobody else from anything.
    incoming: Mutex<mpsc::Receiver<Asked>>,
    /// Told when another replica left a login.
    left: Arc<Notify>,
    refusal: tls::Refusal,
    tasks: Tasks<()>,
}

impl Redis {
    /// Begins to connect and waits a moment for it. Redis may be away: calls fail until it is there.
    ///
    /// # Errors
    /// Settings that can never work.
    pub async fn connect(settings: &Settings, vault: Vault) -> Result<Self, SetupError> {
        let refusal = tls::Refusal::default();
        let builder = builder(settings, &refusal)?;
        let client = builder.build().map_err(|_| SetupError::Url)?;
        let subscriber = builder.build_subscriber_client().map_err(|_| SetupError::Url)?;
        let keys = Keys::new(&settings.prefix);
        let watches = Watches::default();
        let (asks, incoming) = Asks::new();
        let left = Arc::new(Notify::new());
        let news =
            News { watches: watches.clone(), asks: asks.clone(), left: left.clone(), vault: vault.clone() };
        let tasks = Tasks(vec![
            tokio::spawn(keep_connected(client.clone())),
            tokio::spawn(keep_connected(subscriber.clone())),
            tokio::spawn(pass_on_news(subscriber.clone(), keys.channel(), news)),
        ]);
        let _ = tokio::time::timeout(START_PATIENCE, client.wait_for_connect()).await;
        let options = Options {
            max_attempts: Some(1),
            timeout: Some(COMMAND_TIMEOUT),
            fail_fast: true,
            ..Options::default()
        };
        Ok(Self {
            client: client.with_options(&options),
            subscriber,
            keys,
            vault,
            watches,
            replica: ReplicaId::from_random(*uuid::Uuid::new_v4().as_bytes()),
            asks,
            incoming: Mutex::new(incoming),
            left,
            refusal,
            tasks,
        })
    }

    pub(super) fn replica(&self) -> &ReplicaId {
        &self.replica
    }

    pub(super) async fn create(
        &self,
        login: &Login,
        checkpoint: Option<&[u8]>,
        revision: i64,
        ttl: Duration,
    ) -> Result<Created, Error> {
        let login = Login { version: 1, ..login.clone() };
        let hash = login.ticket.hash();
        let mut keys = vec![
            self.keys.ticket(&login.ticket),
            self.keys.active(&login.key),
            self.keys.owner(&login.ticket),
            self.keys.running(),
        ];
        keys.extend(Repeatable::of(&login).map(|request| self.keys.request(&request)));
        let checkpoint = match checkpoint {
            Some(plain) => content::seal_checkpoint(&self.vault, &hash, plain)?,
            None => Vec::new(),
        };
        let arguments: Vec<Value> = vec![
            login.ticket.expose_secret().into(),
            hash.as_str().into(),
            login.state.name().into(),
            ended(&login).into(),
            bytes(content::seal(&self.vault, &login)?),
            bytes(checkpoint),
            millis(ttl).into(),
            self.keys.channel().into(),
            self.keys.ticket_prefix().into(),
            self.replica.as_str().into(),
            millis(FIRST_TENURE.min(ttl)).into(),
            revision.into(),
        ];
        let answer: Vec<String> = self.run("creating a login", CREATE, keys, arguments).await?;
        match answer.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            // A former ticket that is not one of ours was superseded all the same; nobody can follow it.
            ["new", former] => Ok(Created::New { login, superseded: Ticket::parse(former).ok() }),
            ["existing", known] => {
                let ticket = Ticket::parse(known).map_err(|_| Error::Unreadable { source: None })?;
                // It can only be gone by now if its time ended in between.
                self.get(&ticket).await?.map(Created::Existing).ok_or(Error::Conflict)
            }
            ["taken"] => Err(Error::Conflict),
            ["late"] => Ok(Created::Late),
            _ => Err(Error::Unreadable { source: None }),
        }
    }

    pub(super) async fn requested(&self, request: &Repeatable) -> Result<Option<Login>, Error> {
        let pointer: Option<String> = self
            .client
            .get(self.keys.request(request))
            .await
            .map_err(|error| failed("looking for the login of a request", error))?;
        let Some(ticket) = pointer else { return Ok(None) };
        let ticket = Ticket::parse(&ticket).map_err(|_| Error::Unreadable { source: None })?;
        let login = self.get(&ticket).await?;
        // Somebody bent the pointer, unless it is the request's own.
        match login {
            Some(login) if Repeatable::of(&login).as_ref() != Some(request) => {
                Err(Error::Unreadable { source: None })
            }
            login => Ok(login),
        }
    }

    pub(super) async fn get(&self, ticket: &Ticket) -> Result<Option<Login>, Error> {
        let row: (Option<u64>, Option<String>, Option<Vec<u8>>) = self
            .client
            .hmget(self.keys.ticket(ticket), vec!["v", "s", "d"])
            .await
            .map_err(|error| failed("reading a login", error))?;
        match row {
            (None, None, None) => Ok(None),
            (Some(version), Some(state), Some(sealed)) => {
                content::open(&self.vault, ticket, &content::Row { version, state, sealed }).map(Some)
            }
            (_, _, _) => Err(Error::Unreadable { source: None }),
        }
    }

    pub(super) async fn active(&self, key: &SessionKey) -> Result<Option<Login>, Error> {
        let pointer: Option<String> = self
            .client
            .get(self.keys.active(key))
            .await
            .map_err(|error| failed("looking for the active login", error))?;
        let Some(ticket) = pointer else { return Ok(None) };
        let ticket = Ticket::parse(&ticket).map_err(|_| Error::Unreadable { source: None })?;
        match self.get(&ticket).await? {
            Some(login) if login.key == *key => Ok(Some(login)),
            // Somebody bent the pointer.
            Some(_) => Err(Error::Unreadable { source: None }),
            None => Ok(None),
        }
    }

    pub(super) async fn checkpoint(&self, ticket: &Ticket) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let row: (Option<u64>, Option<Vec<u8>>) = self
            .client
            .hmget(self.keys.ticket(ticket), vec!["v", "c"])
            .await
            .map_err(|error| failed("reading a checkpoint", error))?;
        match row {
            (None, _) => Err(Error::NotFound),
            (Some(_), None) => Ok(None),
            (Some(_), Some(sealed)) => {
                content::open_checkpoint(&self.vault, &ticket.hash(), &sealed).map(Some)
            }
        }
    }

    pub(super) async fn update(
        &self,
        login: &Login,
        checkpoint: CheckpointChange<'_>,
    ) -> Result<Login, Error> {
        let hash = login.ticket.hash();
        let version = login.version.checked_add(1).ok_or(Error::Conflict)?;
        let updated = Login { version, ..login.clone() };
        let (change, sealed) = match checkpoint {
            CheckpointChange::Keep => ("keep", Vec::new()),
            CheckpointChange::Set(plain) => ("set", content::seal_checkpoint(&self.vault, &hash, plain)?),
            CheckpointChange::Clear => ("clear", Vec::new()),
        };
        let arguments: Vec<Value> = vec![
            login.version.to_string().into(),
            updated.state.name().into(),
            ended(&updated).into(),
            bytes(content::seal(&self.vault, &updated)?),
            change.into(),
            bytes(sealed),
            self.keys.channel().into(),
            hash.as_str().into(),
            self.replica.as_str().into(),
        ];
        let keys = vec![self.keys.ticket(&login.ticket)];
        match self.run::<i64>("updating a login", UPDATE, keys, arguments).await? {
            1 => Ok(updated),
            0 => Err(Error::Conflict),
            -1 => Err(Error::NotFound),
            -2 => Err(Error::NotOwner),
            _ => Err(Error::Unreadable { source: None }),
        }
    }

    pub(super) fn watch(&self, ticket: &Ticket) -> Result<Watch, Error> {
        self.watches.begin(ticket.hash())
    }

    pub(super) async fn use_once(&self, what: &str, ttl: Duration) -> Result<bool, Error> {
        let (expire, only_new) = (Expiration::PX(millis(ttl)), SetOptions::NX);
        let set: Option<String> = self
            .client
            .set(self.keys.used(what), 1, Some(expire), Some(only_new), false)
            .await
            .map_err(|error| failed("remembering what was used", error))?;
        Ok(set.is_some())
    }

    pub(super) async fn forget_use(&self, what: &str) -> Result<(), Error> {
        self.client
            .del::<i64, _>(self.keys.used(what))
            .await
            .map(drop)
            .map_err(|error| failed("forgetting what was used", error))
    }

    pub(super) async fn ping(&self, deadline: Instant) -> Result<(), Error> {
        let doing = "asking whether it is there";
        match tokio::time::timeout_at(deadline.into(), self.client.ping::<Value>(None)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(failed(doing, error)),
            Err(elapsed) => Err(Error::unavailable(doing, elapsed)),
        }
    }

    pub(super) fn trouble(&self) -> Option<&'static str> {
        self.refusal.reason()
    }

    pub(super) async fn close(&self) {
        let quit = async { tokio::join!(self.client.quit(), self.subscriber.quit()) };
        let _ = tokio::time::timeout(COMMAND_TIMEOUT, quit).await;
        self.tasks.end();
    }

    /// Runs one script. The text goes along each time: a script cache that was flushed, or a replica that took
    /// over, then needs no second step.
    async fn run<T: fred::types::FromValue>(
        &self,
        doing: &'static str,
        script: &'static str,
        keys: Vec<String>,
        arguments: Vec<Value>,
    ) -> Result<T, Error> {
        self.client
            .eval::<T, _, _, _>(script, MultipleKeys::from(keys), arguments)
            .await
            .map_err(|error| failed(doing, error))
    }
}

fn builder(settings: &Settings, refusal: &tls::Refusal) -> Result<Builder, SetupError> {
    let prefix = &settings.prefix;
    if prefix.len() > PREFIX_LENGTH_MAX || !prefix.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(SetupError::Prefix);
    }
    let (scheme, rest) = settings.url.expose_secret().split_once("://").ok_or(SetupError::Url)?;
    let (protocol, deployment) = scheme.split_once('-').unwrap_or((scheme, ""));
    if !["redis", "rediss", "valkey", "valkeys"].contains(&protocol)
        || !["", "cluster", "sentinel"].contains(&deployment)
    {
        return Err(SetupError::Url);
    }
    // Asked for TLS, the parser would read the system's authorities, and fail over a single odd one.
    let plain = Secret::new(format!("redis{}://{rest}", scheme.strip_prefix(protocol).unwrap_or_default()));
    let mut config = Config::from_url(plain.expose_secret()).map_err(|_| SetupError::Url)?;
    if ["rediss", "valkeys"].contains(&protocol) {
        let client = tls::client(settings.ca.as_ref(), refusal.clone());
        config.tls = Some(TlsConnector::from(client.map_err(|_| SetupError::NoAuthority)?).into());
    }
    if config.server.is_clustered() && !has_hash_tag(prefix) {
        return Err(SetupError::NoHashTag);
    }
    // Being away at the start is no reason to give up.
    config.fail_fast = false;
    let mut builder = Builder::from_config(config);
    builder
        .with_connection_config(|it: &mut ConnectionConfig| {
            it.connection_timeout = CONNECT_TIMEOUT;
            it.internal_command_timeout = CONNECT_TIMEOUT;
            it.max_command_attempts = 1;
            it.max_command_buffer_len = COMMANDS_MAX;
            it.auto_client_setname = true;
            // A password that is put right in the server must not need a restart here.
            it.reconnect_on_auth_error = true;
            it.unresponsive = UnresponsiveConfig {
                max_timeout: Some(Duration::from_secs(2)),
                interval: Duration::from_millis(500),
            };
            it.tcp = TcpConfig { nodelay: Some(true), ..TcpConfig::default() };
        })
        .with_performance_config(|it: &mut PerformanceConfig| {
            it.default_command_timeout = COMMAND_TIMEOUT;
            it.broadcast_channel_capacity = NEWS_MAX;
        })
        .set_policy(ReconnectPolicy::new_exponential(0, RECONNECT_MILLIS.0, RECONNECT_MILLIS.1, 2));
    Ok(builder)
}

/// Everybody here who wants to hear what is published.
struct News {
    watches: Watches,
    asks: Asks,
    left: Arc<Notify>,
    vault: Vault,
}

impl News {
    fn tell(&self, message: String) {
        if message == ownership::LEFT {
            self.left.notify_one();
        } else if !self.asks.hear(&message, &self.vault) {
            self.watches.wake(&TicketHash::from_stored(message));
        }
    }

    /// Something may have been missed.
    fn wake_all(&self) {
        self.watches.wake_all();
        self.left.notify_one();
    }
}

/// Connects, and again should the client ever consider itself beyond help.
async fn keep_connected<C: ClientLike>(client: C) {
    loop {
        // The client reconnects by itself; this ends only on errors that it takes for final.
        let mut connection = Tasks(vec![client.connect()]);
        for end in &mut connection.0 {
            let _ = end.await;
        }
        tokio::time::sleep(REVIVE_AFTER).await;
    }
}

/// Subscribes on each new connection, then wakes everybody, because what was published in between is lost, and
/// then passes the news on until the connection is another one.
async fn pass_on_news(subscriber: SubscriberClient, channel: String, listeners: News) {
    let mut connections = subscriber.reconnect_rx();
    let mut news = subscriber.message_rx();
    loop {
        if subscriber.subscribe(channel.as_str()).await.is_err() {
            // Away. The next connection is announced; the time limit is for one that was announced too early.
            if let Ok(Err(RecvError::Closed)) =
                tokio::time::timeout(RESUBSCRIBE_AFTER, connections.recv()).await
            {
                return;
            }
            continue;
        }
        listeners.wake_all();
        loop {
            tokio::select! {
                connection = connections.recv() => match connection {
                    Ok(_) | Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return,
                },
                message = news.recv() => match message {
                    Ok(message) => {
                        if let Ok(text) = message.value.convert::<String>() {
                            listeners.tell(text);
                        }
                    }
                    Err(RecvError::Lagged(_)) => listeners.wake_all(),
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }
}

/// Background tasks that end with their owner.
#[derive(Debug)]
struct Tasks<T>(Vec<JoinHandle<T>>);

impl<T> Tasks<T> {
    fn end(&self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl<T> Drop for Tasks<T> {
    fn drop(&mut self) {
        self.end();
    }
}

fn ended(login: &Login) -> &'static str {
    if login.state.is_final() { "1" } else { "0" }
}

fn bytes(sealed: Vec<u8>) -> Value {
    Value::Bytes(sealed.into())
}

/// Redis' own words on what failed; they name keys at most in errors about types, which our scripts cannot cause.
fn failed(doing: &'static str, error: FredError) -> Error {
    match error.kind() {
        ErrorKind::Parse | ErrorKind::NotFound => Error::Unreadable { source: Some(Box::new(error)) },
        _ => Error::unavailable(doing, error),
    }
}
