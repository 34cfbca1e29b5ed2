//! A folder that TDesktop, opentele2 and mtcute open.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{
    account, container,
    folder::{self, Names},
    key_file,
    seal::{LocalKey, fill_random},
    stream::{put_blob, put_null},
};
use crate::{
    domain::material::Material,
    formats::{Error, Item, Note, address, key},
};

/// What TDesktop holds at most, with Telegram Premium.
const ACCOUNTS_MAX: usize = 6;
/// What it holds without, and what opentele2 reads.
const ACCOUNTS_USUAL: usize = 3;
/// The block of a map that names the file of an account's settings. The file may be missing; a map without any block is
/// one that opentele2 cannot save again.
const MAP_SETTINGS: u32 = 0x09;

/// The files of a folder by their paths in it, with `/` between, all sealed but to whoever has the passcode.
pub struct Folder {
    pub files: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// What it has no place for, by account.
    pub notes: Vec<Vec<Note>>,
}

impl std::fmt::Debug for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Folder").field("notes", &self.notes).finish_non_exhaustive()
    }
}

/// Writes accounts into one folder. `passcode` is empty for none; with one it takes a while.
///
/// # Errors
/// `TooManyAccounts`, and for unsound or unfit material `NoKey`, `DataCentre`, `UserIdNeeded`, `TdataBot`,
/// `TdataTestDc`.
pub(super) fn folder(materials: &[Material], passcode: &str) -> Result<Folder, Error> {
    if materials.is_empty() || materials.len() > ACCOUNTS_MAX {
        return Err(Error::AccountCount(materials.len()));
    }
    let local_key = LocalKey::random()?;
    let names = Names::of(std::iter::empty())?;
    let mut folder = Folder { files: BTreeMap::new(), notes: Vec::new() };
    for (index, material) in (0_u32..).zip(materials) {
        let account = names.account(index);
        let mut notes = Vec::new();
        let settings = account::write(material, fit(material, &mut notes)?);
        if folder.notes.len() >= ACCOUNTS_USUAL {
            notes.push(Note::AccountBeyondThird);
        }
        folder.notes.push(notes);
        let mut payload = Vec::new();
        put_blob(&mut payload, &local_key.seal(&settings)?);
        put(&mut folder, folder::with_suffix(&account), &payload);
        put(&mut folder, folder::with_suffix(&folder::map(&account)), &map(&local_key)?);
    }
    let count = u32::try_from(materials.len()).expect("a few");
    let payload = key_file::write(&local_key, passcode, count)?;
    put(&mut folder, folder::with_suffix(&names.key_file()), &payload);
    Ok(folder)
}

fn put(folder: &mut Folder, path: String, payload: &[u8]) {
    folder.files.insert(path, Zeroizing::new(container::wrap(payload)));
}

/// Two arrays that older versions filled, and what is known of an account's other files: nothing.
fn map(local_key: &LocalKey) -> Result<Vec<u8>, Error> {
    let mut name = [0; 8];
    fill_random(&mut name)?;
    // None at all would mean that there are no settings.
    name[7] |= 1;
    let plain = [&MAP_SETTINGS.to_be_bytes()[..], &name].concat();
    let mut payload = Vec::new();
    put_null(&mut payload);
    put_null(&mut payload);
    put_blob(&mut payload, &local_key.seal(&plain)?);
    Ok(payload)
}

/// The account's id, if TDesktop can hold it.
fn fit(material: &Material, notes: &mut Vec<Note>) -> Result<u64, Error> {
    let home = material.home().ok_or(Error::NoKey)?;
    key::home_dc(material.home_dc.into())?;
    if material.is_bot == Some(true) {
        return Err(Error::TdataBot);
    }
    let mut told = Vec::new();
    if let Some(address) = home.address {
        address::judge(material.home_dc, address, &crate::formats::Addresses::new(), &mut told);
    }
    if told.contains(&Note::AddressOfTestDc) {
        return Err(Error::TdataTestDc);
    }
    let user_id = material.telegram_user_id.and_then(|id| u64::try_from(id).ok()).filter(|id| *id != 0);
    let user_id = user_id.ok_or(Error::UserIdNeeded)?;

    let mut items = key::lost_everywhere(material);
    let others = material.keys.keys().filter(|dc| !account::is_written(**dc)).count();
    for (has, item) in [
        (others > 0, Item::OtherKeys(others as u64)),
        (material.keys.values().any(|key| key.address.is_some()), Item::Address),
        (material.is_bot.is_some(), Item::BotFlag),
        (material.updates.is_some(), Item::UpdateState),
        (!material.channels.is_empty(), Item::ChannelStates(material.channels.len() as u64)),
    ] {
        if has {
            items.push(item);
        }
    }
    notes.extend(items.into_iter().map(Note::NotCarried));
    Ok(user_id)
}
