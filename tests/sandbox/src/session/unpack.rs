//! Unpacking `gzip_packed`, with a bound on what comes out.

use std::io::Read;

use flate2::read::GzDecoder;

use crate::tl::Malformed;
use crate::transport::PACKET_BYTES_MAX;

/// The content of a gzip member that holds at most as much as a packet may.
pub(crate) fn inflate(packed: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut clear = Vec::new();
    let bound = PACKET_BYTES_MAX as u64 + 1;
    GzDecoder::new(packed).take(bound).read_to_end(&mut clear).map_err(|_| Malformed)?;
    if clear.len() > PACKET_BYTES_MAX { Err(Malformed) } else { Ok(clear) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

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
        assert_eq!(inflate(b"not gzip"), Err(Malformed));
    }
}
