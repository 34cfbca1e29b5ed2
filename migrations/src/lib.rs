//! The database schema, migration by migration, for PostgreSQL and SQLite.
//!
//! Tables are described once for both databases; what only PostgreSQL has (roles, grants, row-level security)
//! lies in `postgres/*.sql`. Nothing here connects to anything: the program brings the connection, the lock and
//! the rights. On PostgreSQL the connection's `search_path` must be [`SCHEMA`] alone, so that the migration
//! table never lands where Supabase would expose it.

mod m0001_foundation;
mod m0002_logins;
mod m0003_leases;
mod m0004_mirror;
mod statements;
mod step;

pub use sea_orm_migration::{MigrationStatus, MigratorTrait};
use sea_orm_migration::{MigrationTrait, sea_orm::DbBackend};

use self::step::Step;

/// The schema on PostgreSQL that holds everything but the sessions' metadata.
pub const SCHEMA: &str = "usm";

/// The migrations' own table.
pub const MIGRATION_TABLE: &str = "seaql_migrations";

/// The advisory lock on PostgreSQL under which migrations run, so that two starts do not run them at once.
pub const LOCK: i64 = 7_364_125_902_211;

const STEPS: [Step; 4] = [m0001_foundation::STEP, m0002_logins::STEP, m0003_leases::STEP, m0004_mirror::STEP];

/// Every migration, oldest first.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        STEPS.map(|step| Box::new(step) as Box<dyn MigrationTrait>).into()
    }
}

/// The names of all migrations, oldest first.
pub fn names() -> Vec<String> {
    Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect()
}

/// What has to exist on PostgreSQL before the first migration can be recorded.
pub const PREPARE_POSTGRES: &str = include_str!("../postgres/prepare.sql");

/// What gives the roles their rights again: idempotent, part of every `up`, because a role that an operator
/// dropped and made again has lost them.
pub const ROLES_POSTGRES: &str = include_str!("../postgres/roles.sql");

/// The whole of it as text for a SQL console on PostgreSQL: everything up to the newest migration, in one
/// transaction, recorded as applied. For a database on which no migration ran yet.
pub fn postgres_script() -> String {
    let mut script = format!(
        "-- Unified Session Manager: schema for PostgreSQL 14 or newer.\n\
         -- Run it once, as the role that shall own the tables, on a database without it.\n\
         begin;\n\
         select pg_advisory_xact_lock({LOCK});\n",
    );
    script.push_str(PREPARE_POSTGRES);
    script.push_str(ROLES_POSTGRES);
    script.push_str(
        "create table usm.seaql_migrations (\"version\" varchar not null primary key, \"applied_at\" bigint not null);\n",
    );
    for sql in STEPS.iter().flat_map(|step| (step.up)(DbBackend::Postgres)) {
        script.push_str(sql.trim_end().trim_end_matches(';'));
        script.push_str(";\n");
    }
    for name in names() {
        script.push_str(&format!(
            "insert into usm.seaql_migrations values ('{name}', extract(epoch from now())::bigint);\n"
        ));
    }
    script.push_str("commit;\n");
    script
}

/// Lets the program's login role act as the roles that the policies name, and as nothing else.
///
/// `login` is quoted here. From PostgreSQL 16 on the grant itself says that nothing is inherited; before, the
/// role has to be `NOINHERIT`.
pub fn grant_to_login(login: &str, server_version: i32) -> String {
    let login = quote(login);
    let options = if server_version >= 160_000 { " with inherit false, set true" } else { "" };
    format!("grant service_role, usm_tenant to {login}{options};")
}

/// How to create the program's login role; the password is left to whoever runs it.
pub fn create_login(login: &str, server_version: i32) -> String {
    format!(
        "create role {} login noinherit password '<choose one>';\n{}",
        quote(login),
        grant_to_login(login, server_version)
    )
}

fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::{create_login, grant_to_login, names, postgres_script};

    #[test]
    fn a_login_role_is_quoted() {
        assert_eq!(
            grant_to_login("a\"; drop role x; --", 150_000),
            "grant service_role, usm_tenant to \"a\"\"; drop role x; --\";"
        );
        assert!(create_login("app", 160_001).ends_with("with inherit false, set true;"));
    }

    #[test]
    fn the_script_records_every_migration() {
        let script = postgres_script();
        for name in names() {
            assert!(script.contains(&format!("'{name}'")), "{name} is missing");
        }
    }
}
