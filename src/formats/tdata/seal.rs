//! TDesktop's local encryption: AES-256-IGE under a key and an initial vector that MTProto 1 derives from a local key
//! of 256 bytes and the hash of the text.

use aes::Aes256;
use ige::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use sha1::{Digest as _, Sha1};
use zeroize::{Zeroize as _, Zeroizing};

use super::stream::secret_buffer;
use crate::formats::Error;

pub(super) const LOCAL_KEY_LENGTH: usize = 256;
const BLOCK: usize = 16;
/// The hash before the text, of which it is also the checksum.
const HASH_LENGTH: usize = 16;
/// The text's length, before the text.
const HEADER_LENGTH: usize = 4;
/// Direction of what is stored.
const X: usize = 8;

/// What everything else in a folder is sealed under, or what this key is sealed under.
pub(super) struct LocalKey(Zeroizing<[u8; LOCAL_KEY_LENGTH]>);

impl LocalKey {
    pub(super) fn zeroed() -> Self {
        Self(Zeroizing::new([0; LOCAL_KEY_LENGTH]))
    }

    pub(super) fn from_slice(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == LOCAL_KEY_LENGTH).then(|| {
            let mut key = Self::zeroed();
            key.0.copy_from_slice(bytes);
            key
        })
    }

    /// # Errors
    /// `Internal` if the system has no randomness.
    pub(super) fn random() -> Result<Self, Error> {
        let mut key = Self::zeroed();
        fill_random(key.bytes_mut())?;
        Ok(key)
    }

    pub(super) fn bytes(&self) -> &[u8; LOCAL_KEY_LENGTH] {
        &self.0
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8; LOCAL_KEY_LENGTH] {
        &mut self.0
    }

    /// The cipher's key and initial vector for a text with this hash.
    fn derive(&self, hash: &[u8]) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>) {
        let part = |from: usize, length: usize| &self.0[X + from..X + from + length];
        let digest = |parts: &[&[u8]]| {
            let mut sha1 = Sha1::new();
            for part in parts {
                sha1.update(part);
            }
            Zeroizing::new(<[u8; 20]>::from(sha1.finalize()))
        };
        let a = digest(&[hash, part(0, 32)]);
        let b = digest(&[part(32, 16), hash, part(48, 16)]);
        let c = digest(&[part(64, 32), hash]);
        let d = digest(&[hash, part(96, 32)]);
        let (mut key, mut iv) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
        key[..8].copy_from_slice(&a[..8]);
        key[8..20].copy_from_slice(&b[8..20]);
        key[20..].copy_from_slice(&c[4..16]);
        iv[..12].copy_from_slice(&a[8..20]);
        iv[12..20].copy_from_slice(&b[..8]);
        iv[20..24].copy_from_slice(&c[16..20]);
        iv[24..].copy_from_slice(&d[..8]);
        (key, iv)
    }

    /// Opens what was sealed under this key.
    pub(super) fn open(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, NotOpened> {
        if sealed.len() <= HASH_LENGTH || !sealed.len().is_multiple_of(BLOCK) {
            return Err(NotOpened::Shape);
        }
        let (hash, text) = sealed.split_at(HASH_LENGTH);
        let mut text = Zeroizing::new(text.to_vec());
        let (key, iv) = self.derive(hash);
        let mut mode = ige::Decryptor::<Aes256>::new((&*key).into(), (&*iv).into());
        for block in text.chunks_exact_mut(BLOCK) {
            mode.decrypt_block(block.try_into().expect("a whole block"));
        }
        if Sha1::digest(&*text)[..HASH_LENGTH] != *hash {
            return Err(NotOpened::Key);
        }
        let header: [u8; HEADER_LENGTH] = text[..HEADER_LENGTH].try_into().expect("a block at least");
        let length = usize::try_from(u32::from_le_bytes(header)).map_err(|_| NotOpened::Shape)?;
        if length > text.len() || length + BLOCK <= text.len() || length < HEADER_LENGTH {
            return Err(NotOpened::Shape);
        }
        text[length..].zeroize();
        text.truncate(length);
        text.copy_within(HEADER_LENGTH.., 0);
        let end = length - HEADER_LENGTH;
        text[end..].zeroize();
        text.truncate(end);
        Ok(text)
    }

    /// Seals a text under this key.
    ///
    /// # Errors
    /// `Internal` if the system has no randomness.
    pub(super) fn seal(&self, text: &[u8]) -> Result<Vec<u8>, Error> {
        let length = HEADER_LENGTH + text.len();
        let padded = length.next_multiple_of(BLOCK);
        let mut plain = secret_buffer(padded);
        let header = u32::try_from(length).map_err(|_| Error::Internal("too long to seal"))?;
        plain.extend_from_slice(&header.to_le_bytes());
        plain.extend_from_slice(text);
        plain.resize(padded, 0);
        fill_random(&mut plain[length..])?;
        let hash = Sha1::digest(&*plain);
        let hash = &hash[..HASH_LENGTH];
        let (key, iv) = self.derive(hash);
        let mut mode = ige::Encryptor::<Aes256>::new((&*key).into(), (&*iv).into());
        for block in plain.chunks_exact_mut(BLOCK) {
            mode.encrypt_block(block.try_into().expect("a whole block"));
        }
        Ok([hash, &plain].concat())
    }
}

/// Why something did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotOpened {
    /// It was sealed under another key, or it is damaged.
    Key,
    /// It cannot be anything sealed.
    Shape,
}

pub(super) fn fill_random(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(|_| Error::Internal("no randomness"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_key_only() {
        let key = LocalKey::random().unwrap();
        for length in [0, 1, 11, 12, 13, 256, 1000] {
            let text: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let sealed = key.seal(&text).unwrap();
            assert_eq!(key.open(&sealed).as_deref(), Ok(&text));
            assert_eq!(LocalKey::random().unwrap().open(&sealed), Err(NotOpened::Key));
            assert_eq!(key.open(&sealed[..sealed.len() - 1]), Err(NotOpened::Shape));
        }
        assert_eq!(key.open(&[]), Err(NotOpened::Shape));
        assert_eq!(key.open(&[0; 16]), Err(NotOpened::Shape));
    }
}
