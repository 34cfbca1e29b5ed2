//! Sealed key material, beside its session's row. The store never sees it open.

use sea_orm::{
    ActiveValue::Set, DatabaseTransaction, EntityTrait as _, QueryFilter as _, sea_query::OnConflict,
};

use crate::{
    domain::{caller::Caller, id::SessionKey, material::SealedMaterial, time::Timestamp},
    store::{
        Error, Store,
        entity::material::{ActiveModel, Column, Entity},
        error::classify,
        scope,
        tx::{Access, commit, within},
    },
};

impl Store {
    /// The session's sealed material; `None` if there is none, or no such session.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn material(&self, caller: &Caller, key: &SessionKey) -> Result<Option<SealedMaterial>, Error> {
        const DOING: &str = "reading sealed material";
        within(caller.deadline, DOING, async {
            let tx = self.begin(caller, Access::Read, DOING).await?;
            let sealed = read(&tx, caller, key).await?;
            commit(tx, DOING).await?;
            Ok(sealed)
        })
        .await
    }
}

pub(super) async fn read(
    tx: &DatabaseTransaction,
    caller: &Caller,
    key: &SessionKey,
) -> Result<Option<SealedMaterial>, Error> {
    let row = Entity::find()
        .filter(scope::material(caller, key))
        .one(tx)
        .await
        .map_err(classify("reading sealed material"))?;
    Ok(row.map(|row| SealedMaterial { bytes: row.sealed, key_id: row.key_id, version: row.version }))
}

pub(super) async fn replace(
    tx: &DatabaseTransaction,
    key: &SessionKey,
    sealed: SealedMaterial,
    now: Timestamp,
) -> Result<(), Error> {
    let row = ActiveModel {
        tenant_id: Set(key.tenant.as_str().to_owned()),
        app_id: Set(key.app.as_str().to_owned()),
        version: Set(sealed.version),
        key_id: Set(sealed.key_id),
        sealed: Set(sealed.bytes),
        update_time: Set(now.as_millis()),
    };
    Entity::insert(row)
        .on_conflict(
            OnConflict::columns([Column::TenantId, Column::AppId])
                .update_columns([Column::Version, Column::KeyId, Column::Sealed, Column::UpdateTime])
                .to_owned(),
        )
        .exec_without_returning(tx)
        .await
        .map_err(classify("writing sealed material"))?;
    Ok(())
}

pub(super) async fn wipe(tx: &DatabaseTransaction, caller: &Caller, key: &SessionKey) -> Result<(), Error> {
    Entity::delete_many()
        .filter(scope::material(caller, key))
        .exec(tx)
        .await
        .map_err(classify("wiping sealed material"))?;
    Ok(())
}
