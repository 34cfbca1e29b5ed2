//! Looking whether Telegram still knows a session, by taking its lease first: never beside a holder.

use std::time::{Duration, Instant};

use super::{App, new_lease_id};
use crate::{
    domain::{
        caller::Caller,
        error::{Error, Reason},
        event::NewEvent,
        id::{Holder, SessionKey},
        lease::{self, Lease, Purpose, Release},
        material::Material,
        session::{Account, Event, Session, State},
    },
    store::{self, Change, LeaseRule, MaterialChange},
    telegram::{self, probe::Proof},
};

/// The lease under which the service itself connects: longer than any call it makes.
const INSPECTION_TTL: Duration = Duration::from_secs(60);
/// How long one conversation with Telegram may take.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(20);

/// A session in the service's own hands.
pub(super) struct Borrowed {
    pub(super) lease: Lease,
    pub(super) session: Session,
    pub(super) material: Material,
}

impl App {
    /// Asks Telegram for a proof of life and records the answer.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`, `SESSION_LEASED`, `CUSTODY_LEGACY`, `SESSION_WRONG_STATE` without material,
    /// `TELEGRAM_UNAVAILABLE` or `TELEGRAM_FLOOD_WAIT` with nothing changed.
    pub async fn validate_session(&self, caller: &Caller, key: &SessionKey) -> Result<Session, Error> {
        let app = self.clone();
        let caller = caller.clone();
        let key = key.clone();
        self.finish(Box::pin(async move {
            let borrowed = app.borrow(&caller, &key).await?;
            let deadline = caller.deadline.min(Instant::now() + CALL_LIMIT);
            let proof = app.0.telegram.probe(&borrowed.material, deadline).await;
            app.record_proof(&caller, borrowed, proof).await
        }))
        .await
    }

    /// Runs what must not stop halfway when its caller hangs up.
    pub(super) async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        match self.0.tasks.spawn(work).await {
            Ok(done) => done,
            Err(died) => Err(Error::new(Reason::Internal, "the work stopped midway").caused_by(died)),
        }
    }

    /// Takes the session's lease for the service itself.
    pub(super) async fn borrow(&self, caller: &Caller, key: &SessionKey) -> Result<Borrowed, Error> {
        let request = lease::Request {
            key: key.clone(),
            holder: Holder::parse("usm")?,
            ttl: INSPECTION_TTL,
            request_id: None,
            lease_id: new_lease_id(),
            purpose: Purpose::Inspect,
            queued: false,
        };
        let grant = match self.0.store.acquire(caller, &request).await? {
            store::Acquire::Granted(grant) => *grant,
            refused => return Err(self.not_granted(refused)),
        };
        let store::Grant { lease, session, sealed } = grant;
        match self.0.vault.unseal(&session.key, &session.environment, &sealed) {
            Ok(material) => Ok(Borrowed { lease, session, material }),
            Err(error) => {
                self.give_back(caller, &lease).await;
                Err(error.into())
            }
        }
    }

    /// Ends a lease of the service itself, whose connections are closed.
    pub(super) async fn give_back(&self, caller: &Caller, lease: &Lease) {
        let given_back =
            self.0.store.release(caller, &lease.lease_id, lease.epoch, Release::ConnectionsClosed);
        if let Err(error) = given_back.await {
            tracing::warn!(session.id = %lease.key, error = %error, "A lease of the service itself runs until it expires");
        }
    }

    async fn record_proof(
        &self,
        caller: &Caller,
        borrowed: Borrowed,
        proof: Result<Proof, telegram::Error>,
    ) -> Result<Session, Error> {
        let Borrowed { lease, mut session, .. } = borrowed;
        let event = match &proof {
            Ok(proof) => {
                let pinned = session.account.as_ref().map(|account| account.telegram_user_id);
                if pinned.is_some_and(|pinned| pinned != proof.account.telegram_user_id) {
                    self.give_back(caller, &lease).await;
                    return Err(Error::new(
                        Reason::AccountMismatch,
                        "the key belongs to another account than the session",
                    ));
                }
                session.account = Some(Account { ..proof.account.clone() });
                session.last_validated_time = Some(caller.now);
                matches!(session.state, State::Stale { .. }).then_some(Event::ValidationSucceeded)
            }
            Err(telegram::Error::Lost(loss)) => Some(Event::Lost(*loss)),
            Err(error) if error.is_gone() => {
                matches!(session.state, State::Authorized { .. }).then_some(Event::ValidationFailed)
            }
            Err(_) => None,
        };
        let unchanged = event.is_none() && proof.is_err();
        if unchanged {
            self.give_back(caller, &lease).await;
            return proof.map(|_| session).map_err(Error::from);
        }
        let mut events = Vec::new();
        let mut material = MaterialChange::Keep;
        if let Some(event) = event {
            events.push(NewEvent::transition(session.apply(event, caller.now)?, &caller.subject));
            if matches!(event, Event::Lost(_)) {
                material = MaterialChange::Wipe;
            }
        }
        let change = Change {
            material,
            lease: LeaseRule::EndMine { lease_id: lease.lease_id.clone(), epoch: lease.epoch },
            events,
            ..Change::of(session)
        };
        Ok(self.commit(caller, change).await?)
    }
}
