//! What the service asks of the database to look after sessions by itself: whom to look at next, who was silent for
//! too long, and that one was seen alive.
//!
//! Times are judged on the database's clock. The columns are in no index: every renewal writes one of them, and a
//! scan now and then costs less than an index that each of them would have to keep up.

use std::time::Duration;

use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait as _, ExprTrait as _, QueryResult,
    sea_query::{Expr, Order, Query, SelectStatement, SimpleExpr},
};

use crate::{
    domain::{
        caller::Caller,
        id::{LeaseId, SessionKey},
        session::{Custody, Session, StaleReason, StateName},
        time::millis,
    },
    store::{
        Error, Store,
        clock::{self, now, now_once},
        entity::{
            pace,
            session::{Column, Entity},
        },
        error::classify,
        leases::{self, queue::PRESENCE, sql},
        paces::{OF_DC, OF_SESSION, later_of},
        rows::{Read, columns, key, returning},
        scope,
        sessions::no_lease,
        tx::{Access, commit, within},
    },
};

/// When a session is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// After so long without a proof of life.
    pub silent_for: Duration,
    /// After so long in doubt.
    pub second_look: Duration,
}

/// A session to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub key: SessionKey,
    /// Where its authorization lives.
    pub dc: i32,
}

const LISTING: &str = "listing sessions to look at";
const CHECKING: &str = "checking whether a session is to be looked at";
const PROVING: &str = "noting that a session lives";

impl Store {
    /// Sessions to look at that nobody holds, those first whose last proof of life is the oldest; none of these data
    /// centres.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`], [`Error::Corrupt`].
    pub async fn candidates(
        &self,
        caller: &Caller,
        due: &Due,
        without_dcs: &[i32],
        limit: u64,
    ) -> Result<Vec<Candidate>, Error> {
        let mut query = Query::select();
        query
            .columns([Column::TenantId, Column::AppId, Column::DcId])
            .from(Entity)
            .cond_where(scope::sessions(caller))
            .cond_where(self.due(due))
            .order_by_expr(self.proof(), Order::Asc)
            .limit(limit);
        if !without_dcs.is_empty() {
            query.and_where(Column::DcId.is_not_in(without_dcs.iter().copied()));
        }
        let rows = self.listed(caller, &query).await?;
        rows.iter()
            .map(|row| {
                let corrupt = |_| Error::Corrupt { what: "a session to look at" };
                let (tenant, app): (String, String) = (
                    row.try_get("", "tenant_id").map_err(corrupt)?,
                    row.try_get("", "app_id").map_err(corrupt)?,
                );
                Ok(Candidate { key: key(&tenant, &app)?, dc: row.try_get("", "dc_id").map_err(corrupt)? })
            })
            .collect()
    }

    /// Whether this one is still to be looked at: since it was listed another replica may have done it, or somebody
    /// may wait for it.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn is_due(&self, caller: &Caller, key: &SessionKey, due: &Due) -> Result<bool, Error> {
        let mut query = Query::select();
        query
            .expr(Expr::value(1))
            .from(Entity)
            .cond_where(scope::session(caller, key))
            .cond_where(self.due(due))
            .and_where(self.is_waited_for().not());
        within(caller.deadline, CHECKING, async {
            let tx = self.begin(caller, Access::Read, CHECKING).await?;
            let row = tx.query_one(&query).await.map_err(classify(CHECKING))?;
            commit(tx, CHECKING).await?;
            Ok(row.is_some())
        })
        .await
    }

    /// The data centres of sessions that should live and gave no proof of it for so long, lent or not.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`], [`Error::Corrupt`].
    pub async fn silent_dcs(&self, caller: &Caller, silent_for: Duration) -> Result<Vec<i32>, Error> {
        let mut query = Query::select();
        query
            .distinct()
            .column(Column::DcId)
            .from(Entity)
            .cond_where(scope::sessions(caller))
            .cond_where(self.believed())
            .and_where(self.silent(silent_for));
        let rows = self.listed(caller, &query).await?;
        rows.iter()
            .map(|row| row.try_get("", "dc_id").map_err(|_| Error::Corrupt { what: "dc_id" }))
            .collect()
    }

    /// Sessions of these data centres that count as working and gave no proof of it for so long, lent or not; the
    /// longest silent first. Those of a data centre that asked for quiet are left out: they could not give one.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`], [`Error::Corrupt`].
    pub async fn overdue(
        &self,
        caller: &Caller,
        silent_for: Duration,
        dcs: &[i32],
        limit: u64,
    ) -> Result<Vec<Session>, Error> {
        let mut query = Query::select();
        query
            .exprs(columns(self.backend))
            .from(Entity)
            .cond_where(scope::sessions(caller))
            .cond_where(self.believed())
            .and_where(Column::DcId.is_in(dcs.iter().copied()))
            .and_where(self.silent(silent_for))
            .and_where(self.dc_is_paused().not())
            .order_by_expr(self.proof(), Order::Asc)
            .limit(limit);
        let rows = self.listed(caller, &query).await?;
        rows.iter().map(|row| Read::from_result(row)?.session(self.quiet_gap)).collect()
    }

    /// Notes that the session lives, and ends the caller's own lease under which it was seen; the revision stays, as
    /// with leases. `None` when the lease is over.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`], [`Error::Corrupt`].
    pub async fn prove(
        &self,
        caller: &Caller,
        lease: &LeaseId,
        epoch: i64,
    ) -> Result<Option<Session>, Error> {
        let mut query = Query::update();
        query
            .table(Entity)
            .values(no_lease())
            .value(Column::LastValidatedTime, now(self.backend))
            .cond_where(leases::held(caller, lease, epoch))
            .and_where(Expr::col(Column::LeaseExpireTime).gt(now(self.backend)))
            .returning(returning(self.backend));
        within(caller.deadline, PROVING, async {
            let tx = self.begin(caller, Access::Write, PROVING).await?;
            let row = tx.query_one(&query).await.map_err(classify(PROVING))?;
            let session = row.map(|row| Read::from_result(&row)?.session(self.quiet_gap)).transpose()?;
            commit(tx, PROVING).await?;
            Ok(session)
        })
        .await
    }

    async fn listed(&self, caller: &Caller, query: &SelectStatement) -> Result<Vec<QueryResult>, Error> {
        within(caller.deadline, LISTING, async {
            let tx = self.begin(caller, Access::Read, LISTING).await?;
            let rows = tx.query_all(query).await.map_err(classify(LISTING))?;
            commit(tx, LISTING).await?;
            Ok(rows)
        })
        .await
    }

    /// Ours, free, allowed to be asked, and silent for long enough or in doubt for long enough. Nothing is while the
    /// feature is off: the legacy system owns the sessions then. Restored material waits for an operator.
    fn due(&self, due: &Due) -> Condition {
        let overdue = Condition::all()
            .add(Column::State.eq(StateName::Stale.as_str()))
            .add(Column::StateReason.eq(StaleReason::ValidationOverdue.name()));
        let usable = Condition::any().add(Column::State.eq(StateName::Authorized.as_str())).add(overdue);
        let doubtful = Condition::all()
            .add(Column::State.eq(StateName::Stale.as_str()))
            .add(Column::StateReason.eq(StaleReason::ValidationFailed.name()))
            .add(Expr::col(Column::UpdateTime).lte(now_once(self.backend).sub(millis(due.second_look))));
        self.ours()
            .add(
                Condition::any()
                    .add(Condition::all().add(usable).add(self.silent(due.silent_for)))
                    .add(doubtful),
            )
            .add(Condition::any().add(Column::LeaseExpireTime.is_null()).add(
                Expr::col(Column::LeaseExpireTime).add(millis(self.quiet_gap)).lte(now_once(self.backend)),
            ))
            .add(self.dc_is_paused().not())
            .add(self.session_is_paused().not())
            .add(Expr::cust(sql::switched_off()).not())
    }

    /// In our hands and of our Telegram, with a home.
    fn ours(&self) -> Condition {
        Condition::all()
            .add(Column::Custody.eq(Custody::Service.name()))
            .add(Column::Environment.eq(self.environment.as_str()))
            .add(Column::DcId.is_not_null())
    }

    /// Ours, and working as far as is known.
    fn believed(&self) -> Condition {
        self.ours().add(Column::State.eq(StateName::Authorized.as_str()))
    }

    fn silent(&self, span: Duration) -> SimpleExpr {
        self.proof().lte(now_once(self.backend).sub(millis(span)))
    }

    /// The last proof of life. Material that nobody looked at since it came counts from then: what was before says
    /// nothing about it.
    fn proof(&self) -> SimpleExpr {
        let seen = |column| Expr::col(column).if_null(0_i64);
        let looked = Expr::cust("coalesce(last_validated_time, update_time)");
        later_of(self.backend)(looked, seen(Column::LastActivityTime))
    }

    fn dc_is_paused(&self) -> SimpleExpr {
        self.is_paused(format!("'{OF_DC}' || dc_id"))
    }

    fn session_is_paused(&self) -> SimpleExpr {
        self.is_paused(format!("'{OF_SESSION}' || tenant_id || '/' || app_id"))
    }

    /// Whether a pause of that name lasts. The pauses are read once and hashed; a question per row took ten times as
    /// long.
    fn is_paused(&self, name: String) -> SimpleExpr {
        Expr::cust(name).in_subquery(
            Query::select()
                .column((pace::Entity, pace::Column::Name))
                .from(pace::Entity)
                .and_where(Expr::col((pace::Entity, pace::Column::NextTime)).gt(now_once(self.backend)))
                .take(),
        )
    }

    /// Whether somebody who was seen lately waits for the session: a look would be refused.
    fn is_waited_for(&self) -> SimpleExpr {
        let now = clock::text(self.backend);
        Expr::cust(format!(
            "exists (select 1 from lease_waits as others where others.tenant_id = telegram_sessions.tenant_id \
             and others.app_id = telegram_sessions.app_id and others.deadline > {now} \
             and others.seen_time > {now} - {})",
            PRESENCE.as_millis()
        ))
    }
}
