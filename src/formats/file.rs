//! Reading a session file of another system, which may be running.
//!
//! The source is only ever read: SQLite never opens it, because SQLite would write to it or leave files beside it.
//! It is copied, with its `-journal` and `-wal`, under the same lock that SQLite's readers take.

use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
};
use zeroize::Zeroizing;

use super::{
    Addresses, Error, LegacyFingerprint, Note, Options, Parsed, SIZE_MAX, blocking,
    detect::{self, SQLITE_MAGIC},
    parse_database, parse_with_blocking,
    sqlite::{Database, HEADER_LENGTH, check_header},
};
use crate::domain::material::Format;

/// How often a file that changes under the reader is read again.
const ATTEMPTS_MAX: usize = 3;
/// How long all file access may take, on network file systems too.
const TIME_MAX: Duration = Duration::from_secs(30);
/// No SQLite database is smaller.
const PAGE_SIZE_MIN: usize = 512;
/// SQLite's lock bytes: a writer about to write holds the first, readers share the range.
const PENDING_BYTE: i64 = 0x4000_0000;
const SHARED_FIRST: i64 = PENDING_BYTE + 2;
const SHARED_LENGTH: i64 = 510;
/// Ends a rollback journal that names a further journal, of several databases.
const SHARED_JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
/// A file system in memory, on most systems.
const MEMORY_FOLDER: &str = "/dev/shm";
/// Larger databases are not read into memory.
const IN_MEMORY_MAX: u64 = 2 * 1024 * 1024;
/// Larger files that are no databases are no sessions.
const TEXT_MAX: u64 = 8 * 1024 * 1024;
/// Larger databases are not read: tens of millions of peers.
const FILE_SIZE_MAX: u64 = 4 * 1024 * 1024 * 1024;
const SCRATCH_NAME: &str = "session";

/// A session file as it was at one moment.
#[derive(Debug)]
pub struct SourceFile {
    pub parsed: Parsed,
    pub fingerprint: LegacyFingerprint,
}

/// Reads the session in the file at `path`, which must lie in the folder `root`, also after symbolic links were
/// followed. Neither the file nor its folder is changed.
///
/// # Errors
/// One refusal per trap, see [`Error`]: among them `OutsideFolder`, `NotRegular`, `Unreadable`, `Locked` while
/// another program writes, `Changing`.
pub async fn read_file(root: &Path, path: &Path, addresses: &Addresses) -> Result<SourceFile, Error> {
    read_file_with(root, path, addresses, &Options::default()).await
}

/// The same, for files that may be locked or hold several accounts: ZIP archives of tdata folders.
///
/// # Errors
/// The same, and `NoSuchAccount` for an account that is not there.
pub async fn read_file_with(
    root: &Path,
    path: &Path,
    addresses: &Addresses,
    options: &Options,
) -> Result<SourceFile, Error> {
    let (root, path, addresses, options) =
        (root.to_owned(), path.to_owned(), addresses.clone(), options.clone());
    blocking(TIME_MAX, move || read_file_with_blocking(&root, &path, &addresses, &options)).await
}

/// [`read_file`] for those who may wait.
///
/// # Errors
/// As [`read_file`], except that a file system which hangs is waited for.
pub fn read_file_blocking(root: &Path, path: &Path, addresses: &Addresses) -> Result<SourceFile, Error> {
    read_file_with_blocking(root, path, addresses, &Options::default())
}

/// [`read_file_with`] for those who may wait.
///
/// # Errors
/// As [`read_file_with`], except that a file system which hangs is waited for.
pub fn read_file_with_blocking(
    root: &Path,
    path: &Path,
    addresses: &Addresses,
    options: &Options,
) -> Result<SourceFile, Error> {
    let mut opened = open(root, path, true)?;
    let mut parsed = match &opened.scratch {
        Some(scratch) => parse_database(&mut Database::of_private_copy(&scratch.main())?, addresses)?,
        None => parse_with_blocking(&opened.main, None, addresses, options)?,
    };
    opened.note(path, parsed.format, &mut parsed.notes);
    let fingerprint = opened.fingerprint.take().ok_or(Error::Internal("a fingerprint"))?;
    Ok(SourceFile { parsed, fingerprint })
}

/// The fingerprint of any regular file, as the legacy system records it. Blocks; reads in pieces, at any size.
///
/// # Errors
/// `NotFound`, `NotRegular`, `Unreadable`.
pub fn fingerprint_file(path: &Path) -> Result<LegacyFingerprint, Error> {
    let path = path.canonicalize().map_err(|error| unreadable(&error))?;
    let (file, metadata) = open_regular(&path)?;
    LegacyFingerprint::of_reader(file, &metadata).map_err(|error| unreadable(&error))
}

/// A file's bytes under the lock of SQLite's readers. Blocks.
///
/// # Errors
/// As [`read_file`] has them for files.
pub(super) fn read_whole(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let (file, _) = open_bearable(path)?;
    lock_shared(&file)?;
    read(&file, SIZE_MAX as u64)
}

/// What is at hand once the source is no longer looked at.
pub(super) struct Opened {
    /// Empty if there is a private copy.
    pub(super) main: Zeroizing<Vec<u8>>,
    /// With what SQLite left beside the file, if it left anything, or because the file is large.
    pub(super) scratch: Option<Scratch>,
    fingerprint: Option<LegacyFingerprint>,
    notes: Vec<Note>,
}

impl Opened {
    /// Adds what the file itself, and its name, tell.
    pub(super) fn note(&self, path: &Path, format: Format, notes: &mut Vec<Note>) {
        notes.extend(self.notes.iter().cloned());
        let is_session_name = path.extension().is_some_and(|name| name.eq_ignore_ascii_case("session"));
        let is_sqlite = self.scratch.is_some() || self.main.starts_with(SQLITE_MAGIC);
        // The oldest releases wrote JSON under this name.
        let has_files = matches!(format, Format::TelethonSqlite | Format::PyrogramSqlite);
        if is_session_name && !is_sqlite && !has_files {
            notes.push(Note::NameUnlikeContent);
        }
    }
}

/// Takes a file as it is at one moment.
pub(super) fn open(root: &Path, path: &Path, wants_fingerprint: bool) -> Result<Opened, Error> {
    let root = root.canonicalize().map_err(|error| unreadable(&error))?;
    let path = path.canonicalize().map_err(|error| unreadable(&error))?;
    if !path.starts_with(&root) {
        return Err(Error::OutsideFolder);
    }
    for _ in 0..ATTEMPTS_MAX {
        if let Some(opened) = open_once(&path, wants_fingerprint)? {
            return Ok(opened);
        }
    }
    Err(Error::Changing)
}

/// `None` if anything changed meanwhile.
fn open_once(path: &Path, wants_fingerprint: bool) -> Result<Option<Opened>, Error> {
    let (file, before) = open_bearable(path)?;
    if before.len() == 0 {
        return Err(Error::Empty);
    }
    // Held until the file is closed.
    lock_shared(&file)?;
    let head = head(&file)?;
    let is_sqlite = head.starts_with(SQLITE_MAGIC);
    let is_large = before.len() > IN_MEMORY_MAX;
    let siblings = if is_sqlite { Siblings::of(path)? } else { Siblings::default() };
    let opened = if is_sqlite && (is_large || siblings.are_there()) {
        copied(&file, &before, &siblings)?
    } else if before.len() > TEXT_MAX {
        return Err(too_large(&head, before.len()));
    } else {
        let main = read(&file, if is_sqlite { IN_MEMORY_MAX } else { TEXT_MAX })?;
        let told = wants_fingerprint.then(|| LegacyFingerprint::of_bytes(&main, &before)).transpose();
        let fingerprint = told.map_err(|error| unreadable(&error))?;
        Some(Opened { main, scratch: None, fingerprint, notes: Vec::new() })
    };
    let Some(opened) = opened else { return Ok(None) };
    // The lock does not stop a checkpoint of the log, nor a program that is not SQLite.
    if siblings.are_there() {
        let again = LegacyFingerprint::of_reader(open_bearable(path)?.0, &before);
        if opened.fingerprint != again.ok() || Siblings::of(path)? != siblings {
            return Ok(None);
        }
    }
    let after = fs::symlink_metadata(path).map_err(|error| unreadable(&error))?;
    let length = if opened.scratch.is_some() { before.len() } else { opened.main.len() as u64 };
    if state(&before) != state(&after) || length != after.len() {
        return Ok(None);
    }
    Ok(Some(opened))
}

/// A private copy, for SQLite to settle or because the file is too large for memory; `None` if the file grew or
/// shrank on the way.
fn copied(file: &File, before: &Metadata, siblings: &Siblings) -> Result<Option<Opened>, Error> {
    let mut notes = Vec::new();
    if siblings.journal.is_some() {
        notes.push(Note::WithJournal);
    }
    if siblings.wal.is_some() {
        notes.push(Note::WithWal);
    }
    let mut header = [0; HEADER_LENGTH];
    let is_whole = file.read_exact_at(&mut header, 0).is_ok();
    let length = usize::try_from(before.len()).map_err(|_| Error::TooLarge)?;
    let checked = if is_whole { check_header(&header, length) } else { Err(Error::Truncated) };
    checked.or_else(|error| match error {
        // The missing pages may be in the log.
        Error::Truncated if siblings.are_there() && length >= PAGE_SIZE_MIN => Ok(()),
        error => Err(error),
    })?;
    let mut scratch = Scratch::new(before.len()).map_err(|_| Error::Internal("scratch space"))?;
    // The fingerprint is that of the bytes that were copied.
    let mut reader = Copying { from: file.take(FILE_SIZE_MAX), to: &mut scratch.file };
    let fingerprint = LegacyFingerprint::of_reader(&mut reader, before);
    let fingerprint = fingerprint.map_err(|_| Error::Internal("scratch space"))?;
    if fingerprint.size != before.len() {
        return Ok(None);
    }
    scratch.add(siblings).map_err(|_| Error::Internal("scratch space"))?;
    if siblings.wal.is_none() && header[18..20] == [2, 2] {
        notes.push(Note::WalWithoutLog);
    }
    let main = Zeroizing::new(Vec::new());
    Ok(Some(Opened { main, scratch: Some(scratch), fingerprint: Some(fingerprint), notes }))
}

/// Reads, and writes what was read to another place.
struct Copying<'a, R> {
    from: R,
    to: &'a mut File,
}

impl<R: io::Read> io::Read for Copying<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(buffer)?;
        self.to.write_all(&buffer[..length])?;
        Ok(length)
    }
}

/// The first bytes, wherever the file stands.
fn head(file: &File) -> Result<Vec<u8>, Error> {
    let mut head = vec![0; SQLITE_MAGIC.len()];
    let length = file.read_at(&mut head, 0).map_err(|error| unreadable(&error))?;
    head.truncate(length);
    Ok(head)
}

/// Why a large file that is no database is refused: it is not even text, or text longer than any session.
fn too_large(head: &[u8], length: u64) -> Error {
    match detect::content(head, &mut Vec::new()) {
        _ if length > SIZE_MAX as u64 => Error::TooLarge,
        Ok(_) if head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) => {
            Error::TooLarge
        }
        Ok(_) => Error::NotSqlite,
        Err(error) => error,
    }
}

/// What SQLite left beside a file.
#[derive(Default, PartialEq)]
struct Siblings {
    journal: Option<Zeroizing<Vec<u8>>>,
    wal: Option<Zeroizing<Vec<u8>>>,
}

impl Siblings {
    fn of(path: &Path) -> Result<Self, Error> {
        let siblings = Self { journal: read_sibling(path, "-journal")?, wal: read_sibling(path, "-wal")? };
        if siblings.journal.as_ref().is_some_and(|journal| journal.ends_with(&SHARED_JOURNAL_MAGIC)) {
            // SQLite would look for the file it names and might delete it, wherever that is.
            return Err(Error::JournalShared);
        }
        Ok(siblings)
    }

    fn are_there(&self) -> bool {
        self.journal.is_some() || self.wal.is_some()
    }
}

/// What a write changes.
pub(super) fn state(metadata: &Metadata) -> (u64, u64, u64, i64, i64, i64, i64) {
    let changed = (metadata.ctime(), metadata.ctime_nsec());
    (
        metadata.dev(),
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        changed.0,
        changed.1,
    )
}

/// Opens a regular file of bearable size.
fn open_bearable(path: &Path) -> Result<(File, Metadata), Error> {
    let (file, metadata) = open_regular(path)?;
    if metadata.len() > FILE_SIZE_MAX { Err(Error::TooLarge) } else { Ok((file, metadata)) }
}

/// Opens a regular file without waiting for anything.
fn open_regular(path: &Path) -> Result<(File, Metadata), Error> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
        .map_err(|error| unreadable(&error))?;
    let metadata = file.metadata().map_err(|error| unreadable(&error))?;
    if metadata.is_file() { Ok((file, metadata)) } else { Err(Error::NotRegular) }
}

fn read(file: &File, length_max: u64) -> Result<Zeroizing<Vec<u8>>, Error> {
    let length = file.metadata().map_err(|error| unreadable(&error))?.len();
    if length > length_max {
        return Err(Error::TooLarge);
    }
    let capacity = usize::try_from(length).map_err(|_| Error::TooLarge)? + 1;
    // Room for one byte more, so that reading to the end does not grow it, which would leave a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(capacity as u64).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    Ok(bytes)
}

/// `None` if there is none or it is empty, which SQLite takes alike.
fn read_sibling(path: &Path, suffix: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    match open_bearable(&sibling(path, suffix)) {
        Ok((_, metadata)) if metadata.len() == 0 => Ok(None),
        Ok((file, _)) => read(&file, SIZE_MAX as u64).map(Some),
        Err(Error::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Takes the lock of SQLite's readers, without waiting: it is refused while a writer changes the file, and keeps
/// writers from starting to.
fn lock_shared(file: &File) -> Result<(), Error> {
    set_lock(file, libc::F_RDLCK, PENDING_BYTE, 1)?;
    set_lock(file, libc::F_RDLCK, SHARED_FIRST, SHARED_LENGTH)?;
    set_lock(file, libc::F_UNLCK, PENDING_BYTE, 1)
}

fn set_lock(file: &File, kind: libc::c_int, start: i64, length: i64) -> Result<(), Error> {
    let lock = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: length,
        l_pid: 0,
    };
    // Locks of the open file, not of the process: they go when this file is closed, and only then.
    #[cfg(target_os = "linux")]
    let answer = fcntl(file, FcntlArg::F_OFD_SETLK(&lock));
    #[cfg(not(target_os = "linux"))]
    let answer = fcntl(file, FcntlArg::F_SETLK(&lock));
    match answer {
        Ok(_) => Ok(()),
        Err(Errno::EAGAIN | Errno::EACCES) => Err(Error::Locked),
        // A file system without locks: comparing before and after has to do.
        Err(Errno::ENOLCK | Errno::ENOSYS | Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(()),
        Err(_) => Err(Error::Unreadable),
    }
}

pub(super) fn unreadable(error: &io::Error) -> Error {
    match (error.kind(), error.raw_os_error().map(Errno::from_raw)) {
        (io::ErrorKind::NotFound, _) | (_, Some(Errno::ENOTDIR)) => Error::NotFound,
        (_, Some(Errno::ENXIO | Errno::ENODEV)) => Error::NotRegular,
        // The last part of a path became a link after it was resolved.
        (_, Some(Errno::ELOOP)) => Error::OutsideFolder,
        _ => Error::Unreadable,
    }
}

/// A folder of our own, in memory where the system has that and the file is not large, emptied and removed when
/// dropped.
pub(super) struct Scratch {
    folder: tempfile::TempDir,
    file: File,
}

impl Scratch {
    /// With room for a database.
    fn new(length: u64) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("usm-").permissions(Permissions::from_mode(0o700));
        let folder = if length > IN_MEMORY_MAX {
            builder.tempdir()?
        } else {
            builder.tempdir_in(MEMORY_FOLDER).or_else(|_| builder.tempdir())?
        };
        let file = create(&folder.path().join(SCRATCH_NAME))?;
        Ok(Self { folder, file })
    }

    fn add(&mut self, siblings: &Siblings) -> io::Result<()> {
        for (suffix, bytes) in [("-journal", &siblings.journal), ("-wal", &siblings.wal)] {
            if let Some(bytes) = bytes {
                create(&sibling(&self.main(), suffix))?.write_all(bytes)?;
            }
        }
        Ok(())
    }

    pub(super) fn main(&self) -> PathBuf {
        self.folder.path().join(SCRATCH_NAME)
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

impl Drop for Scratch {
    /// Overwrites before the folder goes: best effort, for when it is not in memory.
    fn drop(&mut self) {
        let Ok(entries) = fs::read_dir(self.folder.path()) else { return };
        for entry in entries.flatten() {
            if let (Ok(mut file), Ok(metadata)) =
                (OpenOptions::new().write(true).open(entry.path()), entry.metadata())
            {
                let zeros = io::repeat(0).take(metadata.len());
                let _ = io::copy(&mut { zeros }, &mut file).and_then(|_| file.sync_data());
            }
        }
    }
}
