//! The cryptography of MTProto 2.0 as a server sees it. Pure: no sockets, no state, no clock.

pub(crate) mod auth_key;
pub(crate) mod bind;
pub(crate) mod envelope;
pub(crate) mod exchange;
pub(crate) mod group;
pub(crate) mod prime;
pub(crate) mod rsa_key;
pub(crate) mod srp;

use sha1::Digest;

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes
}

pub(crate) fn random_i64() -> i64 {
    i64::from_le_bytes(random())
}

pub(crate) fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    let mut hash = sha1::Sha1::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = sha2::Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// Left-pads a big-endian number to 256 bytes; a longer one is cut, which no caller lets happen.
pub(crate) fn pad_256(bytes: &[u8]) -> [u8; 256] {
    let mut out = [0; 256];
    let len = bytes.len().min(256);
    out[256 - len..].copy_from_slice(&bytes[bytes.len() - len..]);
    out
}
