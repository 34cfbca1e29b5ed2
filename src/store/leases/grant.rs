//! Grants: at most one of any number of requests gets a session, and the epoch rises with each.

use std::{collections::HashMap, time::Duration};

use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait as _, DatabaseTransaction, QueryResult,
    sea_query::{Expr, Query},
};

use crate::{
    domain::{
        caller::{Authority, Caller},
        event::{Kind, NewEvent},
        id::SessionKey,
        lease::{Lease, Purpose, Request},
        material::SealedMaterial,
        session::{Custody, Session, StaleReason, StateName},
        time::{Timestamp, millis},
    },
    store::{
        Error, Store,
        entity::session::Column,
        error::classify,
        events::Told,
        leases::{
            desk::{self, Ask, Item},
            hash, sql, tenant_of,
        },
        material,
        rows::{Read, key},
        scope,
    },
};

const GRANTING: &str = "granting a lease";

/// How a request for a lease ended.
#[derive(Debug)]
pub enum Acquire {
    Granted(Box<Grant>),
    /// Somebody holds it, it rests, or others came first; free by itself after this long, unless renewed.
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
    pub sealed: SealedMaterial,
}

/// What the statement that grants decides by itself; the rest of the lease is what was asked for.
pub(super) struct Decided {
    epoch: i64,
    acquire_time: i64,
    material_version: i64,
}

impl Decided {
    /// Whether the material is that of the row as it was lent.
    pub(super) const fn fits(&self, sealed: &SealedMaterial) -> bool {
        sealed.version == self.material_version
    }
}

/// A request as the statement takes it.
#[derive(serde::Serialize)]
struct Asked<'a> {
    ask_tenant: &'a str,
    ask_app: &'a str,
    ask_hash: String,
    ask_holder: &'a str,
    ask_subject: &'a str,
    ask_request_id: Option<String>,
    ask_purpose: &'static str,
    ask_ttl: i64,
}

/// A session whose material is read, as the statement takes it.
#[derive(serde::Serialize)]
struct Looked<'a> {
    ask_tenant: &'a str,
    ask_app: &'a str,
}

impl Store {
    /// Grants the session to the caller if it is free, may be lent, and nobody waits for it who came first: at most one
    /// of any number of requests succeeds. A repeated `request_id` of the same subject and holder gets its live lease
    /// again, if the lease id of the repetition is the same.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`]: a lease may have been granted; it runs out by itself.
    ///
    /// # Cancel safety
    /// Dropped before its end, the lease is granted wholly or not at all.
    pub async fn acquire(&self, caller: &Caller, request: &Request) -> Result<Acquire, Error> {
        self.served(caller.deadline, GRANTING, desk::ask(caller, request.clone(), Item::Grant)).await
    }

    pub(super) async fn grant_all(
        &self,
        tx: &DatabaseTransaction,
        asks: &[Ask<Request, Acquire>],
        authority: &Authority,
        told: &mut Vec<Told>,
    ) -> Result<Vec<Acquire>, Error> {
        if asks.is_empty() {
            return Ok(Vec::new());
        }
        let mut granted = self.decide(tx, asks, authority).await?;
        let mut sealed = self.materials(tx, granted.keys()).await?;
        let queued: Vec<_> = asks
            .iter()
            .filter(|ask| ask.work.queued && granted.contains_key(&ask.work.key))
            .map(|ask| serde_json::json!({ "ask_hash": hash(&ask.work.lease_id) }))
            .collect();
        if !queued.is_empty() {
            let list = serde_json::Value::from(queued).to_string();
            let leave = self.statement(&self.desk.texts.leave, [list.into()]);
            tx.execute_raw(leave).await.map_err(classify(GRANTING))?;
        }
        let mut answers = Vec::with_capacity(asks.len());
        for ask in asks {
            answers.push(match granted.remove(&ask.work.key) {
                Some(decided) => {
                    told.extend(event(ask, decided.epoch));
                    fresh(&ask.work, &decided, sealed.remove(&ask.work.key))?
                }
                None => self.not_granted(tx, &ask.caller, &ask.work).await?,
            });
        }
        Ok(answers)
    }

    /// The one statement that decides.
    async fn decide(
        &self,
        tx: &DatabaseTransaction,
        asks: &[Ask<Request, Acquire>],
        authority: &Authority,
    ) -> Result<HashMap<SessionKey, Decided>, Error> {
        let values = [
            Self::grants_asked(asks.iter()).into(),
            self.environment.as_str().into(),
            tenant_of(authority).into(),
            millis(self.quiet_gap).into(),
        ];
        let rows = tx
            .query_all_raw(self.statement(&self.desk.texts.grant, values))
            .await
            .map_err(classify(GRANTING))?;
        Self::decided(&rows)
    }

    /// The asks as the statement takes them.
    pub(super) fn grants_asked<'a>(asks: impl Iterator<Item = &'a Ask<Request, Acquire>>) -> String {
        desk::list(asks.map(|Ask { caller, work, .. }| Asked {
            ask_tenant: work.key.tenant.as_str(),
            ask_app: work.key.app.as_str(),
            ask_hash: hash(&work.lease_id),
            ask_holder: work.holder.as_str(),
            ask_subject: &caller.subject,
            ask_request_id: work.request_id.as_ref().map(|id| id.to_text()),
            ask_purpose: work.purpose.name(),
            ask_ttl: millis(work.ttl),
        }))
    }

    /// Rows that were lent, by their session.
    pub(super) fn decided(rows: &[QueryResult]) -> Result<HashMap<SessionKey, Decided>, Error> {
        rows.iter()
            .map(|row| {
                let text = |column| row.try_get::<String>("", column).map_err(classify(GRANTING));
                let number = |column| row.try_get::<i64>("", column).map_err(classify(GRANTING));
                let decided = Decided {
                    epoch: number("lease_epoch")?,
                    acquire_time: number("lease_acquire_time")?,
                    material_version: number("material_version")?,
                };
                Ok((key(&text("tenant_id")?, &text("app_id")?)?, decided))
            })
            .collect()
    }

    /// Read in a second statement: the first one locked the rows, so nothing newer can come in between, while a join in
    /// the first could see material older than the row it waited for.
    async fn materials(
        &self,
        tx: &DatabaseTransaction,
        keys: impl Iterator<Item = &SessionKey>,
    ) -> Result<HashMap<SessionKey, SealedMaterial>, Error> {
        let mut keys = keys.peekable();
        if keys.peek().is_none() {
            return Ok(HashMap::new());
        }
        let query = self.statement(&self.desk.texts.material, [Self::materials_asked(keys).into()]);
        Self::opened(&tx.query_all_raw(query).await.map_err(classify(GRANTING))?)
    }

    /// The sessions whose material is read, as the statement takes them.
    fn materials_asked<'a>(keys: impl Iterator<Item = &'a SessionKey>) -> String {
        desk::list(keys.map(|key| Looked { ask_tenant: key.tenant.as_str(), ask_app: key.app.as_str() }))
    }

    /// Sealed material, by its session.
    pub(super) fn opened(rows: &[QueryResult]) -> Result<HashMap<SessionKey, SealedMaterial>, Error> {
        rows.iter()
            .map(|row| {
                let text = |column| row.try_get::<String>("", column).map_err(classify(GRANTING));
                let sealed = SealedMaterial {
                    bytes: row.try_get("", "sealed").map_err(classify(GRANTING))?,
                    key_id: text("key_id")?,
                    version: row.try_get("", "version").map_err(classify(GRANTING))?,
                };
                Ok((key(&text("tenant_id")?, &text("app_id")?)?, sealed))
            })
            .collect()
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
            let sealed = material::read(tx, caller, &request.key).await?;
            return remaining(request, &read, sealed);
        }
        let free_in = read.rest(self.quiet_gap);
        if free_in.is_none() && request.purpose == Purpose::Lend && self.is_switched_off(tx).await? {
            return Ok(Acquire::Disabled);
        }
        // Free by now: the lease ended between the two statements, or others wait. Worth another try soon.
        let free_in = free_in.unwrap_or_default();
        Ok(Acquire::Busy { session: Box::new(read.session(self.quiet_gap)?), free_in })
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
            Purpose::Inspect | Purpose::Probe => {
                ours.add(Expr::cust(sql::filled("telegram_sessions.tenant_id", "telegram_sessions.app_id")))
            }
        }
    }

    async fn is_switched_off(&self, tx: &DatabaseTransaction) -> Result<bool, Error> {
        let mut query = Query::select();
        query.expr(Expr::value(1)).and_where(Expr::cust(sql::switched_off()));
        Ok(tx.query_one(&query).await.map_err(classify(GRANTING))?.is_some())
    }
}

/// The log tells who got a session; the service's own looks at it would drown that.
fn event(ask: &Ask<Request, Acquire>, epoch: i64) -> Option<Told> {
    match ask.work.purpose {
        Purpose::Inspect | Purpose::Probe => None,
        Purpose::Lend => Some(Told {
            key: ask.work.key.clone(),
            event: NewEvent::of(Kind::LeaseGranted, &ask.caller.subject)
                .detail("holder", ask.work.holder.as_str())
                .detail("epoch", epoch),
            time: ask.caller.now,
        }),
    }
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
        && read.purpose() == request.purpose
        && row.lease_id_hash.as_deref() == Some(&hash(&request.lease_id))
}

/// A lease that was granted just now: its whole span. The holder counts from before it asked, so it stops before the
/// row's expiry, which counts from the statement.
pub(super) fn fresh(
    request: &Request,
    decided: &Decided,
    sealed: Option<SealedMaterial>,
) -> Result<Acquire, Error> {
    let Decided { epoch, acquire_time, material_version } = *decided;
    Ok(granted(request, epoch, acquire_time, request.ttl, fitting(sealed, material_version)?))
}

/// A lease that was granted earlier, to the same request: what is left of it.
fn remaining(request: &Request, read: &Read, sealed: Option<SealedMaterial>) -> Result<Acquire, Error> {
    let corrupt = || Error::Corrupt { what: "lease" };
    let (ttl, row) = (read.live().ok_or_else(corrupt)?, &read.row);
    let acquire_time = row.lease_acquire_time.ok_or_else(corrupt)?;
    Ok(granted(request, row.lease_epoch, acquire_time, ttl, fitting(sealed, row.material_version)?))
}

fn granted(
    request: &Request,
    epoch: i64,
    acquire_time: i64,
    ttl: Duration,
    sealed: SealedMaterial,
) -> Acquire {
    let lease = Lease {
        lease_id: request.lease_id.clone(),
        key: request.key.clone(),
        holder: request.holder.clone(),
        epoch,
        ttl,
        renew_after: Lease::renewed_after(ttl),
        acquire_time: Timestamp::from_millis(acquire_time),
    };
    Acquire::Granted(Box::new(Grant { lease, sealed }))
}

fn fitting(sealed: Option<SealedMaterial>, version: i64) -> Result<SealedMaterial, Error> {
    match sealed {
        None => Err(Error::Corrupt { what: "a session that was lent has no material" }),
        Some(sealed) if sealed.version != version => {
            Err(Error::Corrupt { what: "material and session differ in version" })
        }
        Some(sealed) => Ok(sealed),
    }
}
