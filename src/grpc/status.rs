//! The only maker of [`tonic::Status`]: refusals of the domain in the words of gRPC.
//!
//! The text and the facts are for the caller. The cause is logged here, once, and goes nowhere else.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    domain::error::{Error, Reason},
    telemetry::redact,
};

/// The domain of every `google.rpc.ErrorInfo` that this service sends.
pub const DOMAIN: &str = "usm";

/// The code a reason travels under.
pub const fn code(reason: Reason) -> Code {
    match reason {
        Reason::ApiKeyUnknown
        | Reason::ArgumentInvalid
        | Reason::BotTokenInvalid
        | Reason::CodeInvalid
        | Reason::FormatUnsupported
        | Reason::MaterialInvalid
        | Reason::MaterialTooLarge
        | Reason::PageTokenInvalid
        | Reason::PasswordInvalid
        | Reason::PhoneNumberInvalid
        | Reason::RequestIdReused => Code::InvalidArgument,
        Reason::AccountBanned
        | Reason::AccountMismatch
        | Reason::ApiKeyRefused
        | Reason::AuthKeyDuplicated
        | Reason::BackupKeyUnknown
        | Reason::CodeExpired
        | Reason::CustodyLegacy
        | Reason::EnvironmentMismatch
        | Reason::FeatureDisabled
        | Reason::FingerprintMismatch
        | Reason::LeaseDraining
        | Reason::LeaseNotHeld
        | Reason::LoginCancelled
        | Reason::LoginWrongState
        | Reason::PasswordRequired
        | Reason::PhoneNumberBanned
        | Reason::ResendUnavailable
        | Reason::SessionUnauthorizedByTelegram
        | Reason::SessionWrongState
        | Reason::SignUpRequired
        | Reason::TelegramRefused
        | Reason::TicketExpired
        | Reason::TicketSuperseded
        | Reason::VaultUnavailable => Code::FailedPrecondition,
        Reason::BackupNotFound | Reason::SessionNotFound | Reason::TicketNotFound => Code::NotFound,
        Reason::LeaseEpochStale | Reason::RevisionStale | Reason::SessionLeased | Reason::StoreConflict => {
            Code::Aborted
        }
        Reason::LoginBudgetExhausted
        | Reason::MessageTooLarge
        | Reason::RateLimited
        | Reason::TelegramFloodWait
        | Reason::WaitQueueFull => Code::ResourceExhausted,
        Reason::BackupStoreUnavailable
        | Reason::Overloaded
        | Reason::ProxyUnreachable
        | Reason::ServiceDraining
        | Reason::StoreUnavailable
        | Reason::TelegramUnavailable
        | Reason::TicketsUnavailable => Code::Unavailable,
        Reason::BackupDamaged => Code::DataLoss,
        Reason::DeadlineExceeded => Code::DeadlineExceeded,
        Reason::Internal => Code::Internal,
        Reason::PermissionDenied => Code::PermissionDenied,
        Reason::ResumeTokenInvalid => Code::OutOfRange,
        Reason::SessionAlreadyExists => Code::AlreadyExists,
        Reason::Unauthenticated => Code::Unauthenticated,
        Reason::Unimplemented => Code::Unimplemented,
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        log(&error);
        let mut details = ErrorDetails::new();
        let facts: HashMap<String, String> =
            error.facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        details.set_error_info(error.reason.name(), DOMAIN, facts);
        if let Some(pause) = error.retry_after {
            details.set_retry_info(Some(pause));
        }
        if let Some((field, rule)) = error.field {
            details.add_bad_request_violation(field, rule);
        }
        if code(error.reason) == Code::FailedPrecondition {
            let facts = error.facts.iter().map(|(name, value)| format!("{name} is {value}"));
            let facts: Vec<_> = facts.collect();
            let description = if facts.is_empty() { error.message.to_owned() } else { facts.join(", ") };
            details.add_precondition_failure_violation(
                error.reason.name(),
                subject(error.reason),
                description,
            );
        }
        Self::with_error_details(code(error.reason), error.to_string(), details)
    }
}

/// What a precondition is about: the first word of its reason says it.
fn subject(reason: Reason) -> String {
    reason.name().split('_').next().unwrap_or_default().to_ascii_lowercase()
}

/// One failure, one line: `error!` when a person must act, `warn!` when something is away, else detail.
fn log(error: &Error) {
    let chain = redact::chain(error);
    let reason = error.reason.name();
    match code(error.reason) {
        Code::Internal | Code::DataLoss => tracing::error!(error.reason = reason, "Failed: {chain}"),
        Code::Unavailable => tracing::warn!(error.reason = reason, "Refused: {chain}"),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => tracing::debug!(error.reason = reason, "Refused: {chain}"),
    }
}

/// The method exists in the contract and is not served by this version.
pub(crate) fn later() -> Error {
    Error::new(Reason::Unimplemented, "this version does not serve the method; use a later one")
}

/// The method is not in the contract.
pub(crate) fn unknown_method() -> Error {
    Error::new(Reason::Unimplemented, "there is no such method; list them by reflection")
}

pub(crate) fn deadline_exceeded() -> Error {
    Error::new(
        Reason::DeadlineExceeded,
        "not done in time; read the state, or repeat with the same request_id",
    )
}

pub(crate) fn draining() -> Error {
    Error::new(Reason::ServiceDraining, "this replica stops; call again")
}

pub(crate) fn internal(message: &'static str) -> Error {
    Error::new(Reason::Internal, message)
}

/// A field of the contract that this version does not act on; better refused than ignored.
pub(crate) fn unserved(field: &'static str) -> Error {
    Error::invalid(field, "is not served by this version; leave it empty")
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use usm_client::v1::ErrorReason;

    use super::*;
    use crate::telemetry::layer::code_name;

    const CONTRACT: &str = include_str!("../../proto/usm/v1/error.proto");

    #[test]
    fn every_reason_of_the_contract_is_one_of_the_domain_and_the_other_way_round() {
        let domain: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        let contract: BTreeSet<_> = (1..=200)
            .filter_map(|number| ErrorReason::try_from(number).ok())
            .map(|reason| reason.as_str_name().trim_start_matches("ERROR_REASON_"))
            .collect();
        assert_eq!(domain, contract);
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.name()), Some(*reason));
        }
    }

    #[test]
    fn every_reason_travels_under_the_code_the_contract_says() {
        for reason in Reason::ALL {
            let lines: Vec<_> = CONTRACT.lines().collect();
            let name = format!("  ERROR_REASON_{} = ", reason.name());
            let at = lines.iter().position(|line| line.starts_with(&name)).expect("in the contract");
            let comment: Vec<_> =
                lines[..at].iter().rev().take_while(|line| line.starts_with("  //")).collect();
            let first = comment.last().expect("a comment");
            let said = first.split('`').nth(1).expect("a code in backquotes");
            assert_eq!(code_name(code(*reason)), said, "{}", reason.name());
        }
    }

    #[test]
    fn details_tell_reason_pause_field_and_facts() {
        let error = Error::new(Reason::SessionLeased, "somebody holds the session")
            .retry_after(Duration::from_secs(7))
            .fact("epoch", 4);
        let status = Status::from(error);
        assert_eq!(status.code(), Code::Aborted);
        let details = status.get_error_details();
        let info = details.error_info().expect("info");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("SESSION_LEASED", "usm"));
        assert_eq!(info.metadata.get("epoch").map(String::as_str), Some("4"));
        let retry = details.retry_info().and_then(|retry| retry.retry_delay);
        assert_eq!(retry, Some(Duration::from_secs(7)));

        let status = Status::from(Error::invalid("app_id", "must be short"));
        let details = status.get_error_details();
        assert_eq!(details.bad_request().map(|bad| bad.field_violations.len()), Some(1));

        let status = Status::from(Error::new(Reason::SessionWrongState, "no").fact("state", "ABSENT"));
        let details = status.get_error_details();
        let violations = &details.precondition_failure().expect("precondition").violations;
        assert_eq!(violations[0].description, "state is ABSENT");
    }

    #[test]
    fn a_cause_never_reaches_the_caller() {
        let error = Error::new(Reason::StoreUnavailable, "the database does not answer")
            .caused_by("password authentication failed for user usm");
        let status = Status::from(error);
        assert!(!format!("{status:?}").contains("authentication"), "{status:?}");
        let bytes = status.details();
        assert!(!bytes.windows(8).any(|window| window == b"password"));
    }
}
