//! Foreign SQLite databases, opened so that nothing in them can hurt.
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

use super::{
    Error, Note,
    cell::{self, Cell, Encoding},
    detect::SQLITE_MAGIC,
};

/// How long the reading of one database may take; real ones take milliseconds.
const TIME_MAX: Duration = Duration::from_secs(5);
/// How long closing may take beyond that.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);
/// SQLite asks this often, in its own instructions, whether the time is over.
const STEPS_BETWEEN_LOOKS: i32 = 1000;
const HEADER_LENGTH: usize = 100;

/// The tables of all libraries, known or only recognised.
const TABLES: &[&str] = &[
    "channel_state",
    "channelstate",
    "datacenter",
    "dc_home",
    "dc_option",
    "entities",
    "mtcute_migrations",
    "peer_info",
    "peers",
    "sent_files",
    "sessions",
    "state",
    "update_state",
    "user",
    "version",
];

struct Table {
    name: &'static str,
    /// A plain table with plain columns; anything else is not read.
    plain: bool,
    columns: Vec<String>,
}

/// A foreign database.
pub(super) struct Database {
    connection: SqliteConnection,
    encoding: Encoding,
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

    async fn open(connection: SqliteConnection) -> Result<Self, Error> {
        let until = Instant::now() + TIME_MAX;
        let mut database = Self { connection, encoding: Encoding::Utf8, tables: Vec::new(), until };
        match database.look_around().await {
            Ok(()) => Ok(database),
            Err(error) => {
                database.close().await;
                Err(error)
            }
        }
    }

    async fn look_around(&mut self) -> Result<(), Error> {
        let until = self.until;
        self.connection
            .lock_handle()
            .await
            .map_err(|error| refusal(&error))?
            .set_progress_handler(STEPS_BETWEEN_LOOKS, move || Instant::now() < until);
        self.encoding = self.look_up_encoding().await?;
        for name in TABLES {
            if let Some(table) = self.look_up(name).await? {
                self.tables.push(table);
            }
        }
        Ok(())
    }

    /// Waits until SQLite is done with the file. Dropping closes it too, a little later.
    pub(super) async fn close(self) {
        // Nothing was written that could be lost, and a SQLite that hangs is left behind.
        let _ = tokio::time::timeout(CLOSE_TIME_MAX, self.connection.close()).await;
    }

    /// Texts arrive as they are stored.
    async fn look_up_encoding(&mut self) -> Result<Encoding, Error> {
        let rows = self.fetch("select cast('a' as blob) as letter".to_owned()).await?;
        let letter: &[u8] =
            rows.first().ok_or(Error::Corrupt)?.try_get(0).map_err(|error| refusal(&error))?;
        match letter {
            b"a" => Ok(Encoding::Utf8),
            b"a\0" => Ok(Encoding::Utf16Le),
            b"\0a" => Ok(Encoding::Utf16Be),
            _ => Err(Error::Corrupt),
        }
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
                columns.push(String::from_utf8_lossy(&self.encoding.utf8(column)).to_lowercase());
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
    pub(super) async fn rows(
        &mut self,
        table: &'static str,
        columns: &[&'static str],
        condition: &'static str,
        rows_max: usize,
    ) -> Result<Vec<Vec<Cell>>, Error> {
        self.require(table, columns)?;
        let cells: Vec<String> =
            columns.iter().enumerate().map(|(n, column)| cell::select(n, column)).collect();
        let sql = format!(
            "select {} from {table} not indexed where {condition} limit {rows_max}",
            cells.join(", ")
        );
        let rows = self.fetch(sql).await?;
        rows.iter()
            .map(|row| {
                (0..columns.len())
                    .map(|n| cell::cell(row, n, self.encoding))
                    .collect::<Result<Vec<_>, sqlx::Error>>()
            })
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
        let until = tokio::time::Instant::from_std(self.until + CLOSE_TIME_MAX);
        let rows = sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch_all(&mut self.connection);
        tokio::time::timeout_at(until, rows)
            .await
            .map_err(|_| Error::TimeLimit)?
            .map_err(|error| refusal(&error))
    }
}

pub(super) async fn connect(options: SqliteConnectOptions) -> Result<SqliteConnection, Error> {
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
