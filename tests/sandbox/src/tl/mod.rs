//! The TL wire format: a reader for what strangers send and a writer for what the server answers.
//!
//! Knows bytes and constructor numbers only, nothing of accounts or connections.

pub(crate) mod id;
mod read;
mod write;

pub(crate) use read::{Malformed, Reader};
pub(crate) use write::Writer;
