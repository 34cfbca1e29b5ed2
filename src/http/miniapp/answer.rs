//! A login as pages see it.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;

use crate::{
    domain::{
        error::Error,
        login::{Failure, Login, State},
        time::Timestamp,
    },
    qr,
};

/// How far a login is, without what signs somebody in.
#[derive(Serialize)]
pub(super) struct Progress {
    state: String,
    /// `null` until Telegram told whose account it is.
    telegram_user_id: Option<i64>,
    requires_password: bool,
    /// Seconds until the ticket ends.
    expires_in: u64,
    /// Seconds until the code shown now is dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_expires_in: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts_left: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failed>,
}

#[derive(Serialize)]
struct Failed {
    reason: &'static str,
    message: String,
    /// Seconds until another try may help.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

/// What is shown as a QR code: whoever scans it signs in.
#[derive(Serialize)]
pub(super) struct Code {
    qr_url: Option<String>,
    /// A PNG.
    qr_base64: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Status {
    #[serde(flatten)]
    progress: Progress,
    #[serde(flatten)]
    code: Code,
}

impl Progress {
    pub(super) fn of(login: &Login, now: Timestamp) -> Self {
        let mut progress = Self {
            // As the contract writes them, without `LOGIN_STATE_`.
            state: login.state.name().to_ascii_uppercase(),
            telegram_user_id: None,
            requires_password: false,
            expires_in: seconds_left(login, now),
            token_expires_in: None,
            password_hint: None,
            attempts_left: None,
            failure: None,
        };
        match &login.state {
            State::WaitingQrScan(token) => {
                progress.token_expires_in = Some(token.expire_time.since(now).as_secs());
            }
            State::WaitingPassword { hint, attempts_left } => {
                progress.requires_password = true;
                progress.password_hint.clone_from(hint);
                progress.attempts_left = Some(*attempts_left);
            }
            State::Authorized { telegram_user_id } => progress.telegram_user_id = Some(*telegram_user_id),
            State::Failed(failure) => progress.failure = Some(Failed::of(failure)),
            State::Starting | State::WaitingCode | State::Expired | State::Cancelled | State::Superseded => {}
        }
        progress
    }
}

impl Failed {
    fn of(failure: &Failure) -> Self {
        Self {
            reason: failure.reason.name(),
            message: failure.message.clone(),
            retry_after: failure.retry_after.as_ref().map(Duration::as_secs),
        }
    }
}

impl Code {
    /// # Errors
    /// `INTERNAL` when the link cannot be drawn.
    pub(super) fn of(login: &Login) -> Result<Self, Error> {
        let State::WaitingQrScan(token) = &login.state else {
            return Ok(Self { qr_url: None, qr_base64: None });
        };
        let url = token.url.expose_secret();
        Ok(Self { qr_url: Some(url.to_owned()), qr_base64: Some(STANDARD.encode(qr::png(url)?)) })
    }
}

impl Status {
    /// # Errors
    /// `INTERNAL` when the link cannot be drawn.
    pub(super) fn of(login: &Login, now: Timestamp) -> Result<Self, Error> {
        Ok(Self { progress: Progress::of(login, now), code: Code::of(login)? })
    }
}

/// The answer to a start.
#[derive(Serialize)]
pub(super) struct Started {
    ticket: String,
    access_token: String,
    #[serde(flatten)]
    code: Code,
    /// Seconds until the ticket ends.
    ttl: u64,
    tenant_id: String,
    app_id: String,
}

impl Started {
    /// # Errors
    /// `INTERNAL` when the link cannot be drawn.
    pub(super) fn of(
        login: &Login,
        access: &crate::domain::secret::Secret,
        now: Timestamp,
    ) -> Result<Self, Error> {
        Ok(Self {
            ticket: login.ticket.expose_secret().to_owned(),
            access_token: access.expose_secret().to_owned(),
            code: Code::of(login)?,
            ttl: seconds_left(login, now),
            tenant_id: login.key.tenant.to_string(),
            app_id: login.key.app.to_string(),
        })
    }
}

fn seconds_left(login: &Login, now: Timestamp) -> u64 {
    login.expire_time.since(now).as_secs()
}
