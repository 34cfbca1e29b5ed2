//! A login put into bytes, so that another process can go on with it.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::domain::{
    error::{Error, Reason},
    material::{AUTH_KEY_LENGTH, AuthKey},
};

const VERSION: u8 = 1;
const KEYS_MAX: usize = 5;

/// The keys a login made, bound to nobody yet, and where it stands. Whoever holds it can become the account
/// that scans the code, so it is sealed wherever it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The data centre to go on with.
    pub(super) dc: i32,
    pub(super) keys: BTreeMap<i32, AuthKey>,
}

impl Checkpoint {
    /// Version, data centre, and each key after the number of its data centre.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 + self.keys.len() * (1 + AUTH_KEY_LENGTH)));
        bytes.push(VERSION);
        bytes.push(byte_of(self.dc));
        for (dc, key) in &self.keys {
            bytes.push(byte_of(*dc));
            bytes.extend_from_slice(key.expose_secret());
        }
        bytes
    }

    /// # Errors
    /// `MATERIAL_INVALID` for bytes that [`Self::to_bytes`] did not make.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let invalid = || Error::new(Reason::MaterialInvalid, "the stored login is damaged");
        let [VERSION, dc, rest @ ..] = bytes else { return Err(invalid()) };
        let (records, []) = rest.as_chunks::<{ 1 + AUTH_KEY_LENGTH }>() else { return Err(invalid()) };
        if records.len() > KEYS_MAX {
            return Err(invalid());
        }
        let mut keys = BTreeMap::new();
        for [dc, key @ ..] in records {
            if !(1..=5).contains(dc) || keys.insert(i32::from(*dc), AuthKey::from_slice(key)?).is_some() {
                return Err(invalid());
            }
        }
        if !keys.contains_key(&i32::from(*dc)) {
            return Err(invalid());
        }
        Ok(Self { dc: i32::from(*dc), keys })
    }
}

fn byte_of(dc: i32) -> u8 {
    u8::try_from(dc).expect("data centres of an endpoint are numbered 1-5")
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint").field("dc", &self.dc).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        let key = |byte: u8| AuthKey::from_slice(&[byte; AUTH_KEY_LENGTH]).unwrap();
        Checkpoint { dc: 4, keys: [(2, key(7)), (4, key(9))].into() }
    }

    #[test]
    fn a_checkpoint_survives_its_bytes() {
        let checkpoint = checkpoint();
        assert_eq!(Checkpoint::from_bytes(&checkpoint.to_bytes()).unwrap(), checkpoint);
        assert!(!format!("{checkpoint:?}").contains('9'));
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let bytes = checkpoint().to_bytes();
        for length in 0..bytes.len() {
            // Cut after the first key it names a data centre without one.
            assert!(Checkpoint::from_bytes(&bytes[..length]).is_err());
        }
        for (at, byte) in [(0, 2), (1, 3), (2, 6), (2, 4)] {
            let mut changed = bytes.clone();
            changed[at] = byte;
            assert!(Checkpoint::from_bytes(&changed).is_err());
        }
    }
}
