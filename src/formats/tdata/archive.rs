//! A tdata folder as one ZIP archive.

use std::io::{Cursor, Read as _, Write as _};

use zeroize::Zeroizing;
use zip::{CompressionMethod, ZipArchive, ZipWriter, read::ZipFile, write::SimpleFileOptions};

use super::folder::{FILE_LENGTH_MAX, Files, Found, LENGTH_MAX, Names, data_name, is_account};
use crate::formats::Error;

/// What every archive with a file in it begins with.
const MAGIC: &[u8] = b"PK\x03\x04";
/// Begins an archive without any.
const EMPTY_MAGIC: &[u8] = b"PK\x05\x06";
/// Begins what an archive says of one file at its end.
const ENTRY_MAGIC: &[u8] = b"PK\x01\x02";
/// A whole tdata folder has thousands of cached files.
const ENTRIES_MAX: usize = 50_000;
/// What is sealed does not shrink: more than this is made to fill the memory.
const RATIO_MAX: u64 = 100;
const DEPTH_MAX: usize = 8;

pub(super) fn is_one(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC) || bytes.starts_with(EMPTY_MAGIC)
}

/// The files of the folder in an archive, and their names.
///
/// # Errors
/// `ArchiveDamaged`, `ArchiveTooLarge`, `ArchivePath`, `ArchiveSealed`, `TdataFolders` if there are several, and
/// `Empty`.
pub(super) fn read(bytes: &[u8]) -> Result<(Files, Names), Error> {
    // Counted before anything is kept of them.
    if memchr::memmem::find_iter(bytes, ENTRY_MAGIC).nth(ENTRIES_MAX).is_some() {
        return Err(Error::ArchiveTooLarge);
    }
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|_| Error::ArchiveDamaged)?;
    let mut paths = Vec::with_capacity(archive.len());
    for at in 0..archive.len() {
        let entry = archive.by_index_raw(at).map_err(|_| Error::ArchiveDamaged)?;
        paths.push(path(&entry)?);
    }
    if paths.iter().all(Option::is_none) {
        return Err(Error::Empty);
    }
    let root = root(paths.iter().flatten())?;
    let within: Vec<Option<&str>> =
        paths.iter().map(|path| path.as_deref()?.strip_prefix(root.as_str())).collect();
    let names = Names::of(within.iter().flatten().filter(|path| !path.contains('/')).copied())?;
    let wanted: std::collections::BTreeSet<String> = names.all().collect();

    let (mut files, mut length) = (Files::new(), 0);
    for (at, path) in within.iter().enumerate() {
        let Some(path) = path.filter(|path| wanted.contains(*path)) else { continue };
        let found = extract(&mut archive, at)?;
        length += found.bytes.len() as u64;
        if length > LENGTH_MAX {
            return Err(Error::ArchiveTooLarge);
        }
        if files.insert(path.to_owned(), found).is_some() {
            return Err(Error::ArchiveDamaged);
        }
    }
    Ok((files, names))
}

/// The path of a file with `/` between its parts, where some archivers of Windows write their own separator; `None`
/// for a folder.
fn path<R: std::io::Read>(entry: &ZipFile<'_, R>) -> Result<Option<String>, Error> {
    // A name in no known encoding is none of TDesktop's.
    let Ok(name) = entry.name() else { return Ok(None) };
    let path = name.replace('\\', "/");
    let is_outside = path.starts_with('/')
        || path.as_bytes().get(1) == Some(&b':')
        || path.contains('\0')
        || path.split('/').any(|part| part == "..");
    if is_outside {
        return Err(Error::ArchivePath);
    }
    let path = path.trim_start_matches("./");
    Ok((!path.ends_with('/') && !path.is_empty()).then(|| path.to_owned()))
}

/// What comes before the folder's own files: nothing, `tdata/`, or more folders.
fn root<'a>(paths: impl Iterator<Item = &'a String> + Clone) -> Result<String, Error> {
    let roots = |is_one: fn(&str) -> bool| {
        let mut roots: Vec<&str> = paths
            .clone()
            .filter_map(|path| {
                let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
                is_one(name).then_some(folder)
            })
            .filter(|folder| folder.split('/').count() <= DEPTH_MAX)
            .collect();
        roots.sort_unstable();
        roots.dedup();
        roots
    };
    let mut found = roots(|name| data_name(name).is_some());
    if found.is_empty() {
        // From before there were key files, or it lacks one.
        found = roots(is_account);
        let all = found.clone();
        found.retain(|folder| !all.iter().any(|other| is_below(folder, other)));
    }
    match found.as_slice() {
        [] | [""] => Ok(String::new()),
        [folder] => Ok(format!("{folder}/")),
        _ => Err(Error::TdataFolders),
    }
}

fn is_below(folder: &str, other: &str) -> bool {
    other.is_empty() && !folder.is_empty()
        || folder.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'))
}

fn extract(archive: &mut ZipArchive<Cursor<&[u8]>>, at: usize) -> Result<Found, Error> {
    let raw = archive.by_index_raw(at).map_err(|_| Error::ArchiveDamaged)?;
    if raw.encrypted() {
        return Err(Error::ArchiveSealed);
    }
    if raw.is_symlink() {
        return Err(Error::NotRegular);
    }
    if raw.size() > FILE_LENGTH_MAX || raw.size() / RATIO_MAX > raw.compressed_size().max(1) {
        return Err(Error::ArchiveTooLarge);
    }
    let told = usize::try_from(raw.size()).map_err(|_| Error::ArchiveTooLarge)?;
    let modified =
        raw.last_modified().map_or(0, |time| i128::from(time.datepart()) << 16 | i128::from(time.timepart()));
    drop(raw);
    let entry = archive.by_index(at).map_err(|_| Error::ArchiveDamaged)?;
    // One more than it says, to see whether it lies.
    let mut bytes = Zeroizing::new(Vec::with_capacity(told + 1));
    entry.take(told as u64 + 1).read_to_end(&mut bytes).map_err(|_| Error::ArchiveDamaged)?;
    if bytes.len() == told {
        Ok(Found { bytes, modified, metadata: None })
    } else {
        Err(Error::ArchiveDamaged)
    }
}

/// An archive of the files, in a folder `tdata`.
///
/// # Errors
/// `Internal`.
pub(super) fn write<'a>(
    files: impl Iterator<Item = (&'a String, &'a Zeroizing<Vec<u8>>)>,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    const FAILED: fn(zip::result::ZipError) -> Error = |_| Error::Internal("archive");
    // Without times: the same on every machine, and nothing told of this one.
    let options =
        SimpleFileOptions::default().compression_method(CompressionMethod::Stored).unix_permissions(0o600);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, bytes) in files {
        archive.start_file(format!("tdata/{path}"), options).map_err(FAILED)?;
        archive.write_all(bytes).map_err(|_| Error::Internal("archive"))?;
    }
    Ok(Zeroizing::new(archive.finish().map_err(FAILED)?.into_inner()))
}
