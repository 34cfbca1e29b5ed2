//! Writing TL objects by hand, where the bytes depend on the client's layer.

use super::id;

/// An object being written.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn boxed(constructor: u32) -> Self {
        Self::new().id(constructor)
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn id(self, constructor: u32) -> Self {
        self.u32(constructor)
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn i32(self, value: i32) -> Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn i64(self, value: i64) -> Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A byte string; longer than 16 MiB cannot be expressed and never occurs here.
    pub(crate) fn bytes(mut self, value: &[u8]) -> Self {
        let len = value.len();
        let head = if len < 254 {
            self.0.push(len as u8);
            1
        } else {
            self.0.extend_from_slice(&[254, len as u8, (len >> 8) as u8, (len >> 16) as u8]);
            4
        };
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(&[0; 3][..(4 - (head + len) % 4) % 4]);
        self
    }

    pub(crate) fn str(self, value: &str) -> Self {
        self.bytes(value.as_bytes())
    }

    /// A string that is there only when some flag says so.
    pub(crate) fn opt_str(self, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.str(value),
            None => self,
        }
    }

    /// A boxed vector of objects that are already written.
    pub(crate) fn vector(self, items: &[Vec<u8>]) -> Self {
        let head = self.id(id::VECTOR).u32(items.len() as u32);
        items.iter().fold(head, |w, item| w.raw(item))
    }

    pub(crate) fn longs(self, items: &[i64]) -> Self {
        let head = self.id(id::VECTOR).u32(items.len() as u32);
        items.iter().fold(head, |w, item| w.i64(*item))
    }
}
