//! Reading a session file of another system, which may be running.
//!
//! The source is only ever read: SQLite never opens it, because SQLite would write to it or leave files beside it.
//! It is copied, with its `-journal` and `-wal`, under the same lock that SQLite's readers take.

use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
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
    detect::SQLITE_MAGIC,
    parse_database, parse_with_blocking,
    sqlite::{Database, check_length},
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
    let files = load(root, path)?;
    let mut parsed = match &files.scratch {
        Some(scratch) => parse_database(&mut Database::of_private_copy(&scratch.main())?, addresses)?,
        None => parse_with_blocking(&files.main, None, addresses, options)?,
    };
    parsed.notes.extend(files.notes);
    let is_session_name = path.extension().is_some_and(|name| name.eq_ignore_ascii_case("session"));
    if is_session_name && !files.main.starts_with(SQLITE_MAGIC) {
        match parsed.format {
            // The oldest releases wrote JSON under this name.
            Format::TelethonSqlite | Format::PyrogramSqlite => {}
            _ => parsed.notes.push(Note::NameUnlikeContent),
        }
    }
    Ok(SourceFile { parsed, fingerprint: files.fingerprint })
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
    let (file, _) = open(path)?;
    lock_shared(&file)?;
    read(&file)
}

/// What is at hand once the source is no longer looked at.
struct Files {
    main: Zeroizing<Vec<u8>>,
    /// With what SQLite left beside the file, if it left anything.
    scratch: Option<Scratch>,
    fingerprint: LegacyFingerprint,
    notes: Vec<Note>,
}

fn load(root: &Path, path: &Path) -> Result<Files, Error> {
    let root = root.canonicalize().map_err(|error| unreadable(&error))?;
    let path = path.canonicalize().map_err(|error| unreadable(&error))?;
    if !path.starts_with(&root) {
        return Err(Error::OutsideFolder);
    }
    for _ in 0..ATTEMPTS_MAX {
        if let Some(files) = load_once(&path)? {
            return Ok(files);
        }
    }
    Err(Error::Changing)
}

/// `None` if anything changed meanwhile.
fn load_once(path: &Path) -> Result<Option<Files>, Error> {
    let (file, before) = open(path)?;
    if before.len() == 0 {
        return Err(Error::Empty);
    }
    // Held until the file is closed.
    lock_shared(&file)?;
    let main = read(&file)?;
    let is_sqlite = main.starts_with(SQLITE_MAGIC);
    let journal = if is_sqlite { read_sibling(path, "-journal")? } else { None };
    let wal = if is_sqlite { read_sibling(path, "-wal")? } else { None };
    if journal.as_ref().is_some_and(|journal| journal.ends_with(&SHARED_JOURNAL_MAGIC)) {
        // SQLite would look for the file it names and might delete it, wherever that is.
        return Err(Error::JournalShared);
    }
    // The lock does not stop a checkpoint of the log, nor a program that is not SQLite.
    let mut stable = true;
    if is_sqlite && (wal.is_some() || journal.is_some()) {
        stable = *read(&open(path)?.0)? == *main
            && read_sibling(path, "-journal")? == journal
            && read_sibling(path, "-wal")? == wal;
    }
    let after = fs::symlink_metadata(path).map_err(|error| unreadable(&error))?;
    if !stable || state(&before) != state(&after) || main.len() as u64 != after.len() {
        return Ok(None);
    }
    let fingerprint = LegacyFingerprint::of_reader(&main[..], &before).map_err(|error| unreadable(&error))?;
    settle(main, journal.as_deref(), wal.as_deref(), fingerprint).map(Some)
}

/// Makes the private copy, if one is needed.
fn settle(
    main: Zeroizing<Vec<u8>>,
    journal: Option<&Vec<u8>>,
    wal: Option<&Vec<u8>>,
    fingerprint: LegacyFingerprint,
) -> Result<Files, Error> {
    let mut notes = Vec::new();
    if journal.is_some() {
        notes.push(Note::WithJournal);
    }
    if wal.is_some() {
        notes.push(Note::WithWal);
    }
    let scratch = match (journal, wal) {
        (None, None) => None,
        _ => {
            check_length(&main).or_else(|error| match error {
                // The missing pages may be in the log.
                Error::Truncated if main.len() >= PAGE_SIZE_MIN => Ok(()),
                error => Err(error),
            })?;
            Some(Scratch::with(&main, journal, wal).map_err(|_| Error::Internal("scratch space"))?)
        }
    };
    Ok(Files { main, scratch, fingerprint, notes })
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
fn open(path: &Path) -> Result<(File, Metadata), Error> {
    let (file, metadata) = open_regular(path)?;
    if metadata.len() > SIZE_MAX as u64 { Err(Error::TooLarge) } else { Ok((file, metadata)) }
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

fn read(file: &File) -> Result<Zeroizing<Vec<u8>>, Error> {
    let length = file.metadata().map_err(|error| unreadable(&error))?.len();
    let capacity = usize::try_from(length).unwrap_or(SIZE_MAX).min(SIZE_MAX) + 1;
    // Room for one byte more, so that reading to the end does not grow it, which would leave a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(capacity as u64).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() > SIZE_MAX { Err(Error::TooLarge) } else { Ok(bytes) }
}

/// `None` if there is none or it is empty, which SQLite takes alike.
fn read_sibling(path: &Path, suffix: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    match open(&sibling(path, suffix)) {
        Ok((_, metadata)) if metadata.len() == 0 => Ok(None),
        Ok((file, _)) => read(&file).map(Some),
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

/// A folder of our own, in memory where the system has that, emptied and removed when dropped.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn with(main: &[u8], journal: Option<&Vec<u8>>, wal: Option<&Vec<u8>>) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("usm-").permissions(Permissions::from_mode(0o700));
        let folder = builder.tempdir_in(MEMORY_FOLDER).or_else(|_| builder.tempdir())?;
        let scratch = Self(folder);
        let parts =
            [("", Some(main)), ("-journal", journal.map(Vec::as_slice)), ("-wal", wal.map(Vec::as_slice))];
        for (suffix, bytes) in parts {
            let Some(bytes) = bytes else { continue };
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(sibling(&scratch.main(), suffix))?
                .write_all(bytes)?;
        }
        Ok(scratch)
    }

    fn main(&self) -> PathBuf {
        self.0.path().join("session")
    }
}

impl Drop for Scratch {
    /// Overwrites before the folder goes: best effort, for when it is not in memory.
    fn drop(&mut self) {
        let Ok(entries) = fs::read_dir(self.0.path()) else { return };
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
