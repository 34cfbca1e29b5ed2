//! From one form into another, with everything that both have a place for.

use std::{path::Path, time::Duration};

use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use super::{
    Addresses, Error, Item, Note, Options, Parsed, SIZE_MAX,
    builder::Builder,
    check_writable,
    detect::{self, Content},
    file::{self, Opened},
    grammers, parse_shape, parse_text, peers,
    sqlite::Database,
    tdata, telethon_sqlite, write_with_blocking,
};
use crate::domain::material::{Format, Material};

/// Up to here a file with its peers is built in memory.
const PEERS_IN_MEMORY_MAX: u64 = 10_000;
/// How long the carrying of peers may take.
const TIME_MAX: Duration = Duration::from_secs(120);

/// What to make of sessions.
#[derive(Clone, Copy, Debug)]
pub struct Conversion<'a> {
    pub to: Format,
    /// Refuses sources of another format.
    pub from: Option<Format>,
    pub addresses: &'a Addresses,
    /// Of sources that are locked or hold several accounts. The passcode also locks a new folder of TDesktop.
    pub options: &'a Options,
    /// Where a file with too many peers for memory may be built, readable by its owner only.
    pub folder: Option<&'a Path>,
}

/// A session in its new form.
#[derive(Debug)]
pub struct Converted {
    pub from: Format,
    pub data: Data,
    /// What was odd about the source, and what the new form has no place for.
    pub notes: Vec<Note>,
}

/// Where a session lies.
pub enum Data {
    Memory(Zeroizing<Vec<u8>>),
    /// Removed again unless it is kept.
    File(NamedTempFile),
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Memory(_) => "Memory(..)",
            Self::File(_) => "File(..)",
        })
    }
}

impl Conversion<'_> {
    /// Converts a file, read with the care of [`super::read_file`]. Blocks.
    ///
    /// # Errors
    /// Those of [`super::read_file`] and [`super::write()`].
    pub fn file(&self, root: &Path, path: &Path) -> Result<Converted, Error> {
        let opened = file::open(root, path, false)?;
        let mut converted = match &opened {
            Opened { scratch: Some(scratch), .. } => {
                self.database(&mut Database::of_private_copy(&scratch.main())?, Vec::new())?
            }
            Opened { main, .. } => self.bytes(main)?,
        };
        opened.note(path, converted.from, &mut converted.notes);
        Ok(converted)
    }

    /// Converts a folder of TDesktop, which must lie in the folder `root`. Blocks.
    ///
    /// # Errors
    /// Those of [`super::read_tdata`], [`super::choose_tdata_account`] and [`super::write()`].
    pub fn tdata(&self, root: &Path, folder: &Path) -> Result<Converted, Error> {
        let passcode = self.options.passcode.as_ref();
        let accounts = tdata::read_blocking(root, folder, self.addresses, passcode)?;
        self.written(tdata::choose(accounts, self.options.account)?, Vec::new())
    }

    /// Converts bytes, such as a session string. Blocks.
    ///
    /// # Errors
    /// Those of [`super::parse`] and [`super::write()`].
    pub fn bytes(&self, bytes: &[u8]) -> Result<Converted, Error> {
        if bytes.len() > SIZE_MAX {
            return Err(Error::TooLarge);
        }
        let mut notes = Vec::new();
        match detect::content(bytes, &mut notes)? {
            Content::Sqlite => {
                let mut database = Database::of_bytes(bytes, &mut notes)?;
                self.database(&mut database, notes)
            }
            Content::Archive => {
                let parsed = tdata::read_archive(bytes, self.addresses, self.options)?;
                self.written(parsed, notes)
            }
            Content::Text(text) => {
                let parsed = parse_text(text, self.addresses)?;
                self.written(parsed, notes)
            }
        }
    }

    fn database(&self, database: &mut Database<'_>, notes: Vec<Note>) -> Result<Converted, Error> {
        let shape = detect::database(database)?;
        let mut parsed = parse_shape(shape, database, self.addresses)?;
        let known = parsed.notes.iter().find_map(|note| match note {
            Note::NotCarried(Item::Peers(count)) => Some(*count),
            _ => None,
        });
        let Some(count) = known.filter(|_| peers::carries(shape, self.to)) else {
            return self.written(parsed, notes);
        };
        self.check(&parsed)?;
        parsed.notes.retain(|note| !matches!(note, Note::NotCarried(Item::Peers(_))));
        let folder = self.folder.filter(|_| count > PEERS_IN_MEMORY_MAX);
        let place =
            folder.map(NamedTempFile::new_in).transpose().map_err(|_| Error::Internal("a new file"))?;
        let (mut file, lost) = start(&parsed.material, self.to, self.addresses, place.as_ref())?;
        database.allow(TIME_MAX)?;
        let peers = peers::carry(database, shape, &mut file, self.to, &parsed.material)?;
        let data = match place {
            Some(place) => {
                file.close()?;
                Data::File(place)
            }
            None => Data::Memory(file.finish()?),
        };
        Ok(Converted { from: parsed.format, data, notes: all([notes, parsed.notes, lost, peers]) })
    }

    fn written(&self, parsed: Parsed, notes: Vec<Note>) -> Result<Converted, Error> {
        self.check(&parsed)?;
        let passcode = self.options.passcode.as_ref().filter(|_| self.to == Format::Tdata);
        let written = write_with_blocking(&parsed.material, self.to, self.addresses, passcode)?;
        let data = Data::Memory(written.data);
        Ok(Converted { from: parsed.format, data, notes: all([notes, parsed.notes, written.notes]) })
    }

    fn check(&self, parsed: &Parsed) -> Result<(), Error> {
        match self.from {
            Some(format) if format != parsed.format => Err(Error::OtherFormat(parsed.format)),
            Some(_) | None => Ok(()),
        }
    }
}

/// A database with everything but peers.
fn start(
    material: &Material,
    to: Format,
    addresses: &Addresses,
    place: Option<&NamedTempFile>,
) -> Result<(Builder, Vec<Note>), Error> {
    check_writable(material)?;
    match to {
        Format::TelethonSqlite => telethon_sqlite::start(material, addresses, place),
        Format::Grammers => grammers::start(material, addresses, place),
        _ => Err(Error::Unsupported(to)),
    }
}

/// Each once.
fn all<const N: usize>(lists: [Vec<Note>; N]) -> Vec<Note> {
    let mut notes = Vec::new();
    for note in lists.into_iter().flatten() {
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    notes
}
