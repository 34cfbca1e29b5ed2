//! A session's life: its states, what may happen in each, and why it is where it is.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::domain::{
    error::{Error, Reason},
    event::Transition,
    fingerprint::Fingerprint,
    id::{ReplicaId, SessionKey, TicketHash},
    lease::LeaseView,
    time::Timestamp,
};

/// Where a session stands, with the data that exists only there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Known, but without key material.
    Absent { reason: Option<AbsentReason> },
    /// A login waits for somebody to scan its QR code.
    PendingQr(Pending),
    /// A login waits for a code.
    PendingCode(Pending),
    /// A login waits for the account's password.
    PendingPassword(Pending),
    /// The material works, as far as is known.
    Authorized { reason: AuthorizedReason },
    /// The material may have stopped working.
    Stale { reason: StaleReason },
    /// The authorization is gone for good.
    Revoked { reason: RevokedReason, log_out: LogOut },
}

/// A login under way, and where its session returns to unless the login succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub before: Rest,
}

/// A state without usable material, from which a login may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rest {
    Absent { reason: Option<AbsentReason> },
    Stale { reason: StaleReason },
    Revoked { reason: RevokedReason, log_out: LogOut },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbsentReason {
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorizedReason {
    AuthorizationSuccess,
    Imported,
    Minted,
    ValidationSuccess,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaleReason {
    Restored,
    ValidationFailed,
    ValidationOverdue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevokedReason {
    Banned,
    Deleted,
    Duplicated,
    Expired,
    ManualRevoke,
    RevokedByUser,
}

/// Whether Telegram was told that the authorization ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOut {
    Done,
    Pending,
}

/// Why a login ended without an authorization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginEnd {
    Expired,
    Cancelled,
    Failed,
}

/// What Telegram says that ends an authorization beyond doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    Banned,
    Deleted,
    Duplicated,
    Expired,
    RevokedByUser,
}

/// What can happen to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    QrStarted,
    CodeStarted,
    PasswordRequired,
    TelegramAuthorized,
    LoginEnded(LoginEnd),
    Imported,
    Minted,
    Restored,
    ValidationOverdue,
    ValidationFailed,
    ValidationSucceeded,
    Lost(Loss),
    ManuallyRevoked(LogOut),
    LoggedOut,
    Reset,
}

impl State {
    /// The state after `event`.
    ///
    /// # Errors
    /// `SESSION_WRONG_STATE` for every pair that the life cycle does not name.
    pub fn next(&self, event: Event) -> Result<Self, Error> {
        use Event as E;
        let refused = || Err(wrong_state(self, event));
        match event {
            E::QrStarted => {
                self.rest().map_or_else(refused, |before| Ok(Self::PendingQr(Pending { before })))
            }
            E::CodeStarted => {
                self.rest().map_or_else(refused, |before| Ok(Self::PendingCode(Pending { before })))
            }
            E::PasswordRequired => match self {
                Self::PendingQr(pending) | Self::PendingCode(pending) => {
                    Ok(Self::PendingPassword(pending.clone()))
                }
                Self::PendingPassword(_)
                | Self::Absent { .. }
                | Self::Authorized { .. }
                | Self::Stale { .. }
                | Self::Revoked { .. } => refused(),
            },
            E::TelegramAuthorized => match self.pending() {
                Some(_) => Ok(Self::Authorized { reason: AuthorizedReason::AuthorizationSuccess }),
                None => refused(),
            },
            E::LoginEnded(LoginEnd::Expired | LoginEnd::Cancelled | LoginEnd::Failed) => match self.pending()
            {
                Some(pending) => Ok(pending.before.clone().into()),
                None => refused(),
            },
            E::Imported => self.filled(AuthorizedReason::Imported).map_or_else(refused, Ok),
            E::Minted => self.filled(AuthorizedReason::Minted).map_or_else(refused, Ok),
            E::Restored => Ok(Self::Stale { reason: StaleReason::Restored }),
            E::ValidationOverdue => match self {
                Self::Authorized { .. } => Ok(Self::Stale { reason: StaleReason::ValidationOverdue }),
                Self::Absent { .. }
                | Self::PendingQr(_)
                | Self::PendingCode(_)
                | Self::PendingPassword(_)
                | Self::Stale { .. }
                | Self::Revoked { .. } => refused(),
            },
            E::ValidationFailed => match self {
                // What is merely overdue is lent; once it was refused it must not be.
                Self::Authorized { .. } | Self::Stale { reason: StaleReason::ValidationOverdue } => {
                    Ok(Self::Stale { reason: StaleReason::ValidationFailed })
                }
                Self::Absent { .. }
                | Self::PendingQr(_)
                | Self::PendingCode(_)
                | Self::PendingPassword(_)
                | Self::Stale { reason: StaleReason::ValidationFailed | StaleReason::Restored }
                | Self::Revoked { .. } => refused(),
            },
            E::ValidationSucceeded => match self {
                Self::Stale { .. } => Ok(Self::Authorized { reason: AuthorizedReason::ValidationSuccess }),
                Self::Absent { .. }
                | Self::PendingQr(_)
                | Self::PendingCode(_)
                | Self::PendingPassword(_)
                | Self::Authorized { .. }
                | Self::Revoked { .. } => refused(),
            },
            E::Lost(loss) => match self {
                Self::Authorized { .. } | Self::Stale { .. } => {
                    Ok(Self::Revoked { reason: loss.into(), log_out: LogOut::Done })
                }
                Self::Absent { .. }
                | Self::PendingQr(_)
                | Self::PendingCode(_)
                | Self::PendingPassword(_)
                | Self::Revoked { .. } => refused(),
            },
            E::ManuallyRevoked(log_out) => match self {
                Self::Absent { .. } | Self::Revoked { .. } => refused(),
                Self::PendingQr(_)
                | Self::PendingCode(_)
                | Self::PendingPassword(_)
                | Self::Authorized { .. }
                | Self::Stale { .. } => Ok(Self::Revoked { reason: RevokedReason::ManualRevoke, log_out }),
            },
            E::LoggedOut => match self {
                Self::Revoked { reason, log_out: LogOut::Pending } => {
                    Ok(Self::Revoked { reason: *reason, log_out: LogOut::Done })
                }
                Self::Revoked { log_out: LogOut::Done, .. }
                | Self::Absent { .. }
                | Self::PendingQr(_)
                | Self::PendingCode(_)
                | Self::PendingPassword(_)
                | Self::Authorized { .. }
                | Self::Stale { .. } => refused(),
            },
            E::Reset => match self {
                Self::Revoked { .. } | Self::Stale { .. } => {
                    Ok(Self::Absent { reason: Some(AbsentReason::Reset) })
                }
                Self::Absent { .. }
                | Self::PendingQr(_)
                | Self::PendingCode(_)
                | Self::PendingPassword(_)
                | Self::Authorized { .. } => refused(),
            },
        }
    }

    /// Whether a worker may be given the material.
    pub fn is_usable(&self) -> bool {
        match self {
            Self::Authorized { .. } | Self::Stale { reason: StaleReason::ValidationOverdue } => true,
            Self::Absent { .. }
            | Self::PendingQr(_)
            | Self::PendingCode(_)
            | Self::PendingPassword(_)
            | Self::Stale { reason: StaleReason::Restored | StaleReason::ValidationFailed }
            | Self::Revoked { .. } => false,
        }
    }

    /// The login under way, if this state is one.
    pub fn pending(&self) -> Option<&Pending> {
        match self {
            Self::PendingQr(pending) | Self::PendingCode(pending) | Self::PendingPassword(pending) => {
                Some(pending)
            }
            Self::Absent { .. } | Self::Authorized { .. } | Self::Stale { .. } | Self::Revoked { .. } => None,
        }
    }

    /// The name without its data, for columns, metrics and messages.
    pub fn name(&self) -> StateName {
        match self {
            Self::Absent { .. } => StateName::Absent,
            Self::PendingQr(_) => StateName::PendingQr,
            Self::PendingCode(_) => StateName::PendingCode,
            Self::PendingPassword(_) => StateName::PendingPassword,
            Self::Authorized { .. } => StateName::Authorized,
            Self::Stale { .. } => StateName::Stale,
            Self::Revoked { .. } => StateName::Revoked,
        }
    }

    /// Why the session is in this state; empty for one that never had material.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Absent { reason: None } => "",
            Self::Absent { reason: Some(reason) } => reason.name(),
            Self::PendingQr(_) => "qr_started",
            Self::PendingCode(_) => "code_started",
            Self::PendingPassword(_) => "password_required",
            Self::Authorized { reason } => reason.name(),
            Self::Stale { reason } => reason.name(),
            Self::Revoked { reason, .. } => reason.name(),
        }
    }

    /// The state to which a failed login returns, if a login may start here beside no usable material.
    fn rest(&self) -> Option<Rest> {
        match self {
            Self::Absent { reason } => Some(Rest::Absent { reason: *reason }),
            Self::Stale { reason: StaleReason::ValidationOverdue } => None,
            Self::Stale { reason } => Some(Rest::Stale { reason: *reason }),
            Self::Revoked { reason, log_out } => Some(Rest::Revoked { reason: *reason, log_out: *log_out }),
            Self::PendingQr(_)
            | Self::PendingCode(_)
            | Self::PendingPassword(_)
            | Self::Authorized { .. } => None,
        }
    }

    fn filled(&self, reason: AuthorizedReason) -> Option<Self> {
        match self {
            Self::Absent { .. } | Self::Revoked { .. } => Some(Self::Authorized { reason }),
            Self::PendingQr(_)
            | Self::PendingCode(_)
            | Self::PendingPassword(_)
            | Self::Authorized { .. }
            | Self::Stale { .. } => None,
        }
    }
}

impl From<Rest> for State {
    fn from(rest: Rest) -> Self {
        match rest {
            Rest::Absent { reason } => Self::Absent { reason },
            Rest::Stale { reason } => Self::Stale { reason },
            Rest::Revoked { reason, log_out } => Self::Revoked { reason, log_out },
        }
    }
}

impl From<Loss> for RevokedReason {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::Banned => Self::Banned,
            Loss::Deleted => Self::Deleted,
            Loss::Duplicated => Self::Duplicated,
            Loss::Expired => Self::Expired,
            Loss::RevokedByUser => Self::RevokedByUser,
        }
    }
}

fn wrong_state(state: &State, event: Event) -> Error {
    Error::new(Reason::SessionWrongState, "the session is not in a state that allows this")
        .fact("state", state.name().as_str())
        .fact("event", event.reason())
}

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name in columns, metrics and events.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

names!(AbsentReason { Reset = "reset" });
names!(AuthorizedReason {
    AuthorizationSuccess = "authorization_success",
    Imported = "imported",
    Minted = "minted",
    ValidationSuccess = "validation_success",
});
names!(StaleReason {
    Restored = "restored",
    ValidationFailed = "validation_failed",
    ValidationOverdue = "validation_overdue",
});
names!(RevokedReason {
    Banned = "banned",
    Deleted = "deleted",
    Duplicated = "duplicated",
    Expired = "expired",
    ManualRevoke = "manual_revoke",
    RevokedByUser = "revoked_by_user",
});
names!(LogOut { Done = "done", Pending = "log_out_pending" });
names!(LoginEnd { Expired = "expired", Cancelled = "cancelled", Failed = "failed" });

impl Event {
    /// The reason under which events and metrics count it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::QrStarted => "qr_started",
            Self::CodeStarted => "code_started",
            Self::PasswordRequired => "password_required",
            Self::TelegramAuthorized => "authorization_success",
            Self::LoginEnded(end) => end.name(),
            Self::Imported => "imported",
            Self::Minted => "minted",
            Self::Restored => "restored",
            Self::ValidationOverdue => "validation_overdue",
            Self::ValidationFailed => "validation_failed",
            Self::ValidationSucceeded => "validation_success",
            Self::Lost(loss) => RevokedReason::from(loss).name(),
            Self::ManuallyRevoked(_) => "manual_revoke",
            Self::LoggedOut => "logged_out",
            Self::Reset => "reset",
        }
    }
}

/// A state without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StateName {
    Absent,
    PendingQr,
    PendingCode,
    PendingPassword,
    Authorized,
    Stale,
    Revoked,
}

names!(StateName {
    Absent = "ABSENT",
    PendingQr = "PENDING_QR",
    PendingCode = "PENDING_CODE",
    PendingPassword = "PENDING_PASSWORD",
    Authorized = "AUTHORIZED",
    Stale = "STALE",
    Revoked = "REVOKED",
});

impl StateName {
    pub const fn as_str(self) -> &'static str {
        self.name()
    }
}

/// Which system may connect with the session's key. Never both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Custody {
    /// This service lends and probes it.
    Service,
    /// The system it came from owns the file; it is never leased, probed or connected from here.
    Legacy,
}

names!(Custody { Service = "SERVICE", Legacy = "LEGACY" });

/// Which Telegram a key belongs to: `production`, `test`, `sandbox`, or the hash of a custom endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Environment(String);

impl Environment {
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A session as its row holds it, without key material.
#[derive(Clone, Debug)]
pub struct Session {
    pub key: SessionKey,
    pub state: State,
    pub custody: Custody,
    pub environment: Environment,
    pub account: Option<Account>,
    /// The home data centre, once known.
    pub dc_id: Option<i32>,
    /// The configured api_id/api_hash pair the authorization was made with.
    pub api_key_alias: Option<String>,
    pub fingerprint: Option<Fingerprint>,
    /// Of the legacy file at import, or as the service last wrote it: `sha256:size:mtime`.
    pub legacy_fingerprint: Option<String>,
    /// Whether a copy is kept as a file for the legacy system, whatever the custody.
    pub mirrored: bool,
    /// Counts changes of the row; leases do not change it.
    pub revision: i64,
    /// Counts changes of the sealed material; 0 before the first.
    pub material_version: i64,
    /// The login whose outcome may still be written.
    pub login_ticket: Option<TicketHash>,
    /// The replica that runs it.
    pub login_owner: Option<ReplicaId>,
    pub lease: Option<LeaseView>,
    /// The epoch of the last grant; the next one is larger.
    pub lease_epoch: i64,
    pub labels: BTreeMap<String, String>,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
    pub last_validated_time: Option<Timestamp>,
    pub last_activity_time: Option<Timestamp>,
}

/// The Telegram account behind a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub telegram_user_id: i64,
    pub username: Option<String>,
    pub is_bot: bool,
}

impl Session {
    /// A session that nobody has stored yet.
    pub fn new(key: SessionKey, custody: Custody, environment: Environment, now: Timestamp) -> Self {
        Self {
            key,
            state: State::Absent { reason: None },
            custody,
            environment,
            account: None,
            dc_id: None,
            api_key_alias: None,
            fingerprint: None,
            legacy_fingerprint: None,
            mirrored: false,
            revision: 0,
            material_version: 0,
            login_ticket: None,
            login_owner: None,
            lease: None,
            lease_epoch: 0,
            labels: BTreeMap::new(),
            create_time: now,
            update_time: now,
            last_validated_time: None,
            last_activity_time: None,
        }
    }

    /// Names no login any more.
    pub fn forget_login(&mut self) {
        self.login_ticket = None;
        self.login_owner = None;
    }

    /// Moves the state and tells what to write into the audit log.
    ///
    /// # Errors
    /// `SESSION_WRONG_STATE`; the session is unchanged then.
    pub fn apply(&mut self, event: Event, now: Timestamp) -> Result<Transition, Error> {
        let next = self.state.next(event)?;
        let transition = Transition { from: self.state.name(), to: next.name(), reason: event.reason() };
        self.state = next;
        self.update_time = now;
        Ok(transition)
    }
}
