//! Splitting the product of two primes that a data centre sets as its first task.

/// The factors of real tasks are primes of about 31 bits, which take some ten thousand steps.
const STEPS_MAX: u32 = 1 << 20;

/// The two factors of `pq`, the smaller first; `None` if they are not found within a bounded number of steps,
/// as for a prime. The number comes from a peer that has proved nothing yet, so any value must be harmless.
pub(super) fn factor(pq: u64) -> Option<(u64, u64)> {
    if pq < 4 {
        return None;
    }
    if pq.is_multiple_of(2) {
        return Some((2, pq / 2));
    }
    // Pollard's rho; a start that runs into a cycle of the whole number is followed by another.
    (1..=8).find_map(|constant| {
        let step = |x: u64| add(mul(x, x, pq), constant, pq);
        let (mut slow, mut fast) = (2, 2);
        for _ in 0..STEPS_MAX / 8 {
            slow = step(slow);
            fast = step(step(fast));
            let divisor = gcd(slow.abs_diff(fast), pq);
            if divisor == pq {
                return None;
            }
            if divisor > 1 {
                let other = pq / divisor;
                return Some((divisor.min(other), divisor.max(other)));
            }
        }
        None
    })
}

fn mul(a: u64, b: u64, modulus: u64) -> u64 {
    narrow(u128::from(a) * u128::from(b) % u128::from(modulus))
}

fn add(a: u64, b: u64, modulus: u64) -> u64 {
    narrow((u128::from(a) + u128::from(b)) % u128::from(modulus))
}

fn narrow(residue: u128) -> u64 {
    u64::try_from(residue).expect("a residue is below its modulus of 64 bits")
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_two_primes_are_split() {
        // From Telegram's documentation of the exchange, and primes next to 2^31 and 2^32.
        assert_eq!(factor(0x17ED_4894_1A08_F981), Some((0x494C_553B, 0x5391_1073)));
        assert_eq!(factor(2_147_483_647 * 2_147_483_629), Some((2_147_483_629, 2_147_483_647)));
        assert_eq!(factor(4_294_967_291 * 4_294_967_279), Some((4_294_967_279, 4_294_967_291)));
        assert_eq!(factor(15), Some((3, 5)));
    }

    #[test]
    fn a_number_that_is_no_such_product_does_not_hang() {
        for number in [0, 1, 2, 3, u64::MAX - 58, 9_223_372_036_854_775_783] {
            assert_eq!(factor(number), None, "{number}");
        }
    }
}
