//! Key material: what makes whoever holds it the account.

use std::{collections::BTreeMap, net::SocketAddr};

use zeroize::Zeroizing;

use crate::domain::{
    error::{Error, Reason},
    secret::Secret,
};

/// Length of an authorization key, in bytes.
pub const AUTH_KEY_LENGTH: usize = 256;

/// An MTProto authorization key. Wiped when dropped, compared in constant time, never printed.
#[derive(Clone)]
pub struct AuthKey(Zeroizing<[u8; AUTH_KEY_LENGTH]>);

impl AuthKey {
    /// # Errors
    /// `MATERIAL_INVALID` unless 256 bytes that are not all zero.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        let key: [u8; AUTH_KEY_LENGTH] = bytes.try_into().map_err(|_| {
            Error::new(Reason::MaterialInvalid, "the authorization key is not 256 bytes long")
        })?;
        let key = Zeroizing::new(key);
        if key.iter().all(|byte| *byte == 0) {
            return Err(Error::new(Reason::MaterialInvalid, "the session holds no authorization key"));
        }
        Ok(Self(key))
    }

    pub fn expose_secret(&self) -> &[u8; AUTH_KEY_LENGTH] {
        &self.0
    }
}

impl PartialEq for AuthKey {
    fn eq(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq as _;
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl Eq for AuthKey {}

impl std::fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuthKey(..)")
    }
}

/// What a session has at one data centre.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DcKey {
    pub auth_key: AuthKey,
    /// The address the key was used with, where the source told.
    pub address: Option<SocketAddr>,
}

/// How the client introduces itself. Belongs to the authorization: changing it later gets sessions closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub device_model: String,
    pub system_version: String,
    pub app_version: String,
    pub system_lang_code: String,
    pub lang_code: String,
}

impl Default for Device {
    fn default() -> Self {
        Self {
            device_model: "Server".to_owned(),
            system_version: "Linux".to_owned(),
            app_version: env!("CARGO_PKG_VERSION").to_owned(),
            system_lang_code: "en".to_owned(),
            lang_code: "en".to_owned(),
        }
    }
}

/// A proxy that belongs to the authorization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// `socks5://[user:password@]host:port`
    pub url: Secret,
}

/// How far a client has read the account's updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateState {
    pub pts: i32,
    pub qts: i32,
    pub date: i32,
    pub seq: i32,
}

/// The most channels whose states are kept.
pub const CHANNELS_MAX: usize = 10_000;

/// Everything a client needs to be the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Material {
    pub home_dc: i32,
    /// By data centre; holds the home one.
    pub keys: BTreeMap<i32, DcKey>,
    pub telegram_user_id: Option<i64>,
    pub is_bot: Option<bool>,
    /// 0 when the source did not tell.
    pub api_id: i32,
    pub device: Device,
    pub proxy: Option<Proxy>,
    pub updates: Option<UpdateState>,
    /// How far each channel was read: its `pts` by its bare id, at most [`CHANNELS_MAX`].
    pub channels: BTreeMap<i64, i32>,
}

impl Material {
    /// # Errors
    /// `MATERIAL_INVALID` for a data centre outside 1-5 or a home without key.
    pub fn check(&self) -> Result<(), Error> {
        if !(1..=5).contains(&self.home_dc) {
            return Err(Error::new(Reason::MaterialInvalid, "the home data centre is not 1-5"));
        }
        if !self.keys.contains_key(&self.home_dc) {
            return Err(Error::new(
                Reason::MaterialInvalid,
                "the session holds no key of its home data centre",
            ));
        }
        if self.channels.len() > CHANNELS_MAX || self.channels.keys().any(|id| *id <= 0) {
            return Err(Error::new(
                Reason::MaterialInvalid,
                "the session holds states of more than 10,000 channels, or of a channel that cannot be",
            ));
        }
        Ok(())
    }

    /// The key and address of the home data centre, if the material is sound.
    pub fn home(&self) -> Option<&DcKey> {
        self.keys.get(&self.home_dc)
    }
}

/// The longest token of a log-out that is kept, in bytes. Telegram names no length.
pub const FUTURE_AUTH_TOKEN_LENGTH_MAX: usize = 1024;

/// How many tokens of log-outs are kept and sent along; Telegram reads no more.
pub const FUTURE_AUTH_TOKENS_MAX: usize = 20;

/// What Telegram gives at a log-out, or a login, so that the account can sign in again without a code. With the
/// phone number it is worth as much as a code.
#[derive(Clone, PartialEq, Eq)]
pub struct FutureAuthToken(Zeroizing<Vec<u8>>);

impl FutureAuthToken {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub fn expose_secret(&self) -> &[u8] {
        &self.0
    }

    /// Adds a token to those known, newest first: each once, none that is too long, and no more than are read.
    pub fn remember(self, known: &mut Vec<Self>) {
        if self.0.is_empty() || self.0.len() > FUTURE_AUTH_TOKEN_LENGTH_MAX || known.contains(&self) {
            return;
        }
        known.insert(0, self);
        known.truncate(FUTURE_AUTH_TOKENS_MAX);
    }
}

impl std::fmt::Debug for FutureAuthToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FutureAuthToken(..)")
    }
}

/// The shapes in which material goes in and out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    TelethonString,
    TelethonSqlite,
    PyrogramString,
    PyrogramSqlite,
    GramjsString,
    MtcuteString,
    Grammers,
    Tdata,
    Raw,
}

impl Format {
    pub const ALL: &[Self] = &[
        Self::TelethonString,
        Self::TelethonSqlite,
        Self::PyrogramString,
        Self::PyrogramSqlite,
        Self::GramjsString,
        Self::MtcuteString,
        Self::Grammers,
        Self::Tdata,
        Self::Raw,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::TelethonString => "telethon-string",
            Self::TelethonSqlite => "telethon-sqlite",
            Self::PyrogramString => "pyrogram-string",
            Self::PyrogramSqlite => "pyrogram-sqlite",
            Self::GramjsString => "gramjs-string",
            Self::MtcuteString => "mtcute-string",
            Self::Grammers => "grammers",
            Self::Tdata => "tdata",
            Self::Raw => "raw",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|format| format.name() == name)
    }
}

/// Material sealed by the vault: safe to store, useless without the key ring.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedMaterial {
    pub bytes: Vec<u8>,
    /// Names the key of the ring that wraps it.
    pub key_id: String,
    /// The `material_version` it is bound to.
    pub version: i64,
}

impl std::fmt::Debug for SealedMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedMaterial")
            .field("key_id", &self.key_id)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
