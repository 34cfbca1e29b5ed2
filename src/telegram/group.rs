//! Whether a Diffie-Hellman group that the server names is safe to compute in.
//!
//! Key exchange and password check both compute in a group of the server's choice; a bad one would let it, or
//! whoever plays it, learn the secret. <https://core.telegram.org/mtproto/auth_key>

use grammers_crypto::two_factor_auth::check_p_and_g;
use num_bigint::BigUint;

const PRIME_LENGTH: usize = 256;

/// The prime that Telegram documents, known to be safe; proving that takes a while for any other.
const KNOWN_PRIME: &str = "c71caeb9c6b1c9048e6c522f70f13f73980d40238e3e21c14934d037563d930f48198a0aa7c14058229493d22530f4db\
    fa336f6e0ac925139543aed44cce7c3720fd51f69458705ac68cd4fe6b6b13abdc9746512969328454f18faf8c595f64\
    2477fe96bb2a941d5bcd1d4ac8cc49880708fa9b378e3c4f3a9060bee67cf9a4a4a695811051907e162753b56b0f6b41\
    0dba74d8a84b2a14b3144e0ef1284754fd17ed950d5965b4b9dd46582db1178d169c6bc465b0d6ff9ca3928fef5b9ae4\
    e418fc15e83ebea0f87fa9ff5eed70050ded2849f47bf959d956850ce929851f0d8115f635b105ee2e4e15d04b2454bf\
    6f4fadf034b10403119cd8e3b92fcc5b";

/// A group of numbers modulo a safe prime of 2048 bits whose subgroup `g` generates is of prime order.
pub(super) struct Group {
    pub(super) prime: BigUint,
    pub(super) generator: BigUint,
}

impl Group {
    /// `None` for a group that must not be used. Slow for a prime other than Telegram's: call it where
    /// blocking is allowed.
    pub(super) fn checked(prime: &[u8], generator: i32) -> Option<Self> {
        if prime.len() != PRIME_LENGTH || prime[0] < 0x80 || !(2..=7).contains(&generator) {
            return None;
        }
        let number = BigUint::from_bytes_be(prime);
        let safe = if hex::encode(prime) == KNOWN_PRIME {
            generates_prime_order(&number, generator)
        } else {
            check_p_and_g(prime, &generator)
        };
        let generator = BigUint::from(generator.unsigned_abs());
        safe.then_some(Self { prime: number, generator })
    }

    /// Whether a public value is far enough from both ends of the group, where it would betray its secret.
    pub(super) fn admits(&self, value: &BigUint) -> bool {
        let margin = BigUint::from(1u8) << (2048 - 64);
        *value > margin && *value < &self.prime - &margin
    }
}

/// Whether `generator` is a quadratic residue modulo the safe prime, by the rules Telegram lists.
fn generates_prime_order(prime: &BigUint, generator: i32) -> bool {
    let modulo = |n: u32| u32::try_from(prime % n).unwrap_or(n);
    match generator {
        2 => modulo(8) == 7,
        3 => modulo(3) == 2,
        4 => true,
        5 => matches!(modulo(5), 1 | 4),
        6 => matches!(modulo(24), 19 | 23),
        7 => matches!(modulo(7), 3 | 5 | 6),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_prime_is_a_safe_one_and_its_generators_are_judged_as_by_the_full_check() {
        let prime = hex::decode(KNOWN_PRIME).unwrap();
        for generator in 2..=7 {
            let full = check_p_and_g(&prime, &generator);
            assert_eq!(Group::checked(&prime, generator).is_some(), full, "{generator}");
        }
        assert!(Group::checked(&prime, 3).is_some());
    }

    #[test]
    fn unsafe_groups_are_refused() {
        let prime = hex::decode(KNOWN_PRIME).unwrap();
        let mut composite = prime.clone();
        composite[255] ^= 4;
        assert!(Group::checked(&composite, 4).is_none());
        assert!(Group::checked(&prime[1..], 3).is_none());
        assert!(Group::checked(&[], 3).is_none());
        for generator in [i32::MIN, -3, 0, 1, 8] {
            assert!(Group::checked(&prime, generator).is_none());
        }
    }

    #[test]
    fn values_near_the_ends_are_refused() {
        let group = Group::checked(&hex::decode(KNOWN_PRIME).unwrap(), 3).unwrap();
        let one = BigUint::from(1u8);
        for value in
            [BigUint::ZERO, one.clone(), &group.prime - &one, group.prime.clone(), &group.prime + &one]
        {
            assert!(!group.admits(&value));
        }
        assert!(group.admits(&(&group.prime / 2u8)));
    }
}
