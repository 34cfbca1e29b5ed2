//! Session files for the legacy system: written whole or not at all, never through a link, never over what is not known.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat, renameat},
    sys::stat::{Mode, fstatat, mkdirat},
    unistd::{UnlinkatFlags, unlinkat},
};
use zeroize::Zeroizing;

use super::{
    Addresses, Error, LegacyFingerprint, Note, Parsed, SourceFile, Written, read_file, telethon_update, write,
};
use crate::domain::{
    id::SessionKey,
    material::{Format, Material},
};

/// Names of what SQLite leaves beside a file. With a new file in the old one's place it would be taken for the new one's.
const SIBLINGS: [&str; 2] = ["-journal", "-wal"];

/// Modes of what is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    pub file: u32,
    pub folder: u32,
}

/// What to do with a file that holds another authorization, or none that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overwrite {
    Refuse,
    /// Only if the file is still the one of this fingerprint.
    IfUntouched(LegacyFingerprint),
    Force,
}

/// A session to be put into its place below a folder.
#[derive(Debug)]
pub struct Order<'a> {
    pub root: &'a Path,
    pub key: &'a SessionKey,
    pub material: &'a Material,
    pub format: Format,
    /// The session in that format, where it is at hand; else it is written from the material.
    pub written: Option<Written>,
    pub addresses: &'a Addresses,
    pub modes: Modes,
    pub overwrite: Overwrite,
}

/// What became of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was none, or another one that had to go.
    Written,
    /// The one that was there has the session now, and kept what only it knows.
    Updated,
    /// The one that was there has the session already.
    Unchanged,
}

/// A file in its place.
#[derive(Debug)]
pub struct Placed {
    pub outcome: Outcome,
    pub fingerprint: LegacyFingerprint,
    /// What the file could not take.
    pub notes: Vec<Note>,
}

/// `<root>/<tenant>/<app>.session`; names of sessions cannot lead elsewhere.
pub fn path_of(root: &Path, key: &SessionKey) -> PathBuf {
    root.join(key.tenant.as_str()).join(file_name(key))
}

fn file_name(key: &SessionKey) -> String {
    format!("{}.session", key.app)
}

/// Writes the session's file. A file of the same authorization stays as it is unless the session's position in the
/// stream of updates is newer; a Telethon file keeps its entities, sent files and channels.
///
/// # Errors
/// `ExistsOther` for another authorization's file, `IsLink`, `JournalBeside`, `Locked`, `Unwritable`, and those of
/// [`write()`]; the file that was there stays whole.
pub async fn place(order: Order<'_>) -> Result<Placed, Error> {
    match prepare(order).await? {
        Prepared::Unchanged(fingerprint) => {
            Ok(Placed { outcome: Outcome::Unchanged, fingerprint, notes: Vec::new() })
        }
        Prepared::Ready(ready) => ready.put().await,
    }
}

/// What [`place`] would do, with nothing done yet.
#[derive(Debug)]
pub enum Prepared {
    Unchanged(LegacyFingerprint),
    Ready(Ready),
}

/// A file on its way to its place.
pub struct Ready {
    root: PathBuf,
    key: SessionKey,
    modes: Modes,
    outcome: Outcome,
    data: Zeroizing<Vec<u8>>,
    notes: Vec<Note>,
    /// What it takes the place of.
    known: Option<LegacyFingerprint>,
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready")
            .field("key", &self.key)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

impl Ready {
    /// # Errors
    /// `Changing` if somebody wrote to the file since it was looked at, `IsLink`, `Locked`, `Unwritable`.
    pub async fn put(self) -> Result<Placed, Error> {
        let Self { root, key, modes, outcome, data, notes, known } = self;
        let task = tokio::task::spawn_blocking(move || put(&root, &key, &data, modes, known.as_ref()));
        let fingerprint = task.await.map_err(|_| Error::Internal("writing task"))??;
        Ok(Placed { outcome, fingerprint, notes })
    }
}

/// Looks at what is there and makes the file's bytes, in memory.
///
/// # Errors
/// As [`place`], but for those of writing.
pub async fn prepare(mut order: Order<'_>) -> Result<Prepared, Error> {
    let path = path_of(order.root, order.key);
    let before = look(order.root, &path).await?;
    match draft(&mut order, &before).await? {
        Draft::Unchanged(fingerprint) => Ok(Prepared::Unchanged(fingerprint)),
        Draft::New(outcome, data, notes) => Ok(Prepared::Ready(Ready {
            root: order.root.to_owned(),
            key: order.key.clone(),
            modes: order.modes,
            outcome,
            data,
            notes,
            known: before.fingerprint(),
        })),
    }
}

/// What stands in the file's place.
enum Before {
    Nothing,
    Session(Box<SourceFile>),
    /// A file that is no session this program reads.
    Odd(LegacyFingerprint),
}

impl Before {
    fn fingerprint(&self) -> Option<LegacyFingerprint> {
        match self {
            Self::Nothing => None,
            Self::Session(source) => Some(source.fingerprint.clone()),
            Self::Odd(fingerprint) => Some(fingerprint.clone()),
        }
    }
}

async fn look(root: &Path, path: &Path) -> Result<Before, Error> {
    let (folder, file) = (path.parent().map(Path::to_owned).unwrap_or_default(), path.to_owned());
    let found = tokio::task::spawn_blocking(move || {
        if is_link(&folder)? || is_link(&file)? {
            return Err(Error::IsLink);
        }
        for suffix in SIBLINGS {
            let mut name = file.as_os_str().to_owned();
            name.push(suffix);
            if fs::symlink_metadata(&name).is_ok_and(|found| found.len() > 0) {
                return Err(Error::JournalBeside);
            }
        }
        Ok(fs::symlink_metadata(&file).is_ok())
    });
    if !found.await.map_err(|_| Error::Internal("reading task"))?? {
        return Ok(Before::Nothing);
    }
    match read_file(root, path, &Addresses::new()).await {
        Ok(source) => Ok(Before::Session(Box::new(source))),
        Err(error @ (Error::Locked | Error::Changing | Error::NotRegular | Error::OutsideFolder)) => {
            Err(error)
        }
        Err(_) => {
            let path = path.to_owned();
            let task = tokio::task::spawn_blocking(move || super::fingerprint_file(&path));
            task.await.map_err(|_| Error::Internal("reading task"))?.map(Before::Odd)
        }
    }
}

fn is_link(path: &Path) -> Result<bool, Error> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(found.is_symlink()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(_) => Err(Error::Unreadable),
    }
}

enum Draft {
    Unchanged(LegacyFingerprint),
    New(Outcome, Zeroizing<Vec<u8>>, Vec<Note>),
}

async fn draft(order: &mut Order<'_>, before: &Before) -> Result<Draft, Error> {
    let may_go = |found: &LegacyFingerprint| match &order.overwrite {
        Overwrite::Refuse => false,
        Overwrite::IfUntouched(known) => known == found,
        Overwrite::Force => true,
    };
    let updated = match before {
        Before::Nothing => None,
        Before::Session(source) => {
            let same = is_same(&source.parsed.material, order.material);
            let fits = source.parsed.format == order.format;
            let ours = same && fits;
            if ours && !is_newer(order.material, &source.parsed.material) {
                return Ok(Draft::Unchanged(source.fingerprint.clone()));
            }
            if !ours && !may_go(&source.fingerprint) {
                return Err(if same {
                    Error::ExistsOtherFormat(source.parsed.format)
                } else {
                    Error::ExistsOther
                });
            }
            if fits && keeps(&source.parsed, order) { keep(order, source).await? } else { None }
        }
        Before::Odd(fingerprint) if may_go(fingerprint) => None,
        Before::Odd(_) => return Err(Error::ExistsOther),
    };
    if let Some(Written { data, notes }) = updated {
        return Ok(Draft::New(Outcome::Updated, data, notes));
    }
    let written = match order.written.take() {
        Some(written) => written,
        None => write(order.material, order.format, order.addresses).await?,
    };
    let mut notes = written.notes;
    if let Before::Session(source) = before {
        // What the old file knew goes with it.
        notes.extend(source.parsed.notes.iter().filter(|note| matches!(note, Note::NotCarried(_))).cloned());
    }
    Ok(Draft::New(Outcome::Written, written.data, notes))
}

/// Whether two are one authorization: home data centre and key.
pub fn is_same(one: &Material, other: &Material) -> bool {
    one.home_dc == other.home_dc
        && one.home().zip(other.home()).is_some_and(|(one, other)| one.auth_key == other.auth_key)
}

/// Whether `ours` was read further in the stream of updates.
fn is_newer(ours: &Material, theirs: &Material) -> bool {
    match (&ours.updates, &theirs.updates) {
        (Some(ours), Some(theirs)) => ours.pts > theirs.pts,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// Whether what the file knows is worth as much to the session: of the same account, in a form that is updated.
fn keeps(there: &Parsed, order: &Order<'_>) -> bool {
    let accounts = (there.material.telegram_user_id, order.material.telegram_user_id);
    let same_account = matches!(accounts, (Some(one), Some(other)) if one == other);
    order.format == Format::TelethonSqlite && (is_same(&there.material, order.material) || same_account)
}

async fn keep(order: &Order<'_>, source: &SourceFile) -> Result<Option<Written>, Error> {
    let path = path_of(order.root, order.key);
    let task = tokio::task::spawn_blocking(move || super::file::read_whole(&path));
    let bytes = task.await.map_err(|_| Error::Internal("reading task"))??;
    let with_state = is_newer(order.material, &source.parsed.material);
    telethon_update::update(&bytes, order.material, order.addresses, with_state)
}

/// Blocks.
fn put(
    root: &Path,
    key: &SessionKey,
    data: &[u8],
    modes: Modes,
    known: Option<&LegacyFingerprint>,
) -> Result<LegacyFingerprint, Error> {
    let folder = open_folder(root, key, modes)?;
    let (name, draft_name) = (file_name(key), format!(".{}.session.usm-draft", key.app));
    let mut draft = start_draft(&folder, &draft_name)?;
    let done = (|| {
        draft.set_permissions(Permissions::from_mode(modes.file)).map_err(|error| unwritable(&error))?;
        draft.write_all(data).map_err(|error| unwritable(&error))?;
        draft.sync_all().map_err(|error| unwritable(&error))?;
        // Whoever wrote to the file meanwhile must not lose it.
        if current(&path_of(root, key))?.as_ref() != known {
            return Err(Error::Changing);
        }
        renameat(&folder, draft_name.as_str(), &folder, name.as_str())
            .map_err(|errno| unwritable(&errno.into()))?;
        File::from(folder.try_clone().map_err(|error| unwritable(&error))?)
            .sync_all()
            .map_err(|error| unwritable(&error))
    })();
    if let Err(error) = done {
        let _gone = unlinkat(&folder, draft_name.as_str(), UnlinkatFlags::NoRemoveDir);
        return Err(error);
    }
    let metadata = draft.metadata().map_err(|error| unwritable(&error))?;
    LegacyFingerprint::of_reader(data, &metadata).map_err(|error| unwritable(&error))
}

fn current(path: &Path) -> Result<Option<LegacyFingerprint>, Error> {
    match super::fingerprint_file(path) {
        Ok(found) => Ok(Some(found)),
        Err(Error::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The tenant's folder, made if there is none; never a link.
fn open_folder(root: &Path, key: &SessionKey, modes: Modes) -> Result<OwnedFd, Error> {
    let directory = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    // The root may be a link: whoever runs this named it.
    let root = fs::OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).bits())
        .open(root)
        .map_err(|error| unwritable(&error))?;
    let name = key.tenant.as_str();
    let open = || openat(root.as_fd(), name, directory, Mode::empty());
    match open() {
        Err(Errno::ENOENT) => {}
        Err(Errno::ELOOP | Errno::ENOTDIR) => return Err(Error::IsLink),
        opened => return opened.map_err(|errno| unwritable(&errno.into())),
    }
    match mkdirat(root.as_fd(), name, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(unwritable(&errno.into())),
    }
    let folder = open().map_err(|errno| unwritable(&errno.into()))?;
    let made = File::from(folder.try_clone().map_err(|error| unwritable(&error))?);
    made.set_permissions(Permissions::from_mode(modes.folder)).map_err(|error| unwritable(&error))?;
    root.sync_all().map_err(|error| unwritable(&error))?;
    Ok(folder)
}

/// A new file of our own, locked as long as it is open. One that a killed run left is removed; one that another run
/// writes now is not.
fn start_draft(folder: &OwnedFd, name: &str) -> Result<File, Error> {
    let look = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    match openat(folder.as_fd(), name, look, Mode::empty()) {
        Ok(left) => {
            File::from(left).try_lock().map_err(|_| Error::Locked)?;
            unlinkat(folder.as_fd(), name, UnlinkatFlags::NoRemoveDir)
                .map_err(|errno| unwritable(&errno.into()))?;
        }
        Err(Errno::ENOENT) => {}
        // A link in its place leads nowhere we want to go.
        Err(Errno::ELOOP) if fstatat(folder.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok() => {
            return Err(Error::IsLink);
        }
        Err(errno) => return Err(unwritable(&errno.into())),
    }
    let make = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let made = openat(folder.as_fd(), name, make, Mode::S_IRUSR | Mode::S_IWUSR);
    let file = File::from(made.map_err(|errno| match errno {
        Errno::EEXIST => Error::Locked,
        errno => unwritable(&errno.into()),
    })?);
    file.try_lock().map_err(|_| Error::Locked)?;
    Ok(file)
}

fn unwritable(error: &io::Error) -> Error {
    tracing::debug!(error = %error, "A session file cannot be written");
    Error::Unwritable
}
