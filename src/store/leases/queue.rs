//! Who waits for a session: first come, first served.
//!
//! A place lives in the database until its deadline, so that a retry at any replica finds it again by the id that the
//! lease will get. It keeps others back only while its owner was seen lately: a waiter whose replica died does not hold
//! up the rest, and still comes before those who came after it once it is back.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, Statement};

use crate::{
    domain::{
        caller::Caller,
        id::{LeaseId, SessionKey},
        time::millis,
    },
    store::{
        Backend, Error, Store,
        clock::text as clock,
        error::classify,
        leases::{hash, tenant_of},
        tx::{Access, commit, within},
    },
};

/// How long after it was last seen a waiter keeps others back.
pub const PRESENCE: Duration = Duration::from_secs(5);
/// How many may wait for one session.
pub const PLACES_MAX: i64 = 100;

const QUEUEING: &str = "waiting for a lease";
const LEAVING: &str = "leaving a queue";

/// Where a waiter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// So many that were seen lately come first.
    After(u64),
    /// No room, or no such session any more.
    None,
}

impl Store {
    /// Takes a place in the session's queue, or is seen at the one it has.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`]: a place may have been taken; it ends by itself.
    pub async fn queue(
        &self,
        caller: &Caller,
        key: &SessionKey,
        lease: &LeaseId,
        wait: Duration,
    ) -> Result<Place, Error> {
        let now = clock(self.backend);
        let greatest = match self.backend {
            Backend::Postgres => "greatest",
            Backend::Sqlite => "max",
        };
        let join = format!(
            "insert into lease_waits (tenant_id, app_id, waiter, seen_time, deadline) \
             select tenant_id, app_id, $3, {now}, {now} + $4 from telegram_sessions \
             where tenant_id = $1 and app_id = $2 and ($6 = '' or tenant_id = $6) and ( \
             exists (select 1 from lease_waits as own where own.waiter = $3) or $5 > ( \
             select count(*) from lease_waits as others where others.tenant_id = $1 and others.app_id = $2 \
             and others.deadline > {now})) \
             on conflict (waiter) do update set seen_time = excluded.seen_time, \
             deadline = {greatest}(lease_waits.deadline, excluded.deadline) returning place"
        );
        let ahead = format!(
            "select count(*) as ahead from lease_waits where tenant_id = $1 and app_id = $2 and place < $3 \
             and deadline > {now} and seen_time > {now} - {}",
            PRESENCE.as_millis()
        );
        within(caller.deadline, QUEUEING, async {
            let tx = self.begin(caller, Access::Write, QUEUEING).await?;
            let values = [
                key.tenant.as_str().into(),
                key.app.as_str().into(),
                hash(lease).into(),
                millis(wait).into(),
                PLACES_MAX.into(),
                tenant_of(&caller.authority).into(),
            ];
            let joined = tx.query_one_raw(self.statement(&join, values)).await.map_err(classify(QUEUEING))?;
            let place = match joined {
                None => Place::None,
                Some(row) => {
                    let place: i64 = row.try_get("", "place").map_err(classify(QUEUEING))?;
                    let values = [key.tenant.as_str().into(), key.app.as_str().into(), place.into()];
                    let row =
                        tx.query_one_raw(self.statement(&ahead, values)).await.map_err(classify(QUEUEING))?;
                    let ahead: i64 = row
                        .ok_or(Error::Corrupt { what: "count of waiters" })?
                        .try_get("", "ahead")
                        .map_err(classify(QUEUEING))?;
                    Place::After(u64::try_from(ahead).unwrap_or(0))
                }
            };
            commit(tx, QUEUEING).await?;
            Ok(place)
        })
        .await
    }

    /// Gives a place up. One that is not there is as good.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`]: the place ends by itself.
    pub async fn leave_queue(&self, caller: &Caller, lease: &LeaseId) -> Result<(), Error> {
        let values = [hash(lease).into(), tenant_of(&caller.authority).into()];
        let delete = "delete from lease_waits where waiter = $1 and ($2 = '' or tenant_id = $2)";
        self.run(caller, LEAVING, self.statement(delete, values)).await
    }

    /// Whether somebody waits for the session and was seen lately.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn is_wanted(&self, caller: &Caller, key: &SessionKey) -> Result<bool, Error> {
        let now = clock(self.backend);
        let text = format!(
            "select 1 as wanted from lease_waits where tenant_id = $1 and app_id = $2 and deadline > {now} \
             and seen_time > {now} - {} limit 1",
            PRESENCE.as_millis()
        );
        let query = self.statement(&text, [key.tenant.as_str().into(), key.app.as_str().into()]);
        within(caller.deadline, QUEUEING, async {
            let tx = self.begin(caller, Access::Read, QUEUEING).await?;
            let found = tx.query_one_raw(query).await.map_err(classify(QUEUEING))?;
            commit(tx, QUEUEING).await?;
            Ok(found.is_some())
        })
        .await
    }

    /// Forgets places whose deadline is over.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn forget_places(&self, caller: &Caller) -> Result<(), Error> {
        let text = format!("delete from lease_waits where deadline <= {}", clock(self.backend));
        self.run(caller, LEAVING, self.statement(&text, [])).await
    }

    async fn run(&self, caller: &Caller, doing: &'static str, statement: Statement) -> Result<(), Error> {
        within(caller.deadline, doing, async {
            let tx = self.begin(caller, Access::Write, doing).await?;
            tx.execute_raw(statement).await.map_err(classify(doing))?;
            commit(tx, doing).await
        })
        .await
    }

    pub(in crate::store) fn statement(
        &self,
        text: &str,
        values: impl IntoIterator<Item = sea_orm::Value>,
    ) -> Statement {
        let backend = match self.backend {
            Backend::Postgres => sea_orm::DbBackend::Postgres,
            Backend::Sqlite => sea_orm::DbBackend::Sqlite,
        };
        Statement::from_sql_and_values(backend, text, values)
    }
}
