//! `POST /api/qr/callback`: a back end tells what its page saw, and hears how far the login is.
//!
//! It changes nothing: only Telegram's own answer authorizes.

use axum::{Extension, Json, extract::State};
use http::{HeaderMap, Method, Uri};
use serde::Deserialize;

use super::{
    Edge,
    answer::Progress,
    body::{self, Given},
    door::Call,
    proof,
    refusal::Refusal,
    signature::{self, Signed},
};
use crate::{
    app::now,
    domain::{
        caller::Authority,
        error::{Error, Reason},
        id::Ticket,
        login::{Login, State as LoginState},
    },
};

/// Back ends hold one secret for all tenants.
const SUBJECT: &str = "miniapp:callback";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    ticket: String,
    /// Whom the page believes to be signing in.
    tg_user_id: Option<i64>,
    /// Taken for compatibility; Telegram says itself whether it wants a password.
    #[serde(rename = "two_fa_required")]
    _two_fa_required: Option<bool>,
}

pub(super) async fn callback(
    State(edge): State<Edge>,
    Extension(call): Extension<Call>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Given,
) -> Result<Json<Progress>, Refusal> {
    let callbacks = edge.0.callbacks.as_ref().ok_or_else(|| {
        Error::new(Reason::FeatureDisabled, "callbacks are off: MINIAPP_HMAC_SECRET is not set")
    })?;
    let body = body::bytes(body)?;
    let signed = Signed { method: method.as_str(), path: uri.path(), headers: &headers, body: &body };
    let used = callbacks.judge(signed, call.now)?;
    // Twice the tolerance: a time ahead of ours is good for that long.
    if !edge.0.app.use_proof(&used, 2 * callbacks.tolerance).await? {
        return Err(signature::used().into());
    }
    let told: Told = body::json(&headers, &body, &["ticket", "tg_user_id", "two_fa_required"])?;
    let caller = proof::caller(&call, SUBJECT.to_owned(), Authority::Service);
    let login = edge.0.app.get_login(&caller, &Ticket::parse(&told.ticket)?).await?;
    if told.tg_user_id.is_some_and(|user| contradicts(&login, user)) {
        return Err(Error::new(Reason::AccountMismatch, "the login is another account's").into());
    }
    Ok(Json(Progress::of(&login, now())))
}

/// Whether the login is, or can only become, another account's.
fn contradicts(login: &Login, user: i64) -> bool {
    match login.state {
        LoginState::Authorized { telegram_user_id } => telegram_user_id != user,
        _ => login.expected_user.is_some_and(|expected| expected != user),
    }
}
