//! What Telegram answers when it does not do what was asked, parsed once into what a caller can do about it.
//!
//! Matches names, not codes: the same name comes with different codes.

use std::{fmt, time::Duration};

use grammers_mtproto::{mtp, transport};
use grammers_mtsender::{InvocationError, RpcError};

use crate::domain::{
    error::{Error as DomainError, Reason},
    session::Loss,
};

/// How long Telegram holds a phone number back that asked for too many codes.
const DAY: Duration = Duration::from_secs(86_400);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Ask again after that time, not before.
    #[error("telegram asks to wait {} s", retry_after.as_secs())]
    FloodWait { retry_after: Duration },
    /// The authorization has ended beyond doubt.
    #[error("telegram ended the authorization ({0:?})")]
    Lost(Loss),
    /// Telegram does not take the key for a signed-in one. Known to be wrong at times: look again later, by
    /// another connection, before believing it.
    #[error("telegram does not accept the authorization")]
    Unauthorized,
    /// The data centre does not know the key at all. Verify before believing it.
    #[error("the data centre does not know the key")]
    KeyUnknown,
    /// The account is frozen. The authorization lives, and waiting does not help.
    #[error("the account is frozen")]
    Frozen,
    /// The account's password is asked for next.
    #[error("the account's password is needed")]
    PasswordNeeded,
    #[error("the password is wrong")]
    PasswordInvalid,
    #[error("the code is wrong")]
    CodeInvalid,
    /// The code, or the request for it, is of no use any more.
    #[error("the code is not valid any more")]
    CodeExpired,
    /// There is no other way for the code.
    #[error("the code cannot be sent again")]
    ResendUnavailable,
    #[error("telegram knows no such phone number")]
    PhoneInvalid,
    #[error("the phone number is banned")]
    PhoneBanned,
    #[error("nobody has signed up with this phone number")]
    SignUpRequired,
    #[error("telegram does not know the bot's token")]
    BotTokenInvalid,
    /// The parameters of the password check are out of date; fetch them again.
    #[error("the password check is out of date")]
    PasswordStale,
    /// A login token that expired, was used, or never was.
    #[error("the login token is of no use any more")]
    TokenUnusable,
    /// The account lives at another data centre.
    #[error("the account belongs to data centre {dc}")]
    MigrateTo { dc: i32 },
    #[error("telegram does not accept the application's api_id and api_hash")]
    ApiKeyInvalid,
    /// This build connects directly only.
    #[error("proxies are not supported")]
    ProxyUnsupported,
    #[error("the endpoint has no data centre {dc}")]
    DcUnknown { dc: i32 },
    /// The server could not prove to be the endpoint's Telegram, or broke the protocol while a key was made.
    #[error("the server cannot be trusted: {what}")]
    Untrusted { what: &'static str },
    /// The connection failed, or Telegram failed inside. Worth another try.
    #[error("telegram is unavailable while {doing}")]
    Unavailable {
        doing: &'static str,
        #[source]
        source: Option<BoxError>,
    },
    /// No answer within the time given.
    #[error("telegram did not answer in time while {doing}")]
    TimedOut { doing: &'static str },
    /// Anything else that Telegram refuses, by its own name for it.
    #[error("telegram refused with {name}")]
    Refused { name: RpcName },
}

/// Telegram's name for an error, fit to be shown: capitals, digits and underscores, at most 64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcName(String);

impl RpcName {
    const LENGTH_MAX: usize = 64;

    pub(super) fn new(name: &str) -> Self {
        let fit = (1..=Self::LENGTH_MAX).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        Self(if fit { name.to_owned() } else { "UNNAMED".to_owned() })
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RpcName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error {
    pub(super) fn unavailable(doing: &'static str, source: impl Into<BoxError>) -> Self {
        Self::Unavailable { doing, source: Some(source.into()) }
    }

    pub(super) fn refused(name: &str) -> Self {
        Self::Refused { name: RpcName::new(name) }
    }

    /// Whether the same call may well succeed on another connection.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::TimedOut { .. } => true,
            Self::FloodWait { .. }
            | Self::Lost(_)
            | Self::Unauthorized
            | Self::KeyUnknown
            | Self::Frozen
            | Self::PasswordNeeded
            | Self::PasswordInvalid
            | Self::PasswordStale
            | Self::CodeInvalid
            | Self::CodeExpired
            | Self::ResendUnavailable
            | Self::PhoneInvalid
            | Self::PhoneBanned
            | Self::SignUpRequired
            | Self::BotTokenInvalid
            | Self::TokenUnusable
            | Self::MigrateTo { .. }
            | Self::ApiKeyInvalid
            | Self::ProxyUnsupported
            | Self::DcUnknown { .. }
            | Self::Untrusted { .. }
            | Self::Refused { .. } => false,
        }
    }

    /// Whether Telegram says that the authorization does not exist (any more).
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Unauthorized | Self::KeyUnknown)
    }

    /// `doing` names the call for people, as in "while exporting a login token".
    pub(super) fn of_invocation(error: InvocationError, doing: &'static str) -> Self {
        match error {
            InvocationError::Rpc(error) => Self::of_rpc(&error, doing),
            InvocationError::Transport(transport::Error::BadStatus { status: 404 }) => Self::KeyUnknown,
            // Made of names and numbers alone, unlike those of a key exchange.
            error @ (InvocationError::Io(_)
            | InvocationError::Transport(_)
            | InvocationError::Deserialize(_)
            | InvocationError::Dropped(_)) => Self::unavailable(doing, error),
            InvocationError::Session(_) | InvocationError::InvalidDc => {
                Self::Unavailable { doing, source: None }
            }
            InvocationError::Authentication(_) => Self::Untrusted { what: "the key exchange failed" },
        }
    }

    /// An error as somebody else heard it from Telegram: code and text, with the number still in it.
    pub fn of_report(code: i32, message: &str) -> Self {
        if code == -404 {
            return Self::KeyUnknown;
        }
        let error =
            grammers_tl_types::types::RpcError { error_code: code, error_message: message.to_owned() };
        Self::of_rpc(&RpcError::from(error), "serving a worker")
    }

    fn of_rpc(error: &RpcError, doing: &'static str) -> Self {
        let number = error.value.unwrap_or(0);
        match error.name.as_str() {
            "FLOOD_WAIT" | "FLOOD_PREMIUM_WAIT" => {
                Self::FloodWait { retry_after: Duration::from_secs(u64::from(number.max(1))) }
            }
            "FROZEN_METHOD_INVALID" => Self::Frozen,
            "SESSION_REVOKED" => Self::Lost(Loss::RevokedByUser),
            "SESSION_EXPIRED" => Self::Lost(Loss::Expired),
            "USER_DEACTIVATED" => Self::Lost(Loss::Deleted),
            "USER_DEACTIVATED_BAN" => Self::Lost(Loss::Banned),
            "AUTH_KEY_DUPLICATED" => Self::Lost(Loss::Duplicated),
            "AUTH_KEY_UNREGISTERED" | "AUTH_KEY_INVALID" => Self::Unauthorized,
            "SESSION_PASSWORD_NEEDED" => Self::PasswordNeeded,
            "PASSWORD_HASH_INVALID" => Self::PasswordInvalid,
            "SRP_ID_INVALID" | "SRP_PASSWORD_CHANGED" => Self::PasswordStale,
            "PHONE_CODE_INVALID" | "PHONE_CODE_EMPTY" => Self::CodeInvalid,
            "PHONE_CODE_EXPIRED" | "PHONE_CODE_HASH_EMPTY" => Self::CodeExpired,
            "SEND_CODE_UNAVAILABLE" => Self::ResendUnavailable,
            "PHONE_NUMBER_INVALID" => Self::PhoneInvalid,
            "PHONE_NUMBER_BANNED" => Self::PhoneBanned,
            "PHONE_NUMBER_UNOCCUPIED" => Self::SignUpRequired,
            // Said without a span; it lasts until the next day.
            "PHONE_NUMBER_FLOOD" | "PHONE_PASSWORD_FLOOD" => Self::FloodWait { retry_after: DAY },
            "ACCESS_TOKEN_INVALID" | "ACCESS_TOKEN_EXPIRED" => Self::BotTokenInvalid,
            "AUTH_TOKEN_EXPIRED"
            | "AUTH_TOKEN_INVALID"
            | "AUTH_TOKEN_INVALIDX"
            | "AUTH_TOKEN_ALREADY_ACCEPTED" => Self::TokenUnusable,
            "PHONE_MIGRATE" | "NETWORK_MIGRATE" | "USER_MIGRATE" => match i32::try_from(number) {
                Ok(dc) => Self::MigrateTo { dc },
                Err(_) => Self::refused(&error.name),
            },
            "API_ID_INVALID" | "API_ID_PUBLISHED_FLOOD" | "CONNECTION_API_ID_INVALID" => Self::ApiKeyInvalid,
            // Telegram's own trouble: AUTH_RESTART, AUTH_KEY_UNSYNCHRONIZED, -503 Timeout and their kin.
            _ if error.code >= 500 || error.code < 0 => Self::unavailable(doing, Self::refused(&error.name)),
            name => Self::refused(name),
        }
    }
}

/// What the framed form of a transport error means, which grammers reports as a message cut short.
pub(super) fn of_transport_code(code: i32, doing: &'static str) -> Error {
    match code {
        -404 => Error::KeyUnknown,
        code => Error::unavailable(
            doing,
            InvocationError::Transport(transport::Error::BadStatus { status: code.unsigned_abs() }),
        ),
    }
}

/// Whether the peer sent something too short to be a message: a transport error in a frame.
pub(super) fn is_cut_short(error: &InvocationError) -> bool {
    matches!(error, InvocationError::Deserialize(mtp::DeserializeError::MessageBufferTooSmall))
}

impl From<Error> for DomainError {
    fn from(error: Error) -> Self {
        let refusal = match &error {
            Error::FloodWait { retry_after } => {
                Self::new(Reason::TelegramFloodWait, "telegram asks to wait before this is tried again")
                    .retry_after(*retry_after)
            }
            Error::Lost(Loss::Duplicated) => Self::new(
                Reason::AuthKeyDuplicated,
                "telegram ended the authorization because it was used from two places at once; log in again",
            ),
            Error::Lost(Loss::Banned | Loss::Deleted | Loss::Expired | Loss::RevokedByUser) => Self::new(
                Reason::SessionUnauthorizedByTelegram,
                "telegram ended the authorization; log in again",
            ),
            Error::Unauthorized | Error::KeyUnknown => Self::new(
                Reason::SessionUnauthorizedByTelegram,
                "telegram does not accept the authorization at the moment; it is verified again later",
            ),
            Error::Frozen => Self::new(Reason::TelegramRefused, "telegram has frozen the account"),
            Error::PasswordNeeded => {
                Self::new(Reason::LoginWrongState, "the account's password is needed first")
            }
            Error::PasswordInvalid => Self::new(Reason::PasswordInvalid, "the password is wrong"),
            Error::CodeInvalid => Self::new(Reason::CodeInvalid, "telegram does not accept this code"),
            Error::CodeExpired => {
                Self::new(Reason::CodeExpired, "the code is not valid any more; start another login")
            }
            Error::ResendUnavailable => Self::new(
                Reason::ResendUnavailable,
                "there is no other way for the code; wait for the one sent, or start another login",
            ),
            Error::PhoneInvalid => Self::new(
                Reason::PhoneNumberInvalid,
                "telegram knows no such phone number; give it in international form",
            ),
            Error::PhoneBanned => {
                Self::new(Reason::PhoneNumberBanned, "telegram has banned the phone number")
            }
            Error::SignUpRequired => Self::new(
                Reason::SignUpRequired,
                "no account has this phone number; sign up in an official application first",
            ),
            Error::BotTokenInvalid => Self::new(
                Reason::BotTokenInvalid,
                "telegram does not know the bot's token; get a new one from BotFather",
            ),
            Error::ApiKeyInvalid => Self::new(
                Reason::ApiKeyRefused,
                "telegram does not accept the application's api_id and api_hash; check the configured pair",
            ),
            Error::ProxyUnsupported => Self::invalid("proxy", "must be empty: proxies are not supported"),
            Error::DcUnknown { dc } => {
                Self::new(Reason::TelegramRefused, "the configured endpoint lacks the account's data centre")
                    .fact("dc_id", dc)
            }
            Error::Untrusted { .. } => Self::new(
                Reason::TelegramUnavailable,
                "what answers at telegram's address is not the configured telegram; check address and rsa keys",
            ),
            Error::Unavailable { .. } | Error::TimedOut { .. } => {
                Self::new(Reason::TelegramUnavailable, "telegram does not answer; try again later")
            }
            Error::PasswordStale | Error::TokenUnusable | Error::MigrateTo { .. } => {
                Self::new(Reason::TelegramRefused, "telegram refused; start again")
            }
            Error::Refused { name } => {
                Self::new(Reason::TelegramRefused, "telegram refused").fact("telegram_error", name)
            }
        };
        refusal.caused_by(error)
    }
}

#[cfg(test)]
mod tests {
    use grammers_tl_types as tl;

    use super::*;

    fn parse(code: i32, text: &str) -> Error {
        let error = RpcError::from(tl::types::RpcError { error_code: code, error_message: text.into() });
        Error::of_invocation(InvocationError::Rpc(error), "testing")
    }

    #[test]
    fn each_known_name_has_its_meaning_whatever_the_code() {
        assert!(matches!(parse(400, "SESSION_PASSWORD_NEEDED"), Error::PasswordNeeded));
        assert!(matches!(parse(401, "SESSION_PASSWORD_NEEDED"), Error::PasswordNeeded));
        assert!(matches!(parse(401, "AUTH_KEY_UNREGISTERED"), Error::Unauthorized));
        assert!(matches!(parse(401, "AUTH_KEY_INVALID"), Error::Unauthorized));
        assert!(matches!(parse(401, "SESSION_REVOKED"), Error::Lost(Loss::RevokedByUser)));
        assert!(matches!(parse(401, "SESSION_EXPIRED"), Error::Lost(Loss::Expired)));
        assert!(matches!(parse(401, "USER_DEACTIVATED"), Error::Lost(Loss::Deleted)));
        assert!(matches!(parse(401, "USER_DEACTIVATED_BAN"), Error::Lost(Loss::Banned)));
        assert!(matches!(parse(406, "AUTH_KEY_DUPLICATED"), Error::Lost(Loss::Duplicated)));
        assert!(matches!(parse(420, "FROZEN_METHOD_INVALID"), Error::Frozen));
        assert!(matches!(parse(303, "USER_MIGRATE_4"), Error::MigrateTo { dc: 4 }));
        assert!(matches!(parse(500, "AUTH_KEY_UNSYNCHRONIZED"), Error::Unavailable { .. }));
        assert!(matches!(parse(-503, "Timeout"), Error::Unavailable { .. }));
    }

    #[test]
    fn a_lack_of_binding_is_no_loss() {
        assert!(!parse(401, "AUTH_KEY_PERM_EMPTY").is_gone());
    }

    #[test]
    fn a_flood_wait_tells_how_long() {
        for text in ["FLOOD_WAIT_31", "FLOOD_PREMIUM_WAIT_31"] {
            let refusal = DomainError::from(parse(420, text));
            assert_eq!(refusal.reason, Reason::TelegramFloodWait);
            assert_eq!(refusal.retry_after, Some(Duration::from_secs(31)));
        }
    }

    #[test]
    fn a_name_from_the_wire_is_shown_only_if_it_is_one() {
        assert_eq!(parse(400, "CHAT_INVALID").to_string(), "telegram refused with CHAT_INVALID");
        assert_eq!(parse(400, "<b>hello</b>").to_string(), "telegram refused with UNNAMED");
        assert_eq!(parse(400, &"A".repeat(65)).to_string(), "telegram refused with UNNAMED");
    }

    #[test]
    fn an_unknown_key_is_told_from_an_unavailable_server() {
        let status = |status| InvocationError::Transport(transport::Error::BadStatus { status });
        assert!(matches!(Error::of_invocation(status(404), "testing"), Error::KeyUnknown));
        assert!(matches!(Error::of_invocation(status(429), "testing"), Error::Unavailable { .. }));
    }
}
