//! From foreign bytes to authorization keys, and from keys to material.

use std::{collections::BTreeMap, net::SocketAddr, ops::RangeInclusive};

use super::{Error, Item, Note, cell::Cell};
use crate::domain::material::{AUTH_KEY_LENGTH, AuthKey, CHANNELS_MAX, DcKey, Device, Material};

/// The data centres where accounts live.
pub(super) const HOME_DCS: RangeInclusive<i32> = 1..=5;

/// A key of exactly the right length that is not "none" (empty or all zero).
pub(super) fn auth_key(bytes: &[u8]) -> Result<AuthKey, Error> {
    if bytes.is_empty() {
        return Err(Error::NoKey);
    }
    if bytes.len() != AUTH_KEY_LENGTH {
        return Err(Error::KeyLength(bytes.len() as u64));
    }
    AuthKey::from_slice(bytes).map_err(|_| Error::NoKey)
}

/// The number of a home data centre.
pub(super) fn home_dc(number: i64) -> Result<i32, Error> {
    i32::try_from(number).ok().filter(|dc| HOME_DCS.contains(dc)).ok_or(Error::DataCentre(number))
}

/// Material of a source that knows a data centre, its key and perhaps its address, and nothing else.
pub(super) fn material(home_dc: i32, auth_key: AuthKey, address: Option<SocketAddr>) -> Material {
    Material {
        home_dc,
        keys: BTreeMap::from([(home_dc, DcKey { auth_key, address })]),
        telegram_user_id: None,
        is_bot: None,
        api_id: 0,
        device: Device::default(),
        proxy: None,
        updates: None,
        channels: BTreeMap::new(),
    }
}

/// A user id as found, if it can be one.
pub(super) fn user_id(number: i64, notes: &mut Vec<Note>) -> Option<i64> {
    if number > 0 {
        Some(number)
    } else {
        notes.push(Note::UserIdImplausible);
        None
    }
}

/// An api_id as a source told it; 0 if it told none.
pub(super) fn api_id(number: i64, notes: &mut Vec<Note>) -> i32 {
    match i32::try_from(number) {
        Ok(number) if number >= 0 => number,
        _ => {
            notes.push(Note::ApiIdImplausible);
            0
        }
    }
}

/// States of channels as rows of a bare id and a counter: what is kept of them, with a note of the rest.
pub(super) fn channels(rows: &[Vec<Cell>], all: u64, notes: &mut Vec<Note>) -> BTreeMap<i64, i32> {
    let mut channels = BTreeMap::new();
    for row in rows {
        let id = row.first().and_then(Cell::integer).filter(|id| *id > 0);
        let pts = row.get(1).and_then(Cell::integer).and_then(|pts| i32::try_from(pts).ok());
        if let (Some(id), Some(pts)) = (id, pts)
            && channels.len() < CHANNELS_MAX
        {
            channels.insert(id, pts);
        }
    }
    let lost = all.saturating_sub(channels.len() as u64);
    if lost > 0 {
        notes.push(Note::NotCarried(Item::ChannelStates(lost)));
    }
    channels
}

/// What a form that knows home data centre, key and address only, cannot carry; `user_id` and `updates` are
/// for the caller, whose form may have a place for them, and so is a place for channels.
pub(super) fn lost(material: &Material) -> Vec<Note> {
    let mut items = Vec::new();
    let others = material.keys.len().saturating_sub(1);
    if others > 0 {
        items.push(Item::OtherKeys(others as u64));
    }
    if material.is_bot.is_some() {
        items.push(Item::BotFlag);
    }
    if !material.channels.is_empty() {
        items.push(Item::ChannelStates(material.channels.len() as u64));
    }
    items.extend(lost_everywhere(material));
    items.into_iter().map(Note::NotCarried).collect()
}

/// What the material has and a form has no place for, by what the form carries beside home data centre and key.
pub(super) fn not_carried(material: &Material, carries: impl Fn(&Item) -> bool) -> Vec<Note> {
    let mut items = lost_everywhere(material);
    let others = material.keys.len().saturating_sub(1) as u64;
    for (has, item) in [
        (others > 0, Item::OtherKeys(others)),
        (material.home().is_some_and(|home| home.address.is_some()), Item::Address),
        (material.telegram_user_id.is_some(), Item::UserId),
        (material.is_bot.is_some(), Item::BotFlag),
        (material.updates.is_some(), Item::UpdateState),
        (!material.channels.is_empty(), Item::ChannelStates(material.channels.len() as u64)),
    ] {
        if has {
            items.push(item);
        }
    }
    items.into_iter().filter(|item| !carries(item)).map(Note::NotCarried).collect()
}

/// What no library's form carries: it belongs into the worker's own settings.
pub(super) fn lost_everywhere(material: &Material) -> Vec<Item> {
    let mut items = Vec::new();
    if material.api_id != 0 {
        items.push(Item::ApiId);
    }
    if material.device != Device::default() {
        items.push(Item::Device);
    }
    if material.proxy.is_some() {
        items.push(Item::Proxy);
    }
    items
}
