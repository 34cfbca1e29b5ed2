//! Reads the pages of a plain SQLite database itself, because starting SQLite takes longer than reading a session.
//!
//! Only what undamaged files of common libraries are made of: UTF-8, rollback journal, tables with rowids whose
//! columns are declared in the simplest way, records without overflow pages. Of anything else it says nothing, and
//! SQLite is asked. It never judges: what it answers, SQLite answers too, which is tested.

use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroizing;

use super::{
    cell::{CELL_LENGTH_MAX, Cell},
    columns::{Columns, columns},
};

const HEADER_LENGTH: usize = 100;
/// SQLite's own limit of a tree's height.
const DEPTH_MAX: u32 = 20;
/// Tables and indices of a schema; libraries have a dozen.
const SCHEMA_ROWS_MAX: usize = 64;
/// Columns of a record.
const COLUMNS_MAX: usize = 32;
const INTERIOR: u8 = 5;
const LEAF: u8 = 13;

/// A plain database; every method answers `None` where SQLite has to be asked.
pub(super) struct Pages<'a> {
    bytes: &'a [u8],
    page_size: usize,
    tables: BTreeMap<String, Table>,
}

struct Table {
    root: usize,
    columns: Columns,
}

/// One row as it lies in its page.
#[derive(Clone, Copy)]
struct Record<'a> {
    rowid: i64,
    payload: &'a [u8],
}

/// A value within a record.
#[derive(Clone, Copy)]
enum Value<'a> {
    Null,
    Integer(i64),
    Real(f64),
    Text(&'a [u8]),
    Blob(&'a [u8]),
}

/// The conditions that readers ask by.
enum Condition {
    All,
    Rowid(i64),
    NotRowid(i64),
}

impl<'a> Pages<'a> {
    /// `bytes` is the whole file.
    pub(super) fn open(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.get(..HEADER_LENGTH)?;
        let page_size = match u16::from_be_bytes([header[16], header[17]]) {
            1 => 65536,
            size => usize::from(size),
        };
        let pages = bytes.len().checked_div(page_size)?;
        let word =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let plain = page_size.is_power_of_two()
            && page_size >= 512
            && bytes.len() == pages * page_size
            // Read and written by the first version, or by that with a log, which is not at hand.
            && matches!(header[18..20], [1, 1] | [2, 2])
            && header[20..24] == [0, 64, 32, 32]
            && word(24) == word(92)
            && word(28) as usize == pages
            // Neither pages nor tables that move themselves.
            && word(52) == 0
            && (1..=4).contains(&word(44))
            // UTF-8.
            && word(56) == 1;
        let mut database = Self { bytes, page_size, tables: BTreeMap::new() };
        (plain && database.read_schema(pages)?).then_some(database)
    }

    fn read_schema(&mut self, pages: usize) -> Option<bool> {
        let mut rows = Vec::new();
        self.walk(1, &mut |record| {
            rows.push(record);
            (rows.len() <= SCHEMA_ROWS_MAX).then_some(())
        })?;
        let mut roots = BTreeSet::from([1]);
        let mut indices = BTreeSet::new();
        for row in rows {
            let [Value::Text(kind), Value::Text(name), Value::Text(table), Value::Integer(root), sql] =
                row.values()?[..]
            else {
                return None;
            };
            let root = usize::try_from(root).ok().filter(|root| (2..=pages).contains(root))?;
            let (name, table) = (std::str::from_utf8(name).ok()?, std::str::from_utf8(table).ok()?);
            // Two trees in one place, or two things by one name: not by a library.
            if !roots.insert(root) {
                return None;
            }
            match (kind, sql) {
                (b"table", Value::Text(sql)) => {
                    let columns = columns(std::str::from_utf8(sql).ok()?, name)?;
                    let known = self.tables.insert(name.to_ascii_lowercase(), Table { root, columns });
                    if known.is_some() || table != name {
                        return None;
                    }
                }
                (b"index", Value::Null) if name == format!("sqlite_autoindex_{table}_1") => {
                    indices.insert(table.to_ascii_lowercase());
                }
                _ => return None,
            }
        }
        // A key of its own has an index of its own, and nothing else has.
        let sound = self.tables.iter().all(|(name, table)| table.columns.has_index == indices.contains(name))
            && indices.iter().all(|name| self.tables.contains_key(name));
        Some(sound)
    }

    /// The whole file.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Name and columns of every table.
    pub(super) fn tables(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.tables.iter().map(|(name, table)| (name.as_str(), table.columns.names.as_slice()))
    }

    pub(super) fn user_version(&self) -> i64 {
        let number: [u8; 4] = self.bytes[60..64].try_into().expect("four bytes were sliced");
        i32::from_be_bytes(number).into()
    }

    pub(super) fn rows(
        &self,
        table: &str,
        names: &[&str],
        condition: &str,
        rows_max: usize,
    ) -> Option<Vec<Vec<Cell>>> {
        let table = self.tables.get(table)?;
        let condition = table.condition(condition)?;
        let places: Vec<usize> = names
            .iter()
            .map(|name| table.columns.names.iter().position(|column| column == name))
            .collect::<Option<_>>()?;
        let mut rows = Vec::new();
        self.walk(table.root, &mut |record| {
            if rows.len() < rows_max && condition.holds(record.rowid) {
                let values = record.values()?;
                if values.len() > table.columns.names.len() {
                    return None;
                }
                let cell = |place: &usize| match values.get(*place) {
                    _ if table.columns.rowid == Some(*place) => Cell::Integer(record.rowid),
                    Some(value) => value.cell(),
                    // Added after the row was written.
                    None => Cell::Null,
                };
                rows.push(places.iter().map(cell).collect());
            }
            Some(())
        })?;
        Some(rows)
    }

    pub(super) fn count(&self, table: &str, condition: &str) -> Option<u64> {
        let table = self.tables.get(table)?;
        let condition = table.condition(condition)?;
        let mut count = 0;
        self.walk(table.root, &mut |record| {
            count += u64::from(condition.holds(record.rowid));
            Some(())
        })?;
        Some(count)
    }

    /// Visits the records of a table in the order of their rowids, as long as everything is as it should be.
    fn walk(&self, root: usize, visit: &mut dyn FnMut(Record<'a>) -> Option<()>) -> Option<()> {
        // No page has two places in a tree, so a walk that is longer goes in circles.
        let mut pages_left = self.bytes.len() / self.page_size;
        let mut last = None;
        self.descend(root, DEPTH_MAX, &mut pages_left, &mut |record| {
            if last.replace(record.rowid).is_some_and(|last| last >= record.rowid) {
                return None;
            }
            visit(record)
        })
    }

    fn descend(
        &self,
        number: usize,
        depth_left: u32,
        pages_left: &mut usize,
        visit: &mut dyn FnMut(Record<'a>) -> Option<()>,
    ) -> Option<()> {
        *pages_left = pages_left.checked_sub(1)?;
        let depth_left = depth_left.checked_sub(1)?;
        let start = number.checked_sub(1)?.checked_mul(self.page_size)?;
        let page = self.bytes.get(start..start + self.page_size)?;
        let head = if number == 1 { HEADER_LENGTH } else { 0 };
        let kind = page[head];
        let pointers = head + if kind == INTERIOR { 12 } else { 8 };
        let cells = usize::from(u16::from_be_bytes([page[head + 3], page[head + 4]]));
        let content = pointers + cells * 2;
        let interior = match kind {
            INTERIOR => true,
            LEAF => false,
            _ => return None,
        };
        for pointer in page.get(pointers..content)?.chunks_exact(2) {
            let at = usize::from(u16::from_be_bytes([pointer[0], pointer[1]]));
            if at < content {
                return None;
            }
            let cell = page.get(at..)?;
            if interior {
                varint(cell.get(4..)?)?;
                self.descend(child(cell)?, depth_left, pages_left, visit)?;
                continue;
            }
            let (length, rest) = varint(cell)?;
            let (rowid, rest) = varint(rest)?;
            let length = usize::try_from(length).ok().filter(|length| *length <= self.page_size - 35)?;
            visit(Record { rowid, payload: rest.get(..length)? })?;
        }
        if interior {
            self.descend(child(&page[head + 8..])?, depth_left, pages_left, visit)
        } else {
            Some(())
        }
    }
}

impl Table {
    fn condition(&self, text: &str) -> Option<Condition> {
        let by_id = self.columns.rowid.is_some_and(|place| self.columns.names[place] == "id");
        match text {
            "true" => Some(Condition::All),
            "id = 0" if by_id => Some(Condition::Rowid(0)),
            "id <> 0" if by_id => Some(Condition::NotRowid(0)),
            _ => None,
        }
    }
}

impl Condition {
    fn holds(&self, rowid: i64) -> bool {
        match self {
            Self::All => true,
            Self::Rowid(id) => rowid == *id,
            Self::NotRowid(id) => rowid != *id,
        }
    }
}

impl<'a> Record<'a> {
    fn values(&self) -> Option<Vec<Value<'a>>> {
        let (length, _) = varint(self.payload)?;
        let (head, mut body) = self.payload.split_at_checked(usize::try_from(length).ok()?)?;
        let (_, mut types) = varint(head)?;
        let mut values = Vec::new();
        while !types.is_empty() {
            let (serial, rest) = varint(types)?;
            types = rest;
            let length = match serial {
                0 | 8 | 9 => 0,
                1..=4 => usize::try_from(serial).ok()?,
                5 => 6,
                6 | 7 => 8,
                12.. => usize::try_from((serial - 12) / 2).ok()?,
                _ => return None,
            };
            let (bytes, rest) = body.split_at_checked(length)?;
            body = rest;
            values.push(match serial {
                0 => Value::Null,
                8 | 9 => Value::Integer(serial - 8),
                7 => real(bytes)?,
                1..=6 => Value::Integer(integer(bytes)),
                _ if serial % 2 == 0 => Value::Blob(bytes),
                _ => Value::Text(bytes),
            });
            if values.len() > COLUMNS_MAX {
                return None;
            }
        }
        body.is_empty().then_some(values)
    }
}

impl Value<'_> {
    fn cell(&self) -> Cell {
        let oversize = |bytes: &[u8]| bytes.len() as u64 > CELL_LENGTH_MAX;
        match *self {
            Self::Null => Cell::Null,
            Self::Integer(number) => Cell::Integer(number),
            Self::Real(number) => Cell::Real(number),
            Self::Text(bytes) | Self::Blob(bytes) if oversize(bytes) => {
                Cell::Oversize { is_text: matches!(self, Self::Text(_)), length: bytes.len() as u64 }
            }
            Self::Text([]) | Self::Blob([]) => Cell::Blob(Zeroizing::new(Vec::new())),
            Self::Text(bytes) => Cell::Text(Zeroizing::new(bytes.to_vec())),
            Self::Blob(bytes) => Cell::Blob(Zeroizing::new(bytes.to_vec())),
        }
    }
}

/// The page that an interior cell leads to.
fn child(cell: &[u8]) -> Option<usize> {
    let number: [u8; 4] = cell.get(..4)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(number)).ok()
}

/// SQLite takes what is not a number for null.
fn real(bytes: &[u8]) -> Option<Value<'static>> {
    let number = f64::from_be_bytes(bytes.try_into().ok()?);
    Some(if number.is_nan() { Value::Null } else { Value::Real(number) })
}

/// Big-endian in two's complement, of 1 to 8 bytes.
fn integer(bytes: &[u8]) -> i64 {
    let sign = bytes.first().is_some_and(|first| first & 0x80 != 0);
    bytes.iter().fold(if sign { -1 } else { 0 }, |number, byte| (number << 8) | i64::from(*byte))
}

/// Seven bits a byte, the highest first, and all eight of the ninth.
fn varint(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut number: u64 = 0;
    for (n, byte) in bytes.iter().take(9).enumerate() {
        if n == 8 {
            number = (number << 8) | u64::from(*byte);
        } else {
            number = (number << 7) | u64::from(byte & 0x7f);
            if byte & 0x80 != 0 {
                continue;
            }
        }
        return Some((number.cast_signed(), &bytes[n + 1..]));
    }
    None
}
