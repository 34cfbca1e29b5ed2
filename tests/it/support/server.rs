//! The service in this process, on real sockets, over SQLite and in-process tickets unless told otherwise.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint as Address},
};
use usm::{
    app::{Adapters, App, LoginLimits, Settings, mirror::Plan, ownership::TakeOver, validator::Schedule},
    auth::{Authenticator, Order, Role, issue},
    boot::ports::{self, Closing, Ports, Served},
    domain::{budget::Limit, caller::Scope, id::TenantId, miniapp::Bots, secret::Secret},
    grpc::{Edge, Facts, Reflection, Room},
    http::{
        self, Readiness,
        miniapp::{Callbacks, MiniApp},
    },
    store::{Options, Store},
    telegram::{ApiKey, Telegram, endpoint::Endpoint},
    telemetry,
    tickets::{self, Memory, Redis, Tickets},
    vault::{KeyRing, Vault},
};
use usm_client::v1::{
    lease_service_client::LeaseServiceClient, login_service_client::LoginServiceClient,
    session_service_client::SessionServiceClient, system_service_client::SystemServiceClient,
};

/// The HS256 secret of every test server.
pub(crate) const JWT_SECRET: &str = "a-secret-of-more-than-32-bytes-for-tests";
pub(crate) const SERVICE_ROLE_KEY: &str = "sb_secret_of_the_tests_0123456789";
pub(crate) const ANON_KEY: &str = "sb_publishable_of_the_tests_0123456789";
pub(crate) const MESSAGE_SIZE_MAX: usize = 17 * 1024 * 1024;

/// A key nobody has the other half of, for servers whose tests never reach Telegram.
const NOBODYS_KEY: &str = "-----BEGIN RSA PUBLIC KEY-----
MIIBCgKCAQEApX0YfYVdTJmpmVEmOuVPHyhcdJ0xuegtIMCq1wFQJHwZx4FCFHqL
LdtYVCyGGjT50qhmgpxLEd63e7iRr0/gdEnx3Xf5SGf58+693OGhMcAGMFaJ4OuR
P582GNeX5L7L+Ik65xxYHIW4LrkroFXiEEKs2FKNfoplHAxUxuk+y5iunMfxqGLh
tXQq+/CPjkBo+rQ0szUyHHE7safZliudm/h48KD7MnWRSxtxKVsRkdYVrmIGPaF8
VR4v8NFMx+/V3gzSeiaKmExPyrcpWvbA09Ojo0aJJo6vRPW9BrHeTnWT+yRihyLa
lphyx8/m0zCy3PmLcU7ykCN2eMr0e+eHiQIDAQAB
-----END RSA PUBLIC KEY-----";

/// What a test may choose.
pub(crate) struct Setup {
    pub(crate) telegram: Endpoint,
    /// `None` is SQLite in the server's folder.
    pub(crate) database: Option<Secret>,
    /// `None` keeps tickets in the process.
    pub(crate) redis: Option<Secret>,
    pub(crate) room: Room,
    pub(crate) reflection: Reflection,
    pub(crate) lease_ttl: Duration,
    pub(crate) quiet_gap: Duration,
    pub(crate) ticket_ttl: Duration,
    pub(crate) login_limits: LoginLimits,
    /// Looks at no session by itself unless told.
    pub(crate) validation: Schedule,
    /// Keeps no files unless told.
    pub(crate) mirror: Option<Plan>,
    pub(crate) closing: Closing,
    pub(crate) cors_origins: Vec<&'static str>,
    pub(crate) bots: Bots,
    /// Of whoever signs initData.
    pub(crate) public_key: [u8; 32],
    pub(crate) callbacks: Option<Callbacks>,
}

impl Setup {
    pub(crate) fn with(telegram: Endpoint) -> Self {
        Self {
            telegram,
            database: None,
            redis: None,
            room: Room { requests_max: 256, streams_max: 256 },
            reflection: Reflection::Served,
            lease_ttl: Duration::from_secs(90),
            quiet_gap: Duration::from_secs(1),
            ticket_ttl: Duration::from_secs(120),
            login_limits: LoginLimits { phone: limit(5), api_id: limit(10_000), tenant: limit(2_000) },
            validation: Schedule::new(None, Duration::from_secs(3600), 5.0),
            mirror: None,
            closing: Closing { delay: Duration::ZERO, grace: Duration::from_secs(5) },
            cors_origins: Vec::new(),
            bots: Bots::new(),
            public_key: [0; 32],
            callbacks: None,
        }
    }

    /// Telegram is an address where nobody listens.
    pub(crate) fn without_telegram() -> Self {
        Self::with_telegram_at(SocketAddr::from(([127, 0, 0, 1], 1)))
    }

    /// Telegram is whoever listens there, which need not be one.
    pub(crate) fn with_telegram_at(address: SocketAddr) -> Self {
        let dcs = BTreeMap::from([(2, address)]);
        Self::with(Endpoint::sandbox(2, dcs, &[NOBODYS_KEY]).expect("a sound endpoint"))
    }
}

pub(crate) fn limit(logins: u32) -> Limit {
    Limit { logins, span: Duration::from_secs(3600) }
}

/// A running server; stopped by [`Server::stop`], cut off when dropped.
pub(crate) struct Server {
    pub(crate) app: App,
    pub(crate) address: SocketAddr,
    pub(crate) metrics_address: SocketAddr,
    folder: PathBuf,
    shutdown: CancellationToken,
    serving: Option<JoinHandle<Result<(), ports::Error>>>,
}

pub(crate) type Client = InterceptedService<Channel, Bearer>;

/// Adds a token to each call.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

impl Server {
    pub(crate) async fn start(setup: Setup) -> Self {
        let folder = std::env::temp_dir().join(format!("usm-server-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).unwrap();
        let app = app(&setup, &folder).await;
        app.hand_over_sessions();
        app.keep_mirror();
        app.watch_leases();
        app.share_logins(TakeOver::Yes);
        app.watch_over_sessions();

        let stop_streams = app.draining();
        let edge = Edge {
            app: app.clone(),
            authenticator: Authenticator::new(
                &Secret::new(JWT_SECRET),
                Some(&Secret::new(ANON_KEY)),
                Some(&Secret::new(SERVICE_ROLE_KEY)),
            ),
            room: setup.room,
            message_size_max: MESSAGE_SIZE_MAX,
            reflection: setup.reflection,
            facts: Facts {
                quiet_gap: setup.quiet_gap,
                ticket_ttl: setup.ticket_ttl,
                material_size_max: 16 * 1024 * 1024,
            },
            cors_origins: setup.cors_origins.iter().map(|origin| origin.parse().unwrap()).collect(),
            stop: stop_streams.clone(),
        };
        let miniapp = MiniApp {
            app: app.clone(),
            authenticator: edge.authenticator.clone(),
            bots: setup.bots.clone(),
            public_key: setup.public_key,
            callbacks: setup.callbacks.clone(),
            room: http::miniapp::Room {
                requests_max: setup.room.requests_max,
                streams_max: setup.room.streams_max,
            },
            cors_origins: edge.cors_origins.clone(),
            stop: stop_streams.clone(),
        };
        let exporter = telemetry::metrics::install().unwrap();
        let (grpc, health) = edge.build().await;
        let draining = CancellationToken::new();
        let asked = app.clone();
        let check = move || {
            let app = asked.clone();
            async move { app.ready().await }
        };
        let readiness = Readiness::new(check, draining.clone());
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let ports = Ports::bind(loopback, Some(loopback)).await.unwrap();
        let address = ports.main_address().unwrap();
        let metrics_address = ports.metrics_address().unwrap().unwrap();
        let served = Served {
            grpc,
            health,
            web: http::probes(readiness.clone()).merge(http::miniapp::routes(miniapp)),
            metrics: Some((http::metrics(exporter.clone(), readiness), exporter)),
            draining,
            stop_streams,
        };
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(ports.serve(served, shutdown.clone(), setup.closing));
        Self { app, address, metrics_address, folder, shutdown, serving: Some(serving) }
    }

    /// Asks the server to stop and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        self.serving.take().unwrap().await.unwrap().unwrap();
        self.app.stop(Duration::from_secs(5)).await;
    }

    /// Asks the server to stop and goes on.
    pub(crate) fn ask_to_stop(&self) {
        self.shutdown.cancel();
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A connection without credentials.
    pub(crate) async fn channel(&self) -> Channel {
        channel(self.url("")).await
    }

    /// A connection that sends this token, if any.
    pub(crate) async fn client(&self, token: Option<&str>) -> Client {
        client(self.url(""), token).await
    }

    pub(crate) async fn sessions(&self, token: &str) -> SessionServiceClient<Client> {
        SessionServiceClient::new(self.client(Some(token)).await)
            .max_decoding_message_size(MESSAGE_SIZE_MAX)
            .max_encoding_message_size(MESSAGE_SIZE_MAX)
    }

    pub(crate) async fn logins(&self, token: &str) -> LoginServiceClient<Client> {
        LoginServiceClient::new(self.client(Some(token)).await)
    }

    pub(crate) async fn leases(&self, token: &str) -> LeaseServiceClient<Client> {
        LeaseServiceClient::new(self.client(Some(token)).await).max_decoding_message_size(MESSAGE_SIZE_MAX)
    }

    pub(crate) async fn system(&self, token: &str) -> SystemServiceClient<Client> {
        SystemServiceClient::new(self.client(Some(token)).await)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
        let _gone = std::fs::remove_dir_all(&self.folder);
    }
}

async fn channel(url: String) -> Channel {
    let address = Address::from_shared(url).unwrap();
    address.connect_timeout(Duration::from_secs(5)).connect().await.unwrap()
}

/// A connection to any server, with this token, if any.
pub(crate) async fn client(url: String, token: Option<&str>) -> Client {
    let value = token.map(|token| format!("Bearer {token}").parse().unwrap());
    InterceptedService::new(channel(url).await, Bearer(value))
}

async fn app(setup: &Setup, folder: &Path) -> App {
    let embedded = Secret::new(format!("sqlite://{}", folder.join("usm.sqlite3").display()));
    let mut options =
        Options::new(setup.database.clone().unwrap_or(embedded), setup.telegram.environment().clone());
    options.quiet_gap = setup.quiet_gap;
    let api_key = ApiKey { api_id: 1, api_hash: Secret::new("test") };
    let vault = Vault::new(KeyRing::create(&folder.join("usm.keys"), usm::app::now()).unwrap());
    let tickets = match &setup.redis {
        None => Tickets::Memory(Memory::default()),
        Some(url) => {
            let settings = tickets::Settings { url: url.clone(), prefix: String::new(), ca: None };
            Tickets::Redis(Redis::connect(&settings, vault.clone()).await.unwrap())
        }
    };
    App::new(
        Adapters {
            store: Store::open(options).await.unwrap(),
            tickets,
            telegram: Telegram::new(setup.telegram.clone()),
            vault,
        },
        Settings {
            environment: setup.telegram.environment().clone(),
            lease_ttl: setup.lease_ttl,
            lease_heartbeat: Duration::from_secs(30),
            ticket_ttl: setup.ticket_ttl,
            api_keys: BTreeMap::from([("MASTER".to_owned(), api_key)]),
            api_key_default: "MASTER".to_owned(),
            logins_max: 64,
            login_limits: setup.login_limits,
            validation: setup.validation,
            mirror: setup.mirror.clone(),
        },
    )
}

/// A token of a service.
pub(crate) fn service_token() -> String {
    token(Role::ServiceRole, None, None)
}

/// A token of a tenant with these scopes.
pub(crate) fn tenant_token(tenant: &str, scopes: &[Scope]) -> String {
    token(Role::Authenticated, Some(tenant), Some(scopes.to_vec()))
}

/// A token of somebody by name.
pub(crate) fn token_of(subject: &str, tenant: &str) -> String {
    let tenant = Some(TenantId::parse(tenant).unwrap());
    let (role, scopes) = (Role::Authenticated, Some(Scope::ALL.to_vec()));
    signed(&Order { role, tenant, scopes, subject: Some(subject.to_owned()), ttl: Duration::from_secs(600) })
}

pub(crate) fn token(role: Role, tenant: Option<&str>, scopes: Option<Vec<Scope>>) -> String {
    let tenant = tenant.map(|tenant| TenantId::parse(tenant).unwrap());
    signed(&Order { role, tenant, scopes, subject: None, ttl: Duration::from_secs(600) })
}

fn signed(order: &Order) -> String {
    issue(&Secret::new(JWT_SECRET), order, usm::app::now()).unwrap().expose_secret().to_owned()
}
