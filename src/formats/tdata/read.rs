//! From the files of a folder to its accounts.

use zeroize::Zeroizing;

use super::{
    account::{self, Authorization},
    config,
    folder::{self, Files, Names},
    kdf, key_file,
    seal::{LocalKey, NotOpened},
    stream::Stream,
};
use crate::{
    domain::material::{DcKey, Device, Format, Material},
    formats::{Addresses, Error, Item, LegacyFingerprint, Note, Parsed, address, key},
};

/// One account of a folder.
#[derive(Debug)]
pub struct Account {
    /// The name of its own file in the folder, without suffix.
    pub file: String,
    /// What it holds, or why it cannot be read; the others are not affected.
    pub parsed: Result<Parsed, Error>,
    /// Of its own file, where the folder lies on a disk.
    pub fingerprint: Option<LegacyFingerprint>,
}

/// All accounts in the order of the folder. May take seconds and 256 MiB if there is a passcode, which is empty for
/// none.
///
/// # Errors
/// What keeps all of them from being read.
pub(super) fn accounts(
    files: &Files,
    names: &Names,
    passcode: &str,
    addresses: &Addresses,
) -> Result<Vec<Account>, Error> {
    let opened = match folder::payload(files, &names.key_file()) {
        Some(payload) => key_file::open(payload?, passcode)?,
        None => old_key(files, names, passcode)?,
    };
    let accounts = opened.indexes.iter().map(|index| {
        let file = names.account(*index);
        let mut parsed = read_account(files, &file, &opened.local_key, addresses);
        if let (Ok(parsed), true) = (&mut parsed, opened.is_passcode_unused) {
            parsed.notes.insert(0, Note::PasscodeUnused);
        }
        let found = files.get(&folder::with_suffix(&file));
        let fingerprint = found
            .and_then(|found| LegacyFingerprint::of_reader(&found.bytes[..], found.metadata.as_ref()?).ok());
        Account { file, parsed, fingerprint }
    });
    Ok(accounts.collect())
}

/// The one that was asked for, or the only one that anybody is logged in to.
///
/// # Errors
/// `SeveralAccounts`, `NoSuchAccount`, or the account's own refusal.
pub fn choose(mut accounts: Vec<Account>, wanted: Option<usize>) -> Result<Parsed, Error> {
    let is_somebody = |account: &Account| {
        !matches!(account.parsed, Err(Error::NotSignedIn | Error::TdataNoAccountFile | Error::NoKey))
    };
    let count = accounts.iter().filter(|account| is_somebody(account)).count();
    let at = match wanted {
        Some(at) if at < accounts.len() => at,
        Some(_) => return Err(Error::NoSuchAccount(accounts.len())),
        None if count > 1 => return Err(Error::SeveralAccounts(accounts.len())),
        None => accounts.iter().position(is_somebody).unwrap_or(0),
    };
    let others = count - usize::from(is_somebody(&accounts[at]));
    let mut parsed = accounts.swap_remove(at).parsed?;
    if others > 0 {
        parsed.notes.push(Note::NotCarried(Item::OtherAccounts(others as u64)));
    }
    Ok(parsed)
}

/// Before TDesktop 2 the local key lay in the map of the only account.
fn old_key(files: &Files, names: &Names, passcode: &str) -> Result<key_file::Opened, Error> {
    let map = folder::payload(files, &folder::map(&names.account(0))).ok_or(Error::TdataNoKeyFile)??;
    let mut stream = Stream::of(map);
    let (salt, sealed) = (stream.blob().unwrap_or_default(), stream.blob().unwrap_or_default());
    if salt.is_empty() || sealed.is_empty() {
        return Err(Error::TdataNoKeyFile);
    }
    let mut opened = kdf::old_pbkdf2(passcode, salt).open(sealed);
    let mut is_passcode_unused = false;
    if opened.as_ref().err() == Some(&NotOpened::Key) && !passcode.is_empty() {
        opened = kdf::old_pbkdf2("", salt).open(sealed);
        is_passcode_unused = opened.is_ok();
    }
    let local_key = match opened {
        Ok(plain) => LocalKey::from_slice(&plain).ok_or(Error::TdataDamaged("the local key's length"))?,
        Err(NotOpened::Shape) => return Err(Error::TdataDamaged("the sealed local key")),
        Err(NotOpened::Key) if passcode.is_empty() => return Err(Error::PasscodeNeeded),
        Err(NotOpened::Key) => return Err(Error::WrongPasscode),
    };
    Ok(key_file::Opened { local_key, indexes: vec![0], is_passcode_unused })
}

fn read_account(
    files: &Files,
    file: &str,
    local_key: &LocalKey,
    addresses: &Addresses,
) -> Result<Parsed, Error> {
    let settings = unsealed(files, file, local_key).ok_or(Error::TdataNoAccountFile)??;
    let authorization = account::read(&settings)?;
    let mut notes = Vec::new();
    if !matches!(folder::payload(files, &folder::map(file)), Some(Ok(_))) {
        notes.push(Note::MapMissing);
    }
    if authorization.obsolete > 0 {
        notes.push(Note::NotCarried(Item::ObsoleteKeys(authorization.obsolete)));
    }
    let config = unsealed(files, &folder::config(file), local_key)
        .and_then(Result::ok)
        .and_then(|plain| config::read(&plain));
    let material = material(authorization, config.as_ref(), &mut notes)?;
    match material.home().and_then(|home| home.address) {
        Some(address) => address::judge(material.home_dc, address, addresses, &mut notes),
        None => notes.push(Note::AddressMissing),
    }
    if config.is_some_and(|config| config.is_test) && !notes.contains(&Note::AddressOfTestDc) {
        notes.push(Note::AddressOfTestDc);
    }
    Ok(Parsed { material, format: Format::Tdata, notes })
}

/// What the first array of a file holds. `None` if there is no such file.
fn unsealed(files: &Files, stem: &str, key: &LocalKey) -> Option<Result<Zeroizing<Vec<u8>>, Error>> {
    let payload = folder::payload(files, stem)?;
    Some(payload.and_then(|payload| {
        let sealed = Stream::of(payload).blob().map_err(|_| Error::TdataDamaged("a file's array"))?;
        key.open(sealed).map_err(|not_opened| {
            Error::TdataDamaged(match not_opened {
                NotOpened::Key => "a file that belongs to another key file",
                NotOpened::Shape => "a file's sealed array",
            })
        })
    }))
}

fn material(
    authorization: Authorization,
    config: Option<&config::Config>,
    notes: &mut Vec<Note>,
) -> Result<Material, Error> {
    if authorization.user_id == 0 {
        return Err(if authorization.keys.is_empty() { Error::NoKey } else { Error::NotSignedIn });
    }
    let home_dc = key::home_dc(authorization.home_dc.into())?;
    let address = |dc: &i32| {
        config.and_then(|config| config.addresses.get(dc)).and_then(|told| address::usable(*told).ok())
    };
    let keys: std::collections::BTreeMap<i32, DcKey> = authorization
        .keys
        .into_iter()
        .map(|(dc, auth_key)| (dc, DcKey { address: address(&dc), auth_key }))
        .collect();
    if !keys.contains_key(&home_dc) {
        return Err(Error::NoKey);
    }
    Ok(Material {
        home_dc,
        keys,
        telegram_user_id: key::user_id(i64::try_from(authorization.user_id).unwrap_or(-1), notes),
        is_bot: None,
        api_id: 0,
        device: Device::default(),
        proxy: None,
        updates: None,
        channels: Default::default(),
    })
}
