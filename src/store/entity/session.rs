//! A row of `telegram_sessions`: metadata, revision and lease.

use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter, Json,
    PrimaryKeyTrait,
};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "telegram_sessions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub app_id: String,
    pub state: String,
    pub state_reason: String,
    pub log_out: Option<String>,
    pub prior_state: Option<String>,
    pub prior_reason: Option<String>,
    pub prior_log_out: Option<String>,
    pub custody: String,
    pub environment: String,
    pub telegram_user_id: Option<i64>,
    pub username: Option<String>,
    pub is_bot: Option<bool>,
    pub dc_id: Option<i32>,
    pub api_key_alias: Option<String>,
    pub fingerprint: Option<String>,
    pub legacy_fingerprint: Option<String>,
    pub mirrored: bool,
    pub revision: i64,
    pub material_version: i64,
    pub login_ticket: Option<String>,
    pub login_owner: Option<String>,
    #[sea_orm(column_type = "JsonBinary")]
    pub labels: Json,
    /// SHA-256 of the lease id; the id itself is never stored.
    pub lease_id_hash: Option<String>,
    pub lease_holder: Option<String>,
    pub lease_subject: Option<String>,
    pub lease_request_id: Option<String>,
    pub lease_purpose: Option<String>,
    pub lease_epoch: i64,
    pub lease_acquire_time: Option<i64>,
    /// Empty once every connection is known to be closed.
    pub lease_expire_time: Option<i64>,
    /// What each renewal extends the lease by.
    pub lease_ttl: Option<i64>,
    pub lease_evicted: bool,
    /// Why it is not renewed any more.
    pub lease_drain_reason: Option<String>,
    pub lease_released: bool,
    pub create_time: i64,
    pub update_time: i64,
    pub last_validated_time: Option<i64>,
    pub last_activity_time: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
