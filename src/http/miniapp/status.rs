//! `GET /api/qr/status` and `GET /api/qr/events`: the same states, once or as they come.

use std::{convert::Infallible, time::Duration};

use axum::{
    Extension, Json,
    extract::{Query, State, rejection::QueryRejection},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    Edge,
    answer::Status,
    body::{self, Named},
    door::{self, Call},
    refusal::Refusal,
};
use crate::app::now;

/// How often a page hears that it still listens.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A page that listened this long listens anew.
const STREAM_LIFE_MAX: Duration = Duration::from_secs(3600);

pub(super) async fn status(
    State(edge): State<Edge>,
    Extension(call): Extension<Call>,
    headers: HeaderMap,
    query: Result<Query<Named>, QueryRejection>,
) -> Result<Json<Status>, Refusal> {
    let proof = edge.prove(&headers, &call)?;
    let (caller, ticket) = proof.for_ticket(&body::query(query)?)?;
    let login = edge.0.app.get_login(&caller, &ticket).await?;
    Ok(Json(Status::of(&login, now())?))
}

pub(super) async fn events(
    State(edge): State<Edge>,
    Extension(call): Extension<Call>,
    headers: HeaderMap,
    query: Result<Query<Named>, QueryRejection>,
) -> Result<Response, Refusal> {
    let proof = edge.prove(&headers, &call)?;
    let (caller, ticket) = proof.for_ticket(&body::query(query)?)?;
    let place = door::place(&edge.0.streams)?;
    let states = edge.0.app.watch_login(&caller, &ticket).await?;
    let stop = edge.0.stop.clone();
    let end = async move {
        let _ = tokio::time::timeout(STREAM_LIFE_MAX, stop.cancelled()).await;
    };
    // A state that cannot be told ends the stream: whoever asks for the status then is told why.
    let events = states
        .map(move |login| {
            let _held_until_the_end = &place;
            let status = Status::of(&login.ok()?, now()).ok()?;
            Event::default().json_data(status).ok()
        })
        .take_while(|event| std::future::ready(event.is_some()))
        .filter_map(|event| std::future::ready(event.map(Ok::<_, Infallible>)))
        .take_until(Box::pin(end));
    let mut answer = Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response();
    // Proxies that collect answers would keep the code from the page.
    answer.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(answer)
}
