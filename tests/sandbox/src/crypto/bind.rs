//! The inner message of `auth.bindTempAuthKey`: encrypted with the permanent key in the manner of MTProto 1.0.

use grammers_crypto::aes;

use super::auth_key::AuthKey;
use super::sha1;
use crate::tl::{Malformed, Reader, id};

/// What the owner of both keys says about them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Binding {
    pub(crate) msg_id: i64,
    pub(crate) nonce: i64,
    pub(crate) temp_key: i64,
    pub(crate) perm_key: i64,
    pub(crate) temp_session: i64,
    pub(crate) expires_at: i32,
}

pub(crate) fn open(perm: &AuthKey, encrypted: &[u8]) -> Result<Binding, Malformed> {
    let mut r = Reader::new(encrypted);
    if r.i64()? != perm.id().0 {
        return Err(Malformed);
    }
    let msg_key: [u8; 16] = r.fixed()?;
    let mut plain = r.rest().to_vec();
    if plain.is_empty() || !plain.len().is_multiple_of(16) {
        return Err(Malformed);
    }
    let (aes_key, iv) = derive(perm, &msg_key);
    aes::ige_decrypt(&mut plain, &aes_key, &iv);
    let mut r = Reader::new(&plain);
    r.take(16)?;
    let (msg_id, _seqno, len) = (r.i64()?, r.i32()?, r.u32()? as usize);
    r.clone().take(len)?;
    let end = r.pos() + len;
    if sha1(&[&plain[..end]])[4..] != msg_key {
        return Err(Malformed);
    }
    if r.u32()? != id::BIND_AUTH_KEY_INNER {
        return Err(Malformed);
    }
    Ok(Binding {
        msg_id,
        nonce: r.i64()?,
        temp_key: r.i64()?,
        perm_key: r.i64()?,
        temp_session: r.i64()?,
        expires_at: r.i32()?,
    })
}

fn derive(key: &AuthKey, msg_key: &[u8; 16]) -> ([u8; 32], [u8; 32]) {
    let k = key.expose();
    let a = sha1(&[msg_key, &k[..32]]);
    let b = sha1(&[&k[32..48], msg_key, &k[48..64]]);
    let c = sha1(&[&k[64..96], msg_key]);
    let d = sha1(&[msg_key, &k[96..128]]);
    let (mut aes_key, mut iv) = ([0; 32], [0; 32]);
    aes_key[..8].copy_from_slice(&a[..8]);
    aes_key[8..20].copy_from_slice(&b[8..20]);
    aes_key[20..].copy_from_slice(&c[4..16]);
    iv[..12].copy_from_slice(&a[8..20]);
    iv[12..20].copy_from_slice(&b[..8]);
    iv[20..24].copy_from_slice(&c[16..20]);
    iv[24..].copy_from_slice(&d[..8]);
    (aes_key, iv)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random;
    use crate::tl::Writer;

    fn sealed(key: &AuthKey) -> Vec<u8> {
        let inner =
            Writer::boxed(id::BIND_AUTH_KEY_INNER).i64(1).i64(2).i64(key.id().0).i64(4).i32(5).finish();
        let mut plain =
            Writer::new().raw(&random::<16>()).i64(99).i32(0).u32(inner.len() as u32).raw(&inner).finish();
        let mut msg_key = [0; 16];
        msg_key.copy_from_slice(&sha1(&[&plain])[4..]);
        plain.extend(vec![0; (16 - plain.len() % 16) % 16]);
        let (aes_key, iv) = derive(key, &msg_key);
        aes::ige_encrypt(&mut plain, &aes_key, &iv);
        Writer::new().i64(key.id().0).raw(&msg_key).raw(&plain).finish()
    }

    #[test]
    fn a_binding_opens_with_its_own_key_only() {
        let key = AuthKey::generate();
        let packet = sealed(&key);
        let binding = open(&key, &packet).expect("it opens");
        assert_eq!((binding.msg_id, binding.nonce, binding.temp_key), (99, 1, 2));
        assert_eq!((binding.perm_key, binding.temp_session, binding.expires_at), (key.id().0, 4, 5));
        assert!(open(&AuthKey::generate(), &packet).is_err());
        let mut bad = packet;
        bad[40] ^= 1;
        assert!(open(&key, &bad).is_err());
    }
}
