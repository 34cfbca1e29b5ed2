//! One migration: statements there and back, in a transaction of their own.

use sea_orm_migration::{
    DbErr, MigrationName, MigrationTrait, SchemaManager, async_trait,
    sea_orm::{ConnectionTrait as _, DbBackend},
};

/// What a migration consists of.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// The statements, in order.
    pub(crate) up: fn(DbBackend) -> Vec<String>,
    pub(crate) down: fn(DbBackend) -> Vec<String>,
}

impl MigrationName for Step {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, self.up).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, self.down).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

async fn run(manager: &SchemaManager<'_>, statements: fn(DbBackend) -> Vec<String>) -> Result<(), DbErr> {
    for sql in statements(manager.get_database_backend()) {
        manager.get_connection().execute_unprepared(&sql).await?;
    }
    Ok(())
}
