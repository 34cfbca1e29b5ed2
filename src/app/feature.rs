//! `FEATURE_UNIFIED_SESSION_MANAGER`: whether this service lends sessions, or leaves them to the legacy system.
//!
//! The database says so, for every replica at once: a grant asks it in its own statement. While it is off, sessions go
//! into the legacy system's custody one by one, each after its lease ended.

use std::time::Duration;

use super::{App, as_service, export::may_live};
pub use crate::config::Feature;
use crate::{
    domain::{
        caller::{Authority, Caller, Scope},
        error::{Error, Reason},
        event::{Kind, NewEvent},
        lease::{Drain, Filter, Phase, Purpose},
        page::PageRequest,
        session::{Custody, Session, StateName},
    },
    store::{self, Change, LeaseFilter, LeaseRule, SessionFilter, settings},
};

/// Pause between rounds.
const ROUND: Duration = Duration::from_secs(1);
/// How long one round may take.
const ROUND_LIMIT: Duration = Duration::from_secs(60);
/// Sessions moved, and holders asked to stop, in one round.
const BATCH: u32 = 200;
/// Who the audit log names.
const ACTOR: &str = "usm:hand-over";

impl App {
    /// Writes what an operator set about the feature at this start; `None` leaves what the database says.
    ///
    /// # Errors
    /// The store's.
    pub async fn set_feature(&self, feature: Option<Feature>) -> Result<(), Error> {
        let Some(feature) = feature else { return Ok(()) };
        self.write_feature(&as_service(ACTOR, ROUND_LIMIT), feature).await
    }

    /// Switches the feature for every replica, as somebody asked.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` for a tenant's caller: it is everybody's; the store's.
    pub async fn switch_feature(&self, caller: &Caller, feature: Feature) -> Result<(), Error> {
        caller.require(Scope::Admin)?;
        match caller.authority {
            Authority::Service => {}
            Authority::Tenant(_) => {
                return Err(Error::new(
                    Reason::PermissionDenied,
                    "the switch concerns every tenant; only a service's caller may move it",
                ));
            }
        }
        self.write_feature(caller, feature).await?;
        let on = matches!(feature, Feature::Enabled);
        tracing::warn!(
            actor = caller.subject,
            grants_enabled = on,
            "FEATURE_UNIFIED_SESSION_MANAGER was switched"
        );
        self.refresh_feature(caller).await
    }

    async fn write_feature(&self, caller: &Caller, feature: Feature) -> Result<(), Error> {
        let value = match feature {
            Feature::Enabled => settings::FEATURE_ON,
            Feature::Disabled => settings::FEATURE_OFF,
        };
        Ok(self.0.store.set_setting(caller, settings::FEATURE, value).await?)
    }

    /// Reads what the database says about the feature, and leaves the rest to the processes that keep house.
    ///
    /// # Errors
    /// The store's.
    pub async fn read_feature(&self) -> Result<(), Error> {
        self.refresh_feature(&as_service(ACTOR, ROUND_LIMIT)).await
    }

    pub(super) async fn refresh_feature(&self, caller: &Caller) -> Result<(), Error> {
        // Boxed, so that the many futures that ask stay small.
        let value = Box::pin(self.0.store.setting(caller, settings::FEATURE)).await?;
        let enabled = value.as_deref() != Some(settings::FEATURE_OFF);
        self.0.enabled.store(enabled, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    /// Refuses what takes or uses a session while the feature is off, by what the database says now.
    ///
    /// # Errors
    /// `FEATURE_DISABLED`, and the store's.
    pub(super) async fn require_feature(&self, caller: &Caller) -> Result<(), Error> {
        self.refresh_feature(caller).await?;
        if self.is_enabled() { Ok(()) } else { Err(disabled()) }
    }

    /// While the feature is off, hands sessions over to the legacy system until the service stops.
    pub fn hand_over_sessions(&self) {
        let app = self.clone();
        self.0.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(ROUND) => {}
                    () = app.0.stop.cancelled() => return,
                }
                let done = tokio::select! {
                    done = Box::pin(app.hand_over_rounds()) => done,
                    () = app.0.stop.cancelled() => return,
                };
                if let Err(error) = done {
                    tracing::debug!(error = %error, "Sessions are handed over later");
                }
            }
        });
    }

    /// Without a pause as long as there is much to do.
    async fn hand_over_rounds(&self) -> Result<(), Error> {
        while self.hand_over_round().await? >= BATCH as usize {}
        Ok(())
    }

    /// One batch, and how many were moved: those that are free go, holders of others are asked to stop. Each move is a compare-and-set of its own,
    /// so replicas do it side by side, and a killed one leaves nothing half done.
    async fn hand_over_round(&self) -> Result<usize, Error> {
        let caller = as_service(ACTOR, ROUND_LIMIT);
        self.refresh_feature(&caller).await?;
        if self.is_enabled() {
            return Ok(0);
        }
        let mut moved = 0;
        for session in self.ours(&caller, LeaseFilter::Free).await? {
            moved += usize::from(self.hand_over(&caller, session).await?);
        }
        let held = Filter { phases: vec![Phase::Held], ..Filter::default() };
        for session in self.ours(&caller, LeaseFilter::Leased(held)).await? {
            // Nobody is lent anything new, so a lease that is not renewed ends for good. The service's own are short.
            if let Some(lease) = session.lease.filter(|lease| lease.purpose == Purpose::Lend) {
                self.0.store.evict(&caller, &session.key, Some(lease.epoch), Drain::Evicted).await?;
            }
        }
        Ok(moved)
    }

    /// Sessions of ours whose authorization may live; what never had one, or lost it, nobody can connect with.
    async fn ours(&self, caller: &Caller, lease: LeaseFilter) -> Result<Vec<Session>, Error> {
        let filter = SessionFilter {
            states: vec![StateName::Authorized, StateName::Stale],
            custody: Some(Custody::Service),
            lease,
            ..SessionFilter::default()
        };
        let page = PageRequest { size: BATCH, after: None };
        Ok(self.0.store.list(caller, &filter, &page).await?.items)
    }

    /// Whether it was moved by this process, and now.
    async fn hand_over(&self, caller: &Caller, mut session: Session) -> Result<bool, Error> {
        debug_assert!(may_live(&session.state), "listed by its state");
        let key = session.key.clone();
        session.custody = Custody::Legacy;
        session.update_time = caller.now;
        let change = Change {
            lease: LeaseRule::NoneLive,
            events: vec![NewEvent::of(Kind::CustodyGiven, ACTOR).detail("reason", "feature_disabled")],
            ..Change::of(session)
        };
        match self.commit(caller, change).await {
            Ok(_) => {
                tracing::info!(session.id = %key, "Handed a session over to the legacy system");
                Ok(true)
            }
            // Somebody else was first, or holds it; it is looked at again.
            Err(
                store::Error::RevisionStale { .. } | store::Error::Leased { .. } | store::Error::NotFound,
            ) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

pub(super) fn disabled() -> Error {
    Error::new(
        Reason::FeatureDisabled,
        "FEATURE_UNIFIED_SESSION_MANAGER is off: the legacy system owns the sessions; switch it on with `usm custody on`",
    )
}
