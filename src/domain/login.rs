//! A login under way: what it waits for and how it ends.

use std::{collections::BTreeMap, time::Duration};

use crate::domain::{
    error::{Error, Reason},
    id::{RequestId, SessionKey, Ticket},
    time::Timestamp,
};

/// Wrong passwords or codes a login survives; the one after ends it.
pub const ATTEMPTS_MAX: u32 = 5;

/// The way somebody proves to be the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    Qr,
    Phone,
    Bot,
}

impl Method {
    pub const ALL: &[Self] = &[Self::Qr, Self::Phone, Self::Bot];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Qr => "qr",
            Self::Phone => "phone",
            Self::Bot => "bot",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|method| method.name() == name)
    }
}

/// Where a login stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Starting,
    WaitingQrScan(QrToken),
    WaitingCode,
    WaitingPassword { hint: Option<String>, attempts_left: u32 },
    Authorized { telegram_user_id: i64 },
    Expired,
    Cancelled,
    Superseded,
    Failed(Failure),
}

/// What is shown as a QR code. Whoever scans it signs in, so it is shown to the ticket's owner only.
#[derive(Clone, PartialEq, Eq)]
pub struct QrToken {
    /// `tg://login?token=…`
    pub url: crate::domain::secret::Secret,
    /// When Telegram forgets it; the next one is shown by then.
    pub expire_time: Timestamp,
}

impl std::fmt::Debug for QrToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QrToken").field("expire_time", &self.expire_time).finish_non_exhaustive()
    }
}

/// Why a login failed for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: Reason,
    pub message: String,
    pub retry_after: Option<Duration>,
}

impl Failure {
    pub fn of(error: &Error) -> Self {
        Self { reason: error.reason, message: error.message.to_owned(), retry_after: error.retry_after }
    }
}

impl State {
    /// Whether nothing can happen any more.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Starting | Self::WaitingQrScan(_) | Self::WaitingCode | Self::WaitingPassword { .. } => {
                false
            }
            Self::Authorized { .. }
            | Self::Expired
            | Self::Cancelled
            | Self::Superseded
            | Self::Failed(_) => true,
        }
    }

    pub const fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::WaitingQrScan(_) => "waiting_qr_scan",
            Self::WaitingCode => "waiting_code",
            Self::WaitingPassword { .. } => "waiting_password",
            Self::Authorized { .. } => "authorized",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
            Self::Failed(_) => "failed",
        }
    }

    /// The error for a caller who wants to go on with a login that ended without success; `None` while it may
    /// still succeed or has.
    pub fn end(&self) -> Option<Error> {
        match self {
            Self::Starting
            | Self::WaitingQrScan(_)
            | Self::WaitingCode
            | Self::WaitingPassword { .. }
            | Self::Authorized { .. } => None,
            Self::Expired => Some(Error::new(Reason::TicketExpired, "the login expired; start a new one")),
            Self::Superseded => Some(Error::new(
                Reason::TicketSuperseded,
                "a newer login of this session took over; follow that one",
            )),
            Self::Cancelled => {
                Some(Error::new(Reason::LoginCancelled, "the login was cancelled; start a new one"))
            }
            Self::Failed(failure) => {
                let mut error = Error::new(failure.reason, "the login failed; start a new one");
                error.retry_after = failure.retry_after;
                Some(error)
            }
        }
    }
}

/// A login as its ticket holds it.
#[derive(Clone, Debug)]
pub struct Login {
    pub ticket: Ticket,
    pub key: SessionKey,
    pub method: Method,
    pub state: State,
    pub create_time: Timestamp,
    /// When the ticket ends, whatever the state.
    pub expire_time: Timestamp,
    /// Only this account may sign in.
    pub expected_user: Option<i64>,
    pub api_key_alias: String,
    /// Who started it.
    pub subject: String,
    pub request_id: Option<RequestId>,
    /// Set on the session when the login succeeds.
    pub labels: BTreeMap<String, String>,
    /// The data centre the login moved to, once it did.
    pub migrated_to: Option<i32>,
    /// Grows with each change; a write names the one it read.
    pub version: u64,
}

impl Login {
    /// # Errors
    /// `LOGIN_WRONG_STATE`, or the way the login ended, unless it waits for a password.
    pub fn require_password_step(&self) -> Result<(), Error> {
        match (&self.state, self.state.end()) {
            (State::WaitingPassword { .. }, _) => Ok(()),
            (_, Some(error)) => Err(error),
            (_, None) => Err(Error::new(Reason::LoginWrongState, "the login does not wait for a password")
                .fact("state", self.state.name())),
        }
    }
}
