//! Lending: a session's material to one worker at a time.

pub mod holding;
pub mod report;
pub mod save;
mod waiting;

use std::time::{Duration, Instant};

use zeroize::Zeroizing;

pub(super) use self::{holding::Held, waiting::Wakes};
use super::{App, feature, new_lease_id};
use crate::{
    domain::{
        caller::Caller,
        error::{Error, Reason},
        id::{Holder, LeaseId, RequestId, SessionKey, TenantId},
        lease::{self, Drain, Ended, Lease, Release},
        material::{Device, Format, Material, Proxy},
        page::{Page, PageRequest},
        session::{Custody, Environment, Session, StateName},
        time::Timestamp,
    },
    formats,
    store::{self, LeaseFilter, SessionFilter},
    telemetry::metrics::{self, Outcome},
};

/// A lease that was asked for.
#[derive(Debug)]
pub struct Acquire {
    pub key: SessionKey,
    pub holder: Holder,
    pub ttl: Option<Duration>,
    /// How long to wait for a session that is lent to somebody else; zero answers at once.
    pub wait: Duration,
    pub format: Format,
    pub request_id: Option<RequestId>,
}

/// A lease and what it is for.
#[derive(Debug)]
pub struct Acquired {
    pub lease: Lease,
    pub material: Handout,
}

/// Key material on its way to its holder.
pub struct Handout {
    pub format: Format,
    pub data: Zeroizing<Vec<u8>>,
    /// 0 when unknown.
    pub api_id: i32,
    pub device: Device,
    pub proxy: Option<Proxy>,
    /// The data centre where the authorization lives.
    pub dc_id: i32,
    /// Which of the session's materials it is.
    pub version: i64,
    pub environment: Environment,
}

impl std::fmt::Debug for Handout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handout").field("format", &self.format).finish_non_exhaustive()
    }
}

impl App {
    /// Lends the session's material, in the format asked for.
    ///
    /// # Errors
    /// `SESSION_LEASED` with the time until it may be free, `SESSION_WRONG_STATE`, `CUSTODY_LEGACY`,
    /// `FEATURE_DISABLED`, `FORMAT_UNSUPPORTED`, `SESSION_NOT_FOUND`.
    ///
    /// # Cancel safety
    /// Dropped after the grant, the lease runs out by itself; the same `request_id` returns it until then.
    pub async fn acquire_lease(&self, caller: &Caller, request: Acquire) -> Result<Acquired, Error> {
        let begun = Instant::now();
        let answer = self.lend(caller, request).await;
        match &answer {
            Ok(_) => metrics::lease_granted(begun.elapsed()),
            Err(error) => metrics::lease_refused(error.reason),
        }
        answer
    }

    async fn lend(&self, caller: &Caller, request: Acquire) -> Result<Acquired, Error> {
        formats::writable(request.format)?;
        let ttl = lease::clamp_ttl(request.ttl, self.0.settings.lease_ttl)?;
        let asked = lease::Request {
            lease_id: self.lease_id(caller, &request),
            key: request.key,
            holder: request.holder,
            ttl,
            // A retry may have a place from before.
            queued: request.request_id.is_some() && !request.wait.is_zero(),
            request_id: request.request_id,
            purpose: lease::Purpose::Lend,
        };
        let grant = match self.0.store.acquire(caller, &asked).await? {
            store::Acquire::Granted(grant) => *grant,
            store::Acquire::Busy { session, free_in } => {
                let Some(until) = Self::patience(caller, request.wait, &session) else {
                    return Err(waiting::busy(&session, free_in));
                };
                let asked = lease::Request { queued: true, ..asked };
                self.wait_turn(caller, &asked, until).await?
            }
            refused => return Err(self.not_granted(refused)),
        };
        self.hand_out(caller, grant, request.format).await
    }

    /// Why a session cannot be borrowed, in the words of the contract.
    pub(super) fn not_granted(&self, answer: store::Acquire) -> Error {
        match answer {
            store::Acquire::Granted(_) => Error::new(Reason::Internal, "a granted lease is no refusal"),
            store::Acquire::Busy { session, free_in } => waiting::busy(&session, free_in),
            store::Acquire::NotFound => Error::session_not_found(),
            store::Acquire::NotLendable(session) => not_lendable(&session, &self.0.settings.environment),
            store::Acquire::Disabled => feature::disabled(),
        }
    }

    /// The same request of the same caller always gets the same lease id, so that a retry after a lost answer is
    /// recognised although rows hold only the id's hash.
    fn lease_id(&self, caller: &Caller, request: &Acquire) -> LeaseId {
        match &request.request_id {
            None => new_lease_id(),
            Some(id) => self.0.vault.lease_id(&[
                request.key.tenant.as_str().as_bytes(),
                request.key.app.as_str().as_bytes(),
                caller.subject.as_bytes(),
                request.holder.as_str().as_bytes(),
                id.to_text().as_bytes(),
            ]),
        }
    }

    /// Where a data centre is today, this service's endpoint knows better than a session made long ago.
    pub(super) fn readdress(&self, material: &mut Material) {
        for (dc, key) in &mut material.keys {
            key.address = self.0.telegram.addresses().get(dc).copied().or(key.address);
        }
    }

    async fn hand_out(
        &self,
        caller: &Caller,
        grant: store::Grant,
        format: Format,
    ) -> Result<Acquired, Error> {
        let store::Grant { lease, sealed } = grant;
        // The database lends sessions of this environment only.
        let environment = &self.0.settings.environment;
        let opened: Result<(Material, formats::Written), Error> = async {
            let mut material = self.0.vault.unseal(&lease.key, environment, &sealed)?;
            self.readdress(&mut material);
            let written = formats::write(&material, format, self.0.telegram.addresses()).await;
            metrics::material_written(format, if written.is_ok() { Outcome::Ok } else { Outcome::Failed });
            let written = written?;
            Ok((material, written))
        }
        .await;
        match opened {
            Ok((material, written)) => Ok(Acquired {
                lease: lease.beating(self.0.settings.lease_heartbeat),
                material: Handout {
                    format,
                    data: written.data,
                    api_id: material.api_id,
                    device: material.device,
                    proxy: material.proxy,
                    dc_id: material.home_dc,
                    version: sealed.version,
                    environment: environment.clone(),
                },
            }),
            Err(error) => {
                // Nothing left the service: the session is free at once.
                let given_back =
                    self.0.store.release(caller, &lease.lease_id, lease.epoch, Release::ConnectionsClosed);
                if let Err(error) = given_back.await {
                    tracing::warn!(session.id = %lease.key, error = %error, "A lease nobody got runs until it expires");
                }
                Err(error)
            }
        }
    }

    /// Extends the lease by the span it was granted for. `activity` is when Telegram last answered the holder: proof
    /// that the authorization lives.
    ///
    /// # Errors
    /// `LEASE_NOT_HELD`, `LEASE_EPOCH_STALE` or `LEASE_DRAINING`: the holder must close its connections.
    pub async fn renew_lease(
        &self,
        caller: &Caller,
        id: &LeaseId,
        epoch: i64,
        activity: Option<Timestamp>,
    ) -> Result<Lease, Error> {
        match self.0.store.renew(caller, id, epoch, activity).await? {
            store::Renew::Renewed { lease, state } => {
                if state == StateName::Stale && activity.is_some() {
                    self.prove_alive(caller, &lease).await;
                }
                Ok(lease.beating(self.0.settings.lease_heartbeat))
            }
            store::Renew::NotHeld => Err(Error::lease_not_held()),
            store::Renew::EpochStale { current } => Err(epoch_stale(current)),
            store::Renew::Evicted => Err(Error::new(
                Reason::LeaseDraining,
                "the lease is not extended any more; close the connections and release it",
            )),
            store::Renew::NotLendable(session) => Err(Error::lease_not_held()
                .fact("state", session.state.name().as_str())
                .fact("custody", session.custody.name())),
        }
    }

    /// Ends the lease. With all connections closed the session is free at once, else after the quiet gap.
    ///
    /// # Errors
    /// `LEASE_NOT_HELD` or `LEASE_EPOCH_STALE`.
    pub async fn release_lease(
        &self,
        caller: &Caller,
        id: &LeaseId,
        epoch: i64,
        release: Release,
    ) -> Result<Ended, Error> {
        match self.0.store.release(caller, id, epoch, release).await? {
            store::Released::Done(ended) => {
                self.0.wakes.freed(&ended.key);
                Ok(*ended)
            }
            store::Released::NotHeld => Err(Error::lease_not_held()),
            store::Released::EpochStale { current } => Err(epoch_stale(current)),
        }
    }

    /// The session with its lease as everybody sees it.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`.
    pub async fn get_lease(&self, caller: &Caller, key: &SessionKey) -> Result<Session, Error> {
        self.get_session(caller, key).await
    }

    /// The sessions that are lent now, or rest after a lease.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn list_leases(
        &self,
        caller: &Caller,
        tenant: Option<TenantId>,
        leases: lease::Filter,
        page: PageRequest,
    ) -> Result<Page<Session>, Error> {
        let filter = SessionFilter { tenant, lease: LeaseFilter::Leased(leases), ..SessionFilter::default() };
        Ok(self.0.store.list(caller, &filter, &page).await?)
    }

    /// Refuses the lease any further renewal, or only the one of `epoch`. Its holder is told; nobody else gets the
    /// session before the lease's end and the quiet gap.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`, `LEASE_NOT_HELD` when nobody holds it, `LEASE_EPOCH_STALE` when somebody else does.
    pub async fn evict_lease(
        &self,
        caller: &Caller,
        key: &SessionKey,
        epoch: Option<i64>,
    ) -> Result<Session, Error> {
        let session = self.0.store.evict(caller, key, epoch, Drain::Evicted).await?;
        match (&session.lease, epoch) {
            (Some(lease), Some(epoch)) if lease.epoch != epoch => Err(epoch_stale(lease.epoch)),
            _ => Ok(session),
        }
    }
}

fn epoch_stale(current: i64) -> Error {
    Error::new(
        Reason::LeaseEpochStale,
        "the session was lent again since; close the connections, this lease is over",
    )
    .fact("current_epoch", current)
}

fn leased(session: &Session, free_in: Duration) -> Error {
    let mut error =
        Error::new(Reason::SessionLeased, "the session is lent to a worker; wait, or evict the lease")
            .retry_after(free_in);
    if let Some(lease) = &session.lease {
        error = error.fact("holder", &lease.holder).fact("epoch", lease.epoch);
    }
    error
}

fn not_lendable(session: &Session, environment: &Environment) -> Error {
    if session.environment != *environment {
        return Error::new(
            Reason::EnvironmentMismatch,
            "the session belongs to another Telegram environment than this server's",
        );
    }
    match session.custody {
        Custody::Legacy => Error::new(
            Reason::CustodyLegacy,
            "the legacy system owns this session; take custody after the legacy system stopped using it",
        ),
        Custody::Service => Error::new(
            Reason::SessionWrongState,
            "the session has no usable key material; log in or validate it first",
        )
        .fact("state", session.state.name().as_str())
        .fact("state_reason", session.state.reason()),
    }
}
