//! Sealing: key material and login tickets leave the process only as ciphertext.
//!
//! Every sealed thing has a data key of its own, wrapped by a named key of the key ring file, so that a
//! rotation rewraps small keys and never touches the data. What a thing is bound to (tenant, application,
//! environment, version, ticket) is authenticated with it: moved to another row, it does not open. This module
//! knows nothing of databases, Redis or Telegram.

use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::domain::{
    error::{Error as Refusal, Reason},
    fingerprint::Fingerprint,
    id::{LeaseId, SessionKey},
    login::PhoneNumber,
    material::{AuthKey, Material, SealedMaterial},
    secret::Secret,
    session::Environment,
};

mod bytes;
mod envelope;
mod key_file;
mod key_ring;
mod material;

pub use key_ring::{Error as KeyRingError, Key, KeyRing, Standing};

/// Why something was not sealed or opened. Says nothing about contents.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another key ring sealed it, or this one lost the key.
    #[error("sealed with key {key_id}, which the key ring does not hold")]
    UnknownKey { key_id: String },
    /// A newer version of the program wrote it, or it is not ours.
    #[error("sealed in a form that this version does not know")]
    UnknownForm,
    /// It was changed, or it belongs to another row.
    #[error("the seal is broken")]
    Broken,
    /// More than [`PLAIN_LENGTH_MAX`] bytes, or a part that no sealed thing may have.
    #[error("too large to be sealed")]
    TooLarge,
    #[error("the operating system gave no random numbers")]
    NoRandom,
}

/// The most that is sealed in one piece, in bytes.
pub const PLAIN_LENGTH_MAX: usize = 1 << 20;

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let message = match error {
            Error::UnknownKey { .. } => {
                "the key ring lacks the key this was sealed with; bring back the key file the data was sealed with"
            }
            Error::UnknownForm => "sealed by a newer version of the service; update this one",
            Error::Broken => "sealed data was changed or moved; restore it from a backup",
            Error::TooLarge => {
                return Self::new(Reason::MaterialTooLarge, "the session is too large to be stored");
            }
            Error::NoRandom => "the operating system gave no random numbers",
        };
        let reason = match error {
            Error::UnknownKey { .. } | Error::UnknownForm | Error::Broken => Reason::VaultUnavailable,
            Error::TooLarge | Error::NoRandom => Reason::Internal,
        };
        Self::new(reason, message).caused_by(error)
    }
}

/// Seals and opens with one key ring. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    ring: Arc<KeyRing>,
    fingerprint_key: Arc<Zeroizing<[u8; 32]>>,
    lease_key: Arc<Zeroizing<[u8; 32]>>,
    phone_key: Arc<Zeroizing<[u8; 32]>>,
    access_key: Arc<Zeroizing<[u8; 32]>>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("ring", &self.ring).finish_non_exhaustive()
    }
}

impl Vault {
    /// Seals with the ring's current key, opens with all of them.
    pub fn new(ring: KeyRing) -> Self {
        let fingerprint_key = Arc::new(ring.derive(b"usm fingerprint key"));
        let lease_key = Arc::new(ring.derive(b"usm lease id key"));
        let phone_key = Arc::new(ring.derive(b"usm phone number key"));
        let access_key = Arc::new(ring.derive(b"usm access token key"));
        Self { ring: Arc::new(ring), fingerprint_key, lease_key, phone_key, access_key }
    }

    /// The keys of the ring, without their secrets.
    pub fn keys(&self) -> &[Key] {
        self.ring.keys()
    }

    /// The key that seals from now on.
    pub fn current_key_id(&self) -> &str {
        self.ring.current().id()
    }

    /// Seals material for one row, at one `material_version`.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::NoRandom`].
    pub fn seal(
        &self,
        key: &SessionKey,
        environment: &Environment,
        version: i64,
        material: &Material,
    ) -> Result<SealedMaterial, Error> {
        let plain = material::encode(material)?;
        let bytes = envelope::seal(&self.ring, &row(key, environment, version), &plain)?;
        Ok(SealedMaterial { bytes, key_id: self.current_key_id().to_owned(), version })
    }

    /// Opens what [`Self::seal`] made for the same row, environment and version.
    ///
    /// # Errors
    /// [`Error::UnknownKey`], [`Error::UnknownForm`], [`Error::Broken`].
    pub fn unseal(
        &self,
        key: &SessionKey,
        environment: &Environment,
        sealed: &SealedMaterial,
    ) -> Result<Material, Error> {
        same_key(sealed)?;
        let plain = envelope::open(&self.ring, &row(key, environment, sealed.version), &sealed.bytes)?;
        material::decode(&plain)
    }

    /// Wraps the row's data key with the ring's current key; the data stays as it is. `None` if it already is.
    ///
    /// # Errors
    /// [`Error::UnknownKey`], [`Error::UnknownForm`], [`Error::Broken`], [`Error::NoRandom`].
    pub fn rewrap(
        &self,
        key: &SessionKey,
        environment: &Environment,
        sealed: &SealedMaterial,
    ) -> Result<Option<SealedMaterial>, Error> {
        same_key(sealed)?;
        if sealed.key_id == self.current_key_id() {
            return Ok(None);
        }
        let bytes = envelope::rewrap(&self.ring, &row(key, environment, sealed.version), &sealed.bytes)?;
        Ok(Some(SealedMaterial { bytes, key_id: self.current_key_id().to_owned(), version: sealed.version }))
    }

    /// Seals anything else. `context` names the kind of thing, `aad` the very one; opening needs both alike.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::NoRandom`].
    pub fn seal_blob(&self, context: &str, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, Error> {
        envelope::seal(&self.ring, &blob(context, aad), plain)
    }

    /// Opens what [`Self::seal_blob`] made.
    ///
    /// # Errors
    /// [`Error::UnknownKey`], [`Error::UnknownForm`], [`Error::Broken`].
    pub fn unseal_blob(&self, context: &str, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        envelope::open(&self.ring, &blob(context, aad), sealed)
    }

    /// Recognises an authorization. The same for the life of the key ring file, whatever is rotated in it.
    pub fn fingerprint(&self, material: &Material) -> Option<Fingerprint> {
        Fingerprint::of(material, &self.fingerprint_key)
    }

    /// The same of a key that may have become an authorization at this data centre.
    pub fn fingerprint_of(&self, dc: i32, auth_key: &AuthKey) -> Option<Fingerprint> {
        Some(Fingerprint::of_key(dc, auth_key, &self.fingerprint_key))
    }

    /// Recognises a phone number without telling it, in hexadecimal.
    pub fn phone_hash(&self, number: &PhoneNumber) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.phone_key.as_slice()).expect("HMAC takes keys of any length");
        mac.update(number.digits().expose_secret().as_bytes());
        hex::encode(&mac.finalize().into_bytes()[..16])
    }

    /// Recognises what somebody asked for without telling it, in hexadecimal.
    pub fn request_hash(&self, proof: Option<&Secret>, parts: &[&[u8]]) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.phone_key.as_slice()).expect("HMAC takes keys of any length");
        // No number begins so.
        mac.update(b"request");
        update_with(&mut mac, &[proof.map(|proof| proof.expose_secret().as_bytes()).unwrap_or_default()]);
        update_with(&mut mac, parts);
        hex::encode(&mac.finalize().into_bytes()[..16])
    }

    /// A lease id that only this service can name, and always the same for the same parts: a repeated request
    /// finds the lease it got, although no row holds the id.
    pub fn lease_id(&self, parts: &[&[u8]]) -> LeaseId {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.lease_key.as_slice()).expect("HMAC takes keys of any length");
        update_with(&mut mac, parts);
        let tag = mac.finalize().into_bytes();
        let mut id = [0; 16];
        id.copy_from_slice(&tag[..16]);
        LeaseId::from_random(id)
    }

    /// Vouches for an access token, to every replica with the same key ring.
    pub fn sign_access(&self, payload: &[u8]) -> [u8; 32] {
        self.access_mac(payload).finalize().into_bytes().into()
    }

    /// Whether [`Self::sign_access`] made this; in constant time.
    pub fn vouches_for_access(&self, payload: &[u8], tag: &[u8]) -> bool {
        self.access_mac(payload).verify_slice(tag).is_ok()
    }

    fn access_mac(&self, payload: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.access_key.as_slice())
            .expect("HMAC takes keys of any length");
        mac.update(payload);
        mac
    }
}

fn row(key: &SessionKey, environment: &Environment, version: i64) -> envelope::Binding {
    envelope::Binding::of(
        envelope::Kind::Material,
        &[
            key.tenant.as_str().as_bytes(),
            key.app.as_str().as_bytes(),
            environment.as_str().as_bytes(),
            &version.to_be_bytes(),
        ],
    )
}

fn blob(context: &str, aad: &[u8]) -> envelope::Binding {
    envelope::Binding::of(envelope::Kind::Blob, &[context.as_bytes(), aad])
}

/// The column beside the sealed bytes must name the key that they name themselves.
fn same_key(sealed: &SealedMaterial) -> Result<(), Error> {
    if envelope::key_id(&sealed.bytes)? == sealed.key_id { Ok(()) } else { Err(Error::Broken) }
}

/// Each part with its length, so that no two lists of parts look the same.
fn update_with(mac: &mut Hmac<Sha256>, parts: &[&[u8]]) {
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
}

#[cfg(test)]
mod tests;
