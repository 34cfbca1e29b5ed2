//! Session files put into their place: whole, with modes of their own, and over nothing that is not known.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use serde_json::json;
use usm::{
    domain::{
        id::SessionKey,
        material::{Format, Material, UpdateState},
    },
    formats::{self, Error, Modes, Order, Outcome, Overwrite, Placed, read_file},
};

use super::{addresses, auth_key, full_material, python};

async fn place(root: &Path, material: &Material, overwrite: Overwrite) -> Result<Placed, Error> {
    let key = SessionKey::parse("tenant", "app").unwrap();
    formats::place(Order {
        root,
        key: &key,
        material,
        format: Format::TelethonSqlite,
        written: None,
        addresses: &addresses(),
        modes: Modes { file: 0o640, folder: 0o750 },
        overwrite,
    })
    .await
}

fn file(root: &Path) -> PathBuf {
    root.join("tenant/app.session")
}

fn other_material() -> Material {
    let mut other = full_material();
    other.keys.get_mut(&4).unwrap().auth_key = auth_key(0x77);
    other
}

async fn key_in(root: &Path) -> String {
    let read = read_file(root, &file(root), &addresses()).await.unwrap().parsed.material;
    hex::encode(read.home().unwrap().auth_key.expose_secret())
}

#[tokio::test]
async fn a_file_is_made_once_with_its_modes_and_stays_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let first = place(root.path(), &full_material(), Overwrite::Refuse).await.unwrap();
    assert_eq!(first.outcome, Outcome::Written);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&root.path().join("tenant")), mode(&file(root.path()))), (0o750, 0o640));
    let read = read_file(root.path(), &file(root.path()), &addresses()).await.unwrap();
    assert_eq!(read.fingerprint, first.fingerprint);
    let again = place(root.path(), &full_material(), Overwrite::Refuse).await.unwrap();
    assert_eq!((again.outcome, again.fingerprint), (Outcome::Unchanged, first.fingerprint));
    assert_eq!(fs::read_dir(root.path().join("tenant")).unwrap().count(), 1, "no draft is left");
}

#[tokio::test]
async fn another_authorization_is_written_over_only_when_it_may_go() {
    let root = tempfile::tempdir().unwrap();
    let first = place(root.path(), &full_material(), Overwrite::Refuse).await.unwrap();
    let other = other_material();
    let stays = key_in(root.path()).await;
    assert_eq!(place(root.path(), &other, Overwrite::Refuse).await.unwrap_err(), Error::ExistsOther);
    let mut elsewhere = first.fingerprint.clone();
    elsewhere.size += 1;
    let refused = place(root.path(), &other, Overwrite::IfUntouched(elsewhere)).await;
    assert_eq!((refused.unwrap_err(), key_in(root.path()).await), (Error::ExistsOther, stays));
    let untouched = place(root.path(), &other, Overwrite::IfUntouched(first.fingerprint)).await.unwrap();
    assert_eq!(untouched.outcome, Outcome::Updated);
    assert_eq!(key_in(root.path()).await, hex::encode(auth_key(0x77).expose_secret()));
    // The former key is in no page that became free.
    let bytes = fs::read(file(root.path())).unwrap();
    let former = full_material();
    let former = former.home().unwrap().auth_key.expose_secret();
    assert!(!bytes.windows(64).any(|window| window == &former[..64]), "the former key is still in the file");

    fs::write(file(root.path()), "no session at all").unwrap();
    assert_eq!(place(root.path(), &other, Overwrite::Refuse).await.unwrap_err(), Error::ExistsOther);
    assert_eq!(place(root.path(), &other, Overwrite::Force).await.unwrap().outcome, Outcome::Written);
}

#[tokio::test]
async fn links_and_journals_in_its_place_are_refused_and_left() {
    let root = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), root.path().join("tenant")).unwrap();
    assert_eq!(place(root.path(), &full_material(), Overwrite::Force).await.unwrap_err(), Error::IsLink);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "nothing was written through it");

    fs::remove_file(root.path().join("tenant")).unwrap();
    fs::create_dir(root.path().join("tenant")).unwrap();
    let target = outside.path().join("target");
    fs::write(&target, "mine").unwrap();
    for name in ["app.session", ".app.session.usm-draft"] {
        let link = root.path().join("tenant").join(name);
        symlink(&target, &link).unwrap();
        assert_eq!(
            place(root.path(), &full_material(), Overwrite::Force).await.unwrap_err(),
            Error::IsLink,
            "{name}"
        );
        fs::remove_file(&link).unwrap();
    }
    assert_eq!(fs::read_to_string(&target).unwrap(), "mine");

    place(root.path(), &full_material(), Overwrite::Refuse).await.unwrap();
    for suffix in ["-journal", "-wal"] {
        let beside = root.path().join(format!("tenant/app.session{suffix}"));
        fs::write(&beside, "a page").unwrap();
        let refused = place(root.path(), &other_material(), Overwrite::Force).await;
        assert_eq!(refused.unwrap_err(), Error::JournalBeside, "{suffix} would be taken for the new file's");
        fs::remove_file(&beside).unwrap();
    }
    // What a killed run left is no obstacle, and what another run writes now is.
    let draft = root.path().join("tenant/.app.session.usm-draft");
    fs::write(&draft, "half a file").unwrap();
    place(root.path(), &other_material(), Overwrite::Force).await.unwrap();
    let writing = fs::File::create(&draft).unwrap();
    writing.lock().unwrap();
    assert_eq!(place(root.path(), &full_material(), Overwrite::Force).await.unwrap_err(), Error::Locked);
}

#[tokio::test]
async fn a_full_or_closed_folder_leaves_the_file_that_was_there() {
    let root = tempfile::tempdir().unwrap();
    let missing = root.path().join("missing");
    assert_eq!(place(&missing, &full_material(), Overwrite::Refuse).await.unwrap_err(), Error::Unwritable);
    assert!(!missing.exists(), "a folder of sessions is not made by mistake");
}

#[tokio::test]
async fn a_file_of_real_telethon_keeps_what_only_it_knows() {
    for release in ["1.45.0", "1.42.0", "1.24.0"] {
        let root = tempfile::tempdir().unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let folder = python::telethon(release);
        python::run(
            "telethon_sessions.py",
            &[folder.as_os_str(), "write".as_ref(), scratch.path().as_os_str()],
        );
        fs::create_dir(root.path().join("tenant")).unwrap();
        fs::copy(scratch.path().join("written.session"), file(root.path())).unwrap();

        let mut material =
            read_file(root.path(), &file(root.path()), &addresses()).await.unwrap().parsed.material;
        let same = place(root.path(), &material, Overwrite::Refuse).await.unwrap();
        assert_eq!(same.outcome, Outcome::Unchanged, "{release}");
        material.updates = Some(UpdateState { pts: 77, qts: 20, date: 1_700_000_200, seq: 30 });
        let newer = place(root.path(), &material, Overwrite::Refuse).await.unwrap();
        assert_eq!(newer.outcome, Outcome::Updated, "{release}");

        let back = read_file(root.path(), &file(root.path()), &addresses()).await.unwrap().parsed;
        assert_eq!(back.material.updates.map(|state| state.pts), Some(77), "{release}");
        let kept: Vec<_> = back.notes.iter().map(ToString::to_string).collect();
        assert_eq!(back.material.channels, material.channels, "{release}");
        assert_eq!(material.channels.len(), 1, "{release}");
        assert_eq!(kept, ["not carried over: 1 peers"], "{release}");
        // Telethon itself opens it and works with it.
        fs::copy(file(root.path()), scratch.path().join("ours.session")).unwrap();
        let string = formats::write(&material, Format::TelethonString, &addresses()).await.unwrap();
        fs::write(scratch.path().join("ours.txt"), &*string.data).unwrap();
        let seen = python::run(
            "telethon_sessions.py",
            &[folder.as_os_str(), "read".as_ref(), scratch.path().as_os_str()],
        );
        assert_eq!(seen["file"]["state"]["pts"], json!(77), "{release}");
        assert_eq!(seen["file"]["dc"], json!(4), "{release}");
    }
}
