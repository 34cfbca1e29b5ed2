//! Why something was refused, in the names callers rely on.

use std::{fmt, time::Duration};

macro_rules! reasons {
    ($($variant:ident = $name:literal,)+) => {
        /// The stable name of a refusal; the wire knows the same names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($variant,)+
        }

        impl Reason {
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name on the wire, in tickets and in metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    AccountBanned = "ACCOUNT_BANNED",
    AccountMismatch = "ACCOUNT_MISMATCH",
    ApiKeyRefused = "API_KEY_REFUSED",
    ApiKeyUnknown = "API_KEY_UNKNOWN",
    ArgumentInvalid = "ARGUMENT_INVALID",
    AuthKeyDuplicated = "AUTH_KEY_DUPLICATED",
    BackupDamaged = "BACKUP_DAMAGED",
    BackupKeyUnknown = "BACKUP_KEY_UNKNOWN",
    BackupNotFound = "BACKUP_NOT_FOUND",
    BackupStoreUnavailable = "BACKUP_STORE_UNAVAILABLE",
    BotTokenInvalid = "BOT_TOKEN_INVALID",
    CodeExpired = "CODE_EXPIRED",
    CodeInvalid = "CODE_INVALID",
    CustodyLegacy = "SESSION_CUSTODY_LEGACY",
    DeadlineExceeded = "DEADLINE_EXCEEDED",
    EnvironmentMismatch = "ENVIRONMENT_MISMATCH",
    FeatureDisabled = "FEATURE_DISABLED",
    FingerprintMismatch = "FINGERPRINT_MISMATCH",
    FormatUnsupported = "FORMAT_UNSUPPORTED",
    Internal = "INTERNAL",
    LeaseDraining = "LEASE_DRAINING",
    LeaseEpochStale = "LEASE_EPOCH_STALE",
    LeaseNotHeld = "LEASE_NOT_HELD",
    LoginBudgetExhausted = "LOGIN_BUDGET_EXHAUSTED",
    LoginCancelled = "LOGIN_CANCELLED",
    LoginWrongState = "LOGIN_WRONG_STATE",
    MaterialInvalid = "MATERIAL_INVALID",
    MaterialTooLarge = "MATERIAL_TOO_LARGE",
    MessageTooLarge = "MESSAGE_TOO_LARGE",
    Overloaded = "OVERLOADED",
    PageTokenInvalid = "PAGE_TOKEN_INVALID",
    PasswordInvalid = "PASSWORD_INVALID",
    PasswordRequired = "PASSWORD_REQUIRED",
    PermissionDenied = "PERMISSION_DENIED",
    PhoneNumberBanned = "PHONE_NUMBER_BANNED",
    PhoneNumberInvalid = "PHONE_NUMBER_INVALID",
    ProxyUnreachable = "PROXY_UNREACHABLE",
    RateLimited = "RATE_LIMITED",
    RequestIdReused = "REQUEST_ID_REUSED",
    ResendUnavailable = "RESEND_UNAVAILABLE",
    ResumeTokenInvalid = "RESUME_TOKEN_INVALID",
    RevisionStale = "REVISION_STALE",
    ServiceDraining = "SERVICE_DRAINING",
    SessionAlreadyExists = "SESSION_ALREADY_EXISTS",
    SessionLeased = "SESSION_LEASED",
    SessionNotFound = "SESSION_NOT_FOUND",
    SessionUnauthorizedByTelegram = "SESSION_UNAUTHORIZED_BY_TELEGRAM",
    SessionWrongState = "SESSION_WRONG_STATE",
    SignUpRequired = "SIGN_UP_REQUIRED",
    StoreConflict = "STORE_CONFLICT",
    StoreUnavailable = "STORE_UNAVAILABLE",
    TelegramFloodWait = "TELEGRAM_FLOOD_WAIT",
    TelegramRefused = "TELEGRAM_REFUSED",
    TelegramUnavailable = "TELEGRAM_UNAVAILABLE",
    TicketExpired = "TICKET_EXPIRED",
    TicketNotFound = "TICKET_NOT_FOUND",
    TicketSuperseded = "TICKET_SUPERSEDED",
    TicketsUnavailable = "TICKETS_UNAVAILABLE",
    Unauthenticated = "UNAUTHENTICATED",
    Unimplemented = "UNIMPLEMENTED",
    VaultUnavailable = "VAULT_UNAVAILABLE",
    WaitQueueFull = "WAIT_QUEUE_FULL",
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
