//! Reading TL bytes that came from a stranger: a length is checked before memory is taken for it.

use super::id;

/// Bytes that do not have the announced shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A position in a received object.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    buf: &'a [u8],
    pos: usize,
}

/// Nesting of JSON values inside `initConnection.params`.
const JSON_DEPTH_MAX: usize = 16;

impl<'a> Reader<'a> {
    pub(crate) fn new(buf: &'a [u8]) -> Self {
        Self { buf, pos: 0 }
    }

    pub(crate) fn pos(&self) -> usize {
        self.pos
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.buf[self.pos..]
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let end = self.pos.checked_add(n).filter(|end| *end <= self.buf.len()).ok_or(Malformed)?;
        let part = &self.buf[self.pos..end];
        self.pos = end;
        Ok(part)
    }

    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.fixed()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_le_bytes(self.fixed()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_le_bytes(self.fixed()?))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let first = self.take(1)?[0];
        let (len, head) = if first < 254 {
            (usize::from(first), 1)
        } else {
            let long = self.take(3)?;
            (usize::from(long[0]) | usize::from(long[1]) << 8 | usize::from(long[2]) << 16, 4)
        };
        let value = self.take(len)?;
        self.take((4 - (head + len) % 4) % 4)?;
        Ok(value)
    }

    pub(crate) fn string(&mut self) -> Result<String, Malformed> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| Malformed)
    }

    /// A boxed vector of longs.
    pub(crate) fn longs(&mut self) -> Result<Vec<i64>, Malformed> {
        let count = self.count(8)?;
        (0..count).map(|_| self.i64()).collect()
    }

    /// A boxed vector of byte strings.
    pub(crate) fn byte_strings(&mut self) -> Result<Vec<Vec<u8>>, Malformed> {
        let count = self.count(4)?;
        (0..count).map(|_| self.bytes().map(<[u8]>::to_vec)).collect()
    }

    /// The head of a boxed vector whose items take at least `item_min` bytes each.
    pub(crate) fn count(&mut self, item_min: usize) -> Result<usize, Malformed> {
        if self.u32()? != id::VECTOR {
            return Err(Malformed);
        }
        let count = self.u32()? as usize;
        if count > self.rest().len() / item_min { Err(Malformed) } else { Ok(count) }
    }

    /// Steps over a `JSONValue`.
    pub(crate) fn skip_json(&mut self) -> Result<(), Malformed> {
        self.skip_json_at(0)
    }

    fn skip_json_at(&mut self, depth: usize) -> Result<(), Malformed> {
        if depth > JSON_DEPTH_MAX {
            return Err(Malformed);
        }
        match self.u32()? {
            id::JSON_NULL => {}
            id::JSON_BOOL => {
                self.u32()?;
            }
            id::JSON_NUMBER => {
                self.i64()?;
            }
            id::JSON_STRING => {
                self.bytes()?;
            }
            id::JSON_ARRAY => {
                for _ in 0..self.count(4)? {
                    self.skip_json_at(depth + 1)?;
                }
            }
            id::JSON_OBJECT => {
                for _ in 0..self.count(8)? {
                    if self.u32()? != id::JSON_OBJECT_VALUE {
                        return Err(Malformed);
                    }
                    self.bytes()?;
                    self.skip_json_at(depth + 1)?;
                }
            }
            _ => return Err(Malformed),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tl::Writer;

    #[test]
    fn short_and_long_strings_come_back() {
        for len in [0, 1, 3, 253, 254, 255, 70_000] {
            let value = vec![7_u8; len];
            let wire = Writer::new().bytes(&value).i32(5).finish();
            let mut r = Reader::new(&wire);
            assert_eq!(r.bytes(), Ok(value.as_slice()));
            assert_eq!(r.i32(), Ok(5));
            assert!(r.rest().is_empty());
        }
    }

    #[test]
    fn a_huge_announced_vector_is_refused_before_memory_is_taken() {
        let wire = Writer::new().id(id::VECTOR).u32(0x7fff_ffff).i64(1).finish();
        assert_eq!(Reader::new(&wire).longs(), Err(Malformed));
    }

    #[test]
    fn truncated_input_is_malformed() {
        assert_eq!(Reader::new(&[1, 2]).i32(), Err(Malformed));
        assert_eq!(Reader::new(&[9, 1, 1]).bytes(), Err(Malformed));
        assert_eq!(Reader::new(&[254, 0xff, 0xff, 0xff]).bytes(), Err(Malformed));
    }

    #[test]
    fn json_parameters_are_stepped_over() {
        let wire = Writer::new()
            .id(id::JSON_OBJECT)
            .id(id::VECTOR)
            .u32(1)
            .id(id::JSON_OBJECT_VALUE)
            .bytes(b"tz_offset")
            .id(id::JSON_NUMBER)
            .i64(3600)
            .i32(42)
            .finish();
        let mut r = Reader::new(&wire);
        assert_eq!(r.skip_json(), Ok(()));
        assert_eq!(r.i32(), Ok(42));
    }
}
