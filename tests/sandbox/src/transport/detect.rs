//! Recognising a transport by its first bytes.

use bytes::{Buf, BytesMut};
use grammers_crypto::ObfuscatedCipher;

use super::frame::{Decoder, Encoder};
use super::{FrameError, Framing, PACKET_BYTES_MAX, Transport};

const ABRIDGED: u8 = 0xef;
const INTERMEDIATE: [u8; 4] = [0xee; 4];
const PADDED: [u8; 4] = [0xdd; 4];
/// Length of the random head of an obfuscated connection.
const OBFUSCATED_HEAD: usize = 64;

/// A recognised transport and its two halves.
#[derive(Debug)]
pub(crate) struct Detected {
    pub(crate) transport: Transport,
    pub(crate) decoder: Decoder,
    pub(crate) encoder: Encoder,
}

/// Looks at what a connection sent so far; `None` asks for more bytes. Takes the transport's own head off `buf`.
pub(crate) fn detect(buf: &mut BytesMut) -> Result<Option<Detected>, FrameError> {
    if buf.first() == Some(&ABRIDGED) {
        buf.advance(1);
        return Ok(Some(plain(Framing::Abridged)));
    }
    let Some(head) = buf.first_chunk::<4>() else { return Ok(None) };
    if *head == INTERMEDIATE || *head == PADDED {
        let framing = if *head == PADDED { Framing::Padded } else { Framing::Intermediate };
        buf.advance(4);
        return Ok(Some(plain(framing)));
    }
    let Some(head) = buf.first_chunk::<8>() else { return Ok(None) };
    // A full packet starts with its length and the counter 0; an obfuscated head never has four zeros there.
    let (length, counter) = (u32::from_le_bytes([head[0], head[1], head[2], head[3]]), &head[4..]);
    if counter == [0; 4] {
        return if (12..=PACKET_BYTES_MAX as u32).contains(&length) {
            Ok(Some(plain(Framing::Full)))
        } else {
            Err(FrameError::UnknownTransport)
        };
    }
    let Some(head) = buf.first_chunk::<OBFUSCATED_HEAD>().copied() else { return Ok(None) };
    buf.advance(OBFUSCATED_HEAD);
    obfuscated(&head).map(Some)
}

fn plain(framing: Framing) -> Detected {
    let transport = Transport { framing, obfuscated: false };
    Detected {
        transport,
        decoder: Decoder::new(framing, None, BytesMut::new()),
        encoder: Encoder::new(framing, None),
    }
}

fn obfuscated(head: &[u8; OBFUSCATED_HEAD]) -> Result<Detected, FrameError> {
    // The cipher is the client's; its sending half is our receiving half. Each side of us gets a copy of its own.
    let mut incoming = ObfuscatedCipher::new(head);
    let outgoing = ObfuscatedCipher::new(head);
    let mut clear = *head;
    incoming.encrypt(&mut clear);
    let framing = match clear[56..60] {
        [ABRIDGED, ABRIDGED, ABRIDGED, ABRIDGED] => Framing::Abridged,
        [0xee, 0xee, 0xee, 0xee] => Framing::Intermediate,
        [0xdd, 0xdd, 0xdd, 0xdd] => Framing::Padded,
        _ => return Err(FrameError::UnknownTransport),
    };
    Ok(Detected {
        transport: Transport { framing, obfuscated: true },
        decoder: Decoder::new(framing, Some(incoming), BytesMut::new()),
        encoder: Encoder::new(framing, Some(outgoing)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random;

    fn name(bytes: &[u8]) -> Option<&'static str> {
        detect(&mut BytesMut::from(bytes)).expect("no error").map(|found| found.transport.name())
    }

    #[test]
    fn each_plain_transport_is_recognised_by_its_first_bytes() {
        assert_eq!(name(&[0xef]), Some("abridged"));
        assert_eq!(name(&[0xee; 4]), Some("intermediate"));
        assert_eq!(name(&[0xdd; 4]), Some("padded"));
        assert_eq!(name(&[52, 0, 0, 0, 0, 0, 0, 0]), Some("full"));
        assert_eq!(name(&[0xee; 3]), None);
        assert_eq!(name(&[52, 0, 0, 0, 0]), None);
    }

    #[test]
    fn an_obfuscated_head_tells_its_inner_transport() {
        let mut head = random::<64>();
        head[0] = 1;
        head[4] = 1;
        let mut sent = head;
        sent[56..60].copy_from_slice(&[0xdd; 4]);
        ObfuscatedCipher::new(&head).encrypt(&mut sent);
        let mut wire = head;
        wire[56..].copy_from_slice(&sent[56..]);
        assert_eq!(name(&wire), Some("obfuscated padded"));
    }

    #[test]
    fn noise_is_refused() {
        assert!(
            detect(&mut BytesMut::from(
                &b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a-browser/1.0\r\nAccept: */*\r\n\r\n"[..]
            ))
            .is_err()
        );
        assert!(detect(&mut BytesMut::from(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0][..])).is_err());
    }
}
