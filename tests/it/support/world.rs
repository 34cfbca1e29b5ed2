//! A whole small world: the sandbox of Telegram, the service over either pair of stores, and typed calls to it.

use std::time::Duration;

use serde_json::{Value, json};
use tonic::{Request, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use usm::{
    domain::{
        material::{Format, Material},
        secret::Secret,
    },
    formats,
};
use usm_client::v1::{
    self, LoginState, SessionState, lease_service_client::LeaseServiceClient,
    login_service_client::LoginServiceClient, session_service_client::SessionServiceClient,
};

use super::{
    poll,
    postgres::Database,
    redis::Redis,
    server::{Client, MESSAGE_SIZE_MAX, Server, Setup, service_token},
    telegram::{TelegramSandbox, User},
};

pub(crate) const TENANT: &str = "acme";
/// Whoever scans codes in tests.
pub(crate) const ANN: i64 = 1001;
pub(crate) const BOB: i64 = 1002;

/// Where the service keeps things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// SQLite and tickets in the process.
    Embedded,
    /// PostgreSQL and Redis.
    OnServers,
}

/// Makes of each `async fn fact(shape: Shape)` a test per shape.
macro_rules! on_both_shapes {
    ($($fact:ident),+ $(,)?) => { $(
        mod $fact {
            #[tokio::test]
            async fn embedded() {
                super::$fact($crate::support::world::Shape::Embedded).await;
            }

            #[tokio::test]
            async fn on_servers() {
                super::$fact($crate::support::world::Shape::OnServers).await;
            }
        }
    )+ };
}
pub(crate) use on_both_shapes;

/// The same for facts that mostly wait: one test, both shapes side by side.
macro_rules! on_both_shapes_at_once {
    ($($fact:ident),+ $(,)?) => { $(
        mod $fact {
            use $crate::support::world::Shape;

            #[tokio::test]
            async fn embedded_and_on_servers() {
                tokio::join!(super::$fact(Shape::Embedded), super::$fact(Shape::OnServers));
            }
        }
    )+ };
}
pub(crate) use on_both_shapes_at_once;

/// What a test may choose of its world.
pub(crate) struct Plan {
    pub(crate) quiet_gap: Duration,
    pub(crate) ticket_ttl: Duration,
    /// Settings of the sandbox.
    pub(crate) telegram: Value,
}

impl Default for Plan {
    fn default() -> Self {
        Self { quiet_gap: Duration::from_secs(1), ticket_ttl: Duration::from_secs(120), telegram: json!({}) }
    }
}

/// Everything a test needs, around the service in this process or in one of its own; ends with the test.
pub(crate) struct World<S = Server> {
    pub(crate) sandbox: TelegramSandbox,
    pub(crate) server: S,
    pub(crate) redis: Option<Redis>,
    pub(crate) sessions: SessionServiceClient<Client>,
    pub(crate) logins: LoginServiceClient<Client>,
    pub(crate) leases: LeaseServiceClient<Client>,
}

impl World {
    pub(crate) async fn start(shape: Shape) -> Self {
        Self::planned(shape, Plan::default()).await
    }

    pub(crate) async fn planned(shape: Shape, plan: Plan) -> Self {
        Self::set_up(shape, plan, |_| {}).await
    }

    /// With a server of the test's own making.
    pub(crate) async fn set_up(shape: Shape, plan: Plan, change: impl FnOnce(&mut Setup)) -> Self {
        let sandbox = people(plan.telegram).await;
        let mut setup = Setup::with(sandbox.endpoint());
        setup.quiet_gap = plan.quiet_gap;
        setup.ticket_ttl = plan.ticket_ttl;
        let redis = match shape {
            Shape::Embedded => None,
            Shape::OnServers => {
                setup.database = Some(Database::migrated().await.program_url());
                Some(Redis::start())
            }
        };
        setup.redis = redis.as_ref().map(|redis| Secret::new(redis.url()));
        change(&mut setup);
        let server = Server::start(setup).await;
        let client = server.client(Some(&service_token())).await;
        Self::around(sandbox, server, redis, client)
    }

    /// Lets go of everything in order, and fails if the server cannot.
    pub(crate) async fn stop(self) {
        self.server.stop().await;
    }
}

impl<S> World<S> {
    pub(crate) fn around(sandbox: TelegramSandbox, server: S, redis: Option<Redis>, client: Client) -> Self {
        Self {
            sandbox,
            server,
            redis,
            sessions: SessionServiceClient::new(client.clone())
                .max_decoding_message_size(MESSAGE_SIZE_MAX)
                .max_encoding_message_size(MESSAGE_SIZE_MAX),
            logins: LoginServiceClient::new(client.clone()),
            leases: LeaseServiceClient::new(client).max_decoding_message_size(MESSAGE_SIZE_MAX),
        }
    }

    // Logins.

    pub(crate) async fn begin(&self, request: v1::StartQrLoginRequest) -> Result<v1::Login, Status> {
        let answer = self.logins.clone().start_qr_login(request).await?;
        Ok(answer.into_inner().login.expect("a login"))
    }

    /// A login whose code can be scanned.
    pub(crate) async fn code(&self, app: &str) -> v1::Login {
        let login = self.begin(qr(app)).await.expect("a login starts");
        assert_eq!(login.state(), LoginState::WaitingQrScan);
        login
    }

    pub(crate) async fn scan(&self, login: &v1::Login, user: i64) {
        self.sandbox.scan(&Secret::new(login.qr_url.as_str()), user).await.expect("a valid code");
    }

    pub(crate) async fn login(&self, ticket: &str) -> v1::Login {
        let request = v1::GetLoginRequest { ticket: ticket.to_owned() };
        let answer = self.logins.clone().get_login(request).await.expect("a known ticket");
        answer.into_inner().login.expect("a login")
    }

    /// The login once it is in this state.
    pub(crate) async fn login_once(&self, ticket: &str, state: LoginState) -> v1::Login {
        poll::until(state.as_str_name(), || async {
            Some(self.login(ticket).await).filter(|login| login.state() == state)
        })
        .await
    }

    pub(crate) async fn password(&self, ticket: &str, password: &str) -> Result<v1::Login, Status> {
        let request = v1::SubmitPasswordRequest {
            ticket: ticket.to_owned(),
            password: password.to_owned(),
            ..Default::default()
        };
        let answer = self.logins.clone().submit_password(request).await?;
        Ok(answer.into_inner().login.expect("a login"))
    }

    pub(crate) async fn finalize(&self, ticket: &str, password: &str) -> Result<v1::Login, Status> {
        let request = v1::FinalizeLoginRequest {
            ticket: ticket.to_owned(),
            password: password.to_owned(),
            ..Default::default()
        };
        let answer = self.logins.clone().finalize_login(within(20, request)).await?;
        Ok(answer.into_inner().login.expect("a login"))
    }

    pub(crate) async fn cancel(&self, ticket: &str) -> Result<v1::Login, Status> {
        let request = v1::CancelLoginRequest { ticket: ticket.to_owned(), ..Default::default() };
        let answer = self.logins.clone().cancel_login(request).await?;
        Ok(answer.into_inner().login.expect("a login"))
    }

    /// A whole login by QR.
    pub(crate) async fn log_in(&self, app: &str, user: i64) -> v1::Session {
        let login = self.code(app).await;
        self.scan(&login, user).await;
        let end = self.finalize(&login.ticket, "").await.expect("a login that ends in time");
        assert_eq!(end.state(), LoginState::Authorized, "{:?}", end.failure);
        self.session(app).await
    }

    /// Waits until no authorization is left at Telegram.
    pub(crate) async fn nobody_is_signed_in(&self) {
        poll::until("no authorization is left", || async {
            self.sandbox.authorizations().await.is_empty().then_some(())
        })
        .await;
    }

    // Sessions.

    pub(crate) async fn find(&self, app: &str) -> Result<v1::Session, Status> {
        let request = v1::GetSessionRequest { tenant_id: TENANT.to_owned(), app_id: app.to_owned() };
        let answer = self.sessions.clone().get_session(request).await?;
        Ok(answer.into_inner().session.expect("a session"))
    }

    pub(crate) async fn session(&self, app: &str) -> v1::Session {
        self.find(app).await.expect("a session")
    }

    /// The session once it is in this state.
    pub(crate) async fn session_once(&self, app: &str, state: SessionState) -> v1::Session {
        poll::until(state.as_str_name(), || async {
            Some(self.session(app).await).filter(|session| session.state() == state)
        })
        .await
    }

    pub(crate) async fn import(
        &self,
        request: v1::ImportSessionRequest,
    ) -> Result<v1::ImportSessionResponse, Status> {
        Ok(self.sessions.clone().import_session(request).await?.into_inner())
    }

    /// An authorization of the account, imported under this name and ours alone.
    pub(crate) async fn lendable(&self, app: &str, user: i64) -> Material {
        let material = self.sandbox.mint(2, user).await;
        let data = self.written(&material, Format::TelethonString).await;
        let request = v1::ImportSessionRequest { legacy_stopped: true, ..import(app, data) };
        let imported = self.import(request).await.expect("imported");
        assert_eq!(imported.session.expect("a session").state(), SessionState::Authorized);
        material
    }

    pub(crate) async fn written(&self, material: &Material, format: Format) -> Vec<u8> {
        let telegram = self.sandbox.telegram();
        formats::write(material, format, telegram.addresses()).await.expect("written").data.to_vec()
    }

    pub(crate) async fn parsed(&self, data: &[u8], format: Format) -> Material {
        let telegram = self.sandbox.telegram();
        formats::parse(data, Some(format), telegram.addresses()).await.expect("parsed").material
    }

    /// The events of a session as (kind, reason), in order.
    pub(crate) async fn events(&self, app: &str) -> Vec<(v1::SessionEventKind, String)> {
        let request = v1::ListSessionEventsRequest {
            tenant_id: TENANT.to_owned(),
            app_id: app.to_owned(),
            page_size: 100,
            ..Default::default()
        };
        let answer = self.sessions.clone().list_session_events(request).await.expect("listed");
        answer.into_inner().events.into_iter().map(|event| (event.kind(), event.reason)).collect()
    }

    // Leases.

    pub(crate) async fn acquire(
        &self,
        request: v1::AcquireLeaseRequest,
    ) -> Result<v1::AcquireLeaseResponse, Status> {
        Ok(self.leases.clone().acquire_lease(request).await?.into_inner())
    }

    pub(crate) async fn lend(&self, app: &str) -> (v1::Lease, v1::SessionMaterial) {
        let answer = self.acquire(lease(app, "worker-1")).await.expect("a free session");
        (answer.lease.expect("a lease"), answer.material.expect("material"))
    }

    pub(crate) async fn renew(&self, lease: &v1::Lease) -> Result<v1::Lease, Status> {
        let request = v1::RenewLeaseRequest {
            lease_id: lease.lease_id.clone(),
            epoch: lease.epoch,
            ..Default::default()
        };
        Ok(self.leases.clone().renew_lease(request).await?.into_inner().lease.expect("a lease"))
    }

    pub(crate) async fn release(
        &self,
        lease: &v1::Lease,
        connections_closed: bool,
    ) -> Result<v1::Lease, Status> {
        let request = v1::ReleaseLeaseRequest {
            lease_id: lease.lease_id.clone(),
            epoch: lease.epoch,
            connections_closed,
            ..Default::default()
        };
        Ok(self.leases.clone().release_lease(request).await?.into_inner().lease.expect("a lease"))
    }
}

/// A sandbox with the people of every test.
pub(crate) async fn people(settings: Value) -> TelegramSandbox {
    let sandbox = TelegramSandbox::start_with(settings).await;
    for (id, username) in [(ANN, "ann"), (BOB, "bob")] {
        sandbox.add(User { id, username: Some(username), ..User::default() }).await;
    }
    sandbox
}

pub(crate) fn qr(app: &str) -> v1::StartQrLoginRequest {
    v1::StartQrLoginRequest { tenant_id: TENANT.to_owned(), app_id: app.to_owned(), ..Default::default() }
}

pub(crate) fn import(app: &str, data: Vec<u8>) -> v1::ImportSessionRequest {
    v1::ImportSessionRequest {
        tenant_id: TENANT.to_owned(),
        app_id: app.to_owned(),
        data,
        ..Default::default()
    }
}

pub(crate) fn lease(app: &str, holder: &str) -> v1::AcquireLeaseRequest {
    v1::AcquireLeaseRequest {
        tenant_id: TENANT.to_owned(),
        app_id: app.to_owned(),
        holder: holder.to_owned(),
        ttl: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
        format: v1::SessionFormat::Raw.into(),
        ..Default::default()
    }
}

pub(crate) fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// A request with its deadline, in seconds.
pub(crate) fn within<T>(seconds: u64, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(seconds));
    request
}

pub(crate) fn details(status: &Status) -> ErrorDetails {
    status.get_error_details()
}

/// The reason of a refusal, which always comes in our domain.
pub(crate) fn reason(status: &Status) -> String {
    let details = details(status);
    let info = details.error_info().unwrap_or_else(|| panic!("a reason: {status:?}"));
    assert_eq!(info.domain, "usm");
    info.reason.clone()
}

pub(crate) fn fact(status: &Status, name: &str) -> Option<String> {
    details(status).error_info().and_then(|info| info.metadata.get(name).cloned())
}

/// When to try again.
pub(crate) fn pause(status: &Status) -> Option<Duration> {
    details(status).retry_info().and_then(|retry| retry.retry_delay)
}

/// The request field that was at fault.
pub(crate) fn field(status: &Status) -> Option<String> {
    details(status).bad_request().and_then(|bad| Some(bad.field_violations.first()?.field.clone()))
}

pub(crate) fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> Status {
    answer.expect_err("a refusal")
}
