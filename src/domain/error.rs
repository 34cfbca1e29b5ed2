//! Why something was refused, in the names callers rely on.

use std::{fmt, time::Duration};

/// The stable name of a refusal; the wire knows the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    AccountMismatch,
    ApiKeyUnknown,
    ArgumentInvalid,
    AuthKeyDuplicated,
    CodeExpired,
    CodeInvalid,
    CustodyLegacy,
    DeadlineExceeded,
    EnvironmentMismatch,
    FeatureDisabled,
    FormatUnsupported,
    Internal,
    LeaseEpochStale,
    LeaseNotHeld,
    LoginWrongState,
    MaterialInvalid,
    MaterialTooLarge,
    PasswordInvalid,
    PermissionDenied,
    RateLimited,
    RevisionStale,
    SessionAlreadyExists,
    SessionLeased,
    SessionNotFound,
    SessionUnauthorizedByTelegram,
    SessionWrongState,
    StoreUnavailable,
    TelegramFloodWait,
    TelegramRefused,
    TelegramUnavailable,
    TicketExpired,
    TicketNotFound,
    TicketSuperseded,
    TicketsUnavailable,
    Unauthenticated,
    Unimplemented,
}

/// A refusal: the reason, a fixed text for people, what in the request was wrong, and when to try again.
///
/// The text never holds input or secrets; causes stay in the log.
#[derive(Debug)]
pub struct Error {
    pub reason: Reason,
    /// What went wrong and what to do about it.
    pub message: &'static str,
    /// The request field at fault, and the rule it broke.
    pub field: Option<(&'static str, &'static str)>,
    pub retry_after: Option<Duration>,
    /// Harmless facts that help: state names, epochs, remaining seconds.
    pub facts: Vec<(&'static str, String)>,
    /// For the log only.
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn new(reason: Reason, message: &'static str) -> Self {
        Self { reason, message, field: None, retry_after: None, facts: Vec::new(), cause: None }
    }

    pub fn invalid(field: &'static str, rule: &'static str) -> Self {
        Self {
            field: Some((field, rule)),
            ..Self::new(Reason::ArgumentInvalid, "a field of the request is invalid")
        }
    }

    pub fn session_not_found() -> Self {
        Self::new(
            Reason::SessionNotFound,
            "no such session; check tenant_id and app_id, or log in or import it first",
        )
    }

    pub fn ticket_not_found() -> Self {
        Self::new(Reason::TicketNotFound, "no such login; start a new one")
    }

    pub fn lease_not_held() -> Self {
        Self::new(
            Reason::LeaseNotHeld,
            "the lease is not held by this caller; close the connections and acquire again",
        )
    }

    #[must_use]
    pub fn retry_after(mut self, span: Duration) -> Self {
        self.retry_after = Some(span);
        self
    }

    #[must_use]
    pub fn fact(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.facts.push((name, value.to_string()));
        self
    }

    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            Some((field, rule)) => write!(f, "{}: {field} {rule}", self.message),
            None => f.write_str(self.message),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Some(cause) => Some(cause.as_ref()),
            None => None,
        }
    }
}
