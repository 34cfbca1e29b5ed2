//! What the database remembers about itself, shared by every replica.

use std::time::{Duration, Instant};

use sea_orm::{ActiveValue::Set, EntityTrait as _, sea_query::OnConflict};

use crate::{
    domain::{caller::Caller, time::Timestamp},
    store::{
        Error, Store,
        entity::setting::{ActiveModel, Column, Entity},
        error::classify,
        tx::{Access, commit, within},
    },
};

/// `false` refuses new leases, in the very statement that would grant one.
pub const FEATURE: &str = "feature_unified_session_manager";
/// What [`FEATURE`] holds to refuse.
pub const FEATURE_OFF: &str = "false";
pub const FEATURE_ON: &str = "true";

const READING: &str = "reading a setting";
const WRITING: &str = "writing a setting";

impl Store {
    /// A setting's value; `None` before it was first written.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn setting(&self, caller: &Caller, name: &str) -> Result<Option<String>, Error> {
        within(caller.deadline, READING, async {
            let tx = self.begin(caller, Access::Read, READING).await?;
            let row = Entity::find_by_id(name.to_owned()).one(&tx).await.map_err(classify(READING))?;
            commit(tx, READING).await?;
            Ok(row.map(|row| row.value))
        })
        .await
    }

    /// Writes a setting, whatever it was. For service callers only.
    ///
    /// # Errors
    /// [`Error::Denied`] for a tenant's caller on PostgreSQL, [`Error::Unavailable`], [`Error::Timeout`].
    pub async fn set_setting(&self, caller: &Caller, name: &str, value: &str) -> Result<(), Error> {
        within(caller.deadline, WRITING, async {
            let tx = self.begin(caller, Access::Write, WRITING).await?;
            Entity::insert(ActiveModel { name: Set(name.to_owned()), value: Set(value.to_owned()) })
                .on_conflict(OnConflict::column(Column::Name).update_column(Column::Value).to_owned())
                .exec_without_returning(&tx)
                .await
                .map_err(classify(WRITING))?;
            commit(tx, WRITING).await
        })
        .await
    }

    /// Writes a setting unless it is there, and tells what is there now.
    pub(super) async fn first_setting(
        &self,
        name: &str,
        value: &str,
        patience: Duration,
    ) -> Result<String, Error> {
        let deadline = Instant::now() + patience;
        let caller = Caller::as_service("usm", Timestamp::EPOCH, deadline);
        within(deadline, WRITING, async {
            let tx = self.begin(&caller, Access::Write, WRITING).await?;
            Entity::insert(ActiveModel { name: Set(name.to_owned()), value: Set(value.to_owned()) })
                .on_conflict(OnConflict::column(Column::Name).do_nothing().to_owned())
                .exec_without_returning(&tx)
                .await
                .map_err(classify(WRITING))?;
            let row = Entity::find_by_id(name.to_owned()).one(&tx).await.map_err(classify(READING))?;
            commit(tx, WRITING).await?;
            row.map(|row| row.value).ok_or(Error::Corrupt { what: "a setting that was just written" })
        })
        .await
    }
}
