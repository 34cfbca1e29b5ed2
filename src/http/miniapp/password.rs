//! `POST /api/qr/password`

use axum::{Extension, Json, extract::State};
use http::HeaderMap;
use serde::{Deserialize, Deserializer};

use super::{
    Edge,
    answer::Status,
    body::{self, Given},
    door::Call,
    refusal::Refusal,
};
use crate::{
    app::now,
    domain::{error::Error, secret::Secret},
};

/// The longest password the contract takes, in characters.
const PASSWORD_LENGTH_MAX: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Submitted {
    ticket: String,
    #[serde(deserialize_with = "secret")]
    password: Secret,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

pub(super) async fn password(
    State(edge): State<Edge>,
    Extension(call): Extension<Call>,
    headers: HeaderMap,
    body: Given,
) -> Result<Json<Status>, Refusal> {
    let proof = edge.prove(&headers, &call)?;
    let submitted: Submitted = body::json(&headers, &body::bytes(body)?, &["ticket", "password"])?;
    if submitted.password.expose_secret().chars().count() > PASSWORD_LENGTH_MAX {
        return Err(Error::invalid("password", "must be at most 256 characters").into());
    }
    let (caller, ticket) = proof.for_ticket(&submitted.ticket)?;
    let login = edge.0.app.submit_password(&caller, &ticket, submitted.password, None).await?;
    Ok(Json(Status::of(&login, now())?))
}
