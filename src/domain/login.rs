//! A login under way: what it waits for and how it ends.

use std::{collections::BTreeMap, time::Duration};

use sha2::{Digest as _, Sha256};

use crate::domain::{
    error::{Error, Reason},
    id::{RequestId, SessionKey, Ticket},
    material::Device,
    secret::Secret,
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
    WaitingCode { attempts_left: u32 },
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
    pub url: Secret,
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
            Self::Starting
            | Self::WaitingQrScan(_)
            | Self::WaitingCode { .. }
            | Self::WaitingPassword { .. } => false,
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
            Self::WaitingCode { .. } => "waiting_code",
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
            | Self::WaitingCode { .. }
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
                let mut error = Error::new(failure.reason, text_of(failure.reason));
                error.retry_after = failure.retry_after;
                // Each answer costs one attempt, and the last one ended the login.
                let wrong = matches!(failure.reason, Reason::CodeInvalid | Reason::PasswordInvalid);
                Some(if wrong { error.fact("attempts_left", 0) } else { error })
            }
        }
    }
}

/// The ways in which a code reaches the account's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeWay {
    /// A message in the applications where the account is signed in.
    App,
    Sms,
    Call,
    FlashCall,
    MissedCall,
    Email,
    Fragment,
}

impl CodeWay {
    pub const ALL: &[Self] =
        &[Self::App, Self::Sms, Self::Call, Self::FlashCall, Self::MissedCall, Self::Email, Self::Fragment];

    pub const fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Sms => "sms",
            Self::Call => "call",
            Self::FlashCall => "flash_call",
            Self::MissedCall => "missed_call",
            Self::Email => "email",
            Self::Fragment => "fragment",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|way| way.name() == name)
    }
}

/// Where Telegram sent a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeDelivery {
    /// `None` for a way that is not known here.
    pub way: Option<CodeWay>,
    /// Of the code after this one; `None` if there is no other way.
    pub next_way: Option<CodeWay>,
    /// When the next one may be asked for.
    pub resend_time: Option<Timestamp>,
    /// In characters; 0 if not told.
    pub length: u32,
    /// Of the address it went to.
    pub hint: Option<String>,
}

impl CodeDelivery {
    /// # Errors
    /// `RESEND_UNAVAILABLE`: there is no other way, or not yet; then it tells how long to wait.
    pub fn require_resend(&self, now: Timestamp) -> Result<(), Error> {
        if self.next_way.is_none() {
            return Err(Error::new(
                Reason::ResendUnavailable,
                "there is no other way for the code; wait for the one sent, or start another login",
            ));
        }
        match self.resend_time {
            Some(time) if now < time => {
                Err(Error::new(Reason::ResendUnavailable, "the code can be sent again, but not yet")
                    .retry_after(time.since(now)))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// A phone number in international form: digits only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhoneNumber(Secret);

impl PhoneNumber {
    const DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

    /// # Errors
    /// `ARGUMENT_INVALID` unless 7-15 digits, the country's first, with or without `+` and blanks between them.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let rule = "must be a phone number in international form, 7-15 digits that begin with the country's";
        let bare = text.strip_prefix('+').unwrap_or(text);
        let known = |c: char| c.is_ascii_digit() || matches!(c, ' ' | '-' | '(' | ')');
        let digits: zeroize::Zeroizing<String> =
            bare.chars().filter(char::is_ascii_digit).collect::<String>().into();
        if bare.len() > 32 || !bare.chars().all(known) || !Self::DIGITS.contains(&digits.len())
            // No country's code does. Otherwise one number would have several forms, and a budget for each.
            || digits.starts_with('0')
        {
            return Err(Error::invalid("phone_number", rule));
        }
        Ok(Self(Secret::new(digits.as_str())))
    }

    /// From the digits of one, as a checkpoint keeps them.
    pub fn of_digits(digits: &Secret) -> Option<Self> {
        Self::parse(digits.expose_secret()).ok()
    }

    /// The digits, without `+`.
    pub fn digits(&self) -> &Secret {
        &self.0
    }
}

/// A bot's token as BotFather gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BotToken(Secret);

impl BotToken {
    /// # Errors
    /// `BOT_TOKEN_INVALID` for what cannot be one.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let sound = text.len() <= 256
            && text.split_once(':').is_some_and(|(id, secret)| {
                (1..=20).contains(&id.len())
                    && id.bytes().all(|b| b.is_ascii_digit())
                    && !secret.is_empty()
                    && secret.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
            });
        if sound {
            Ok(Self(Secret::new(text)))
        } else {
            Err(Error::new(Reason::BotTokenInvalid, text_of(Reason::BotTokenInvalid)))
        }
    }

    pub fn text(&self) -> &Secret {
        &self.0
    }

    /// The public half.
    pub fn bot_id(&self) -> &str {
        self.0.expose_secret().split_once(':').map_or("", |(id, _)| id)
    }
}

/// What makes two requests for a login the same one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Repeatable {
    pub id: RequestId,
    pub subject: String,
    pub key: SessionKey,
    pub method: Method,
}

impl Repeatable {
    /// Of the request that a login came of; `None` for one without a name.
    pub fn of(login: &Login) -> Option<Self> {
        let id = login.request_id.clone()?;
        Some(Self { id, subject: login.subject.clone(), key: login.key.clone(), method: login.method })
    }

    /// A name for it that tells nothing, in hexadecimal.
    pub fn hash(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(b"usm login request");
        let id = self.id.to_text();
        for part in
            [self.subject.as_str(), self.key.tenant.as_str(), self.key.app.as_str(), self.method.name(), &id]
        {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hex::encode(hash.finalize())
    }

    /// The same, for the time while it is being served.
    pub fn reservation(&self) -> String {
        hex::encode(Sha256::digest(format!("serving {}", self.hash())))
    }
}

/// What an account proves itself with.
#[derive(Clone, Debug)]
pub enum Proof {
    Qr,
    Phone(PhoneNumber),
    Bot(BotToken),
}

impl Proof {
    pub const fn method(&self) -> Method {
        match self {
            Self::Qr => Method::Qr,
            Self::Phone(_) => Method::Phone,
            Self::Bot(_) => Method::Bot,
        }
    }
}

/// What somebody wants of a login under way.
#[derive(Clone, Debug)]
pub enum Ask {
    /// A request that has a name is judged once.
    Password {
        password: Secret,
        request: Option<RequestId>,
    },
    Code(Secret),
    /// Another code, by the next way; once for each request that has a name.
    Resend(Option<RequestId>),
    Cancel,
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
    /// How the new authorization introduces itself.
    pub device: Device,
    /// Who started it.
    pub subject: String,
    pub request_id: Option<RequestId>,
    /// Tells what was asked for by that id from anything else, without telling it.
    pub request_hash: Option<String>,
    /// Set on the session when the login succeeds.
    pub labels: BTreeMap<String, String>,
    /// The data centre the login moved to, once it did.
    pub migrated_to: Option<i32>,
    /// Where the last code went, once one was sent.
    pub code_delivery: Option<CodeDelivery>,
    /// The request whose password was judged last, and was wrong.
    pub password_request: Option<RequestId>,
    /// The request that had the last code sent.
    pub resend_request: Option<RequestId>,
    /// Grows with each change; a write names the one it read.
    pub version: u64,
}

impl Login {
    /// Whether this request had the last code sent.
    pub fn has_resent_for(&self, request: Option<&RequestId>) -> bool {
        request.is_some() && self.resend_request.as_ref() == request
    }

    /// # Errors
    /// `LOGIN_WRONG_STATE`, or the way the login ended, unless it waits for a password.
    pub fn require_password_step(&self) -> Result<(), Error> {
        self.require(
            matches!(self.state, State::WaitingPassword { .. }),
            "the login does not wait for a password",
        )
    }

    /// # Errors
    /// `LOGIN_WRONG_STATE`, or the way the login ended, unless it waits for a code.
    pub fn require_code_step(&self) -> Result<(), Error> {
        self.require(matches!(self.state, State::WaitingCode { .. }), "the login does not wait for a code")
    }

    fn require(&self, waits: bool, otherwise: &'static str) -> Result<(), Error> {
        match self.state.end() {
            _ if waits => Ok(()),
            Some(error) => Err(error),
            None => Err(Error::new(Reason::LoginWrongState, otherwise).fact("state", self.state.name())),
        }
    }
}

/// What to tell a caller whose login cannot go on for this reason. Fixed texts, because the reason may have come
/// from another process, or from a ticket.
pub const fn text_of(reason: Reason) -> &'static str {
    match reason {
        Reason::AccountBanned => "telegram has banned or deleted the account",
        Reason::AccountMismatch => {
            "another account than the expected one signed in; it was signed out again; use the right one"
        }
        Reason::ApiKeyRefused => {
            "telegram does not accept the application's api_id and api_hash; check the configured pair"
        }
        Reason::BotTokenInvalid => "telegram does not know the bot's token; get a new one from BotFather",
        Reason::CodeExpired => "the code is not valid any more; start another login",
        Reason::CodeInvalid => "telegram does not accept this code",
        Reason::LoginWrongState => "the login does not wait for this; look at its state",
        Reason::PasswordInvalid => "telegram does not accept this password",
        Reason::PhoneNumberBanned => "telegram has banned the phone number",
        Reason::PhoneNumberInvalid => "telegram knows no such phone number; give it in international form",
        Reason::RateLimited => "the login is busy with earlier requests; try again",
        Reason::ResendUnavailable => "there is no other way for the code, or not yet",
        Reason::SignUpRequired => {
            "no account has this phone number; sign up in an official application first"
        }
        Reason::TelegramFloodWait => "telegram asks to wait before this is tried again",
        Reason::TelegramUnavailable => "telegram does not answer; try again later",
        Reason::TicketSuperseded => "a newer login of this session took over; follow that one",
        Reason::TicketsUnavailable => "logins are unavailable for a moment; try again",
        _ => "the login failed; start a new one",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_number_is_its_digits() {
        for text in ["+999 66 2 1234", "9996621234", "+(999) 66-21234"] {
            let digits = PhoneNumber::parse(text).map(|number| number.0.expose_secret().to_owned());
            assert_eq!(digits.ok().as_deref(), Some("9996621234"), "{text}");
        }
        for text in [
            "",
            "+",
            "123456",
            "1234567890123456",
            "99966a1234",
            "++9996621234",
            "9996621234\n",
            "009996621234",
        ] {
            assert!(PhoneNumber::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bot_token_has_two_halves() {
        assert!(BotToken::parse("4242:AAbb_cc-DD").is_ok());
        for text in ["", ":", "4242", "4242:", ":AA", "x:AA", "4242:A A", "4242:A\n"] {
            assert!(BotToken::parse(text).is_err(), "{text}");
        }
        let long = format!("1:{}", "a".repeat(300));
        assert!(BotToken::parse(&long).is_err());
    }

    #[test]
    fn another_code_waits_for_its_time_and_needs_another_way() {
        let at = Timestamp::from_millis(60_000);
        let sent = CodeDelivery {
            way: Some(CodeWay::App),
            next_way: Some(CodeWay::Sms),
            resend_time: Some(at),
            length: 5,
            hint: None,
        };
        let early = sent.require_resend(Timestamp::from_millis(45_000)).expect_err("too early");
        assert_eq!(
            (early.reason, early.retry_after),
            (Reason::ResendUnavailable, Some(Duration::from_secs(15)))
        );
        assert!(sent.require_resend(at).is_ok());
        let last = CodeDelivery { next_way: None, ..sent };
        assert_eq!(last.require_resend(at).expect_err("no way").retry_after, None);
    }
}
