//! Single values of foreign databases, measured before they are fetched.

use rusqlite::{Row, types::ValueRef};
use zeroize::Zeroizing;

use super::Error;

/// Larger cells are not fetched, only measured.
pub(super) const CELL_LENGTH_MAX: u64 = 1024;

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

/// What to select of a column to get its cell: the value, or its length if it is too large. Expressions, so that the
/// column's declared type, which may be anything, does not matter.
pub(super) fn select(column: &str) -> String {
    format!(
        "iif(octet_length({column}) > {CELL_LENGTH_MAX}, null, {column}), \
         iif(octet_length({column}) > {CELL_LENGTH_MAX}, \
         octet_length({column}) * iif(typeof({column}) = 'text', -1, 1), 0)"
    )
}

/// The `n`th cell of a row that was asked for by [`select`].
pub(super) fn cell(row: &Row<'_>, n: usize) -> Result<Cell, rusqlite::Error> {
    let oversize: i64 = row.get(n * 2 + 1).unwrap_or(0);
    if oversize != 0 {
        return Ok(Cell::Oversize { is_text: oversize < 0, length: oversize.unsigned_abs() });
    }
    Ok(match row.get_ref(n * 2)? {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => Cell::Integer(number),
        ValueRef::Real(number) => Cell::Real(number),
        ValueRef::Text([]) | ValueRef::Blob([]) => Cell::Blob(Zeroizing::new(Vec::new())),
        ValueRef::Text(text) => Cell::Text(Zeroizing::new(text.to_vec())),
        ValueRef::Blob(bytes) => Cell::Blob(Zeroizing::new(bytes.to_vec())),
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
