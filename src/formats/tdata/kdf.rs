//! From a passcode to the key that a folder's local key is sealed under. The costs of the newer ways are told by the
//! file, so each has a cap.

use argon2::{Algorithm, Argon2, Version};
use sha1::Sha1;
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

use super::seal::LocalKey;
use crate::formats::Error;

const ROUNDS: u32 = 100_000;
const OLD_ROUNDS: u32 = 4000;
const OLD_ROUNDS_WITHOUT_PASSCODE: u32 = 4;

const ARGON2_MEMORY_MAX_KIB: u32 = 256 * 1024;
const ARGON2_TIME_MAX: u32 = 64;
const ARGON2_LANES_MAX: u32 = 16;
const SCRYPT_MEMORY_MAX: u64 = 192 * 1024 * 1024;
/// With the memory it bounds the time.
const SCRYPT_LANES_MAX: u32 = 16;

/// The way since TDesktop 2: PBKDF2 with SHA-512. Without a passcode it only hides the key from a quick look.
pub(super) fn pbkdf2(passcode: &str, salt: &[u8]) -> LocalKey {
    let mut hash = Sha512::new();
    for part in [salt, passcode.as_bytes(), salt] {
        hash.update(part);
    }
    let password = Zeroizing::new(<[u8; 64]>::from(hash.finalize()));
    let rounds = if passcode.is_empty() { 1 } else { ROUNDS };
    let mut key = LocalKey::zeroed();
    pbkdf2::pbkdf2_hmac::<Sha512>(&*password, salt, rounds, key.bytes_mut());
    key
}

/// The way before: PBKDF2 with SHA-1.
pub(super) fn old_pbkdf2(passcode: &str, salt: &[u8]) -> LocalKey {
    let rounds = if passcode.is_empty() { OLD_ROUNDS_WITHOUT_PASSCODE } else { OLD_ROUNDS };
    let mut key = LocalKey::zeroed();
    pbkdf2::pbkdf2_hmac::<Sha1>(passcode.as_bytes(), salt, rounds, key.bytes_mut());
    key
}

/// How a passcode becomes a key since TDesktop 7.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Costly {
    Argon2id { memory_kib: u32, time: u32, lanes: u32 },
    Scrypt { n: u32, r: u32, p: u32 },
}

impl Costly {
    /// # Errors
    /// `PasscodeCost` above the caps, `TdataDamaged` for parameters that are none.
    pub(super) fn check(self) -> Result<Self, Error> {
        const NONE: Error = Error::TdataDamaged("costs of a passcode that cannot be");
        let above = match self {
            Self::Argon2id { memory_kib, time, lanes } => {
                if time == 0 || lanes == 0 || u64::from(memory_kib) < 8 * u64::from(lanes) {
                    return Err(NONE);
                }
                memory_kib > ARGON2_MEMORY_MAX_KIB || time > ARGON2_TIME_MAX || lanes > ARGON2_LANES_MAX
            }
            Self::Scrypt { n, r, p } => {
                if n < 2 || !n.is_power_of_two() || r == 0 || p == 0 {
                    return Err(NONE);
                }
                let blocks = u64::from(n) + u64::from(p) + 2;
                let memory = u64::from(r).saturating_mul(128).saturating_mul(blocks);
                memory > SCRYPT_MEMORY_MAX || p > SCRYPT_LANES_MAX
            }
        };
        if above { Err(Error::PasscodeCost) } else { Ok(self) }
    }

    /// # Errors
    /// As [`Self::check`].
    pub(super) fn derive(self, passcode: &str, salt: &[u8]) -> Result<LocalKey, Error> {
        const REFUSED: Error = Error::TdataDamaged("costs of a passcode that its function refuses");
        let mut key = LocalKey::zeroed();
        match self.check()? {
            Self::Argon2id { memory_kib, time, lanes } => {
                let params = argon2::Params::new(memory_kib, time, lanes, Some(key.bytes().len()))
                    .map_err(|_| REFUSED)?;
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                    .hash_password_into(passcode.as_bytes(), salt, key.bytes_mut())
                    .map_err(|_| REFUSED)?;
            }
            Self::Scrypt { n, r, p } => {
                let log_n = u8::try_from(n.trailing_zeros()).map_err(|_| REFUSED)?;
                let params = scrypt::Params::new(log_n, r, p).map_err(|_| REFUSED)?;
                scrypt::scrypt(passcode.as_bytes(), salt, &params, key.bytes_mut()).map_err(|_| REFUSED)?;
            }
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_capped() {
        let argon2 = |memory_kib, time, lanes| Costly::Argon2id { memory_kib, time, lanes }.check();
        let scrypt = |n, r, p| Costly::Scrypt { n, r, p }.check();
        for fine in [argon2(65_536, 8, 1), argon2(262_144, 64, 16), scrypt(1 << 17, 8, 1), scrypt(2, 1, 1)] {
            assert!(fine.is_ok());
        }
        let above = [
            argon2(262_145, 8, 1),
            argon2(65_536, 65, 1),
            argon2(65_536, 8, 17),
            scrypt(1 << 18, 8, 1),
            scrypt(1 << 31, u32::MAX, u32::MAX),
            scrypt(1 << 10, 8, 17),
        ];
        for above in above {
            assert_eq!(above, Err(Error::PasscodeCost));
        }
        for none in [argon2(0, 8, 1), argon2(64, 0, 1), argon2(64, 1, 0), scrypt(3, 8, 1), scrypt(0, 8, 1)] {
            assert_eq!(none.unwrap_err().code(), "tdata_damaged");
        }
    }
}
