//! A look at Telegram before a copy is kept, at the pace that all looks of all replicas share.

use std::time::{Duration, Instant};

use super::Import;
use crate::{
    app::{App, as_service, validation::CALL_LIMIT},
    domain::{
        caller::Caller,
        error::{Error, Reason},
        fingerprint::Fingerprint,
        material::Material,
        session::Account,
    },
    store::paces::Pace,
    telegram::{self, probe::Proof},
    telemetry::metrics::{self, Validation},
};

/// How far ahead a time for a look is taken.
const AHEAD: Duration = Duration::from_secs(10);
/// How long one authorization is nobody else's to connect with: longer than a visit may take.
const VISIT_SPAN: Duration = Duration::from_secs(25);
/// How long taking a time may take.
const STORE_LIMIT: Duration = Duration::from_secs(10);

impl App {
    /// Asks Telegram whose the key is. Whoever asks says that nobody else is connected with it.
    ///
    /// # Errors
    /// `SESSION_UNAUTHORIZED_BY_TELEGRAM`, `AUTH_KEY_DUPLICATED`, `ACCOUNT_BANNED` and the like when it is not accepted,
    /// `RATE_LIMITED`, `TELEGRAM_FLOOD_WAIT` and `TELEGRAM_UNAVAILABLE` when nothing is known.
    pub(super) async fn probe_first(
        &self,
        caller: &Caller,
        import: &Import,
        material: &Material,
        fingerprint: Option<&Fingerprint>,
    ) -> Result<Account, Error> {
        self.wait_for_turn(caller, material.home_dc).await?;
        self.connect_alone(fingerprint, VISIT_SPAN).await?;
        let deadline = caller.deadline.min(Instant::now() + CALL_LIMIT);
        let seen = Box::pin(self.0.telegram.probe(material, deadline)).await;
        self.note_flood(&import.key, material.home_dc, &seen).await;
        metrics::validated(match &seen {
            Ok(_) => Validation::Alive,
            Err(telegram::Error::FloodWait { .. }) => Validation::FloodWait,
            Err(error) if error.is_gone() => Validation::Ended,
            Err(error) if error.is_transient() => Validation::Unavailable,
            Err(_) => Validation::Undecided,
        });
        match seen {
            Ok(Proof { account, .. }) => Ok(account),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for a time of the shared pace, unless the data centre asked to be left alone.
    async fn wait_for_turn(&self, caller: &Caller, dc: i32) -> Result<(), Error> {
        let service = as_service("usm:import", STORE_LIMIT);
        let store = &self.0.store;
        if store.reserve(&service, Pace::Dc(dc), Duration::ZERO, Duration::ZERO).await?.is_none() {
            return Err(Error::new(
                Reason::TelegramFloodWait,
                "Telegram asked to leave this data centre alone for a while",
            )
            .retry_after(Duration::from_secs(30)));
        }
        let step = self.0.settings.validation.step;
        let left = caller.deadline.saturating_duration_since(Instant::now()).saturating_sub(CALL_LIMIT);
        match store.reserve(&service, Pace::Probes, step, AHEAD.min(left)).await? {
            Some(until) => {
                tokio::time::sleep(until).await;
                Ok(())
            }
            None => Err(Error::new(
                Reason::RateLimited,
                "more sessions are to be looked at than the pace of looks allows; try again",
            )
            .retry_after(AHEAD)),
        }
    }

    /// Makes sure that no other import, of any replica, is connected with the authorization meanwhile: two connections
    /// at once would end it.
    ///
    /// # Errors
    /// `RATE_LIMITED` for as long as another one may be.
    pub(super) async fn connect_alone(
        &self,
        fingerprint: Option<&Fingerprint>,
        span: Duration,
    ) -> Result<(), Error> {
        let Some(fingerprint) = fingerprint else { return Ok(()) };
        let service = as_service("usm:import", STORE_LIMIT);
        let pace = Pace::Authorization(fingerprint);
        match self.0.store.reserve(&service, pace, span, Duration::ZERO).await? {
            Some(_) => Ok(()),
            None => Err(Error::new(
                Reason::RateLimited,
                "another import may be connected with this authorization right now; try again",
            )
            .retry_after(span)),
        }
    }
}
