//! Values of Qt's `QDataStream`: big-endian numbers, and byte arrays with their length before them.

use zeroize::Zeroizing;

/// The length that stands for "no array".
const NULL: u32 = u32::MAX;

/// The bytes end before the value does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut;

/// Reads values one after the other; never allocates.
#[derive(Clone, Copy)]
pub(super) struct Stream<'a>(&'a [u8]);

impl<'a> Stream<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_at_end(self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Cut> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(Cut)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Cut> {
        Ok(self.bytes(N)?.try_into().expect("as many bytes as were asked for"))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Cut> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Cut> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Cut> {
        self.array().map(u64::from_be_bytes)
    }

    /// A `QByteArray` or the letters of a `QString`; one that is missing is empty.
    pub(super) fn blob(&mut self) -> Result<&'a [u8], Cut> {
        match self.u32()? {
            NULL => Ok(&[]),
            length => self.bytes(usize::try_from(length).map_err(|_| Cut)?),
        }
    }
}

/// Appends an array with its length.
pub(super) fn put_blob(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("what is written is short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends an array that is not there.
pub(super) fn put_null(out: &mut Vec<u8>) {
    out.extend_from_slice(&NULL.to_be_bytes());
}

/// Room for key material at once: growing would leave copies behind.
pub(super) fn secret_buffer(capacity: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(capacity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_end_is_cut_and_none_is_empty() {
        let mut stream = Stream::of(&[0, 0, 0, 2, 7, 8, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 9, 1]);
        assert_eq!(stream.blob(), Ok(&[7_u8, 8][..]));
        assert_eq!(stream.blob(), Ok(&[][..]));
        assert_eq!(stream.blob(), Err(Cut));
    }
}
