//! Proving knowledge of an account's password without sending it (SRP).
//! <https://core.telegram.org/api/srp>

use grammers_crypto::two_factor_auth::calculate_2fa;
use grammers_tl_types::{enums, types};
use num_bigint::BigUint;
use zeroize::Zeroizing;

use crate::{
    domain::secret::Secret,
    telegram::{error::Error, group::Group},
};

const PUBLIC_VALUE_LENGTH_MAX: usize = 256;

/// What `account.getPassword` says, as far as it is needed to answer.
pub(super) struct Challenge {
    srp_id: i64,
    server_value: Vec<u8>,
    salt1: Vec<u8>,
    salt2: Vec<u8>,
    generator: i32,
    prime: Vec<u8>,
}

impl Challenge {
    /// # Errors
    /// `Refused` when the account has no password or one checked in a way unknown here.
    pub(super) fn new(password: enums::account::Password) -> Result<Self, Error> {
        let enums::account::Password::Password(password) = password;
        let (Some(algorithm), Some(server_value), Some(srp_id)) =
            (password.current_algo, password.srp_b, password.srp_id)
        else {
            return Err(Error::refused("PASSWORD_MISSING"));
        };
        match algorithm {
            enums::PasswordKdfAlgo::Sha256Sha256Pbkdf2Hmacsha512iter100000Sha256ModPow(algorithm) => {
                Ok(Self {
                    srp_id,
                    server_value,
                    salt1: algorithm.salt1,
                    salt2: algorithm.salt2,
                    generator: algorithm.g,
                    prime: algorithm.p,
                })
            }
            enums::PasswordKdfAlgo::Unknown => Err(Error::refused("PASSWORD_ALGORITHM_UNKNOWN")),
        }
    }

    /// Computes the answer, on a thread of its own: a hundred thousand rounds of hashing.
    ///
    /// # Errors
    /// `Untrusted` when the server's numbers are such that the answer would betray the password.
    pub(super) async fn answer(self, password: Secret) -> Result<types::InputCheckPasswordSrp, Error> {
        const FAILED: Error = Error::Untrusted { what: "the password check cannot be computed" };
        tokio::task::spawn_blocking(move || self.compute(&password)).await.unwrap_or(Err(FAILED))
    }

    fn compute(self, password: &Secret) -> Result<types::InputCheckPasswordSrp, Error> {
        let group = Group::checked(&self.prime, self.generator)
            .ok_or(Error::Untrusted { what: "it chose an unsafe group" })?;
        let theirs = BigUint::from_bytes_be(&self.server_value);
        if self.server_value.len() > PUBLIC_VALUE_LENGTH_MAX || !group.admits(&theirs) {
            return Err(Error::Untrusted { what: "a public value is out of range" });
        }
        let mut secret = Zeroizing::new(vec![0; 256]);
        getrandom::fill(&mut secret).map_err(|error| Error::unavailable("drawing random bytes", error))?;
        let (proof, ours) = calculate_2fa(
            &self.salt1,
            &self.salt2,
            &self.prime,
            &self.generator,
            self.server_value,
            secret.to_vec(),
            password.expose_secret(),
        );
        Ok(types::InputCheckPasswordSrp { srp_id: self.srp_id, a: ours.to_vec(), m1: proof.to_vec() })
    }
}
