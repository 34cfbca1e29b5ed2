//! Authorizations that nobody wants any more and that Telegram has not ended yet: noted in the transaction that
//! made them unwanted, forgotten once they are over.

use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, DatabaseTransaction, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, sea_query::Expr,
};

use crate::{
    domain::{
        caller::Caller, id::SessionKey, material::SealedMaterial, session::Environment, time::Timestamp,
    },
    store::{
        Error, Store,
        entity::log_out::{ActiveModel, Column, Entity},
        error::classify,
        rows,
        tx::{Access, commit, within},
    },
};

const LISTING: &str = "listing log-outs to come";
const WRITING: &str = "noting a log-out to come";
const PUTTING_OFF: &str = "putting a log-out off";
const FORGETTING: &str = "forgetting a log-out";

/// A log-out to be noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLogOut {
    pub id: uuid::Uuid,
    /// As it was sealed for its session.
    pub sealed: SealedMaterial,
}

/// A log-out that is still to come.
#[derive(Clone, Debug)]
pub struct LogOut {
    pub id: uuid::Uuid,
    /// The session it was sealed for.
    pub key: SessionKey,
    pub environment: Environment,
    pub sealed: SealedMaterial,
    /// How often it failed.
    pub attempts: u32,
}

impl Store {
    /// Log-outs that are due, the one that waited longest first.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`], [`Error::Corrupt`].
    pub async fn log_outs(&self, caller: &Caller, limit: u64) -> Result<Vec<LogOut>, Error> {
        let rows = within(caller.deadline, LISTING, async {
            let tx = self.begin(caller, Access::Read, LISTING).await?;
            let rows = Entity::find()
                .filter(Column::NextAttemptTime.lte(caller.now.as_millis()))
                .order_by_asc(Column::NextAttemptTime)
                .limit(limit)
                .all(&tx)
                .await
                .map_err(classify(LISTING))?;
            commit(tx, LISTING).await?;
            Ok(rows)
        })
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(LogOut {
                    id: row.id.parse().map_err(|_| Error::Corrupt { what: "id of a log-out" })?,
                    key: rows::key(&row.tenant_id, &row.app_id)?,
                    environment: Environment::new(row.environment),
                    attempts: u32::try_from(row.attempts).unwrap_or(0),
                    sealed: SealedMaterial { bytes: row.sealed, key_id: row.key_id, version: row.version },
                })
            })
            .collect()
    }

    /// Notes one apart from any change of its session.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn note_log_out(
        &self,
        caller: &Caller,
        key: &SessionKey,
        environment: &Environment,
        log_out: &NewLogOut,
    ) -> Result<(), Error> {
        within(caller.deadline, WRITING, async {
            let tx = self.begin(caller, Access::Write, WRITING).await?;
            insert(&tx, key, environment, log_out, caller.now).await?;
            commit(tx, WRITING).await
        })
        .await
    }

    /// Notes some that are to come unless somebody forgets them before they are `due`: for keys that are about to become
    /// authorizations, so that none is left behind should this process die.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn expect_log_outs(
        &self,
        caller: &Caller,
        key: &SessionKey,
        environment: &Environment,
        log_outs: &[NewLogOut],
        due: Timestamp,
    ) -> Result<(), Error> {
        within(caller.deadline, WRITING, async {
            let tx = self.begin(caller, Access::Write, WRITING).await?;
            for log_out in log_outs {
                insert(&tx, key, environment, log_out, due).await?;
            }
            commit(tx, WRITING).await
        })
        .await
    }

    /// Puts one off that failed, so that it does not stand in the way of others.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn put_off_log_out(
        &self,
        caller: &Caller,
        id: uuid::Uuid,
        attempts: u32,
        until: Timestamp,
    ) -> Result<(), Error> {
        within(caller.deadline, PUTTING_OFF, async {
            let tx = self.begin(caller, Access::Write, PUTTING_OFF).await?;
            Entity::update_many()
                .col_expr(Column::Attempts, Expr::value(i32::try_from(attempts).unwrap_or(i32::MAX)))
                .col_expr(Column::NextAttemptTime, Expr::value(until.as_millis()))
                .filter(Column::Id.eq(id.to_string()))
                .exec(&tx)
                .await
                .map_err(classify(PUTTING_OFF))?;
            commit(tx, PUTTING_OFF).await
        })
        .await
    }

    /// Forgets one that is done. Unknown ones are no error: another replica may have done it.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn forget_log_out(&self, caller: &Caller, id: uuid::Uuid) -> Result<(), Error> {
        within(caller.deadline, FORGETTING, async {
            let tx = self.begin(caller, Access::Write, FORGETTING).await?;
            Entity::delete_many()
                .filter(Column::Id.eq(id.to_string()))
                .exec(&tx)
                .await
                .map_err(classify(FORGETTING))?;
            commit(tx, FORGETTING).await
        })
        .await
    }
}

pub(super) async fn forget(tx: &DatabaseTransaction, ids: &[uuid::Uuid]) -> Result<(), Error> {
    Entity::delete_many()
        .filter(Column::Id.is_in(ids.iter().map(uuid::Uuid::to_string)))
        .exec(tx)
        .await
        .map_err(classify(FORGETTING))?;
    Ok(())
}

pub(super) async fn insert(
    tx: &DatabaseTransaction,
    key: &SessionKey,
    environment: &Environment,
    log_out: &NewLogOut,
    now: Timestamp,
) -> Result<(), Error> {
    let row = ActiveModel {
        id: Set(log_out.id.to_string()),
        tenant_id: Set(key.tenant.as_str().to_owned()),
        app_id: Set(key.app.as_str().to_owned()),
        environment: Set(environment.as_str().to_owned()),
        version: Set(log_out.sealed.version),
        key_id: Set(log_out.sealed.key_id.clone()),
        sealed: Set(log_out.sealed.bytes.clone()),
        create_time: Set(now.as_millis()),
        attempts: Set(0),
        next_attempt_time: Set(now.as_millis()),
    };
    Entity::insert(row).exec_without_returning(tx).await.map_err(classify(WRITING))?;
    Ok(())
}
