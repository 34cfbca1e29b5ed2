//! Sessions of which a copy is kept as a file for the legacy system.

use sea_orm_migration::sea_orm::DbBackend;

use crate::step::Step;

const DOWN_POSTGRES: &str = include_str!("../postgres/m0004_down.sql");

pub(crate) const STEP: Step = Step { name: "m0004_mirror", up, down };

fn up(backend: DbBackend) -> Vec<String> {
    // Columns are granted one by one to those who may only look, so the new one is nobody's business but ours.
    let sessions =
        if backend == DbBackend::Postgres { "public.telegram_sessions" } else { "telegram_sessions" };
    vec![format!("alter table {sessions} add column mirrored boolean not null default false")]
}

fn down(backend: DbBackend) -> Vec<String> {
    match backend {
        DbBackend::Postgres => vec![DOWN_POSTGRES.to_owned()],
        _ => vec!["alter table telegram_sessions drop column mirrored".to_owned()],
    }
}
