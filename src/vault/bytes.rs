//! Reading and writing the vault's own binary forms: big-endian, lengths before contents.

use zeroize::Zeroizing;

use super::Error;

/// The longest text or byte string inside a sealed form, in bytes.
const PART_LENGTH_MAX: usize = 1 << 16;

/// Writes into one buffer that never moves, so that no copy of a secret stays behind.
pub(super) struct Writer {
    buffer: Zeroizing<Vec<u8>>,
}

impl Writer {
    pub(super) fn with_room(room: usize) -> Self {
        Self { buffer: Zeroizing::new(Vec::with_capacity(room)) }
    }

    /// # Errors
    /// [`Error::TooLarge`] when the room that was asked for is used up.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.buffer.capacity() - self.buffer.len() < bytes.len() {
            return Err(Error::TooLarge);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn u8(&mut self, value: u8) -> Result<(), Error> {
        self.raw(&[value])
    }

    pub(super) fn i32(&mut self, value: i32) -> Result<(), Error> {
        self.raw(&value.to_be_bytes())
    }

    pub(super) fn i64(&mut self, value: i64) -> Result<(), Error> {
        self.raw(&value.to_be_bytes())
    }

    pub(super) fn text(&mut self, text: &str) -> Result<(), Error> {
        if text.len() > PART_LENGTH_MAX {
            return Err(Error::TooLarge);
        }
        let length = u32::try_from(text.len()).map_err(|_| Error::TooLarge)?;
        self.raw(&length.to_be_bytes())?;
        self.raw(text.as_bytes())
    }

    pub(super) fn finish(self) -> Zeroizing<Vec<u8>> {
        self.buffer
    }
}

/// Reads what a [`Writer`] wrote; anything else is refused.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn raw(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(Error::UnknownForm)?;
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.raw(N)?.try_into().map_err(|_| Error::UnknownForm)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Error> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn i32(&mut self) -> Result<i32, Error> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(super) fn i64(&mut self) -> Result<i64, Error> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Error> {
        let length = u32::from_be_bytes(self.array()?) as usize;
        std::str::from_utf8(self.raw(length)?).map_err(|_| Error::UnknownForm)
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn finish(self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(Error::UnknownForm) }
    }
}
