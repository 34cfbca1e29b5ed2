//! The services put together, behind one stack of layers.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Response};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body, service::Routes};
use tonic_health::server::HealthReporter;
use tonic_web::GrpcWebLayer;
use tower::ServiceBuilder;
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
};
use usm_client::v1::{
    backup_service_server::BackupServiceServer, lease_service_server::LeaseServiceServer,
    login_service_server::LoginServiceServer, session_service_server::SessionServiceServer,
    system_service_server::SystemServiceServer,
};

use crate::{
    app::App,
    auth::Authenticator,
    grpc::{
        backup_service::Backups,
        gate::{GateLayer, Room},
        lease_service::Leases,
        login_service::Logins,
        policy,
        session_service::Sessions,
        status,
        system_service::System,
    },
    telemetry::{layer::ObserveLayer, metrics},
};

/// How long a browser may remember what a page of another origin may do.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(600);
/// What a page may send beside the message.
const ALLOWED_HEADERS: [&str; 6] =
    ["content-type", "x-grpc-web", "x-user-agent", "grpc-timeout", "authorization", "traceparent"];
/// What a page may see of the answer.
const EXPOSED_HEADERS: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];

/// Whether the contract can be read from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reflection {
    Served,
    Hidden,
}

/// What `GetInfo` tells beside what the use cases know.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub quiet_gap: Duration,
    pub ticket_ttl: Duration,
    pub material_size_max: i64,
}

/// Everything the edge is made of.
#[derive(Debug)]
pub struct Edge {
    pub app: App,
    pub authenticator: Authenticator,
    pub room: Room,
    /// The largest message in either direction, in bytes.
    pub message_size_max: usize,
    pub reflection: Reflection,
    pub facts: Facts,
    /// Origins whose pages may call.
    pub cors_origins: Vec<HeaderValue>,
    /// Ends streams when the replica stops.
    pub stop: CancellationToken,
}

/// Tells load balancers whether this replica serves.
#[derive(Clone)]
pub struct Health(HealthReporter);

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Health(..)")
    }
}

impl Health {
    /// Every service, and the server as a whole, from now on.
    pub async fn tell(&self, serving: Serving) {
        let state = match serving {
            Serving::Yes => tonic_health::ServingStatus::Serving,
            Serving::No => tonic_health::ServingStatus::NotServing,
        };
        let services =
            policy::TABLE.iter().filter_map(|row| row.method().split_once('/')).map(|(name, _)| name);
        for service in std::iter::once("").chain(services.filter(|name| name.starts_with("usm."))) {
            self.0.set_service_status(service, state).await;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    Yes,
    No,
}

impl Edge {
    /// The routes of every service, and the handle that tells whether they serve. They do not until told so.
    pub async fn build(self) -> (Routes, Health) {
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let health = Health(reporter);
        health.tell(Serving::No).await;
        for row in policy::TABLE {
            metrics::rpc_known(row.method());
        }

        let limit = self.message_size_max;
        macro_rules! bounded {
            ($service:expr) => {
                $service.max_decoding_message_size(limit).max_encoding_message_size(limit)
            };
        }
        let mut routes = Routes::new(bounded!(SessionServiceServer::new(Sessions { app: self.app.clone() })))
            .add_service(bounded!(LoginServiceServer::new(Logins { app: self.app.clone() })))
            .add_service(bounded!(LeaseServiceServer::new(Leases { app: self.app.clone() })))
            .add_service(bounded!(BackupServiceServer::new(Backups)))
            .add_service(bounded!(SystemServiceServer::new(System { app: self.app, facts: self.facts })))
            .add_service(health_service);
        match self.reflection {
            Reflection::Served => {
                routes = with_reflection(routes);
            }
            Reflection::Hidden => {}
        }

        let stack = ServiceBuilder::new()
            // Preflights carry no credentials and must be answered before anything asks for them.
            .layer(cors(self.cors_origins))
            // From here inward everybody speaks gRPC, whatever came over the wire.
            .layer(GrpcWebLayer::new())
            // Sees every answer below, refusals and panics included, under a name from the table.
            .layer(ObserveLayer { method_of: policy::method_of })
            // A defect costs one call its answer, not the connection all its other calls.
            .layer(CatchPanicLayer::custom(panicked))
            // Nothing reaches a handler but what the table of methods, room and credentials admit, and nothing
            // stays longer than its deadline.
            .layer(GateLayer::new(self.authenticator, self.room, self.stop));
        // The outer fallback answers unknown services; the one the routes bring along would answer pages too.
        let router = routes.into_axum_router().reset_fallback().layer(stack);
        (Routes::from(router), health)
    }
}

fn with_reflection(routes: Routes) -> Routes {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(usm_client::proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = builder().build_v1().expect("generated descriptors are well formed");
    let v1alpha = builder().build_v1alpha().expect("generated descriptors are well formed");
    routes.add_service(v1).add_service(v1alpha)
}

fn cors(origins: Vec<HeaderValue>) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::POST, Method::GET])
        .allow_headers(ALLOWED_HEADERS.map(HeaderName::from_static))
        .expose_headers(EXPOSED_HEADERS.map(HeaderName::from_static))
        .max_age(PREFLIGHT_MAX_AGE)
}

/// The panic itself is in the log already, by the hook that telemetry sets.
fn panicked(_payload: Box<dyn std::any::Any + Send + 'static>) -> Response<Body> {
    Status::from(status::internal("the service failed on this call; its log tells more")).into_http()
}

/// The answer to a gRPC call of a service that does not exist.
pub fn unknown_service() -> Response<Body> {
    Status::from(status::unknown_method()).into_http()
}
