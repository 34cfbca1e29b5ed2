//! Sessions, their sealed material, their events, and the settings of the database.

use sea_orm_migration::{
    schema,
    sea_orm::DbBackend,
    sea_query::{ForeignKey, ForeignKeyAction, Index, Table, TableCreateStatement},
};

use crate::{
    statements::{create_index, create_table, key_text, table},
    step::Step,
};

/// What makes the rows safe on PostgreSQL; SQLite has no roles.
const POLICIES: &str = include_str!("../postgres/m0001_policies.sql");
const DOWN_POSTGRES: &str = include_str!("../postgres/m0001_down.sql");

pub(crate) const STEP: Step = Step { name: "m0001_foundation", up, down };

fn up(backend: DbBackend) -> Vec<String> {
    let mut statements: Vec<String> =
        [sessions(backend), material(backend), events(backend), settings(backend)]
            .iter()
            .map(|table| create_table(backend, table))
            .collect();
    statements.extend(indexes(backend));
    if backend == DbBackend::Postgres {
        statements.push(POLICIES.to_owned());
    }
    statements
}

fn down(backend: DbBackend) -> Vec<String> {
    match backend {
        DbBackend::Postgres => vec![DOWN_POSTGRES.to_owned()],
        _ => ["settings", "session_events", "session_material", "telegram_sessions"]
            .iter()
            .map(|name| format!("drop table {name}"))
            .collect(),
    }
}

fn sessions(backend: DbBackend) -> TableCreateStatement {
    Table::create()
        .table(table(backend, "public", "telegram_sessions"))
        .col(key_text(backend, "tenant_id"))
        .col(key_text(backend, "app_id"))
        .col(schema::text("state"))
        .col(schema::text("state_reason"))
        .col(schema::text_null("log_out"))
        .col(schema::text_null("prior_state"))
        .col(schema::text_null("prior_reason"))
        .col(schema::text_null("prior_log_out"))
        .col(schema::text("custody"))
        .col(schema::text("environment"))
        .col(schema::big_integer_null("telegram_user_id"))
        .col(schema::text_null("username"))
        .col(schema::boolean_null("is_bot"))
        .col(schema::integer_null("dc_id"))
        .col(schema::text_null("api_key_alias"))
        .col(schema::text_null("fingerprint"))
        .col(schema::text_null("legacy_fingerprint"))
        .col(schema::big_integer("revision"))
        .col(schema::big_integer("material_version"))
        .col(schema::text_null("login_ticket"))
        .col(schema::json_binary("labels"))
        .col(schema::text_null("lease_id_hash"))
        .col(schema::text_null("lease_holder"))
        .col(schema::text_null("lease_subject"))
        .col(schema::text_null("lease_request_id"))
        .col(schema::text_null("lease_purpose"))
        .col(schema::big_integer("lease_epoch").default(0))
        .col(schema::big_integer_null("lease_acquire_time"))
        .col(schema::big_integer_null("lease_expire_time"))
        .col(schema::big_integer_null("lease_ttl"))
        .col(schema::boolean("lease_evicted").default(false))
        .col(schema::boolean("lease_released").default(false))
        .col(schema::big_integer("create_time"))
        .col(schema::big_integer("update_time"))
        .col(schema::big_integer_null("last_validated_time"))
        .col(schema::big_integer_null("last_activity_time"))
        .primary_key(Index::create().name("telegram_sessions_pkey").col("tenant_id").col("app_id"))
        .take()
}

fn material(backend: DbBackend) -> TableCreateStatement {
    Table::create()
        .table(table(backend, "usm", "session_material"))
        .col(key_text(backend, "tenant_id"))
        .col(key_text(backend, "app_id"))
        .col(schema::big_integer("version"))
        .col(schema::text("key_id"))
        .col(schema::blob("sealed"))
        .col(schema::big_integer("update_time"))
        .primary_key(Index::create().name("session_material_pkey").col("tenant_id").col("app_id"))
        .foreign_key(
            // Material without its session would be a key that nobody knows to revoke.
            ForeignKey::create()
                .name("session_material_of_session")
                .from(table(backend, "usm", "session_material"), ("tenant_id", "app_id"))
                .to(table(backend, "public", "telegram_sessions"), ("tenant_id", "app_id"))
                .on_delete(ForeignKeyAction::Cascade),
        )
        .take()
}

fn events(backend: DbBackend) -> TableCreateStatement {
    Table::create()
        .table(table(backend, "usm", "session_events"))
        .col(schema::big_pk_auto("sequence"))
        .col(key_text(backend, "tenant_id"))
        .col(key_text(backend, "app_id"))
        .col(schema::text("kind"))
        .col(schema::text_null("from_state"))
        .col(schema::text_null("to_state"))
        .col(schema::text("reason"))
        .col(schema::text("actor"))
        .col(schema::json_binary("details"))
        .col(schema::big_integer("time"))
        .take()
}

fn settings(backend: DbBackend) -> TableCreateStatement {
    Table::create()
        .table(table(backend, "usm", "settings"))
        .col(key_text(backend, "name").primary_key())
        .col(schema::text("value"))
        .take()
}

fn indexes(backend: DbBackend) -> Vec<String> {
    let sessions = || table(backend, "public", "telegram_sessions");
    [
        // Renew and release know a lease by its id alone.
        Index::create()
            .name("telegram_sessions_lease")
            .table(sessions())
            .col("lease_id_hash")
            .unique()
            .take(),
        Index::create().name("telegram_sessions_lease_end").table(sessions()).col("lease_expire_time").take(),
        // One authorization under two names would be lent twice at once, which ends it.
        Index::create()
            .name("telegram_sessions_fingerprint")
            .table(sessions())
            .col("fingerprint")
            .unique()
            .take(),
        Index::create()
            .name("session_events_of_session")
            .table(table(backend, "usm", "session_events"))
            .col("tenant_id")
            .col("app_id")
            .col("sequence")
            .take(),
    ]
    .iter()
    .map(|index| create_index(backend, index))
    .collect()
}
