//! Looking whether Telegram still knows a session, by taking its lease first: never beside a holder.

use std::time::{Duration, Instant};

use super::{App, as_service, new_lease_id};
use crate::{
    domain::{
        caller::Caller,
        error::{Error, Reason},
        event::NewEvent,
        id::{Holder, SessionKey},
        lease::{self, Lease, Purpose, Release},
        material::{Material, SealedMaterial},
        session::{Event, Loss, Session, State},
        validation::{self, Authorization, Word},
    },
    store::{self, Change, LeaseRule, MaterialChange, paces::Pace},
    telegram::{self, probe::Proof},
    telemetry::metrics::{self, Validation},
};

/// The lease under which the service itself connects: longer than any call it makes.
const INSPECTION_TTL: Duration = Duration::from_secs(60);
/// How long one conversation with Telegram may take.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(20);
/// The longest a whole data centre rests because Telegram asked for it. Such pauses are mostly about one account, which
/// rests for all of its own: one account in disgrace must not keep thousands from being seen.
const DC_PAUSE_MAX: Duration = Duration::from_secs(600);
/// How long noting a pause may take.
const NOTE_LIMIT: Duration = Duration::from_secs(5);

/// A session in the service's own hands.
pub(super) struct Borrowed {
    pub(super) lease: Lease,
    pub(super) session: Session,
    pub(super) material: Material,
}

/// A session after a look at it.
#[derive(Debug)]
pub struct Validated {
    pub session: Session,
    /// What Telegram lists about its authorization; `None` unless it lives and Telegram told.
    pub authorization: Option<Authorization>,
}

/// What was made of a look.
pub(super) struct Recorded {
    pub(super) session: Session,
    pub(super) found: Validation,
}

impl App {
    /// Asks Telegram for a proof of life and records the answer.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`, `SESSION_LEASED`, `CUSTODY_LEGACY`, `FEATURE_DISABLED`, `SESSION_WRONG_STATE` without material,
    /// `TELEGRAM_UNAVAILABLE` or `TELEGRAM_FLOOD_WAIT` with nothing changed.
    pub async fn validate_session(&self, caller: &Caller, key: &SessionKey) -> Result<Validated, Error> {
        self.require_feature(caller).await?;
        let app = self.clone();
        let caller = caller.clone();
        let key = key.clone();
        self.finish(Box::pin(async move {
            let borrowed = app.borrow(&caller, &key).await?;
            let deadline = caller.deadline.min(Instant::now() + CALL_LIMIT);
            let seen = app.0.telegram.probe(&borrowed.material, deadline).await;
            let Recorded { session, .. } = app.record(&caller, borrowed, &seen).await?;
            match seen {
                Ok(proof) => Ok(Validated { session, authorization: proof.authorization }),
                Err(error) if error.is_gone() => Ok(Validated { session, authorization: None }),
                Err(error) => Err(error.into()),
            }
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
        // Boxed, so that the many futures that borrow stay small.
        Box::pin(self.borrow_as(caller, key, "usm", Purpose::Inspect)).await
    }

    /// The same under a name of its own.
    pub(super) async fn borrow_as(
        &self,
        caller: &Caller,
        key: &SessionKey,
        holder: &str,
        purpose: Purpose,
    ) -> Result<Borrowed, Error> {
        let request = lease::Request {
            key: key.clone(),
            holder: Holder::parse(holder)?,
            ttl: INSPECTION_TTL,
            request_id: None,
            lease_id: new_lease_id(),
            purpose,
            queued: false,
        };
        let grant = match self.0.store.acquire(caller, &request).await? {
            store::Acquire::Granted(grant) => *grant,
            refused => return Err(self.not_granted(refused)),
        };
        let store::Grant { lease, sealed } = grant;
        match self.look_into(caller, key, &sealed).await {
            Ok((session, material)) => Ok(Borrowed { lease, session, material }),
            Err(error) => {
                self.give_back(caller, &lease).await;
                Err(error)
            }
        }
    }

    /// The session as it is under the lease, which keeps its material from changing.
    async fn look_into(
        &self,
        caller: &Caller,
        key: &SessionKey,
        sealed: &SealedMaterial,
    ) -> Result<(Session, Material), Error> {
        let session = self.get_session(caller, key).await?;
        let material = self.0.vault.unseal(key, &self.0.settings.environment, sealed)?;
        Ok((session, material))
    }

    /// Ends a lease of the service itself, whose connections are closed.
    pub(super) async fn give_back(&self, caller: &Caller, lease: &Lease) {
        let given_back =
            self.0.store.release(caller, &lease.lease_id, lease.epoch, Release::ConnectionsClosed);
        if let Err(error) = given_back.await {
            tracing::warn!(session.id = %lease.key, error = %error, "A lease of the service itself runs until it expires");
        }
        self.0.wakes.freed(&lease.key);
    }

    /// Writes down what a look found, and ends its lease whatever happens. The connection is closed already.
    ///
    /// # Errors
    /// `ACCOUNT_MISMATCH` when the key is another account's, and the store's; nothing is written then.
    pub(super) async fn record(
        &self,
        caller: &Caller,
        borrowed: Borrowed,
        seen: &Result<Proof, telegram::Error>,
    ) -> Result<Recorded, Error> {
        let Borrowed { lease, session, material } = borrowed;
        self.note_flood(&session.key, material.home_dc, seen).await;
        drop(material);
        let written = self.write_down(caller, &lease, &session, seen).await;
        match &written {
            Ok(Some(_)) => self.0.wakes.freed(&lease.key),
            Ok(None) | Err(_) => self.give_back(caller, &lease).await,
        }
        let found = match &written {
            Err(error) if error.reason == Reason::AccountMismatch => Validation::Mismatch,
            Err(_) => Validation::Undecided,
            Ok(written) => counted_as(written.as_ref().unwrap_or(&session), seen),
        };
        metrics::validated(found);
        let session = match written? {
            Some(session) => session,
            None => Session { lease: None, ..session },
        };
        Ok(Recorded { session, found })
    }

    /// What follows from the look, in one write that ends the lease too; `None` when nothing is to be written.
    async fn write_down(
        &self,
        caller: &Caller,
        lease: &Lease,
        session: &Session,
        seen: &Result<Proof, telegram::Error>,
    ) -> Result<Option<Session>, Error> {
        let word = word(seen);
        let mut next = session.clone();
        if let Ok(proof) = seen {
            let pinned = session.account.as_ref().map(|account| account.telegram_user_id);
            if pinned.is_some_and(|pinned| pinned != proof.account.telegram_user_id) {
                return Err(Error::new(
                    Reason::AccountMismatch,
                    "the key belongs to another account than the session",
                ));
            }
            next.account = Some(proof.account.clone());
        }
        let second_look = self.0.settings.validation.second_look;
        match (validation::event(session, word, second_look, caller.now), word) {
            (Some(event), _) => {
                if word == Word::Alive {
                    next.last_validated_time = Some(caller.now);
                }
                let events = vec![NewEvent::transition(next.apply(event, caller.now)?, &caller.subject)];
                let material = match event {
                    Event::Lost(_) => MaterialChange::Wipe,
                    _ => MaterialChange::Keep,
                };
                let change = Change { material, events, ..Change::of(next) };
                self.end_with(caller, lease, change).await.inspect(|session| told(session, event)).map(Some)
            }
            // The usual case: no new revision, no event, nothing that a reader of the session would miss.
            (None, Word::Alive) if next.account == session.account => {
                let proven = self.0.store.prove(caller, &lease.lease_id, lease.epoch).await?;
                Ok(Some(proven.ok_or_else(Error::lease_not_held)?))
            }
            (None, Word::Alive) => {
                next.last_validated_time = Some(caller.now);
                self.end_with(caller, lease, Change::of(next)).await.map(Some)
            }
            (None, Word::Refused | Word::Lost(_) | Word::Silence) => Ok(None),
        }
    }

    async fn end_with(&self, caller: &Caller, lease: &Lease, change: Change) -> Result<Session, Error> {
        let rule = LeaseRule::EndMine { lease_id: lease.lease_id.clone(), epoch: lease.epoch };
        Ok(self.commit(caller, Change { lease: rule, ..change }).await?)
    }

    /// A pause that Telegram asked for holds for every replica: for this session and, since nobody can tell whom it was
    /// about, for all of its data centre.
    pub(super) async fn note_flood(&self, key: &SessionKey, dc: i32, seen: &Result<Proof, telegram::Error>) {
        let (Ok(Proof { pause: Some(pause), .. }) | Err(telegram::Error::FloodWait { retry_after: pause })) =
            seen
        else {
            return;
        };
        metrics::flood_wait(*pause);
        tracing::warn!(dc, pause_s = pause.as_secs(), "Telegram asks not to look at sessions for a while");
        let caller = as_service("usm", NOTE_LIMIT);
        for (pace, span) in [(Pace::Session(key), *pause), (Pace::Dc(dc), (*pause).min(DC_PAUSE_MAX))] {
            if let Err(error) = self.0.store.pause(&caller, pace, span).await {
                tracing::warn!(session.id = %key, error = %error, "A pause that Telegram asked for is not noted");
            }
        }
    }
}

/// What an answer says about the authorization.
fn word(seen: &Result<Proof, telegram::Error>) -> Word {
    match seen {
        // A frozen account may do little, but its authorization is accepted.
        Ok(_) | Err(telegram::Error::Frozen) => Word::Alive,
        Err(telegram::Error::Lost(loss)) => Word::Lost(*loss),
        Err(error) if error.is_gone() => Word::Refused,
        Err(_) => Word::Silence,
    }
}

/// How the look counts, by the session as it is afterwards.
fn counted_as(session: &Session, seen: &Result<Proof, telegram::Error>) -> Validation {
    match (word(seen), &session.state) {
        (Word::Alive, _) => Validation::Alive,
        (Word::Refused | Word::Lost(_), State::Revoked { .. }) => Validation::Ended,
        (Word::Refused | Word::Lost(_), _) => Validation::Doubtful,
        (Word::Silence, _) => match seen {
            Err(telegram::Error::FloodWait { .. }) => Validation::FloodWait,
            Err(error) if error.is_transient() => Validation::Unavailable,
            Ok(_) | Err(_) => Validation::Undecided,
        },
    }
}

/// One line for each session that moved.
fn told(session: &Session, event: Event) {
    match event {
        Event::Lost(Loss::Duplicated) => tracing::error!(
            session.id = %session.key,
            "Telegram ended a session because its key was used twice at once: a rule of leases was broken, or the key leaked"
        ),
        event => tracing::info!(session.id = %session.key, reason = event.reason(), "A look moved a session"),
    }
}
