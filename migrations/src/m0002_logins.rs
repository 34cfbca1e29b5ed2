//! Which replica runs a login, authorizations that are still to be ended, and tokens of earlier log-outs.

use sea_orm_migration::{
    schema,
    sea_orm::DbBackend,
    sea_query::{ForeignKey, ForeignKeyAction, Index, Table, TableCreateStatement},
};

use crate::{
    statements::{create_index, create_table, key_text, table},
    step::Step,
};

const POLICIES: &str = include_str!("../postgres/m0002_policies.sql");
const DOWN_POSTGRES: &str = include_str!("../postgres/m0002_down.sql");

pub(crate) const STEP: Step = Step { name: "m0002_logins", up, down };

fn up(backend: DbBackend) -> Vec<String> {
    let sessions = match backend {
        DbBackend::Postgres => "public.telegram_sessions",
        _ => "telegram_sessions",
    };
    let mut statements = vec![format!("alter table {sessions} add column login_owner text")];
    statements.extend([log_outs(backend), tokens(backend)].iter().map(|table| create_table(backend, table)));
    // Replicas look for their own logins while Redis is away, and few rows have one.
    let owners = Index::create()
        .name("telegram_sessions_login_owner")
        .table(table(backend, "public", "telegram_sessions"))
        .col("login_owner")
        .take();
    statements.push(create_index(backend, &owners));
    if backend == DbBackend::Postgres {
        statements.push(POLICIES.to_owned());
    }
    statements
}

fn down(backend: DbBackend) -> Vec<String> {
    match backend {
        DbBackend::Postgres => vec![DOWN_POSTGRES.to_owned()],
        _ => vec![
            "drop table log_outs".to_owned(),
            "drop table future_auth_tokens".to_owned(),
            "drop index telegram_sessions_login_owner".to_owned(),
            "alter table telegram_sessions drop column login_owner".to_owned(),
        ],
    }
}

/// Material whose authorization nobody wants any more. It outlives its session, so nothing refers to one.
fn log_outs(backend: DbBackend) -> TableCreateStatement {
    Table::create()
        .table(table(backend, "usm", "log_outs"))
        .col(key_text(backend, "id").primary_key())
        .col(key_text(backend, "tenant_id"))
        .col(key_text(backend, "app_id"))
        .col(schema::text("environment"))
        .col(schema::big_integer("version"))
        .col(schema::text("key_id"))
        .col(schema::blob("sealed"))
        .col(schema::big_integer("create_time"))
        .col(schema::integer("attempts").default(0))
        .col(schema::big_integer("next_attempt_time"))
        .take()
}

fn tokens(backend: DbBackend) -> TableCreateStatement {
    Table::create()
        .table(table(backend, "usm", "future_auth_tokens"))
        .col(key_text(backend, "tenant_id"))
        .col(key_text(backend, "app_id"))
        .col(schema::blob("sealed"))
        .primary_key(Index::create().name("future_auth_tokens_pkey").col("tenant_id").col("app_id"))
        .foreign_key(
            ForeignKey::create()
                .name("future_auth_tokens_of_session")
                .from(table(backend, "usm", "future_auth_tokens"), ("tenant_id", "app_id"))
                .to(table(backend, "public", "telegram_sessions"), ("tenant_id", "app_id"))
                .on_delete(ForeignKeyAction::Cascade),
        )
        .take()
}
