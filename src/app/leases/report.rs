//! What Telegram answered a holder, and what follows for the session.
//!
//! A holder's word moves a session to where it is looked at, not to its end: it may be mistaken, and Telegram's own
//! refusals are false at times. The one exception is AUTH_KEY_DUPLICATED: the authorization is dead already, and that
//! it happened shows a defect or a leaked key.

use std::time::Duration;

use super::App;
use crate::{
    domain::{
        caller::Caller,
        error::{Error, Reason},
        event::NewEvent,
        id::LeaseId,
        lease::Drain,
        session::{Event, Loss, Session, StaleReason, State},
        time::Timestamp,
    },
    store::{self, Change, LeaseRule, MaterialChange},
    telegram,
    telemetry::metrics,
};

/// The data centre for media, which may be asked over several connections.
const MEDIA_DC: i32 = 203;
/// How often a report is tried anew when the session changed in between.
const ATTEMPTS_MAX: u32 = 4;

/// What a holder heard.
#[derive(Clone, Debug)]
pub enum Heard {
    /// Telegram answered normally; when, for which account (0: not asked), under which name (empty: not asked).
    Alive { activity: Option<Timestamp>, telegram_user_id: i64, username: String },
    /// Telegram answered an error. `dc_id` is 0 for the home data centre.
    Refused { code: i32, message: String, dc_id: i32 },
}

/// What the holder is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    Continue,
    /// Close the connections and release: the service looks for itself, or the session has ended.
    Stop,
}

/// The session after a report.
#[derive(Debug)]
pub struct Reported {
    pub session: Session,
    pub advice: Advice,
    /// How long not to call Telegram.
    pub retry_after: Option<Duration>,
}

/// What an error says about the session.
enum Verdict {
    /// Nothing; Telegram may want to be left alone for a while.
    Nothing {
        retry_after: Option<Duration>,
    },
    /// It may have ended.
    Doubt,
    Duplicated,
}

impl App {
    /// Records what Telegram answered the holder. Repeating it changes nothing more.
    ///
    /// # Errors
    /// `LEASE_NOT_HELD`, `LEASE_EPOCH_STALE`, `ACCOUNT_MISMATCH`. That the session has ended is an answer, not an error.
    pub async fn report_session(
        &self,
        caller: &Caller,
        id: &LeaseId,
        epoch: i64,
        heard: &Heard,
    ) -> Result<Reported, Error> {
        let mut attempt = 1;
        loop {
            match self.try_report(caller, id, epoch, heard).await {
                Err(error) if error.reason == Reason::RevisionStale && attempt < ATTEMPTS_MAX => attempt += 1,
                done => return done,
            }
        }
    }

    async fn try_report(
        &self,
        caller: &Caller,
        id: &LeaseId,
        epoch: i64,
        heard: &Heard,
    ) -> Result<Reported, Error> {
        let (session, _) = self.held(caller, id, epoch).await?;
        let mine = LeaseRule::Mine { lease_id: id.clone(), epoch };
        match heard {
            Heard::Alive { activity, telegram_user_id, username } => {
                let known = session.account.as_ref().map(|account| account.telegram_user_id);
                if *telegram_user_id != 0 && known.is_some_and(|known| known != *telegram_user_id) {
                    return Err(Error::new(
                        Reason::AccountMismatch,
                        "the key belongs to another account than the session",
                    ));
                }
                let session = self.alive(caller, session, mine, *activity, username).await?;
                Ok(answered(session, None))
            }
            Heard::Refused { code, message, dc_id } => {
                let home = *dc_id == 0 || session.dc_id.is_none_or(|home| home == *dc_id);
                match verdict(*code, message, *dc_id, home) {
                    Verdict::Nothing { retry_after } => {
                        if let Some(wait) = retry_after {
                            metrics::flood_wait(wait);
                        }
                        Ok(answered(session, retry_after))
                    }
                    Verdict::Doubt => self.doubt(caller, session, id, epoch).await,
                    Verdict::Duplicated => self.duplicated(caller, session, id, epoch).await,
                }
            }
        }
    }

    /// A renewal told that Telegram answered, and the session counts as overdue: it is not any more. What fails here is
    /// mended by the next renewal.
    pub(super) async fn prove_alive(&self, caller: &Caller, lease: &crate::domain::lease::Lease) {
        let heard = Heard::Alive { activity: None, telegram_user_id: 0, username: String::new() };
        if let Err(error) = self.report_session(caller, &lease.lease_id, lease.epoch, &heard).await {
            tracing::debug!(session.id = %lease.key, error = %error, "A proof of life is recorded with the next renewal");
        }
    }

    async fn alive(
        &self,
        caller: &Caller,
        mut session: Session,
        mine: LeaseRule,
        activity: Option<Timestamp>,
        username: &str,
    ) -> Result<Session, Error> {
        let activity = activity.unwrap_or(caller.now).min(caller.now);
        let renamed = match &mut session.account {
            Some(account) if !username.is_empty() && account.username.as_deref() != Some(username) => {
                account.username = Some(username.to_owned());
                true
            }
            _ => false,
        };
        // A key that was refused needs more than its holder's word.
        let overdue = session.state == State::Stale { reason: StaleReason::ValidationOverdue };
        let older = session.last_activity_time.is_none_or(|known| known < activity);
        if !renamed && !overdue && !older {
            return Ok(session);
        }
        let mut events = Vec::new();
        if overdue {
            events.push(NewEvent::transition(
                session.apply(Event::ValidationSucceeded, caller.now)?,
                &caller.subject,
            ));
        }
        session.last_activity_time = session.last_activity_time.max(Some(activity));
        let change = Change { lease: mine, events, ..Change::of(session) };
        self.commit(caller, change).await.map_err(not_held)
    }

    /// The session is not lent any more until the service has looked for itself, which it does once the holder let go.
    async fn doubt(
        &self,
        caller: &Caller,
        mut session: Session,
        id: &LeaseId,
        epoch: i64,
    ) -> Result<Reported, Error> {
        if !session.state.is_usable() {
            return Ok(answered(session, None));
        }
        let moved = session.apply(Event::ValidationFailed, caller.now)?;
        let change = Change {
            lease: LeaseRule::DrainMine { lease_id: id.clone(), epoch, why: Drain::Revoked },
            events: vec![NewEvent::transition(moved, &caller.subject).detail("reported", "holder")],
            ..Change::of(session)
        };
        Ok(answered(self.commit(caller, change).await.map_err(not_held)?, None))
    }

    async fn duplicated(
        &self,
        caller: &Caller,
        mut session: Session,
        id: &LeaseId,
        epoch: i64,
    ) -> Result<Reported, Error> {
        if session.state.next(Event::Lost(Loss::Duplicated)).is_err() {
            return Ok(answered(session, None));
        }
        let moved = session.apply(Event::Lost(Loss::Duplicated), caller.now)?;
        tracing::error!(
            session.id = %session.key, lease.epoch = epoch,
            "Telegram ended a session because it was used over two connections: look for who else has its key"
        );
        let change = Change {
            material: MaterialChange::Wipe,
            lease: LeaseRule::DrainMine { lease_id: id.clone(), epoch, why: Drain::Revoked },
            events: vec![NewEvent::transition(moved, &caller.subject).detail("reported", "holder")],
            ..Change::of(session)
        };
        Ok(answered(self.commit(caller, change).await.map_err(not_held)?, None))
    }
}

fn answered(session: Session, retry_after: Option<Duration>) -> Reported {
    let advice = if session.state.is_usable() { Advice::Continue } else { Advice::Stop };
    Reported { session, advice, retry_after }
}

/// The lease ended between the look and the write.
fn not_held(error: store::Error) -> Error {
    match error {
        store::Error::Leased { .. } => Error::lease_not_held(),
        error => error.into(),
    }
}

/// An error of another data centre says nothing of the session, but for one that no data centre but media's gives for
/// nothing.
fn verdict(code: i32, message: &str, dc_id: i32, home: bool) -> Verdict {
    match telegram::Error::of_report(code, message) {
        telegram::Error::FloodWait { retry_after } => Verdict::Nothing { retry_after: Some(retry_after) },
        telegram::Error::Lost(Loss::Duplicated) if dc_id != MEDIA_DC => Verdict::Duplicated,
        error if home && error.is_gone() => Verdict::Doubt,
        _ => Verdict::Nothing { retry_after: None },
    }
}
