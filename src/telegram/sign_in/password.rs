//! The account's password, whichever way the attempt began.

use std::time::Instant;

use grammers_tl_types::{enums, functions};

use crate::{
    domain::secret::Secret,
    telegram::{
        error::Error,
        password::Challenge,
        sign_in::{PasswordOutcome, Phase, SignIn, Step, Told},
    },
};

impl SignIn {
    /// Tries the account's password.
    ///
    /// # Errors
    /// `FloodWait`, `TimedOut` and `Unavailable`: the password was not judged, the attempt still waits for it.
    /// Other errors end the attempt.
    ///
    /// # Cancel safety
    /// If Telegram accepted the password while the future was dropped, the next call of any kind finds out.
    pub async fn password(&mut self, password: &Secret, deadline: Instant) -> Result<PasswordOutcome, Error> {
        const DOING: &str = "checking a password";
        self.require_no_flood()?;
        if self.in_doubt {
            self.look(deadline).await?;
            if self.in_doubt {
                return Err(Error::Unavailable { doing: DOING, source: None });
            }
        }
        match &self.phase {
            Phase::Done(authorized) => return Ok(PasswordOutcome::Authorized(authorized.clone())),
            Phase::Password { .. } => {}
            Phase::Export
            | Phase::Shown { .. }
            | Phase::Import { .. }
            | Phase::SendCode { .. }
            | Phase::Code { .. }
            | Phase::Bot { .. }
            | Phase::BotForgotten => return Ok(PasswordOutcome::NotAsked),
        }
        match self.try_password(password, deadline).await {
            // The parameters went stale between fetching and use.
            Err(Error::PasswordStale) => self.try_password(password, deadline).await,
            outcome => outcome,
        }
    }

    async fn try_password(&mut self, password: &Secret, deadline: Instant) -> Result<PasswordOutcome, Error> {
        const DOING: &str = "checking a password";
        let request = functions::account::GetPassword {};
        let challenge = Challenge::new(self.insist(&request, DOING, deadline).await?)?;
        let answer = challenge.answer(password.clone()).await?;
        let request = functions::auth::CheckPassword { password: enums::InputCheckPasswordSrp::Srp(answer) };
        match self.ask_fateful(&request, DOING, deadline).await {
            Ok(Some(authorization)) => {
                let authorized = self.authorized(authorization)?;
                self.disconnect().await;
                Ok(PasswordOutcome::Authorized(authorized))
            }
            // The answer is lost. A password is not sent again on a guess: see what became of it.
            Ok(None) => match self.look(deadline).await? {
                Some(authorized) => Ok(PasswordOutcome::Authorized(authorized)),
                None => Err(Error::Unavailable { doing: DOING, source: None }),
            },
            Err(Error::PasswordInvalid) => Ok(PasswordOutcome::Wrong),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn tell_password(&mut self, until: Instant) -> Result<Option<Step>, Error> {
        let request = functions::account::GetPassword {};
        let Some(answer) = self.ask(&request, "reading the password hint", until).await? else {
            return Ok(None);
        };
        let enums::account::Password::Password(password) = answer;
        self.phase = Phase::Password { told: Told::Once };
        Ok(Some(Step::PasswordNeeded { hint: password.hint.filter(|hint| !hint.is_empty()) }))
    }
}
