//! The routes that sign a user in from a Mini App: for its page, and for back ends.
//!
//! Everybody proves who calls before anything is looked at: a page by Telegram's initData and then by the access
//! token it got for it, a back end by a bearer token or, where it only calls back, by a signature. A ticket alone
//! proves nothing. Knows no store and no Telegram; what it decides is who may ask.

mod answer;
mod body;
mod callback;
mod cancel;
mod door;
mod init_data;
mod password;
mod proof;
mod refusal;
mod signature;
mod start;
mod status;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post},
};
use http::{HeaderName, HeaderValue, Method, header};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::cors::{AllowOrigin, CorsLayer};

pub use self::signature::Callbacks;
use self::{door::Door, init_data::Judge};
use crate::{app::App, auth::Authenticator, domain::miniapp::Bots, telemetry::metrics::MiniAppRoute};

/// Far more than any body here needs.
const BODY_LENGTH_MAX: usize = 16 * 1024;
/// How long a browser may remember what a page of another origin may do.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(600);

/// How much is served at once.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Requests whose answer has not begun.
    pub requests_max: usize,
    /// Event streams under way.
    pub streams_max: usize,
}

/// What the routes are made of.
#[derive(Debug)]
pub struct MiniApp {
    pub app: App,
    pub authenticator: Authenticator,
    /// Whose pages may log in, and for what.
    pub bots: Bots,
    /// Of whoever signs initData.
    pub public_key: [u8; 32],
    /// `None` serves no callbacks.
    pub callbacks: Option<Callbacks>,
    pub room: Room,
    /// Origins whose pages may call.
    pub cors_origins: Vec<HeaderValue>,
    /// Ends event streams when the replica stops.
    pub stop: CancellationToken,
}

/// What handlers share.
#[derive(Clone, Debug)]
struct Edge(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    app: App,
    authenticator: Authenticator,
    bots: Bots,
    judge: Judge,
    callbacks: Option<Callbacks>,
    requests: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    stop: CancellationToken,
}

/// `/api/qr/…`
pub fn routes(miniapp: MiniApp) -> Router {
    let edge = Edge(Arc::new(Inner {
        judge: Judge::new(&miniapp.bots, miniapp.public_key),
        app: miniapp.app,
        authenticator: miniapp.authenticator,
        bots: miniapp.bots,
        callbacks: miniapp.callbacks,
        requests: Arc::new(Semaphore::new(miniapp.room.requests_max)),
        streams: Arc::new(Semaphore::new(miniapp.room.streams_max)),
        stop: miniapp.stop,
    }));
    let handlers = [
        (MiniAppRoute::Start, post(start::start)),
        (MiniAppRoute::Status, get(status::status)),
        (MiniAppRoute::Events, get(status::events)),
        (MiniAppRoute::Password, post(password::password)),
        (MiniAppRoute::Cancel, post(cancel::cancel)),
        (MiniAppRoute::Callback, post(callback::callback)),
    ];
    let router = handlers.into_iter().fold(Router::new(), |router, (route, handler)| {
        // Behind the door: room, a deadline, a span, a count, and an answer whatever happens.
        let door = middleware::from_fn_with_state(Door { edge: edge.clone(), route }, door::pass);
        router.route(door::path(route), handler.fallback(refusal::wrong_method).layer(door))
    });
    router
        .layer(DefaultBodyLimit::max(BODY_LENGTH_MAX))
        // Outermost: preflights carry no credentials.
        .layer(cors(miniapp.cors_origins))
        .with_state(edge)
}

fn cors(origins: Vec<HeaderValue>) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::POST, Method::GET])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, HeaderName::from_static("traceparent")])
        .expose_headers([header::RETRY_AFTER])
        .max_age(PREFLIGHT_MAX_AGE)
}
