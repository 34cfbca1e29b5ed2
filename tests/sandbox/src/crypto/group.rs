//! The Diffie-Hellman group that Telegram documents and clients know by heart: a 2048-bit safe prime and generator 3.

use num_bigint::BigUint;

use super::random;

/// The generator; clients that check it find 3 to be a quadratic residue of the prime.
pub(crate) const GENERATOR: u32 = 3;

/// The prime as printed in the documentation of the key exchange.
pub(crate) const PRIME: [u8; 256] = hex_prime();

pub(crate) fn prime() -> BigUint {
    BigUint::from_bytes_be(&PRIME)
}

pub(crate) fn generator() -> BigUint {
    BigUint::from(GENERATOR)
}

pub(crate) fn exponent() -> BigUint {
    BigUint::from_bytes_be(&random::<256>())
}

/// Whether a peer's public value lies in the range that the protocol demands of both sides.
pub(crate) fn in_safe_range(value: &BigUint) -> bool {
    let low = BigUint::from(1_u8) << (2048 - 64);
    value > &low && value < &(prime() - &low)
}

const fn hex_prime() -> [u8; 256] {
    const TEXT: &[u8; 512] = b"\
c71caeb9c6b1c9048e6c522f70f13f73980d40238e3e21c14934d037563d930f\
48198a0aa7c14058229493d22530f4dbfa336f6e0ac925139543aed44cce7c37\
20fd51f69458705ac68cd4fe6b6b13abdc9746512969328454f18faf8c595f64\
2477fe96bb2a941d5bcd1d4ac8cc49880708fa9b378e3c4f3a9060bee67cf9a4\
a4a695811051907e162753b56b0f6b410dba74d8a84b2a14b3144e0ef1284754\
fd17ed950d5965b4b9dd46582db1178d169c6bc465b0d6ff9ca3928fef5b9ae4\
e418fc15e83ebea0f87fa9ff5eed70050ded2849f47bf959d956850ce929851f\
0d8115f635b105ee2e4e15d04b2454bf6f4fadf034b10403119cd8e3b92fcc5b";
    let mut out = [0; 256];
    let mut i = 0;
    while i < 256 {
        out[i] = digit(TEXT[2 * i]) << 4 | digit(TEXT[2 * i + 1]);
        i += 1;
    }
    out
}

const fn digit(c: u8) -> u8 {
    if c.is_ascii_digit() { c - b'0' } else { c - b'a' + 10 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_accept_prime_and_generator() {
        assert!(grammers_crypto::two_factor_auth::check_p_and_g(&PRIME, &(GENERATOR as i32)));
    }
}
