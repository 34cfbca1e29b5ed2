//! Releases: the end of a lease in its holder's own words.

use std::{collections::HashMap, time::Duration};

use sea_orm::{ConnectionTrait as _, DatabaseTransaction, FromQueryResult, QueryResult};

use crate::{
    domain::{
        caller::{Authority, Caller},
        event::{Kind, NewEvent},
        id::{LeaseId, SessionKey},
        lease::{Ended, Purpose, Release},
    },
    store::{
        Error, Store,
        error::classify,
        events::Told,
        leases::{
            desk::{self, Ask, Item},
            hash, of_caller, tenant_of,
        },
        rows::{LeaseColumns, key},
    },
};

const RELEASING: &str = "releasing a lease";

/// How a release ended.
#[derive(Debug)]
pub enum Released {
    /// Ended, now or by an earlier release of the same lease.
    Done(Box<Ended>),
    NotHeld,
    EpochStale {
        current: i64,
    },
}

/// The row that a release ended a lease in.
#[derive(FromQueryResult)]
pub(super) struct Row {
    tenant_id: String,
    app_id: String,
    lease_id_hash: String,
    lease_holder: Option<String>,
    lease_purpose: Option<String>,
    lease_drain_reason: Option<String>,
    lease_epoch: i64,
    lease_acquire_time: Option<i64>,
    lease_expire_time: Option<i64>,
    lease_evicted: bool,
    lease_released: bool,
    db_now: i64,
}

impl Row {
    fn lease(&self) -> LeaseColumns<'_> {
        LeaseColumns {
            holder: self.lease_holder.as_deref(),
            purpose: self.lease_purpose.as_deref(),
            drain_reason: self.lease_drain_reason.as_deref(),
            epoch: self.lease_epoch,
            acquire_time: self.lease_acquire_time,
            expire_time: self.lease_expire_time,
            evicted: self.lease_evicted,
            released: self.lease_released,
            now: self.db_now,
        }
    }

    pub(super) fn view(&self, quiet_gap: Duration) -> Result<Ended, Error> {
        Ok(Ended {
            key: key(&self.tenant_id, &self.app_id)?,
            epoch: self.lease_epoch,
            rest: self.lease().view(quiet_gap)?,
        })
    }
}

/// A release that was asked for.
pub(super) struct Ending {
    lease: LeaseId,
    pub(super) hash: String,
    epoch: i64,
    how: Release,
}

/// The same as the statement takes it.
#[derive(serde::Serialize)]
struct Asked<'a> {
    ask_hash: &'a str,
    ask_epoch: i64,
    ask_subject: &'a str,
    ask_closed: bool,
}

impl Store {
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
        let ending = Ending { lease: lease.clone(), hash: hash(lease), epoch, how };
        self.served(caller.deadline, RELEASING, desk::ask(caller, ending, Item::Release)).await
    }

    pub(super) async fn release_all(
        &self,
        tx: &DatabaseTransaction,
        asks: &[Ask<Ending, Released>],
        authority: &Authority,
        told: &mut Vec<Told>,
    ) -> Result<Vec<Released>, Error> {
        if asks.is_empty() {
            return Ok(Vec::new());
        }
        let values = [Self::releases_asked(asks).into(), tenant_of(authority).into()];
        let rows = tx
            .query_all_raw(self.statement(&self.desk.texts.release, values))
            .await
            .map_err(classify(RELEASING))?;
        let mut ended = Self::ended(&rows)?;
        let mut answers = Vec::with_capacity(asks.len());
        for ask in asks {
            answers.push(match ended.remove(&ask.work.hash) {
                Some(row) => {
                    let ended = row.view(self.quiet_gap)?;
                    told.extend(event(ask, row.lease().purpose(), &ended.key));
                    Released::Done(Box::new(ended))
                }
                None => self.not_released(tx, ask).await?,
            });
        }
        Ok(answers)
    }

    /// The asks as the statement takes them.
    pub(super) fn releases_asked(asks: &[Ask<Ending, Released>]) -> String {
        desk::list(asks.iter().map(|ask| Asked {
            ask_hash: &ask.work.hash,
            ask_epoch: ask.work.epoch,
            ask_subject: &ask.caller.subject,
            ask_closed: ask.work.how == Release::ConnectionsClosed,
        }))
    }

    /// Rows whose lease was ended, by the hash of it.
    pub(super) fn ended(rows: &[QueryResult]) -> Result<HashMap<String, Row>, Error> {
        rows.iter()
            .map(|row| {
                let row = Row::from_query_result(row, "").map_err(classify(RELEASING))?;
                Ok((row.lease_id_hash.clone(), row))
            })
            .collect()
    }

    async fn not_released(
        &self,
        tx: &DatabaseTransaction,
        ask: &Ask<Ending, Released>,
    ) -> Result<Released, Error> {
        let Some(read) = self.read_where(tx, of_caller(&ask.caller, &ask.work.lease)).await? else {
            return Ok(Released::NotHeld);
        };
        if read.row.lease_epoch != ask.work.epoch {
            return Ok(Released::EpochStale { current: read.row.lease_epoch });
        }
        let key = key(&read.row.tenant_id, &read.row.app_id)?;
        let rest = read.lease().view(self.quiet_gap)?;
        Ok(Released::Done(Box::new(Ended { key, epoch: ask.work.epoch, rest })))
    }
}

/// The log tells who gave a session back; the service's own looks at it would drown that.
fn event(ask: &Ask<Ending, Released>, purpose: Purpose, key: &SessionKey) -> Option<Told> {
    let closed = match ask.work.how {
        Release::ConnectionsClosed => "closed",
        Release::ConnectionsUnknown => "unknown",
    };
    match purpose {
        Purpose::Inspect | Purpose::Probe => None,
        Purpose::Lend => Some(Told {
            key: key.clone(),
            event: NewEvent::of(Kind::LeaseReleased, &ask.caller.subject)
                .detail("epoch", ask.work.epoch)
                .detail("connections", closed),
            time: ask.caller.now,
        }),
    }
}
