//! Refusals of the domain in the words of HTTP: a status, `{"error": {"reason", "message"}}`, and when to try again.
//!
//! The cause is logged here, once, and goes nowhere else.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    domain::error::{Error, Reason},
    telemetry::redact,
};

#[derive(Debug)]
pub(super) struct Refusal(pub(super) Error);

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

/// The status a reason travels under.
const fn status(reason: Reason) -> StatusCode {
    match reason {
        Reason::ApiKeyUnknown
        | Reason::ArgumentInvalid
        | Reason::BotTokenInvalid
        | Reason::CodeInvalid
        | Reason::FormatUnsupported
        | Reason::MaterialInvalid
        | Reason::PageTokenInvalid
        | Reason::PasswordInvalid
        | Reason::PhoneNumberInvalid
        | Reason::RequestIdReused
        | Reason::ResumeTokenInvalid => StatusCode::BAD_REQUEST,
        Reason::Unauthenticated => StatusCode::UNAUTHORIZED,
        Reason::PermissionDenied => StatusCode::FORBIDDEN,
        Reason::BackupNotFound
        | Reason::FeatureDisabled
        | Reason::SessionNotFound
        | Reason::TicketNotFound => StatusCode::NOT_FOUND,
        Reason::AccountBanned
        | Reason::AccountMismatch
        | Reason::ApiKeyRefused
        | Reason::AuthKeyDuplicated
        | Reason::BackupKeyUnknown
        | Reason::CodeExpired
        | Reason::CustodyLegacy
        | Reason::EnvironmentMismatch
        | Reason::FingerprintMismatch
        | Reason::LeaseDraining
        | Reason::LeaseEpochStale
        | Reason::LeaseNotHeld
        | Reason::LoginCancelled
        | Reason::LoginWrongState
        | Reason::PasswordRequired
        | Reason::PhoneNumberBanned
        | Reason::ResendUnavailable
        | Reason::RevisionStale
        | Reason::SessionAlreadyExists
        | Reason::SessionLeased
        | Reason::SessionUnauthorizedByTelegram
        | Reason::SessionWrongState
        | Reason::SignUpRequired
        | Reason::StoreConflict
        | Reason::TelegramRefused
        | Reason::TicketExpired
        | Reason::TicketSuperseded => StatusCode::CONFLICT,
        Reason::MaterialTooLarge | Reason::MessageTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::LoginBudgetExhausted
        | Reason::RateLimited
        | Reason::TelegramFloodWait
        | Reason::WaitQueueFull => StatusCode::TOO_MANY_REQUESTS,
        Reason::BackupDamaged | Reason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Reason::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Reason::BackupStoreUnavailable
        | Reason::Overloaded
        | Reason::ProxyUnreachable
        | Reason::ServiceDraining
        | Reason::StoreUnavailable
        | Reason::TelegramUnavailable
        | Reason::TicketsUnavailable
        | Reason::VaultUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        Reason::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(error) = self;
        let status = status(error.reason);
        log(&error, status);
        let mut told = json!({"reason": error.reason.name(), "message": error.to_string()});
        for (name, value) in &error.facts {
            told[*name] = value.parse::<i64>().map_or_else(|_| Value::from(value.as_str()), Value::from);
        }
        let mut answer = (status, Json(json!({"error": told}))).into_response();
        if let Some(pause) = error.retry_after {
            let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

/// One failure, one line: `error!` when a person must act, `warn!` when something is away, else detail.
fn log(error: &Error, status: StatusCode) {
    let (chain, reason) = (redact::chain(error), error.reason.name());
    match status {
        StatusCode::INTERNAL_SERVER_ERROR => tracing::error!(error.reason = reason, "Failed: {chain}"),
        StatusCode::SERVICE_UNAVAILABLE => tracing::warn!(error.reason = reason, "Refused: {chain}"),
        _ => tracing::debug!(error.reason = reason, "Refused: {chain}"),
    }
}

/// The route is there, and takes another method.
pub(super) async fn wrong_method() -> Response {
    let refusal = Refusal(Error::new(Reason::Unimplemented, "the route takes another method"));
    (StatusCode::METHOD_NOT_ALLOWED, refusal.into_response()).into_response()
}
