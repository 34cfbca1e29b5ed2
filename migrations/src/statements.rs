//! Small vocabulary for column and table definitions.

use sea_orm_migration::{
    schema,
    sea_orm::DbBackend,
    sea_query::{
        ColumnDef, IndexCreateStatement, IntoTableRef, PostgresQueryBuilder, SqliteQueryBuilder,
        TableCreateStatement, TableRef,
    },
};

/// Where a table lives: in its schema on PostgreSQL, plainly on SQLite.
pub(crate) fn table(backend: DbBackend, schema: &'static str, name: &'static str) -> TableRef {
    match backend {
        DbBackend::Postgres => (schema, name).into_table_ref(),
        _ => name.into_table_ref(),
    }
}

/// Text compared byte by byte on both databases, so that pages have one order everywhere.
pub(crate) fn key_text(backend: DbBackend, name: &'static str) -> ColumnDef {
    let mut column = schema::text(name);
    if backend == DbBackend::Postgres {
        column.extra("collate \"C\"");
    }
    column
}

pub(crate) fn create_table(backend: DbBackend, table: &TableCreateStatement) -> String {
    match backend {
        DbBackend::Postgres => table.to_string(PostgresQueryBuilder),
        _ => table.to_string(SqliteQueryBuilder),
    }
}

pub(crate) fn create_index(backend: DbBackend, index: &IndexCreateStatement) -> String {
    match backend {
        DbBackend::Postgres => index.to_string(PostgresQueryBuilder),
        _ => index.to_string(SqliteQueryBuilder),
    }
}
