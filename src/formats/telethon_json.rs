//! Session files of Telethon 0.15 and older: JSON without data centre id, which the address tells.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, de::IgnoredAny};
use zeroize::Zeroizing;

use super::{
    Addresses, Error, Item, Note, Parsed, address, key,
    raw::{SecretText, malformed},
};
use crate::domain::material::Format;

/// Fields that later releases dropped may be there too.
#[derive(Deserialize)]
struct Document {
    server_address: Option<String>,
    port: Option<i64>,
    auth_key_data: Option<SecretText>,
    #[serde(default)]
    entities: Vec<IgnoredAny>,
    salt: Option<IgnoredAny>,
}

pub(super) fn read(text: &str, addresses: &Addresses) -> Result<Parsed, Error> {
    let document: Document = serde_json::from_str(text).map_err(|error| malformed(&error))?;
    let encoded = document.auth_key_data.ok_or(Error::NoKey)?;
    let bytes = STANDARD
        .decode(encoded.expose_secret())
        .map(Zeroizing::new)
        .map_err(|_| Error::StringMalformed("its key is not base64"))?;
    let auth_key = key::auth_key(&bytes)?;

    let mut notes = Vec::new();
    let address = address::told(document.server_address.as_deref(), document.port, &mut notes)?
        .ok_or(Error::DataCentreUnknown)?;
    let home_dc = address::dc_of(address, addresses).ok_or(Error::DataCentreUnknown)?;
    let home_dc = key::home_dc(home_dc.into())?;
    address::judge(home_dc, address, addresses, &mut notes);
    if !document.entities.is_empty() {
        notes.push(Note::NotCarried(Item::Peers(document.entities.len() as u64)));
    }
    if document.salt.is_some() {
        notes.push(Note::NotCarried(Item::Salt));
    }
    let material = key::material(home_dc, auth_key, Some(address));
    Ok(Parsed { material, format: Format::TelethonSqlite, notes })
}
