//! The two-step password: SRP as Telegram defines it, the verifying side.

use num_bigint::BigUint;
use serde::{Deserialize, Serialize};
use sha2::Sha512;

use super::group::{self, PRIME};
use super::{pad_256, random, random_i64, sha256};

/// Rounds of PBKDF2-HMAC-SHA512 that the algorithm's name promises.
const ROUNDS: u32 = 100_000;

/// What the server keeps of a password.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Verifier {
    #[serde(with = "hex_bytes")]
    pub(crate) salt1: Vec<u8>,
    #[serde(with = "hex_bytes")]
    pub(crate) salt2: Vec<u8>,
    #[serde(with = "hex_bytes")]
    v: Vec<u8>,
}

mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(d)?).map_err(|_| D::Error::custom("not hex digits"))
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier(..)")
    }
}

impl Verifier {
    /// CPU work of about a tenth of a second: for a blocking thread.
    pub(crate) fn new(password: &str) -> Self {
        let (salt1, salt2) = (random::<40>(), random::<16>());
        let x = private_key(password.as_bytes(), &salt1, &salt2);
        let v = group::generator().modpow(&x, &group::prime());
        Self { salt1: salt1.to_vec(), salt2: salt2.to_vec(), v: v.to_bytes_be() }
    }
}

fn private_key(password: &[u8], salt1: &[u8], salt2: &[u8]) -> BigUint {
    let inner = sha256(&[salt1, password, salt1]);
    let first = sha256(&[salt2, &inner, salt2]);
    let mut slow = [0; 64];
    pbkdf2::pbkdf2_hmac::<Sha512>(&first, salt1, ROUNDS, &mut slow);
    BigUint::from_bytes_be(&sha256(&[salt2, &slow, salt2]))
}

/// One question to a client: valid for answers to exactly this `srp_id`.
#[derive(Clone)]
pub(crate) struct Challenge {
    pub(crate) srp_id: i64,
    pub(crate) b_public: [u8; 256],
    b: BigUint,
    verifier: Verifier,
}

impl std::fmt::Debug for Challenge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Challenge({})", self.srp_id)
    }
}

impl Challenge {
    /// CPU work of some milliseconds: for a blocking thread.
    pub(crate) fn new(verifier: &Verifier) -> Self {
        let p = group::prime();
        let k = BigUint::from_bytes_be(&sha256(&[&PRIME, &generator_256()]));
        let v = BigUint::from_bytes_be(&verifier.v);
        loop {
            let b = group::exponent();
            let public = (&k * &v + group::generator().modpow(&b, &p)) % &p;
            // Clients demand that the value is neither small nor close to the prime.
            if group::in_safe_range(&public) {
                let b_public = pad_256(&public.to_bytes_be());
                return Self { srp_id: random_i64(), b_public, b, verifier: verifier.clone() };
            }
        }
    }

    /// Whether a client's answer proves the password. CPU work, as `new`.
    pub(crate) fn proves(&self, a_public: &[u8], m1: &[u8]) -> bool {
        let p = group::prime();
        let a = BigUint::from_bytes_be(a_public);
        if a_public.len() > 256 || &a % &p == BigUint::ZERO || a >= p {
            return false;
        }
        let a_public = pad_256(a_public);
        let u = BigUint::from_bytes_be(&sha256(&[&a_public, &self.b_public]));
        let v = BigUint::from_bytes_be(&self.verifier.v);
        let shared = (a * v.modpow(&u, &p) % &p).modpow(&self.b, &p);
        let session_key = sha256(&[&pad_256(&shared.to_bytes_be())]);
        let (h_p, h_g) = (sha256(&[&PRIME]), sha256(&[&generator_256()]));
        let mixed: Vec<u8> = h_p.iter().zip(h_g).map(|(a, b)| a ^ b).collect();
        let salts = (sha256(&[&self.verifier.salt1]), sha256(&[&self.verifier.salt2]));
        sha256(&[&mixed, &salts.0, &salts.1, &a_public, &self.b_public, &session_key])[..] == *m1
    }
}

fn generator_256() -> [u8; 256] {
    pad_256(&group::GENERATOR.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_library_proves_the_right_password_and_no_other() {
        let verifier = Verifier::new("correct horse");
        let challenge = Challenge::new(&verifier);
        let answer = |password: &str| {
            grammers_crypto::two_factor_auth::calculate_2fa(
                &verifier.salt1,
                &verifier.salt2,
                &PRIME,
                &(group::GENERATOR as i32),
                challenge.b_public.to_vec(),
                random::<256>().to_vec(),
                password,
            )
        };
        let (m1, a) = answer("correct horse");
        assert!(challenge.proves(&a, &m1));
        let (m1, a) = answer("wrong");
        assert!(!challenge.proves(&a, &m1));
        assert!(!challenge.proves(&PRIME, &m1), "zero modulo p would prove anything");
        assert!(!challenge.proves(&[], &[]));
    }
}
