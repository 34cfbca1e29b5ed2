//! A tdata folder on a disk, perhaps one that TDesktop works with. It is only ever read.

use std::{
    fs::{self, File, Metadata},
    io::Read as _,
    os::{fd::AsFd, unix::fs::MetadataExt as _},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{Mode, SFlag, fstatat},
};
use zeroize::Zeroizing;

use super::folder::{FILE_LENGTH_MAX, Files, Found, LENGTH_MAX, Names, is_account};
use crate::formats::{
    Error,
    file::{state, unreadable},
};

/// How often a folder that changes under the reader is read again.
const ATTEMPTS_MAX: usize = 3;
/// A whole tdata folder has a few dozen names at its top.
const NAMES_MAX: usize = 100_000;

/// The files of the folder, which must lie in `root` also after symbolic links were followed. Blocks.
///
/// # Errors
/// Those of files; `Empty`, `TdataKeyFiles`.
pub(super) fn read(root: &Path, folder: &Path) -> Result<(Files, Names), Error> {
    let root = root.canonicalize().map_err(|error| unreadable(&error))?;
    let folder = folder.canonicalize().map_err(|error| unreadable(&error))?;
    if !folder.starts_with(&root) {
        return Err(Error::OutsideFolder);
    }
    for _ in 0..ATTEMPTS_MAX {
        let listed = list(&folder)?;
        if listed.is_empty() {
            return Err(Error::Empty);
        }
        let names = Names::of(listed.iter().map(String::as_str))?;
        let files = load(&folder, &listed, &names)?;
        // Whatever was written meanwhile was written to a new file under the same name, or to this one.
        if is_unchanged(&folder, &listed, &names, &files)? {
            return Ok((files, names));
        }
    }
    Err(Error::Changing)
}

/// Whether this looks like a tdata folder, by the names in it.
pub(super) fn is_one(folder: &Path) -> bool {
    list(folder).is_ok_and(|names| names.iter().any(|name| super::folder::data_name(name).is_some()))
}

/// The names in the folder; those that are not UTF-8 are nothing of ours.
fn list(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = fs::read_dir(folder).map_err(|error| match unreadable(&error) {
        // It is a file.
        Error::NotFound if folder.exists() => Error::NotRegular,
        other => other,
    })?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(&error))?;
        if names.len() == NAMES_MAX {
            return Err(Error::TooLarge);
        }
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

fn load(folder: &Path, listed: &[String], names: &Names) -> Result<Files, Error> {
    let mut files = Files::new();
    let mut length = 0;
    each(folder, listed, names, |path, file| {
        let found = read_file(file)?;
        length += found.bytes.len() as u64;
        if length > LENGTH_MAX {
            return Err(Error::TooLarge);
        }
        files.insert(path, found);
        Ok(())
    })?;
    Ok(files)
}

fn is_unchanged(folder: &Path, listed: &[String], names: &Names, files: &Files) -> Result<bool, Error> {
    let (mut seen, mut same) = (0, true);
    each(folder, listed, names, |path, file| {
        let now = file.metadata().map_err(|error| unreadable(&error))?;
        let before = files.get(&path).and_then(|found| found.metadata.as_ref());
        seen += 1;
        same &= before.is_some_and(|before| state(before) == state(&now));
        Ok(())
    })?;
    Ok(same && seen == files.len())
}

/// Opens whatever of the folder's files is there. No link is followed below the folder itself, neither one in the
/// place of a file nor one in the place of an account's folder.
fn each(
    folder: &Path,
    listed: &[String],
    names: &Names,
    mut visit: impl FnMut(String, File) -> Result<(), Error>,
) -> Result<(), Error> {
    let top = File::open(folder).map_err(|error| unreadable(&error))?;
    let mut account: Option<(String, Option<File>)> = None;
    for path in names.all() {
        let file = match path.split_once('/') {
            None if listed.contains(&path) => open(&top, &path, OFlag::empty())?,
            Some((name, file)) if is_account(name) && listed.iter().any(|listed| listed == name) => {
                if account.as_ref().is_none_or(|(open, _)| open != name) {
                    account = Some((name.to_owned(), open(&top, name, OFlag::O_DIRECTORY)?));
                }
                match account.as_ref() {
                    Some((_, Some(within))) => open(within, file, OFlag::empty())?,
                    _ => None,
                }
            }
            _ => None,
        };
        if let Some(file) = file {
            visit(path, file)?;
        }
    }
    Ok(())
}

/// `None` if there is none.
fn open(within: &impl AsFd, name: &str, more: OFlag) -> Result<Option<File>, Error> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    match openat(within, name, flags | more, Mode::empty()) {
        Ok(file) => Ok(Some(File::from(file))),
        // What Linux says of a link in a folder's place.
        Err(Errno::ENOTDIR) if is_link(within, name) => Err(Error::OutsideFolder),
        Err(errno) => match unreadable(&errno.into()) {
            Error::NotFound => Ok(None),
            other => Err(other),
        },
    }
}

fn is_link(within: &impl AsFd, name: &str) -> bool {
    fstatat(within, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .is_ok_and(|found| SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFLNK)
}

fn read_file(file: File) -> Result<Found, Error> {
    let metadata: Metadata = file.metadata().map_err(|error| unreadable(&error))?;
    if !metadata.is_file() {
        return Err(Error::NotRegular);
    }
    if metadata.len() > FILE_LENGTH_MAX {
        return Err(Error::TooLarge);
    }
    // Room for one byte more, so that reading to the end does not grow it, which would leave a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
    file.take(FILE_LENGTH_MAX + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    let modified = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    Ok(Found { bytes, modified, metadata: Some(metadata) })
}
