//! Recognising an authorization without revealing it.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::domain::material::{AuthKey, Material};

/// A keyed hash over home data centre and authorization key, in hexadecimal: equal for copies of one
/// authorization, different for two, and of no use to whoever lacks the service's key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// `None` for material without a home key.
    pub fn of(material: &Material, key: &[u8; 32]) -> Option<Self> {
        let home = material.home()?;
        Some(Self::of_key(material.home_dc, &home.auth_key, key))
    }

    /// Of an authorization with its home at this data centre.
    pub fn of_key(dc: i32, auth_key: &AuthKey, key: &[u8; 32]) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.update(b"usm authorization\0");
        mac.update(&dc.to_be_bytes());
        mac.update(auth_key.expose_secret());
        Self(hex::encode(mac.finalize().into_bytes()))
    }

    /// From a row that this program wrote.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fingerprint({:.8}..)", self.0)
    }
}
