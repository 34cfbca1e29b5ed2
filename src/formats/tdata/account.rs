//! An account's file: who it is, its home data centre, and its keys, as blocks of settings sealed under the local key.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::stream::{Cut, Stream, put_blob, secret_buffer};
use crate::{
    domain::material::{AUTH_KEY_LENGTH, AuthKey, Material},
    formats::{Error, key},
};

/// Blocks, by their numbers in TDesktop.
const KEY: u32 = 0x00;
const USER: u32 = 0x01;
const DC_OPTION_OLD_OLD: u32 = 0x02;
const CHAT_SIZE_MAX_OLD: u32 = 0x03;
const DC_OPTION_OLD: u32 = 0x27;
const MEGAGROUP_SIZE_MAX_OLD: u32 = 0x32;
const SAVED_GIFS_LIMIT_OLD: u32 = 0x35;
const STICKERS_RECENT_LIMIT_OLD: u32 = 0x43;
const DC_OPTIONS_OLD: u32 = 0x4a;
const AUTHORIZATION: u32 = 0x4b;
const STICKERS_FAVED_LIMIT_OLD: u32 = 0x50;
const APPLICATION_SETTINGS: u32 = 0x5e;

/// Stands where the home data centre was, before ids had 64 bits.
const WIDE: i32 = -1;
/// Larger numbers are not those of data centres.
const DC_MAX: i32 = 999;

/// What the file says.
pub(super) struct Authorization {
    /// 0 while nobody is logged in.
    pub(super) user_id: u64,
    pub(super) home_dc: i32,
    pub(super) keys: BTreeMap<i32, AuthKey>,
    /// How many keys wait to be given up.
    pub(super) obsolete: u64,
}

/// # Errors
/// `TdataBlock` for a block that no version has, `TdataDamaged`, `NoKey` where there is no authorization at all.
pub(super) fn read(settings: &[u8]) -> Result<Authorization, Error> {
    let mut stream = Stream::of(settings);
    let mut old = Authorization { user_id: 0, home_dc: 0, keys: BTreeMap::new(), obsolete: 0 };
    while !stream.is_at_end() {
        match block(&mut stream, &mut old)? {
            // Whatever a newer version keeps behind it does not matter here.
            Some(authorization) => return authorization_of(authorization),
            None => continue,
        }
    }
    if old.keys.is_empty() && old.home_dc == 0 { Err(Error::NoKey) } else { Ok(old) }
}

/// One block: either all there is to know, or a part of it as TDesktop kept it before 1.6.
fn block<'a>(stream: &mut Stream<'a>, old: &mut Authorization) -> Result<Option<&'a [u8]>, Error> {
    const CUT: fn(Cut) -> Error = |Cut| Error::TdataDamaged("the account's settings");
    match stream.u32().map_err(CUT)? {
        AUTHORIZATION => {
            let authorization = stream.blob().map_err(CUT)?;
            return Ok((!authorization.is_empty()).then_some(authorization));
        }
        KEY => key(stream, &mut old.keys)?,
        USER => {
            old.user_id = u64::try_from(stream.i32().map_err(CUT)?).unwrap_or(0);
            old.home_dc = stream.i32().map_err(CUT)?;
        }
        DC_OPTION_OLD_OLD => {
            stream.bytes(4).and_then(|_| stream.blob()).and_then(|_| stream.blob()).map_err(CUT)?;
            stream.bytes(4).map_err(CUT)?;
        }
        DC_OPTION_OLD => {
            stream.bytes(8).and_then(|_| stream.blob()).and_then(|_| stream.bytes(4)).map_err(CUT)?;
        }
        DC_OPTIONS_OLD | APPLICATION_SETTINGS => {
            stream.blob().map_err(CUT)?;
        }
        CHAT_SIZE_MAX_OLD
        | MEGAGROUP_SIZE_MAX_OLD
        | SAVED_GIFS_LIMIT_OLD
        | STICKERS_RECENT_LIMIT_OLD
        | STICKERS_FAVED_LIMIT_OLD => {
            stream.bytes(4).map_err(CUT)?;
        }
        other => return Err(Error::TdataBlock(other)),
    }
    Ok(None)
}

fn authorization_of(bytes: &[u8]) -> Result<Authorization, Error> {
    const CUT: fn(Cut) -> Error = |Cut| Error::TdataDamaged("the account's authorization");
    let mut stream = Stream::of(bytes);
    let (user, dc) = (stream.i32().map_err(CUT)?, stream.i32().map_err(CUT)?);
    let (user_id, home_dc) = if dc == WIDE {
        (stream.u64().map_err(CUT)?, stream.i32().map_err(CUT)?)
    } else {
        (u64::try_from(user).unwrap_or(0), dc)
    };
    let count = stream.i32().map_err(CUT)?;
    let mut keys = BTreeMap::new();
    // Each takes bytes from the stream, so the count needs no other bound.
    for _ in 0..count {
        key(&mut stream, &mut keys)?;
    }
    let obsolete = u64::try_from(stream.i32().map_err(CUT)?).unwrap_or(0);
    Ok(Authorization { user_id, home_dc, keys, obsolete })
}

fn key(stream: &mut Stream<'_>, keys: &mut BTreeMap<i32, AuthKey>) -> Result<(), Error> {
    const CUT: fn(Cut) -> Error = |Cut| Error::TdataDamaged("the account's keys");
    let dc = stream.i32().map_err(CUT)?;
    let Ok(key) = key::auth_key(stream.bytes(AUTH_KEY_LENGTH).map_err(CUT)?) else {
        // All zero: a place without a key.
        return Ok(());
    };
    if !(1..=DC_MAX).contains(&dc) {
        return Err(Error::DataCentre(dc.into()));
    }
    match keys.insert(dc, key) {
        None => Ok(()),
        Some(_) => Err(Error::TdataDamaged("two keys of one data centre")),
    }
}

/// The settings that hold one authorization and nothing else.
pub(super) fn write(material: &Material, user_id: u64) -> Zeroizing<Vec<u8>> {
    let keys = material.keys.iter().filter(|(dc, _)| is_written(**dc));
    let count = u32::try_from(keys.clone().count()).expect("bounded by the numbers of data centres");
    let length = 4 + 4 + 8 + 4 + 4 + keys.clone().count() * (4 + AUTH_KEY_LENGTH) + 4;
    let mut bytes = secret_buffer(length);
    bytes.extend_from_slice(&WIDE.to_be_bytes());
    bytes.extend_from_slice(&WIDE.to_be_bytes());
    bytes.extend_from_slice(&user_id.to_be_bytes());
    bytes.extend_from_slice(&material.home_dc.to_be_bytes());
    bytes.extend_from_slice(&count.to_be_bytes());
    for (dc, key) in keys {
        bytes.extend_from_slice(&dc.to_be_bytes());
        bytes.extend_from_slice(key.auth_key.expose_secret());
    }
    // Nothing to give up.
    bytes.extend_from_slice(&0_u32.to_be_bytes());
    let mut settings = secret_buffer(4 + 4 + bytes.len());
    settings.extend_from_slice(&AUTHORIZATION.to_be_bytes());
    put_blob(&mut settings, &bytes);
    settings
}

/// Whether the file has a place for keys of this data centre.
pub(super) fn is_written(dc: i32) -> bool {
    (1..=DC_MAX).contains(&dc)
}
