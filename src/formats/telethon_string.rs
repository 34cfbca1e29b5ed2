//! Telethon's `StringSession`: `1`, then padded URL-safe base64 of data centre, address, port and key.
//!
//! GramJS writes the same version character and standard base64 of a similar layout; Telethon reads some of those
//! without an error and gets a nonsense address. They never come here: `detect` tells them apart first.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use base64::engine::general_purpose::URL_SAFE;
use zeroize::Zeroizing;

use super::{Addresses, Error, Item, Note, Parsed, Written, address, encoded, key};
use crate::domain::material::{AUTH_KEY_LENGTH, Format, Material};

const VERSION: &str = "1";
/// Decoded lengths: data centre 1, address 4 or 16, port 2, key 256.
const IPV4_LENGTH: usize = 1 + 4 + 2 + AUTH_KEY_LENGTH;
const IPV6_LENGTH: usize = 1 + 16 + 2 + AUTH_KEY_LENGTH;

pub(super) fn read(text: &str, addresses: &Addresses) -> Result<Parsed, Error> {
    let encoded = text.strip_prefix(VERSION).ok_or(Error::StringVersion)?;
    let bytes = encoded::decode(&URL_SAFE, encoded)
        .ok_or(Error::StringMalformed("it is not padded URL-safe base64"))?;
    let ip: IpAddr = match bytes.len() {
        IPV4_LENGTH => {
            let octets: [u8; 4] = bytes[1..5].try_into().expect("four bytes were sliced");
            octets.into()
        }
        IPV6_LENGTH => {
            let octets: [u8; 16] = bytes[1..17].try_into().expect("sixteen bytes were sliced");
            Ipv6Addr::from(octets).into()
        }
        _ => return Err(Error::StringMalformed("it is cut or has something appended")),
    };
    let (head, auth_key) = bytes.split_at(bytes.len() - AUTH_KEY_LENGTH);
    let auth_key = key::auth_key(auth_key)?;
    let home_dc = key::home_dc(i64::from(head[0]))?;
    let port = u16::from_be_bytes([head[head.len() - 2], head[head.len() - 1]]);
    let address = address::usable(SocketAddr::new(ip, port))?;
    let mut notes = Vec::new();
    address::judge(home_dc, address, addresses, &mut notes);
    let material = key::material(home_dc, auth_key, Some(address));
    Ok(Parsed { material, format: Format::TelethonString, notes })
}

pub(super) fn write(material: &Material, addresses: &Addresses) -> Result<Written, Error> {
    let home = material.home().ok_or(Error::NoKey)?;
    let home_dc = u8::try_from(material.home_dc).map_err(|_| Error::DataCentre(material.home_dc.into()))?;
    let address = address::of(material.home_dc, Some(home), addresses)
        .ok_or(Error::AddressUnknown(material.home_dc))?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(IPV6_LENGTH));
    bytes.push(home_dc);
    match address.ip() {
        IpAddr::V4(ip) => bytes.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => bytes.extend_from_slice(&ip.octets()),
    }
    bytes.extend_from_slice(&address.port().to_be_bytes());
    bytes.extend_from_slice(home.auth_key.expose_secret());

    let mut notes = key::lost(material);
    if material.telegram_user_id.is_some() {
        notes.push(Note::NotCarried(Item::UserId));
    }
    if material.updates.is_some() {
        notes.push(Note::NotCarried(Item::UpdateState));
    }
    Ok(Written { data: encoded::to_text(&URL_SAFE, VERSION, &bytes), notes })
}
