//! Logins, their steps and how they failed.

use usm_client::v1::{self, watch_login_response::Step};

use crate::{
    domain::{
        error::Error,
        login::{Failure, Login, Method, State},
    },
    grpc::convert::{duration, timestamp},
    qr,
};

/// # Errors
/// `INTERNAL` when the link cannot be drawn.
pub(crate) fn login(login: &Login) -> Result<v1::Login, Error> {
    let mut message = v1::Login {
        ticket: login.ticket.expose_secret().to_owned(),
        tenant_id: login.key.tenant.to_string(),
        app_id: login.key.app.to_string(),
        state: state(&login.state).into(),
        expire_time: Some(timestamp(login.expire_time)),
        method: method(login.method).into(),
        create_time: Some(timestamp(login.create_time)),
        ..v1::Login::default()
    };
    match &login.state {
        State::WaitingQrScan(token) => {
            message.qr_url = token.url.expose_secret().to_owned();
            message.qr_png = qr::png(&message.qr_url)?;
            message.token_expire_time = Some(timestamp(token.expire_time));
        }
        State::WaitingPassword { hint, attempts_left } => {
            message.password_hint = hint.clone().unwrap_or_default();
            message.attempts_left = i32::try_from(*attempts_left).unwrap_or(i32::MAX);
        }
        State::Authorized { telegram_user_id } => message.telegram_user_id = *telegram_user_id,
        State::Failed(failed) => message.failure = Some(failure(failed)),
        State::Starting | State::WaitingCode | State::Expired | State::Cancelled | State::Superseded => {}
    }
    Ok(message)
}

pub(crate) const fn state(state: &State) -> v1::LoginState {
    match state {
        State::Starting => v1::LoginState::Starting,
        State::WaitingQrScan(_) => v1::LoginState::WaitingQrScan,
        State::WaitingCode => v1::LoginState::WaitingCode,
        State::WaitingPassword { .. } => v1::LoginState::WaitingPassword,
        State::Authorized { .. } => v1::LoginState::Authorized,
        State::Expired => v1::LoginState::Expired,
        State::Cancelled => v1::LoginState::Cancelled,
        State::Superseded => v1::LoginState::Superseded,
        State::Failed(_) => v1::LoginState::Failed,
    }
}

pub(crate) const fn method(method: Method) -> v1::LoginMethod {
    match method {
        Method::Qr => v1::LoginMethod::Qr,
        Method::Phone => v1::LoginMethod::Phone,
        Method::Bot => v1::LoginMethod::Bot,
    }
}

fn failure(failure: &Failure) -> v1::LoginFailure {
    v1::LoginFailure {
        reason: failure.reason.name().to_owned(),
        message: failure.message.clone(),
        retry_after: failure.retry_after.map(duration),
    }
}

/// A sign of life between steps.
///
/// # Errors
/// `INTERNAL` when the link cannot be drawn.
pub(crate) fn heartbeat(now: &Login) -> Result<v1::WatchLoginResponse, Error> {
    Ok(v1::WatchLoginResponse { login: Some(login(now)?), step: None })
}

/// What a watcher is told when a login looks like this and looked like that before: that it moved to another data
/// centre, where it did, and where it stands now.
///
/// # Errors
/// `INTERNAL` when the link cannot be drawn.
pub(crate) fn steps(before: Option<&Login>, now: &Login) -> Result<Vec<v1::WatchLoginResponse>, Error> {
    let message = login(now)?;
    let told = before.and_then(|before| before.migrated_to);
    let moved = now.migrated_to.filter(|dc_id| Some(*dc_id) != told);
    let steps = moved.map(|dc_id| Step::Migrated(v1::Migrated { dc_id })).into_iter().chain(step(now));
    let mut answers: Vec<_> =
        steps.map(|step| v1::WatchLoginResponse { login: Some(message.clone()), step: Some(step) }).collect();
    if answers.is_empty() {
        answers.push(v1::WatchLoginResponse { login: Some(message), step: None });
    }
    Ok(answers)
}

fn step(login: &Login) -> Option<Step> {
    match &login.state {
        State::Starting => None,
        State::WaitingQrScan(token) => Some(Step::QrShown(v1::QrShown {
            qr_url: token.url.expose_secret().to_owned(),
            token_expire_time: Some(timestamp(token.expire_time)),
        })),
        State::WaitingCode => Some(Step::CodeSent(v1::CodeSent { delivery: None })),
        State::WaitingPassword { hint, attempts_left } => Some(Step::PasswordNeeded(v1::PasswordNeeded {
            hint: hint.clone().unwrap_or_default(),
            attempts_left: i32::try_from(*attempts_left).unwrap_or(i32::MAX),
        })),
        State::Authorized { telegram_user_id } => Some(Step::Authorized(v1::Authorized {
            telegram_user_id: *telegram_user_id,
            username: String::new(),
        })),
        State::Expired => Some(Step::Expired(v1::Expired {})),
        State::Cancelled => Some(Step::Cancelled(v1::Cancelled {})),
        State::Superseded => Some(Step::Superseded(v1::Superseded {})),
        State::Failed(failed) => Some(Step::Failed(v1::Failed { failure: Some(failure(failed)) })),
    }
}
