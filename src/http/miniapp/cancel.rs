//! `POST /api/qr/cancel`

use axum::{Extension, Json, extract::State};
use http::HeaderMap;

use super::{
    Edge,
    answer::Status,
    body::{self, Given, Named},
    door::Call,
    refusal::Refusal,
};
use crate::app::now;

pub(super) async fn cancel(
    State(edge): State<Edge>,
    Extension(call): Extension<Call>,
    headers: HeaderMap,
    body: Given,
) -> Result<Json<Status>, Refusal> {
    let proof = edge.prove(&headers, &call)?;
    let named: Named = body::json(&headers, &body::bytes(body)?, &["ticket"])?;
    let (caller, ticket) = proof.for_ticket(&named.ticket)?;
    let login = edge.0.app.cancel_login(&caller, &ticket).await?;
    Ok(Json(Status::of(&login, now())?))
}
