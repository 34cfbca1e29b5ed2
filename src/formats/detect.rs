//! Telling by content what a session is.

use serde::{Deserialize, de::IgnoredAny};

use super::{
    Error, Note, encoded, gramjs_string, mtcute_string, mtkruto_string, pyrogram_string, raw, sqlite,
    sqlite::Database, tdata,
};

/// What every SQLite 3 file begins with.
pub(super) const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// Longer texts are no session strings: the longest known has about 700 characters.
const STRING_LENGTH_MAX: usize = 4096;
/// Shorter texts are not taken for damaged session strings.
const STRING_LENGTH_MIN: usize = 64;

/// What kind of bytes they are.
#[derive(Debug)]
pub(super) enum Content<'a> {
    Sqlite,
    /// A ZIP archive, which can only be one of a tdata folder.
    Archive,
    /// Without white space around it.
    Text(&'a str),
}

/// Everything that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    TelethonSqlite,
    Telethon2,
    TelethonString,
    /// Telethon before 0.16, in files of the same name.
    TelethonJson,
    /// Of Hydrogram, Kurigram and Pyrofork, too.
    PyrogramSqlite,
    PyrogramString,
    /// Pyrogram before 1.0, in files of the same name.
    PyrogramJson,
    GramjsString,
    MtcuteString,
    MtkrutoString,
    GotdJson,
    Grammers,
    Raw,
}

/// # Errors
/// For bytes that are neither a SQLite file nor text.
pub(super) fn content<'a>(bytes: &'a [u8], notes: &mut Vec<Note>) -> Result<Content<'a>, Error> {
    if bytes.is_empty() {
        return Err(Error::Empty);
    }
    if bytes.starts_with(SQLITE_MAGIC) {
        sqlite::check_length(bytes)?;
        return Ok(Content::Sqlite);
    }
    if tdata::is_archive(bytes) {
        return Ok(Content::Archive);
    }
    if bytes.starts_with(b"TDF$") {
        return Err(Error::TdataOneFile);
    }
    let utf16_mark = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let utf16_letters =
        bytes.len() >= 2 && bytes.len().is_multiple_of(2) && (bytes[0] == 0) != (bytes[1] == 0);
    if utf16_mark || (utf16_letters && bytes.is_ascii()) {
        return Err(Error::NotUtf8);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Error::NotSqlite)?;
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(Error::Empty);
    }
    if trimmed.len() != text.len() {
        notes.push(Note::Trimmed);
    }
    Ok(Content::Text(trimmed))
}

/// By tables and columns; version numbers lie.
///
/// # Errors
/// For a database of no known library, or of one that is not read.
pub(super) fn database(database: &Database) -> Result<Shape, Error> {
    if database.has("mtcute_migrations") {
        return Err(Error::UnsupportedLibrary("mtcute"));
    }
    // Opening another library's file with grammers leaves its tables in there beside the real ones.
    let telethon = database.has_column("version", "version") && database.has("sessions");
    if telethon && database.has_column("sessions", "server_address") {
        return Ok(Shape::TelethonSqlite);
    }
    if database.has("sessions") && database.has_column("sessions", "test_mode") {
        return Ok(Shape::PyrogramSqlite);
    }
    if database.has_column("version", "version") && database.has("datacenter") {
        return Ok(Shape::Telethon2);
    }
    if database.has("dc_home") && database.has("dc_option") {
        return Ok(Shape::Grammers);
    }
    // A view in a table's place has no columns here; say so rather than "unknown".
    database.require("sessions", &[])?;
    Err(Error::UnknownSchema)
}

/// # Errors
/// For a text that is no session, or one that is not read.
pub(super) fn text(text: &str) -> Result<Shape, Error> {
    if text.starts_with('{') {
        return json(text);
    }
    if let Some(rest) = text.strip_prefix('\u{feff}') {
        let known = rest.starts_with('{') || is_string_like(rest);
        return Err(if known {
            Error::StringMalformed("a byte order mark before it")
        } else {
            Error::NotSqlite
        });
    }
    let inner = text.trim_matches(['"', '\'', '`']);
    if inner.len() != text.len() && is_string_like(inner) {
        return Err(Error::StringMalformed("quotes around it"));
    }
    if !is_string_like(text) {
        return Err(Error::NotSqlite);
    }
    if text.len() > STRING_LENGTH_MAX {
        return Err(Error::StringMalformed("longer than any session string"));
    }
    if text.starts_with('1') {
        let is_gramjs = gramjs_string::is_one(text);
        Ok(if is_gramjs { Shape::GramjsString } else { Shape::TelethonString })
    } else {
        unmarked_string(text)
    }
}

/// Whether a text is made of what session strings are made of, as far as it is looked at.
fn is_string_like(text: &str) -> bool {
    let sample = &text.as_bytes()[..text.len().min(STRING_LENGTH_MAX)];
    let odd = sample.iter().filter(|byte| !byte.is_ascii_alphanumeric()).count();
    sample.len() >= STRING_LENGTH_MIN
        && odd * 4 <= sample.len()
        && sample.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
        && sample.split(u8::is_ascii_whitespace).all(|word| word.len() >= STRING_LENGTH_MIN)
}

/// A string without a version character before it: told by length and by what must be where.
fn unmarked_string(text: &str) -> Result<Shape, Error> {
    // Telethon's, of another version than 1.
    let version = matches!(text.len(), 353 | 369) && text.ends_with('=');
    let bytes = match encoded::url_safe(text) {
        Ok(bytes) => bytes,
        Err(_) if version => return Err(Error::StringVersion),
        Err(error) => return Err(error),
    };
    // Packed, a string of MTKruto's can have a length of Pyrogram's, but no string of Pyrogram's has its layout. And data
    // centre 3 looks like mtcute's version, which Pyrogram's lengths rule out.
    if mtkruto_string::is_one(&bytes) {
        Ok(Shape::MtkrutoString)
    } else if pyrogram_string::has_length(&bytes) {
        Ok(Shape::PyrogramString)
    } else if mtcute_string::is_like_one(&bytes) {
        Ok(Shape::MtcuteString)
    } else if version {
        Err(Error::StringVersion)
    } else {
        Err(Error::StringMalformed("not the length of any session string"))
    }
}

/// The fields that tell JSON sessions apart.
#[derive(Deserialize)]
struct Fields {
    format: Option<IgnoredAny>,
    auth_key_data: Option<IgnoredAny>,
    server_address: Option<IgnoredAny>,
    auth_key: Option<IgnoredAny>,
    test_mode: Option<IgnoredAny>,
    dc_id: Option<IgnoredAny>,
    #[serde(rename = "Version")]
    version: Option<IgnoredAny>,
    #[serde(rename = "Data")]
    data: Option<IgnoredAny>,
    #[serde(rename = "type")]
    kind: Option<IgnoredAny>,
    #[serde(rename = "data")]
    bytes: Option<IgnoredAny>,
}

fn json(text: &str) -> Result<Shape, Error> {
    let fields: Fields = serde_json::from_str(text).map_err(|error| raw::malformed(&error))?;
    if fields.format.is_some() {
        Ok(Shape::Raw)
    } else if fields.auth_key_data.is_some() || (fields.server_address.is_some() && fields.auth_key.is_none())
    {
        Ok(Shape::TelethonJson)
    } else if fields.dc_id.is_some() && fields.test_mode.is_some() {
        Ok(Shape::PyrogramJson)
    } else if fields.version.is_some() && fields.data.is_some() {
        Ok(Shape::GotdJson)
    } else if fields.kind.is_some() && fields.bytes.is_some() {
        Err(Error::UnsupportedLibrary("GramJS, one file of a store folder"))
    } else {
        Err(Error::JsonUnknown)
    }
}
