//! The service's own form: one JSON document with everything, for workers in languages without a format of
//! their own.
//!
//! ```json
//! {
//!   "format": "usm-session", "version": 1,
//!   "dc_id": 2, "address": "149.154.167.51:443", "auth_key": "<padded base64 of 256 bytes>",
//!   "user_id": 123456789, "is_bot": false, "api_id": 12345,
//!   "other_dcs": [{"dc_id": 4, "address": "149.154.167.91:443", "auth_key": "..."}],
//!   "device": {"device_model": "Server", "system_version": "Linux", "app_version": "1.0",
//!              "system_lang_code": "en", "lang_code": "en"},
//!   "proxy": null,
//!   "update_state": {"pts": 1, "qts": 0, "date": 1700000000, "seq": 1},
//!   "channels": [{"channel_id": 1234, "pts": 5}]
//! }
//! ```
//!
//! `address` is `ip:port` (IPv6 in brackets) or null; `user_id`, `is_bot`, `proxy` and `update_state` are null when
//! unknown, `api_id` is then 0. All fields but `format`, `version`, `dc_id` and `auth_key` may be left out; fields
//! of other names are refused, and so are other versions.

use std::{collections::BTreeMap, net::SocketAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::{Addresses, Error, Parsed, Written, address, key};
use crate::domain::{
    material::{AUTH_KEY_LENGTH, AuthKey, CHANNELS_MAX, DcKey, Device, Format, Material, Proxy, UpdateState},
    secret::Secret,
};

const FORMAT: &str = "usm-session";
const VERSION: i64 = 1;
/// More data centres than anybody has; bounds the list.
const OTHER_DCS_MAX: usize = 64;
/// Bytes beside the keys that a document may take without growing its buffer, which would leave copies behind.
const ROOM: usize = 8 * 1024;

/// A JSON string that is wiped when dropped and never printed.
pub(super) struct SecretText(Zeroizing<String>);

impl SecretText {
    pub(super) fn expose_secret(&self) -> &str {
        &self.0
    }

    fn of_key(key: &AuthKey) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(AUTH_KEY_LENGTH.div_ceil(3) * 4));
        STANDARD.encode_string(key.expose_secret(), &mut text);
        Self(text)
    }

    fn to_key(&self) -> Result<AuthKey, Error> {
        let bytes = STANDARD
            .decode(self.0.as_bytes())
            .map(Zeroizing::new)
            .map_err(|_| Error::StringMalformed("its key is not padded base64"))?;
        key::auth_key(&bytes)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Where reading stopped, without what was there.
pub(super) fn malformed(error: &serde_json::Error) -> Error {
    Error::JsonMalformed(error.line(), error.column())
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    version: i64,
    dc_id: i64,
    address: Option<String>,
    auth_key: SecretText,
    user_id: Option<i64>,
    is_bot: Option<bool>,
    #[serde(default)]
    api_id: i32,
    #[serde(default)]
    other_dcs: Vec<OtherDc>,
    device: Option<DeviceFields>,
    proxy: Option<SecretText>,
    update_state: Option<UpdateFields>,
    /// Left out when empty: earlier releases refuse what they do not know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    channels: Vec<ChannelFields>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct OtherDc {
    dc_id: i32,
    address: Option<String>,
    auth_key: SecretText,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct DeviceFields {
    device_model: String,
    system_version: String,
    app_version: String,
    system_lang_code: String,
    lang_code: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct UpdateFields {
    pts: i32,
    qts: i32,
    date: i32,
    seq: i32,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ChannelFields {
    channel_id: i64,
    pts: i32,
}

/// Just enough to name another version as such before its fields are judged.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: i64,
}

pub(super) fn read(text: &str) -> Result<Parsed, Error> {
    let head: Head = serde_json::from_str(text).map_err(|error| malformed(&error))?;
    if head.format != FORMAT {
        return Err(Error::JsonUnknown);
    }
    if head.version != VERSION {
        return Err(Error::UnknownVersion(head.version));
    }
    let document: Document = serde_json::from_str(text).map_err(|error| malformed(&error))?;
    let home_dc = key::home_dc(document.dc_id)?;
    let home = DcKey { auth_key: document.auth_key.to_key()?, address: parse_address(document.address)? };
    let mut keys = BTreeMap::from([(home_dc, home)]);
    if document.other_dcs.len() > OTHER_DCS_MAX {
        return Err(Error::TooLarge);
    }
    for other in document.other_dcs {
        let key = DcKey { auth_key: other.auth_key.to_key()?, address: parse_address(other.address)? };
        if other.dc_id <= 0 || keys.insert(other.dc_id, key).is_some() {
            return Err(Error::DataCentre(other.dc_id.into()));
        }
    }
    let mut notes = Vec::new();
    let material = Material {
        home_dc,
        keys,
        telegram_user_id: document.user_id.and_then(|id| key::user_id(id, &mut notes)),
        is_bot: document.is_bot,
        api_id: document.api_id,
        device: document.device.map_or_else(Device::default, DeviceFields::into_device),
        proxy: document.proxy.map(|url| Proxy { url: Secret::new(url.expose_secret()) }),
        updates: document.update_state.map(|state| UpdateState {
            pts: state.pts,
            qts: state.qts,
            date: state.date,
            seq: state.seq,
        }),
        channels: channels(&document.channels)?,
    };
    Ok(Parsed { material, format: Format::Raw, notes })
}

pub(super) fn write(material: &Material, addresses: &Addresses) -> Result<Written, Error> {
    let home = material.home().ok_or(Error::NoKey)?;
    let told = |dc, key| address::of(dc, Some(key), addresses).map(|address| address.to_string());
    let other_dcs: Vec<OtherDc> = material
        .keys
        .iter()
        .filter(|(dc, _)| **dc != material.home_dc)
        .map(|(dc, key)| OtherDc {
            dc_id: *dc,
            address: told(*dc, key),
            auth_key: SecretText::of_key(&key.auth_key),
        })
        .collect();
    let mut data =
        Zeroizing::new(Vec::with_capacity(ROOM + other_dcs.len() * 512 + material.channels.len() * 64));
    let document = Document {
        format: FORMAT.to_owned(),
        version: VERSION,
        dc_id: material.home_dc.into(),
        address: told(material.home_dc, home),
        auth_key: SecretText::of_key(&home.auth_key),
        user_id: material.telegram_user_id,
        is_bot: material.is_bot,
        api_id: material.api_id,
        other_dcs,
        device: Some(DeviceFields::of(&material.device)),
        proxy: material
            .proxy
            .as_ref()
            .map(|proxy| SecretText(Zeroizing::new(proxy.url.expose_secret().to_owned()))),
        update_state: material.updates.map(|state| UpdateFields {
            pts: state.pts,
            qts: state.qts,
            date: state.date,
            seq: state.seq,
        }),
        channels: material
            .channels
            .iter()
            .map(|(channel_id, pts)| ChannelFields { channel_id: *channel_id, pts: *pts })
            .collect(),
    };
    serde_json::to_writer(&mut *data, &document).map_err(|_| Error::Internal("JSON"))?;
    Ok(Written { data, notes: Vec::new() })
}

fn channels(given: &[ChannelFields]) -> Result<BTreeMap<i64, i32>, Error> {
    let channels: BTreeMap<i64, i32> = given.iter().map(|state| (state.channel_id, state.pts)).collect();
    if channels.len() != given.len() || channels.len() > CHANNELS_MAX || channels.keys().any(|id| *id <= 0) {
        return Err(Error::ChannelStates);
    }
    Ok(channels)
}

fn parse_address(text: Option<String>) -> Result<Option<SocketAddr>, Error> {
    let Some(text) = text else { return Ok(None) };
    let address: SocketAddr = text.parse().map_err(|_| Error::AddressInvalid)?;
    address::usable(address).map(Some)
}

impl DeviceFields {
    fn of(device: &Device) -> Self {
        Self {
            device_model: device.device_model.clone(),
            system_version: device.system_version.clone(),
            app_version: device.app_version.clone(),
            system_lang_code: device.system_lang_code.clone(),
            lang_code: device.lang_code.clone(),
        }
    }

    fn into_device(self) -> Device {
        Device {
            device_model: self.device_model,
            system_version: self.system_version,
            app_version: self.app_version,
            system_lang_code: self.system_lang_code,
            lang_code: self.lang_code,
        }
    }
}
