//! One file of a tdata folder: `TDF$`, a version, a payload, and the MD5 of all of it.

use md5::{Digest as _, Md5};

use super::stream::Stream;
use crate::formats::Error;

const MAGIC: &[u8] = b"TDF$";
const HEADER_LENGTH: usize = MAGIC.len() + 4;
const DIGEST_LENGTH: usize = 16;

/// The version that is written: old enough for every program that reads these files to accept it, and new enough to
/// have all that is written. TDesktop 3.4 is the first that many of them stamp.
const VERSION: [u8; 4] = 3_004_000_i32.to_le_bytes();

/// The payload of a file.
///
/// # Errors
/// `TdataFileEmpty`, `TdataMagic`, `TdataTruncated`, `TdataChecksum`.
pub(super) fn open(file: &[u8]) -> Result<&[u8], Error> {
    if file.is_empty() {
        return Err(Error::TdataFileEmpty);
    }
    if !file.starts_with(&MAGIC[..file.len().min(MAGIC.len())]) {
        return Err(Error::TdataMagic);
    }
    if file.len() < HEADER_LENGTH + DIGEST_LENGTH {
        return Err(Error::TdataTruncated);
    }
    let (header, rest) = file.split_at(HEADER_LENGTH);
    let (payload, digest) = rest.split_at(rest.len() - DIGEST_LENGTH);
    let version = &header[MAGIC.len()..];
    match hash(payload, version) {
        Some(sound) if sound[..] == *digest => Ok(payload),
        _ if is_cut(rest) => Err(Error::TdataTruncated),
        _ => Err(Error::TdataChecksum),
    }
}

/// Wraps a payload. It is sealed already, so nothing here is secret.
pub(super) fn wrap(payload: &[u8]) -> Vec<u8> {
    let digest = hash(payload, &VERSION).expect("what is written is short");
    [MAGIC, &VERSION, payload, &digest].concat()
}

fn hash(payload: &[u8], version: &[u8]) -> Option<[u8; DIGEST_LENGTH]> {
    let length = u32::try_from(payload.len()).ok()?;
    let mut hash = Md5::new();
    for part in [payload, &length.to_le_bytes(), version, MAGIC] {
        hash.update(part);
    }
    Some(hash.finalize().into())
}

/// Whether the arrays that a payload consists of go on behind the end of the file.
fn is_cut(rest: &[u8]) -> bool {
    let mut stream = Stream::of(rest);
    let mut read = 0;
    while read + DIGEST_LENGTH < rest.len() {
        match stream.blob() {
            Ok(blob) => read += 4 + blob.len(),
            Err(_) => return true,
        }
    }
    // None is written without any array.
    read == 0 || read + DIGEST_LENGTH > rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut payload = Vec::new();
        super::super::stream::put_blob(&mut payload, &[9; 40]);
        super::super::stream::put_blob(&mut payload, &[8; 64]);
        wrap(&payload)
    }

    #[test]
    fn each_damage_has_its_name() {
        let good = sample();
        assert_eq!(open(&good).map(<[u8]>::len), Ok(4 + 40 + 4 + 64));
        assert_eq!(open(&[]), Err(Error::TdataFileEmpty));
        assert_eq!(open(b"PNG and so on, and longer than a header"), Err(Error::TdataMagic));
        assert_eq!(open(b"TD"), Err(Error::TdataTruncated));
        for length in 4..good.len() {
            // Cut so that the first array and room for a checksum are left, it could be either.
            let is_either = length == HEADER_LENGTH + 4 + 40 + DIGEST_LENGTH;
            let named = if is_either { Error::TdataChecksum } else { Error::TdataTruncated };
            assert_eq!(open(&good[..length]), Err(named), "{length}");
        }
        for at in [4, 20, good.len() - 1] {
            let mut broken = good.clone();
            broken[at] ^= 1;
            assert_eq!(open(&broken), Err(Error::TdataChecksum), "{at}");
        }
    }
}
