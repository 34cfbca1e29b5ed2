//! The server's half of the creation of an authorization key, as a state machine over plain messages.
//!
//! CPU work (RSA and Diffie-Hellman): call it on a blocking thread.

use grammers_crypto::{aes, generate_key_data_from_nonce};
use num_bigint::BigUint;

use super::auth_key::AuthKey;
use super::group::{self, PRIME};
use super::rsa_key::RsaKey;
use super::{pad_256, prime, random, sha1, sha256};
use crate::tl::{Malformed, Reader, Writer, id};

/// How often a client may be told to try again with another secret.
const RETRIES_MAX: u8 = 3;

/// What the server answers when it wants no more of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Transport code -404: nonsense, or a key that is not known here.
    Unknown,
    /// Transport code -444: the client thinks that it talks to another DC.
    WrongDc,
}

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Self {
        Self::Unknown
    }
}

/// Where an exchange stands.
#[derive(Debug)]
pub(crate) enum Exchange {
    Challenged(Challenged),
    Agreeing(Box<Agreeing>),
}

#[derive(Debug)]
pub(crate) struct Challenged {
    nonce: [u8; 16],
    server_nonce: [u8; 16],
    p: u32,
    q: u32,
}

pub(crate) struct Agreeing {
    nonce: [u8; 16],
    server_nonce: [u8; 16],
    new_nonce: [u8; 32],
    aes_key: [u8; 32],
    iv: [u8; 32],
    a: BigUint,
    expires_in: Option<i32>,
    retries: u8,
}

impl std::fmt::Debug for Agreeing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Agreeing(..)")
    }
}

/// The outcome of one message of an exchange.
#[derive(Debug)]
pub(crate) enum Step {
    /// Answer and go on.
    Next { answer: Vec<u8>, exchange: Exchange },
    /// Answer and forget the exchange.
    End { answer: Vec<u8> },
    /// A key was agreed on. `commit` it if it is new here, else `retry`.
    Agreed(Box<Agreed>),
}

/// A key that both sides computed and the server has yet to accept.
#[derive(Debug)]
pub(crate) struct Agreed {
    pub(crate) key: AuthKey,
    pub(crate) first_salt: i64,
    /// Seconds that a temporary key lives; none for a permanent one.
    pub(crate) expires_in: Option<i32>,
    state: Agreeing,
}

impl Agreed {
    pub(crate) fn commit(&self) -> Vec<u8> {
        self.state.verdict(id::DH_GEN_OK, &self.key, 1)
    }

    /// The answer when a key of that number exists already.
    pub(crate) fn retry(self) -> Step {
        let mut state = self.state;
        state.retries += 1;
        if state.retries > RETRIES_MAX {
            return Step::End { answer: state.verdict(id::DH_GEN_FAIL, &self.key, 3) };
        }
        let answer = state.verdict(id::DH_GEN_RETRY, &self.key, 2);
        Step::Next { answer, exchange: Exchange::Agreeing(Box::new(state)) }
    }
}

/// What the server knows about itself during an exchange.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server<'a> {
    pub(crate) rsa: &'a RsaKey,
    pub(crate) dc: i32,
    /// Seconds since the epoch.
    pub(crate) now: i32,
}

/// The name of a plain message, for the log of calls.
pub(crate) fn name_of(body: &[u8]) -> &'static str {
    match Reader::new(body).u32() {
        Ok(id::REQ_PQ) => "req_pq",
        Ok(id::REQ_PQ_MULTI) => "req_pq_multi",
        Ok(id::REQ_DH_PARAMS) => "req_DH_params",
        Ok(id::SET_CLIENT_DH_PARAMS) => "set_client_DH_params",
        _ => "unknown",
    }
}

/// Takes the next plain message of a client.
pub(crate) fn advance(server: Server<'_>, state: Option<Exchange>, body: &[u8]) -> Result<Step, Refusal> {
    let mut r = Reader::new(body);
    match (r.u32()?, state) {
        (id::REQ_PQ | id::REQ_PQ_MULTI, _) => Ok(challenge(server.rsa, r.fixed()?)),
        (id::REQ_DH_PARAMS, Some(Exchange::Challenged(state))) => offer(server, &state, r),
        (id::SET_CLIENT_DH_PARAMS, Some(Exchange::Agreeing(state))) => agree(*state, r),
        _ => Err(Refusal::Unknown),
    }
}

fn challenge(rsa: &RsaKey, nonce: [u8; 16]) -> Step {
    let server_nonce = random();
    let (p, q) = prime::small_pair();
    let answer = Writer::boxed(id::RES_PQ)
        .raw(&nonce)
        .raw(&server_nonce)
        .bytes(&(u64::from(p) * u64::from(q)).to_be_bytes())
        .longs(&[rsa.fingerprint()])
        .finish();
    Step::Next { answer, exchange: Exchange::Challenged(Challenged { nonce, server_nonce, p, q }) }
}

/// The decrypted content of `req_DH_params`.
#[derive(Debug, PartialEq, Eq)]
struct Inner {
    new_nonce: [u8; 32],
    dc: Option<i32>,
    expires_in: Option<i32>,
}

fn offer(server: Server<'_>, state: &Challenged, mut r: Reader<'_>) -> Result<Step, Refusal> {
    check_nonces(&mut r, &state.nonce, &state.server_nonce)?;
    let (p, q, fingerprint, encrypted) = (r.bytes()?, r.bytes()?, r.i64()?, r.bytes()?);
    if fingerprint != server.rsa.fingerprint() || p != state.p.to_be_bytes() || q != state.q.to_be_bytes() {
        return Err(Refusal::Unknown);
    }
    let plain = server.rsa.decrypt(encrypted).ok_or(Refusal::Unknown)?;
    let inner = unpad(&plain, |data| parse_inner(state, data)).ok_or(Refusal::Unknown)?;
    // Test DCs count from 10000 and media DCs are negative.
    if inner.dc.is_some_and(|dc| dc.unsigned_abs() % 10_000 != server.dc.unsigned_abs()) {
        return Err(Refusal::WrongDc);
    }
    if inner.expires_in.is_some_and(|seconds| seconds <= 0) {
        let hash = sha1(&[&inner.new_nonce]);
        let answer = Writer::boxed(id::SERVER_DH_PARAMS_FAIL)
            .raw(&state.nonce)
            .raw(&state.server_nonce)
            .raw(&hash[4..])
            .finish();
        return Ok(Step::End { answer });
    }
    Ok(offer_group(server.now, state, &inner))
}

fn offer_group(now: i32, state: &Challenged, inner: &Inner) -> Step {
    let (a, g_a) = loop {
        let a = group::exponent();
        let g_a = group::generator().modpow(&a, &group::prime());
        if group::in_safe_range(&g_a) {
            break (a, g_a);
        }
    };
    let data = Writer::boxed(id::SERVER_DH_INNER_DATA)
        .raw(&state.nonce)
        .raw(&state.server_nonce)
        .u32(group::GENERATOR)
        .bytes(&PRIME)
        .bytes(&pad_256(&g_a.to_bytes_be()))
        .i32(now)
        .finish();
    let mut block = Writer::new().raw(&sha1(&[&data])).raw(&data).finish();
    let padding = (16 - block.len() % 16) % 16;
    block.extend_from_slice(&random::<16>()[..padding]);
    let (aes_key, iv) = generate_key_data_from_nonce(&state.server_nonce, &inner.new_nonce);
    aes::ige_encrypt(&mut block, &aes_key, &iv);
    let answer = Writer::boxed(id::SERVER_DH_PARAMS_OK)
        .raw(&state.nonce)
        .raw(&state.server_nonce)
        .bytes(&block)
        .finish();
    let exchange = Exchange::Agreeing(Box::new(Agreeing {
        nonce: state.nonce,
        server_nonce: state.server_nonce,
        new_nonce: inner.new_nonce,
        aes_key,
        iv,
        a,
        expires_in: inner.expires_in,
        retries: 0,
    }));
    Step::Next { answer, exchange }
}

fn agree(state: Agreeing, mut r: Reader<'_>) -> Result<Step, Refusal> {
    check_nonces(&mut r, &state.nonce, &state.server_nonce)?;
    let mut block = r.bytes()?.to_vec();
    if block.len() < 32 || block.len() % 16 != 0 {
        return Err(Refusal::Unknown);
    }
    aes::ige_decrypt(&mut block, &state.aes_key, &state.iv);
    let data = &block[20..];
    let mut inner = Reader::new(data);
    if inner.u32()? != id::CLIENT_DH_INNER_DATA {
        return Err(Refusal::Unknown);
    }
    check_nonces(&mut inner, &state.nonce, &state.server_nonce)?;
    let _retry_id = inner.i64()?;
    let g_b = BigUint::from_bytes_be(inner.bytes()?);
    if sha1(&[&data[..inner.pos()]]) != block[..20] {
        return Err(Refusal::Unknown);
    }
    let shared = g_b.modpow(&state.a, &group::prime());
    let key = AuthKey::new(pad_256(&shared.to_bytes_be()));
    if !group::in_safe_range(&g_b) {
        return Ok(Step::End { answer: state.verdict(id::DH_GEN_FAIL, &key, 3) });
    }
    let mut salt = [0; 8];
    salt.iter_mut().zip(state.new_nonce).zip(state.server_nonce).for_each(|((s, a), b)| *s = a ^ b);
    let expires_in = state.expires_in;
    Ok(Step::Agreed(Box::new(Agreed { key, first_salt: i64::from_le_bytes(salt), expires_in, state })))
}

impl Agreeing {
    fn verdict(&self, constructor: u32, key: &AuthKey, outcome: u8) -> Vec<u8> {
        Writer::boxed(constructor)
            .raw(&self.nonce)
            .raw(&self.server_nonce)
            .raw(&key.nonce_hash(&self.new_nonce, outcome))
            .finish()
    }
}

fn check_nonces(r: &mut Reader<'_>, nonce: &[u8; 16], server_nonce: &[u8; 16]) -> Result<(), Refusal> {
    if &r.fixed::<16>()? == nonce && &r.fixed::<16>()? == server_nonce {
        Ok(())
    } else {
        Err(Refusal::Unknown)
    }
}

fn parse_inner(state: &Challenged, data: &[u8]) -> Result<(Inner, usize), Malformed> {
    let mut r = Reader::new(data);
    let constructor = r.u32()?;
    let product = (u64::from(state.p) * u64::from(state.q)).to_be_bytes();
    if r.bytes()? != product || r.bytes()? != state.p.to_be_bytes() || r.bytes()? != state.q.to_be_bytes() {
        return Err(Malformed);
    }
    if r.fixed::<16>()? != state.nonce || r.fixed::<16>()? != state.server_nonce {
        return Err(Malformed);
    }
    let new_nonce = r.fixed()?;
    let (dc, expires_in) = match constructor {
        id::P_Q_INNER_DATA => (None, None),
        id::P_Q_INNER_DATA_DC => (Some(r.i32()?), None),
        id::P_Q_INNER_DATA_TEMP => (None, Some(r.i32()?)),
        id::P_Q_INNER_DATA_TEMP_DC => (Some(r.i32()?), Some(r.i32()?)),
        _ => return Err(Malformed),
    };
    Ok((Inner { new_nonce, dc, expires_in }, r.pos()))
}

/// Takes off either padding: the present one (RSA_PAD) or the old one (SHA-1 in front of the data).
fn unpad(plain: &[u8; 256], parse: impl Fn(&[u8]) -> Result<(Inner, usize), Malformed>) -> Option<Inner> {
    if let Some(data) = unpad_present(plain)
        && let Ok((inner, _)) = parse(&data)
    {
        return Some(inner);
    }
    // 255 significant bytes: SHA-1, data, anything.
    let data = &plain[21..];
    let (inner, len) = parse(data).ok()?;
    (plain[0] == 0 && sha1(&[&data[..len]]) == plain[1..21]).then_some(inner)
}

fn unpad_present(plain: &[u8; 256]) -> Option<Vec<u8>> {
    let (masked, encrypted) = plain.split_at(32);
    let mut temp_key = sha256(&[encrypted]);
    temp_key.iter_mut().zip(masked).for_each(|(k, m)| *k ^= m);
    let mut block = encrypted.to_vec();
    aes::ige_decrypt(&mut block, &temp_key, &[0; 32]);
    let (reversed, hash) = block.split_at(192);
    let data: Vec<u8> = reversed.iter().rev().copied().collect();
    (sha256(&[&temp_key, &data]) == hash).then_some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(rsa: &RsaKey) -> (Exchange, [u8; 16]) {
        let nonce = random();
        let body = Writer::boxed(id::REQ_PQ_MULTI).raw(&nonce).finish();
        let step = advance(Server { rsa, dc: 2, now: 0 }, None, &body).expect("a challenge");
        let Step::Next { exchange, .. } = step else { panic!("no challenge") };
        (exchange, nonce)
    }

    #[test]
    fn steps_out_of_order_are_refused() {
        let rsa = RsaKey::generate();
        let server = Server { rsa: &rsa, dc: 2, now: 0 };
        let body = Writer::boxed(id::SET_CLIENT_DH_PARAMS).raw(&[0; 32]).bytes(&[0; 32]).finish();
        assert_eq!(advance(server, None, &body).err(), Some(Refusal::Unknown));
        let (exchange, _) = started(&rsa);
        assert_eq!(advance(server, Some(exchange), &body).err(), Some(Refusal::Unknown));
        assert_eq!(advance(server, None, &[1, 2]).err(), Some(Refusal::Unknown));
    }

    #[test]
    fn wrong_factors_are_refused() {
        let rsa = RsaKey::generate();
        let (exchange, nonce) = started(&rsa);
        let Exchange::Challenged(ref state) = exchange else { panic!("not challenged") };
        let body = Writer::boxed(id::REQ_DH_PARAMS)
            .raw(&nonce)
            .raw(&state.server_nonce)
            .bytes(&[0, 0, 0, 3])
            .bytes(&[0, 0, 0, 5])
            .i64(rsa.fingerprint())
            .bytes(&[1; 256])
            .finish();
        let server = Server { rsa: &rsa, dc: 2, now: 0 };
        assert_eq!(advance(server, Some(exchange), &body).err(), Some(Refusal::Unknown));
    }
}
