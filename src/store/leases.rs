//! Leases: granted, extended and ended, each by one statement on the row that holds state, custody and lease.
//!
//! The row's lock makes the statement the only judge; the database's clock, read inside it, the only time.
//! Statements that change nothing are followed by a read that tells why. A lease id is stored as its hash: a
//! copy of the database lends nobody a session.

use std::time::Duration;

use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait as _, DatabaseTransaction, ExprTrait as _,
    sea_query::{Expr, Query, SimpleExpr},
};
use sha2::{Digest as _, Sha256};

use crate::{
    domain::{
        caller::Caller,
        event::{Kind, NewEvent},
        id::{Holder, LeaseId, SessionKey},
        lease::{Lease, Purpose, Release, Request},
        material::SealedMaterial,
        session::{Custody, Session, StaleReason, StateName},
        time::{Timestamp, millis},
    },
    store::{
        Error, Store,
        clock::now,
        entity::{
            session::{Column, Entity},
            setting,
        },
        error::classify,
        events, material,
        rows::{Read, key, returning},
        scope, settings,
        tx::{Access, commit, rollback, within},
    },
};

/// How a request for a lease ended.
#[derive(Debug)]
pub enum Acquire {
    Granted(Box<Grant>),
    /// Somebody holds it, or it rests; free by itself after this long, unless renewed.
    Busy {
        session: Box<Session>,
        free_in: Duration,
    },
    NotFound,
    /// Its state, custody or environment does not allow a lease.
    NotLendable(Box<Session>),
    /// The feature is switched off in the database: no new leases.
    Disabled,
}

/// A lease with what it is about.
#[derive(Debug)]
pub struct Grant {
    pub lease: Lease,
    pub session: Session,
    pub sealed: SealedMaterial,
}

/// How a renewal ended.
#[derive(Debug)]
pub enum Renew {
    Renewed(Lease),
    /// Never granted to this caller, over, or released.
    NotHeld,
    /// The lease id is right, the epoch is not.
    EpochStale {
        current: i64,
    },
    /// An operator asked the holder to stop; the lease runs out.
    Evicted,
    /// The session's state or custody changed meanwhile; the lease runs out.
    NotLendable(Box<Session>),
}

/// How a release ended.
#[derive(Debug)]
pub enum Released {
    /// Ended, now or by an earlier release of the same lease.
    Done(Box<Session>),
    NotHeld,
    EpochStale {
        current: i64,
    },
}

const GRANTING: &str = "granting a lease";
const RENEWING: &str = "renewing a lease";
const RELEASING: &str = "releasing a lease";
const EVICTING: &str = "evicting a lease";

impl Store {
    /// Grants the session to the caller if it is free and may be lent: at most one of any number of requests
    /// succeeds. A repeated `request_id` of the same subject and holder gets its live lease again, if the
    /// lease id of the repetition is the same.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`]: a lease may have been granted; it runs out by itself.
    ///
    /// # Cancel safety
    /// Dropped before its end, the lease is granted wholly or not at all.
    pub async fn acquire(&self, caller: &Caller, request: &Request) -> Result<Acquire, Error> {
        within(caller.deadline, GRANTING, async {
            let tx = self.begin(caller, Access::Write, GRANTING).await?;
            let answer = match self.grant(&tx, caller, request).await? {
                Some(read) => {
                    let event = NewEvent::of(Kind::LeaseGranted, &caller.subject)
                        .detail("holder", request.holder.as_str())
                        .detail("epoch", read.row.lease_epoch);
                    let granted = self.granted(&tx, caller, request, read, fresh).await?;
                    if matches!(granted, Acquire::Granted(_)) {
                        events::append(&tx, &request.key, told(request.purpose, event), caller.now).await?;
                    }
                    granted
                }
                None => self.not_granted(&tx, caller, request).await?,
            };
            match answer {
                // Nothing to lend: the grant is taken back, as if it never was.
                Acquire::NotLendable(_) => rollback(tx, GRANTING).await?,
                Acquire::Granted(_) | Acquire::Busy { .. } | Acquire::NotFound | Acquire::Disabled => {
                    commit(tx, GRANTING).await?;
                }
            }
            Ok(answer)
        })
        .await
    }

    /// Extends the lease by the span it was granted for, counted from now.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`]: the holder goes by the deadline it knows of.
    pub async fn renew(&self, caller: &Caller, lease: &LeaseId, epoch: i64) -> Result<Renew, Error> {
        within(caller.deadline, RENEWING, async {
            let tx = self.begin(caller, Access::Write, RENEWING).await?;
            let mut query = Query::update();
            query
                .table(Entity)
                .value(Column::LeaseExpireTime, now(self.backend).add(Expr::col(Column::LeaseTtl)))
                .value(Column::LastActivityTime, now(self.backend))
                .cond_where(held(caller, lease, epoch))
                .and_where(Column::LeaseReleased.eq(false))
                .and_where(Column::LeaseEvicted.eq(false))
                .and_where(Expr::col(Column::LeaseExpireTime).gt(now(self.backend)))
                .cond_where(self.still_lendable())
                .returning(returning(self.backend));
            let answer = match tx.query_one(&query).await.map_err(classify(RENEWING))? {
                Some(row) => Renew::Renewed(fresh(&Read::from_result(&row)?, lease)?),
                None => self.not_renewed(&tx, caller, lease, epoch).await?,
            };
            commit(tx, RENEWING).await?;
            Ok(answer)
        })
        .await
    }

    /// Ends the lease. With every connection closed the session is free at once, else it rests until the
    /// lease would have expired, and for the quiet gap after. Repeating it changes nothing more; a holder
    /// that closes its connections later may say so as long as nobody else got the session.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`]: repeat it, or let the lease run out.
    pub async fn release(
        &self,
        caller: &Caller,
        lease: &LeaseId,
        epoch: i64,
        how: Release,
    ) -> Result<Released, Error> {
        within(caller.deadline, RELEASING, async {
            let tx = self.begin(caller, Access::Write, RELEASING).await?;
            let mut query = Query::update();
            query
                .table(Entity)
                .value(Column::LeaseReleased, true)
                .value(Column::LastActivityTime, now(self.backend))
                .cond_where(held(caller, lease, epoch))
                .returning(returning(self.backend));
            match how {
                Release::ConnectionsClosed => {
                    query.value(Column::LeaseExpireTime, Option::<i64>::None);
                    query.and_where(Column::LeaseExpireTime.is_not_null());
                }
                Release::ConnectionsUnknown => {
                    query.and_where(Column::LeaseReleased.eq(false));
                }
            }
            let answer = match tx.query_one(&query).await.map_err(classify(RELEASING))? {
                Some(row) => {
                    let read = Read::from_result(&row)?;
                    let closed = match how {
                        Release::ConnectionsClosed => "closed",
                        Release::ConnectionsUnknown => "unknown",
                    };
                    let event = NewEvent::of(Kind::LeaseReleased, &caller.subject)
                        .detail("epoch", epoch)
                        .detail("connections", closed);
                    let key = key(&read.row.tenant_id, &read.row.app_id)?;
                    events::append(&tx, &key, told(purpose(&read), event), caller.now).await?;
                    Released::Done(Box::new(read.session(self.quiet_gap)?))
                }
                None => self.not_released(&tx, caller, lease, epoch).await?,
            };
            commit(tx, RELEASING).await?;
            Ok(answer)
        })
        .await
    }

    /// Refuses further renewals of the session's lease, if there is one; it runs out, then rests. Nobody can
    /// take a live lease away: its holder may still be connected.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn evict(&self, caller: &Caller, key: &SessionKey) -> Result<Session, Error> {
        within(caller.deadline, EVICTING, async {
            let tx = self.begin(caller, Access::Write, EVICTING).await?;
            let mut query = Query::update();
            query
                .table(Entity)
                .value(Column::LeaseEvicted, true)
                .cond_where(scope::session(caller, key))
                .and_where(Column::LeaseEvicted.eq(false))
                .and_where(Column::LeaseReleased.eq(false))
                .and_where(Expr::col(Column::LeaseExpireTime).gt(now(self.backend)))
                .returning(returning(self.backend));
            let read = match tx.query_one(&query).await.map_err(classify(EVICTING))? {
                Some(row) => {
                    let read = Read::from_result(&row)?;
                    let event = NewEvent::of(Kind::LeaseEvicted, &caller.subject)
                        .detail("epoch", read.row.lease_epoch);
                    events::append(&tx, key, vec![event], caller.now).await?;
                    read
                }
                None => self.read_session(&tx, caller, key).await?.ok_or(Error::NotFound)?,
            };
            commit(tx, EVICTING).await?;
            read.session(self.quiet_gap)
        })
        .await
    }

    /// The one statement that decides.
    async fn grant(
        &self,
        tx: &DatabaseTransaction,
        caller: &Caller,
        request: &Request,
    ) -> Result<Option<Read>, Error> {
        let request_id = request.request_id.as_ref().map(|id| id.to_text());
        let mut query = Query::update();
        query
            .table(Entity)
            .value(Column::LeaseIdHash, hash(&request.lease_id))
            .value(Column::LeaseHolder, request.holder.as_str())
            .value(Column::LeaseSubject, caller.subject.as_str())
            .value(Column::LeaseRequestId, request_id)
            .value(Column::LeasePurpose, name(request.purpose))
            .value(Column::LeaseEpoch, Expr::col(Column::LeaseEpoch).add(1))
            .value(Column::LeaseAcquireTime, now(self.backend))
            .value(Column::LeaseExpireTime, now(self.backend).add(millis(request.ttl)))
            .value(Column::LeaseTtl, millis(request.ttl))
            .value(Column::LeaseEvicted, false)
            .value(Column::LeaseReleased, false)
            .value(Column::LastActivityTime, now(self.backend))
            .cond_where(scope::session(caller, &request.key))
            .cond_where(self.lendable(request.purpose))
            .cond_where(self.lease_is_over())
            .returning(returning(self.backend));
        match request.purpose {
            Purpose::Lend => {
                query.and_where(switched_off().not());
            }
            // Ending an authorization has to work while no worker may get one.
            Purpose::Inspect | Purpose::Probe => {}
        }
        let row = tx.query_one(&query).await.map_err(classify(GRANTING))?;
        row.map(|row| Read::from_result(&row)).transpose()
    }

    /// Reads the material in a second statement: the first one locked the row, so nothing newer can come in
    /// between, while a join in the first could see material older than the row it waited for.
    async fn granted(
        &self,
        tx: &DatabaseTransaction,
        caller: &Caller,
        request: &Request,
        read: Read,
        lease: fn(&Read, &LeaseId) -> Result<Lease, Error>,
    ) -> Result<Acquire, Error> {
        let Some(sealed) = material::read(tx, caller, &request.key).await? else {
            return match request.purpose {
                Purpose::Lend => Err(Error::Corrupt { what: "a usable session has no material" }),
                Purpose::Inspect | Purpose::Probe => {
                    let mut session = read.session(self.quiet_gap)?;
                    // The grant is about to be taken back.
                    session.lease = None;
                    session.lease_epoch -= 1;
                    Ok(Acquire::NotLendable(Box::new(session)))
                }
            };
        };
        if sealed.version != read.row.material_version {
            return Err(Error::Corrupt { what: "material and session differ in version" });
        }
        let lease = lease(&read, &request.lease_id)?;
        let session = read.session(self.quiet_gap)?;
        Ok(Acquire::Granted(Box::new(Grant { lease, session, sealed })))
    }

    async fn not_granted(
        &self,
        tx: &DatabaseTransaction,
        caller: &Caller,
        request: &Request,
    ) -> Result<Acquire, Error> {
        let lendable = scope::session(caller, &request.key).add(self.lendable(request.purpose));
        let (read, may_be_lent) = match self.read_where(tx, lendable).await? {
            Some(read) => (read, true),
            None => match self.read_session(tx, caller, &request.key).await? {
                Some(read) => (read, false),
                None => return Ok(Acquire::NotFound),
            },
        };
        if !may_be_lent {
            return Ok(Acquire::NotLendable(Box::new(read.session(self.quiet_gap)?)));
        }
        if repeats(&read, caller, request) {
            return self.granted(tx, caller, request, read, remaining).await;
        }
        let free_in = read.rest(self.quiet_gap);
        if free_in.is_none() && request.purpose == Purpose::Lend && self.is_switched_off(tx).await? {
            return Ok(Acquire::Disabled);
        }
        // Free by now, if the lease ended between the two statements: worth another try at once.
        let free_in = free_in.unwrap_or_default();
        Ok(Acquire::Busy { session: Box::new(read.session(self.quiet_gap)?), free_in })
    }

    async fn not_renewed(
        &self,
        tx: &DatabaseTransaction,
        caller: &Caller,
        lease: &LeaseId,
        epoch: i64,
    ) -> Result<Renew, Error> {
        let Some(read) = self.read_where(tx, of_caller(caller, lease)).await? else {
            return Ok(Renew::NotHeld);
        };
        if read.live().is_none() {
            return Ok(Renew::NotHeld);
        }
        if read.row.lease_epoch != epoch {
            return Ok(Renew::EpochStale { current: read.row.lease_epoch });
        }
        if read.row.lease_evicted {
            return Ok(Renew::Evicted);
        }
        Ok(Renew::NotLendable(Box::new(read.session(self.quiet_gap)?)))
    }

    async fn not_released(
        &self,
        tx: &DatabaseTransaction,
        caller: &Caller,
        lease: &LeaseId,
        epoch: i64,
    ) -> Result<Released, Error> {
        let Some(read) = self.read_where(tx, of_caller(caller, lease)).await? else {
            return Ok(Released::NotHeld);
        };
        if read.row.lease_epoch != epoch {
            return Ok(Released::EpochStale { current: read.row.lease_epoch });
        }
        Ok(Released::Done(Box::new(read.session(self.quiet_gap)?)))
    }

    /// In our hands and of our Telegram; for a worker also material that works as far as is known.
    fn lendable(&self, purpose: Purpose) -> Condition {
        let ours = Condition::all()
            .add(Column::Custody.eq(Custody::Service.name()))
            .add(Column::Environment.eq(self.environment.as_str()));
        let usable = Condition::any().add(Column::State.eq(StateName::Authorized.as_str())).add(
            Condition::all()
                .add(Column::State.eq(StateName::Stale.as_str()))
                .add(Column::StateReason.eq(StaleReason::ValidationOverdue.name())),
        );
        match purpose {
            Purpose::Lend => ours.add(usable),
            Purpose::Inspect | Purpose::Probe => ours,
        }
    }

    /// Fit for what its lease is for.
    fn still_lendable(&self) -> Condition {
        let inspected = Column::LeasePurpose.is_in([name(Purpose::Inspect), name(Purpose::Probe)]);
        Condition::any().add(self.lendable(Purpose::Lend)).add(self.lendable(Purpose::Inspect).add(inspected))
    }

    async fn is_switched_off(&self, tx: &DatabaseTransaction) -> Result<bool, Error> {
        let mut query = Query::select();
        query.expr(Expr::value(1)).and_where(switched_off());
        Ok(tx.query_one(&query).await.map_err(classify(GRANTING))?.is_some())
    }
}

/// What the column of purposes holds.
const fn name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Lend => "lend",
        Purpose::Inspect => "inspect",
        Purpose::Probe => "probe",
    }
}

fn purpose(read: &Read) -> Purpose {
    match read.row.lease_purpose.as_deref() {
        Some("inspect") => Purpose::Inspect,
        Some("probe") => Purpose::Probe,
        _ => Purpose::Lend,
    }
}

/// The log tells who got a session; the service's own regular looks at it would drown that.
fn told(purpose: Purpose, event: NewEvent) -> Vec<NewEvent> {
    match purpose {
        Purpose::Lend => vec![event],
        Purpose::Inspect | Purpose::Probe => Vec::new(),
    }
}

/// Whether the feature is off, as the database knows it: no replica can miss it.
pub(super) fn switched_off() -> SimpleExpr {
    Expr::exists(
        Query::select()
            .expr(Expr::value(1))
            .from(setting::Entity)
            .and_where(Expr::col((setting::Entity, setting::Column::Name)).eq(settings::FEATURE))
            .and_where(Expr::col((setting::Entity, setting::Column::Value)).eq(settings::FEATURE_OFF))
            .take(),
    )
}

/// The caller's own lease of this id.
fn of_caller(caller: &Caller, lease: &LeaseId) -> Condition {
    scope::sessions(caller)
        .add(Column::LeaseIdHash.eq(hash(lease)))
        .add(Column::LeaseSubject.eq(caller.subject.as_str()))
}

/// That lease of the caller's own, and no later one.
pub(super) fn held(caller: &Caller, lease: &LeaseId, epoch: i64) -> Condition {
    of_caller(caller, lease).add(Column::LeaseEpoch.eq(epoch))
}

/// Whether the request asks again for the live lease it already got. Eviction ends that too.
fn repeats(read: &Read, caller: &Caller, request: &Request) -> bool {
    let row = &read.row;
    let Some(request_id) = &request.request_id else {
        return false;
    };
    read.live().is_some()
        && !row.lease_evicted
        && row.lease_request_id.as_deref() == Some(&request_id.to_text())
        && row.lease_subject.as_deref() == Some(&caller.subject)
        && row.lease_holder.as_deref() == Some(request.holder.as_str())
        && purpose(read) == request.purpose
        && row.lease_id_hash.as_deref() == Some(&hash(&request.lease_id))
}

/// Lease ids are random, so a plain hash of one cannot be guessed back.
fn hash(lease: &LeaseId) -> String {
    hex::encode(Sha256::digest(lease.expose_secret().as_bytes()))
}

/// A lease that was granted or extended just now: its whole span. The holder counts from before it asked, so
/// it stops before the row's expiry, which counts from the statement.
fn fresh(read: &Read, lease_id: &LeaseId) -> Result<Lease, Error> {
    let ttl = read.row.lease_ttl.and_then(|millis| u64::try_from(millis).ok());
    as_lease(read, lease_id, ttl.map(Duration::from_millis))
}

/// A lease that was granted earlier: what is left of it.
fn remaining(read: &Read, lease_id: &LeaseId) -> Result<Lease, Error> {
    as_lease(read, lease_id, read.live())
}

fn as_lease(read: &Read, lease_id: &LeaseId, ttl: Option<Duration>) -> Result<Lease, Error> {
    let corrupt = || Error::Corrupt { what: "lease" };
    let row = &read.row;
    Ok(Lease {
        lease_id: lease_id.clone(),
        key: key(&row.tenant_id, &row.app_id)?,
        holder: Holder::parse(row.lease_holder.as_deref().unwrap_or_default()).map_err(|_| corrupt())?,
        epoch: row.lease_epoch,
        ttl: ttl.ok_or_else(corrupt)?,
        acquire_time: Timestamp::from_millis(row.lease_acquire_time.ok_or_else(corrupt)?),
    })
}
