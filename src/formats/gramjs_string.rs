//! GramJS' `StringSession`: `1`, then padded standard base64 of data centre, address as text, port and key.
//!
//! Telethon's begins with the same character, and most strings of GramJS have the length of a Telethon string with an
//! IPv6 address, which Telethon then reads as one. [`is_one`] tells them apart.

use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use zeroize::Zeroizing;

use super::{Addresses, Error, Item, Note, Parsed, Written, address, encoded, key};
use crate::domain::material::{AUTH_KEY_LENGTH, Format, Material};

const VERSION: &str = "1";
/// Without the address: data centre 1, length of the address 2, port 2, key 256.
const LENGTH_BARE: usize = 1 + 2 + 2 + AUTH_KEY_LENGTH;
/// GramJS takes a greater length for the first bytes of Telethon's IPv6 address.
const ADDRESS_LENGTH_MAX: usize = 100;
/// What is of this length, GramJS too takes for Telethon's.
const TELETHON_IPV4_LENGTH: usize = 1 + 4 + 2 + AUTH_KEY_LENGTH;
/// GramJS reads and writes the port with a sign.
const PORT_MAX: u16 = 0x7fff;

/// Whether a text is GramJS', in either alphabet: GramJS reads both and writes the standard one.
pub(super) fn is_one(text: &str) -> bool {
    decoded(text).is_some()
}

fn decoded(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let encoded = text.strip_prefix(VERSION)?;
    let bytes = encoded::decode(&STANDARD, encoded).or_else(|| encoded::decode(&URL_SAFE, encoded))?;
    has_address(&bytes).then_some(bytes)
}

/// Whether the bytes carry their address as text, with its length before it.
fn has_address(bytes: &[u8]) -> bool {
    if bytes.len() == TELETHON_IPV4_LENGTH || bytes.len() < LENGTH_BARE {
        return false;
    }
    let length = usize::from(u16::from_be_bytes([bytes[1], bytes[2]]));
    (1..=ADDRESS_LENGTH_MAX).contains(&length)
        && bytes.len() == LENGTH_BARE + length
        && bytes[3..3 + length].iter().all(u8::is_ascii_graphic)
}

pub(super) fn read(text: &str, addresses: &Addresses) -> Result<Parsed, Error> {
    let bytes = decoded(text).ok_or(Error::StringMalformed("it is no string of GramJS"))?;
    let (head, auth_key) = bytes.split_at(bytes.len() - AUTH_KEY_LENGTH);
    let (told, port) = head.split_at(head.len() - 2);
    let auth_key = key::auth_key(auth_key)?;
    let home_dc = key::home_dc(told[0].into())?;
    let host = std::str::from_utf8(&told[3..]).map_err(|_| Error::AddressInvalid)?;
    let port = u16::from_be_bytes([port[0], port[1]]);
    let mut notes = Vec::new();
    let address = address::told(Some(host), Some(port.into()), &mut notes)?;
    if let Some(address) = address {
        address::judge(home_dc, address, addresses, &mut notes);
    }
    let material = key::material(home_dc, auth_key, address);
    Ok(Parsed { material, format: Format::GramjsString, notes })
}

pub(super) fn write(material: &Material, addresses: &Addresses) -> Result<Written, Error> {
    let home = material.home().ok_or(Error::NoKey)?;
    let home_dc = u8::try_from(material.home_dc).map_err(|_| Error::DataCentre(material.home_dc.into()))?;
    let address = address::of(material.home_dc, Some(home), addresses)
        .ok_or(Error::AddressUnknown(material.home_dc))?;
    let host = address.ip().to_string();
    let mut bytes = Zeroizing::new(Vec::with_capacity(LENGTH_BARE + host.len()));
    bytes.push(home_dc);
    bytes.extend_from_slice(&(host.len() as u16).to_be_bytes());
    bytes.extend_from_slice(host.as_bytes());
    bytes.extend_from_slice(&address.port().to_be_bytes());
    bytes.extend_from_slice(home.auth_key.expose_secret());

    let mut notes = key::not_carried(material, |item| matches!(item, Item::Address));
    if address.port() > PORT_MAX {
        notes.push(Note::PortNegative);
    }
    Ok(Written { data: encoded::to_text(&STANDARD, VERSION, &bytes), notes })
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    fn string(host: &str, port: u16) -> String {
        let mut bytes = vec![4, 0, u8::try_from(host.len()).unwrap()];
        bytes.extend_from_slice(host.as_bytes());
        bytes.extend_from_slice(&port.to_be_bytes());
        bytes.extend((0..=255).map(|n: u8| n ^ 0x5a));
        format!("1{}", STANDARD.encode(bytes))
    }

    #[test]
    fn strings_are_recognised_even_where_telethon_would_read_them() {
        let ambiguous = string("149.154.167.91", 443);
        assert_eq!(ambiguous.len(), 369);
        for text in [ambiguous, string("vesta.web.telegram.org", 443), string("1.1.1.1", 80)] {
            assert!(is_one(&text));
            assert_eq!(read(&text, &Addresses::new()).unwrap().material.home_dc, 4);
        }
    }

    #[test]
    fn hosts_are_addresses_or_names() {
        let read = |host: &str, port| {
            let parsed = read(&string(host, port), &Addresses::new())?;
            Ok((parsed.material.keys[&4].address.map(|address| address.to_string()), parsed.notes))
        };
        assert_eq!(read("149.154.167.91", 443), Ok((Some("149.154.167.91:443".to_owned()), vec![])));
        // What GramJS makes of an IPv6 address it was given.
        assert_eq!(
            read("2001:67c:4e8:f004:0:0:0:a", 443),
            Ok((Some("[2001:67c:4e8:f004::a]:443".to_owned()), vec![]))
        );
        assert_eq!(read("vesta.web.telegram.org", 443), Ok((None, vec![Note::AddressIsHostName])));
        assert_eq!(read("not_an_address", 443), Err(Error::AddressInvalid));
        assert_eq!(read("149.154.167.91", 0), Err(Error::PortInvalid));
    }
}
