//! Failures that a test orders in advance.

use std::time::Duration;

use super::user::UserId;
use crate::crypto::auth_key::KeyId;

/// Orders waiting at a time.
pub(crate) const FAULTS_MAX: usize = 1000;

/// The pseudo method that stands for a new connection.
pub(crate) const CONNECT: &str = "connect";

/// What happens instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// The call gets this error; a new connection gets a transport error of that number.
    Error(RpcError),
    /// The connection is closed.
    Drop,
    /// No answer, ever.
    Silent,
}

/// An error as an API call gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RpcError {
    pub(crate) code: i32,
    pub(crate) name: String,
}

impl RpcError {
    pub(crate) fn new(code: i32, name: impl Into<String>) -> Self {
        Self { code, name: name.into() }
    }

    /// An error by its name alone, or by code and name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (code, name) = match text.split_once(' ') {
            Some((code, name)) => (Some(code.parse().ok()?), name),
            None => (None, text),
        };
        let shaped = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        let fits = !name.is_empty() && name.len() <= 128 && name.bytes().all(shaped);
        fits.then(|| Self { code: code.unwrap_or_else(|| code_of(name)), name: name.to_owned() })
    }
}

/// The code under which Telegram sends an error.
fn code_of(name: &str) -> i32 {
    if let Ok(number) = name.parse::<i32>() {
        return number;
    }
    if name.contains("_MIGRATE_") {
        return 303;
    }
    if name.contains("FLOOD_WAIT_") || name.contains("_WAIT_") || name == "FROZEN_METHOD_INVALID" {
        return 420;
    }
    match name {
        "AUTH_KEY_UNREGISTERED"
        | "AUTH_KEY_INVALID"
        | "AUTH_KEY_PERM_EMPTY"
        | "SESSION_REVOKED"
        | "SESSION_EXPIRED"
        | "SESSION_PASSWORD_NEEDED"
        | "USER_DEACTIVATED"
        | "USER_DEACTIVATED_BAN" => 401,
        "AUTH_KEY_DUPLICATED"
        | "PHONE_PASSWORD_FLOOD"
        | "FRESH_RESET_AUTHORISATION_FORBIDDEN"
        | "UPDATE_APP_TO_LOGIN"
        | "SEND_CODE_UNAVAILABLE" => 406,
        "AUTH_KEY_UNSYNCHRONIZED" | "AUTH_RESTART" | "RPC_CALL_FAIL" | "RPC_MCGET_FAIL" | "INTERNAL" => 500,
        _ => 400,
    }
}

/// An order: what happens to the next calls of a method.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// A method's name, `*` for any, or `connect`.
    pub(crate) method: String,
    /// Calls left.
    pub(crate) count: u32,
    pub(crate) action: Option<Action>,
    pub(crate) delay: Duration,
    pub(crate) key: Option<KeyId>,
    pub(crate) user: Option<UserId>,
}

impl Fault {
    fn fits(&self, method: &str, key: Option<KeyId>, user: Option<UserId>) -> bool {
        let named = self.method == method || (self.method == "*" && method != CONNECT);
        let of_key = self.key.is_none_or(|wanted| key == Some(wanted));
        named && of_key && self.user.is_none_or(|wanted| user == Some(wanted))
    }
}

/// Takes one call off the first order that fits.
pub(crate) fn take(
    faults: &mut Vec<Fault>,
    method: &str,
    key: Option<KeyId>,
    user: Option<UserId>,
) -> Option<Fault> {
    let at = faults.iter().position(|fault| fault.fits(method, key, user))?;
    faults[at].count -= 1;
    let taken = faults[at].clone();
    if taken.count == 0 {
        faults.remove(at);
    }
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(method: &str, count: u32) -> Fault {
        let action = Some(Action::Silent);
        Fault { method: method.to_owned(), count, action, delay: Duration::ZERO, key: None, user: None }
    }

    #[test]
    fn an_order_is_used_up_by_its_count() {
        let mut faults = vec![fault("users.getUsers", 2)];
        assert!(take(&mut faults, "help.getConfig", None, None).is_none());
        assert!(take(&mut faults, "users.getUsers", None, None).is_some());
        assert!(take(&mut faults, "users.getUsers", None, None).is_some());
        assert!(take(&mut faults, "users.getUsers", None, None).is_none());
    }

    #[test]
    fn the_star_means_any_method_but_not_a_connection() {
        let mut faults = vec![fault("*", 5), Fault { user: Some(7), ..fault(CONNECT, 1) }];
        assert!(take(&mut faults, CONNECT, None, None).is_none());
        assert!(take(&mut faults, "help.getConfig", None, None).is_some());
        assert!(take(&mut faults, CONNECT, None, Some(7)).is_some());
    }

    #[test]
    fn errors_carry_the_code_that_telegram_sends() {
        for (text, code) in [
            ("FLOOD_WAIT_3", 420),
            ("PHONE_MIGRATE_2", 303),
            ("AUTH_KEY_DUPLICATED", 406),
            ("SESSION_REVOKED", 401),
            ("500 SOMETHING", 500),
            ("-429", -429),
            ("PEER_ID_INVALID", 400),
        ] {
            assert_eq!(RpcError::parse(text).map(|e| e.code), Some(code), "{text}");
        }
        for bad in ["", "lower", "x Y", "400 ", "A\nB"] {
            assert_eq!(RpcError::parse(bad), None, "{bad:?}");
        }
    }
}
