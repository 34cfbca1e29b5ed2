//! An authorization key and its number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{random, sha1};

/// The number of an authorization key: the last 8 bytes of its SHA-1, as they travel in front of each packet.
/// Written as 16 hex digits of those bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct KeyId(pub(crate) i64);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0.to_le_bytes()))
    }
}

impl FromStr for KeyId {
    type Err = hex::FromHexError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 8];
        hex::decode_to_slice(s, &mut bytes)?;
        Ok(Self(i64::from_le_bytes(bytes)))
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for KeyId {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// 2048 bits that a client and this server share.
#[derive(Clone)]
pub(crate) struct AuthKey {
    bytes: [u8; 256],
    id: KeyId,
}

impl AuthKey {
    pub(crate) fn new(bytes: [u8; 256]) -> Self {
        let hash = sha1(&[&bytes]);
        let mut id = [0; 8];
        id.copy_from_slice(&hash[12..]);
        Self { bytes, id: KeyId(i64::from_le_bytes(id)) }
    }

    pub(crate) fn generate() -> Self {
        Self::new(random())
    }

    pub(crate) fn id(&self) -> KeyId {
        self.id
    }

    pub(crate) fn expose(&self) -> &[u8; 256] {
        &self.bytes
    }

    /// The hash that proves to a client that the server came to the same key; `outcome` is 1 (ok), 2 (retry), 3 (fail).
    pub(crate) fn nonce_hash(&self, new_nonce: &[u8; 32], outcome: u8) -> [u8; 16] {
        let own = sha1(&[&self.bytes]);
        let hash = sha1(&[new_nonce, &[outcome], &own[..8]]);
        let mut out = [0; 16];
        out.copy_from_slice(&hash[4..]);
        out
    }
}

impl fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthKey({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_and_nonce_hash_agree_with_the_client_library() {
        let bytes: [u8; 256] = random();
        let nonce: [u8; 32] = random();
        let theirs = grammers_crypto::AuthKey::from_bytes(bytes);
        let ours = AuthKey::new(bytes);
        assert_eq!(ours.nonce_hash(&nonce, 1), theirs.calc_new_nonce_hash(&nonce, 1));
        assert!(format!("{theirs:?}").contains(&(ours.id().0 as u64).to_string()));
    }

    #[test]
    fn written_number_reads_back() {
        let id = KeyId(-81_985_529_216_486_896);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("xyz".parse::<KeyId>().is_err());
    }
}
