//! Single values of foreign databases, measured before they are fetched.

use sqlx::{Row as _, sqlite::SqliteRow};
use zeroize::Zeroizing;

use super::Error;

/// Larger cells are not fetched, only measured.
const CELL_LENGTH_MAX: u64 = 1024;

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

/// How a database stores its texts.
#[derive(Clone, Copy)]
pub(super) enum Encoding {
    Utf8,
    Utf16Le,
    Utf16Be,
}

impl Encoding {
    pub(super) fn utf8(self, stored: &[u8]) -> Zeroizing<Vec<u8>> {
        let unit: fn([u8; 2]) -> u16 = match self {
            Self::Utf8 => return Zeroizing::new(stored.to_vec()),
            Self::Utf16Le => u16::from_le_bytes,
            Self::Utf16Be => u16::from_be_bytes,
        };
        let units = stored.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
        let text: String =
            char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
        Zeroizing::new(text.into_bytes())
    }
}

/// What to select of a column to get its cell: kind, length, and the value unless it is too large. All are
/// expressions, so that the column's declared type, which may be anything, does not matter.
pub(super) fn select(n: usize, column: &str) -> String {
    format!(
        "case typeof({column}) when 'integer' then 1 when 'real' then 2 when 'text' then 3 when 'blob' then 4 \
         else 0 end as t{n}, ifnull(octet_length({column}), 0) as l{n}, \
         case when octet_length({column}) > {CELL_LENGTH_MAX} then null \
         when typeof({column}) = 'text' then cast({column} as blob) else {column} end as v{n}"
    )
}

/// The `n`th cell of a row that was asked for by [`select`].
pub(super) fn cell(row: &SqliteRow, n: usize, encoding: Encoding) -> Result<Cell, sqlx::Error> {
    let kind: i64 = row.try_get(n * 3)?;
    let length = u64::try_from(row.try_get::<i64, _>(n * 3 + 1)?).unwrap_or(u64::MAX);
    let value = n * 3 + 2;
    Ok(match kind {
        1 => Cell::Integer(row.try_get(value)?),
        2 => Cell::Real(row.try_get(value)?),
        3 | 4 if length > CELL_LENGTH_MAX => Cell::Oversize { is_text: kind == 3, length },
        3 | 4 if length == 0 => Cell::Blob(Zeroizing::new(Vec::new())),
        3 => Cell::Text(encoding.utf8(row.try_get(value)?)),
        4 => Cell::Blob(Zeroizing::new(row.try_get::<&[u8], _>(value)?.to_vec())),
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
