//! Sessions of gotd/td, the library for Go, read only: JSON with much of the client's configuration in it.

use std::net::SocketAddr;

use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sha1::{Digest as _, Sha1};

use super::{
    Addresses, Error, Item, Note, Parsed, address, encoded, key,
    raw::{SecretText, malformed},
};
use crate::domain::material::Format;

/// The only version there is.
const VERSION: i64 = 1;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    version: i64,
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    #[serde(default)]
    config: Config,
    #[serde(rename = "DC")]
    dc: i64,
    addr: Option<String>,
    auth_key: Option<SecretText>,
    #[serde(rename = "AuthKeyID")]
    auth_key_id: Option<SecretText>,
    #[serde(default)]
    salt: i64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    test_mode: bool,
}

pub(super) fn read(text: &str, addresses: &Addresses) -> Result<Parsed, Error> {
    let Document { version, data } = serde_json::from_str(text).map_err(|error| malformed(&error))?;
    if version != VERSION {
        return Err(Error::UnknownVersion(version));
    }
    let decoded = |text: &SecretText| {
        encoded::decode(&STANDARD, text.expose_secret())
            .ok_or(Error::StringMalformed("its key is not base64"))
    };
    let auth_key = key::auth_key(&decoded(&data.auth_key.ok_or(Error::NoKey)?)?)?;
    if let Some(id) = &data.auth_key_id {
        // Telegram's name for a key: the end of its hash.
        let hash = Sha1::digest(auth_key.expose_secret());
        if decoded(id)?.as_slice() != &hash[hash.len() - 8..] {
            return Err(Error::StringMalformed("its key is not the one that it names"));
        }
    }
    let home_dc = key::home_dc(data.dc)?;
    let mut notes = vec![Note::ReadOnlyForm("gotd")];
    let address = match data.addr.filter(|text| !text.is_empty()) {
        None => {
            notes.push(Note::AddressMissing);
            None
        }
        Some(text) => match text.parse::<SocketAddr>() {
            Ok(address) => Some(address::usable(address)?),
            Err(_) => {
                let (host, port) = text.rsplit_once(':').ok_or(Error::AddressInvalid)?;
                let port = port.parse().map_err(|_| Error::PortInvalid)?;
                address::told(Some(host), Some(port), &mut notes)?
            }
        },
    };
    let address = address::with_test_flag(home_dc, address, data.config.test_mode, &mut notes);
    if let Some(address) = address {
        address::judge(home_dc, address, addresses, &mut notes);
    }
    if data.salt != 0 {
        notes.push(Note::NotCarried(Item::Salt));
    }
    Ok(Parsed { material: key::material(home_dc, auth_key, address), format: Format::Raw, notes })
}
