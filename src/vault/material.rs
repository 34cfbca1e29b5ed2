//! The plaintext form of key material inside its envelope.
//!
//! A version byte, then the fields in a fixed order. Another set of fields is another version: a reader refuses
//! what it does not know, because writing the row back would lose it. Version 2 ends with the states of channels; a
//! session without any is written as version 1, which earlier releases read.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

use zeroize::Zeroizing;

use super::{
    Error,
    bytes::{Reader, Writer},
};
use crate::domain::{
    material::{AUTH_KEY_LENGTH, AuthKey, CHANNELS_MAX, DcKey, Device, Material, Proxy, UpdateState},
    secret::Secret,
};

const VERSION: u8 = 1;
const VERSION_WITH_CHANNELS: u8 = 2;
/// An id and a counter.
const CHANNEL_LENGTH: usize = 8 + 4;
/// Telegram has five data centres, and a few keys for media ones may come with an import.
const KEYS_MAX: usize = 64;
/// What a version 1 needs at most for the keys and the fixed fields.
const FIXED_ROOM: usize = KEYS_MAX * (AUTH_KEY_LENGTH + 40) + 256;

pub(super) fn encode(material: &Material) -> Result<Zeroizing<Vec<u8>>, Error> {
    let device = &material.device;
    let texts = [
        &device.device_model,
        &device.system_version,
        &device.app_version,
        &device.system_lang_code,
        &device.lang_code,
    ];
    let proxy_length = material.proxy.as_ref().map_or(0, |proxy| proxy.url.expose_secret().len());
    let channels_room = material.channels.len() * CHANNEL_LENGTH;
    let room = FIXED_ROOM + channels_room + proxy_length + texts.iter().map(|text| text.len()).sum::<usize>();
    let mut out = Writer::with_room(room);

    let has_channels = !material.channels.is_empty();
    out.u8(if has_channels { VERSION_WITH_CHANNELS } else { VERSION })?;
    out.i32(material.home_dc)?;
    if material.keys.len() > KEYS_MAX {
        return Err(Error::TooLarge);
    }
    out.u8(u8::try_from(material.keys.len()).map_err(|_| Error::TooLarge)?)?;
    for (dc, key) in &material.keys {
        out.i32(*dc)?;
        out.raw(key.auth_key.expose_secret())?;
        write_address(&mut out, key.address)?;
    }
    match material.telegram_user_id {
        None => out.u8(0)?,
        Some(user) => {
            out.u8(1)?;
            out.i64(user)?;
        }
    }
    out.u8(match material.is_bot {
        None => 0,
        Some(false) => 1,
        Some(true) => 2,
    })?;
    out.i32(material.api_id)?;
    for text in texts {
        out.text(text)?;
    }
    match &material.proxy {
        None => out.u8(0)?,
        Some(proxy) => {
            out.u8(1)?;
            out.text(proxy.url.expose_secret())?;
        }
    }
    match material.updates {
        None => out.u8(0)?,
        Some(updates) => {
            out.u8(1)?;
            for number in [updates.pts, updates.qts, updates.date, updates.seq] {
                out.i32(number)?;
            }
        }
    }
    if has_channels {
        if material.channels.len() > CHANNELS_MAX {
            return Err(Error::TooLarge);
        }
        out.i32(i32::try_from(material.channels.len()).map_err(|_| Error::TooLarge)?)?;
        for (id, pts) in &material.channels {
            out.i64(*id)?;
            out.i32(*pts)?;
        }
    }
    Ok(out.finish())
}

pub(super) fn decode(plain: &[u8]) -> Result<Material, Error> {
    let mut input = Reader::new(plain);
    let has_channels = match input.u8()? {
        VERSION => false,
        VERSION_WITH_CHANNELS => true,
        _ => return Err(Error::UnknownForm),
    };
    let home_dc = input.i32()?;
    let mut keys = BTreeMap::new();
    for _ in 0..input.u8()? {
        let dc = input.i32()?;
        let auth_key = AuthKey::from_slice(input.raw(AUTH_KEY_LENGTH)?).map_err(|_| Error::UnknownForm)?;
        let address = read_address(&mut input)?;
        keys.insert(dc, DcKey { auth_key, address });
    }
    let material = Material {
        home_dc,
        keys,
        telegram_user_id: if flag(&mut input)? { Some(input.i64()?) } else { None },
        is_bot: match input.u8()? {
            0 => None,
            1 => Some(false),
            2 => Some(true),
            _ => return Err(Error::UnknownForm),
        },
        api_id: input.i32()?,
        device: Device {
            device_model: input.text()?.to_owned(),
            system_version: input.text()?.to_owned(),
            app_version: input.text()?.to_owned(),
            system_lang_code: input.text()?.to_owned(),
            lang_code: input.text()?.to_owned(),
        },
        proxy: if flag(&mut input)? { Some(Proxy { url: Secret::new(input.text()?) }) } else { None },
        updates: if flag(&mut input)? {
            Some(UpdateState { pts: input.i32()?, qts: input.i32()?, date: input.i32()?, seq: input.i32()? })
        } else {
            None
        },
        channels: if has_channels { channels(&mut input)? } else { BTreeMap::new() },
    };
    input.finish()?;
    Ok(material)
}

fn channels(input: &mut Reader<'_>) -> Result<BTreeMap<i64, i32>, Error> {
    let count = usize::try_from(input.i32()?).map_err(|_| Error::UnknownForm)?;
    if !(1..=CHANNELS_MAX).contains(&count) {
        return Err(Error::UnknownForm);
    }
    let mut channels = BTreeMap::new();
    for _ in 0..count {
        channels.insert(input.i64()?, input.i32()?);
    }
    Ok(channels)
}

fn flag(input: &mut Reader<'_>) -> Result<bool, Error> {
    match input.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Error::UnknownForm),
    }
}

fn write_address(out: &mut Writer, address: Option<SocketAddr>) -> Result<(), Error> {
    let Some(address) = address else { return out.u8(0) };
    match address.ip() {
        IpAddr::V4(ip) => {
            out.u8(4)?;
            out.raw(&ip.octets())?;
        }
        IpAddr::V6(ip) => {
            out.u8(6)?;
            out.raw(&ip.octets())?;
        }
    }
    out.raw(&address.port().to_be_bytes())
}

fn read_address(input: &mut Reader<'_>) -> Result<Option<SocketAddr>, Error> {
    let kind = input.u8()?;
    Ok(match kind {
        0 => None,
        4 => {
            let ip = Ipv4Addr::from(input.array::<4>()?);
            Some(SocketAddrV4::new(ip, u16::from_be_bytes(input.array()?)).into())
        }
        6 => {
            let ip = Ipv6Addr::from(input.array::<16>()?);
            Some(SocketAddrV6::new(ip, u16::from_be_bytes(input.array()?), 0, 0).into())
        }
        _ => return Err(Error::UnknownForm),
    })
}
