//! What a holder tells the service about the session: what Telegram answered, and what its library changed.

use std::time::Duration;

use tokio::time::Instant;

use super::LeaseGuard;
use super::call::{incomplete, repeat, span, within};
use super::loss::Loss;
use crate::v1::{self, report_session_request::Answer};
use crate::{Error, Refusal};

const REPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Sixteen mebibytes over a slow line.
const SAVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest texts of a report, as the contract has them.
const TEXT_LENGTH_MAX: usize = 128;

/// What a holder is to do after a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Go on, after a pause if there is one.
    Continue {
        /// How long not to call Telegram.
        retry_after: Option<Duration>,
    },
    /// Close the connections and release: the service looks for itself, or the session has ended.
    Stop,
}

impl LeaseGuard {
    /// Tells the service what Telegram answered, which moves the session's state, and hears what to do. Texts longer
    /// than the service takes are cut.
    ///
    /// # Errors
    /// [`Error::Refused`], within 5 s. `LEASE_NOT_HELD` and `LEASE_EPOCH_STALE` end the lease here too.
    ///
    /// # Cancel safety
    /// Dropped midway, the service may have heard it or not; telling it again is harmless.
    pub async fn report(&self, mut answer: Answer) -> Result<Advice, Error> {
        if let Answer::Error(error) = &mut answer {
            cut(&mut error.message);
            cut(&mut error.method);
        }
        let request = v1::ReportSessionRequest {
            lease_id: self.hold.lease_id.to_string(),
            epoch: self.hold.epoch,
            answer: Some(answer),
            request_id: uuid::Uuid::new_v4().to_string(),
        };
        let response =
            repeat(Instant::now() + REPORT_TIMEOUT, &self.hold.lease_id, |until| {
                let (mut leases, request) = (self.client.leases(), request.clone());
                async move {
                    within(until, request, async move |request| leases.report_session(request).await).await
                }
            })
            .await;
        let response = response.inspect_err(|error| self.heed(error))?;
        Ok(match response.advice() {
            v1::HolderAdvice::Continue => Advice::Continue { retry_after: span(response.retry_after) },
            // An advice of a later version is not one to go on.
            v1::HolderAdvice::Stop | v1::HolderAdvice::Unspecified => Advice::Stop,
        })
    }

    /// Tells the service that Telegram accepted the session, and for which account: 0 and an empty name if not asked.
    ///
    /// # Errors
    /// Those of [`LeaseGuard::report`].
    ///
    /// # Cancel safety
    /// That of [`LeaseGuard::report`].
    pub async fn report_alive(&self, telegram_user_id: i64, username: &str) -> Result<Advice, Error> {
        let proof = v1::ProofOfLife { activity_time: None, telegram_user_id, username: username.to_owned() };
        self.report(Answer::ProofOfLife(proof)).await
    }

    /// Tells the service an error of Telegram, for example 406 and `AUTH_KEY_DUPLICATED`.
    ///
    /// # Errors
    /// Those of [`LeaseGuard::report`].
    ///
    /// # Cancel safety
    /// That of [`LeaseGuard::report`].
    pub async fn report_error(&self, error: v1::TelegramError) -> Result<Advice, Error> {
        self.report(Answer::Error(error)).await
    }

    /// Writes back what changed in the session while it was held: `format` and `data`, or the single parts. The guard
    /// fills in the id and the epoch of the lease, and a `request_id` if there is none.
    ///
    /// # Errors
    /// [`Error::Refused`], within 20 s. `LEASE_NOT_HELD` and `LEASE_EPOCH_STALE` end the lease here too.
    ///
    /// # Cancel safety
    /// Dropped midway, the change may be stored or not; saving again is harmless.
    pub async fn save(&self, mut change: v1::SaveSessionRequest) -> Result<v1::Session, Error> {
        change.lease_id = self.hold.lease_id.to_string();
        change.epoch = self.hold.epoch;
        if change.request_id.is_empty() {
            change.request_id = uuid::Uuid::new_v4().to_string();
        }
        let response = repeat(Instant::now() + SAVE_TIMEOUT, &self.hold.lease_id, |until| {
            let (mut leases, change) = (self.client.leases(), change.clone());
            async move { within(until, change, async move |change| leases.save_session(change).await).await }
        })
        .await;
        let response = response.inspect_err(|error| self.heed(error))?;
        response.session.ok_or_else(|| incomplete("the answer has no session"))
    }

    /// Any answer that says the lease is over is as good as one to a renewal.
    fn heed(&self, error: &Error) {
        if let Some(refusal) = error.refusal().filter(|refusal| Refusal::names_end_of_lease(refusal)) {
            self.end.come(Loss::Refused(Box::new(refusal.clone())), self.hold.epoch);
        }
    }
}

fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(TEXT_LENGTH_MAX));
}
