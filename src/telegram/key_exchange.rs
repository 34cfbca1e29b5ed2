//! The one place where a data centre gives us a key.
//!
//! For Telegram's own RSA keys the steps are grammers'; its table of keys is closed, so for configured keys
//! they are ours, over the same primitives. Intermediate secrets are wiped where their types allow it; the
//! big integers of the exchange do not.

use std::{net::SocketAddr, time::Instant};

use grammers_crypto::{AuthKey as ExchangedKey, aes, generate_key_data_from_nonce, rsa};
use grammers_mtproto::{authentication, mtp::Plain};
use grammers_tl_types::{
    Cursor, Deserializable as _, RemoteCall, Serializable as _, enums, functions, types,
};
use num_bigint::BigUint;
use sha1::{Digest as _, Sha1};
use zeroize::Zeroizing;

use crate::{
    domain::material::{AUTH_KEY_LENGTH, AuthKey},
    telegram::{
        connection::{unless_panicked, within},
        endpoint::ServerKeys,
        error::Error,
        factor::factor,
        group::Group,
        rsa_key::RsaKey,
        sender::Sender,
    },
};

const DOING: &str = "making a key";

/// A fresh key, bound to nobody, and the salt to begin with.
#[derive(Clone)]
pub(super) struct NewKey {
    pub(super) auth_key: AuthKey,
    pub(super) salt: i64,
}

/// Makes a key with the data centre at `address`, which must prove that it has one of `keys`.
///
/// # Errors
/// `TimedOut`, `Unavailable`, or `Untrusted` when a check fails.
pub(super) async fn make_key(
    address: SocketAddr,
    keys: &ServerKeys,
    deadline: Instant,
) -> Result<NewKey, Error> {
    let connect = Sender::connect(address, Plain::new());
    let sender = within(deadline, DOING, connect).await?.map_err(|error| Error::unavailable(DOING, error))?;
    let mut peer = Peer { sender, deadline };
    match keys {
        ServerKeys::Telegram { fingerprint } => with_telegram(&mut peer, *fingerprint).await,
        ServerKeys::Configured(keys) => with_configured(&mut peer, keys).await,
    }
}

/// Asks for the first step of an exchange and leaves it at that: whoever answers is there and speaks the protocol.
///
/// # Errors
/// `TimedOut`, `Unavailable`, `Untrusted` for an answer to something else.
pub(super) async fn greet(address: SocketAddr, deadline: Instant) -> Result<(), Error> {
    let connect = Sender::connect(address, Plain::new());
    let sender = within(deadline, DOING, connect).await?.map_err(|error| Error::unavailable(DOING, error))?;
    let nonce: [u8; 16] = random()?;
    let enums::ResPq::Pq(task) = Peer { sender, deadline }.ask(&functions::ReqPqMulti { nonce }).await?;
    ensure(task.nonce == nonce, "wrong nonce")
}

/// A server spoken to in the clear.
struct Peer {
    sender: Sender<Plain>,
    deadline: Instant,
}

impl Peer {
    async fn ask<R: RemoteCall>(&mut self, request: &R) -> Result<R::Return, Error> {
        within(self.deadline, DOING, unless_panicked(DOING, self.sender.invoke(request))).await??.map_err(
            |error| match Error::of_invocation(error, DOING) {
                // There is no key yet that could be unknown: the server is unwilling.
                Error::KeyUnknown => Error::Unavailable { doing: DOING, source: None },
                error => error,
            },
        )
    }
}

async fn with_telegram(peer: &mut Peer, fingerprint: i64) -> Result<NewKey, Error> {
    let failed = |_| Error::Untrusted { what: "the key exchange failed" };
    let (request, state) = authentication::step1().map_err(failed)?;
    let answer = peer.ask(&request).await?;
    let (request, state) = blocking(move || {
        // grammers would try for ever, or panic, on a number that is no product of two primes.
        let enums::ResPq::Pq(task) = &answer;
        split(&task.pq)?;
        authentication::step2(state, answer).map_err(failed)
    })
    .await?;
    ensure(request.public_key_fingerprint == fingerprint, "it has a key of another environment")?;
    let answer = peer.ask(&request).await?;
    let (request, state) = blocking(move || authentication::step3(state, answer).map_err(failed)).await?;
    let answer = peer.ask(&request).await?;
    let finished = authentication::create_key(state, answer).map_err(failed)?;
    let raw = Zeroizing::new(finished.auth_key);
    Ok(NewKey { auth_key: key_of(&*raw)?, salt: finished.first_salt })
}

async fn with_configured(peer: &mut Peer, keys: &[RsaKey]) -> Result<NewKey, Error> {
    let nonce: [u8; 16] = random()?;
    let enums::ResPq::Pq(task) = peer.ask(&functions::ReqPqMulti { nonce }).await?;
    ensure(task.nonce == nonce, "wrong nonce")?;
    let nonces = Nonces { nonce, server_nonce: task.server_nonce, new_nonce: Zeroizing::new(random()?) };
    let key = keys
        .iter()
        .find(|key| task.server_public_key_fingerprints.contains(&key.fingerprint()))
        .ok_or(Error::Untrusted { what: "it has none of the configured rsa keys" })?
        .clone();

    let (request, nonces) = blocking(move || Ok((prove(&nonces, task.pq, &key)?, nonces))).await?;
    let answer = peer.ask(&request).await?;
    let enums::ServerDhParams::Ok(offer) = answer else {
        return Err(Error::Unavailable { doing: DOING, source: None });
    };
    let (request, agreed) = blocking(move || agree(nonces, offer)).await?;
    let answer = peer.ask(&request).await?;
    // The other two answers ask for a new exchange or report a failure: worth another try from the start.
    let enums::SetClientDhParamsAnswer::DhGenOk(done) = answer else {
        return Err(Error::Unavailable { doing: DOING, source: None });
    };
    agreed.confirm(&done)
}

struct Nonces {
    nonce: [u8; 16],
    server_nonce: [u8; 16],
    new_nonce: Zeroizing<[u8; 32]>,
}

/// The solved task and our secret nonce, readable only by the owner of the RSA key.
fn prove(nonces: &Nonces, pq: Vec<u8>, key: &RsaKey) -> Result<functions::ReqDhParams, Error> {
    let (p, q) = split(&pq)?;
    let inner = enums::PQInnerData::Data(types::PQInnerData {
        pq,
        p: p.clone(),
        q: q.clone(),
        nonce: nonces.nonce,
        server_nonce: nonces.server_nonce,
        new_nonce: *nonces.new_nonce,
    });
    let inner = Zeroizing::new(inner.to_bytes());
    let rsa_key = key.to_grammers().ok_or(Error::Untrusted { what: "the rsa key is unusable" })?;
    let padding: Zeroizing<[u8; 224]> = Zeroizing::new(random()?);
    Ok(functions::ReqDhParams {
        nonce: nonces.nonce,
        server_nonce: nonces.server_nonce,
        p,
        q,
        public_key_fingerprint: key.fingerprint(),
        encrypted_data: rsa::encrypt_hashed(&inner, &rsa_key, &padding),
    })
}

/// Both factors in as few bytes as they need, as the server wants them.
fn split(pq: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let refused = Error::Untrusted { what: "its task has no solution" };
    let Ok(pq) = <[u8; 8]>::try_from(pq) else { return Err(refused) };
    let Some((p, q)) = factor(u64::from_be_bytes(pq)) else { return Err(refused) };
    let short = |n: u64| n.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    Ok((short(p), short(q)))
}

/// What both sides hold once the server took our half.
struct Agreed {
    nonces: Nonces,
    shared: Zeroizing<[u8; AUTH_KEY_LENGTH]>,
}

/// Checks the server's half of the exchange and answers with ours.
fn agree(
    nonces: Nonces,
    offer: types::ServerDhParamsOk,
) -> Result<(functions::SetClientDhParams, Agreed), Error> {
    ensure(offer.nonce == nonces.nonce && offer.server_nonce == nonces.server_nonce, "wrong nonce")?;
    let (key, iv) = generate_key_data_from_nonce(&nonces.server_nonce, &nonces.new_nonce);
    let (key, iv) = (Zeroizing::new(key), Zeroizing::new(iv));
    let half = open_offer(&nonces, offer.encrypted_answer, &key, &iv)?;

    let group = Group::checked(&half.dh_prime, half.g)
        .ok_or(Error::Untrusted { what: "it chose an unsafe group" })?;
    let theirs = BigUint::from_bytes_be(&half.g_a);
    let secret: Zeroizing<[u8; AUTH_KEY_LENGTH]> = Zeroizing::new(random()?);
    let secret = BigUint::from_bytes_be(&*secret);
    let ours = group.generator.modpow(&secret, &group.prime);
    ensure(group.admits(&theirs) && group.admits(&ours), "a public value is out of range")?;
    let bytes = Zeroizing::new(theirs.modpow(&secret, &group.prime).to_bytes_be());
    let mut shared = Zeroizing::new([0; AUTH_KEY_LENGTH]);
    shared[AUTH_KEY_LENGTH - bytes.len()..].copy_from_slice(&bytes);

    let inner = enums::ClientDhInnerData::Data(types::ClientDhInnerData {
        nonce: nonces.nonce,
        server_nonce: nonces.server_nonce,
        retry_id: 0,
        g_b: ours.to_bytes_be(),
    })
    .to_bytes();
    let mut block = Sha1::digest(&inner).to_vec();
    block.extend(&inner);
    let padding: [u8; 16] = random()?;
    block.extend(&padding[..block.len().next_multiple_of(16) - block.len()]);
    aes::ige_encrypt(&mut block, &key, &iv);
    let request = functions::SetClientDhParams {
        nonce: nonces.nonce,
        server_nonce: nonces.server_nonce,
        encrypted_data: block,
    };
    Ok((request, Agreed { nonces, shared }))
}

/// Decrypts the server's half and checks that it is whole and meant for us.
fn open_offer(
    nonces: &Nonces,
    mut block: Vec<u8>,
    key: &[u8; 32],
    iv: &[u8; 32],
) -> Result<types::ServerDhInnerData, Error> {
    const HASH: usize = 20;
    ensure(block.len() > HASH && block.len().is_multiple_of(16), "a block of the wrong length")?;
    aes::ige_decrypt(&mut block, key, iv);
    let (hash, plain) = block.split_at(HASH);
    let mut cursor = Cursor::from_slice(plain);
    let enums::ServerDhInnerData::Data(half) = enums::ServerDhInnerData::deserialize(&mut cursor)
        .map_err(|_| Error::Untrusted { what: "its half of the exchange is unreadable" })?;
    ensure(Sha1::digest(&plain[..cursor.pos()])[..] == *hash, "its half of the exchange is damaged")?;
    ensure(half.nonce == nonces.nonce && half.server_nonce == nonces.server_nonce, "wrong nonce")?;
    Ok(half)
}

impl Agreed {
    /// The server shows that it computed the same key.
    fn confirm(self, done: &types::DhGenOk) -> Result<NewKey, Error> {
        let Self { nonces, shared } = self;
        ensure(done.nonce == nonces.nonce && done.server_nonce == nonces.server_nonce, "wrong nonce")?;
        let expected = ExchangedKey::from_bytes(*shared).calc_new_nonce_hash(&nonces.new_nonce, 1);
        ensure(done.new_nonce_hash1 == expected, "it computed another key")?;
        let mut salt = [0; 8];
        for (at, byte) in salt.iter_mut().enumerate() {
            *byte = nonces.new_nonce[at] ^ nonces.server_nonce[at];
        }
        Ok(NewKey { auth_key: key_of(&*shared)?, salt: i64::from_le_bytes(salt) })
    }
}

fn key_of(bytes: &[u8]) -> Result<AuthKey, Error> {
    AuthKey::from_slice(bytes).map_err(|_| Error::Untrusted { what: "the key is empty" })
}

fn ensure(holds: bool, what: &'static str) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Untrusted { what }) }
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Error::unavailable("drawing random bytes", error))?;
    Ok(bytes)
}

/// The arithmetic takes tens of milliseconds, too long between two awaits.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(Error::Untrusted { what: "the key exchange failed" }))
}

#[cfg(test)]
mod tests {
    use usm_sandbox::{Config, Sandbox};

    use super::*;

    /// Up to the step where it must prove to be Telegram, which no other server can.
    #[tokio::test]
    async fn telegrams_exchange_trusts_nobody_but_telegram() {
        let sandbox = Sandbox::start(Config::default()).await.unwrap();
        let keys = ServerKeys::Telegram { fingerprint: 1 };
        let deadline = Instant::now() + std::time::Duration::from_secs(10);
        let made = make_key(sandbox.dcs()[&2], &keys, deadline).await;
        assert!(matches!(made, Err(Error::Untrusted { .. })));
    }
}
