//! The server's RSA key: clients encrypt the first message of a key exchange to it.

use num_bigint::BigUint;
use rsa::RsaPrivateKey;
use rsa::pkcs1::{DecodeRsaPrivateKey, EncodeRsaPublicKey, LineEnding};
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use rsa::traits::{PrivateKeyParts, PublicKeyParts};

use super::{pad_256, prime, sha1};
use crate::tl::Writer;

/// The exponent that all of Telegram's keys use.
const EXPONENT: u32 = 65_537;
/// Length of the modulus; the padding schemes of the protocol are written for it alone.
const BITS: u64 = 2048;

/// Why a PEM cannot serve as the server's key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Neither PKCS#1 nor PKCS#8.
    #[error("not an RSA private key in PEM form (PKCS#1 or PKCS#8, not encrypted)")]
    NotPem,
    /// A key of another length.
    #[error("the RSA key has {0} bits, 2048 are needed")]
    Bits(u64),
}

/// An RSA private key of 2048 bits.
pub(crate) struct RsaKey {
    n: BigUint,
    e: BigUint,
    /// The two primes and the exponents modulo each of them, for a decryption four times as fast as by `d` alone.
    p: BigUint,
    q: BigUint,
    d_p: BigUint,
    d_q: BigUint,
    q_inverse: BigUint,
    public_pem: String,
    private_pem: String,
    fingerprint: i64,
}

impl std::fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RsaKey({:016x})", self.fingerprint)
    }
}

impl RsaKey {
    /// Makes a new key. CPU work of some hundred milliseconds.
    pub(crate) fn generate() -> Self {
        let (one, e) = (BigUint::from(1_u8), BigUint::from(EXPONENT));
        loop {
            let (p, q) = (prime::large(), prime::large());
            let phi = (&p - &one) * (&q - &one);
            let Some(d) = e.modinv(&phi) else { continue };
            let big = |n: &BigUint| rsa::BigUint::from_bytes_be(&n.to_bytes_be());
            let n = &p * &q;
            let made = RsaPrivateKey::from_components(big(&n), big(&e), big(&d), vec![big(&p), big(&q)]);
            let made = made.map_err(|_| KeyError::NotPem).and_then(|key| Self::from_parts(&key));
            // mtcute compares fingerprints as hex digits and loses a leading zero.
            if let Some(key) = made.ok().filter(|key| key.fingerprint as u64 >> 60 != 0) {
                return key;
            }
        }
    }

    pub(crate) fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let key = RsaPrivateKey::from_pkcs8_pem(pem)
            .or_else(|_| RsaPrivateKey::from_pkcs1_pem(pem))
            .map_err(|_| KeyError::NotPem)?;
        Self::from_parts(&key)
    }

    fn from_parts(key: &RsaPrivateKey) -> Result<Self, KeyError> {
        let own = |n: &rsa::BigUint| BigUint::from_bytes_be(&n.to_bytes_be());
        let (n, e, d) = (own(key.n()), own(key.e()), own(key.d()));
        if n.bits() != BITS {
            return Err(KeyError::Bits(n.bits()));
        }
        let [p, q] = key.primes() else { return Err(KeyError::NotPem) };
        let (p, q) = (own(p), own(q));
        let one = BigUint::from(1_u8);
        let q_inverse = q.modinv(&p).ok_or(KeyError::NotPem)?;
        let hashed = Writer::new().bytes(&n.to_bytes_be()).bytes(&e.to_bytes_be()).finish();
        let mut fingerprint = [0; 8];
        fingerprint.copy_from_slice(&sha1(&[&hashed])[12..]);
        Ok(Self {
            d_p: &d % (&p - &one),
            d_q: &d % (&q - &one),
            q_inverse,
            public_pem: key.to_public_key().to_pkcs1_pem(LineEnding::LF).map_err(|_| KeyError::NotPem)?,
            private_pem: key.to_pkcs8_pem(LineEnding::LF).map_err(|_| KeyError::NotPem)?.to_string(),
            fingerprint: i64::from_le_bytes(fingerprint),
            n,
            e,
            p,
            q,
        })
    }

    /// Raw RSA, without any padding scheme.
    pub(crate) fn decrypt(&self, encrypted: &[u8]) -> Option<[u8; 256]> {
        let c = BigUint::from_bytes_be(encrypted);
        if encrypted.len() > 256 || c >= self.n {
            return None;
        }
        let m_p = c.modpow(&self.d_p, &self.p);
        let m_q = c.modpow(&self.d_q, &self.q);
        let h = &self.q_inverse * (&m_p + &self.p - &m_q % &self.p) % &self.p;
        Some(pad_256(&(m_q + h * &self.q).to_bytes_be()))
    }

    pub(crate) fn fingerprint(&self) -> i64 {
        self.fingerprint
    }

    /// PKCS#1, the form in which clients carry Telegram's keys.
    pub(crate) fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// PKCS#8, for the file that keeps the sandbox over a restart.
    pub(crate) fn private_pem(&self) -> &str {
        &self.private_pem
    }

    pub(crate) fn modulus(&self) -> String {
        self.n.to_string()
    }

    pub(crate) fn exponent(&self) -> String {
        self.e.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_decrypts_and_survives_its_pem() {
        let key = RsaKey::generate();
        let again = RsaKey::from_pem(key.private_pem()).expect("own PEM");
        assert_eq!(key.fingerprint(), again.fingerprint());
        let message = BigUint::from(123_456_789_u64);
        let encrypted = message.modpow(&key.e, &key.n).to_bytes_be();
        assert_eq!(key.decrypt(&encrypted), Some(pad_256(&message.to_bytes_be())));
        assert_eq!(key.decrypt(&key.n.to_bytes_be()), None);
        assert!(key.public_pem().starts_with("-----BEGIN RSA PUBLIC KEY-----"));
    }

    #[test]
    fn text_that_is_no_key_is_refused() {
        assert!(matches!(RsaKey::from_pem("hello"), Err(KeyError::NotPem)));
    }
}
