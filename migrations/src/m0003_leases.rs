//! Who waits for a session, why a holder is asked to stop, and how fast the service may look at sessions by itself.

use sea_orm_migration::{
    schema,
    sea_orm::DbBackend,
    sea_query::{ForeignKey, ForeignKeyAction, Index, Table, TableCreateStatement},
};

use crate::{
    statements::{create_index, create_table, key_text, table},
    step::Step,
};

const POLICIES: &str = include_str!("../postgres/m0003_policies.sql");
const DOWN_POSTGRES: &str = include_str!("../postgres/m0003_down.sql");

pub(crate) const STEP: Step = Step { name: "m0003_leases", up, down };

fn up(backend: DbBackend) -> Vec<String> {
    let postgres = backend == DbBackend::Postgres;
    let sessions = if postgres { "public.telegram_sessions" } else { "telegram_sessions" };
    let mut statements = vec![
        format!("alter table {sessions} add column lease_drain_reason text"),
        // A renewal moves the end of a lease and nothing else. An index on it would be written anew each time, and
        // with it every other index of the row.
        if postgres {
            "drop index public.telegram_sessions_lease_end".to_owned()
        } else {
            "drop index telegram_sessions_lease_end".to_owned()
        },
    ];
    if postgres {
        // Room in each page for the next version of a row: a renewal then touches no index at all.
        statements.push(format!("alter table {sessions} set (fillfactor = 70)"));
    }
    statements.extend([waits(backend), paces(backend)].iter().map(|table| create_table(backend, table)));
    let places = Index::create()
        .name("lease_waits_of_session")
        .table(table(backend, "usm", "lease_waits"))
        .col("tenant_id")
        .col("app_id")
        .col("place")
        .take();
    statements.push(create_index(backend, &places));
    if postgres {
        statements.push(POLICIES.to_owned());
    }
    statements
}

fn down(backend: DbBackend) -> Vec<String> {
    match backend {
        DbBackend::Postgres => vec![DOWN_POSTGRES.to_owned()],
        _ => vec![
            "drop table lease_waits".to_owned(),
            "drop table paces".to_owned(),
            "create index telegram_sessions_lease_end on telegram_sessions (lease_expire_time)".to_owned(),
            "alter table telegram_sessions drop column lease_drain_reason".to_owned(),
        ],
    }
}

/// Queues for sessions that are lent: first come, first served. A place lives until its deadline; it keeps others
/// back only while its owner was seen lately.
fn waits(backend: DbBackend) -> TableCreateStatement {
    Table::create()
        .table(table(backend, "usm", "lease_waits"))
        .col(schema::big_pk_auto("place"))
        .col(key_text(backend, "tenant_id"))
        .col(key_text(backend, "app_id"))
        // The hash of the id the lease will get: the same request finds its place again.
        .col(key_text(backend, "waiter").unique_key())
        .col(schema::big_integer("seen_time"))
        .col(schema::big_integer("deadline"))
        .foreign_key(
            ForeignKey::create()
                .name("lease_waits_of_known_session")
                .from(table(backend, "usm", "lease_waits"), ("tenant_id", "app_id"))
                .to(table(backend, "public", "telegram_sessions"), ("tenant_id", "app_id"))
                .on_delete(ForeignKeyAction::Cascade),
        )
        .take()
}

/// When something that all replicas share may happen next: a probe, or any call to a data centre that asked for quiet.
fn paces(backend: DbBackend) -> TableCreateStatement {
    Table::create()
        .table(table(backend, "usm", "paces"))
        .col(key_text(backend, "name").primary_key())
        .col(schema::big_integer("next_time"))
        .take()
}
