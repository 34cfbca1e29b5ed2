//! Byte strings as Telegram's type language has them, which mtcute and MTKruto put into their session strings.

/// Up to this length one byte tells it.
const SHORT_MAX: usize = 253;
const LONG_MARK: u8 = 254;

/// Takes a byte string and its padding from the front; `None` if it is cut.
pub(super) fn take_bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (header, length) = match *from {
        [LONG_MARK, a, b, c, ..] => (4, usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16),
        [length, ..] if usize::from(*length) <= SHORT_MAX => (1, usize::from(*length)),
        _ => return None,
    };
    let (whole, rest) = from.split_at_checked((header + length).next_multiple_of(4))?;
    *from = rest;
    whole.get(header..header + length)
}

/// Takes so many bytes from the front; `None` if there are fewer.
pub(super) fn take<'a, const N: usize>(from: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (whole, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(whole)
}

/// Appends a byte string with its padding. It must be shorter than 16 MiB.
pub(super) fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    let start = to.len();
    if bytes.len() <= SHORT_MAX {
        to.push(bytes.len().to_le_bytes()[0]);
    } else {
        to.push(LONG_MARK);
        to.extend_from_slice(&bytes.len().to_le_bytes()[..3]);
    }
    to.extend_from_slice(bytes);
    // Padding counts from the value's own start, wherever that is.
    let end = start + (to.len() - start).next_multiple_of(4);
    to.resize(end, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_strings_come_back_and_cut_ones_do_not() {
        for length in [0, 1, 2, 3, 4, 253, 254, 256, 70_000] {
            let bytes = vec![7; length];
            let mut whole = vec![1];
            put_bytes(&mut whole, &bytes);
            assert_eq!((whole.len() - 1) % 4, 0);
            let mut from = &whole[1..];
            assert_eq!(take_bytes(&mut from), Some(&*bytes));
            assert!(from.is_empty());
            assert_eq!(take_bytes(&mut &whole[1..whole.len() - 1]), None);
        }
        assert_eq!(take_bytes(&mut &[255, 0, 0, 0][..]), None);
    }
}
