//! Real opentele2, opentele2-core and mtcute on both ends.

use std::{ffi::OsStr, path::Path};

use opentele2_core::{
    crypto::random_fill,
    tdata::{TData, account::MTP_CONFIG_PRODUCTION},
};
use serde_json::{Value, json};
use usm::{
    domain::material::{Format, Material},
    formats::{self, Error, Note},
};

use super::{
    FIRST, PASSCODE, account, account_everywhere, addresses, arrays, foreign_account, read, save, secret,
    written, zip,
};
use crate::formats::{node, python};

const OPENTELE2: &str = "1.2.1";
/// It knows ASCII only.
const ASCII_PASSCODE: &str = "sesame 1234";

/// What the foreign scripts are told, and what they tell.
fn told(material: &Material) -> Value {
    json!({
        "dc": material.home_dc,
        "key": hex::encode(material.home().unwrap().auth_key.expose_secret()),
        "user_id": material.telegram_user_id,
    })
}

fn with_keys(material: &Material) -> Value {
    let mut told = told(material);
    told["keys"] = json!(material.keys.len());
    told
}

/// A program by which folders are written and read.
type Program = fn(&str, &Path, &str, &Value) -> Value;

pub(super) fn opentele2(verb: &str, folder: &Path, passcode: &str, accounts: &Value) -> Value {
    let packages = python::package("opentele2", OPENTELE2);
    let accounts = accounts.to_string();
    let arguments: [&OsStr; 5] =
        [packages.as_ref(), verb.as_ref(), folder.as_ref(), passcode.as_ref(), accounts.as_ref()];
    python::run("opentele2_tdata.py", &arguments)
}

fn mtcute(verb: &str, folder: &Path, passcode: &str, accounts: &Value) -> Value {
    let accounts = accounts.to_string();
    node::run("mtcute_tdata.js", &[verb.as_ref(), folder.as_ref(), passcode.as_ref(), accounts.as_ref()])
}

async fn goes_both_ways(program: Program) {
    let all = [account(4, 7_000_000_001), account(2, 8), account(5, 0xff_ffff_ffff)];
    for (count, passcode) in [(1, ""), (3, ""), (2, ASCII_PASSCODE)] {
        let folder = tempfile::tempdir().unwrap();
        let theirs = folder.path().join("theirs");
        let wanted: Vec<_> = all[..count].iter().map(told).collect();
        program("write", &theirs, passcode, &json!(wanted));
        let accounts = read(&theirs, passcode).await.unwrap();
        assert_eq!(accounts.len(), count);
        for (read, material) in accounts.into_iter().zip(&all) {
            let read = read.parsed.unwrap();
            assert_eq!((&read.material, read.format), (material, Format::Tdata));
            assert_eq!(read.notes, [Note::AddressMissing]);
        }
        if !passcode.is_empty() {
            assert_eq!(read(&theirs, "").await.unwrap_err(), Error::PasscodeNeeded);
            assert_eq!(read(&theirs, "other").await.unwrap_err(), Error::WrongPasscode);
        }

        // With keys of other data centres in the first.
        let mut ours = all[..count].to_vec();
        ours[0] = account_everywhere();
        save(&written(&ours, passcode).await, &folder.path().join("ours"));
        let seen = program("read", &folder.path().join("ours"), passcode, &json!([]));
        assert_eq!(seen["accounts"], json!(ours.iter().map(with_keys).collect::<Vec<_>>()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_go_to_opentele2_and_back() {
    goes_both_ways(opentele2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_go_to_mtcute_and_back() {
    if node::is_wanted() {
        goes_both_ways(mtcute).await;
    }
}

/// It writes the key file of TDesktop 7.3, with Argon2id at TDesktop's own cost, and reads the older one.
#[tokio::test]
async fn folders_go_to_opentele2_core_and_back() {
    let all = [account_everywhere(), account(2, 8)];
    for passcode in ["", PASSCODE] {
        for has_config in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let accounts = (0..).zip(&all).map(|(index, it)| foreign_account(index, it)).collect();
            let fill = &mut |bytes: &mut [u8]| random_fill(bytes).unwrap();
            let theirs = TData::new(accounts, passcode.as_bytes(), !has_config, fill).unwrap();
            theirs.save_random(folder.path()).unwrap();
            for (read, material) in read(folder.path(), passcode).await.unwrap().into_iter().zip(&all) {
                let read = read.parsed.unwrap();
                let mut wanted = material.clone();
                if has_config {
                    for (dc, key) in &mut wanted.keys {
                        key.address = Some(
                            match dc {
                                1 => "149.154.175.50:443",
                                2 => "149.154.167.51:443",
                                4 => "149.154.167.91:443",
                                _ => "149.154.171.5:443",
                            }
                            .parse()
                            .unwrap(),
                        );
                    }
                }
                assert_eq!(read.material, wanted);
                assert_eq!(read.notes.is_empty(), has_config);
            }
            if passcode.is_empty() {
                continue;
            }
            assert_eq!(read(folder.path(), "").await.unwrap_err(), Error::PasscodeNeeded);
            assert_eq!(read(folder.path(), "other").await.unwrap_err(), Error::WrongPasscode);
        }

        let folder = tempfile::tempdir().unwrap();
        save(&written(&all, passcode).await, folder.path());
        let seen = TData::load(folder.path(), passcode.as_bytes(), None).unwrap();
        assert_eq!(seen.accounts.len(), 2);
        for (seen, material) in seen.accounts.iter().zip(&all) {
            assert_eq!(
                (seen.user_id as i64, seen.main_dc),
                (material.telegram_user_id.unwrap(), material.home_dc)
            );
            assert_eq!(seen.keys.len(), material.keys.len());
            let key = seen.auth_key().unwrap().as_bytes();
            assert_eq!(key, material.home().unwrap().auth_key.expose_secret());
            assert_eq!(seen.map.stopped_at, None, "the whole map is understood");
        }
        // It goes on with the folder, moves it to the newest key file, and we read that.
        seen.save_random(folder.path()).unwrap();
        let again = read(folder.path(), passcode).await.unwrap();
        assert_eq!(again[0].parsed.as_ref().unwrap().material.keys, all[0].keys);
    }
}

#[tokio::test]
async fn a_config_tells_the_test_environment_from_telegram() {
    let mut made = super::Made::new();
    made.put_key_file(&super::list(&[0], 0));
    made.put_map(FIRST);
    made.put_sealed(&format!("{FIRST}s"), &foreign_account(0, &account(2, 8)).encode_mtp_data().unwrap());
    let mut config = MTP_CONFIG_PRODUCTION;
    config[7] = 1;
    made.put_sealed(&format!("{FIRST}/configs"), &arrays(&[Some(&config)]));
    let parsed = super::parse(&zip(&made.files), "", None).await.unwrap();
    assert_eq!(parsed.notes, [Note::AddressOfTestDc]);
}

#[tokio::test]
async fn a_folder_goes_through_an_archive_with_its_passcode() {
    let passcode = secret(PASSCODE);
    let written =
        formats::write_with(&account(4, 7), Format::Tdata, &addresses(), passcode.as_ref()).await.unwrap();
    assert_eq!(super::parse(&written.data, "", None).await.unwrap_err(), Error::PasscodeNeeded);
    assert_eq!(super::parse(&written.data, PASSCODE, Some(0)).await.unwrap().material, account(4, 7));
}
