//! Asking a holder to stop. Nobody can take a live lease away: its holder may still be connected.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, ExprTrait as _,
    sea_query::{Expr, Query, UpdateStatement},
};

use crate::{
    domain::{
        caller::Caller,
        event::{Kind, NewEvent},
        id::SessionKey,
        lease::Drain,
        session::Session,
    },
    store::{
        Error, Store,
        clock::now,
        entity::session::{Column, Entity},
        error::classify,
        events,
        rows::{Read, returning},
        scope,
        tx::{Access, commit, within},
    },
};

const EVICTING: &str = "evicting a lease";

impl Store {
    /// Refuses further renewals of the session's lease, if there is one, or only of the one of `epoch`; it runs out,
    /// then rests. Answers the session as it then is.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn evict(
        &self,
        caller: &Caller,
        key: &SessionKey,
        epoch: Option<i64>,
        why: Drain,
    ) -> Result<Session, Error> {
        within(caller.deadline, EVICTING, async {
            let tx = self.begin(caller, Access::Write, EVICTING).await?;
            let mut query = self.ask_to_stop(caller, key, why);
            query.value(Column::LeaseEvicted, true).returning(returning(self.backend));
            if let Some(epoch) = epoch {
                query.and_where(Column::LeaseEpoch.eq(epoch));
            }
            let read = match tx.query_one(&query).await.map_err(classify(EVICTING))? {
                Some(row) => {
                    let read = Read::from_result(&row)?;
                    let event = NewEvent::of(Kind::LeaseEvicted, &caller.subject)
                        .detail("epoch", read.row.lease_epoch)
                        .detail("reason", why.name());
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

    /// Asks whoever holds the session to give it back, and goes on renewing the lease until they do. Nobody who holds
    /// it is as good.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn ask_back(&self, caller: &Caller, key: &SessionKey, why: Drain) -> Result<(), Error> {
        within(caller.deadline, EVICTING, async {
            let tx = self.begin(caller, Access::Write, EVICTING).await?;
            let mut query = self.ask_to_stop(caller, key, why);
            query.and_where(Column::LeaseDrainReason.is_null());
            tx.execute(&query).await.map_err(classify(EVICTING))?;
            commit(tx, EVICTING).await
        })
        .await
    }

    /// A change of the live lease that nobody was told to give up yet.
    fn ask_to_stop(&self, caller: &Caller, key: &SessionKey, why: Drain) -> UpdateStatement {
        let mut query = Query::update();
        query
            .table(Entity)
            .value(Column::LeaseDrainReason, why.name())
            .cond_where(scope::session(caller, key))
            .and_where(Column::LeaseEvicted.eq(false))
            .and_where(Column::LeaseReleased.eq(false))
            .and_where(Expr::col(Column::LeaseExpireTime).gt(now(self.backend)));
        query
    }
}
