//! Each trap has its own name.

use std::{fs, os::unix::fs::symlink, time::Duration};

use opentele2_core::{kdf, tdata::key_data};
use usm::{
    domain::material::Format,
    formats::{self, Error, Item, Note},
};

use super::{
    FIRST, Files, Made, PASSCODE, SECOND, account, account_everywhere, addresses, arrays, foreign_account,
    judge, list, parse, read, save, written, zip,
};

const ACCOUNT_FILE: &str = "D877F783D5D3EF8Cs";
const MAP: &str = "D877F783D5D3EF8C/maps";

async fn refused(files: &Files, passcode: &str) -> Error {
    match judge(files, passcode).await {
        Err(error) => error,
        Ok(accounts) => accounts.into_iter().next().unwrap().unwrap_err(),
    }
}

fn without(files: &Files, path: &str) -> Files {
    let mut files = files.clone();
    assert!(files.remove(path).is_some());
    files
}

fn changed(files: &Files, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> Files {
    let mut files = files.clone();
    change(files.get_mut(path).unwrap());
    files
}

#[tokio::test]
async fn a_file_that_is_missing_or_damaged_is_named() {
    let good = written(&[account(4, 7)], "").await;
    assert_eq!(refused(&Files::new(), "").await, Error::Empty);
    assert_eq!(refused(&without(&good, "key_datas"), "").await, Error::TdataNoKeyFile);
    let other = Files::from([("picture.png".to_owned(), vec![1, 2, 3])]);
    assert_eq!(refused(&other, "").await, Error::TdataNoKeyFile);
    assert_eq!(refused(&without(&good, ACCOUNT_FILE), "").await, Error::TdataNoAccountFile);
    for path in ["key_datas", ACCOUNT_FILE] {
        let broken = changed(&good, path, |bytes| *bytes.last_mut().unwrap() ^= 1);
        assert_eq!(refused(&broken, "").await, Error::TdataChecksum);
        let broken = changed(&good, path, |bytes| bytes[40] ^= 1);
        assert_eq!(refused(&broken, "").await, Error::TdataChecksum);
        for length in [2, 12, 100] {
            let cut = changed(&good, path, |bytes| bytes.truncate(length));
            assert_eq!(refused(&cut, "").await, Error::TdataTruncated);
        }
        let cut = changed(&good, path, |bytes| {
            bytes.pop();
        });
        assert_eq!(refused(&cut, "").await, Error::TdataTruncated);
        assert_eq!(refused(&changed(&good, path, Vec::clear), "").await, Error::TdataFileEmpty);
        let other = changed(&good, path, |bytes| bytes[..4].copy_from_slice(b"\x89PNG"));
        assert_eq!(refused(&other, "").await, Error::TdataMagic);
    }
    let mut strange = good.clone();
    strange.insert(ACCOUNT_FILE.to_owned(), written(&[account(4, 7)], "").await[ACCOUNT_FILE].clone());
    assert_eq!(refused(&strange, "").await.code(), "tdata_damaged");
    // One file by itself.
    let one = formats::parse(&good["key_datas"], None, &addresses()).await;
    assert_eq!(one.unwrap_err(), Error::TdataOneFile);
}

#[tokio::test]
async fn an_account_without_its_map_is_read_with_a_remark() {
    let good = written(&[account(4, 7)], "").await;
    for files in [without(&good, MAP), changed(&good, MAP, |bytes| bytes.truncate(30))] {
        let parsed = judge(&files, "").await.unwrap().pop().unwrap().unwrap();
        assert_eq!(parsed.material, account(4, 7));
        assert_eq!(parsed.notes, [Note::MapMissing, Note::AddressMissing]);
    }
}

#[tokio::test]
async fn a_passcode_that_is_missing_wrong_or_not_needed_is_told() {
    let locked = written(&[account(4, 7)], PASSCODE).await;
    assert_eq!(refused(&locked, "").await, Error::PasscodeNeeded);
    assert_eq!(refused(&locked, "other").await, Error::WrongPasscode);
    assert!(judge(&locked, PASSCODE).await.unwrap()[0].is_ok());
    assert_eq!(parse(&zip(&locked), PASSCODE, None).await.unwrap().material, account(4, 7));

    let open = written(&[account(4, 7)], "").await;
    let parsed = judge(&open, PASSCODE).await.unwrap().pop().unwrap().unwrap();
    assert_eq!(parsed.notes, [Note::PasscodeUnused, Note::AddressMissing]);
}

fn wrap(made: &Made, kdf: key_data::PasscodeKdf, passcode: &str) -> key_data::PasscodeWrap {
    let salt = vec![5; 32];
    let key = key_data::create_passcode_key(passcode.as_bytes(), &salt, &kdf).unwrap();
    key_data::PasscodeWrap { kdf, salt, key_encrypted: made.sealed_under(&key) }
}

#[tokio::test]
async fn a_passcode_of_the_newest_key_file_is_tried_by_either_function_and_within_bounds() {
    let mut made = Made::new();
    made.put_sealed(ACCOUNT_FILE, &foreign_account(0, &account(4, 7)).encode_mtp_data().unwrap());
    made.put_map(FIRST);
    let kdf = |kind, memory, time, parallelism| key_data::PasscodeKdf {
        kind,
        generation: 3,
        memory,
        time,
        parallelism,
    };
    for kdf in [kdf(key_data::KDF_ARGON2ID, 256, 2, 2), kdf(key_data::KDF_SCRYPT, 1024, 8, 1)] {
        // Beside the one that counts there is one that a broken change of the passcode left.
        let left = key_data::PasscodeKdf { generation: 2, ..kdf };
        made.put_new_key_file(None, 3, vec![wrap(&made, left, "before"), wrap(&made, kdf, PASSCODE)]);
        assert_eq!(judge(&made.files, PASSCODE).await.unwrap()[0].as_ref().unwrap().material, account(4, 7));
        assert_eq!(refused(&made.files, "").await, Error::PasscodeNeeded);
        assert_eq!(refused(&made.files, "before").await, Error::WrongPasscode);
    }
    for costly in [
        kdf(key_data::KDF_ARGON2ID, 256 * 1024 + 1, 1, 1),
        kdf(key_data::KDF_ARGON2ID, 256, 65, 1),
        kdf(key_data::KDF_ARGON2ID, 256, 1, 17),
        kdf(key_data::KDF_ARGON2ID, u32::MAX, u32::MAX, u32::MAX / 8),
        kdf(key_data::KDF_SCRYPT, 1 << 30, 1, 1),
        kdf(key_data::KDF_SCRYPT, 1 << 12, 1 << 20, 1),
        kdf(key_data::KDF_SCRYPT, 1 << 12, 8, 17),
    ] {
        let wrap = key_data::PasscodeWrap { kdf: costly, salt: vec![5; 32], key_encrypted: vec![0; 288] };
        made.put_new_key_file(None, 3, vec![wrap]);
        let judged = tokio::time::timeout(Duration::from_secs(5), refused(&made.files, PASSCODE)).await;
        assert_eq!(judged.expect("at once"), Error::PasscodeCost);
    }
    for (kind, memory, time, salt) in
        [(9, 64, 1, 32), (key_data::KDF_ARGON2ID, 1, 1, 32), (key_data::KDF_ARGON2ID, 64, 1, 7)]
    {
        let wrap = key_data::PasscodeWrap {
            kdf: kdf(kind, memory, time, 1),
            salt: vec![5; salt],
            key_encrypted: vec![0; 288],
        };
        made.put_new_key_file(None, 3, vec![wrap]);
        assert_eq!(refused(&made.files, PASSCODE).await.code(), "tdata_damaged");
    }
    // No wrap of the generation that counts, and no key without a passcode.
    made.put_new_key_file(None, 3, Vec::new());
    assert_eq!(refused(&made.files, PASSCODE).await.code(), "tdata_damaged");
}

#[tokio::test]
async fn the_newer_of_two_old_suffixes_counts_and_today_s_comes_first() {
    let (new, old) = (account(4, 7), account(2, 7));
    let mut made = Made::new();
    made.put_key_file(&list(&[0], 0));
    made.put_map(FIRST);
    made.put_sealed("D877F783D5D3EF8C1", &foreign_account(0, &new).encode_mtp_data().unwrap());
    made.put_sealed("D877F783D5D3EF8C0", &foreign_account(0, &old).encode_mtp_data().unwrap());
    let folder = tempfile::tempdir().unwrap();
    save(&made.files, folder.path());
    let age = |name: &str, seconds: u64| {
        let file = fs::File::options().write(true).open(folder.path().join(name)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    };
    let home_dc =
        async || read(folder.path(), "").await.unwrap()[0].parsed.as_ref().unwrap().material.home_dc;
    age("D877F783D5D3EF8C0", 1_000);
    age("D877F783D5D3EF8C1", 2_000);
    assert_eq!(home_dc().await, 4);
    age("D877F783D5D3EF8C0", 3_000);
    assert_eq!(home_dc().await, 2);
    // The newer one was cut while it was written.
    fs::write(folder.path().join("D877F783D5D3EF8C0"), b"TDF$\0\0").unwrap();
    assert_eq!(home_dc().await, 4);
    fs::copy(folder.path().join("D877F783D5D3EF8C1"), folder.path().join("D877F783D5D3EF8Cs")).unwrap();
    age("D877F783D5D3EF8C1", 9_000);
    assert_eq!(home_dc().await, 4);
    // Whatever is under today's suffix counts.
    fs::write(folder.path().join("D877F783D5D3EF8Cs"), b"").unwrap();
    let error = read(folder.path(), "").await.unwrap().pop().unwrap().parsed.unwrap_err();
    assert_eq!(error, Error::TdataFileEmpty);
}

/// As TDesktop kept it before there were key files and authorizations in one block.
#[tokio::test]
async fn a_folder_from_before_key_files_is_read() {
    let wanted = account_everywhere();
    for passcode in ["", PASSCODE] {
        let mut made = Made::new();
        let salt = [8; 32];
        let key = made.sealed_under(&kdf::create_legacy_local_key(passcode.as_bytes(), &salt));
        let map = arrays(&[Some(&salt), Some(&key), Some(&made.seal(&[]))]);
        made.put("D877F783D5D3EF8C/map1", map);
        let mut settings = Vec::new();
        // A data centre's address and a limit, which are not needed.
        settings
            .extend_from_slice(&[0, 0, 0, 0x27, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 2, 0, b'1', 0, 0, 1, 0xbb]);
        settings.extend_from_slice(&[0, 0, 0, 0x32, 0, 0, 0, 1]);
        settings.extend_from_slice(&[0, 0, 0, 1]);
        settings.extend_from_slice(&77_i32.to_be_bytes());
        settings.extend_from_slice(&wanted.home_dc.to_be_bytes());
        for (dc, key) in &wanted.keys {
            settings.extend_from_slice(&[0, 0, 0, 0]);
            settings.extend_from_slice(&dc.to_be_bytes());
            settings.extend_from_slice(key.auth_key.expose_secret());
        }
        made.put_sealed("D877F783D5D3EF8C0", &settings);
        let parsed = judge(&made.files, passcode).await.unwrap().pop().unwrap().unwrap();
        assert_eq!(parsed.material.keys, wanted.keys);
        assert_eq!((parsed.material.home_dc, parsed.material.telegram_user_id), (4, Some(77)));
        assert_eq!(parsed.notes, [Note::AddressMissing]);
        if !passcode.is_empty() {
            assert_eq!(refused(&made.files, "").await, Error::PasscodeNeeded);
            assert_eq!(refused(&made.files, "other").await, Error::WrongPasscode);
        }
    }
}

#[tokio::test]
async fn of_several_accounts_one_must_be_named() {
    let all = [account(4, 7), account(2, 8), account(1, 9)];
    let files = written(&all, "").await;
    let archive = zip(&files);
    assert_eq!(parse(&archive, "", None).await.unwrap_err(), Error::SeveralAccounts(3));
    for (at, wanted) in all.iter().enumerate() {
        let parsed = parse(&archive, "", Some(at)).await.unwrap();
        assert_eq!((parsed.format, &parsed.material), (Format::Tdata, wanted));
        assert_eq!(parsed.notes, [Note::AddressMissing, Note::NotCarried(Item::OtherAccounts(2))]);
    }
    assert_eq!(parse(&archive, "", Some(3)).await.unwrap_err(), Error::NoSuchAccount(3));
    let string = formats::write(&super::super::full_material(), Format::TelethonString, &addresses()).await;
    assert_eq!(parse(&string.unwrap().data, "", Some(1)).await.unwrap_err(), Error::NoSuchAccount(1));

    // One that is broken leaves the others alone.
    let mut broken = files.clone();
    broken.insert(format!("{SECOND}s"), vec![0; 100]);
    let accounts = judge(&broken, "").await.unwrap();
    assert!(accounts[0].is_ok() && accounts[2].is_ok());
    assert_eq!(accounts[1].as_ref().unwrap_err(), &Error::TdataMagic);
    assert_eq!(parse(&zip(&broken), "", None).await.unwrap_err(), Error::SeveralAccounts(3));
}

#[tokio::test]
async fn an_account_that_nobody_logged_in_to_does_not_count() {
    let mut made = Made::new();
    made.put_key_file(&list(&[1, 0, 2], 0));
    made.put_sealed(ACCOUNT_FILE, &foreign_account(0, &account(4, 7)).encode_mtp_data().unwrap());
    made.put_map(FIRST);
    let mut nobody = account(2, 8);
    nobody.telegram_user_id = Some(0);
    made.put_sealed(&format!("{SECOND}s"), &foreign_account(1, &nobody).encode_mtp_data().unwrap());
    let accounts = judge(&made.files, "").await.unwrap();
    let codes: Vec<_> =
        accounts.iter().map(|account| account.as_ref().map_or_else(Error::code, |_| "read")).collect();
    assert_eq!(codes, ["not_signed_in", "read", "tdata_no_account_file"]);
    assert_eq!(parse(&zip(&made.files), "", None).await.unwrap().material, account(4, 7));
    assert_eq!(parse(&zip(&made.files), "", Some(0)).await.unwrap_err(), Error::NotSignedIn);
}

#[tokio::test]
async fn what_an_account_s_file_says_is_checked() {
    let of = |settings: Vec<u8>| {
        let mut made = Made::new();
        made.put_key_file(&list(&[0], 0));
        made.put_sealed(ACCOUNT_FILE, &settings);
        made.files
    };
    let settings = |home_dc: i32, keys: &[(i32, [u8; 256])]| {
        let mut authorization = vec![0xff; 8];
        authorization.extend_from_slice(&7_u64.to_be_bytes());
        authorization.extend_from_slice(&home_dc.to_be_bytes());
        authorization.extend_from_slice(&(keys.len() as u32).to_be_bytes());
        for (dc, key) in keys {
            authorization.extend_from_slice(&dc.to_be_bytes());
            authorization.extend_from_slice(key);
        }
        authorization.extend_from_slice(&[0, 0, 0, 0]);
        [&[0, 0, 0, 0x4b][..], &arrays(&[Some(&authorization)])].concat()
    };
    for (settings, code) in [
        (settings(4, &[]), "no_key"),
        (settings(4, &[(2, [1; 256])]), "no_key"),
        (settings(4, &[(4, [0; 256])]), "no_key"),
        (settings(7, &[(7, [1; 256])]), "dc"),
        (settings(4, &[(4, [1; 256]), (0, [1; 256])]), "dc"),
        (settings(4, &[(4, [1; 256]), (4, [2; 256])]), "tdata_damaged"),
        (settings(4, &[(4, [1; 256])])[..200].to_vec(), "tdata_damaged"),
        (vec![0, 0, 0, 0x63, 1, 2, 3], "tdata_block"),
        (Vec::new(), "no_key"),
    ] {
        let error = refused(&of(settings), "").await;
        assert_eq!(error.code(), code);
    }
    // What a newer version keeps behind the authorization does not matter.
    let mut newer = settings(4, &[(4, [1; 256])]);
    newer.extend_from_slice(&[0, 0, 0x7f, 0xff, 1]);
    assert!(judge(&of(newer), "").await.unwrap()[0].is_ok());
}

#[tokio::test]
async fn the_list_of_accounts_is_bounded() {
    for list in
        [list(&[], 0), vec![0xff; 12], vec![0x7f; 12], vec![0, 0, 1, 1], list(&[-1], 0), list(&[256], 0)]
    {
        let mut made = Made::new();
        made.put_key_file(&list);
        assert_eq!(refused(&made.files, "").await.code(), "tdata_damaged");
    }
}

#[tokio::test]
async fn what_tdesktop_cannot_hold_is_not_written() {
    let refused = async |change: fn(&mut usm::domain::material::Material)| {
        let mut material = account(4, 7);
        change(&mut material);
        formats::write(&material, Format::Tdata, &addresses()).await.unwrap_err()
    };
    assert_eq!(refused(|it| it.telegram_user_id = None).await, Error::UserIdNeeded);
    assert_eq!(refused(|it| it.is_bot = Some(true)).await, Error::TdataBot);
    let test = "149.154.167.40:80".parse().unwrap();
    let mut material = account(2, 7);
    material.keys.get_mut(&2).unwrap().address = Some(test);
    let error = formats::write(&material, Format::Tdata, &addresses()).await.unwrap_err();
    assert_eq!(error, Error::TdataTestDc);
    for count in [0, 7] {
        let error = formats::write_tdata(&vec![account(4, 7); count], None).await.unwrap_err();
        assert_eq!(error, Error::AccountCount(count));
    }
    let passcode = usm::domain::secret::Secret::new(PASSCODE);
    let error = formats::write_with(&account(4, 7), Format::Raw, &addresses(), Some(&passcode)).await;
    assert_eq!(error.unwrap_err(), Error::PasscodeUnusable);
}

#[tokio::test]
async fn what_is_left_out_is_told() {
    let full = super::super::full_material();
    let written = formats::write(&full, Format::Tdata, &addresses()).await.unwrap();
    assert_eq!(
        written.notes,
        [Item::ApiId, Item::Device, Item::Address, Item::BotFlag, Item::UpdateState, Item::ChannelStates(2)]
            .map(Note::NotCarried)
    );
    let read = formats::parse(&written.data, Some(Format::Tdata), &addresses()).await.unwrap();
    assert_eq!(read.material.telegram_user_id, full.telegram_user_id);
    let keys = |material: &usm::domain::material::Material| {
        material.keys.iter().map(|(dc, key)| (*dc, key.auth_key.clone())).collect::<Vec<_>>()
    };
    assert_eq!(keys(&read.material), keys(&full));

    let many: Vec<_> = (1..=6).map(|user| account(2, user)).collect();
    let folder = formats::write_tdata(&many, None).await.unwrap();
    let beyond: Vec<_> = folder.notes.iter().map(|notes| notes == &[Note::AccountBeyondThird]).collect();
    assert_eq!(beyond, [false, false, false, true, true, true]);
}

#[tokio::test]
async fn nothing_is_followed_out_of_the_folder() {
    let files = written(&[account(4, 7)], "").await;
    let root = tempfile::tempdir().unwrap();
    let (inside, outside) = (root.path().join("in/tdata"), root.path().join("out"));
    save(&files, &inside);
    save(&files, &outside);
    let read = async |folder: &std::path::Path| {
        formats::read_tdata(&root.path().join("in"), folder, &addresses(), None).await
    };
    assert!(read(&inside).await.unwrap()[0].parsed.is_ok());
    assert_eq!(read(&outside).await.unwrap_err(), Error::OutsideFolder);
    assert_eq!(read(&inside.join("../../out")).await.unwrap_err(), Error::OutsideFolder);
    symlink(&outside, root.path().join("in/link")).unwrap();
    assert_eq!(read(&root.path().join("in/link")).await.unwrap_err(), Error::OutsideFolder);
    assert_eq!(read(&inside.join("key_datas")).await.unwrap_err(), Error::NotRegular);
    assert_eq!(read(&inside.join("nowhere")).await.unwrap_err(), Error::NotFound);

    let replaced = |name: &str| {
        let path = inside.join(name);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap()
        } else {
            fs::remove_file(&path).unwrap()
        }
        path
    };
    symlink(outside.join(FIRST), replaced(FIRST)).unwrap();
    assert_eq!(read(&inside).await.unwrap_err(), Error::OutsideFolder);
    fs::remove_file(inside.join(FIRST)).unwrap();
    symlink(outside.join("key_datas"), replaced("key_datas")).unwrap();
    assert_eq!(read(&inside).await.unwrap_err(), Error::OutsideFolder);
    fs::remove_file(inside.join("key_datas")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(inside.join("key_datas")).status().unwrap().success());
    assert_eq!(read(&inside).await.unwrap_err(), Error::NotRegular);
    fs::remove_file(inside.join("key_datas")).unwrap();
    fs::File::create(inside.join("key_datas")).unwrap().set_len(5 << 20).unwrap();
    assert_eq!(read(&inside).await.unwrap_err(), Error::TooLarge);
}

#[tokio::test]
async fn a_folder_is_left_as_it_was_and_its_account_s_file_has_a_fingerprint() {
    let folder = tempfile::tempdir().unwrap();
    save(&written(&[account(4, 7)], "").await, folder.path());
    let path = folder.path().join(ACCOUNT_FILE);
    let (before, content) = (fs::metadata(&path).unwrap(), fs::read(&path).unwrap());
    let accounts = read(folder.path(), "").await.unwrap();
    assert_eq!(accounts[0].file, FIRST);
    assert_eq!(accounts[0].fingerprint, Some(formats::fingerprint_file(&path).unwrap()));
    assert_eq!(before.modified().unwrap(), fs::metadata(&path).unwrap().modified().unwrap());
    assert_eq!(content, fs::read(&path).unwrap());
    assert!(formats::is_tdata(folder.path()) && !formats::is_tdata(&folder.path().join(FIRST)));
}
