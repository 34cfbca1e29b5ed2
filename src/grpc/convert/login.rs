//! Logins, their steps and how they failed.

use std::time::Duration;

use usm_client::v1::{self, watch_login_response::Step};

use crate::{
    domain::{
        error::Error,
        login::{CodeDelivery, CodeWay, Failure, Login, Method, State},
        time::Timestamp,
    },
    grpc::convert::{duration, timestamp},
    qr,
};

/// # Errors
/// `INTERNAL` when the link cannot be drawn.
pub(crate) fn login(login: &Login, now: Timestamp) -> Result<v1::Login, Error> {
    let mut message = v1::Login {
        ticket: login.ticket.expose_secret().to_owned(),
        tenant_id: login.key.tenant.to_string(),
        app_id: login.key.app.to_string(),
        state: state(&login.state).into(),
        expire_time: Some(timestamp(login.expire_time)),
        method: method(login.method).into(),
        create_time: Some(timestamp(login.create_time)),
        code_delivery: login.code_delivery.as_ref().map(|known| delivery(known, now)),
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
        State::WaitingCode { attempts_left } => {
            message.attempts_left = i32::try_from(*attempts_left).unwrap_or(i32::MAX);
        }
        State::Starting | State::Expired | State::Cancelled | State::Superseded => {}
    }
    Ok(message)
}

pub(crate) const fn state(state: &State) -> v1::LoginState {
    match state {
        State::Starting => v1::LoginState::Starting,
        State::WaitingQrScan(_) => v1::LoginState::WaitingQrScan,
        State::WaitingCode { .. } => v1::LoginState::WaitingCode,
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

fn delivery(delivery: &CodeDelivery, now: Timestamp) -> v1::CodeDelivery {
    v1::CodeDelivery {
        kind: way(delivery.way).into(),
        next_kind: way(delivery.next_way).into(),
        // What is left of the pause; none is offered where there is no other way.
        resend_after: delivery
            .next_way
            .map(|_| duration(delivery.resend_time.map_or(Duration::ZERO, |time| time.since(now)))),
        length: i32::try_from(delivery.length).unwrap_or(i32::MAX),
        hint: delivery.hint.clone().unwrap_or_default(),
    }
}

const fn way(way: Option<CodeWay>) -> v1::CodeDeliveryKind {
    match way {
        None => v1::CodeDeliveryKind::Unspecified,
        Some(CodeWay::App) => v1::CodeDeliveryKind::App,
        Some(CodeWay::Sms) => v1::CodeDeliveryKind::Sms,
        Some(CodeWay::Call) => v1::CodeDeliveryKind::Call,
        Some(CodeWay::FlashCall) => v1::CodeDeliveryKind::FlashCall,
        Some(CodeWay::MissedCall) => v1::CodeDeliveryKind::MissedCall,
        Some(CodeWay::Email) => v1::CodeDeliveryKind::Email,
        Some(CodeWay::Fragment) => v1::CodeDeliveryKind::Fragment,
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
pub(crate) fn heartbeat(last: &Login, now: Timestamp) -> Result<v1::WatchLoginResponse, Error> {
    Ok(v1::WatchLoginResponse { login: Some(login(last, now)?), step: None })
}

/// What a watcher is told when a login looks like this and looked like that before: that it moved to another data
/// centre, where it did, and where it stands now.
///
/// # Errors
/// `INTERNAL` when the link cannot be drawn.
pub(crate) fn steps(
    before: Option<&Login>,
    after: &Login,
    now: Timestamp,
) -> Result<Vec<v1::WatchLoginResponse>, Error> {
    let message = login(after, now)?;
    let told = before.and_then(|before| before.migrated_to);
    let moved = after.migrated_to.filter(|dc_id| Some(*dc_id) != told);
    let steps = moved.map(|dc_id| Step::Migrated(v1::Migrated { dc_id })).into_iter().chain(step(after, now));
    let mut answers: Vec<_> =
        steps.map(|step| v1::WatchLoginResponse { login: Some(message.clone()), step: Some(step) }).collect();
    if answers.is_empty() {
        answers.push(v1::WatchLoginResponse { login: Some(message), step: None });
    }
    Ok(answers)
}

fn step(login: &Login, now: Timestamp) -> Option<Step> {
    match &login.state {
        State::Starting => None,
        State::WaitingQrScan(token) => Some(Step::QrShown(v1::QrShown {
            qr_url: token.url.expose_secret().to_owned(),
            token_expire_time: Some(timestamp(token.expire_time)),
        })),
        State::WaitingCode { .. } => Some(Step::CodeSent(v1::CodeSent {
            delivery: login.code_delivery.as_ref().map(|known| delivery(known, now)),
        })),
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
