//! How many logins may be started, so that Telegram never has to say no.
//!
//! Telegram answers too many attempts of one phone with a pause until the next day, and too many of one api_id by
//! looking closer at all of them. Counted across replicas; what Telegram itself demanded is remembered as a pause.

use std::time::Duration;

use crate::domain::{
    error::{Error, Reason},
    id::TenantId,
    login::Method,
};

/// Whose logins are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// A keyed hash of the number.
    Phone(String),
    Api(i32),
    Tenant(TenantId),
}

impl Scope {
    /// The name in keys and messages.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Phone(_) => "phone",
            Self::Api(_) => "api_id",
            Self::Tenant(_) => "tenant",
        }
    }
}

/// So many logins in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub logins: u32,
    pub span: Duration,
}

/// One budget that a login is taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    pub scope: Scope,
    pub limit: Limit,
}

/// What Telegram asked to leave alone for a while.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Paused {
    /// A keyed hash of the number.
    Phone(String),
    /// Logins of one kind under one api_id.
    Api(i32, Method),
    /// A bot, by its public number.
    Bot(String),
}

/// Whether a login may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spent {
    Spent,
    /// Telegram asked to wait, and the time is not over.
    Paused(Duration),
    /// This budget is used up for so long.
    Exhausted(&'static str, Duration),
}

impl Spent {
    /// # Errors
    /// `TELEGRAM_FLOOD_WAIT` and `LOGIN_BUDGET_EXHAUSTED`, each with the time to wait.
    pub fn require(self) -> Result<(), Error> {
        match self {
            Self::Spent => Ok(()),
            Self::Paused(left) => Err(Error::new(
                Reason::TelegramFloodWait,
                "telegram asked to wait before this is tried again; it is not asked before that time",
            )
            .retry_after(left)),
            Self::Exhausted(scope, left) => Err(Error::new(
                Reason::LoginBudgetExhausted,
                "too many logins were started; telegram would answer more of them with a long wait",
            )
            .retry_after(left)
            .fact("budget", scope)),
        }
    }
}
