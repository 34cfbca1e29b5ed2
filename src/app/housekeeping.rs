//! What the service does by itself: mends what died halfway, repeats what Telegram did not hear.
//!
//! Every step is repeatable and conditional on the revision it read, so that replicas may do it side by side.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{App, Suspects, as_service, now, validation::CALL_LIMIT};
use crate::{
    domain::{
        caller::Caller,
        error::Error,
        event::NewEvent,
        id::SessionKey,
        page::PageRequest,
        session::{Event, LogOut, LoginEnd, Session, StateName},
    },
    store::{Change, LogOut as LogOutToCome, SessionFilter},
    telemetry::metrics,
};

/// Pause between rounds.
const ROUND: Duration = Duration::from_secs(5);
/// How long one round may take.
const ROUND_LIMIT: Duration = Duration::from_secs(60);
/// A pending row younger than this may belong to a login whose ticket is just being written.
const SETTLING: Duration = Duration::from_secs(15);
/// Rows read at once, and how often in one round.
const ROWS_MAX: i32 = 200;
const PAGES_MAX: u32 = 100;
/// How long a log-out that failed rests, from its first failure to its tenth.
const LOG_OUT_PAUSE_MIN: Duration = Duration::from_secs(5);
const LOG_OUT_PAUSE_MAX: Duration = Duration::from_secs(3600);
/// Log-outs repeated in one round, oldest first.
const UNWANTED_MAX: u64 = 8;
/// The same of sessions that were revoked while Telegram was away.
const PENDING_MAX: usize = 8;
/// Who the audit log names.
const ACTOR: &str = "usm:housekeeping";

/// A session's log-out that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    until: Instant,
    attempts: u32,
}

/// Longer from failure to failure, and as long as Telegram asked for.
fn pause_after(attempts: u32, error: &Error) -> Duration {
    let pause = LOG_OUT_PAUSE_MIN.saturating_mul(1 << attempts.min(10)).min(LOG_OUT_PAUSE_MAX);
    pause.max(error.retry_after.unwrap_or_default())
}

impl App {
    /// Mends what an earlier process left halfway. Called once before the service is ready.
    ///
    /// # Errors
    /// The store's.
    pub async fn recover(&self) -> Result<(), Error> {
        let caller = as_service(ACTOR, ROUND_LIMIT);
        self.refresh_feature(&caller).await?;
        // Tickets in memory died with the process that ran them, so no pending row can still belong to one.
        let settled = if self.0.tickets.survive_restart() { SETTLING } else { Duration::ZERO };
        self.end_orphaned_logins(&caller, settled).await
    }

    /// Keeps house until the service stops.
    pub fn keep_house(&self) {
        let app = self.clone();
        self.0.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(ROUND) => {}
                    () = app.0.stop.cancelled() => return,
                }
                tokio::select! {
                    done = app.round() => {
                        if let Err(error) = done {
                            tracing::warn!(error.reason = ?error.reason, error = %error, "Housekeeping will try again");
                        }
                    }
                    () = app.0.stop.cancelled() => return,
                }
            }
        });
    }

    /// Each part on its own: what keeps one from its end, such as tickets that are away, does not concern the others.
    async fn round(&self) -> Result<(), Error> {
        let caller = as_service(ACTOR, ROUND_LIMIT);
        let mut failed = self.refresh_feature(&caller).await.err();
        for part in [
            self.end_orphaned_logins(&caller, SETTLING).await,
            self.repeat_log_outs(&caller).await,
            self.end_unwanted(&caller).await,
            self.count(&caller).await,
            self.0.store.forget_places(&caller).await.map_err(Error::from),
        ] {
            failed = failed.or(part.err());
        }
        failed.map_or(Ok(()), Err)
    }

    /// Shows how many sessions there are and how many of them are lent.
    async fn count(&self, caller: &Caller) -> Result<(), Error> {
        let counts = self.0.store.count_by_state(caller).await?;
        for state in StateName::ALL {
            let count = counts.iter().find(|(counted, _)| counted == state).map_or(0, |(_, count)| *count);
            metrics::sessions_in(*state, u32::try_from(count).unwrap_or(u32::MAX));
        }
        let held = self.0.store.count_leased(caller).await?;
        metrics::leases_held(u32::try_from(held).unwrap_or(u32::MAX));
        Ok(())
    }

    async fn end_orphaned_logins(&self, caller: &Caller, settled: Duration) -> Result<(), Error> {
        let states = vec![StateName::PendingQr, StateName::PendingCode, StateName::PendingPassword];
        let mut orphans = Vec::new();
        for session in self.rows(caller, SessionFilter { states, ..SessionFilter::default() }).await? {
            let active = match self.0.tickets.active(&session.key).await {
                Ok(active) => active,
                Err(error) => {
                    // Nobody can tell which logins live, and time spent so proves nothing about any of them.
                    self.suspects().clear();
                    tracing::debug!(error = %error, "Pending rows are looked at once the tickets are there");
                    return Ok(());
                }
            };
            let alive = active.is_some_and(|login| {
                !login.state.is_final()
                    && now() < login.expire_time + SETTLING
                    && session.login_ticket.as_ref() == Some(&login.ticket.hash())
            });
            if !alive {
                orphans.push(session);
            }
        }
        for session in self.confirmed_orphans(orphans, settled) {
            self.end_orphan(caller, session).await?;
        }
        Ok(())
    }

    /// Those that were seen without a login for long enough. A ticket may just be on its way: a new one, or one that
    /// its replica puts back after the tickets lost it.
    fn confirmed_orphans(&self, orphans: Vec<Session>, settled: Duration) -> Vec<Session> {
        let name = |session: &Session| (session.key.clone(), session.login_ticket.clone());
        let mut suspects = self.suspects();
        suspects.retain(|suspect, _| orphans.iter().any(|session| name(session) == *suspect));
        orphans
            .into_iter()
            .filter(|session| suspects.entry(name(session)).or_insert_with(Instant::now).elapsed() >= settled)
            .collect()
    }

    fn suspects(&self) -> std::sync::MutexGuard<'_, Suspects> {
        self.0.suspects.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn end_orphan(&self, caller: &Caller, mut session: Session) -> Result<(), Error> {
        let moved = session.apply(Event::LoginEnded(LoginEnd::Expired), caller.now)?;
        session.forget_login();
        let key = session.key.clone();
        let change = Change { events: vec![NewEvent::transition(moved, ACTOR)], ..Change::of(session) };
        match self.commit(caller, change).await {
            Ok(_) => tracing::info!(session.id = %key, "Returned a session whose login died to where it was"),
            Err(error) => {
                tracing::debug!(session.id = %key, error = %error, "Somebody else moved the session first")
            }
        }
        Ok(())
    }

    async fn repeat_log_outs(&self, caller: &Caller) -> Result<(), Error> {
        let filter = SessionFilter { log_out: Some(LogOut::Pending), ..SessionFilter::default() };
        let sessions = self.rows(caller, filter).await?;
        let due: Vec<SessionKey> = {
            let mut rests = self.rests();
            rests.retain(|resting, _| sessions.iter().any(|session| session.key == *resting));
            let now = Instant::now();
            let mut due: Vec<_> = sessions
                .into_iter()
                .map(|session| (rests.get(&session.key).map(|rest| rest.until), session.key))
                .filter(|(until, _)| until.is_none_or(|until| until <= now))
                .collect();
            // Whoever was never tried comes first, then who waited longest.
            due.sort_by_key(|(until, _)| *until);
            due.into_iter().map(|(_, key)| key).take(PENDING_MAX).collect()
        };
        for key in due {
            // A deadline of its own: one that takes long must not spend the time of the others.
            if let Err(error) = self.log_out_pending(&as_service(ACTOR, ROUND_LIMIT), &key).await {
                tracing::debug!(session.id = %key, error = %error, "The log-out is still to come");
                let mut rests = self.rests();
                let attempts = rests.get(&key).map_or(0, |rest| rest.attempts);
                let until = Instant::now() + pause_after(attempts, &error);
                rests.insert(key, Rest { until, attempts: attempts.saturating_add(1) });
            } else {
                self.rests().remove(&key);
            }
        }
        Ok(())
    }

    fn rests(&self) -> std::sync::MutexGuard<'_, HashMap<SessionKey, Rest>> {
        self.0.rests.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Repeats what Telegram did not hear about authorizations that no session holds any more.
    async fn end_unwanted(&self, caller: &Caller) -> Result<(), Error> {
        for unwanted in self.0.store.log_outs(caller, UNWANTED_MAX).await? {
            let LogOutToCome { id, key, environment, sealed, attempts } = unwanted;
            let ended = match self.0.vault.unseal(&key, &environment, &sealed) {
                Ok(material) => {
                    let deadline = Instant::now() + CALL_LIMIT;
                    self.0.telegram.log_out(&material, deadline).await.map_err(Error::from)
                }
                Err(error) => Err(error.into()),
            };
            match ended {
                Ok(token) => self.ended(&key, id, token).await,
                Err(error) => {
                    tracing::warn!(session.id = %key, error = %error, attempts, "An unwanted authorization is still to be ended");
                    let until = now() + pause_after(attempts, &error);
                    self.0.store.put_off_log_out(caller, id, attempts.saturating_add(1), until).await?;
                }
            }
        }
        Ok(())
    }

    /// All rows that match, as far as [`PAGES_MAX`] pages reach.
    async fn rows(&self, caller: &Caller, filter: SessionFilter) -> Result<Vec<Session>, Error> {
        let (mut rows, mut token) = (Vec::new(), String::new());
        for _ in 0..PAGES_MAX {
            let page = self.0.store.list(caller, &filter, &PageRequest::parse(ROWS_MAX, &token)?).await?;
            rows.extend(page.items);
            token = page.next_token;
            if token.is_empty() {
                break;
            }
        }
        Ok(rows)
    }
}
