//! The `tdata` folder of Telegram Desktop: a key file, and for each account a file and a folder with a map. What comes
//! from a caller is the same folder in a ZIP archive.
//!
//! Everything in it is sealed under a local key, and that under the passcode, which is slow on purpose: the work is
//! done on threads that may block, and at most two at a time, because it may take 256 MiB.

mod account;
mod archive;
mod config;
mod container;
mod disk;
mod folder;
mod kdf;
mod key_file;
mod read;
mod seal;
mod stream;
mod write;

use std::{
    path::Path,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use zeroize::Zeroizing;

pub use self::{
    read::{Account, choose},
    write::Folder,
};
use super::{Addresses, Error, Options, Parsed, Written};
use crate::domain::{material::Material, secret::Secret};

/// How many folders are opened or written at a time.
static ROOM: Room = Room { free: Mutex::new(2), left: Condvar::new() };
/// How long opening or writing one may take, the wait for room included: a second and 256 MiB each.
pub(super) const TIME_MAX: Duration = Duration::from_secs(60);
/// How long all file access may take, on network file systems too.
const READING_MAX: Duration = Duration::from_secs(30);

/// Whether the bytes begin as a ZIP archive does.
pub(super) fn is_archive(bytes: &[u8]) -> bool {
    archive::is_one(bytes)
}

/// Reads one account of a folder in a ZIP archive. Blocks.
pub(super) fn read_archive(bytes: &[u8], addresses: &Addresses, options: &Options) -> Result<Parsed, Error> {
    let _place = ROOM.take();
    let (files, names) = archive::read(bytes)?;
    let accounts = read::accounts(&files, &names, text(options.passcode.as_ref()), addresses)?;
    read::choose(accounts, options.account)
}

/// Reads all accounts of a ZIP archive of a `tdata` folder, in the folder's order.
///
/// # Errors
/// What keeps all of them from being read: one refusal per trap, see [`Error`].
pub async fn read_tdata_archive(
    bytes: &[u8],
    addresses: &Addresses,
    passcode: Option<&Secret>,
) -> Result<Vec<Account>, Error> {
    if bytes.len() > super::SIZE_MAX {
        return Err(Error::TooLarge);
    }
    let bytes = Zeroizing::new(bytes.to_vec());
    let (addresses, passcode) = (addresses.clone(), passcode.cloned());
    blocking(move || {
        let (files, names) = archive::read(&bytes)?;
        read::accounts(&files, &names, text(passcode.as_ref()), &addresses)
    })
    .await
}

/// Reads all accounts of the `tdata` folder at `folder`, in its own order. It must lie in the folder `root`, also after
/// symbolic links were followed, and is not changed.
///
/// # Errors
/// What keeps all of them from being read: one refusal per trap, see [`Error`].
pub async fn read_tdata(
    root: &Path,
    folder: &Path,
    addresses: &Addresses,
    passcode: Option<&Secret>,
) -> Result<Vec<Account>, Error> {
    let (root, folder) = (root.to_owned(), folder.to_owned());
    let task = tokio::task::spawn_blocking(move || disk::read(&root, &folder));
    let (files, names) = tokio::time::timeout(READING_MAX, task)
        .await
        .map_err(|_| Error::TimeLimit)?
        .map_err(|_| Error::Internal("reading task"))??;
    let (addresses, passcode) = (addresses.clone(), passcode.cloned());
    blocking(move || read::accounts(&files, &names, text(passcode.as_ref()), &addresses)).await
}

/// [`read_tdata`] for those who may wait.
pub(super) fn read_blocking(
    root: &Path,
    folder: &Path,
    addresses: &Addresses,
    passcode: Option<&Secret>,
) -> Result<Vec<Account>, Error> {
    let (files, names) = disk::read(root, folder)?;
    let _place = ROOM.take();
    read::accounts(&files, &names, text(passcode), addresses)
}

/// The files of an archive that was written here, by their paths in the folder.
///
/// # Errors
/// For any other: `ArchiveDamaged` and the like.
pub fn unzip_tdata(archive: &[u8]) -> Result<std::collections::BTreeMap<String, Zeroizing<Vec<u8>>>, Error> {
    let (files, _) = archive::read(archive)?;
    Ok(files.into_iter().map(|(path, found)| (path, found.bytes)).collect())
}

/// Whether a folder has a key file in it. Blocks.
pub fn is_tdata(folder: &Path) -> bool {
    disk::is_one(folder)
}

/// The folder of TDesktop that `path` is, or holds as `tdata`. Blocks.
pub fn find(path: &Path) -> Option<std::path::PathBuf> {
    let inner = path.join("tdata");
    [path.to_owned(), inner].into_iter().find(|folder| is_tdata(folder))
}

/// Writes one to six accounts as a `tdata` folder; who puts it onto a disk gives it mode 0700. An empty passcode is
/// none.
///
/// # Errors
/// `AccountCount`; for an account that TDesktop cannot hold `UserIdNeeded`, `TdataBot`, `TdataTestDc`; for unsound
/// material `NoKey`, `DataCentre`.
pub async fn write_tdata(materials: &[Material], passcode: Option<&Secret>) -> Result<Folder, Error> {
    let (materials, passcode) = (materials.to_vec(), passcode.cloned());
    blocking(move || write::folder(&materials, text(passcode.as_ref()))).await
}

/// Writes one account as a folder in a ZIP archive. Blocks.
pub(super) fn write_archive(material: &Material, passcode: Option<&Secret>) -> Result<Written, Error> {
    let _place = ROOM.take();
    let Folder { files, notes } = write::folder(std::slice::from_ref(material), text(passcode))?;
    Ok(Written { data: zip_tdata(&files)?, notes: notes.into_iter().flatten().collect() })
}

/// Packs a folder's files into the archive that imports take.
///
/// # Errors
/// `Internal`.
pub fn zip_tdata(
    files: &std::collections::BTreeMap<String, Zeroizing<Vec<u8>>>,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    archive::write(files.iter())
}

fn text(passcode: Option<&Secret>) -> &str {
    passcode.map_or("", Secret::expose_secret)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    super::blocking(TIME_MAX, move || {
        let _place = ROOM.take();
        work()
    })
    .await
}

/// Places for so many at a time; whoever finds none waits on its own thread.
struct Room {
    free: Mutex<usize>,
    left: Condvar,
}

/// Kept until the work ends, also if nobody waits for it any more.
struct Place<'a>(&'a Room);

impl Room {
    fn free(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Place<'_> {
        let mut free =
            self.left.wait_while(self.free(), |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Place(self)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.free() += 1;
        self.0.left.notify_one();
    }
}
