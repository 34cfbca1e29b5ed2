//! Accounts.

use serde::{Deserialize, Serialize};

use crate::crypto::srp::Verifier;

/// A user's number at Telegram.
pub(crate) type UserId = i64;

/// An account, of a person or of a bot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) id: UserId,
    pub(crate) access_hash: i64,
    /// Digits only.
    pub(crate) phone: Option<String>,
    pub(crate) first_name: String,
    pub(crate) last_name: Option<String>,
    pub(crate) username: Option<String>,
    /// The account's home DC.
    pub(crate) dc: i32,
    pub(crate) password: Option<Verifier>,
    pub(crate) hint: Option<String>,
    pub(crate) bot_token: Option<String>,
    pub(crate) is_bot: bool,
    /// A lasting error, such as `USER_DEACTIVATED_BAN`, that all calls of this account get.
    pub(crate) state: Option<String>,
    /// Tokens from `auth.logOut` that allow a login without code.
    #[serde(default)]
    pub(crate) logout_tokens: Vec<Vec<u8>>,
    /// Counts messages.
    #[serde(default)]
    pub(crate) messages: i32,
}

/// Tokens kept per account; clients keep as many.
const LOGOUT_TOKENS_MAX: usize = 20;

/// The state of an account that never got a message.
const FIRST_PTS: i32 = 1;

impl User {
    /// The number of the last message, as `updates.getState` tells it.
    pub(crate) fn pts(&self) -> i32 {
        FIRST_PTS + self.messages
    }

    /// Counts another message and tells its number.
    pub(crate) fn next_pts(&mut self) -> i32 {
        self.messages += 1;
        self.pts()
    }

    pub(crate) fn keep_logout_token(&mut self, token: Vec<u8>) {
        if self.logout_tokens.len() == LOGOUT_TOKENS_MAX {
            self.logout_tokens.remove(0);
        }
        self.logout_tokens.push(token);
    }
}
