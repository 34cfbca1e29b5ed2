//! The envelope: a data key per sealed thing, wrapped by a key of the ring.
//!
//! Version 1: `"USMV" 1 kind | id length, id | salt (32) | wrapped data key (32 + 16) | nonce (12) | data + 16`.
//! AES-256-GCM throughout. The wrapping key is HMAC-SHA256(ring key, label and salt), used once and therefore with
//! a fixed nonce: no count of sealed things ever brings two nonces under one key. Both layers authenticate the
//! version, the kind and the binding; the wrapping one the key's name as well.

use aes_gcm::{
    Aes256Gcm, KeyInit as _, Nonce,
    aead::{Aead as _, AeadInOut as _, Payload},
};
use zeroize::Zeroizing;

use super::{Error, KeyRing, PLAIN_LENGTH_MAX, bytes::Reader};

const MAGIC: &[u8; 4] = b"USMV";
const VERSION: u8 = 1;
const SALT_LENGTH: usize = 32;
const NONCE_LENGTH: usize = 12;
const TAG_LENGTH: usize = 16;
const KEY_LENGTH: usize = 32;
const WRAPPED_LENGTH: usize = KEY_LENGTH + TAG_LENGTH;
/// For a key that encrypts one message and is then forgotten.
const ONLY_NONCE: [u8; NONCE_LENGTH] = [0; NONCE_LENGTH];

/// What kind of thing is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Material,
    Blob,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Material => 1,
            Self::Blob => 2,
        }
    }
}

/// Where the sealed thing belongs, without ambiguity: every part with its length before it.
pub(super) struct Binding {
    kind: Kind,
    bytes: Vec<u8>,
}

impl Binding {
    pub(super) fn of(kind: Kind, parts: &[&[u8]]) -> Self {
        let mut bytes = Vec::from(MAGIC.as_slice());
        bytes.extend([VERSION, kind.byte()]);
        for part in parts {
            bytes.extend((part.len() as u64).to_be_bytes());
            bytes.extend(*part);
        }
        Self { kind, bytes }
    }

    fn data(&self) -> Vec<u8> {
        [self.bytes.as_slice(), b"data"].concat()
    }

    fn wrap(&self, key_id: &str) -> Vec<u8> {
        [self.bytes.as_slice(), b"wrap", key_id.as_bytes()].concat()
    }
}

type SecretKey = Zeroizing<[u8; KEY_LENGTH]>;

pub(super) fn seal(ring: &KeyRing, binding: &Binding, plain: &[u8]) -> Result<Vec<u8>, Error> {
    if plain.len() > PLAIN_LENGTH_MAX {
        return Err(Error::TooLarge);
    }
    let mut data_key = SecretKey::default();
    getrandom::fill(data_key.as_mut_slice()).map_err(|_| Error::NoRandom)?;
    let mut nonce = [0; NONCE_LENGTH];
    getrandom::fill(&mut nonce).map_err(|_| Error::NoRandom)?;

    let mut out = head(ring, binding, &data_key)?;
    out.extend(nonce);
    let cipher = Aes256Gcm::new(data_key.as_slice().try_into().map_err(|_| Error::Broken)?);
    let data = cipher
        .encrypt(&Nonce::from(nonce), Payload { msg: plain, aad: &binding.data() })
        .map_err(|_| Error::TooLarge)?;
    out.extend(data);
    Ok(out)
}

pub(super) fn open(ring: &KeyRing, binding: &Binding, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let parts = Parts::split(sealed)?;
    let data_key = parts.unwrap(ring, binding)?;
    let mut body = Reader::new(parts.body);
    let nonce: [u8; NONCE_LENGTH] = body.array()?;
    let mut plain = Zeroizing::new(body.rest().to_vec());
    let cipher = Aes256Gcm::new(data_key.as_slice().try_into().map_err(|_| Error::Broken)?);
    cipher.decrypt_in_place(&Nonce::from(nonce), &binding.data(), &mut *plain).map_err(|_| Error::Broken)?;
    Ok(plain)
}

pub(super) fn rewrap(ring: &KeyRing, binding: &Binding, sealed: &[u8]) -> Result<Vec<u8>, Error> {
    let parts = Parts::split(sealed)?;
    let data_key = parts.unwrap(ring, binding)?;
    let mut out = head(ring, binding, &data_key)?;
    out.extend(parts.body);
    Ok(out)
}

/// The name of the key that wraps `sealed`.
pub(super) fn key_id(sealed: &[u8]) -> Result<&str, Error> {
    Ok(Parts::split(sealed)?.key_id)
}

/// Everything before the nonce, with the data key wrapped by the ring's current key.
fn head(ring: &KeyRing, binding: &Binding, data_key: &SecretKey) -> Result<Vec<u8>, Error> {
    let key = ring.current();
    let mut salt = [0; SALT_LENGTH];
    getrandom::fill(&mut salt).map_err(|_| Error::NoRandom)?;
    let wrapping = key.derive(&[b"usm wrap\0".as_slice(), &salt].concat());
    let cipher = Aes256Gcm::new(wrapping.as_slice().try_into().map_err(|_| Error::Broken)?);
    let wrapped = cipher
        .encrypt(&Nonce::from(ONLY_NONCE), Payload { msg: data_key.as_slice(), aad: &binding.wrap(key.id()) })
        .map_err(|_| Error::TooLarge)?;

    let mut out = Vec::from(MAGIC.as_slice());
    out.extend([VERSION, binding.kind.byte()]);
    out.push(u8::try_from(key.id().len()).map_err(|_| Error::TooLarge)?);
    out.extend(key.id().as_bytes());
    out.extend(salt);
    out.extend(wrapped);
    Ok(out)
}

struct Parts<'a> {
    kind: u8,
    key_id: &'a str,
    salt: &'a [u8],
    wrapped: &'a [u8],
    /// Nonce and data.
    body: &'a [u8],
}

impl<'a> Parts<'a> {
    fn split(sealed: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(sealed);
        if reader.raw(MAGIC.len())? != MAGIC || reader.u8()? != VERSION {
            return Err(Error::UnknownForm);
        }
        let kind = reader.u8()?;
        let length = usize::from(reader.u8()?);
        let key_id = std::str::from_utf8(reader.raw(length)?).map_err(|_| Error::UnknownForm)?;
        let salt = reader.raw(SALT_LENGTH)?;
        let wrapped = reader.raw(WRAPPED_LENGTH)?;
        let body = reader.rest();
        if body.len() < NONCE_LENGTH + TAG_LENGTH || body.len() > NONCE_LENGTH + TAG_LENGTH + PLAIN_LENGTH_MAX
        {
            return Err(Error::UnknownForm);
        }
        Ok(Self { kind, key_id, salt, wrapped, body })
    }

    fn unwrap(&self, ring: &KeyRing, binding: &Binding) -> Result<SecretKey, Error> {
        if self.kind != binding.kind.byte() {
            return Err(Error::Broken);
        }
        let key =
            ring.find(self.key_id).ok_or_else(|| Error::UnknownKey { key_id: printable(self.key_id) })?;
        let wrapping = key.derive(&[b"usm wrap\0".as_slice(), self.salt].concat());
        let cipher = Aes256Gcm::new(wrapping.as_slice().try_into().map_err(|_| Error::Broken)?);
        let mut plain = Zeroizing::new(self.wrapped.to_vec());
        cipher
            .decrypt_in_place(&Nonce::from(ONLY_NONCE), &binding.wrap(self.key_id), &mut *plain)
            .map_err(|_| Error::Broken)?;
        let mut data_key = SecretKey::default();
        data_key.copy_from_slice(plain.get(..KEY_LENGTH).ok_or(Error::Broken)?);
        Ok(data_key)
    }
}

/// A key name that came from outside, made fit for a message.
fn printable(key_id: &str) -> String {
    key_id.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).take(64).collect()
}
