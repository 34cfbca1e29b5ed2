//! Cutting packets out of a stream and putting them into it.

use bytes::{Buf, BytesMut};
use flate2::Crc;
use grammers_crypto::ObfuscatedCipher;

use super::{FrameError, Framing, PACKET_BYTES_MAX};
use crate::crypto::random;

/// Marks in the length fields with which a client asks for a quick acknowledgement; none is sent.
const QUICK_ACK_BYTE: u8 = 0x80;
const QUICK_ACK_WORD: u32 = 0x8000_0000;

/// What goes out on a connection.
#[derive(Debug, Clone)]
pub(crate) enum Outbound {
    /// A packet.
    Packet(Vec<u8>),
    /// A transport error such as -404; the connection ends after it.
    Code(i32),
}

/// The receiving half.
pub(crate) struct Decoder {
    framing: Framing,
    cipher: Option<ObfuscatedCipher>,
    clear: BytesMut,
    counter: u32,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Decoder({:?})", self.framing)
    }
}

impl Decoder {
    pub(crate) fn new(framing: Framing, cipher: Option<ObfuscatedCipher>, clear: BytesMut) -> Self {
        Self { framing, cipher, clear, counter: 0 }
    }

    /// Takes over received bytes.
    pub(crate) fn feed(&mut self, received: &mut BytesMut) {
        let mut part = received.split();
        if let Some(cipher) = &mut self.cipher {
            cipher.encrypt(&mut part);
        }
        self.clear.unsplit(part);
    }

    /// The next whole packet, if one is there.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        match self.framing {
            Framing::Full => self.next_full(),
            Framing::Abridged => self.next_abridged(),
            Framing::Intermediate | Framing::Padded => self.next_intermediate(),
        }
    }

    fn word(&self, at: usize) -> Option<u32> {
        self.clear.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn cut(&mut self, head: usize, len: usize) -> Option<Vec<u8>> {
        if self.clear.len() < head + len {
            return None;
        }
        self.clear.advance(head);
        Some(self.clear.split_to(len).to_vec())
    }

    fn next_full(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some(total) = self.word(0) else { return Ok(None) };
        let total_len = checked(total, 12)?;
        let Some(packet) = self.cut(0, total_len) else { return Ok(None) };
        let (body, crc) = packet.split_at(total_len - 4);
        if crc != crc32(body).to_le_bytes() || body[4..8] != self.counter.to_le_bytes() {
            return Err(FrameError::Checksum);
        }
        self.counter = self.counter.wrapping_add(1);
        Ok(Some(body[8..].to_vec()))
    }

    fn next_abridged(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some(first) = self.clear.first().map(|b| b & !QUICK_ACK_BYTE) else { return Ok(None) };
        let (head, words) = if first < 0x7f {
            (1, u32::from(first))
        } else {
            let Some(word) = self.word(0) else { return Ok(None) };
            (4, word >> 8)
        };
        let len = checked(words.saturating_mul(4), 4)?;
        Ok(self.cut(head, len))
    }

    fn next_intermediate(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some(word) = self.word(0) else { return Ok(None) };
        let len = checked(word & !QUICK_ACK_WORD, 4)?;
        Ok(self.cut(4, len))
    }
}

fn checked(len: u32, min: u32) -> Result<usize, FrameError> {
    if (min..=PACKET_BYTES_MAX as u32).contains(&len) {
        Ok(len as usize)
    } else {
        Err(FrameError::Length(len))
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// The sending half.
pub(crate) struct Encoder {
    framing: Framing,
    cipher: Option<ObfuscatedCipher>,
    counter: u32,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encoder({:?})", self.framing)
    }
}

impl Encoder {
    pub(crate) fn new(framing: Framing, cipher: Option<ObfuscatedCipher>) -> Self {
        Self { framing, cipher, counter: 0 }
    }

    pub(crate) fn encode(&mut self, out: &Outbound) -> Vec<u8> {
        let mut wire = match out {
            Outbound::Packet(packet) => self.frame(packet),
            // A full client reads a negative length as an error, so the code comes without a frame.
            Outbound::Code(code) if self.framing == Framing::Full => code.to_le_bytes().to_vec(),
            Outbound::Code(code) => self.frame_bare(&code.to_le_bytes()),
        };
        if let Some(cipher) = &mut self.cipher {
            cipher.decrypt(&mut wire);
        }
        wire
    }

    fn frame(&mut self, packet: &[u8]) -> Vec<u8> {
        match self.framing {
            Framing::Full => {
                let mut wire = (packet.len() as u32 + 12).to_le_bytes().to_vec();
                wire.extend_from_slice(&self.counter.to_le_bytes());
                wire.extend_from_slice(packet);
                let crc = crc32(&wire);
                wire.extend_from_slice(&crc.to_le_bytes());
                self.counter = self.counter.wrapping_add(1);
                wire
            }
            Framing::Padded => {
                // Clients in use strip at most three bytes: they take the length modulo four.
                let [count, padding @ ..] = random::<4>();
                let mut padded = packet.to_vec();
                padded.extend_from_slice(&padding[..usize::from(count % 4)]);
                self.frame_bare(&padded)
            }
            Framing::Abridged | Framing::Intermediate => self.frame_bare(packet),
        }
    }

    fn frame_bare(&self, packet: &[u8]) -> Vec<u8> {
        let len = packet.len() as u32;
        let mut wire = match self.framing {
            Framing::Abridged if len / 4 < 0x7f => vec![(len / 4) as u8],
            Framing::Abridged => ((len / 4) << 8 | 0x7f).to_le_bytes().to_vec(),
            Framing::Full | Framing::Intermediate | Framing::Padded => len.to_le_bytes().to_vec(),
        };
        wire.extend_from_slice(packet);
        wire
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back_and_forth(framing: Framing, len: usize) -> Vec<u8> {
        let packet: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let wire = Encoder::new(framing, None).encode(&Outbound::Packet(packet));
        let mut decoder = Decoder::new(framing, None, BytesMut::new());
        // Byte by byte: no packet may appear early.
        for byte in &wire[..wire.len() - 1] {
            decoder.feed(&mut BytesMut::from(&[*byte][..]));
            assert_eq!(decoder.next(), Ok(None));
        }
        decoder.feed(&mut BytesMut::from(&wire[wire.len() - 1..]));
        decoder.next().expect("a packet").expect("whole")
    }

    #[test]
    fn packets_come_back_in_every_framing() {
        for framing in [Framing::Full, Framing::Abridged, Framing::Intermediate, Framing::Padded] {
            for len in [8, 504, 508, 4096] {
                let back = back_and_forth(framing, len);
                assert_eq!(back[..len], (0..len).map(|i| i as u8).collect::<Vec<u8>>()[..]);
                assert!(back.len() < len + 4);
            }
        }
    }

    #[test]
    fn a_packet_longer_than_the_bound_is_refused_at_its_head() {
        for (framing, head) in [
            (Framing::Full, vec![0xff, 0xff, 0xff, 0x7f]),
            (Framing::Abridged, vec![0x7f, 0xff, 0xff, 0xff]),
            (Framing::Intermediate, vec![0xff, 0xff, 0xff, 0x7f]),
        ] {
            let mut decoder = Decoder::new(framing, None, BytesMut::from(&head[..]));
            assert!(matches!(decoder.next(), Err(FrameError::Length(_))), "{framing:?}");
        }
    }

    #[test]
    fn a_wrong_checksum_or_counter_is_refused() {
        let mut wire = Encoder::new(Framing::Full, None).encode(&Outbound::Packet(vec![1; 8]));
        wire[9] ^= 1;
        let mut decoder = Decoder::new(Framing::Full, None, BytesMut::from(&wire[..]));
        assert_eq!(decoder.next(), Err(FrameError::Checksum));
    }

    #[test]
    fn transport_errors_are_four_bytes() {
        let code = Outbound::Code(-404);
        assert_eq!(Encoder::new(Framing::Full, None).encode(&code), (-404_i32).to_le_bytes());
        assert_eq!(Encoder::new(Framing::Abridged, None).encode(&code)[0], 1);
        assert_eq!(Encoder::new(Framing::Padded, None).encode(&code).len(), 8);
    }
}
