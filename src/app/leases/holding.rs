//! Leases that live as long as their holder's stream beats, and what such a holder is told without asking.
//!
//! Another replica may evict a lease, end its session, or lend it again after its time. Twice a second this replica
//! asks the database about all the leases its streams hold, in one query, and tells those whom it concerns.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::App;
use crate::{
    app::as_service,
    domain::{
        caller::Caller,
        error::{Error, Reason},
        id::LeaseId,
        lease::{Drain, Lease, Release},
        time::Timestamp,
    },
    store::Standing,
};

/// How often the leases of streams are looked at.
const LOOK_STEP: Duration = Duration::from_millis(500);
const LOOK_LIMIT: Duration = Duration::from_secs(10);
/// Leases in one query.
const LOOK_MAX: usize = 1000;
/// How long one beat may take; the holder asks again before that.
const BEAT_LIMIT: Duration = Duration::from_secs(10);

/// Leases by number, and where to tell of each.
type Entries = HashMap<u64, (LeaseId, watch::Sender<Option<Standing>>)>;

/// The leases that streams of this process hold.
#[derive(Debug, Default)]
pub(in crate::app) struct Held {
    entries: Mutex<Entries>,
    next: AtomicU64,
}

impl Held {
    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a holder is to stop, or to go elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// The lease is not renewed any more.
    Drain(Drain),
    /// This replica stops; the lease goes on at another.
    Shutdown,
}

/// Why a lease is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    Released,
    Expired,
    EpochStale,
    Drained(Drain),
}

/// What a holder hears.
#[derive(Debug)]
pub enum News {
    Draining { why: Parting, left: Duration },
    Lost(Loss),
}

/// One lease in one stream. Dropped, it is not renewed any more, and nothing else.
pub struct Holding {
    app: App,
    caller: Caller,
    lease: Lease,
    number: u64,
    standing: watch::Receiver<Option<Standing>>,
    /// By this process's clock, from after the answer: the lease is over then, whatever became of the database.
    until: Instant,
    /// What was told already.
    told: Option<Standing>,
    parted: bool,
}

impl std::fmt::Debug for Holding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Holding").field("session", &self.lease.key).finish_non_exhaustive()
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.app.0.held.lock().remove(&self.number);
    }
}

/// How a beat ended.
#[derive(Debug)]
pub enum Beaten {
    Renewed,
    /// Not extended; what there is to tell follows.
    Told(News),
    /// Nobody knows; the next beat will tell.
    Unanswered(Error),
}

impl App {
    /// Takes a lease that was granted into a stream.
    pub fn hold(&self, caller: &Caller, lease: Lease) -> Holding {
        let number = self.0.held.next.fetch_add(1, Ordering::Relaxed);
        let (sender, standing) = watch::channel(None);
        self.0.held.lock().insert(number, (lease.lease_id.clone(), sender));
        let until = Instant::now() + lease.ttl;
        Holding {
            app: self.clone(),
            caller: caller.clone(),
            lease,
            number,
            standing,
            until,
            told: None,
            parted: false,
        }
    }

    /// Takes a lease that its holder has into a stream, and extends it.
    ///
    /// # Errors
    /// Those of [`App::renew_lease`].
    pub async fn attach(&self, caller: &Caller, id: &LeaseId, epoch: i64) -> Result<Holding, Error> {
        let lease = self.renew_lease(&at_once(caller), id, epoch, None).await?;
        Ok(self.hold(caller, lease))
    }

    /// Looks after the leases of streams until the service stops.
    pub fn watch_leases(&self) {
        let app = self.clone();
        self.0.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(LOOK_STEP) => {}
                    () = app.0.stop.cancelled() => return,
                }
                tokio::select! {
                    () = app.look_at_leases() => {}
                    () = app.0.stop.cancelled() => return,
                }
            }
        });
    }

    async fn look_at_leases(&self) {
        let mut held: Vec<(u64, LeaseId)> =
            self.0.held.lock().iter().map(|(number, (lease, _))| (*number, lease.clone())).collect();
        held.sort_unstable_by_key(|(number, _)| *number);
        for some in held.chunks(LOOK_MAX) {
            let standings = match self.0.store.standing(&as_service("usm:streams", LOOK_LIMIT), some).await {
                Ok(standings) => standings,
                Err(error) => {
                    tracing::debug!(error = %error, "Leases of streams are looked at again");
                    return;
                }
            };
            let entries = self.0.held.lock();
            for (number, standing) in standings {
                if let Some((_, sender)) = entries.get(&number) {
                    sender.send_replace(Some(standing));
                }
            }
        }
    }
}

impl Holding {
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The lease with what is left of it.
    pub fn lease_now(&self) -> Lease {
        Lease { ttl: self.left(), ..self.lease.clone() }
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Waits for something the holder has to know.
    ///
    /// # Cancel safety
    /// Nothing is lost: what was not returned is told by the next call.
    pub async fn news(&mut self) -> News {
        loop {
            let draining = self.app.0.draining.clone();
            tokio::select! {
                changed = self.standing.changed() => {
                    if changed.is_err() {
                        // The watch ends with this value alone.
                        std::future::pending::<()>().await;
                    }
                    let standing = *self.standing.borrow_and_update();
                    if let Some(news) = standing.and_then(|standing| self.told_of(standing)) {
                        return news;
                    }
                }
                () = draining.cancelled(), if !self.parted => {
                    self.parted = true;
                    return News::Draining { why: Parting::Shutdown, left: self.left() };
                }
                () = tokio::time::sleep_until(self.until.into()) => {
                    if self.renewed_elsewhere().await {
                        self.until = Instant::now() + LOOK_STEP;
                        continue;
                    }
                    return News::Lost(match self.told {
                        Some(Standing::Draining { why, .. }) => Loss::Drained(why),
                        _ => Loss::Expired,
                    });
                }
            }
        }
    }

    /// The time this stream knows of is over; the holder may have renewed by a call of its own.
    async fn renewed_elsewhere(&self) -> bool {
        let caller = as_service("usm:streams", LOOK_LIMIT);
        let lease = [(self.number, self.lease.lease_id.clone())];
        self.app.0.store.standing(&caller, &lease).await.is_ok_and(|standings| standings.is_empty())
    }

    fn told_of(&mut self, standing: Standing) -> Option<News> {
        let before = self.told.replace(standing);
        match standing {
            Standing::Draining { why, left } => {
                let known = matches!(before, Some(Standing::Draining { why: known, .. }) if known == why);
                (!known).then_some(News::Draining { why: Parting::Drain(why), left })
            }
            Standing::Released => Some(News::Lost(Loss::Released)),
            // A renewal may have gone ahead of the look; the clock that counts is the one above.
            Standing::Over { why: None } if self.left() > Duration::ZERO => None,
            Standing::Over { why } => Some(News::Lost(why.map_or(Loss::Expired, Loss::Drained))),
            Standing::Replaced => Some(News::Lost(Loss::EpochStale)),
        }
    }

    /// Extends the lease.
    pub async fn beat(&mut self, activity: Option<Timestamp>) -> Beaten {
        let caller = at_once(&self.caller);
        let (id, epoch) = (self.lease.lease_id.clone(), self.lease.epoch);
        match self.app.renew_lease(&caller, &id, epoch, activity).await {
            Ok(lease) => {
                self.until = Instant::now() + lease.ttl;
                self.lease = lease;
                Beaten::Renewed
            }
            Err(error) => match error.reason {
                Reason::LeaseDraining => Beaten::Told(News::Draining {
                    why: Parting::Drain(match self.told {
                        Some(Standing::Draining { why, .. }) => why,
                        _ => Drain::Evicted,
                    }),
                    left: self.left(),
                }),
                Reason::LeaseEpochStale => Beaten::Told(News::Lost(Loss::EpochStale)),
                Reason::LeaseNotHeld => Beaten::Told(News::Lost(match self.told {
                    Some(Standing::Draining { why, .. }) => Loss::Drained(why),
                    _ => Loss::Expired,
                })),
                _ => Beaten::Unanswered(error),
            },
        }
    }

    /// Ends the lease in its holder's words.
    ///
    /// # Errors
    /// Those of [`App::release_lease`].
    pub async fn release(self, how: Release) -> Result<(), Error> {
        let caller = at_once(&self.caller);
        self.app.release_lease(&caller, &self.lease.lease_id, self.lease.epoch, how).await?;
        Ok(())
    }
}

/// The caller of a stream, for one step of it.
fn at_once(caller: &Caller) -> Caller {
    let deadline = caller.deadline.min(Instant::now() + BEAT_LIMIT);
    Caller { now: crate::app::now(), deadline, ..caller.clone() }
}
