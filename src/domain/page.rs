//! Pages of long lists.

use crate::domain::error::Error;

/// How many rows a page may have; a request for more is answered with this many.
pub const PAGE_SIZE_MAX: u32 = 1000;
/// How many rows a page has when the request does not say.
pub const PAGE_SIZE_DEFAULT: u32 = 50;

/// Where a page starts and how long it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    pub size: u32,
    /// The last key of the page before, as the answer gave it.
    pub after: Option<String>,
}

impl PageRequest {
    /// # Errors
    /// `ARGUMENT_INVALID` for a negative size or a token that no answer ever gave.
    pub fn parse(size: i32, token: &str) -> Result<Self, Error> {
        let size = match u32::try_from(size) {
            Err(_) => return Err(Error::invalid("page_size", "must not be negative")),
            Ok(0) => PAGE_SIZE_DEFAULT,
            Ok(size) => size.min(PAGE_SIZE_MAX),
        };
        let after = if token.is_empty() { None } else { Some(decode(token)?) };
        Ok(Self { size, after })
    }
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Opaque; empty on the last page.
    pub next_token: String,
}

/// The token for the page after `key`.
pub fn token(key: &str) -> String {
    hex::encode(key)
}

fn decode(token: &str) -> Result<String, Error> {
    hex::decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Error::invalid("page_token", "must be a next_page_token of the same list"))
}
