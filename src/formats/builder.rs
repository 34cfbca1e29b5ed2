//! SQLite databases of our own, in memory until they are handed out.

use rusqlite::{
    Connection, ToSql,
    types::{Null, ToSqlOutput, ValueRef},
};
use zeroize::Zeroizing;

use super::{Error, sqlite::in_memory};

/// A value of a row to be written.
pub(super) enum Value<'a> {
    Null,
    Integer(i64),
    Text(String),
    Blob(&'a [u8]),
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Null => Null.to_sql(),
            Self::Integer(number) => Ok((*number).into()),
            Self::Text(text) => Ok(ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes()))),
            Self::Blob(bytes) => Ok(ToSqlOutput::Borrowed(ValueRef::Blob(bytes))),
        }
    }
}

/// A database of our own. Everything here blocks, in memory for microseconds.
pub(super) struct Builder {
    connection: Connection,
}

impl Builder {
    /// # Errors
    /// `Internal` if SQLite fails in memory.
    pub(super) fn start(schema: &'static str) -> Result<Self, Error> {
        let connection = in_memory()?;
        connection.execute_batch(schema).map_err(failed)?;
        Ok(Self { connection })
    }

    /// # Errors
    /// As [`Builder::start`].
    pub(super) fn run(&mut self, sql: &'static str) -> Result<(), Error> {
        self.connection.execute_batch(sql).map_err(failed)
    }

    pub(super) fn insert(&mut self, sql: &'static str, values: Vec<Value<'_>>) -> Result<(), Error> {
        self.connection.execute(sql, rusqlite::params_from_iter(values)).map(|_| ()).map_err(failed)
    }

    /// The bytes of the database as a file would hold them.
    pub(super) fn finish(self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let data = self.connection.serialize("main").map_err(failed)?;
        Ok(Zeroizing::new(data.to_vec()))
    }
}

fn failed(_: rusqlite::Error) -> Error {
    Error::Internal("SQLite in memory")
}
