//! The transports of MTProto over TCP: how packets are cut out of the stream and put into it.
//!
//! A transport is recognised by the first bytes of a connection. Knows bytes only, no keys and no sessions.

mod detect;
mod frame;

pub(crate) use detect::{Detected, detect};
pub(crate) use frame::{Decoder, Encoder, Outbound};

/// The largest packet that is read or written, as at Telegram.
pub(crate) const PACKET_BYTES_MAX: usize = 1 << 20;

/// How packets are delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Full,
    Abridged,
    Intermediate,
    Padded,
}

/// A transport as a connection uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transport {
    pub(crate) framing: Framing,
    pub(crate) obfuscated: bool,
}

impl Transport {
    pub(crate) fn name(self) -> &'static str {
        match (self.framing, self.obfuscated) {
            (Framing::Full, _) => "full",
            (Framing::Abridged, false) => "abridged",
            (Framing::Intermediate, false) => "intermediate",
            (Framing::Padded, false) => "padded",
            (Framing::Abridged, true) => "obfuscated abridged",
            (Framing::Intermediate, true) => "obfuscated intermediate",
            (Framing::Padded, true) => "obfuscated padded",
        }
    }
}

/// A stream that follows no transport: the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("no known transport")]
    UnknownTransport,
    #[error("packet length {0} out of range")]
    Length(u32),
    #[error("checksum or counter of a full packet is wrong")]
    Checksum,
}
