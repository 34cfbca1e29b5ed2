//! How leases stand that others may have ended: what the holders of streams are told without asking.

use std::{collections::HashMap, time::Duration};

use sea_orm::{ConnectionTrait as _, QueryResult};

use crate::{
    domain::{caller::Caller, id::LeaseId, lease::Drain, session::StateName},
    store::{
        Error, Store,
        clock::NOW,
        error::{classify, remaining},
        leases::hash,
        tx::{Access, commit, within},
    },
};

const WATCHING: &str = "watching leases";

/// A lease that is not simply held any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its holder is to give it back. As it stands it lasts so long yet.
    Draining { why: Drain, left: Duration },
    /// Given back by its holder.
    Released,
    /// Its time is over; why it was not renewed, if it was not to be.
    Over { why: Option<Drain> },
    /// The session was lent again, or is gone.
    Replaced,
}

impl Store {
    /// Those of the leases that are not simply held any more, by the numbers the caller gave them. Asks for many at
    /// once, whosesoever they are.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn standing(
        &self,
        caller: &Caller,
        leases: &[(u64, LeaseId)],
    ) -> Result<Vec<(u64, Standing)>, Error> {
        let mut hashes: HashMap<String, Vec<u64>> = HashMap::with_capacity(leases.len());
        for (number, lease) in leases {
            hashes.entry(hash(lease)).or_default().push(*number);
        }
        let list: Vec<_> = hashes.keys().map(|hash| serde_json::json!({ "ask_hash": hash })).collect();
        let values = [serde_json::Value::from(list).to_string().into(), self.environment.as_str().into()];
        let query = self.statement(&self.desk.texts.standing, values);
        let rows = within(caller.deadline, WATCHING, async {
            let tx = self.begin(caller, Access::Read, WATCHING).await?;
            let rows = tx.query_all_raw(query).await.map_err(classify(WATCHING))?;
            commit(tx, WATCHING).await?;
            Ok(rows)
        })
        .await?;
        let mut standings = Vec::new();
        for row in &rows {
            let hash: String = row.try_get("", "ask_hash").map_err(classify(WATCHING))?;
            let standing = standing(row)?;
            let numbers = hashes.get(&hash).into_iter().flatten();
            standings.extend(numbers.map(|number| (*number, standing)));
        }
        Ok(standings)
    }
}

fn standing(row: &QueryResult) -> Result<Standing, Error> {
    let wrong = classify(WATCHING);
    let text = |column| row.try_get::<Option<String>>("", column).map_err(&wrong);
    if text("tenant_id")?.is_none() {
        return Ok(Standing::Replaced);
    }
    let flag = |column| row.try_get::<bool>("", column).map_err(&wrong);
    if flag("lease_released")? {
        return Ok(Standing::Released);
    }
    let now: i64 = row.try_get("", NOW).map_err(&wrong)?;
    let asked = text("lease_drain_reason")?.as_deref().and_then(Drain::parse);
    let evicted = if flag("lease_evicted")? { Some(asked.unwrap_or(Drain::Evicted)) } else { asked };
    let state = text("state")?.as_deref().and_then(StateName::parse);
    let revoked = (state == Some(StateName::Revoked)).then_some(Drain::Revoked);
    match row.try_get::<Option<i64>>("", "lease_expire_time").map_err(&wrong)? {
        Some(expires) if expires > now => Ok(Standing::Draining {
            // What is neither evicted nor revoked has left our hands, or its material is in doubt.
            why: revoked.or(evicted).unwrap_or(Drain::Revoked),
            left: remaining(expires, now),
        }),
        Some(_) => Ok(Standing::Over { why: revoked.or(evicted) }),
        // A change of the session, such as its end, took the lease with it.
        None => Ok(Standing::Over { why: revoked.or(evicted) }),
    }
}
