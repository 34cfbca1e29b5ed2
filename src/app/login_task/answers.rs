//! What the account's owner says: the code, the password, that no code came.

use std::time::{Duration, Instant};

use super::{CALL_LIMIT, Flow, Task, begin::refusal, delivery};
use crate::{
    app::now,
    domain::{
        budget::Paused,
        error::{Error, Reason},
        id::RequestId,
        login::{ATTEMPTS_MAX, CodeDelivery, Failure, State, text_of},
        secret::Secret,
        session::LoginEnd,
    },
    telegram::{
        self,
        sign_in::{CodeOutcome, PasswordOutcome, SignIn},
    },
    telemetry::metrics,
};

/// How long another code is not asked for when it is unknown whether one was sent.
const RESEND_AGAIN: Duration = Duration::from_secs(60);

type Answered = (Flow, Result<(), Error>);

impl Task {
    pub(super) async fn on_password(
        &mut self,
        password: &Secret,
        request: Option<RequestId>,
        sign_in: &mut SignIn,
    ) -> Answered {
        if let Err(error) = self.login.require_password_step() {
            return (Flow::GoOn, Err(error));
        }
        let State::WaitingPassword { hint, attempts_left } = self.login.state.clone() else {
            return (Flow::GoOn, Ok(()));
        };
        // Judged before: a repetition of the request costs no attempt.
        if request.is_some() && self.login.password_request == request {
            let wrong = Error::new(Reason::PasswordInvalid, text_of(Reason::PasswordInvalid));
            return (Flow::GoOn, Err(wrong.fact("attempts_left", attempts_left)));
        }
        match sign_in.password(password, Instant::now() + CALL_LIMIT).await {
            Ok(PasswordOutcome::Authorized(authorized)) => {
                (Box::pin(self.finish(authorized, sign_in)).await, Ok(()))
            }
            Ok(PasswordOutcome::NotAsked) => (Flow::GoOn, Err(not_awaited(&self.login.state))),
            Ok(PasswordOutcome::Wrong) => {
                let left = attempts_left.saturating_sub(1);
                self.login.password_request = request;
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
                (Box::pin(self.finish(authorized, sign_in)).await, Ok(()))
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
        // Noted before Telegram is asked: should the answer be lost, the request still sends once.
        let before = (self.login.code_delivery.clone(), self.login.resend_request.clone());
        self.login.resend_request = request;
        let retry = now() + RESEND_AGAIN;
        self.login.code_delivery =
            before.0.clone().map(|known| CodeDelivery { resend_time: Some(retry), ..known });
        match self.publish().await {
            Flow::GoOn => {}
            over => return (over, Err(self.login.state.end().unwrap_or_else(moved_on))),
        }
        match sign_in.resend(Instant::now() + CALL_LIMIT).await {
            Ok(Some(sent)) => {
                self.login.code_delivery = Some(delivery(sent));
                (self.show(State::WaitingCode { attempts_left: ATTEMPTS_MAX }, sign_in).await, Ok(()))
            }
            // Signed in without a code after all: the next step tells.
            Ok(None) => (Flow::GoOn, Ok(())),
            Err(error @ (telegram::Error::ResendUnavailable | telegram::Error::FloodWait { .. })) => {
                // Certainly nothing was sent.
                (self.login.code_delivery, self.login.resend_request) = before;
                let flow = self.publish().await;
                match error {
                    telegram::Error::ResendUnavailable => (flow, Err(error.into())),
                    error => self.not_judged(error).await,
                }
            }
            Err(error) => self.not_judged(error).await,
        }
    }

    /// A wrong answer costs an attempt; after the last one the login is over.
    async fn wrong(&mut self, reason: Reason, state: State, left: u32, sign_in: &mut SignIn) -> Answered {
        let wrong = Error::new(reason, text_of(reason)).fact("attempts_left", left);
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
            telegram::Error::FloodWait { retry_after } => {
                // Wrong codes are the number's; wrong passwords are no business of other logins.
                match &self.paused {
                    Paused::Phone(_) => self.remember_pause(retry_after).await,
                    Paused::Api(..) | Paused::Bot(_) => metrics::flood_wait(retry_after),
                }
                (Flow::GoOn, Err(error.into()))
            }
            telegram::Error::Unavailable { .. } | telegram::Error::TimedOut { .. } => {
                (Flow::GoOn, Err(error.into()))
            }
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

fn moved_on() -> Error {
    Error::new(Reason::TicketsUnavailable, "the login moved to another replica meanwhile; try again")
        .retry_after(Duration::from_secs(1))
}
