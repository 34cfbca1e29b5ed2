//! SQLite databases of our own, in memory until they are handed out.

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Error, sqlite::connect};

/// A value of a row to be written.
pub(super) enum Value<'a> {
    Null,
    Integer(i64),
    Text(String),
    Blob(&'a [u8]),
}

/// A database of our own, in memory until it is handed out.
pub(super) struct Builder {
    connection: SqliteConnection,
}

impl Builder {
    /// # Errors
    /// `Internal` if SQLite fails in memory.
    pub(super) async fn start(schema: &'static str) -> Result<Self, Error> {
        let connection = connect(SqliteConnectOptions::new().in_memory(true)).await?;
        let mut builder = Self { connection };
        sqlx::raw_sql(schema)
            .execute(&mut builder.connection)
            .await
            .map_err(|_| Error::Internal("SQLite in memory"))?;
        Ok(builder)
    }

    pub(super) async fn insert(&mut self, sql: &'static str, values: Vec<Value<'_>>) -> Result<(), Error> {
        let mut query = sqlx::query(sql).persistent(false);
        for value in values {
            query = match value {
                Value::Null => query.bind(None::<i64>),
                Value::Integer(number) => query.bind(number),
                Value::Text(text) => query.bind(text),
                Value::Blob(bytes) => query.bind(bytes.to_vec()),
            };
        }
        query.execute(&mut self.connection).await.map(|_| ()).map_err(|_| Error::Internal("SQLite in memory"))
    }

    /// The bytes of the database as a file would hold them.
    pub(super) async fn finish(mut self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut buffer =
            self.connection.serialize(None).await.map_err(|_| Error::Internal("SQLite in memory"))?;
        let bytes = Zeroizing::new(buffer.to_vec());
        buffer.zeroize();
        Ok(bytes)
    }
}
