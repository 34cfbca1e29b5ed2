//! Signing in by a code that Telegram sends to the owner of a phone number.
//! <https://core.telegram.org/api/auth>

use std::time::{Duration, Instant};

use grammers_tl_types::{enums, functions, types};

use crate::{
    domain::{login::CodeWay, material::FutureAuthToken, secret::Secret},
    telegram::{
        error::Error,
        sign_in::{Authorized, Phase, Proof, SentCode, SignIn, Step, Told},
    },
};

/// Requests for a code that may go unanswered. Each may have sent one, and an account gets a few a day.
const UNANSWERED_MAX: u32 = 2;
/// The longest hint that is passed on, in characters.
const HINT_LENGTH_MAX: usize = 128;

/// What an attempt by phone needs to its end.
pub(super) struct Phone {
    pub(super) number: Secret,
    /// Of earlier log-outs of the account.
    pub(super) future_auth_tokens: Vec<FutureAuthToken>,
}

/// What came of a code.
#[derive(Debug)]
pub enum CodeOutcome {
    Authorized(Box<Authorized>),
    /// The code is right; the account's password is asked for next, as a step.
    PasswordNext,
    /// The attempt goes on; another code may be tried.
    Wrong,
    /// The attempt does not wait for one.
    NotAsked,
}

impl SignIn {
    pub(super) async fn send_code(&mut self, unanswered: u32, until: Instant) -> Result<Option<Step>, Error> {
        const DOING: &str = "asking for a code";
        let Proof::Phone(phone) = &self.way else { return Err(Error::refused("NO_PHONE_NUMBER")) };
        if unanswered >= UNANSWERED_MAX {
            return Err(Error::Unavailable { doing: DOING, source: None });
        }
        let tokens: Vec<_> = phone.future_auth_tokens.iter().map(|it| it.expose_secret().to_vec()).collect();
        let request = functions::auth::SendCode {
            phone_number: phone.number.expose_secret().to_owned(),
            api_id: self.api_key.api_id,
            api_hash: self.api_key.api_hash.expose_secret().to_owned(),
            settings: settings(tokens),
        };
        if self.connected(until).await?.is_none() {
            return Ok(None);
        }
        self.phase = Phase::SendCode { unanswered: unanswered + 1, moved: None };
        match self.ask_fateful(&request, DOING, until).await {
            Ok(None) => Ok(None),
            Ok(Some(answer)) => self.code_sent(answer).await,
            Err(Error::MigrateTo { dc }) => {
                self.move_to(dc).await?;
                self.phase = Phase::SendCode { unanswered: 0, moved: Some(dc) };
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn code_sent(&mut self, answer: enums::auth::SentCode) -> Result<Option<Step>, Error> {
        match answer {
            enums::auth::SentCode::Code(sent) => {
                let hash = Secret::new(sent.phone_code_hash.as_str());
                self.phase = Phase::Code { hash, sent: Some(described(sent)) };
                Ok(self.tell_code())
            }
            // A token of an earlier log-out did it.
            enums::auth::SentCode::Success(success) => {
                let authorized = self.authorized(success.authorization)?;
                self.disconnect().await;
                Ok(Some(Step::Authorized(authorized)))
            }
            enums::auth::SentCode::PaymentRequired(_) => Err(Error::refused("PAYMENT_REQUIRED")),
        }
    }

    pub(super) fn tell_code(&mut self) -> Option<Step> {
        match &mut self.phase {
            Phase::Code { sent, .. } => sent.take().map(Step::CodeSent),
            _ => None,
        }
    }

    /// Tries the code that the account's owner got.
    ///
    /// # Errors
    /// `FloodWait`, `TimedOut` and `Unavailable`: the code was not judged, the attempt still waits for it.
    /// `CodeExpired`: it was of no use any more. `SignUpRequired`: nobody has the number. These and others end
    /// the attempt.
    ///
    /// # Cancel safety
    /// If Telegram accepted the code while the future was dropped, the next call of any kind finds out.
    pub async fn code(&mut self, code: &Secret, deadline: Instant) -> Result<CodeOutcome, Error> {
        const DOING: &str = "checking a code";
        self.require_no_flood()?;
        if self.in_doubt {
            self.look(deadline).await?;
            if self.in_doubt {
                return Err(Error::Unavailable { doing: DOING, source: None });
            }
        }
        let (hash, number) = match (&self.phase, &self.way) {
            (Phase::Done(authorized), _) => return Ok(CodeOutcome::Authorized(authorized.clone())),
            (Phase::Password { .. }, _) => return Ok(CodeOutcome::PasswordNext),
            (Phase::Code { hash, .. }, Proof::Phone(phone)) => (hash.clone(), phone.number.clone()),
            (_, _) => return Ok(CodeOutcome::NotAsked),
        };
        let request = functions::auth::SignIn {
            phone_number: number.expose_secret().to_owned(),
            phone_code_hash: hash.expose_secret().to_owned(),
            phone_code: Some(code.expose_secret().to_owned()),
            email_verification: None,
        };
        match self.ask_fateful(&request, DOING, deadline).await {
            Ok(Some(answer)) => {
                let authorized = self.authorized(answer)?;
                self.disconnect().await;
                Ok(CodeOutcome::Authorized(authorized))
            }
            // The answer is lost. A code is not sent again on a guess: see what became of it.
            Ok(None) => match self.look(deadline).await? {
                Some(authorized) => Ok(CodeOutcome::Authorized(authorized)),
                None if matches!(self.phase, Phase::Password { .. }) => Ok(CodeOutcome::PasswordNext),
                None => Err(Error::Unavailable { doing: DOING, source: None }),
            },
            Err(Error::PasswordNeeded) => {
                self.phase = Phase::Password { told: Told::NotYet };
                Ok(CodeOutcome::PasswordNext)
            }
            Err(Error::CodeInvalid) => Ok(CodeOutcome::Wrong),
            Err(error) => Err(error),
        }
    }

    /// Has the code sent again, by the next way. `None`: the attempt does not wait for a code any more.
    ///
    /// # Errors
    /// `ResendUnavailable` when there is no other way; `FloodWait`, `TimedOut` and `Unavailable` when nothing
    /// is known to have been sent. After all of these the last code still counts.
    pub async fn resend(&mut self, deadline: Instant) -> Result<Option<SentCode>, Error> {
        const DOING: &str = "asking for another code";
        self.require_no_flood()?;
        if self.in_doubt {
            self.look(deadline).await?;
            if self.in_doubt {
                return Err(Error::Unavailable { doing: DOING, source: None });
            }
        }
        let (Phase::Code { hash, .. }, Proof::Phone(phone)) = (&self.phase, &self.way) else {
            return Ok(None);
        };
        let request = functions::auth::ResendCode {
            phone_number: phone.number.expose_secret().to_owned(),
            phone_code_hash: hash.expose_secret().to_owned(),
            reason: None,
        };
        match self.ask_fateful(&request, DOING, deadline).await? {
            None => Err(Error::Unavailable { doing: DOING, source: None }),
            Some(answer) => match self.code_sent(answer).await? {
                Some(Step::CodeSent(sent)) => Ok(Some(sent)),
                // Signed in without a code after all: the next step tells.
                _ => Ok(None),
            },
        }
    }

    /// Tells Telegram that the code is not wanted any more; it would run out by itself.
    pub(super) async fn cancel_code(&mut self, deadline: Instant) {
        let (Phase::Code { hash, .. }, Proof::Phone(phone)) = (&self.phase, &self.way) else { return };
        let request = functions::auth::CancelCode {
            phone_number: phone.number.expose_secret().to_owned(),
            phone_code_hash: hash.expose_secret().to_owned(),
        };
        if let Err(error) = self.ask(&request, "cancelling a code", deadline).await {
            tracing::debug!(%error, "a code was left to run out");
        }
    }
}

fn settings(logout_tokens: Vec<Vec<u8>>) -> enums::CodeSettings {
    enums::CodeSettings::Settings(types::CodeSettings {
        allow_flashcall: false,
        current_number: false,
        allow_app_hash: false,
        allow_missed_call: false,
        allow_firebase: false,
        unknown_number: false,
        logout_tokens: (!logout_tokens.is_empty()).then_some(logout_tokens),
        token: None,
        app_sandbox: None,
    })
}

fn described(sent: types::auth::SentCode) -> SentCode {
    use enums::auth::SentCodeType as Type;
    let (way, length, hint) = match sent.r#type {
        Type::App(it) => (Some(CodeWay::App), it.length, None),
        Type::Sms(it) => (Some(CodeWay::Sms), it.length, None),
        Type::Call(it) => (Some(CodeWay::Call), it.length, None),
        Type::FlashCall(it) => (Some(CodeWay::FlashCall), 0, Some(it.pattern)),
        Type::MissedCall(it) => (Some(CodeWay::MissedCall), it.length, Some(it.prefix)),
        Type::EmailCode(it) => (Some(CodeWay::Email), it.length, Some(it.email_pattern)),
        Type::FragmentSms(it) => (Some(CodeWay::Fragment), it.length, None),
        Type::FirebaseSms(it) => (Some(CodeWay::Sms), it.length, None),
        Type::SmsWord(_) | Type::SmsPhrase(_) => (Some(CodeWay::Sms), 0, None),
        Type::SetUpEmailRequired(_) => (None, 0, None),
    };
    SentCode {
        way,
        next_way: sent.next_type.map(|next| match next {
            enums::auth::CodeType::Sms => CodeWay::Sms,
            enums::auth::CodeType::Call => CodeWay::Call,
            enums::auth::CodeType::FlashCall => CodeWay::FlashCall,
            enums::auth::CodeType::MissedCall => CodeWay::MissedCall,
            enums::auth::CodeType::FragmentSms => CodeWay::Fragment,
        }),
        resend_after: sent.timeout.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs),
        length: u32::try_from(length).unwrap_or(0),
        hint: hint
            .filter(|hint| !hint.is_empty())
            .map(|hint| hint.chars().filter(|c| !c.is_control()).take(HINT_LENGTH_MAX).collect()),
    }
}
