//! Telegram Desktop's folders: what opentele2, opentele2-core and mtcute write and read, every trap, and bytes that
//! nobody ever wrote.

mod foreign;
mod hostile;
mod sandbox;
mod traps;

use std::{collections::BTreeMap, fs, path::Path};

use opentele2_core::{
    crypto::{self, AuthKey as ForeignKey},
    kdf, qt,
    tdata::{account, key_data},
    tdf,
};
use usm::{
    domain::{
        material::{Device, Material},
        secret::Secret,
    },
    formats::{self, Error, Options, Parsed, TdataAccount},
};

use super::{addresses, auth_key};

pub(super) const PASSCODE: &str = "sesame öffne";
pub(super) const FIRST: &str = "D877F783D5D3EF8C";
pub(super) const SECOND: &str = "A7FDF864FBC10B77";

/// A folder's files by their paths.
type Files = BTreeMap<String, Vec<u8>>;

/// What a tdata folder can say of an account.
fn account(home_dc: i32, user_id: i64) -> Material {
    let key = |seed| usm::domain::material::DcKey { auth_key: auth_key(seed), address: None };
    Material {
        home_dc,
        keys: BTreeMap::from([(home_dc, key(user_id as u8))]),
        telegram_user_id: Some(user_id),
        is_bot: None,
        api_id: 0,
        device: Device::default(),
        proxy: None,
        updates: None,
        channels: std::collections::BTreeMap::new(),
    }
}

/// With keys of further data centres.
fn account_everywhere() -> Material {
    let mut material = account(4, 7_000_000_001);
    for dc in [1, 2, 5] {
        material.keys.insert(dc, account(dc, dc.into()).keys[&dc].clone());
    }
    material
}

fn secret(passcode: &str) -> Option<Secret> {
    (!passcode.is_empty()).then(|| Secret::new(passcode))
}

async fn written(materials: &[Material], passcode: &str) -> Files {
    let folder = formats::write_tdata(materials, secret(passcode).as_ref()).await.unwrap();
    folder.files.into_iter().map(|(path, bytes)| (path, bytes.to_vec())).collect()
}

fn save(files: &Files, folder: &Path) {
    for (path, bytes) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn zip(files: &Files) -> Vec<u8> {
    let files = files.iter().map(|(path, bytes)| (path.clone(), bytes.clone().into())).collect();
    formats::zip_tdata(&files).unwrap().to_vec()
}

async fn read(folder: &Path, passcode: &str) -> Result<Vec<TdataAccount>, Error> {
    formats::read_tdata(folder, folder, &addresses(), secret(passcode).as_ref()).await
}

/// The same answer from a folder on a disk and from an archive of it.
async fn judge(files: &Files, passcode: &str) -> Result<Vec<Result<Parsed, Error>>, Error> {
    let folder = tempfile::tempdir().unwrap();
    save(files, folder.path());
    let disk = read(folder.path(), passcode).await;
    let archive = formats::read_tdata_archive(&zip(files), &addresses(), secret(passcode).as_ref()).await;
    let told = |accounts: &Result<Vec<TdataAccount>, Error>| {
        accounts.as_ref().map_err(Clone::clone).map(|accounts| {
            let told = accounts.iter().map(|account| match &account.parsed {
                Ok(parsed) => Ok((parsed.material.clone(), parsed.notes.clone())),
                Err(error) => Err(error.clone()),
            });
            told.collect::<Vec<_>>()
        })
    };
    assert_eq!(told(&disk), told(&archive));
    disk.map(|accounts| accounts.into_iter().map(|account| account.parsed).collect())
}

async fn parse(archive: &[u8], passcode: &str, account: Option<usize>) -> Result<Parsed, Error> {
    let options = Options { passcode: secret(passcode), account };
    formats::parse_with(archive, None, &addresses(), &options).await
}

/// A folder made of a foreign program's pieces, where none writes such a whole.
struct Made {
    local_key: ForeignKey,
    files: Files,
}

impl Made {
    fn new() -> Self {
        let mut bytes = [0; ForeignKey::SIZE];
        crypto::random_fill(&mut bytes).unwrap();
        Self { local_key: ForeignKey::new(bytes), files: Files::new() }
    }

    fn seal(&self, plain: &[u8]) -> Vec<u8> {
        crypto::encrypt_local_random(plain, &self.local_key).unwrap()
    }

    fn sealed_under(&self, key: &ForeignKey) -> Vec<u8> {
        crypto::encrypt_local_random(self.local_key.as_bytes(), key).unwrap()
    }

    fn put(&mut self, path: &str, payload: Vec<u8>) {
        self.files.insert(path.to_owned(), tdf::TdfFile { version: 7_003_001, payload }.encode());
    }

    /// A file that is one sealed array.
    fn put_sealed(&mut self, path: &str, plain: &[u8]) {
        let payload = arrays(&[Some(&self.seal(plain))]);
        self.put(path, payload);
    }

    fn put_map(&mut self, stem: &str) {
        let payload = arrays(&[None, None, Some(&self.seal(&[0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1]))]);
        self.put(&format!("{stem}/maps"), payload);
    }

    /// A key file before 7.3 without passcode, whose list of accounts is this.
    fn put_key_file(&mut self, list: &[u8]) {
        let salt = [3; 32];
        let key = self.sealed_under(&kdf::create_local_key(b"", &salt));
        let payload = arrays(&[Some(&salt), Some(&key), Some(&self.seal(list))]);
        self.put("key_datas", payload);
    }

    /// A key file of 7.3 with these wraps.
    fn put_new_key_file(
        &mut self,
        open: Option<Vec<u8>>,
        committed: u32,
        wraps: Vec<key_data::PasscodeWrap>,
    ) {
        let data = key_data::KeyData {
            salt: vec![3; 32],
            key_encrypted: open,
            info_encrypted: self.seal(&list(&[0], 0)),
            trailer: Some(key_data::KeyDataTrailer { committed, wraps }),
        };
        self.put("key_datas", data.encode().unwrap());
    }
}

fn arrays(arrays: &[Option<&[u8]>]) -> Vec<u8> {
    let mut out = qt::QWriter::new();
    for array in arrays {
        out.write_bytearray(*array).unwrap();
    }
    out.into_bytes()
}

fn list(indices: &[i32], active_index: i32) -> Vec<u8> {
    key_data::AccountsInfo { indices: indices.to_vec(), active_index }.encode().unwrap()
}

fn foreign_account(index: i32, material: &Material) -> account::Account {
    let keys = material.keys.iter();
    let keys = keys.map(|(dc, key)| (*dc, ForeignKey::new(*key.auth_key.expose_secret()))).collect();
    let user = material.telegram_user_id.unwrap() as u64;
    account::Account::new(index, user, material.home_dc, keys).unwrap()
}
