//! SQLite databases of our own, in memory until they are handed out.

use rusqlite::{
    Connection, ToSql,
    types::{Null, ToSqlOutput, ValueRef},
};
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use super::{
    Error,
    sqlite::{in_file, in_memory},
};

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
    /// In memory, or in a file of ours that is too large for it.
    ///
    /// # Errors
    /// `Internal` if SQLite fails.
    pub(super) fn start(place: Option<&NamedTempFile>, schema: &'static str) -> Result<Self, Error> {
        let connection = match place {
            None => in_memory()?,
            Some(place) => in_file(place.path())?,
        };
        connection.execute_batch(schema).map_err(failed)?;
        Ok(Self { connection })
    }

    /// # Errors
    /// As [`Builder::start`].
    #[cfg(test)]
    pub(super) fn run(&mut self, sql: &'static str) -> Result<(), Error> {
        self.connection.execute_batch(sql).map_err(failed)
    }

    pub(super) fn insert(&mut self, sql: &'static str, values: Vec<Value<'_>>) -> Result<(), Error> {
        self.connection.execute(sql, rusqlite::params_from_iter(values)).map(|_| ()).map_err(failed)
    }

    /// Lets many rows be written at once.
    ///
    /// # Errors
    /// As [`Builder::start`], and those of `work`.
    pub(super) fn fill(&mut self, work: impl FnOnce(&Connection) -> Result<(), Error>) -> Result<(), Error> {
        self.connection.execute_batch("begin").map_err(failed)?;
        work(&self.connection)?;
        self.connection.execute_batch("commit").map_err(failed)
    }

    /// Ends the writing of a database in a file.
    ///
    /// # Errors
    /// `Internal` if SQLite cannot write it.
    pub(super) fn close(self) -> Result<(), Error> {
        self.connection.close().map_err(|(_, error)| failed(error))
    }

    /// The bytes of the database as a file would hold them.
    pub(super) fn finish(self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let data = self.connection.serialize("main").map_err(failed)?;
        Ok(Zeroizing::new(data.to_vec()))
    }
}

/// # Errors
/// Of SQLite, by the one name they have here.
pub(super) fn failed(_: rusqlite::Error) -> Error {
    Error::Internal("SQLite in memory")
}
