//! How fast all replicas together may go: each row says when the next step may be, on the database's clock.
//!
//! One statement takes a step or does not, so the rate holds for any number of replicas and none of them leads. A
//! row that nobody wrote holds nobody back. For the service itself: tenants may neither read nor write these.

use std::time::Duration;

use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, ExprTrait as _,
    sea_query::{Expr, OnConflict, Query, SimpleExpr},
};

use crate::{
    domain::{caller::Caller, fingerprint::Fingerprint, id::SessionKey, time::millis},
    store::{
        Backend, Error, Store,
        clock::{NOW, now, now_column},
        entity::pace::{Column, Entity},
        error::classify,
        tx::{Access, commit, within},
    },
};

/// What is kept at a pace.
#[derive(Clone, Copy, Debug)]
pub enum Pace<'a> {
    /// The service's own looks at sessions, all of them.
    Probes,
    /// Those at sessions of one data centre.
    Dc(i32),
    /// Those at one session.
    Session(&'a SessionKey),
    /// Connections with one authorization that is nobody's session yet.
    Authorization(&'a Fingerprint),
}

/// What the names of rows begin with.
pub(super) const OF_DC: &str = "probe:dc:";
pub(super) const OF_SESSION: &str = "probe:session:";

const RESERVING: &str = "reserving a time";
const PAUSING: &str = "noting a pause";
const FORGETTING: &str = "forgetting pauses";

impl Pace<'_> {
    fn name(self) -> String {
        match self {
            Self::Probes => "probe".to_owned(),
            Self::Dc(dc) => format!("{OF_DC}{dc}"),
            Self::Session(key) => format!("{OF_SESSION}{key}"),
            // No session is called so: a name has a slash in it.
            Self::Authorization(print) => format!("{OF_SESSION}{}", print.as_str()),
        }
    }
}

impl Store {
    /// Takes the next free time, at least `step` after the one before, and answers how long it is until then; `None`
    /// when it would be later than `ahead` from now. A time that is taken and not used is lost to everybody.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn reserve(
        &self,
        caller: &Caller,
        pace: Pace<'_>,
        step: Duration,
        ahead: Duration,
    ) -> Result<Option<Duration>, Error> {
        let next = Expr::col((Entity, Column::NextTime));
        let later = later_of(self.backend);
        let mut query = Query::insert();
        query
            .into_table(Entity)
            .columns([Column::Name, Column::NextTime])
            .values_panic([Expr::value(pace.name()), now(self.backend).add(millis(step))])
            .on_conflict(
                OnConflict::column(Column::Name)
                    .value(Column::NextTime, later(next.clone(), now(self.backend)).add(millis(step)))
                    .action_and_where(next.lte(now(self.backend).add(millis(ahead))))
                    .to_owned(),
            )
            .returning(Query::returning().exprs([Expr::col(Column::NextTime), now_column(self.backend)]));
        within(caller.deadline, RESERVING, async {
            let tx = self.begin(caller, Access::Write, RESERVING).await?;
            let row = tx.query_one(&query).await.map_err(classify(RESERVING))?;
            commit(tx, RESERVING).await?;
            let Some(row) = row else { return Ok(None) };
            let number = |name| row.try_get::<i64>("", name).map_err(|_| Error::Corrupt { what: "pace" });
            let taken = number("next_time")?.saturating_sub(millis(step));
            Ok(Some(Duration::from_millis(u64::try_from(taken.saturating_sub(number(NOW)?)).unwrap_or(0))))
        })
        .await
    }

    /// Nothing more of this for so long, by any replica; a longer pause that is known already stays.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn pause(&self, caller: &Caller, pace: Pace<'_>, span: Duration) -> Result<(), Error> {
        let next = Expr::col((Entity, Column::NextTime));
        let later = later_of(self.backend);
        let mut query = Query::insert();
        query
            .into_table(Entity)
            .columns([Column::Name, Column::NextTime])
            .values_panic([Expr::value(pace.name()), now(self.backend).add(millis(span))])
            .on_conflict(
                OnConflict::column(Column::Name)
                    .value(Column::NextTime, later(next, now(self.backend).add(millis(span))))
                    .to_owned(),
            );
        within(caller.deadline, PAUSING, async {
            let tx = self.begin(caller, Access::Write, PAUSING).await?;
            tx.execute(&query).await.map_err(classify(PAUSING))?;
            commit(tx, PAUSING).await
        })
        .await
    }

    /// Forgets the pauses of sessions that are over, so that the table stays small.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn forget_pauses(&self, caller: &Caller) -> Result<(), Error> {
        let mut query = Query::delete();
        query
            .from_table(Entity)
            .and_where(Column::Name.like(format!("{OF_SESSION}%")))
            .and_where(Expr::col(Column::NextTime).lt(now(self.backend)));
        within(caller.deadline, FORGETTING, async {
            let tx = self.begin(caller, Access::Write, FORGETTING).await?;
            tx.execute(&query).await.map_err(classify(FORGETTING))?;
            commit(tx, FORGETTING).await
        })
        .await
    }
}

/// The later of two times; each database has its own name for it.
pub(super) fn later_of(backend: Backend) -> impl Fn(Expr, Expr) -> SimpleExpr {
    move |one, other| {
        let template = match backend {
            Backend::Postgres => "greatest($1, $2)",
            Backend::Sqlite => "max(?, ?)",
        };
        Expr::cust_with_exprs(template, [one, other])
    }
}
