//! What the account's owner says: the code, the password, that no code came.

use std::time::Instant;

use super::{CALL_LIMIT, Flow, Task, begin::refusal, delivery};
use crate::{
    app::now,
    domain::{
        error::{Error, Reason},
        id::RequestId,
        login::{ATTEMPTS_MAX, Failure, State},
        secret::Secret,
        session::LoginEnd,
    },
    telegram::{
        self,
        sign_in::{CodeOutcome, PasswordOutcome, SignIn},
    },
};

type Answered = (Flow, Result<(), Error>);

impl Task {
    pub(super) async fn on_password(&mut self, password: &Secret, sign_in: &mut SignIn) -> Answered {
        if let Err(error) = self.login.require_password_step() {
            return (Flow::GoOn, Err(error));
        }
        let State::WaitingPassword { hint, attempts_left } = self.login.state.clone() else {
            return (Flow::GoOn, Ok(()));
        };
        match sign_in.password(password, Instant::now() + CALL_LIMIT).await {
            Ok(PasswordOutcome::Authorized(authorized)) => {
                (Box::pin(self.finish(*authorized, sign_in)).await, Ok(()))
            }
            Ok(PasswordOutcome::NotAsked) => (Flow::GoOn, Err(not_awaited(&self.login.state))),
            Ok(PasswordOutcome::Wrong) => {
                let left = attempts_left.saturating_sub(1);
                let state = State::WaitingPassword { hint, attempts_left: left };
                self.wrong(Reason::PasswordInvalid, state, left, sign_in).await
            }
            Err(error) => self.not_judged(error).await,
        }
    }

    pub(super) async fn on_code(&mut self, code: &Secret, sign_in: &mut SignIn) -> Answered {
        if let Err(error) = self.login.require_code_step() {
            return (Flow::GoOn, Err(error));
        }
        let State::WaitingCode { attempts_left } = self.login.state.clone() else {
            return (Flow::GoOn, Ok(()));
        };
        match sign_in.code(code, Instant::now() + CALL_LIMIT).await {
            Ok(CodeOutcome::Authorized(authorized)) => {
                (Box::pin(self.finish(*authorized, sign_in)).await, Ok(()))
            }
            Ok(CodeOutcome::PasswordNext) => {
                // The next step says so too; whoever gave the code learns it now, with the hint.
                let step = sign_in.next(Instant::now() + CALL_LIMIT).await;
                let until = Instant::now() + self.login.expire_time.since(now());
                (Box::pin(self.on_step(step, sign_in, until)).await, Ok(()))
            }
            Ok(CodeOutcome::NotAsked) => (Flow::GoOn, Err(not_awaited(&self.login.state))),
            Ok(CodeOutcome::Wrong) => {
                let left = attempts_left.saturating_sub(1);
                self.wrong(Reason::CodeInvalid, State::WaitingCode { attempts_left: left }, left, sign_in)
                    .await
            }
            Err(error) => self.not_judged(error).await,
        }
    }

    pub(super) async fn on_resend(&mut self, request: Option<RequestId>, sign_in: &mut SignIn) -> Answered {
        if self.login.has_resent_for(request.as_ref()) {
            return (Flow::GoOn, Ok(()));
        }
        let known = self.login.code_delivery.as_ref();
        let allowed = self
            .login
            .require_code_step()
            .and_then(|()| known.map_or(Ok(()), |delivery| delivery.require_resend(now())));
        if let Err(error) = allowed {
            return (Flow::GoOn, Err(error));
        }
        match sign_in.resend(Instant::now() + CALL_LIMIT).await {
            Ok(Some(sent)) => {
                self.login.code_delivery = Some(delivery(sent));
                self.login.resend_request = request;
                (self.show(State::WaitingCode { attempts_left: ATTEMPTS_MAX }, sign_in).await, Ok(()))
            }
            // Signed in without a code after all: the next step tells.
            Ok(None) => (Flow::GoOn, Ok(())),
            Err(telegram::Error::ResendUnavailable) => {
                (Flow::GoOn, Err(telegram::Error::ResendUnavailable.into()))
            }
            Err(error) => self.not_judged(error).await,
        }
    }

    /// A wrong answer costs an attempt; after the last one the login is over.
    async fn wrong(&mut self, reason: Reason, state: State, left: u32, sign_in: &mut SignIn) -> Answered {
        let wrong = Error::new(reason, crate::domain::login::text_of(reason)).fact("attempts_left", left);
        if left == 0 {
            self.end(State::Failed(Failure::of(&wrong)), LoginEnd::Failed).await;
            return (Flow::Watch, Err(wrong));
        }
        match self.show(state, sign_in).await {
            Flow::GoOn => (Flow::GoOn, Err(wrong)),
            over => (over, Err(self.login.state.end().unwrap_or(wrong))),
        }
    }

    /// Telegram was away or asks to wait: nothing is burnt for it. Anything else ends the login.
    async fn not_judged(&mut self, error: telegram::Error) -> Answered {
        match error {
            telegram::Error::FloodWait { .. }
            | telegram::Error::Unavailable { .. }
            | telegram::Error::TimedOut { .. } => (Flow::GoOn, Err(error.into())),
            error => {
                let refusal = refusal(error);
                let told = Failure::of(&refusal);
                self.end(State::Failed(told), LoginEnd::Failed).await;
                (Flow::Watch, Err(refusal))
            }
        }
    }
}

fn not_awaited(state: &State) -> Error {
    Error::new(Reason::LoginWrongState, "the login does not wait for this").fact("state", state.name())
}
