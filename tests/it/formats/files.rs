//! Files that are not what they seem, are in use, or belong to somebody else.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest as _, Sha256};
use usm::{
    domain::material::Format,
    formats::{self, Error, LegacyFingerprint, Note},
};

use super::{addresses, full_material, python::Holder};

/// A sessions folder with one good file in it, and a folder beside it.
struct Place {
    base: tempfile::TempDir,
    good: PathBuf,
}

impl Place {
    async fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir_all(base.path().join("sessions/tenant")).unwrap();
        fs::create_dir(base.path().join("elsewhere")).unwrap();
        let good = base.path().join("sessions/tenant/app.session");
        let written = formats::write(&full_material(), Format::TelethonSqlite, &addresses()).await.unwrap();
        fs::write(&good, &*written.data).unwrap();
        fs::copy(&good, base.path().join("elsewhere/app.session")).unwrap();
        Self { base, good }
    }

    fn root(&self) -> PathBuf {
        self.base.path().join("sessions")
    }

    async fn read(&self, path: impl AsRef<Path>) -> Result<formats::SourceFile, Error> {
        formats::read_file(&self.root(), path.as_ref(), &addresses()).await
    }

    async fn refused(&self, path: impl AsRef<Path>) -> Error {
        self.read(path).await.unwrap_err()
    }
}

#[tokio::test]
async fn links_and_paths_out_of_the_folder_are_refused() {
    let place = Place::new().await;
    let root = place.root();
    let outside = place.base.path().join("elsewhere/app.session");
    symlink(&outside, root.join("absolute.session")).unwrap();
    symlink("../elsewhere/app.session", root.join("relative.session")).unwrap();
    symlink("../elsewhere", root.join("folder")).unwrap();
    symlink("/dev/zero", root.join("zero.session")).unwrap();
    for path in ["absolute.session", "relative.session", "folder/app.session", "zero.session"] {
        assert_eq!(place.refused(root.join(path)).await, Error::OutsideFolder, "{path}");
    }
    assert_eq!(place.refused(&outside).await, Error::OutsideFolder);
    assert_eq!(place.refused(root.join("../elsewhere/app.session")).await, Error::OutsideFolder);

    symlink("tenant/app.session", root.join("inside.session")).unwrap();
    assert!(place.read(root.join("inside.session")).await.is_ok());
}

#[tokio::test]
async fn what_is_no_regular_file_is_refused_without_waiting() {
    let place = Place::new().await;
    let root = place.root();
    assert_eq!(place.refused(root.join("tenant")).await, Error::NotRegular);

    let fifo = root.join("fifo.session");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    assert_eq!(place.refused(&fifo).await, Error::NotRegular);

    let socket = root.join("socket.session");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert_eq!(place.refused(&socket).await, Error::NotRegular);

    assert_eq!(place.refused(root.join("absent.session")).await, Error::NotFound);
    symlink("nowhere", root.join("dangling.session")).unwrap();
    assert_eq!(place.refused(root.join("dangling.session")).await, Error::NotFound);
    symlink("loop.session", root.join("loop.session")).unwrap();
    assert_eq!(place.refused(root.join("loop.session")).await, Error::OutsideFolder);
}

#[tokio::test]
async fn siblings_are_judged_like_the_file_itself() {
    let place = Place::new().await;
    let wal = place.root().join("tenant/app.session-wal");
    symlink("/etc/passwd", &wal).unwrap();
    assert_eq!(place.refused(&place.good).await, Error::OutsideFolder);
    fs::remove_file(&wal).unwrap();
    assert!(Command::new("mkfifo").arg(&wal).status().unwrap().success());
    assert_eq!(place.refused(&place.good).await, Error::NotRegular);
}

#[tokio::test]
async fn a_file_that_a_program_writes_to_is_locked() {
    let place = Place::new().await;
    let holder = Holder::of(&place.good, "exclusive");
    assert_eq!(place.refused(&place.good).await, Error::Locked);
    drop(holder);
    assert!(place.read(&place.good).await.is_ok_and(|file| file.parsed.material.home_dc == 4));
}

#[tokio::test]
async fn a_file_in_use_is_read_as_last_committed_and_unlocked_again() {
    for mode in ["shared", "immediate", "dirty"] {
        let place = Place::new().await;
        let holder = Holder::of(&place.good, mode);
        let file = place.read(&place.good).await.unwrap_or_else(|error| panic!("{mode}: {error}"));
        assert_eq!(file.parsed.material.home_dc, 4, "{mode}");
        assert_eq!(file.parsed.notes.contains(&Note::WithJournal), mode == "dirty", "{mode}");
        drop(holder);
        // Fails as long as anybody reads.
        drop(Holder::of(&place.good, "exclusive"));
    }
}

#[tokio::test]
async fn the_legacy_fingerprint_is_hash_size_and_time_of_change() {
    let place = Place::new().await;
    let content = fs::read(&place.good).unwrap();
    let file = place.read(&place.good).await.unwrap();
    let metadata = fs::metadata(&place.good).unwrap();
    let expected =
        format!("{}:{}:{}", hex::encode(Sha256::digest(&content)), content.len(), metadata.mtime());
    assert_eq!(file.fingerprint.to_string(), expected);
    let streamed = LegacyFingerprint::of_reader(fs::File::open(&place.good).unwrap(), &metadata).unwrap();
    assert_eq!(streamed, file.fingerprint);
    assert_eq!(LegacyFingerprint::parse(&expected), Some(file.fingerprint));
}
