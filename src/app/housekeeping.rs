//! What the service does by itself: mends what died halfway, repeats what Telegram did not hear.
//!
//! Every step is repeatable and conditional on the revision it read, so that replicas may do it side by side.

use std::time::{Duration, Instant};

use super::{App, as_service, now, validation::CALL_LIMIT};
use crate::{
    config::Feature,
    domain::{
        caller::Caller,
        error::Error,
        event::NewEvent,
        page::PageRequest,
        session::{Event, LogOut, LoginEnd, Session, StateName},
    },
    store::{Change, LogOut as LogOutToCome, SessionFilter, settings},
    telemetry::metrics,
};

/// Pause between rounds.
const ROUND: Duration = Duration::from_secs(5);
/// How long one round may take.
const ROUND_LIMIT: Duration = Duration::from_secs(60);
/// A pending row younger than this may belong to a login whose ticket is just being written.
const SETTLING: Duration = Duration::from_secs(15);
/// Rows looked at in one round; the rest wait for the next.
const ROWS_MAX: u32 = 200;
/// Log-outs repeated in one round, oldest first.
const UNWANTED_MAX: u64 = 8;
/// Who the audit log names.
const ACTOR: &str = "usm:housekeeping";

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

    /// Reads what the database says about the feature, and leaves the rest to the processes that keep house.
    ///
    /// # Errors
    /// The store's.
    pub async fn read_feature(&self) -> Result<(), Error> {
        self.refresh_feature(&as_service(ACTOR, ROUND_LIMIT)).await
    }

    /// Writes what an operator set about the feature at this start; `None` leaves what the database says.
    ///
    /// # Errors
    /// The store's.
    pub async fn set_feature(&self, feature: Option<Feature>) -> Result<(), Error> {
        let Some(feature) = feature else { return Ok(()) };
        let value = match feature {
            Feature::Enabled => settings::FEATURE_ON,
            Feature::Disabled => settings::FEATURE_OFF,
        };
        Ok(self.0.store.set_setting(&as_service(ACTOR, ROUND_LIMIT), settings::FEATURE, value).await?)
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

    async fn round(&self) -> Result<(), Error> {
        let caller = as_service(ACTOR, ROUND_LIMIT);
        self.refresh_feature(&caller).await?;
        self.end_orphaned_logins(&caller, SETTLING).await?;
        self.repeat_log_outs(&caller).await?;
        self.end_unwanted(&caller).await?;
        self.count(&caller).await
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

    async fn refresh_feature(&self, caller: &Caller) -> Result<(), Error> {
        let value = self.0.store.setting(caller, settings::FEATURE).await?;
        let enabled = value.as_deref() != Some(settings::FEATURE_OFF);
        self.0.enabled.store(enabled, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    async fn end_orphaned_logins(&self, caller: &Caller, settled: Duration) -> Result<(), Error> {
        let states = vec![StateName::PendingQr, StateName::PendingCode, StateName::PendingPassword];
        let mut orphans = Vec::new();
        for session in self.rows(caller, SessionFilter { states, ..SessionFilter::default() }).await? {
            let active = self.0.tickets.active(&session.key).await?;
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
        let mut suspects = self.0.suspects.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        suspects.retain(|key, _| orphans.iter().any(|session| session.key == *key));
        orphans
            .into_iter()
            .filter(|session| {
                suspects.entry(session.key.clone()).or_insert_with(Instant::now).elapsed() >= settled
            })
            .collect()
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
        for session in self.rows(caller, filter).await? {
            if let Err(error) = self.log_out_pending(caller, &session.key).await {
                tracing::debug!(session.id = %session.key, error = %error, "The log-out is still to come");
            }
        }
        Ok(())
    }

    /// Repeats what Telegram did not hear about authorizations that no session holds any more.
    async fn end_unwanted(&self, caller: &Caller) -> Result<(), Error> {
        for unwanted in self.0.store.log_outs(caller, UNWANTED_MAX).await? {
            let LogOutToCome { id, key, environment, sealed } = unwanted;
            let material = match self.0.vault.unseal(&key, &environment, &sealed) {
                Ok(material) => material,
                Err(error) => {
                    tracing::error!(session.id = %key, error = %error, "An authorization cannot be ended: its key does not open");
                    continue;
                }
            };
            match self.0.telegram.log_out(&material, Instant::now() + CALL_LIMIT).await {
                Ok(token) => self.ended(&key, id, token).await,
                Err(error) => {
                    tracing::debug!(session.id = %key, error = %error, "An unwanted authorization is still to be ended");
                }
            }
        }
        Ok(())
    }

    async fn rows(&self, caller: &Caller, filter: SessionFilter) -> Result<Vec<Session>, Error> {
        let page = self.0.store.list(caller, &filter, &PageRequest { size: ROWS_MAX, after: None }).await?;
        Ok(page.items)
    }
}
