//! Renewals: an extension by the span that was granted, for the lease's own holder while nothing speaks against it.

use std::{collections::HashMap, time::Duration};

use sea_orm::{ConnectionTrait as _, DatabaseTransaction, QueryResult};

use crate::{
    domain::{
        caller::{Authority, Caller},
        id::{Holder, LeaseId},
        lease::Lease,
        session::StateName,
        time::Timestamp,
    },
    store::{
        Error, Store,
        error::classify,
        leases::{
            desk::{self, Ask, Item},
            hash, of_caller, tenant_of,
        },
        rows::key,
    },
};

const RENEWING: &str = "renewing a lease";

/// How a renewal ended.
#[derive(Debug)]
pub enum Renew {
    Renewed {
        lease: Lease,
        /// Where the session stood: a proof of life makes an overdue one current.
        state: StateName,
    },
    /// Never granted to this caller, over, or released.
    NotHeld,
    /// The lease id is right, the epoch is not.
    EpochStale { current: i64 },
    /// The holder was asked to stop; the lease runs out.
    Evicted,
    /// The session's state or custody changed meanwhile; the lease runs out.
    NotLendable(Box<crate::domain::session::Session>),
}

/// A renewal that was asked for.
pub(super) struct Renewal {
    pub(super) lease: LeaseId,
    pub(super) hash: String,
    epoch: i64,
    /// When Telegram last answered the holder.
    activity: Option<Timestamp>,
}

/// The same as the statement takes it.
#[derive(serde::Serialize)]
struct Asked<'a> {
    ask_hash: &'a str,
    ask_epoch: i64,
    ask_subject: &'a str,
    ask_activity: Option<i64>,
}

impl Store {
    /// Extends the lease by the span it was granted for, counted from now. `activity` is when Telegram last answered
    /// the holder; a time to come is taken as now.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`]: the holder goes by the deadline it knows of.
    pub async fn renew(
        &self,
        caller: &Caller,
        lease: &LeaseId,
        epoch: i64,
        activity: Option<Timestamp>,
    ) -> Result<Renew, Error> {
        let renewal = Renewal { lease: lease.clone(), hash: hash(lease), epoch, activity };
        self.served(caller.deadline, RENEWING, desk::ask(caller, renewal, Item::Renew)).await
    }

    pub(super) async fn renew_all(
        &self,
        tx: &DatabaseTransaction,
        asks: &[Ask<Renewal, Renew>],
        authority: &Authority,
    ) -> Result<Vec<Renew>, Error> {
        if asks.is_empty() {
            return Ok(Vec::new());
        }
        let values = [
            Self::renewals_asked(asks).into(),
            self.environment.as_str().into(),
            tenant_of(authority).into(),
        ];
        let rows = tx
            .query_all_raw(self.statement(&self.desk.texts.renew, values))
            .await
            .map_err(classify(RENEWING))?;
        let mut renewed = Self::renewed(&rows)?;
        let mut answers = Vec::with_capacity(asks.len());
        for ask in asks {
            answers.push(match renewed.remove(&ask.work.hash) {
                Some(row) => extended(row, &ask.work.lease)?,
                None => self.not_renewed(tx, ask).await?,
            });
        }
        Ok(answers)
    }

    /// The asks as the statement takes them.
    pub(super) fn renewals_asked(asks: &[Ask<Renewal, Renew>]) -> String {
        desk::list(asks.iter().map(|ask| Asked {
            ask_hash: &ask.work.hash,
            ask_epoch: ask.work.epoch,
            ask_subject: &ask.caller.subject,
            ask_activity: ask.work.activity.map(Timestamp::as_millis),
        }))
    }

    /// Rows that were extended, by the hash of their lease.
    pub(super) fn renewed(rows: &[QueryResult]) -> Result<HashMap<String, &QueryResult>, Error> {
        rows.iter()
            .map(|row| Ok((row.try_get("", "lease_id_hash").map_err(classify(RENEWING))?, row)))
            .collect()
    }

    async fn not_renewed(&self, tx: &DatabaseTransaction, ask: &Ask<Renewal, Renew>) -> Result<Renew, Error> {
        let Some(read) = self.read_where(tx, of_caller(&ask.caller, &ask.work.lease)).await? else {
            return Ok(Renew::NotHeld);
        };
        if read.live().is_none() {
            return Ok(Renew::NotHeld);
        }
        if read.row.lease_epoch != ask.work.epoch {
            return Ok(Renew::EpochStale { current: read.row.lease_epoch });
        }
        if read.row.lease_evicted {
            return Ok(Renew::Evicted);
        }
        Ok(Renew::NotLendable(Box::new(read.session(self.quiet_gap)?)))
    }
}

/// The whole span: the holder counts it from before it asked, the row from the statement, which was later.
pub(super) fn extended(row: &QueryResult, lease_id: &LeaseId) -> Result<Renew, Error> {
    let corrupt = || Error::Corrupt { what: "lease" };
    let text = |column| row.try_get::<String>("", column).map_err(classify(RENEWING));
    let number = |column| row.try_get::<i64>("", column).map_err(classify(RENEWING));
    let ttl = Duration::from_millis(u64::try_from(number("lease_ttl")?).map_err(|_| corrupt())?);
    let lease = Lease {
        lease_id: lease_id.clone(),
        key: key(&text("tenant_id")?, &text("app_id")?)?,
        holder: Holder::parse(&text("lease_holder")?).map_err(|_| corrupt())?,
        epoch: number("lease_epoch")?,
        ttl,
        renew_after: Lease::renewed_after(ttl),
        acquire_time: Timestamp::from_millis(number("lease_acquire_time")?),
    };
    let state = StateName::parse(&text("state")?).ok_or(Error::Corrupt { what: "state" })?;
    Ok(Renew::Renewed { lease, state })
}
