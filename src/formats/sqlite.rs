//! Foreign SQLite databases, opened so that nothing in them can hurt.
//!
//! A foreign database is code as much as data: views, virtual tables, computed columns, damaged pages. So only
//! plain tables are read, by full scan, a few rows and small cells at a time, without views, triggers and further
//! databases, untrusted schema off, under a time limit. Everything here blocks. SQLite's own buffers are freed but
//! not wiped; ours are wiped.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, Row, config::DbConfig, limits::Limit};

use super::{
    Error, Note,
    cell::{self, Cell},
    detect::SQLITE_MAGIC,
    pages::Pages,
};

/// How long the reading of one database may take; real ones take milliseconds.
pub(super) const TIME_MAX: Duration = Duration::from_secs(5);
/// SQLite asks this often, in its own instructions, whether the time is over.
const STEPS_BETWEEN_LOOKS: i32 = 1000;
/// What every database begins with, in bytes.
pub(super) const HEADER_LENGTH: usize = 100;
/// Where the header says by two numbers whether the database is in WAL mode.
const JOURNAL_MODE: std::ops::Range<usize> = 18..20;

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
    /// A plain table with plain columns; anything else is not read.
    plain: bool,
    columns: Vec<String>,
}

/// A foreign database.
pub(super) struct Database<'a> {
    engine: Engine<'a>,
    /// By their names in lower case.
    tables: BTreeMap<String, Table>,
}

/// Who reads it.
enum Engine<'a> {
    /// We ourselves, as far as that goes.
    Pages(Pages<'a>),
    Sqlite(Connection),
}

/// Whether a file has all the pages its header counts.
pub(super) fn check_length(bytes: &[u8]) -> Result<(), Error> {
    check_header(bytes, bytes.len())
}

/// The same, of a file's first bytes and its length.
pub(super) fn check_header(bytes: &[u8], length: usize) -> Result<(), Error> {
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
    let whole = length.is_multiple_of(page_size) && length / page_size >= counted.max(1);
    if whole { Ok(()) } else { Err(Error::Truncated) }
}

impl<'a> Database<'a> {
    /// From a copy in memory.
    pub(super) fn of_bytes(bytes: &'a [u8], notes: &mut Vec<Note>) -> Result<Self, Error> {
        debug_assert!(bytes.starts_with(SQLITE_MAGIC), "checked by the caller");
        let mode = bytes.get(JOURNAL_MODE).ok_or(Error::Truncated)?;
        if mode == [2, 2] {
            notes.push(Note::WalWithoutLog);
        }
        match Pages::open(bytes) {
            Some(pages) => Ok(Self::of_pages(pages)),
            None => Self::in_sqlite(bytes),
        }
    }

    fn of_pages(pages: Pages<'a>) -> Self {
        let table = |(name, columns): (&str, &[String])| {
            (name.to_owned(), Table { plain: true, columns: columns.to_vec() })
        };
        let tables = pages.tables().filter(|(name, _)| TABLES.contains(name)).map(table).collect();
        Self { engine: Engine::Pages(pages), tables }
    }

    pub(super) fn in_sqlite(bytes: &[u8]) -> Result<Self, Error> {
        let (head, rest) = bytes.split_at_checked(HEADER_LENGTH).ok_or(Error::Truncated)?;
        let mut head: Vec<u8> = head.to_vec();
        // SQLite cannot open a WAL database in memory; without a log at hand the mode makes no difference.
        if head[JOURNAL_MODE] == [2, 2] {
            head[JOURNAL_MODE].copy_from_slice(&[1, 1]);
        }
        let mut connection = in_memory()?;
        connection
            .deserialize_read_exact("main", head.chain(rest), bytes.len(), true)
            .map_err(|error| refusal(&error))?;
        Self::open(connection)
    }

    /// Whether SQLite was not needed.
    #[cfg(test)]
    pub(super) fn is_read_by_ourselves(&self) -> bool {
        matches!(self.engine, Engine::Pages(_))
    }

    /// SQLite, which is started if it was not needed until now.
    fn sqlite(&mut self) -> Result<&Connection, Error> {
        if let Engine::Pages(pages) = &self.engine {
            *self = Self::in_sqlite(pages.bytes())?;
        }
        match &self.engine {
            Engine::Sqlite(connection) => Ok(connection),
            Engine::Pages(_) => Err(Error::Internal("SQLite did not start")),
        }
    }

    /// From a private copy that SQLite may repair, given its `-journal` or `-wal`.
    pub(super) fn of_private_copy(path: &Path) -> Result<Self, Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|error| refusal(&error))?;
        harden(&connection).map_err(|error| refusal(&error))?;
        Self::open(connection)
    }

    fn open(connection: Connection) -> Result<Self, Error> {
        limit(&connection, TIME_MAX)?;
        let tables = tables(&connection)?;
        Ok(Self { engine: Engine::Sqlite(connection), tables })
    }

    /// Gives SQLite so much time from now on.
    pub(super) fn allow(&mut self, time: Duration) -> Result<(), Error> {
        limit(self.sqlite()?, time)
    }

    /// Visits rows of a plain table one by one. Names and condition are constants of this program.
    pub(super) fn each(
        &mut self,
        table: &'static str,
        columns: &[&'static str],
        condition: &'static str,
        visit: &mut dyn FnMut(&[Cell]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.require(table, columns)?;
        let mut stopped = None;
        let done = each(self.sqlite()?, &select(table, columns, condition), |row| {
            let cells = (0..columns.len()).map(|n| cell::cell(row, n)).collect::<Result<Vec<_>, _>>()?;
            visit(&cells).map_err(|error| {
                stopped = Some(error);
                rusqlite::Error::InvalidQuery
            })
        });
        stopped.map_or(done, Err)
    }

    pub(super) fn has(&self, table: &str) -> bool {
        self.tables.contains_key(table)
    }

    pub(super) fn has_column(&self, table: &str, column: &str) -> bool {
        self.tables.get(table).is_some_and(|table| table.columns.iter().any(|name| name == column))
    }

    /// # Errors
    /// `UnknownSchema` without the table or a column, `NotATable` if it is something else.
    pub(super) fn require(&self, table: &str, columns: &[&str]) -> Result<(), Error> {
        let found = self.tables.get(table).ok_or(Error::UnknownSchema)?;
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
    pub(super) fn rows(
        &mut self,
        table: &'static str,
        columns: &[&'static str],
        condition: &'static str,
        rows_max: usize,
    ) -> Result<Vec<Vec<Cell>>, Error> {
        self.require(table, columns)?;
        if let Engine::Pages(pages) = &self.engine
            && let Some(rows) = pages.rows(table, columns, condition, rows_max)
        {
            return Ok(rows);
        }
        let sql = format!("{} limit {rows_max}", select(table, columns, condition));
        let mut rows = Vec::new();
        each(self.sqlite()?, &sql, |row| {
            rows.push((0..columns.len()).map(|n| cell::cell(row, n)).collect::<Result<Vec<_>, _>>()?);
            Ok(())
        })?;
        Ok(rows)
    }

    /// How many rows of a plain table meet a condition; 0 without the table.
    pub(super) fn count(&mut self, table: &'static str, condition: &'static str) -> Result<u64, Error> {
        if self.require(table, &[]).is_err() {
            return Ok(0);
        }
        if let Engine::Pages(pages) = &self.engine
            && let Some(count) = pages.count(table, condition)
        {
            return Ok(count);
        }
        let sql = format!("select count(*) from {table} not indexed where {condition}");
        self.number(&sql).map(|count| u64::try_from(count).unwrap_or(0))
    }

    /// The application's number in the header.
    pub(super) fn user_version(&mut self) -> Result<i64, Error> {
        if let Engine::Pages(pages) = &self.engine {
            return Ok(pages.user_version());
        }
        self.number("select user_version + 0 from pragma_user_version")
    }

    fn number(&mut self, sql: &str) -> Result<i64, Error> {
        let mut number = 0;
        each(self.sqlite()?, sql, |row| {
            number = row.get(0).unwrap_or(0);
            Ok(())
        })?;
        Ok(number)
    }
}

/// Which of the known tables there are, and their columns.
fn tables(connection: &Connection) -> Result<BTreeMap<String, Table>, Error> {
    let names: Vec<String> = TABLES.iter().map(|name| format!("'{name}'")).collect();
    let names = names.join(", ");
    let plain = "cast(s.type as text) = 'table' and cast(s.rootpage as integer) > 0";
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    let sql = format!(
        "select lower(s.name), {plain} from sqlite_schema s \
             where s.type in ('table', 'view') and lower(s.name) in ({names}) limit {}",
        TABLES.len() * 2
    );
    each(connection, &sql, |row| {
        let plain = row.get::<_, Option<bool>>(1).ok().flatten() == Some(true);
        // Of two by one name none is to be trusted.
        tables
            .entry(text(row, 0)?)
            .and_modify(|known| known.plain = false)
            .or_insert(Table { plain, columns: Vec::new() });
        Ok(())
    })?;
    let sql = format!(
        "select lower(s.name), x.name, x.hidden + 0 from sqlite_schema s \
             join pragma_table_xinfo(s.name) x where {plain} and lower(s.name) in ({names})"
    );
    each(connection, &sql, |row| {
        if let Some(table) = tables.get_mut(&text(row, 0)?) {
            table.plain &= row.get::<_, i64>(2).is_ok_and(|hidden| hidden == 0);
            table.columns.push(text(row, 1)?.to_lowercase());
        }
        Ok(())
    })?;
    for table in tables.values_mut().filter(|table| !table.plain) {
        table.columns.clear();
    }
    Ok(tables)
}

fn each(
    connection: &Connection,
    sql: &str,
    mut visit: impl FnMut(&Row<'_>) -> Result<(), rusqlite::Error>,
) -> Result<(), Error> {
    let mut run = || {
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            visit(row)?;
        }
        Ok(())
    };
    run().map_err(|error| refusal(&error))
}

fn select(table: &'static str, columns: &[&'static str], condition: &'static str) -> String {
    let cells: Vec<String> = columns.iter().map(|column| cell::select(column)).collect();
    format!("select {} from {table} not indexed where {condition}", cells.join(", "))
}

fn limit(connection: &Connection, time: Duration) -> Result<(), Error> {
    let until = Instant::now() + time;
    connection
        .progress_handler(STEPS_BETWEEN_LOOKS, Some(move || Instant::now() >= until))
        .map_err(|error| refusal(&error))
}

/// A text as SQLite hands it out, whatever the file's encoding.
fn text(row: &Row<'_>, n: usize) -> Result<String, rusqlite::Error> {
    Ok(String::from_utf8_lossy(row.get_ref(n)?.as_bytes().unwrap_or_default()).into_owned())
}

/// An empty database in memory.
pub(super) fn in_memory() -> Result<Connection, Error> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_in_memory_with_flags(flags).map_err(|error| refusal(&error))?;
    harden(&connection).map_err(|error| refusal(&error))?;
    Ok(connection)
}

/// A database in an empty file of ours, which nobody else reads before it is whole.
pub(super) fn in_file(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| refusal(&error))?;
    harden(&connection)
        .and_then(|()| connection.execute_batch("pragma journal_mode = memory; pragma synchronous = off"))
        .map_err(|error| refusal(&error))?;
    Ok(connection)
}

fn harden(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(Duration::ZERO)?;
    for (option, value) in [
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
    ] {
        connection.set_db_config(option, value)?;
    }
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    connection.execute_batch("pragma cell_size_check = on")
}

/// SQLite's answers in our names. Its messages quote the file, so they go no further.
fn refusal(error: &rusqlite::Error) -> Error {
    match error.sqlite_error().map(|error| error.extended_code & 0xff) {
        Some(5 | 6) => Error::Locked,
        Some(7) => Error::Internal("memory"),
        Some(9) => Error::TimeLimit,
        Some(10 | 13) => Error::Internal("scratch space"),
        Some(26) => Error::NotSqlite,
        Some(_) | None => Error::Corrupt,
    }
}
