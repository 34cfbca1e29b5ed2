//! Foreign SQLite databases, opened so that nothing in them can hurt, and our own, built in memory.
//!
//! A foreign database is code as much as data: views, virtual tables, computed columns, damaged pages. So only
//! plain tables are read, by full scan, a few rows and small cells at a time, untrusted schema off, under a time
//! limit. SQLite's own buffers are freed but not wiped; ours are wiped.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _,
    sqlite::{SqliteConnectOptions, SqliteConnection, SqliteOwnedBuf, SqliteRow},
};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Error, Note, detect::SQLITE_MAGIC};

/// How long the reading of one database may take; real ones take milliseconds.
const TIME_MAX: Duration = Duration::from_secs(5);
/// SQLite asks this often, in its own instructions, whether the time is over.
const STEPS_BETWEEN_LOOKS: i32 = 1000;
/// Larger cells are not fetched, only measured.
const CELL_LENGTH_MAX: u64 = 1024;
const HEADER_LENGTH: usize = 100;

/// The tables of all libraries, known or only recognised.
const TABLES: &[&str] = &[
    "channel_state",
    "datacenter",
    "dc_home",
    "dc_option",
    "entities",
    "mtcute_migrations",
    "peer_info",
    "sent_files",
    "sessions",
    "update_state",
    "version",
];

/// One value as stored; SQLite's column types do not bind.
pub(super) enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(Zeroizing<Vec<u8>>),
    Blob(Zeroizing<Vec<u8>>),
    /// Too large to fetch: whether text, and the length in bytes.
    Oversize {
        is_text: bool,
        length: u64,
    },
}

struct Table {
    name: &'static str,
    /// A plain table with plain columns; anything else is not read.
    plain: bool,
    columns: Vec<String>,
}

/// A foreign database.
pub(super) struct Database {
    connection: SqliteConnection,
    tables: Vec<Table>,
    until: Instant,
}

/// Whether a file has all the pages its header counts.
pub(super) fn check_length(bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() < HEADER_LENGTH {
        return Err(Error::Truncated);
    }
    let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let page_size = match u16::from_be_bytes([bytes[16], bytes[17]]) {
        1 => 65536,
        size if size >= 512 && size.is_power_of_two() => usize::from(size),
        _ => return Err(Error::Corrupt),
    };
    // The page count holds only if the writer that left it also left the change counter.
    let counted = if word(24) == word(92) { word(28) as usize } else { 0 };
    let whole = bytes.len().is_multiple_of(page_size) && bytes.len() / page_size >= counted.max(1);
    if whole { Ok(()) } else { Err(Error::Truncated) }
}

impl Database {
    /// From a copy in memory.
    pub(super) async fn of_bytes(bytes: &[u8], notes: &mut Vec<Note>) -> Result<Self, Error> {
        debug_assert!(bytes.starts_with(SQLITE_MAGIC), "checked by the caller");
        let mut buffer = SqliteOwnedBuf::try_from(bytes).map_err(|_| Error::Internal("memory"))?;
        // SQLite cannot open a WAL database in memory; without a log at hand the mode makes no difference.
        if buffer[18..20] == [2, 2] {
            buffer[18..20].copy_from_slice(&[1, 1]);
            notes.push(Note::WalWithoutLog);
        }
        let mut connection = connect(SqliteConnectOptions::new().in_memory(true)).await?;
        connection.deserialize(None, buffer, true).await.map_err(|error| refusal(&error))?;
        Self::open(connection).await
    }

    /// From a private copy that SQLite may repair, given its `-journal` or `-wal`.
    pub(super) async fn of_private_copy(path: &Path) -> Result<Self, Error> {
        Self::open(connect(SqliteConnectOptions::new().filename(path)).await?).await
    }

    async fn open(mut connection: SqliteConnection) -> Result<Self, Error> {
        let until = Instant::now() + TIME_MAX;
        connection
            .lock_handle()
            .await
            .map_err(|error| refusal(&error))?
            .set_progress_handler(STEPS_BETWEEN_LOOKS, move || Instant::now() < until);
        let mut database = Self { connection, tables: Vec::new(), until };
        for name in TABLES {
            if let Some(table) = database.look_up(name).await? {
                database.tables.push(table);
            }
        }
        Ok(database)
    }

    /// Waits until the database is closed. Dropping closes it too, a little later.
    pub(super) async fn close(self) {
        // Nothing was written that could be lost.
        let _ = self.connection.close().await;
    }

    async fn look_up(&mut self, name: &'static str) -> Result<Option<Table>, Error> {
        let sql = format!(
            "select cast(type as text) = 'table' and cast(rootpage as integer) > 0 as plain \
             from sqlite_schema where lower(name) = '{name}' and type in ('table', 'view') limit 2"
        );
        let found = self.fetch(sql).await?;
        if found.is_empty() {
            return Ok(None);
        }
        let mut plain = found.len() == 1;
        for row in &found {
            plain &= row.try_get::<Option<i64>, _>(0).ok().flatten() == Some(1);
        }
        let mut columns = Vec::new();
        if plain {
            let sql = format!(
                "select cast(name as blob) as name, hidden + 0 as hidden from pragma_table_xinfo('{name}')"
            );
            for row in self.fetch(sql).await? {
                plain &= row.try_get::<i64, _>(1).is_ok_and(|hidden| hidden == 0);
                let column: &[u8] = row.try_get(0).map_err(|error| refusal(&error))?;
                columns.push(String::from_utf8_lossy(column).to_lowercase());
            }
        }
        Ok(Some(Table { name, plain, columns }))
    }

    pub(super) fn has(&self, table: &str) -> bool {
        self.tables.iter().any(|known| known.name == table)
    }

    pub(super) fn has_column(&self, table: &str, column: &str) -> bool {
        self.tables.iter().any(|known| known.name == table && known.columns.iter().any(|name| name == column))
    }

    /// # Errors
    /// `UnknownSchema` without the table or a column, `NotATable` if it is something else.
    pub(super) fn require(&self, table: &str, columns: &[&str]) -> Result<(), Error> {
        let found = self.tables.iter().find(|known| known.name == table).ok_or(Error::UnknownSchema)?;
        if !found.plain {
            return Err(Error::NotATable);
        }
        if columns.iter().all(|column| self.has_column(table, column)) {
            Ok(())
        } else {
            Err(Error::UnknownSchema)
        }
    }

    /// The first rows of a plain table, up to `rows_max`. Names and condition are constants of this program.
    ///
    /// Cells come out of expressions, so that a column's declared type, which may be anything, does not matter.
    pub(super) async fn rows(
        &mut self,
        table: &'static str,
        columns: &[&'static str],
        condition: &'static str,
        rows_max: usize,
    ) -> Result<Vec<Vec<Cell>>, Error> {
        self.require(table, columns)?;
        let cells: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(n, column)| {
                format!(
                    "typeof({column}) as t{n}, ifnull(octet_length({column}), 0) as l{n}, \
                     case when octet_length({column}) > {CELL_LENGTH_MAX} then null \
                     when typeof({column}) = 'text' then cast({column} as blob) else {column} end as v{n}"
                )
            })
            .collect();
        let sql = format!(
            "select {} from {table} not indexed where {condition} limit {rows_max}",
            cells.join(", ")
        );
        let rows = self.fetch(sql).await?;
        rows.iter()
            .map(|row| (0..columns.len()).map(|n| cell(row, n)).collect::<Result<Vec<_>, sqlx::Error>>())
            .collect::<Result<_, _>>()
            .map_err(|error| refusal(&error))
    }

    /// How many rows of a plain table meet a condition; 0 without the table.
    pub(super) async fn count(&mut self, table: &'static str, condition: &'static str) -> Result<u64, Error> {
        if self.require(table, &[]).is_err() {
            return Ok(0);
        }
        let rows =
            self.fetch(format!("select count(*) as n from {table} not indexed where {condition}")).await?;
        let count = rows.first().and_then(|row| row.try_get::<i64, _>(0).ok()).unwrap_or(0);
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// The application's number in the header.
    pub(super) async fn user_version(&mut self) -> Result<i64, Error> {
        let rows = self.fetch("select user_version + 0 as v from pragma_user_version".to_owned()).await?;
        Ok(rows.first().and_then(|row| row.try_get::<i64, _>(0).ok()).unwrap_or(0))
    }

    async fn fetch(&mut self, sql: String) -> Result<Vec<SqliteRow>, Error> {
        // The progress handler stops SQLite; the timer is for what it does between two steps.
        let until = tokio::time::Instant::from_std(self.until + Duration::from_secs(1));
        let rows = sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch_all(&mut self.connection);
        tokio::time::timeout_at(until, rows)
            .await
            .map_err(|_| Error::TimeLimit)?
            .map_err(|error| refusal(&error))
    }
}

fn cell(row: &SqliteRow, n: usize) -> Result<Cell, sqlx::Error> {
    let kind: &str = row.try_get(n * 3)?;
    let length = u64::try_from(row.try_get::<i64, _>(n * 3 + 1)?).unwrap_or(u64::MAX);
    let value = n * 3 + 2;
    Ok(match kind {
        "integer" => Cell::Integer(row.try_get(value)?),
        "real" => Cell::Real(row.try_get(value)?),
        "text" | "blob" if length > CELL_LENGTH_MAX => Cell::Oversize { is_text: kind == "text", length },
        "text" | "blob" if length == 0 => Cell::Blob(Zeroizing::new(Vec::new())),
        "text" => Cell::Text(Zeroizing::new(row.try_get::<&[u8], _>(value)?.to_vec())),
        "blob" => Cell::Blob(Zeroizing::new(row.try_get::<&[u8], _>(value)?.to_vec())),
        _ => Cell::Null,
    })
}

impl Cell {
    pub(super) fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Null | Self::Real(_) | Self::Text(_) | Self::Blob(_) | Self::Oversize { .. } => None,
        }
    }

    /// A number that is whole or has a fraction, which is cut off.
    pub(super) fn seconds(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            // Saturates, and so do the checks that follow.
            Self::Real(number) if number.is_finite() => Some(number.floor() as i64),
            Self::Null | Self::Real(_) | Self::Text(_) | Self::Blob(_) | Self::Oversize { .. } => None,
        }
    }

    /// Whether there is nothing in it: null, an empty text or an empty blob.
    pub(super) fn is_blank(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(bytes) | Self::Blob(bytes) => bytes.is_empty(),
            Self::Integer(_) | Self::Real(_) | Self::Oversize { .. } => false,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Null | Self::Integer(_) | Self::Real(_) | Self::Blob(_) | Self::Oversize { .. } => None,
        }
    }

    /// The cell as an authorization key's bytes, not yet judged by length.
    ///
    /// # Errors
    /// `NoKey` for null, `KeyType` for text and numbers, `KeyLength` for what is too large to fetch.
    pub(super) fn key_bytes(&self) -> Result<&[u8], Error> {
        match self {
            Self::Null => Err(Error::NoKey),
            Self::Blob(bytes) => Ok(bytes),
            Self::Oversize { is_text: false, length } => Err(Error::KeyLength(*length)),
            Self::Integer(_) | Self::Real(_) | Self::Text(_) | Self::Oversize { is_text: true, .. } => {
                Err(Error::KeyType)
            }
        }
    }
}

async fn connect(options: SqliteConnectOptions) -> Result<SqliteConnection, Error> {
    options
        .disable_statement_logging()
        .busy_timeout(Duration::ZERO)
        .pragma("trusted_schema", "OFF")
        .pragma("cell_size_check", "ON")
        .thread_name(|_| "usm-format".to_owned())
        .connect()
        .await
        .map_err(|error| refusal(&error))
}

/// SQLite's answers in our names. Its messages quote the file, so they go no further.
fn refusal(error: &sqlx::Error) -> Error {
    let code = match error {
        sqlx::Error::Database(error) => error.code().and_then(|code| code.parse::<i32>().ok()),
        _ => None,
    };
    match code.map(|code| code & 0xff) {
        Some(5 | 6) => Error::Locked,
        Some(7) => Error::Internal("memory"),
        Some(9) => Error::TimeLimit,
        Some(10 | 13) => Error::Internal("scratch space"),
        Some(26) => Error::NotSqlite,
        Some(_) | None => Error::Corrupt,
    }
}

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
