//! Where new sessions go: whole or not at all, readable by their owner only, over nothing that is there.

use std::{
    fs,
    io::{self, IsTerminal as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::{Done, Failure, bytes};
use crate::formats::{self, Data};

/// Where the new form goes.
pub(super) enum Out {
    Standard,
    Path { path: PathBuf, force: bool },
}

impl Out {
    /// # Errors
    /// Wrong usage on a terminal, unless it was asked for by name: a key on a screen is a key in its scrollback.
    pub(super) fn standard(is_named: bool) -> Result<Self, Failure> {
        if io::stdout().is_terminal() && !is_named {
            return Err(Failure::Usage(
                "a session is a key, and would be shown on this terminal; name a file with --out, or --out - to see it"
                    .to_owned(),
            ));
        }
        Ok(Self::Standard)
    }

    /// The folder of the new file.
    pub(super) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Standard => None,
            Self::Path { path, .. } => Some(parent(path)),
        }
    }
}

pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// # Errors
/// If the new file is the source, or there without being meant to be replaced.
pub(super) fn check(path: &Path, source: Option<&PathBuf>, force: bool) -> Result<(), Failure> {
    let same = |source: &PathBuf| {
        source.canonicalize().is_ok_and(|source| path.canonicalize().is_ok_and(|target| target == source))
    };
    if source.is_some_and(same) {
        return Err(Failure::Usage("the new file would replace its source; name another one".to_owned()));
    }
    if !force && path.symlink_metadata().is_ok() {
        return Err(Failure::Failed(format!(
            "{} is there already; name another file, or replace it with --force",
            path.display()
        )));
    }
    Ok(())
}

/// Puts a session in its place, which lasts once the folder is settled.
pub(super) fn keep(data: Data, path: &Path, force: bool) -> Done {
    let told = |error: io::Error| Failure::Failed(format!("{} cannot be written: {error}", path.display()));
    let folder = parent(path);
    let file = match data {
        Data::File(file) => file,
        Data::Memory(bytes) => {
            // Created by the library for its owner only.
            let mut file = tempfile::NamedTempFile::new_in(folder).map_err(told)?;
            file.write_all(&bytes).map_err(told)?;
            file
        }
    };
    file.as_file().sync_all().map_err(told)?;
    let kept = if force { file.persist(path) } else { file.persist_noclobber(path) };
    kept.map(|_| ()).map_err(|error| told(error.error))
}

/// Whether a tdata folder goes there as one file.
pub(super) fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("zip"))
}

/// Puts a tdata folder in its place, for its owner only; one that is there is another program's account and stays.
pub(super) fn keep_folder(archive: &[u8], path: &Path) -> Done {
    let told = |error: io::Error| Failure::Failed(format!("{} cannot be written: {error}", path.display()));
    if path.symlink_metadata().is_ok() {
        return Err(Failure::Failed(format!("{} is there already; name another folder", path.display())));
    }
    let files = formats::unzip_tdata(archive).map_err(|error| Failure::Failed(error.to_string()))?;
    // Removed again unless it gets its name.
    let made = tempfile::Builder::new()
        .prefix(".tdata-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(parent(path))
        .map_err(told)?;
    let put = |name: &str, bytes: &[u8]| -> io::Result<()> {
        let target = made.path().join(name);
        let folder = target.parent().unwrap_or(made.path());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&target)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::File::open(folder)?.sync_all()
    };
    for (name, bytes) in &files {
        put(name, bytes).map_err(told)?;
    }
    fs::File::open(made.path()).and_then(|folder| folder.sync_all()).map_err(told)?;
    fs::rename(made.path(), path).map_err(told)?;
    // Under its own name now.
    let _ = made.keep();
    Ok(())
}

/// Makes the names of new files last.
pub(super) fn settle(folder: &Path) -> Done {
    let done = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
    done.map_err(|error| Failure::Failed(format!("{} cannot be written: {error}", folder.display())))
}

/// Prints a session, of a folder with its name before it.
pub(super) fn print(data: &Data, name: Option<&str>) -> Done {
    let bytes = bytes(data)?;
    let mut out = io::stdout().lock();
    let printed = (|| {
        if let Some(name) = name {
            write!(out, "{name}\t")?;
        }
        out.write_all(bytes)?;
        if name.is_some() || bytes.is_ascii() {
            out.write_all(b"\n")?;
        }
        out.flush()
    })();
    // Half a list of keys is no list: unlike other output, a reader that went away ends the command.
    printed.map_err(|error| Failure::Failed(format!("the output could not be written: {error}")))
}
