//! The edges as the settings want them.

use http::HeaderValue;
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, import},
    auth::Authenticator,
    config::{self, Config},
    grpc,
    http::miniapp::{self, Callbacks, MiniApp},
};

/// Streams that may run at once beside the calls.
const STREAMS_MAX: usize = 10_000;

/// Every gRPC service.
pub(super) fn grpc(
    app: &App,
    config: &Config,
    authenticator: Authenticator,
    stop: CancellationToken,
) -> grpc::Edge {
    grpc::Edge {
        app: app.clone(),
        authenticator,
        room: grpc::Room { requests_max: config.limits.requests_max, streams_max: STREAMS_MAX },
        message_size_max: config.limits.message_size_max,
        reflection: match config.listen.reflection {
            config::Reflection::Served => grpc::Reflection::Served,
            config::Reflection::Hidden => grpc::Reflection::Hidden,
        },
        facts: grpc::Facts {
            quiet_gap: config.leases.quiet_gap,
            ticket_ttl: config.logins.ticket_ttl,
            material_size_max: i64::try_from(import::DATA_LENGTH_MAX).unwrap_or(i64::MAX),
        },
        cors_origins: cors_origins(config),
        stop,
    }
}

/// The routes of the Mini App.
pub(super) fn miniapp(
    app: &App,
    config: &Config,
    authenticator: Authenticator,
    stop: CancellationToken,
) -> MiniApp {
    let tolerance = config.miniapp.timestamp_tolerance;
    let secret = config.miniapp.hmac_secret.clone();
    MiniApp {
        app: app.clone(),
        authenticator,
        bots: config.miniapp.bots.clone(),
        public_key: config.miniapp.public_key,
        callbacks: secret.map(|secret| Callbacks { secret, tolerance }),
        room: miniapp::Room { requests_max: config.limits.requests_max, streams_max: STREAMS_MAX },
        cors_origins: cors_origins(config),
        stop,
    }
}

fn cors_origins(config: &Config) -> Vec<HeaderValue> {
    config.listen.cors_origins.iter().filter_map(|origin| origin.parse().ok()).collect()
}
