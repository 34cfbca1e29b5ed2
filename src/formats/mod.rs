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
mod encoded;
mod error;
mod file;
mod fingerprint;
mod gotd_json;
mod gramjs_string;
mod grammers;
mod key;
mod mtcute_string;
mod mtkruto_string;
mod note;
mod pages;
mod peers;
mod place;
mod pyrogram;
mod pyrogram_json;
mod pyrogram_sqlite;
mod pyrogram_string;
mod raw;
mod sqlite;
mod tdata;
mod telethon2_sqlite;
mod telethon_json;
mod telethon_sqlite;
mod telethon_string;
mod telethon_update;
mod tl;

use std::{collections::BTreeMap, net::SocketAddr};

use zeroize::Zeroizing;

pub use self::{
    address::production as production_addresses,
    convert::{Conversion, Converted, Data},
    error::Error,
    file::{
        SourceFile, fingerprint_file, read_file, read_file_blocking, read_file_with, read_file_with_blocking,
    },
    fingerprint::LegacyFingerprint,
    note::{Item, Note},
    place::{Modes, Order, Outcome, Overwrite, Placed, Prepared, Ready, is_same, path_of, place, prepare},
    tdata::{
        Account as TdataAccount, Folder as TdataFolder, choose as choose_tdata_account, find as find_tdata,
        is_tdata, read_tdata, read_tdata_archive, unzip_tdata, write_tdata, zip_tdata,
    },
};
use self::{
    detect::{Content, Shape},
    sqlite::Database,
};
use crate::domain::{
    material::{Format, Material},
    secret::Secret,
};

/// Where to find each data centre when the material does not tell.
pub type Addresses = BTreeMap<i32, SocketAddr>;

/// The largest input that is read, in bytes.
pub const SIZE_MAX: usize = 64 * 1024 * 1024;
/// How long SQLite may go on beyond its time limit before it is left behind.
const HANG_MAX: std::time::Duration = std::time::Duration::from_secs(1);

/// What some sources need beside their bytes.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Of a tdata folder; ignored elsewhere.
    pub passcode: Option<Secret>,
    /// Which account of a source that may hold several, from 0. `None` takes the only one.
    pub account: Option<usize>,
}

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
    parse_with(bytes, hint, addresses, &Options::default()).await
}

/// The same, for sources that may be locked or hold several accounts: ZIP archives of tdata folders.
///
/// # Errors
/// The same, and `NoSuchAccount` for an account that is not there.
pub async fn parse_with(
    bytes: &[u8],
    hint: Option<Format>,
    addresses: &Addresses,
    options: &Options,
) -> Result<Parsed, Error> {
    if bytes.len() > SIZE_MAX {
        return Err(Error::TooLarge);
    }
    let time_max = if tdata::is_archive(bytes) {
        tdata::TIME_MAX
    } else if bytes.starts_with(detect::SQLITE_MAGIC) {
        sqlite::TIME_MAX + HANG_MAX
    } else {
        return parse_with_blocking(bytes, hint, addresses, options);
    };
    let (bytes, addresses, options) = (Zeroizing::new(bytes.to_vec()), addresses.clone(), options.clone());
    blocking(time_max, move || parse_with_blocking(&bytes, hint, &addresses, &options)).await
}

/// [`parse`] for those who may wait: a database takes up to a few seconds.
///
/// # Errors
/// As [`parse`].
pub fn parse_blocking(bytes: &[u8], hint: Option<Format>, addresses: &Addresses) -> Result<Parsed, Error> {
    parse_with_blocking(bytes, hint, addresses, &Options::default())
}

/// [`parse_with`] for those who may wait.
///
/// # Errors
/// As [`parse_with`].
pub fn parse_with_blocking(
    bytes: &[u8],
    hint: Option<Format>,
    addresses: &Addresses,
    options: &Options,
) -> Result<Parsed, Error> {
    if bytes.len() > SIZE_MAX {
        return Err(Error::TooLarge);
    }
    let mut notes = Vec::new();
    let mut parsed = match detect::content(bytes, &mut notes)? {
        Content::Sqlite => parse_database(&mut Database::of_bytes(bytes, &mut notes)?, addresses)?,
        Content::Archive => tdata::read_archive(bytes, addresses, options)?,
        Content::Text(text) => parse_text(text, addresses)?,
    };
    if options.account.is_some_and(|account| account > 0) && parsed.format != Format::Tdata {
        return Err(Error::NoSuchAccount(1));
    }
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
        Shape::Telethon2 => telethon2_sqlite::read(database, addresses),
        Shape::PyrogramSqlite => pyrogram_sqlite::read(database, addresses),
        Shape::Grammers => grammers::read(database, addresses),
        // These are texts.
        _ => Err(Error::UnknownSchema),
    }
}

fn parse_text(text: &str, addresses: &Addresses) -> Result<Parsed, Error> {
    match detect::text(text)? {
        Shape::TelethonString => telethon_string::read(text, addresses),
        Shape::TelethonJson => telethon_json::read(text, addresses),
        Shape::PyrogramString => pyrogram_string::read(text, addresses),
        Shape::PyrogramJson => pyrogram_json::read(text, addresses),
        Shape::GramjsString => gramjs_string::read(text, addresses),
        Shape::MtcuteString => mtcute_string::read(text, addresses),
        Shape::MtkrutoString => mtkruto_string::read(text, addresses),
        Shape::GotdJson => gotd_json::read(text, addresses),
        Shape::Raw => raw::read(text),
        // These are databases.
        Shape::TelethonSqlite | Shape::Telethon2 | Shape::PyrogramSqlite | Shape::Grammers => {
            Err(Error::NotSqlite)
        }
    }
}

/// Whether [`write()`] knows the form.
///
/// # Errors
/// `Unsupported` for a form that is not written.
pub fn writable(format: Format) -> Result<(), Error> {
    match format {
        Format::TelethonString
        | Format::TelethonSqlite
        | Format::PyrogramString
        | Format::PyrogramSqlite
        | Format::GramjsString
        | Format::MtcuteString
        | Format::Grammers
        | Format::Tdata
        | Format::Raw => Ok(()),
    }
}

/// Writes a session in the form `format`. Key material touches memory only, never a disk.
///
/// # Errors
/// `Unsupported` for a format that is not written, `DataCentre` and `NoKey` for unsound material,
/// `AddressUnknown` if neither the material nor `addresses` tells where its data centre is; for tdata `UserIdNeeded`,
/// `TdataBot` and `TdataTestDc`.
pub async fn write(material: &Material, format: Format, addresses: &Addresses) -> Result<Written, Error> {
    write_with(material, format, addresses, None).await
}

/// The same, locked with a passcode where the form knows one; an empty passcode is none.
///
/// # Errors
/// The same, and `PasscodeUnusable` where it knows none.
pub async fn write_with(
    material: &Material,
    format: Format,
    addresses: &Addresses,
    passcode: Option<&Secret>,
) -> Result<Written, Error> {
    let time_max = match format {
        Format::TelethonSqlite | Format::PyrogramSqlite | Format::Grammers => sqlite::TIME_MAX,
        Format::Tdata => tdata::TIME_MAX,
        Format::TelethonString
        | Format::PyrogramString
        | Format::GramjsString
        | Format::MtcuteString
        | Format::Raw => return write_with_blocking(material, format, addresses, passcode),
    };
    let (material, addresses, passcode) = (material.clone(), addresses.clone(), passcode.cloned());
    blocking(time_max, move || write_with_blocking(&material, format, &addresses, passcode.as_ref())).await
}

/// [`write()`] for those who may wait.
///
/// # Errors
/// As [`write()`].
pub fn write_blocking(material: &Material, format: Format, addresses: &Addresses) -> Result<Written, Error> {
    write_with_blocking(material, format, addresses, None)
}

/// [`write_with`] for those who may wait.
///
/// # Errors
/// As [`write_with`].
pub fn write_with_blocking(
    material: &Material,
    format: Format,
    addresses: &Addresses,
    passcode: Option<&Secret>,
) -> Result<Written, Error> {
    let passcode = passcode.filter(|passcode| !passcode.is_empty());
    if passcode.is_some() && format != Format::Tdata {
        return Err(Error::PasscodeUnusable);
    }
    check_writable(material)?;
    match format {
        Format::TelethonString => telethon_string::write(material, addresses),
        Format::TelethonSqlite => telethon_sqlite::write(material, addresses),
        Format::Grammers => grammers::write(material, addresses),
        Format::Raw => raw::write(material, addresses),
        Format::PyrogramString => pyrogram_string::write(material, addresses),
        Format::PyrogramSqlite => pyrogram_sqlite::write(material, addresses),
        Format::GramjsString => gramjs_string::write(material, addresses),
        Format::MtcuteString => mtcute_string::write(material, addresses),
        Format::Tdata => tdata::write_archive(material, passcode),
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
