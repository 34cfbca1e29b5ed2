//! Unpacking `gzip_packed`, with a bound on what comes out.

use std::io::{self, Read};

use flate2::read::{GzDecoder, ZlibDecoder};

use crate::tl::Malformed;
use crate::transport::PACKET_BYTES_MAX;

/// How a gzip stream starts. Some clients send a zlib stream in its place, which Telegram reads as well.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The content of a packed object that holds at most as much as a packet may.
pub(crate) fn inflate(packed: &[u8]) -> Result<Vec<u8>, Malformed> {
    let clear = if packed.starts_with(&GZIP) {
        bounded(GzDecoder::new(packed))
    } else {
        bounded(ZlibDecoder::new(packed))
    };
    clear.ok().filter(|clear| clear.len() <= PACKET_BYTES_MAX).ok_or(Malformed)
}

fn bounded(packed: impl Read) -> io::Result<Vec<u8>> {
    let mut clear = Vec::new();
    packed.take(PACKET_BYTES_MAX as u64 + 1).read_to_end(&mut clear)?;
    Ok(clear)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    #[test]
    fn content_comes_back_and_a_bomb_is_refused() {
        assert_eq!(inflate(&gzip(b"hello")), Ok(b"hello".to_vec()));
        assert_eq!(inflate(&gzip(&vec![0; 64 << 20])), Err(Malformed));
        assert_eq!(inflate(b"not packed"), Err(Malformed));
        assert_eq!(inflate(&[]), Err(Malformed));
    }

    #[test]
    fn a_zlib_stream_is_read_as_well() {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"hello").expect("memory");
        assert_eq!(inflate(&encoder.finish().expect("memory")), Ok(b"hello".to_vec()));
    }
}
