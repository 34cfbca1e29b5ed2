//! Tokens of a session's earlier log-outs, sealed by the vault: with them its account signs in without a code.

use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, DatabaseTransaction, EntityTrait as _, QueryFilter as _,
    sea_query::OnConflict,
};

use crate::{
    domain::{caller::Caller, id::SessionKey},
    store::{
        Error, Store,
        entity::tokens::{ActiveModel, Column, Entity},
        error::classify,
        tx::{Access, commit, within},
    },
};

const READING: &str = "reading tokens of log-outs";
const WRITING: &str = "writing tokens of log-outs";

impl Store {
    /// What was stored last; `None` also for another tenant's.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn future_auth_tokens(
        &self,
        caller: &Caller,
        key: &SessionKey,
    ) -> Result<Option<Vec<u8>>, Error> {
        if !caller.sees(&key.tenant) {
            return Ok(None);
        }
        within(caller.deadline, READING, async {
            let tx = self.begin(caller, Access::Read, READING).await?;
            let row = Entity::find()
                .filter(Column::TenantId.eq(key.tenant.as_str()))
                .filter(Column::AppId.eq(key.app.as_str()))
                .one(&tx)
                .await
                .map_err(classify(READING))?;
            commit(tx, READING).await?;
            Ok(row.map(|row| row.sealed))
        })
        .await
    }
}

pub(super) async fn replace(
    tx: &DatabaseTransaction,
    key: &SessionKey,
    sealed: Vec<u8>,
) -> Result<(), Error> {
    let row = ActiveModel {
        tenant_id: Set(key.tenant.as_str().to_owned()),
        app_id: Set(key.app.as_str().to_owned()),
        sealed: Set(sealed),
    };
    Entity::insert(row)
        .on_conflict(
            OnConflict::columns([Column::TenantId, Column::AppId]).update_column(Column::Sealed).to_owned(),
        )
        .exec_without_returning(tx)
        .await
        .map_err(classify(WRITING))?;
    Ok(())
}
