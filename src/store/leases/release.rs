//! Releases: the end of a lease in its holder's own words.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait as _, DatabaseTransaction, QueryResult};

use crate::{
    domain::{
        caller::{Authority, Caller},
        event::{Kind, NewEvent},
        id::LeaseId,
        lease::{Purpose, Release},
        session::Session,
    },
    store::{
        Error, Store,
        error::classify,
        events::Told,
        leases::{
            desk::{self, Ask, Item},
            hash, of_caller, tenant_of,
        },
        rows::{Read, key},
    },
};

const RELEASING: &str = "releasing a lease";

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

/// A release that was asked for.
pub(super) struct Ending {
    lease: LeaseId,
    pub(super) hash: String,
    epoch: i64,
    how: Release,
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
                Some(read) => {
                    told.extend(event(ask, &read)?);
                    Released::Done(Box::new(read.session(self.quiet_gap)?))
                }
                None => self.not_released(tx, ask).await?,
            });
        }
        Ok(answers)
    }

    /// The asks as the statement takes them.
    pub(super) fn releases_asked(asks: &[Ask<Ending, Released>]) -> String {
        let list: Vec<_> = asks
            .iter()
            .map(|ask| {
                serde_json::json!({
                    "ask_hash": ask.work.hash,
                    "ask_epoch": ask.work.epoch,
                    "ask_subject": ask.caller.subject,
                    "ask_closed": ask.work.how == Release::ConnectionsClosed,
                })
            })
            .collect();
        serde_json::Value::from(list).to_string()
    }

    /// Rows whose lease was ended, by the hash of it.
    pub(super) fn ended(rows: &[QueryResult]) -> Result<HashMap<String, Read>, Error> {
        rows.iter()
            .map(|row| {
                let read = Read::from_result(row)?;
                Ok((read.row.lease_id_hash.clone().unwrap_or_default(), read))
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
        Ok(Released::Done(Box::new(read.session(self.quiet_gap)?)))
    }
}

/// The log tells who gave a session back; the service's own looks at it would drown that.
fn event(ask: &Ask<Ending, Released>, read: &Read) -> Result<Option<Told>, Error> {
    let closed = match ask.work.how {
        Release::ConnectionsClosed => "closed",
        Release::ConnectionsUnknown => "unknown",
    };
    match read.purpose() {
        Purpose::Inspect | Purpose::Probe => Ok(None),
        Purpose::Lend => Ok(Some(Told {
            key: key(&read.row.tenant_id, &read.row.app_id)?,
            event: NewEvent::of(Kind::LeaseReleased, &ask.caller.subject)
                .detail("epoch", ask.work.epoch)
                .detail("connections", closed),
            time: ask.caller.now,
        })),
    }
}
