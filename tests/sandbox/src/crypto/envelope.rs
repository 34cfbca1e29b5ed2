//! MTProto 2.0 encryption of one packet, seen from the server.

use grammers_crypto::aes;

use super::auth_key::{AuthKey, KeyId};
use super::{random, sha256};
use crate::tl::{Malformed, Reader};

/// Offset into the key for what clients send.
const FROM_CLIENT: usize = 0;
/// Offset into the key for what the server sends.
const FROM_SERVER: usize = 8;
/// Padding that the protocol allows.
const PADDING: std::ops::RangeInclusive<usize> = 12..=1024;

/// A decrypted packet.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) salt: i64,
    pub(crate) session: i64,
    pub(crate) msg_id: i64,
    pub(crate) seqno: i32,
    pub(crate) body: Vec<u8>,
}

/// The number of the key that a packet says it is encrypted with; 0 stands for no encryption.
pub(crate) fn key_of(packet: &[u8]) -> Result<KeyId, Malformed> {
    Reader::new(packet).i64().map(KeyId)
}

pub(crate) fn open(key: &AuthKey, packet: &[u8]) -> Result<Opened, Malformed> {
    open_as(key, packet, FROM_CLIENT)
}

pub(crate) fn seal(key: &AuthKey, salt: i64, session: i64, msg_id: i64, seqno: i32, body: &[u8]) -> Vec<u8> {
    seal_as(key, [salt, session, msg_id], seqno, body, FROM_SERVER)
}

fn open_as(key: &AuthKey, packet: &[u8], x: usize) -> Result<Opened, Malformed> {
    let mut r = Reader::new(packet);
    if KeyId(r.i64()?) != key.id() {
        return Err(Malformed);
    }
    let msg_key: [u8; 16] = r.fixed()?;
    // The padded transport may have left up to 15 bytes behind the last block.
    let mut plain = r.take(r.rest().len() & !15)?.to_vec();
    if plain.len() < 32 {
        return Err(Malformed);
    }
    let (aes_key, iv) = derive(key, &msg_key, x);
    aes::ige_decrypt(&mut plain, &aes_key, &iv);
    if message_key(key, &plain, x) != msg_key {
        return Err(Malformed);
    }
    let mut r = Reader::new(&plain);
    let (salt, session, msg_id, seqno, len) = (r.i64()?, r.i64()?, r.i64()?, r.i32()?, r.u32()? as usize);
    let body = r.take(len)?.to_vec();
    if !PADDING.contains(&r.rest().len()) || len % 4 != 0 {
        return Err(Malformed);
    }
    Ok(Opened { salt, session, msg_id, seqno, body })
}

fn seal_as(key: &AuthKey, head: [i64; 3], seqno: i32, body: &[u8], x: usize) -> Vec<u8> {
    let mut plain = Vec::with_capacity(body.len() + 64);
    head.iter().for_each(|word| plain.extend_from_slice(&word.to_le_bytes()));
    plain.extend_from_slice(&seqno.to_le_bytes());
    plain.extend_from_slice(&(body.len() as u32).to_le_bytes());
    plain.extend_from_slice(body);
    let padding = 12 + (16 - (plain.len() + 12) % 16) % 16;
    plain.extend_from_slice(&random::<32>()[..padding]);
    let msg_key = message_key(key, &plain, x);
    let (aes_key, iv) = derive(key, &msg_key, x);
    aes::ige_encrypt(&mut plain, &aes_key, &iv);
    let mut packet = Vec::with_capacity(plain.len() + 24);
    packet.extend_from_slice(&key.id().0.to_le_bytes());
    packet.extend_from_slice(&msg_key);
    packet.extend_from_slice(&plain);
    packet
}

fn message_key(key: &AuthKey, plain: &[u8], x: usize) -> [u8; 16] {
    let large = sha256(&[&key.expose()[88 + x..120 + x], plain]);
    let mut out = [0; 16];
    out.copy_from_slice(&large[8..24]);
    out
}

fn derive(key: &AuthKey, msg_key: &[u8; 16], x: usize) -> ([u8; 32], [u8; 32]) {
    let k = key.expose();
    let a = sha256(&[msg_key, &k[x..x + 36]]);
    let b = sha256(&[&k[40 + x..76 + x], msg_key]);
    let mix = |p: &[u8; 32], q: &[u8; 32]| {
        let mut out = *p;
        out[8..24].copy_from_slice(&q[8..24]);
        out
    };
    (mix(&a, &b), mix(&b, &a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_library_reads_what_the_server_seals() {
        let key = AuthKey::generate();
        let theirs = grammers_crypto::AuthKey::from_bytes(*key.expose());
        let mut packet = seal(&key, 1, 2, 3, 5, b"12345678");
        let plain = grammers_crypto::decrypt_data_v2(&mut packet, &theirs).expect("it opens");
        assert_eq!(&plain[32..40], b"12345678");
    }

    #[test]
    fn server_opens_what_the_client_library_seals() {
        let key = AuthKey::generate();
        let theirs = grammers_crypto::AuthKey::from_bytes(*key.expose());
        let mut buffer = grammers_crypto::DequeBuffer::with_capacity(64, 24);
        let mut plain = Vec::new();
        [11_i64, 22, 33].iter().for_each(|v| plain.extend(v.to_le_bytes()));
        plain.extend(7_i32.to_le_bytes());
        plain.extend(4_u32.to_le_bytes());
        plain.extend(b"body");
        buffer.extend(plain);
        grammers_crypto::encrypt_data_v2(&mut buffer, &theirs);
        let opened = open(&key, &buffer[..]).expect("it opens");
        assert_eq!((opened.salt, opened.session, opened.msg_id, opened.seqno), (11, 22, 33, 7));
        assert_eq!(opened.body, b"body");
    }

    #[test]
    fn a_changed_byte_is_refused() {
        let key = AuthKey::generate();
        let good = seal_as(&key, [1, 2, 3], 1, b"abcd", FROM_CLIENT);
        assert!(open(&key, &good).is_ok());
        for at in [8, 24, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(open(&key, &bad).is_err());
        }
        assert!(open(&key, &good[..20]).is_err());
    }

    #[test]
    fn transport_padding_behind_the_last_block_is_ignored() {
        let key = AuthKey::generate();
        let mut packet = seal_as(&key, [1, 2, 3], 1, b"abcd", FROM_CLIENT);
        packet.extend([9; 7]);
        assert!(open(&key, &packet).is_ok());
    }
}
