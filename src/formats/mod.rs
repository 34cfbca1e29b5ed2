//! Session formats of Telegram libraries, read and written.
//!
//! A format is one file here, one variant of `detect::Shape` and one arm where a shape is read or a format is
//! written. Readers take foreign, possibly hostile bytes: they are bounded in size and time, recognise by content
//! and never by name, and refuse what is odd by a name of its own ([`Error`]); what is merely worth knowing is a
//! [`Note`]. This module knows no store, no Telegram connection and no caller.

mod address;
#[cfg(test)]
mod agreement;
mod builder;
mod cell;
mod columns;
mod convert;
mod detect;
mod error;
mod file;
mod fingerprint;
mod grammers;
mod key;
mod note;
mod pages;
mod peers;
mod raw;
mod sqlite;
mod telethon_json;
mod telethon_sqlite;
mod telethon_string;

use std::{collections::BTreeMap, net::SocketAddr};

use zeroize::Zeroizing;

pub use self::{
    address::production as production_addresses,
    convert::{Conversion, Converted, Data},
    error::Error,
    file::{SourceFile, fingerprint_file, read_file, read_file_blocking},
    fingerprint::LegacyFingerprint,
    note::{Item, Note},
};
use self::{
    detect::{Content, Shape},
    sqlite::Database,
};
use crate::domain::material::{Format, Material};

/// Where to find each data centre when the material does not tell.
pub type Addresses = BTreeMap<i32, SocketAddr>;

/// The largest input that is read, in bytes.
pub const SIZE_MAX: usize = 64 * 1024 * 1024;
/// How long SQLite may go on beyond its time limit before it is left behind.
const HANG_MAX: std::time::Duration = std::time::Duration::from_secs(1);

/// What a session's bytes said.
#[derive(Debug)]
pub struct Parsed {
    pub material: Material,
    pub format: Format,
    /// What was odd or could not be carried.
    pub notes: Vec<Note>,
}

/// A session in a library's own form.
pub struct Written {
    pub data: Zeroizing<Vec<u8>>,
    /// What the form has no place for.
    pub notes: Vec<Note>,
}

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Written").field("notes", &self.notes).finish_non_exhaustive()
    }
}

/// Reads a session. The format is recognised by content; `hint` only refuses any other.
///
/// A SQLite database is read in memory, on a thread of its own. Its `-journal` and `-wal` are out of reach here:
/// [`read_file`] minds them.
///
/// # Errors
/// One refusal per trap, see [`Error`].
pub async fn parse(bytes: &[u8], hint: Option<Format>, addresses: &Addresses) -> Result<Parsed, Error> {
    if bytes.len() > SIZE_MAX || !bytes.starts_with(detect::SQLITE_MAGIC) {
        return parse_blocking(bytes, hint, addresses);
    }
    let (bytes, addresses) = (Zeroizing::new(bytes.to_vec()), addresses.clone());
    blocking(sqlite::TIME_MAX + HANG_MAX, move || parse_blocking(&bytes, hint, &addresses)).await
}

/// [`parse`] for those who may wait: a database takes up to a few seconds.
///
/// # Errors
/// As [`parse`].
pub fn parse_blocking(bytes: &[u8], hint: Option<Format>, addresses: &Addresses) -> Result<Parsed, Error> {
    if bytes.len() > SIZE_MAX {
        return Err(Error::TooLarge);
    }
    let mut notes = Vec::new();
    let mut parsed = match detect::content(bytes, &mut notes)? {
        Content::Sqlite => parse_database(&mut Database::of_bytes(bytes, &mut notes)?, addresses)?,
        Content::Text(text) => parse_text(text, addresses)?,
    };
    notes.append(&mut parsed.notes);
    parsed.notes = notes;
    match hint {
        Some(format) if format != parsed.format => Err(Error::OtherFormat(parsed.format)),
        Some(_) | None => Ok(parsed),
    }
}

/// Runs what blocks beside the caller's own tasks, and gives it up when it hangs.
async fn blocking<T: Send + 'static>(
    time_max: std::time::Duration,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::time::timeout(time_max, tokio::task::spawn_blocking(work)).await {
        Err(_) => Err(Error::TimeLimit),
        Ok(Ok(result)) => result,
        Ok(Err(ended)) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::Internal("reading task")),
        },
    }
}

fn parse_database(database: &mut Database<'_>, addresses: &Addresses) -> Result<Parsed, Error> {
    parse_shape(detect::database(database)?, database, addresses)
}

fn parse_shape(shape: Shape, database: &mut Database<'_>, addresses: &Addresses) -> Result<Parsed, Error> {
    match shape {
        Shape::TelethonSqlite => telethon_sqlite::read(database, addresses),
        Shape::Grammers => grammers::read(database, addresses),
        Shape::TelethonString | Shape::TelethonJson | Shape::Raw => Err(Error::UnknownSchema),
    }
}

fn parse_text(text: &str, addresses: &Addresses) -> Result<Parsed, Error> {
    match detect::text(text)? {
        Shape::TelethonString => telethon_string::read(text, addresses),
        Shape::TelethonJson => telethon_json::read(text, addresses),
        Shape::Raw => raw::read(text),
        Shape::TelethonSqlite | Shape::Grammers => Err(Error::NotSqlite),
    }
}

/// Whether [`write()`] knows the form.
///
/// # Errors
/// `Unsupported` for a form that is not written.
pub fn writable(format: Format) -> Result<(), Error> {
    match format {
        Format::TelethonString | Format::TelethonSqlite | Format::Grammers | Format::Raw => Ok(()),
        Format::PyrogramString
        | Format::PyrogramSqlite
        | Format::GramjsString
        | Format::MtcuteString
        | Format::Tdata => Err(Error::Unsupported(format)),
    }
}

/// Writes a session in the form `format`. Key material touches memory only, never a disk.
///
/// # Errors
/// `Unsupported` for a format that is not written, `DataCentre` and `NoKey` for unsound material,
/// `AddressUnknown` if neither the material nor `addresses` tells where its data centre is.
pub async fn write(material: &Material, format: Format, addresses: &Addresses) -> Result<Written, Error> {
    match format {
        Format::TelethonSqlite | Format::PyrogramSqlite | Format::Grammers | Format::Tdata => {
            let (material, addresses) = (material.clone(), addresses.clone());
            blocking(sqlite::TIME_MAX, move || write_blocking(&material, format, &addresses)).await
        }
        Format::TelethonString
        | Format::PyrogramString
        | Format::GramjsString
        | Format::MtcuteString
        | Format::Raw => write_blocking(material, format, addresses),
    }
}

/// [`write()`] for those who may wait.
///
/// # Errors
/// As [`write()`].
pub fn write_blocking(material: &Material, format: Format, addresses: &Addresses) -> Result<Written, Error> {
    check_writable(material)?;
    match format {
        Format::TelethonString => telethon_string::write(material, addresses),
        Format::TelethonSqlite => telethon_sqlite::write(material, addresses),
        Format::Grammers => grammers::write(material, addresses),
        Format::Raw => raw::write(material, addresses),
        Format::PyrogramString
        | Format::PyrogramSqlite
        | Format::GramjsString
        | Format::MtcuteString
        | Format::Tdata => Err(Error::Unsupported(format)),
    }
}

fn check_writable(material: &Material) -> Result<(), Error> {
    if material.home().is_none() {
        return Err(Error::NoKey);
    }
    if !key::HOME_DCS.contains(&material.home_dc) {
        return Err(Error::DataCentre(material.home_dc.into()));
    }
    Ok(())
}
