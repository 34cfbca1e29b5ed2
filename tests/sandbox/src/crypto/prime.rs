//! Prime numbers: 31-bit ones for the proof of work, 1024-bit ones for the RSA key.

use num_bigint::BigUint;

use super::random;

/// Candidates are first divided by all primes below this bound, which leaves about one in twenty.
const SIEVE_BOUND: usize = 20_000;
/// Rounds of Miller-Rabin with random bases; each lets a composite pass with at most 1 in 4, for random candidates far less.
const ROUNDS: usize = 12;

/// Two different primes between 2^30 and 2^31, so that their product always takes exactly 8 bytes.
pub(crate) fn small_pair() -> (u32, u32) {
    let p = small();
    loop {
        let q = small();
        if q != p {
            return (p.min(q), p.max(q));
        }
    }
}

fn small() -> u32 {
    loop {
        let n = u32::from_le_bytes(random()) >> 1 | 0x4000_0001;
        if is_small_prime(u64::from(n)) {
            return n;
        }
    }
}

/// Exact below 2^32: the bases 2, 7 and 61 leave no pseudoprime there.
fn is_small_prime(n: u64) -> bool {
    let twos = (n - 1).trailing_zeros();
    let odd = (n - 1) >> twos;
    [2, 7, 61].iter().all(|base| {
        let mut x = power(*base, odd, n);
        if x == 1 || x == n - 1 {
            return true;
        }
        for _ in 1..twos {
            x = x * x % n;
            if x == n - 1 {
                return true;
            }
        }
        false
    })
}

fn power(mut base: u64, mut exponent: u64, n: u64) -> u64 {
    let mut out = 1;
    while exponent > 0 {
        if exponent & 1 == 1 {
            out = out * base % n;
        }
        base = base * base % n;
        exponent >>= 1;
    }
    out
}

/// A random 1024-bit prime with both top bits set, so that a product of two has 2048 bits.
pub(crate) fn large() -> BigUint {
    let small_primes = sieve();
    loop {
        let mut bytes = random::<128>();
        bytes[0] |= 0xc0;
        bytes[127] |= 1;
        let candidate = BigUint::from_bytes_be(&bytes);
        let divisible = small_primes.iter().any(|p| (&candidate % *p) == BigUint::ZERO);
        if !divisible && is_large_prime(&candidate) {
            return candidate;
        }
    }
}

fn sieve() -> Vec<u32> {
    let mut composite = vec![false; SIEVE_BOUND];
    let mut primes = Vec::new();
    for n in 2..SIEVE_BOUND {
        if !composite[n] {
            primes.push(n as u32);
            (n * n..SIEVE_BOUND).step_by(n).for_each(|multiple| composite[multiple] = true);
        }
    }
    primes
}

fn is_large_prime(n: &BigUint) -> bool {
    let one = BigUint::from(1_u8);
    let last = n - &one;
    let twos = last.trailing_zeros().unwrap_or(0);
    let odd = &last >> twos;
    (0..ROUNDS).all(|round| {
        // Base 2 first: it unmasks nearly every composite.
        let base =
            if round == 0 { BigUint::from(2_u8) } else { BigUint::from_bytes_be(&random::<64>()) + 2_u8 };
        let mut x = base.modpow(&odd, n);
        if x == one || x == last {
            return true;
        }
        for _ in 1..twos {
            x = &x * &x % n;
            if x == last {
                return true;
            }
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_primes_are_told_from_composites() {
        assert!(is_small_prime(2_147_483_647));
        assert!(!is_small_prime(2_147_483_645));
        assert!(!is_small_prime(3_215_031_751), "a strong pseudoprime to 2, 3, 5 and 7");
    }

    #[test]
    fn product_of_a_pair_takes_eight_bytes_and_factors() {
        for _ in 0..20 {
            let (p, q) = small_pair();
            let product = u64::from(p) * u64::from(q);
            assert_ne!(product.to_be_bytes()[0], 0);
            assert!(p < q);
        }
    }
}
